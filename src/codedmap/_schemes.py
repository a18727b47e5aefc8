"""The schemes that a plan compares, each measured on the sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ._code import Code
from ._errors import InvalidAnswer, InvalidArgument, NotEnoughAnswers
from ._kernel import Known, Prior
from ._replays import Answer, Outcomes, Sample, Trial, replayed, tried
from .codes import BerrutCode, KernelCode, Replication, SplineCode, Uncoded

__all__ = ["Measured", "Ground", "measured", "standard"]

SPREADS = (0.0, 0.1, 0.2, 0.5, 1.0)
_MOST_KNOWN = 256
_UNJUDGED = 1e6
"""Suspicion at which no honest answer of a sample is rejected."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What all schemes of one plan are tried on."""

    fn: Answer
    folds: tuple[Sample, ...]
    """The sample's groups in parts."""
    others: tuple[tuple[np.ndarray, np.ndarray], ...]
    """For each fold rows and answers that are not in it; none where there are too few."""
    rows: tuple[np.ndarray, np.ndarray]
    """All sample rows and their answers."""
    sets: Sequence[np.ndarray]
    """The slots that answer, in each wave."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A scheme and what became of it."""

    scheme: str
    code: Code
    outcomes: Outcomes | None
    note: str = ""


def standard(tasks: int, workers: int, stragglers: int) -> list[tuple[str, Code]]:
    """The codes that are compared by default, and what they are called."""
    codes: list[tuple[str, Code]] = []
    if workers >= tasks:
        for spread in SPREADS if workers > tasks else SPREADS[:1]:
            name = f"kernel, spread {spread:g}" if spread else "kernel, copies"
            codes.append((name, KernelCode(tasks, workers, stragglers, spread)))
        codes.append(("copies, mean fill", Replication(tasks, workers, "mean")))
        codes.append(("uncoded, mean fill", Uncoded(tasks, "mean")))
    codes.append(("spline (LeTCC)", SplineCode(tasks, workers, stragglers)))
    codes.append(("spline, ordered", SplineCode(tasks, workers, stragglers, order="path")))
    codes.append(("Berrut (BACC)", BerrutCode(tasks, workers, stragglers)))
    return codes


def measured(scheme: str, code: Code, ground: Ground) -> Measured:
    """A scheme tried on the sample; without outcomes if it cannot be used, and why."""
    try:
        if isinstance(code, KernelCode):
            return _kernel(scheme, code, ground)
        trials = [tried(code, fold, ground.fn) for fold in ground.folds]
        return Measured(scheme, code, replayed(trials, _sets(code, ground)))
    except (InvalidArgument, InvalidAnswer, NotEnoughAnswers) as error:
        return Measured(scheme, code, None, f"left out: {error}")
    except Exception as error:
        # fn may refuse mixtures in any way it likes; that is a fact about the scheme.
        return Measured(scheme, code, None, f"left out: fn raised {type(error).__name__}: {error}")


def _sets(code: Code, ground: Ground) -> list[np.ndarray]:
    """Sets for a code with fewer workers than the others: those of its slots that answer."""
    sets = [slots[slots < code.workers] for slots in ground.sets]
    return [slots for slots in sets if len(slots)]


def _kernel(scheme: str, code: KernelCode, ground: Ground) -> Measured:
    """The best of a few ways to decode the same answers: which prior, and whether to lean on the sample."""
    plain = replace(code, suspicion=_UNJUDGED)
    trials = [tried(plain, fold, ground.fn) for fold in ground.folds]
    whole = [_with(trial, code=plain) for trial in trials]
    choices: list[tuple[Measured, KernelCode]] = []
    for final, parts in _choices(code, whole, ground):
        outcomes = replayed(parts, ground.sets)
        calibration = float(np.clip(outcomes.misfit or 1.0, 0.2, 5.0))
        ready = replace(final, calibration=code.calibration * calibration)
        note = f"with {len(final.known)} known answers" if final.known else ""
        choices.append((Measured(scheme, ready, outcomes, note), ready))
    best, _ = min(
        choices, key=lambda choice: choice[0].outcomes.rmse if choice[0].outcomes else 0.0
    )
    return best


def _choices(
    code: KernelCode, trials: Sequence[Trial], ground: Ground
) -> Iterator[tuple[KernelCode, list[Trial]]]:
    """Codes to choose from, each with trials in which a fold's own answers are not known."""
    prior = code.prior or _fitted(trials)
    plain = replace(code, prior=prior)
    yield plain, [_with(trial, prior=prior) for trial in trials]
    if code.known is not None or not all(len(rows) >= 3 for rows, _ in ground.others):
        return
    known = Known(*_some(*ground.rows))
    held = [Known(*_some(*other)) for other in ground.others]
    for one in dict.fromkeys((known.likeliest(), prior)):
        yield (
            replace(plain, prior=one, known=known),
            [_with(t, prior=one, known=k) for t, k in zip(trials, held, strict=True)],
        )


def _with(trial: Trial, **changes: object) -> Trial:
    code = changes.get("code") or replace(trial.code, **changes)  # type: ignore[type-var]
    return Trial(code, trial.sample, trial.answers)  # type: ignore[arg-type]


def _fitted(trials: Sequence[Trial]) -> Prior:
    """The prior under which all answers of all folds are most likely."""
    inputs = np.concatenate([trial.sample.inputs for trial in trials], axis=1)
    answers = np.concatenate([trial.answers for trial in trials], axis=1)
    code = trials[0].code
    encoding = code.encode(inputs)
    encoding.decode(dict(enumerate(answers)))
    learned = getattr(encoding, "learned", None)
    return learned if isinstance(learned, Prior) else Prior(1.0)


def _some(rows: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_KNOWN)).astype(int)
    return rows[chosen], answers[chosen]
