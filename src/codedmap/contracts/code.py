"""The interface of codes for `map`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import InvalidAnswer, InvalidArgument, many
from .arguments import check_whole
from .matrix_code import MatrixCode
from .memory import check_counts, check_room
from .sum_code import SumCode


@runtime_checkable
class Code(Protocol):
    """K tasks in, N payloads out; answers of some in, K estimates out.

    Other attributes are optional:

    * ``has_stderr``: False if its estimates have no standard errors, so that a `Tolerance` is refused at once;
    * ``job_estimates``: True if rows without an answer of their own are to be estimated in the end, from all answers of
      the job, also those to mixtures; only real numbers are;
    * ``arranged(rows)``: a method that chooses which rows (m, *x) share a group. It returns the order, (m,) int, in which
      they are cut into groups; None for the order given.
    """

    @property
    def tasks(self) -> int:
        """K, tasks in a group."""

    @property
    def workers(self) -> int:
        """N, payloads made of a group."""

    @property
    def stragglers(self) -> int:
        """S, answers that may be missing when the default stopping rule stops."""

    def encode(self, inputs: np.ndarray) -> Encoding:
        """Encode B groups of K tasks, (K, B, *x)."""


class Encoding(Protocol):
    """Inputs encoded by a code, and how to decode the answers.

    Other attributes are optional:

    * ``raw``: for each slot the task whose own input is its payload, or None for a mixture; and ``salvage(answers)``: an
      `Estimate` of the answers to raw inputs, where all other tasks are NaN, with an infinite standard error;
    * ``payload(slot)``, (B, *x): makes a payload when it is sent, so that not all of them are in memory;
    * ``judge(answers, seconds)``: as `decode`, within so many seconds, but lost tasks may get the mean of the answers,
      with their spread as its error.
    """

    @property
    def payloads(self) -> np.ndarray:
        """The payloads of the N slots, (N, B, *x)."""

    def decodable(self, answered: frozenset[int]) -> bool:
        """Whether answers of these slots can be decoded. True remains true with more answers."""

    def decode(self, answers: Mapping[int, np.ndarray]) -> Estimate:
        """K estimates from answers by slot, each (B, *y).

        Raises
        ------
        NotEnoughAnswers
            Where `decodable` is false, or is false without the rejected answers.
        InvalidAnswer
            If most answers are not one array with B rows.
        """


@dataclass(frozen=True, slots=True)
class Estimate:
    """The values of K tasks in B groups."""

    values: np.ndarray
    """(K, B, *y)."""
    exact: np.ndarray
    """(K, B) bool: answered on its own raw input, and not rejected."""
    stderr: np.ndarray | None
    """(K, B, *y): standard errors, 0 where exact and above 0 where estimated; (K, B) if all outputs of a row have the
    same; None if the code has none."""
    rejected: tuple[int, ...]
    """Slots with at least one rejected answer."""


def check_tasks(inputs: np.ndarray, tasks: int, workers: int) -> None:
    """Raise `InvalidArgument` unless inputs are (tasks, B, *x) with B >= 1, `NotEnoughMemory` if N payloads do not fit."""
    shape = getattr(inputs, "shape", None)
    if shape is None or len(shape) < 2 or shape[0] != tasks or shape[1] == 0:
        raise InvalidArgument(
            f"encode takes an array of shape (K, B, ...) with K = {tasks} tasks and B >= 1 groups, "
            f"but got {shape or type(inputs).__name__}: codedmap.map cuts any number of rows into such groups"
        )
    if workers != tasks:
        check_room(
            workers * inputs[:1].nbytes,
            f"{workers} payloads of {inputs.shape[1]} rows each",
            "Encode fewer groups at a time, use fewer workers, or cast the inputs to float32",
        )


def check_mixable(inputs: np.ndarray, mixing: str, copying: str) -> None:
    """Raise `InvalidArgument` unless inputs are floating point; ``mixing`` and ``copying`` name codes."""
    if inputs.dtype.kind not in "fc":
        raise InvalidArgument(
            f"inputs of dtype {inputs.dtype} cannot be mixed, as {mixing}: cast them "
            "(np.asarray(inputs, np.float32)) if they are quantities, put the code behind the model's "
            f"embedding layer if they are tokens, or use a code that copies ({copying})"
        )


def check_interpolable(dtype: np.dtype[Any], mixing: str, copying: str) -> None:
    """Raise `InvalidAnswer` unless answers are floating point; ``mixing`` and ``copying`` as in `check_mixable`."""
    if dtype.kind not in "fc":
        raise InvalidAnswer(
            f"answers of dtype {dtype} cannot be interpolated, as {mixing}: return scores instead of "
            "labels, cast to float in fn if they are quantities, or use a code that copies "
            f"({copying})"
        )


def no_code(given: Any, instead: str, name: str = "code") -> InvalidArgument:
    """The error for an object that is not a code for this use."""
    kinds = {"map": Code, "sum": SumCode, "CodedMatrix": MatrixCode}
    use = next((use for use, kind in kinds.items() if isinstance(given, kind)), None)
    what = "not a code" if use is None else f"a code for codedmap.{use}"
    return InvalidArgument(f"{name}={given!r:.80} is {what}: give {instead}")


def check_budget(tasks: int, workers: int, stragglers: int) -> None:
    """Raise `InvalidArgument` unless K >= 1, N >= 1 and 0 <= S < N are whole numbers, `NotEnoughMemory` if they are huge."""
    check_whole("tasks", tasks, 1)
    check_whole("workers", workers, 1)
    check_whole("stragglers", stragglers, 0)
    if stragglers >= workers:
        raise InvalidArgument(
            f"{many(stragglers, 'straggler')} of {many(workers, 'worker')} would leave no worker to answer: "
            f"stragglers must be at most {workers - 1}"
        )
    check_counts(workers, tasks)


def reject_frequent(wrong: np.ndarray) -> np.ndarray:
    """Wrong answers (slots, groups) bool, and all answers of slots that are wrong in over half of the groups."""
    return np.asarray(wrong | (wrong.mean(axis=1, keepdims=True) > 0.5))
