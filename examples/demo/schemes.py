"""The schemes: each computes the answers of one wave of rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from typing import Any, Literal

import numpy as np

import codedmap as cm
from codedmap.engines import Resident

from .workers import Call, Latency, Subset

__all__ = ["Run", "Scheme", "Setup", "Wave", "run", "schemes"]


@dataclass(frozen=True, slots=True)
class Setup:
    """K tasks on N workers; a coded scheme does not wait for the last S answers.

    With the default S = 4 a wave does not wait for the crashed worker and three stragglers.
    """

    tasks: int = 10
    workers: int = 20
    stragglers: int = 4
    latency: Latency = field(default_factory=Latency)


@dataclass(slots=True)
class Wave:
    """The rows of one wave, its delays and its crash; the same for every scheme."""

    model: Resident
    rows: np.ndarray
    latency: Latency
    seed: tuple[int, int]
    calls: list[Call] = field(default_factory=list)
    attempts: int = 0

    def map(
        self,
        rows: np.ndarray,
        code: cm.contracts.Code,
        members: Sequence[int],
        *,
        stop: cm.contracts.StoppingRule | None,
        on_error: Literal["raise", "record"] = "raise",
    ) -> cm.MapResult:
        """`codedmap.map` on these workers; in the first round of a wave one worker crashes."""
        first = self.attempts == 0
        outcomes = self.latency.outcomes((*self.seed, self.attempts), len(members), crash=first)
        subset = Subset(self.model, members, outcomes, again=not first)
        self.attempts += 1
        once: dict[str, Any] = {"chunk": "all", "hedge": None, "retries": 0}
        result = cm.map(
            self.model.fn, rows, code=code, engine=subset, stop=stop, on_error=on_error, **once
        )
        self.calls += subset.calls
        return result


@dataclass(frozen=True, slots=True)
class Scheme:
    """A scheme to get all answers."""

    name: str
    what: str
    """Description in one line."""
    answers: Callable[[Wave], tuple[np.ndarray, np.ndarray]]
    """Maps a wave to the answers to its rows, and which of them are exact."""


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one scheme on one wave."""

    values: np.ndarray
    exact: np.ndarray
    began: float
    seconds: float
    calls: list[Call]


def run(scheme: Scheme, wave: Wave) -> Run:
    """Run a scheme on a wave and measure its time."""
    began = time.perf_counter()
    values, exact = scheme.answers(wave)
    return Run(values, exact, began, time.perf_counter() - began, wave.calls)


def schemes(setup: Setup) -> list[Scheme]:
    """The schemes, in the order of the table."""
    K, N, S = setup.tasks, setup.workers, setup.stragglers
    hedge_after = setup.latency.quantile(0.9)
    return [
        Scheme(
            "Wait for everyone",
            f"{K} calls; the task of a crashed worker is computed again afterwards",
            partial(_resent, setup, lambda tasks: cm.Everyone()),
        ),
        Scheme(
            "Hedged",
            f"{K} calls; tasks without an answer after {hedge_after:.2f} s (p90 of a call) are sent "
            "to other workers, until all have an answer",
            partial(_resent, setup, lambda tasks: cm.Quorum(tasks) | cm.Deadline(hedge_after)),
        ),
        Scheme(
            "Replication x2",
            f"{N} calls, two per task; the first answer counts",
            # One answer per task is enough. The default stopping rule would wait for all but one
            # of the answers, because replication tolerates only one arbitrary straggler.
            partial(_coded, cm.Replication(K, N), cm.Decodable()),
        ),
        Scheme(
            "BACC",
            f"{N} calls with mixed digits (BerrutCode); decoded from the first {N - S} answers",
            partial(_coded, cm.BerrutCode(K, N, S), None),
        ),
        Scheme(
            "LeTCC",
            f"{N} calls with mixed digits (SplineCode); decoded from the first {N - S} answers",
            partial(_coded, cm.SplineCode(K, N, S), None),
        ),
        Scheme(
            "KernelCode",
            f"{N} calls, {K} with digits and the others with mixtures of two digits; decoded "
            f"from the first {N - S} answers",
            partial(_coded, cm.KernelCode(K, N, S), None),
        ),
    ]


def _coded(
    code: cm.contracts.Code, stop: cm.contracts.StoppingRule | None, wave: Wave
) -> tuple[np.ndarray, np.ndarray]:
    """One call of `codedmap.map`."""
    result = wave.map(wave.rows, code, range(code.workers), stop=stop)
    return result.values, result.exact


def _resent(
    setup: Setup, stop: Callable[[int], cm.contracts.StoppingRule], wave: Wave
) -> tuple[np.ndarray, np.ndarray]:
    """One call per task; tasks without an answer when ``stop(tasks)`` stops go to spare workers."""
    batches = np.split(wave.rows, setup.tasks)
    answers: dict[int, np.ndarray] = {}
    missing = list(range(setup.tasks))
    members = list(missing)
    spares = cycle(range(setup.tasks, setup.workers))
    while missing:
        rows = np.concatenate([batches[task] for task in missing])
        # Without a fill the first crash would end the call, because not all tasks can be answered.
        code = cm.Uncoded(len(missing), fill="mean")
        result = wave.map(rows, code, members, stop=stop(len(missing)), on_error="record")
        for place, task in enumerate(missing):
            own = slice(place * len(batches[0]), (place + 1) * len(batches[0]))
            if result.exact[own].all():
                answers[task] = result.values[own]
        missing = [task for task in missing if task not in answers]
        members = list(islice(spares, len(missing)))
    whole = np.concatenate([answers[task] for task in range(setup.tasks)])
    return whole, np.ones(len(whole), dtype=bool)
