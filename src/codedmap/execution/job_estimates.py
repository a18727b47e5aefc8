"""Estimates of rows of a job with a code, from all answers of the job."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..contracts.code import Estimate
from ..estimation import Known
from ..results.status import Status
from .chunk_rows import ChunkRows
from .inputs import InputRows
from .missing import Effort, Estimates, estimate_missing, warn_other_answers

_FEWEST = 2  # least answers from which others are estimated
_SHORTEST = 0.1  # seconds; in less, estimates from all answers are no better than those of chunks
_NUMBERS = 1 << 22  # most numbers in the mixtures of a chunk that are used
_KEPT = 1000  # answers to mixtures, and to rows of other chunks, that are kept to estimate from


class JobEstimates:
    """Estimates rows from answers of the whole job, and from those ``known`` before.

    ``pooled``: whether the code leaves its estimates to the job; ``filling``: also rows whose group has no answer.
    """

    def __init__(
        self, inputs: InputRows, known: Sequence[Known], *, pooled: bool, filling: bool
    ) -> None:
        self._inputs, self._known = inputs, known
        self.pooled, self.filling = pooled, filling
        self.restart()

    def restart(self) -> None:
        """Forget the answers of the job so far."""
        self._answers = _Answers(self._known)

    def more(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Points and answers besides the exact rows: known ones, and those to mixtures; None if there are none."""
        return self._answers.joined()

    def add(self, chunk: ChunkRows, exact: np.ndarray | None, values: np.ndarray) -> None:
        """Keep answers of a finished chunk: those to mixtures, and the ``values`` of its ``exact`` rows if these are given."""
        if exact is not None:
            self._answers.add(self._inputs.array(chunk.rows)[exact], values[exact])
        self._answers.add(*chunk.encoded.mixtures(_NUMBERS))

    def unanswered(self, chunk: ChunkRows, estimate: Estimate, status: np.ndarray) -> np.ndarray:
        """Rows (m,) bool of a chunk that are estimated because they have no answer of their own."""
        if not self.pooled or estimate.values.dtype.kind != "f" or estimate.stderr is None:
            return np.zeros(len(status), dtype=bool)
        return np.asarray((status == Status.ESTIMATED) & ~chunk.encoded.answered())

    def unknown(self, chunk: ChunkRows, status: np.ndarray) -> np.ndarray:
        """Rows (m,) bool of a chunk that are missing, and can be estimated from answers of other chunks."""
        unknown = (status == Status.MISSING) & self.filling
        return np.asarray(unknown & ~chunk.encoded.answered() if unknown.any() else unknown)

    def of_chunk(self, chunk: ChunkRows, estimate: Estimate, status: np.ndarray) -> list[Estimates]:
        """Quick estimates of rows of a chunk from its answers and those of finished chunks; kept until it has more answers."""
        if not self.pooled:
            return []
        if chunk.found[0] != chunk.taken:
            found: list[Estimates] = []
            lost = self.unanswered(chunk, estimate, status)
            unknown = self.unknown(chunk, status) & (estimate.values.dtype.kind == "f")
            wanted = lost | unknown
            more = self._answers.joined(chunk.encoded.mixtures(_NUMBERS)) if wanted.any() else None
            exact = np.flatnonzero(status == Status.EXACT)
            if lost.any() and _too_few(len(exact), more):
                found = list(_as_they_are(np.flatnonzero(lost), lambda at: estimate.values[at]))
            elif wanted.any():
                found = list(
                    estimate_missing(
                        InputRows(self._inputs.array(chunk.rows)),
                        exact,
                        np.flatnonzero(wanted),
                        lambda at: estimate.values[at],
                        lambda: math.inf,
                        effort="quick",
                        more=more,
                    )
                )
            chunk.found = chunk.taken, found
        return chunk.found[1]

    def of_job(
        self,
        lost: np.ndarray,
        status: np.ndarray,
        answers: Callable[[np.ndarray], Any],
        effort: Effort,
        time_left: Callable[[], float],
        *,
        sample: bool,
    ) -> Iterator[Estimates]:
        """Estimates of lost rows (m,) bool of all finished chunks; ``answers`` and ``sample`` as in `estimate_missing`."""
        known = (status[lost] == Status.ESTIMATED).all()
        if known and (not lost.any() or (effort == "thorough" and time_left() < _SHORTEST)):
            return iter(())
        exact, more = np.flatnonzero(status == Status.EXACT), self._answers.joined()
        if _too_few(len(exact), more):
            return _as_they_are(np.flatnonzero(lost & (status == Status.ESTIMATED)), answers)
        return estimate_missing(
            self._inputs,
            exact,
            np.flatnonzero(lost),
            answers,
            time_left,
            effort=effort,
            sample=sample,
            more=more,
        )


def _too_few(exact: int, more: tuple[np.ndarray, np.ndarray] | None) -> bool:
    """Whether so many exact rows, and ``more`` answers, are too few to estimate others."""
    return exact + (0 if more is None else len(more[0])) < _FEWEST


def _as_they_are(rows: np.ndarray, answers: Callable[[np.ndarray], Any]) -> Iterator[Estimates]:
    """The answers to rows (e,) int as estimates with infinite standard errors."""
    if len(rows):
        values = answers(rows)
        yield Estimates(rows, values, np.full_like(values, np.inf))


class _Answers:
    """Points and answers: known beforehand, of mixtures, or of rows of other chunks. Of many a random sample is kept."""

    def __init__(self, known: Iterable[Known]) -> None:
        self._parts = [(one.inputs, one.answers) for one in known]
        self._rng = np.random.default_rng(0)

    def add(self, points: np.ndarray, answers: np.ndarray) -> None:
        """Add points (n, *x) and answers (n, *y)."""
        self._parts = self._alike(_real((points, answers)))
        if sum(len(part) for part, _ in self._parts) > 2 * _KEPT:
            all_points, all_answers = map(np.concatenate, zip(*self._parts, strict=True))
            kept = self._rng.permutation(len(all_points))[:_KEPT]
            self._parts = [(all_points[kept], all_answers[kept])]

    def joined(self, *more: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        """All points (n, p) and answers (n, q), and further ones; None if there are none."""
        parts = self._alike(_real(*more))
        if not parts:
            return None
        return np.concatenate([p for p, _ in parts]), np.concatenate([a for _, a in parts])

    def _alike(
        self, more: list[tuple[np.ndarray, np.ndarray]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Further parts, then those that are kept; drops and warns of kept ones with another number of outputs."""
        parts = [*more, *self._parts]
        columns = [answers.shape[1] for _, answers in parts]
        other = next((count for count in columns if count != columns[0]), None)
        if other is not None:
            warn_other_answers(other, columns[0])
            self._parts = [part for part in self._parts if part[1].shape[1] == columns[0]]
        return [*more, *self._parts]


def _real(*pairs: tuple[np.ndarray, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of points (n, *x) and answers (n, *y) as rows of real numbers; leaves out others, and empty pairs."""
    return [
        (flat[0], flat[1])
        for pair in pairs
        if len(pair[0]) and all(part.dtype.kind in "biuf" for part in pair)
        for flat in [[np.asarray(part, np.float64).reshape(len(part), -1) for part in pair]]
    ]
