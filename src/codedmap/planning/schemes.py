"""The schemes that a plan compares, each measured on the sample."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import isabstract, signature
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from .. import codes as table
from ..codes import BerrutCode, KernelCode, Replication, SplineCode, Uncoded
from ..codes.linear import LinearCode
from ..contracts.code import Code
from ..errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers, WorkerLost
from ..estimation import Known, Prior
from .asking import Answer, answers_to
from .replays import Outcomes, Part, Trial, prepared, replayed

__all__ = [
    "MOST_KNOWN",
    "Ground",
    "Measured",
    "all_sets",
    "codes_of_counts",
    "measured",
    "standard",
]

SPREADS = (0.0, 0.1, 0.2, 0.5, 1.0)
MOST_KNOWN = 256
"""Answers of the sample that a kernel code leans on, at most."""
_KNOWN_BYTES = 1 << 26
"""And bytes of their inputs."""
_LEAST_KNOWN = 3
_ENUMERATED = 10_000
"""Straggler sets up to which all are judged."""
_SCREENED = 15
"""Waves that choose how to decode the answers of a kernel code."""
_TOGETHER = 1 << 26
"""Bytes of payloads, of several schemes, that fn computes in one go."""
_UNRELATED = Prior(1e-100)
"""No answer tells anything of another input: what is lost gets the mean."""
_SUSPICIONS = (10.0, 30.0, 1e6)
"""Tried one after the other where honest answers are thought lies; with the last one, none is."""
_CLEARLY = 3.0
"""Standard errors by which the best of several ways to decode must lead, to be taken for no accident."""
_NUMBERS = ["tasks", "workers", "stragglers"]
_USUAL = (Uncoded, Replication, KernelCode, SplineCode, BerrutCode)
"""Tried as `standard` has them; any other code that takes just these numbers is tried as it is."""
_CALIBRATION = (0.2, 5.0)
"""Factors on standard errors that a small sample may call for."""


@dataclass(frozen=True, eq=False)
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
    seed: int = 0
    """Of straggler sets."""
    timed: bool = False
    """Whether the arrivals are drawn from a latency model."""

    def waves(self, code: Code) -> tuple[np.ndarray, int]:
        """Arrivals at a code's workers, perhaps fewer, and how many of these are late."""
        workers = self.arrivals.shape[1]
        if code.workers == workers:
            return self.arrivals, self.late
        late = min(code.workers - 1, -(-self.late * code.workers // workers))
        every = None if self.timed else all_sets(code.workers, late, self.seed)
        if every is not None:
            return every, late
        return self.arrivals[self.arrivals < code.workers].reshape(-1, code.workers), late

    @cached_property
    def known(self) -> Known:
        """What a kernel code can lean on: answers of the whole sample."""
        part, rest = self.parts[0], self.others[0]
        return _known(
            Part(
                np.concatenate([part.rows, rest.rows]), np.concatenate([part.answers, rest.answers])
            )
        )

    @cached_property
    def held(self) -> list[Known]:
        """The same for each part, without its own answers."""
        return [_known(other) for other in self.others]


def all_sets(workers: int, late: int, seed: int) -> np.ndarray | None:
    """All straggler sets as arrivals (sets, N), the stragglers last; None if there are too many.

    The sets are in random order, and so are the stragglers of each, whose answers codes that wait on get.
    """
    if math.comb(workers, late) > _ENUMERATED:
        return None
    rng = np.random.default_rng([seed, 0])
    last = np.array(list(combinations(range(workers), late)), dtype=int)
    last = rng.permuted(rng.permutation(last), axis=1)
    first = np.ones((len(last), workers), dtype=bool)
    np.put_along_axis(first, last, False, axis=1)
    slots = np.nonzero(first)[1].reshape(len(last), workers - late)
    return np.concatenate([slots, last], axis=1)


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
    for name, make in codes_of_counts().items():
        if make not in _USUAL and (mixes or not issubclass(make, LinearCode)):
            with suppress(InvalidArgument):  # numbers that this code does not fit
                codes.append((name, make(tasks=tasks, workers=workers, stragglers=stragglers)))
    return codes


def codes_of_counts() -> dict[str, type[Any]]:
    """The codes whose only required arguments are K, N and S, by name."""
    found = {}
    for public in table.__all__:
        make = getattr(table, public)
        if hasattr(make, "encode") and not isabstract(make):  # else it is for sums, or matrices
            given = signature(make).parameters.values()
            if [it.name for it in given if it.default is it.empty] == _NUMBERS:
                words = re.findall(r"[A-Z][^A-Z]*", public.removesuffix("Code"))
                found["-".join(words).lower()] = make
    return found


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
        if isinstance(error, WorkerLost):
            return Measured(
                scheme, code, None, "left out: the worker that computed its mixtures died"
            )
        told = " ".join(f"{type(error).__name__}: {error}".split())
        return Measured(scheme, code, None, f"left out: for its mixtures fn raised {told}")
    try:
        if len(answers):
            half = len(trials[0].payloads) if trials[0].payloads is not None else 0
            parts = (answers[:half], answers[half:])
            trials = [trial.told(part) for trial, part in zip(trials, parts, strict=False)]
        if isinstance(code, KernelCode):
            found = _kernel(scheme, code, trials, ground)
        else:
            found = Measured(scheme, code, replayed(trials, *ground.waves(code), ground.unit))
    except (InvalidArgument, InvalidAnswer, NotEnoughAnswers) as error:
        return Measured(scheme, code, None, f"left out: {error}")
    if found.outcomes is None or not np.isfinite(found.outcomes.rmse):
        return Measured(scheme, code, None, "left out: some of its estimates are not finite")
    return found


def _kernel(scheme: str, code: KernelCode, trials: Sequence[Trial], ground: Ground) -> Measured:
    """The best of a few ways to decode the same answers: the mean, unless another is clearly better."""
    arrivals, late = ground.waves(code)

    def outcome(decoder: _Decoder, suspicion: float, waves: np.ndarray) -> Outcomes:
        codes = [replace(one, suspicion=suspicion) for one in decoder.held]
        under = [trial.under(one) for trial, one in zip(trials, codes, strict=True)]
        return replayed(under, waves, late, ground.unit)

    decoders = list(_decoders(code, trials, ground))
    screened = [outcome(one, _SUSPICIONS[-1], arrivals[:_SCREENED]) for one in decoders]
    best = min(range(len(decoders)), key=lambda at: screened[at].rmse)
    if decoders[0].code.prior == _UNRELATED and screened[0].as_good_as(screened[best], _CLEARLY):
        best = 0
    for suspicion in (code.suspicion, *(s for s in _SUSPICIONS if s > code.suspicion)):
        outcomes = outcome(decoders[best], suspicion, arrivals)
        if not outcomes.rejecting:
            break
    factor = float(np.clip(outcomes.misfit or 1.0, *_CALIBRATION))
    ready = replace(decoders[best].code, calibration=code.calibration * factor, suspicion=suspicion)
    notes = []
    if ready.known:
        notes.append(f"leaning on {len(ready.known)} answers of the sample")
    if suspicion > code.suspicion:
        notes.append(
            "hardly looking for liars, since honest answers are off by so much"
            if suspicion == _SUSPICIONS[-1]
            else f"suspicion {suspicion:g}, since honest answers are off by more than "
            f"{code.suspicion:g} deviations"
        )
    return Measured(scheme, ready, outcomes, "; ".join(notes))


class _Decoder(NamedTuple):
    """A way to decode the answers to given payloads."""

    code: KernelCode
    """As it is recommended."""
    held: Sequence[KernelCode]
    """The same for each part of the sample, whose own answers it does not know."""


def _decoders(code: KernelCode, trials: Sequence[Trial], ground: Ground) -> Iterator[_Decoder]:
    """The mean, where all payloads are inputs; what neighbours tell; and known answers as well."""
    fitted = code.prior or _fitted(trials)
    priors = [fitted]
    if code.spread == 0.0 and code.prior is None:
        priors.insert(0, _UNRELATED)
    for prior in priors:
        ready = replace(code, prior=prior)
        yield _Decoder(ready, [ready] * len(trials))
    few = min(len(other.rows) for other in ground.others) < _LEAST_KNOWN
    numbers = all(array.dtype.kind in "biufc" for array in ground.parts[0])
    if code.known is not None or few or not numbers:
        return
    for prior in dict.fromkeys((fitted, ground.known.likeliest)):
        ready = replace(code, prior=prior, known=ground.known)
        yield _Decoder(ready, [replace(ready, known=other) for other in ground.held])


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
