"""Codes that copy, from the `map` door, as codes for a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..codes.replication import Replication, Uncoded
from ..contracts.matrix_code import Decoded, Partial
from ..errors import InvalidArgument, NotEnoughAnswers

__all__ = ["Copies"]

_OUTVOTED = "an answer that differs from its copies'"


class Copies:
    """Worker n keeps block n mod K; copies of an answer are compared.

    Parameters
    ----------
    code : Uncoded or Replication
    """

    def __init__(self, code: Uncoded | Replication) -> None:
        if code.fill is not None:
            raise InvalidArgument(
                f"fill={code.fill!r} cannot stand in for a lost block of a matrix, whose product has nothing to "
                "do with the others': leave it out"
            )
        self._code = code
        self._encoding = code.encode(np.eye(code.tasks)[:, None])
        self._confirm = self._encoding.confirm

    @property
    def code(self) -> Uncoded | Replication:
        """What it was made of."""
        return self._code

    @property
    def tasks(self) -> int:
        """K."""
        return self._code.tasks

    @property
    def workers(self) -> int:
        """N."""
        return self._code.workers

    @property
    def stragglers(self) -> int:
        """As the code states."""
        return self._code.stragglers

    def weights(self, worker: int) -> np.ndarray:
        """A single 1."""
        row: np.ndarray = self._encoding.payloads[worker, 0]
        return row

    def decodable(self, answered: frozenset[int], dtype: np.dtype[Any]) -> bool:
        """Whether every block has as many answers as shall confirm each other."""
        return not self._short(answered)

    def decode(self, answers: Mapping[int, np.ndarray], dtype: np.dtype[Any]) -> Decoded:
        """The answers themselves, the majority's where copies differ."""
        short = self._short(frozenset(answers))
        if short:
            raise NotEnoughAnswers(
                f"{len(short)} of {self.tasks} blocks (the first is {short[0]}) have fewer than "
                f"{self._confirm} usable answers: wait for more"
            )
        estimate = self._encoding.decode({slot: answer[None] for slot, answer in answers.items()})
        disputed = np.flatnonzero(~estimate.exact[:, 0])
        if len(disputed):
            raise NotEnoughAnswers(
                f"copies of {len(disputed)} blocks (the first is {disputed[0]}) gave different answers, and no "
                "majority tells which is right: wait for more, or use more copies"
            )
        return Decoded(estimate.values[:, 0], dict.fromkeys(estimate.rejected, _OUTVOTED))

    def salvage(self, answers: Mapping[int, np.ndarray]) -> Partial:
        """Blocks of which enough copies agree; infinite standard errors for all others.

        One that too few confirm keeps its value, as in `Replication`; where copies differ and no majority
        tells which is right, it is NaN.
        """
        slots = tuple(sorted(answers))
        stacked = np.stack([answers[slot] for slot in slots])[:, None]
        voted = self._encoding.voted(slots, stacked, ())
        assert voted.stderr is not None
        values = np.full((self.tasks, *stacked.shape[2:]), np.nan, stacked.dtype)
        stderr = np.full(values.shape, np.inf)
        came = sorted({self._encoding.raw[slot] for slot in slots})
        exact = [task for task in came if voted.exact[task, 0]]
        # Where copies differ, their distance is the standard error; infinite is that of a lone answer.
        alone = [task for task in came if np.isinf(voted.stderr[task, 0])]
        values[exact + alone] = voted.values[exact + alone, 0]
        stderr[exact] = 0.0
        return Partial(values, stderr, dict.fromkeys(voted.rejected, _OUTVOTED))

    def _short(self, answered: frozenset[int]) -> list[int]:
        counts = np.bincount([self._encoding.raw[slot] for slot in answered], minlength=self.tasks)
        return [int(task) for task in np.flatnonzero(counts < self._confirm)]

    def __repr__(self) -> str:
        return repr(self._code)
