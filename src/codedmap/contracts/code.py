"""The contract between a code and the `map` door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import InvalidArgument
from .arguments import check_whole

__all__ = [
    "Arranging",
    "Code",
    "Encoding",
    "Estimate",
    "Learning",
    "Placing",
    "Salvageable",
    "check_budget",
    "check_tasks",
    "left_out",
]


@runtime_checkable
class Code(Protocol):
    """K tasks in, N payloads out; answers of some in, K estimates out.

    A code may state ``has_stderr: bool``, whether its estimates have standard errors, so that a
    `Tolerance` is refused at the call if they have none; else its first estimate tells.
    """

    @property
    def tasks(self) -> int:
        """K, tasks in a group."""
        ...

    @property
    def workers(self) -> int:
        """N, payloads made of a group."""
        ...

    @property
    def stragglers(self) -> int:
        """S, answers that may be missing when the default stop rule stops."""
        ...

    def encode(self, inputs: np.ndarray) -> Encoding:
        """Encode B groups of K tasks, (K, B, *x)."""
        ...


class Encoding(Protocol):
    """One use of a code on given inputs; knows how to decode."""

    @property
    def payloads(self) -> np.ndarray:
        """What each worker is sent, (N, B, *x)."""
        ...

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these slots can be decoded; more answers never hurt."""
        ...

    def decode(self, answers: Mapping[int, np.ndarray]) -> Estimate:
        """K estimates from answers by slot, each (B, *y).

        Raises
        ------
        NotEnoughAnswers
            Where `decodable` is false, or becomes so when lies are left out.
        InvalidAnswer
            If most answers are not one array with B rows.
        """
        ...


@runtime_checkable
class Salvageable(Protocol):
    """An encoding that knows which payloads are raw inputs, and so what it has without decoding."""

    @property
    def raw(self) -> tuple[int | None, ...]:
        """For each slot the task whose own input is its payload, or None for a mixture."""
        ...

    def salvage(self, answers: Mapping[int, np.ndarray]) -> Estimate:
        """Raw inputs that were answered; all else NaN, with an infinite standard error."""
        ...


@runtime_checkable
class Placing(Protocol):
    """A `Salvageable` encoding whose ``raw`` tells places: which task stands there each group has for itself."""

    @property
    def places(self) -> np.ndarray:
        """The task at each place, (K, B) int."""
        ...


@runtime_checkable
class Learning(Protocol):
    """An encoding that learns from answers what its code can start from in waves to come."""

    @property
    def learned(self) -> Any:
        """What its last decoding learned; None before the first."""
        ...


@runtime_checkable
class Arranging(Protocol):
    """A code that says which rows should share a group; the door asks before it cuts them."""

    def arranged(self, rows: np.ndarray) -> np.ndarray | None:
        """For rows (m, *x) in which order, (m,) int, they should be cut; None: as they are."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a code makes of the answers of K tasks in B groups."""

    values: np.ndarray
    """(K, B, *y)."""
    exact: np.ndarray
    """(K, B) bool: answered on its own raw input, and not rejected."""
    stderr: np.ndarray | None
    """(K, B): standard error of the root mean square over a row's outputs; 0 where exact, never 0
    where estimated; None if the code has none."""
    rejected: tuple[int, ...]
    """Slots with at least one answer judged a lie."""


def check_tasks(inputs: np.ndarray, tasks: int) -> None:
    """Raise `InvalidArgument` unless inputs are (tasks, B, *x) with B >= 1."""
    if inputs.ndim < 2 or inputs.shape[0] != tasks or inputs.shape[1] == 0:
        raise InvalidArgument(
            f"encode takes inputs of shape (K, B, ...) with K = {tasks} tasks and B >= 1 groups, "
            f"but got {inputs.shape}: codedmap.map cuts any number of rows into such groups"
        )


def check_budget(tasks: int, workers: int, stragglers: int) -> None:
    """Raise `InvalidArgument` unless K >= 1, N >= 1 and 0 <= S < N are whole numbers."""
    check_whole("tasks", tasks, 1)
    check_whole("workers", workers, 1)
    check_whole("stragglers", stragglers, 0)
    if stragglers >= workers:
        raise InvalidArgument(
            f"{stragglers} stragglers of {workers} workers would leave nobody to answer: "
            f"stragglers must be at most {workers - 1}"
        )


def left_out(lies: np.ndarray) -> np.ndarray:
    """Lies (slots, groups), with a worker that lied in over half of its groups left out of all."""
    whole: np.ndarray = lies | (lies.mean(axis=1, keepdims=True) > 0.5)
    return whole
