"""What runs in a worker: the caller's function on a batch of rows."""

from __future__ import annotations

import contextlib
import io
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from ..contracts.answers import as_array
from ..contracts.engine import Reply
from ..contracts.inputs import check_plain, reordered
from ..engines import Resident
from ..engines.transport.failure import Failure
from ..engines.transport.serve import OnlyHere, Terminated
from ..errors import CodedmapError, InvalidAnswer
from ..results.trees import Rows, as_numpy, check_parts, leaf_rows, map_leaves, stacked

_LONGEST = 100_000  # most bytes of output that a call sends back
_SCALARS = {float, int, bool, complex, str, bytes, np.float64, np.float32, np.int64, np.bool_}
_running = threading.local()  # its ``depth`` is above 0 in a thread that runs a call
_RAISED = object()  # stands for the answer of a function that has raised
_STREAMS = "stdout", "stderr"
_ENDS = KeyboardInterrupt, Terminated  # end the call; all else that ``fn`` raises costs its row
OUTPUT = "_codedmap_output"
"""The attribute of an exception that holds what its call has printed, on the way to the caller."""
Computed = tuple[Any, dict[int, Failure], int | None]  # as in `Reply`: values, raised and done


def in_worker() -> bool:
    """Whether this thread runs a call of `codedmap.map`."""
    return getattr(_running, "depth", 0) > 0


def raised_by_fn(error: BaseException) -> bool:
    """Whether ``fn`` has raised this, perhaps from an engine of its own, and not the engine that runs it."""
    return getattr(error, "_of_fn", False)


@dataclass(frozen=True, slots=True)
class Itemwise:
    """A function of one input, applied to each row of a batch; made by `itemwise`."""

    fn: Callable[..., Any]

    def __call__(self, *batch: Any, **keywords: Any) -> Any:
        rng = keywords.pop("rng", None)
        answers = []
        for place, item in enumerate(zip(*map(_items, batch), strict=True)):
            own = keywords if rng is None else {**keywords, "rng": rng[place]}
            answers.append(_kept(self.fn(*item, **own)))
        return stacked(answers)


def itemwise(fn: Callable[..., Any]) -> Itemwise:
    """Lift a function of one input to one of a batch, as `map` needs it.

    The inputs of a batch are computed one after another. An input for which ``fn`` raises costs only itself, and those
    behind a slow input are computed elsewhere.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> cm.itemwise(lambda x: x.sum())(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([3., 7.])
    """
    return Itemwise(fn)


def is_itemwise(fn: Any) -> bool:
    """Whether a function is lifted by `itemwise`, perhaps as a `Resident`."""
    return isinstance(fn.fn if isinstance(fn, Resident) else fn, Itemwise)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that a worker is sent."""

    parts: tuple[Any, ...]
    """The arguments of ``fn``."""
    rows: int
    numbers: range | np.ndarray
    """The numbers of the rows among all inputs."""
    halve: Literal["", "first", "all"] = ""
    """Which rows for which ``fn`` raises are found by halving the batch: none, the first, or all."""
    limit: float = math.inf
    """Seconds after which no further row is computed."""
    step: int = 1
    """Rows that are computed at a time, if there is a limit; an `Itemwise` function computes one."""

    def part(self, begin: int, end: int) -> Batch:
        """Some of the rows."""
        parts = tuple(part[begin:end] for part in self.parts)
        return Batch(parts, end - begin, self.numbers[begin:end], self.halve)


@dataclass(frozen=True, slots=True)
class RowsTask:
    """The caller's function with what it needs besides its inputs."""

    fn: Callable[..., Any]
    kwargs: Mapping[str, Any]
    seed: int | None
    capture: bool
    """Whether to send back what ``fn`` prints and warns; not in the caller's process."""
    checked: bool = True
    """Whether an answer must have a row for each input; if not, it is sent back as it is."""

    def __call__(self, batch: Batch) -> Reply:
        # In an engine of threads fn sees the caller's own memory; other engines are alike in this.
        for part in batch.parts:
            if isinstance(part, np.ndarray):
                part.flags.writeable = False
        return _reply(lambda: self._computed(batch), capture=self.capture)

    def _computed(self, batch: Batch) -> Computed:
        keywords = dict(self.kwargs)
        rng = None if self.seed is None else [_stream(self.seed, row) for row in batch.numbers]
        if isinstance(self.fn, Itemwise):
            return _one_by_one(self.fn.fn, batch, keywords, rng)
        if batch.limit < math.inf:
            return self._in_parts(batch, batch.step)
        if rng is not None:
            keywords["rng"] = rng
        try:
            values = self.fn(*batch.parts, **keywords)
        except _ENDS:
            raise
        except BaseException as error:
            if isinstance(error, CodedmapError | BrokenExecutor | CancelledError):
                error._of_fn = True  # type: ignore[union-attr]
            if not batch.halve:
                raise
            if batch.rows == 1:
                return None, {0: Failure.of(error)}, None
            values = _RAISED
        if values is _RAISED:  # here, so that what a part raises has not this error as its context
            return self._in_parts(batch, -(-batch.rows // 2))
        in_process = not self.capture  # fn may write its next answer into the memory of this one
        if not self.checked:
            array = as_array(values) if in_process else None
            return array.copy() if isinstance(array, np.ndarray) else values, {}, None
        values = plain(values)
        check_parts(values)
        values = map_leaves(partial(_in_order, batch), values)
        return map_leaves(own_copy, values) if in_process else values, {}, None

    def _in_parts(self, batch: Batch, step: int) -> Computed:
        """Compute ``step`` rows at a time, until the limit of the batch."""
        answers, raised, done = Rows(batch.rows), dict[int, Failure](), None
        until = time.perf_counter() + batch.limit
        for begin in range(0, batch.rows, step):
            end = min(begin + step, batch.rows)
            values, failures, _ = self._computed(batch.part(begin, end))
            raised |= {begin + place: failure for place, failure in failures.items()}
            if raised and batch.halve == "first":
                return None, raised, None
            good = np.delete(np.arange(begin, end), list(failures))
            if len(good):
                answers.put(good, len(good), values)
            if time.perf_counter() > until and end < batch.rows:
                done = end
                break
        count = done or batch.rows
        if len(raised) == count:
            return None, raised, done
        good = np.delete(np.arange(count), list(raised))
        whole = answers.values(np.zeros(batch.rows, dtype=bool))
        return map_leaves(lambda leaf: leaf[good], whole), raised, done


@dataclass(frozen=True, slots=True)
class Measured:
    """A function whose answers say how long they took."""

    fn: Callable[[Any], Any]

    def __call__(self, payload: Any) -> Reply:
        return _reply(lambda: (self.fn(payload), {}, None), capture=False)


def _reply(compute: Callable[[], Computed], *, capture: bool) -> Reply:
    began, start = time.time(), time.perf_counter()
    _running.depth = getattr(_running, "depth", 0) + 1
    try:
        with OnlyHere(), _captured() if capture else contextlib.nullcontext() as output:
            values, raised, done = compute()
    except BaseException as error:
        if output is not None:
            vars(error)[OUTPUT] = output.text()
        raise
    finally:
        _running.depth -= 1
    seconds = time.perf_counter() - start
    text = "" if output is None else output.text()
    return Reply(values, seconds, began, socket.gethostname(), os.getpid(), raised, text, done)


@dataclass(frozen=True, slots=True)
class TaskOf:
    """Makes a function a task, for `Resident.on`; equal if it makes equal tasks."""

    capture: bool
    checked: bool

    def __call__(self, fn: Callable[..., Any]) -> RowsTask:
        return RowsTask(fn, {}, None, self.capture, self.checked)


def _one_by_one(
    fn: Callable[..., Any],
    batch: Batch,
    keywords: dict[str, Any],
    rng: Sequence[np.random.Generator] | None,
) -> Computed:
    answers: dict[int, Any] = {}
    raised: dict[int, Failure] = {}
    here, done, end = OnlyHere(), None, time.perf_counter() + batch.limit
    for place, item in enumerate(zip(*map(_items, batch.parts), strict=True)):
        if rng is not None:
            keywords["rng"] = rng[place]
        try:
            with here:
                answer = fn(*item, **keywords)
            answers[place] = _kept(answer)
        except _ENDS:
            raise
        except BaseException as error:
            raised[place] = Failure.of(error)
        if time.perf_counter() > end and place + 1 < batch.rows:
            done = place + 1
            break
    if not answers:
        return None, raised, done
    try:
        return stacked(list(answers.values())), raised, done
    except InvalidAnswer:
        alike, odd = _alike(answers)
        return stacked(alike), {**raised, **odd}, done


def _alike(answers: Mapping[int, Any]) -> tuple[list[Any], dict[int, Failure]]:
    """The answers of the form that most have, and for every other, by its place, why it does not fit them."""
    groups: list[list[int]] = [[]]
    odd = {place: _differs(answer, answer) for place, answer in answers.items()}
    for place in (place for place, error in odd.items() if error is None):
        for group in groups:
            if not group or _differs(answers[group[0]], answers[place]) is None:
                group.append(place)
                break
        else:
            groups.append([place])
    most = max(groups, key=len) or list(answers)
    odd |= {p: odd[p] or _differs(answers[most[0]], answers[p]) for p in answers}
    reasons = {place: Failure.of(error) for place, error in odd.items() if error is not None}
    alike = [answer for place, answer in answers.items() if place not in reasons]
    return alike or list(answers.values()), reasons


def _differs(usual: Any, other: Any) -> InvalidAnswer | None:
    """Why two answers cannot be stacked; None if they can."""
    try:
        stacked([usual, other])
    except InvalidAnswer as error:
        return error
    return None


def _stream(seed: int, row: int) -> np.random.Generator:
    """The random generator of a row, the same in every call that computes it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(row),)))


def _items(part: Any) -> Iterator[Any]:
    """The single inputs of a batch."""
    if hasattr(part, "iloc"):
        return (part.iloc[place] for place in range(len(part)))
    if hasattr(part, "iter_rows"):
        return iter(part.iter_rows(named=True))
    return iter(part)


def _in_order(batch: Batch, leaf: Any) -> np.ndarray:
    """A leaf of the answer to a batch as an array; raises `InvalidAnswer` if its rows are not those of the batch."""
    index: Any = getattr(leaf, "index", None)
    numbered = type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
    if not numbered and any(reordered(part, leaf) for part in batch.parts):
        raise InvalidAnswer(
            "fn returned the rows of its batch in another order, by their index: return answer.loc[batch.index]"
        )
    return leaf_rows(as_numpy(leaf), batch.rows)


def plain(values: Any) -> Any:
    """An answer in which a data frame, or a table of Arrow, is a dict of columns."""
    if hasattr(values, "columns") and (hasattr(values, "to_numpy") or hasattr(values, "to_pydict")):
        return {name: values[name] for name in getattr(values, "column_names", values.columns)}
    return values


def _kept(answer: Any) -> Any:
    """A copy of the answer to one input: ``fn`` may write its next answer into the same memory."""
    kind = type(answer)  # the usual types first, because a row may take microseconds
    if kind in _SCALARS:
        return answer
    if kind is np.ndarray:
        return own_copy(answer)
    if kind is dict:
        return {n: v if type(v) in _SCALARS else map_leaves(_own, v) for n, v in answer.items()}
    return map_leaves(_own, plain(named(answer)))


def _own(leaf: Any) -> Any:
    if isinstance(leaf, np.generic):
        return leaf
    leaf = as_numpy(leaf)
    tensor = hasattr(leaf, "dtype") and hasattr(leaf, "__array__")
    if not tensor or isinstance(leaf, np.ndarray):
        return own_copy(leaf)
    check_plain(leaf, "what fn returned", InvalidAnswer)
    return np.array(leaf)


def own_copy(value: Any) -> Any:
    """A deep copy of an array, list, tuple, dict or set; anything else as it is."""
    if isinstance(value, np.ndarray):
        copied = value.copy()
        if value.dtype == object and value.ndim:
            for at in np.ndindex(value.shape):
                copied[at] = own_copy(value[at])
        return copied
    kind = type(value)
    if kind is list:
        plain = {*map(type, value)} <= _SCALARS
        return value.copy() if plain else [*map(own_copy, value)]
    if kind is tuple or (isinstance(value, tuple) and hasattr(kind, "_make")):
        return getattr(kind, "_make", tuple)(map(own_copy, value))
    if kind is dict:
        return {name: own_copy(entry) for name, entry in value.items()}
    return value.copy() if kind is set else value


def named(answer: Any) -> Any:
    """An answer to a single input in which a pandas series with labels is a dict."""
    index: Any = getattr(answer, "index", None)
    if hasattr(answer, "iloc") and answer.ndim == 1 and len(index) and index.is_unique:
        return dict(answer.items()) if all(isinstance(n, str) for n in index) else answer
    return answer


class _Output(io.BytesIO):
    """What ``fn`` prints and warns. Programs that it gives this as their output print to the output of the worker."""

    left_out = 0
    """Bytes that were written and not kept."""

    def write(self, data: Any) -> int:
        """Write what there is room for; the rest is counted."""
        data = memoryview(data).cast("B")
        taken = data[: max(0, _LONGEST - self.tell())]
        self.left_out += len(data) - super().write(taken)
        return len(data)

    def text(self) -> str:
        """What was written, and how much was left out."""
        text = self.getvalue().decode(errors="replace")
        return f"{text}\n... and {self.left_out:,} bytes more" if self.left_out else text

    def close(self) -> None:
        """Keep the text: ``fn`` may close what it prints to."""

    def fileno(self) -> int:
        return 1


class _Text(io.TextIOWrapper):
    """Replaces the outputs of the process until a call is over; calls in other threads may begin and end meanwhile."""

    def __init__(self, output: _Output) -> None:
        super().__init__(
            output, encoding="utf-8", errors="backslashreplace", newline="", write_through=True
        )
        self.before = {name: getattr(sys, name) for name in _STREAMS}
        self.over = False


@contextlib.contextmanager
def _captured() -> Iterator[_Output]:
    output = _Output()
    text = _Text(output)
    for name in _STREAMS:
        setattr(sys, name, text)
    try:
        yield output
    finally:
        text.over = True
        for name in _STREAMS:
            now = getattr(sys, name)
            now = now if isinstance(now, _Text) else text  # fn may have put another in its place
            while isinstance(now, _Text) and now.over:
                now = now.before[name]
            setattr(sys, name, now)
