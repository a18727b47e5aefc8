"""Estimates of rows without an answer, from the rows that have one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from ..contracts.extremes import described
from ..contracts.memory import cores
from ..contracts.warning import warn_caller
from ..errors import InvalidArgument, NotEnoughAnswers, many
from ..estimation.losses import dependence
from ..estimation.set_aside import set_aside
from ..estimation.surrogate import estimates, seconds_to_be_thorough, seconds_to_do_better
from ..results.map_result import MapResult
from ..results.status import Status
from ..results.trees import blankable, for_all_entries, leaves, map_leaves
from .inputs import InputRows
from .threads import in_thread

COMPUTING = 0.9
"""Share of a deadline in which rows are computed; the rest is for estimates."""
_SAMPLE = 4096  # answered rows that are used where answers are in a file
_BLOCK = 1 << 17  # most rows estimated at a time
_NUMBERS = 1 << 22  # most numbers estimated at a time where they are written to a file
_CORES = 4  # most outputs that are estimated at the same time
_SPARE = 0.1  # share of the time of a job without a deadline, for estimates
_SHORT = 0.25  # share of the time of a short job without a deadline, for estimates
_MOST = 0.5  # most seconds for estimates of short jobs
_STARVED = 0.5  # share of the time for estimates in which the processor did other work
_GROUP = 0.1  # seconds for each group of outputs, if groups are estimated separately
_QUICK = 1.0  # most seconds for all groups of outputs, in quick estimates
_TESTED = 4000  # rows by which it is tested whether losses depend on the inputs
_LEAST_TESTED = 500  # rows by which that is tested if each row holds very many numbers
_TESTING = 2.0  # seconds that must be left for a thorough test of losses


Effort = Literal["quick", "thorough", "spare"]
"""How estimates are made. "quick"; "thorough": as well as possible in the time that is left; "spare": thorough if there
is time enough for better estimates than quick ones, else quick, however long that takes."""


class Estimates(NamedTuple):
    """Estimates of some rows."""

    rows: np.ndarray
    """(e,) int, ascending."""
    values: Any
    """A tree of arrays (e, *y)."""
    stderr: Any
    """Like ``values``: above 0."""
    hurried: bool = False
    """Whether there was no time for thorough estimates."""

    def of(self, wanted: np.ndarray) -> Estimates:
        """The estimates of the rows that are wanted, (m,) bool."""
        kept = wanted[self.rows]
        values, stderr = (map_leaves(lambda leaf: leaf[kept], tree) for tree in self[1:3])
        return Estimates(self.rows[kept], values, stderr, self.hurried)

    def largest(self, outputs: Mapping[str, float] | None = None) -> float:
        """The largest standard error; with the tolerances of ``outputs``, as a multiple of the output's tolerance."""
        if outputs is None:
            return max(float(leaf.max()) for leaf in leaves(self.stderr))
        return max(
            float(leaf.max()) / most
            for name, most in outputs.items()
            for leaf in leaves(self.stderr[name])
        )


def check_named(outputs: Mapping[str, float], answers: Any) -> None:
    """Raise `InvalidArgument` if a `Tolerance` names outputs that these answers do not have."""
    names = list(answers) if isinstance(answers, dict) else None
    for name in outputs:
        if names is None or name not in names:
            had = "no names" if names is None else f"the names {', '.join(map(str, names))}"
            raise InvalidArgument(
                f"Tolerance names the output {name!r}, and the outputs have {had}: "
                + ("give one number" if names is None else "correct it")
            )


def estimate_missing(
    inputs: InputRows,
    exact: np.ndarray,
    missing: np.ndarray,
    answers: Callable[[np.ndarray], Any],
    time_left: Callable[[], float],
    *,
    effort: Effort = "thorough",
    sample: bool = False,
    more: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[Estimates]:
    """Estimate rows that are missing from exact ones, a block of rows at a time.

    Yields nothing if nothing can be estimated: inputs or outputs are not numbers, there are no outputs, or too few rows
    are exact. Rows whose inputs are not finite are left out.

    Parameters
    ----------
    inputs : InputRows
    exact, missing : ndarray of int
        Numbers of rows, ascending. Those that failed because of their inputs are neither.
    answers : callable
        Called with the numbers of rows: their answers.
    time_left : callable
        Seconds until estimates should be made.
    effort : "quick", "thorough" or "spare"
    sample : bool
        Whether to use only a sample of the answers, so that they need not all fit into memory.
    more : tuple of ndarray, optional
        Further points (n, d), and answers (n, q) there.
    """
    if sample and len(exact) > _SAMPLE:
        exact = np.sort(np.random.default_rng(0).choice(exact, _SAMPLE, replace=False))
    others = 0 if more is None else len(more[0])
    if not inputs.numbers or len(exact) + others < 2 or not len(exact) or not len(missing):
        return
    points, tree = inputs.points(exact), map_leaves(_as_floats, answers(exact))
    flat = as_rows(leaves(tree), len(exact))
    if flat is None:
        return
    if more is not None and more[1].shape[1] != flat.shape[1]:
        warn_other_answers(more[1].shape[1], flat.shape[1])
    elif more is not None and len(more[0]):
        points, flat = (np.concatenate(pair) for pair in zip((points, flat), more, strict=True))
    usable = np.isfinite(points).all(axis=1)
    if not usable.all():
        points, flat = points[usable], flat[usable]
    finite = np.isfinite(flat)
    if not flat.shape[1] or finite.sum(axis=0).min() < 2:
        return
    block = max(1, min(_BLOCK, _NUMBERS // flat.shape[1])) if sample else _BLOCK
    for begin in range(0, len(missing), block):
        rows = missing[begin : begin + block]
        wanted = inputs.points(rows)
        later = 1.0 - len(rows) / (len(missing) - begin)
        finite_inputs = np.isfinite(wanted).all(axis=1)
        if not finite_inputs.all():
            rows, wanted = rows[finite_inputs], wanted[finite_inputs]
        if not len(rows):
            continue
        left = _part(time_left, later)
        groups = _groups(finite, math.inf if effort == "spare" else left(), effort == "quick")
        thorough, size = effort == "thorough", (len(points), len(rows))
        longest = sum(seconds_to_be_thorough(*size, len(group)) for group in groups)
        hurried = thorough and left() < longest
        if effort == "spare":
            needed = sum(seconds_to_do_better(*size, len(group)) for group in groups)
            thorough = left() >= needed
            hurried, left = not thorough, left if thorough else lambda: math.inf
        numbers = []
        for at, group in enumerate(groups):
            sizes = [len(later_group) for later_group in groups[at:]]
            used = finite[:, group].all(axis=1)
            all_used = len(groups) == 1 and used.all()
            known = flat if all_used else flat[np.ix_(used, group)]
            make = partial(estimates, points[used], known, wanted, each=on_cores, threads=at_once())
            part = _part(left, 1.0 - sizes[0] / sum(sizes))
            found = (
                _in_spare_time(make, part)
                if effort == "spare" and thorough
                else make(thorough=thorough, time_left=part)
            )
            numbers.append((found.values, found.stderr))
        back = np.argsort(np.concatenate(groups))
        values, stderr = (
            _unflattened(parts[0] if len(parts) == 1 else np.hstack(parts)[:, back], tree)
            for parts in zip(*numbers, strict=True)
        )
        yield Estimates(rows, map_leaves(_narrowed, values, tree), stderr, hurried)


def refilled(
    result: MapResult, inputs: InputRows, more: tuple[np.ndarray, np.ndarray] | None
) -> MapResult:
    """A result of a job with thorough estimates; ``more`` as for `estimate_missing`."""
    status = result.status.copy()
    exact, wanted = (
        np.flatnonzero(np.isin(status, some))
        for some in ((Status.EXACT,), (Status.ESTIMATED, Status.MISSING))
    )

    def answers(rows: np.ndarray) -> Any:
        return map_leaves(lambda leaf: blankable(leaf[rows]), result.values)

    found = list(estimate_missing(inputs, exact, wanted, answers, lambda: math.inf, more=more))
    if not found:
        raise NotEnoughAnswers(
            f"no row can be estimated from {many(len(exact), 'exact row')}: at least two are needed, and inputs and answers that "
            "are finite real numbers"
        )
    spread = np.where(status == Status.EXACT, 0.0, np.inf)
    values = map_leaves(np.array, result.values)
    stderr = result.stderr
    if stderr is None:
        stderr = map_leaves(lambda leaf: for_all_entries(spread, leaf.shape[1:]), values)
    stderr = map_leaves(np.array, stderr)
    for part in found:
        put(part, values, stderr, status)
    return replace(result, values=values, stderr=stderr, status=status, hurried=False)


def put(found: Estimates, values: Any, stderr: Any, status: np.ndarray) -> None:
    """Put estimates into values and standard errors (m, *y) of all rows, whose ``status`` (m,) they change."""

    def place(leaf: np.ndarray, estimates: np.ndarray) -> None:
        leaf[found.rows] = estimates

    map_leaves(place, values, found.values)
    map_leaves(place, stderr, found.stderr)
    status[found.rows] = Status.ESTIMATED


def _in_spare_time(make: Callable[..., Any], time_left: Callable[[], float]) -> Any:
    """Thorough estimates; quick ones if the processor mostly did other work, so that the thorough ones are poor."""
    before, begun = time_left(), time.process_time()
    thorough = make(time_left=time_left)
    starved = time.process_time() - begun < _STARVED * (before - time_left())
    return make(thorough=False) if starved else thorough


def _part(time_left: Callable[[], float], later: float) -> Callable[[], float]:
    """The seconds left for a part of the work, if this share of what is left now is for ``later`` parts."""
    now = time_left()
    until = later * now if now < math.inf else 0.0
    return lambda: time_left() - until


def _groups(finite: np.ndarray, seconds: float, quick: bool) -> list[np.ndarray]:
    """Groups of outputs that are estimated together, from the rows in which all of them are finite, (n, q) bool.

    A group is finite in the same rows. If there is no time for so many, groups are joined, from those with most rows on,
    as long as most of the rows of the first are finite in all.
    """
    groups = alike(finite)
    seconds = min(seconds, _QUICK) if quick else seconds
    if seconds >= _GROUP * len(groups):
        return groups
    groups.sort(key=lambda group: -np.count_nonzero(finite[:, group[0]]))
    joined: list[list[np.ndarray]] = []
    shared, most = np.zeros(len(finite), dtype=bool), 0
    for group in groups:
        rows = finite[:, group[0]]
        if 2 * (shared & rows).sum() > most:
            joined[-1].append(group)
            shared = shared & rows
        else:
            joined.append([group])
            shared, most = rows, int(rows.sum())
    return [np.sort(np.concatenate(parts)) for parts in joined]


def alike(marks: np.ndarray) -> list[np.ndarray]:
    """Groups of equal columns of marks (n, q) bool."""
    if not marks.size:
        return []
    if marks.all():
        return [np.arange(marks.shape[1])]
    _, which = np.unique(marks, axis=1, return_inverse=True)
    which = which.reshape(-1)
    return [np.flatnonzero(which == group) for group in range(which.max() + 1)]


def at_once() -> int:
    """How many calls `on_cores` makes at the same time."""
    return min(cores(), _CORES)


def on_cores(fn: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
    """As the builtin `map`, in at most four threads, one a core."""
    calls = list(zip(*arguments, strict=False))
    left, answers = iter(enumerate(calls)), [None] * len(calls)

    def work() -> None:
        for place, given in left:  # each thread takes the next
            answers[place] = fn(*given)

    # If one raises, such as by Ctrl-C here, the others are not waited for.
    for thread in [in_thread(work) for _ in range(min(at_once(), len(calls)))]:
        thread.result()
    return answers


class _Timed(Protocol):
    """A job."""

    @property
    def seconds(self) -> float:
        """Those since it has begun."""


def time_for_estimates(live: _Timed, deadline: float | None) -> tuple[Effort, Callable[[], float]]:
    """How rows are estimated at the end of a job, and the seconds left for it: until the deadline, or a share of its time."""
    if deadline is not None:
        return "thorough", lambda: deadline - live.seconds
    end = live.seconds + max(_SPARE * live.seconds, min(_SHORT * live.seconds, _MOST))
    return "spare", lambda: end - live.seconds


def warn_of_losses(
    inputs: InputRows,
    status: np.ndarray,
    answers: Callable[[np.ndarray], Any],
    time_left: Callable[[], float],
) -> None:
    """Warn if which rows are missing depends on their inputs, as it does if these decide how long a call takes.

    Rows with ``answers`` that are not finite count as missing: no estimates are made from them. Warn also of an answer
    that is not used because it is far beyond all others.
    """
    most = min(_TESTED, max(_LEAST_TESTED, _NUMBERS // max(1, inputs.numbers or 1)))
    rows = np.sort(np.random.default_rng(0).permutation(len(status))[:most])
    points = inputs.points(rows)
    if not np.isfinite(points).all():
        return
    lost, exact = status[rows] >= Status.FAILED, status[rows] == Status.EXACT
    odd = np.zeros(np.count_nonzero(exact), dtype=bool)
    parts = leaves(answers(rows[exact]))
    for leaf in parts:
        if leaf.dtype.kind in "fc":
            odd |= ~np.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim)))
    lost[exact] = odd
    names, quick = inputs.names(points.shape[1]), time_left() < _TESTING
    losses = dependence(points, lost, names, seed=0, quick=quick)
    if losses is not None:
        also = f", counting {odd.sum():,} with answers that are not finite" if odd.any() else ""
        warn_caller(
            f"rows are not missing at random: {losses}{also}. Estimates there rest on few answers, or on none like them, "
            "and may be biased"
        )
    used = rows[exact][~odd]
    flat = as_rows([_as_floats(leaf)[~odd] for leaf in parts], len(used)) if len(used) else None
    if flat is None:
        return
    aside = set_aside(points[exact][~odd], flat)
    beyond = described(flat, aside, lambda at: f"row {used[at]}", ["an answer"] * flat.shape[1])
    if beyond:
        warn_caller(f"{beyond}. If it is wrong, have fn raise there")


def warn_other_answers(known: int, given: int) -> None:
    """Warn that ``known`` answers have another number of numbers a row than ``given`` ones, those of ``fn``."""
    warn_caller(
        f"known answers have {many(known, 'number')} a row, and those of fn {given}: they are not used. Give answers "
        "of this fn, or leave known out"
    )


def as_rows(columns: Sequence[np.ndarray], rows: int) -> np.ndarray | None:
    """Answers of several parts as rows of numbers (n, q); None if some are not numbers, and cannot be estimated."""
    if not columns or any(column.dtype.kind not in "biuf" for column in columns):
        return None
    parts = [column.reshape(rows, -1) for column in columns]
    return np.asarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1), np.float64)


def _as_floats(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float64) if leaf.dtype.kind in "biu" else leaf


def _narrowed(part: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Numbers in the type of others, clipped to its finite range."""
    if part.dtype == like.dtype:
        return part
    limits = np.finfo(like.dtype)
    return np.asarray(np.clip(part, limits.min, limits.max).astype(like.dtype))


def _unflattened(flat: np.ndarray, tree: Any) -> Any:
    """Rows of numbers as a tree like another."""
    begin = 0

    def leaf(like: np.ndarray) -> np.ndarray:
        nonlocal begin
        begin, end = begin + int(np.prod(like.shape[1:], dtype=int)), begin
        return flat[:, end:begin].reshape(len(flat), *like.shape[1:])

    return map_leaves(leaf, tree)
