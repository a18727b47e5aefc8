"""The schemes that a plan compares, each measured on the sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ._code import Code
from ._errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers
from ._kernel import Known, Prior
from ._replays import Answer, Outcomes, Part, Trial, answers_to, prepared, replayed
from .codes import BerrutCode, KernelCode, Replication, SplineCode, Uncoded

__all__ = ["MOST_KNOWN", "Ground", "Measured", "measured", "standard"]

SPREADS = (0.0, 0.1, 0.2, 0.5, 1.0)
MOST_KNOWN = 256
"""Answers of the sample that a kernel code leans on, at most."""
_KNOWN_BYTES = 1 << 26
"""And bytes of their inputs."""
_LEAST_KNOWN = 3
_SCREENED = 15
"""Waves that choose how to decode the answers of a kernel code."""
_TOGETHER = 1 << 26
"""Bytes of payloads, of several schemes, that fn computes in one go."""
_UNRELATED = Prior(1e-100)
"""No answer tells anything of another input: what is lost gets the mean."""
_CALIBRATION = (0.2, 5.0)
"""Factors on standard errors that a small sample may call for."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What all schemes of one plan are tried on."""

    parts: tuple[Part, ...]
    """Of the sample."""
    others: tuple[Part, ...]
    """For each part what else is in the sample."""
    arrivals: np.ndarray
    """(waves, N): the workers in the order of their answers."""
    late: int
    """S."""
    unit: float
    """A typical size of the answers."""

    def waves(self, code: Code) -> tuple[np.ndarray, int]:
        """Arrivals at a code's workers, perhaps fewer, and how many of these are late."""
        workers = self.arrivals.shape[1]
        few = self.arrivals[self.arrivals < code.workers].reshape(-1, code.workers)
        return few, -(-self.late * code.workers // workers)

    @property
    def whole(self) -> Part:
        """The whole sample."""
        rest = self.others[0]
        return Part(
            np.concatenate([self.parts[0].rows, rest.rows]),
            np.concatenate([self.parts[0].answers, rest.answers]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A scheme and what became of it."""

    scheme: str
    code: Code
    outcomes: Outcomes | None
    """None if it was left out."""
    note: str = ""


def standard(tasks: int, workers: int, stragglers: int, *, mixes: bool) -> list[tuple[str, Code]]:
    """The usual schemes; only those that copy, if inputs cannot be mixed."""
    codes: list[tuple[str, Code]] = []
    if workers >= tasks:
        for spread in SPREADS if mixes and workers > tasks else SPREADS[:1]:
            name = f"kernel, spread {spread:g}" if spread else "copies, kernel fill"
            codes.append((name, KernelCode(tasks, workers, stragglers, spread)))
        codes.append(("copies, mean fill", Replication(tasks, workers, "mean")))
        codes.append(("uncoded, mean fill", Uncoded(tasks, "mean")))
    if mixes:
        codes.append(("spline (LeTCC)", SplineCode(tasks, workers, stragglers)))
        codes.append(("spline, ordered", SplineCode(tasks, workers, stragglers, order="path")))
        codes.append(("Berrut (BACC)", BerrutCode(tasks, workers, stragglers)))
    return codes


def measured(
    schemes: Iterable[tuple[str, Code]], fn: Answer, ground: Ground
) -> tuple[list[Measured], int]:
    """Every scheme tried on the sample, and how many rows ``fn`` computed for it."""
    found: list[Measured] = []
    waiting: list[tuple[str, Code, list[Trial]]] = []
    rows = size = 0
    for scheme, code in schemes:
        try:
            trials = [prepared(code, part) for part in ground.parts]
        except (InvalidArgument, InvalidAnswer, NotEnoughAnswers) as error:
            found.append(Measured(scheme, code, None, f"left out: {error}"))
            continue
        waiting.append((scheme, code, trials))
        payloads = [trial.payloads for trial in trials if trial.payloads is not None]
        rows += sum(map(len, payloads))
        size += sum(part.nbytes for part in payloads)
        if size > _TOGETHER:
            found += _answered(waiting, fn, ground)
            waiting, size = [], 0
    return [*found, *_answered(waiting, fn, ground)], rows


def _answered(
    waiting: Sequence[tuple[str, Code, list[Trial]]], fn: Answer, ground: Ground
) -> Iterator[Measured]:
    asked = [
        np.concatenate([trial.payloads for trial in trials if trial.payloads is not None])
        for _, _, trials in waiting
    ]
    mixing = [payloads for payloads in asked if len(payloads)]
    came = iter(answers_to(fn, mixing) if mixing else ())
    for (scheme, code, trials), payloads in zip(waiting, asked, strict=True):
        answers = next(came) if len(payloads) else payloads
        yield _outcome(scheme, code, trials, answers, ground)


def _outcome(
    scheme: str,
    code: Code,
    trials: Sequence[Trial],
    answers: np.ndarray | Exception,
    ground: Ground,
) -> Measured:
    if isinstance(answers, Exception):
        error = answers.__cause__ or answers  # on an engine the worker's own
        told = " ".join(f"{type(error).__name__}: {error}".split())
        return Measured(scheme, code, None, f"left out: for its mixtures fn raised {told}")
    try:
        if len(answers):
            half = len(trials[0].payloads) if trials[0].payloads is not None else 0
            parts = (answers[:half], answers[half:])
            trials = [trial.told(part) for trial, part in zip(trials, parts, strict=False)]
        if isinstance(code, KernelCode):
            return _kernel(scheme, code, trials, ground)
        outcomes = replayed(trials, *ground.waves(code), ground.unit)
    except (InvalidArgument, InvalidAnswer, NotEnoughAnswers) as error:
        return Measured(scheme, code, None, f"left out: {error}")
    if not np.isfinite(outcomes.rmse):
        return Measured(scheme, code, None, "left out: some of its estimates are not finite")
    return Measured(scheme, code, outcomes)


def _kernel(scheme: str, code: KernelCode, trials: Sequence[Trial], ground: Ground) -> Measured:
    """The best of a few ways to decode the same answers: which prior, and whether to lean on the sample."""
    arrivals, late = ground.waves(code)

    def error(choice: tuple[KernelCode, Sequence[Trial]]) -> float:
        return replayed(choice[1], arrivals[:_SCREENED], late, ground.unit).rmse

    choices = list(_decoders(code, trials, ground))
    ready, best = min(choices, key=error) if len(choices) > 1 else choices[0]
    outcomes = replayed(best, arrivals, late, ground.unit)
    factor = float(np.clip(outcomes.misfit or 1.0, *_CALIBRATION))
    ready = replace(ready, calibration=code.calibration * factor)
    note = f"leaning on {len(ready.known)} answers of the sample" if ready.known else ""
    return Measured(scheme, ready, outcomes, note)


def _decoders(
    code: KernelCode, trials: Sequence[Trial], ground: Ground
) -> Iterator[tuple[KernelCode, Sequence[Trial]]]:
    """Codes to choose from, each with trials in which a part's own answers are not known."""
    fitted = code.prior or _fitted(trials)
    copying = [_UNRELATED] if code.spread == 0.0 and code.prior is None else []
    for prior in (fitted, *copying):
        ready = replace(code, prior=prior)
        yield ready, [trial.under(ready) for trial in trials]
    few = min(len(other.rows) for other in ground.others) < _LEAST_KNOWN
    numbers = all(array.dtype.kind in "biufc" for array in ground.parts[0])
    if code.known is not None or few or not numbers:
        return
    known = _known(ground.whole)
    held = [_known(other) for other in ground.others]
    for prior in dict.fromkeys((known.likeliest(), fitted, *copying)):
        ready = replace(code, prior=prior, known=known)
        parts = [replace(code, prior=prior, known=other) for other in held]
        yield ready, [trial.under(part) for trial, part in zip(trials, parts, strict=True)]


def _fitted(trials: Sequence[Trial]) -> Prior:
    """The prior under which all answers of all parts are most likely."""
    inputs = np.concatenate([trial.inputs for trial in trials], axis=1)
    answers = np.concatenate([trial.answers for trial in trials], axis=1)
    encoding = trials[0].code.encode(inputs)
    encoding.decode(dict(enumerate(answers)))
    learned = getattr(encoding, "learned", None)
    return learned if isinstance(learned, Prior) else Prior(1.0)


def _known(part: Part) -> Known:
    most = min(MOST_KNOWN, max(_LEAST_KNOWN, _KNOWN_BYTES // max(1, part.rows[:1].size * 8)))
    chosen = np.linspace(0, len(part.rows) - 1, min(len(part.rows), most)).astype(int)
    return Known(part.rows[chosen], part.answers[chosen])
