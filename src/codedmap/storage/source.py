"""Inputs that need not fit into memory: arrays on disk, Parquet files, iterators of batches."""

from __future__ import annotations

import bisect
import importlib
import mmap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import lru_cache
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from ..contracts.answers import has_units
from ..contracts.closing import Closing
from ..contracts.inputs import check_plain
from ..errors import InvalidArgument, many
from ..execution.job_rows import runs_of
from ..results.trees import as_objects

_END = object()  # stands for the end of an iterator
_SLOW = 0.1  # seconds of reading an iterator after which the rows read so far are computed
_UNMAP = 32 << 20  # bytes of a memory map that are read before its pages are dropped
_KEPT = 64 << 20  # bytes of chunks, or row groups, that are kept, since their rows are read in turn
_LARGEST = 256 << 20  # chunks of Zarr or HDF5 whose rows take more bytes are not kept
_VISITS = 8  # times, about, that a chunk is read at most in a random order, if not all are kept


def extra(name: str, what: str) -> Any:
    """A package that only some sources and outputs need; raises `InvalidArgument` if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InvalidArgument(
            f"{what} needs {name.partition('.')[0]}, which is not installed: pip install 'codedmap[storage]'"
        ) from error


def opened(inputs: Any, stack: ExitStack) -> Any:
    """Inputs of `map`, in which those that are read a few rows at a time are sources; the stack closes them."""
    if isinstance(inputs, tuple) and not hasattr(inputs, "_fields"):
        return tuple(_opened(part, None) for part in inputs)
    return _opened(inputs, stack)


def _opened(part: Any, stack: ExitStack | None) -> Any:
    if isinstance(part, str | Path):
        return _ParquetRows(Path(part))
    if isinstance(part, Iterator) and not isinstance(part, str | bytes):
        if stack is None:
            raise InvalidArgument(
                "one of several inputs is an iterator, and they are read row by row: give arrays or lists"
            )
        part = Batches(part)
    if isinstance(part, Batches) and stack is not None:
        return stack.enter_context(part)
    if hasattr(part, "to_dataset") and part.chunks:  # an array of xarray over one of Dask
        part = part.data
    return _ArrayRows(part) if _is_lazy(part) else part


def _is_lazy(part: Any) -> bool:
    if isinstance(part, np.ndarray):
        return isinstance(part, np.memmap) and part.ndim > 0
    in_memory = hasattr(part, "iloc") or has_units(type(part))
    if in_memory or not all(hasattr(part, n) for n in ("shape", "dtype", "__getitem__")):
        return False
    try:
        np.dtype(part.dtype)
    except TypeError:  # a dtype of its own library: the array is in memory
        return False
    return isinstance(part.shape, tuple) and len(part.shape) > 0


def _reading(error: Exception, begin: int) -> InvalidArgument:
    """The error for inputs that cannot be read."""
    return InvalidArgument(
        f"the inputs raised {type(error).__name__} when rows from {begin:,} on were read: {error}. See what keeps them "
        "from being read, and go on with resume=True if the job has an output"
    )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    # Without a dtype NumPy would change the byte order to the machine's, and so the checksum.
    dtypes = {part.dtype for part in parts}
    return np.concatenate(parts, dtype=dtypes.pop() if len(dtypes) == 1 else None)


def read_runs(array: Any, runs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Runs of rows of anything with slices; of a Zarr array all at once, which decompresses each chunk only once."""
    if len(runs) > 1 and hasattr(array, "oindex"):
        return np.asarray(array.oindex[_numbers(runs)])
    return _joined([np.asarray(array[begin:end]) for begin, end in runs])


def write_runs(array: Any, runs: Sequence[tuple[int, int]], values: np.ndarray) -> None:
    """Write runs of rows, as `read_runs` reads them."""
    if len(runs) > 1 and hasattr(array, "oindex"):
        array.oindex[_numbers(runs)] = values
        return
    at = 0
    for begin, end in runs:
        array[begin:end] = values[at : at + end - begin]
        at += end - begin


def _numbers(runs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The rows of runs."""
    return np.concatenate([np.arange(begin, end) for begin, end in runs])


def _block(firsts: Sequence[int] | np.ndarray, kept: int) -> int:
    """Rows that stay together in a random order, if not all chunks, which begin at ``firsts``, are kept."""
    sizes = np.diff(firsts)
    return 1 if len(sizes) <= kept else max(1, int(sizes.max()) // _VISITS)


class Chunks:
    """Chunks of an array, the last of which are kept, because each slice of a chunk computes or decompresses all of it.

    ``firsts`` are their first rows, and the number of all rows; ``kept`` is how many are kept. More than ``most`` rows,
    as they are in many chunks, are read at once.
    """

    def __init__(self, array: Any, firsts: np.ndarray, kept: int, most: int) -> None:
        self._array, self._firsts, self._most = array, firsts, most
        self._chunk = lru_cache(kept)(self._read)

    def take(self, runs: Sequence[tuple[int, int]]) -> np.ndarray:
        """Some runs of rows, in any order."""
        rows = _numbers(runs)
        if len(rows) > self._most:
            return read_runs(self._array, runs)
        numbers = np.searchsorted(self._firsts, rows, side="right") - 1
        parts = [
            self._chunk(n)[rows[numbers == n] - self._firsts[n]]
            for n in np.unique(numbers).tolist()
        ]
        return _joined(parts)[np.argsort(np.argsort(numbers, kind="stable"))]

    def _read(self, number: int) -> np.ndarray:
        return np.asarray(self._array[self._firsts[number] : self._firsts[number + 1]])


class _ArrayRows:
    """Rows of anything with shape, dtype and slices: a memory map, a Zarr or Dask array, an HDF5 data set."""

    def __init__(self, array: Any) -> None:
        if not all(isinstance(size, Integral) for size in array.shape):
            raise InvalidArgument(
                f"the inputs have shape {array.shape}, and how many rows there are must be known: call "
                "compute_chunk_sizes() of a Dask array first, or give an iterator of batches"
            )
        self._array, self.rows = array, int(array.shape[0])
        self.form = [np.dtype(array.dtype).str, list(map(int, array.shape[1:]))]
        self._file = getattr(array, "filename", None) if isinstance(array, np.memmap) else None
        self._size = self._file_size()
        self._read = 0
        self._chunks: Chunks | None = None
        self.block = 1
        chunks = getattr(array, "chunks", None)
        if isinstance(chunks, tuple):
            size = chunks[0]  # for Dask a tuple of the sizes of all chunks
            regular = isinstance(size, Integral)
            firsts = np.r_[0 : self.rows : size, self.rows] if regular else np.cumsum([0, *size])
            most = int(np.diff(firsts).max(initial=0) * np.prod(array.shape[1:], dtype=np.int64))
            most *= np.dtype(array.dtype).itemsize
            kept = max(1, _KEPT // max(1, most))
            self.block = _block(firsts, kept)
            if not regular or most <= _LARGEST:
                self._chunks = Chunks(array, firsts, kept, size if regular else self.rows)

    def take(self, at: slice | np.ndarray) -> np.ndarray:
        """Some rows, in memory."""
        runs = runs_of(at)
        now, size = self._array.shape[0], self._file_size()
        if now != self.rows or size != self._size:
            raise InvalidArgument(
                f"the inputs had {many(self.rows, 'row')} when the job began, and have {now:,} now, or their file has another "
                "size: what was computed before is kept; begin anew with inputs that stay as they are"
            )
        try:
            if self._file is not None:
                rows = self._mapped(at)
            elif self._chunks is not None:
                rows = self._chunks.take(runs)
            else:
                rows = read_runs(self._array, runs)
        except Exception as error:
            raise _reading(error, runs[0][0]) from error
        check_plain(rows)
        if rows.shape != (sum(end - begin for begin, end in runs), *self._array.shape[1:]):
            raise InvalidArgument(
                f"rows from {runs[0][0]:,} on of the inputs have shape {rows.shape}, and by their shape as a whole "
                f"rows of {tuple(self.form[1])} are expected: give an array that can be sliced by rows"
            )
        return rows

    def _mapped(self, at: slice | np.ndarray) -> np.ndarray:
        rows = np.array(self._array[at])
        self._read += rows.nbytes
        if self._read > _UNMAP and self._array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
            self._array._mmap.madvise(mmap.MADV_DONTNEED)  # pages that were read count as memory
            self._read = 0
        return rows

    def _file_size(self) -> int | None:
        # To read a page that the file no longer has would end the process.
        return Path(self._file).stat().st_size if isinstance(self._file, str | Path) else None


class _ParquetRows:
    """Rows of a Parquet file as data frames, a row group at a time."""

    def __init__(self, path: Path) -> None:
        if path.suffix != ".parquet":
            raise InvalidArgument(
                f"inputs={str(path)!r}: a path must be that of a .parquet file; open others yourself, such as with "
                "numpy.load(path, mmap_mode='r')"
            )
        parquet = extra("pyarrow.parquet", f"inputs={str(path)!r}")
        self._pandas = extra("pandas", f"inputs={str(path)!r}")
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"{path} cannot be read as Parquet ({error}): check the path, or of a folder of files give "
                "pandas.read_parquet(path)"
            ) from error
        data = self._file.metadata
        sizes = [data.row_group(group).num_rows for group in range(data.num_row_groups)]
        self._firsts = [0, *np.cumsum(sizes).tolist()]
        self.rows = int(self._firsts[-1])
        self.form = [[field.name, str(field.type)] for field in self._file.schema_arrow]
        # If there is a null, pandas turns integers into floats, but only in row groups with one: do so in all.
        groups = [data.row_group(group) for group in range(data.num_row_groups)]
        columns = [group.column(n) for group in groups for n in range(group.num_columns)]
        found = [(c.path_in_schema, c.statistics) for c in columns]
        nulls = {name for name, known in found if known is None or known.null_count != 0}
        wider = {"int": np.float64, "uint": np.float64, "bool": object}
        kinds = [(name, wider.get(kind.rstrip("0123456789"))) for name, kind in self.form]
        self._wider = {name: kind for name, kind in kinds if kind and name in nulls}
        most = max((group.total_byte_size for group in groups), default=0)
        kept = max(2, _KEPT // max(1, most))
        self._group = lru_cache(kept)(self._read_group)
        self.block = _block(self._firsts, kept)

    def take(self, at: slice | np.ndarray) -> Any:
        """Some rows, as one frame."""
        rows = np.arange(at.start, at.stop) if isinstance(at, slice) else at
        groups = np.searchsorted(self._firsts, rows, side="right") - 1
        cuts = np.r_[0, np.flatnonzero(np.diff(groups)) + 1, len(rows)]
        parts = []
        for begin, end in pairwise(cuts.tolist()):
            group = int(groups[begin])
            parts.append(self._group(group).iloc[rows[begin:end] - self._firsts[group]])
        return parts[0] if len(parts) == 1 else self._pandas.concat(parts)

    def _read_group(self, number: int) -> Any:
        try:
            frame = self._file.read_row_group(number).to_pandas()
            if isinstance(frame.index, self._pandas.RangeIndex):  # it counts from 0 in each group
                frame.index += self._firsts[number]
            plain = {name for name in frame.columns if isinstance(frame[name].dtype, np.dtype)}
            return frame.astype({n: kind for n, kind in self._wider.items() if n in plain})
        except Exception as error:
            raise _reading(error, self._firsts[number]) from error


class Batches(Closing):
    """Rows of an iterator, kept until they are computed; a thread reads it, so that nothing waits for a slow one.

    ``checked`` makes a batch of each item of the iterator; by default items have to be arrays of rows.
    """

    def __init__(self, batches: Iterator[Any], checked: _Checked | None = None) -> None:
        self._held = deque[list[Any]]()  # [first row, array, rows not done]
        self.rows = 0  # read so far
        self._requests: SimpleQueue[tuple[int, Future[_Read]] | None] = SimpleQueue()
        given = batches, checked or _checked, self._requests
        try:
            threading.Thread(target=_read, args=given, daemon=True).start()
            self.add(self.read(1).result())
        except BaseException:
            self.close()
            raise
        first = self._held[0][1] if self._held else np.empty(0)
        self.form = [first.dtype.str, list(first.shape[1:])]

    def read(self, rows: int) -> Future[_Read]:
        """Begin to read at least so many rows more, unless the iterator ends or is slow; `add` takes the result."""
        future: Future[_Read] = Future()
        self._requests.put((rows, future))
        return future

    def add(self, read: _Read) -> int:
        """Add what was read; returns how many rows it is."""
        before = self.rows
        batches, self.ended = read
        for batch in batches:
            self._held.append([self.rows, batch, len(batch)])
            self.rows += len(batch)
        return self.rows - before

    def close(self) -> None:
        self._requests.put(None)

    def take(self, at: slice | np.ndarray) -> np.ndarray:
        """Some rows that are not done."""
        return _joined([held[1][start : start + n] for held, start, n in self._pieces(at)])

    def done(self, at: slice | np.ndarray) -> None:
        """Note that rows are not needed any more."""
        for held, _, count in self._pieces(at):
            held[2] -= count
        while self._held and not self._held[0][2]:
            self._held.popleft()

    def _pieces(self, at: slice | np.ndarray) -> Iterator[tuple[list[Any], int, int]]:
        """For each part of these rows what holds it, from which row of that on, and how many rows."""
        firsts = [first for first, _, _ in self._held]
        for begin, end in runs_of(at):
            while begin < end:
                held = self._held[bisect.bisect(firsts, begin) - 1]
                count = min(end, held[0] + len(held[1])) - begin
                yield held, begin - held[0], count
                begin += count  # noqa: PLW2901


_Read = tuple[list[np.ndarray], bool]  # batches, and whether they are the last
_Checked = Callable[[Any, np.ndarray | None], np.ndarray]
"""Called with an item of the iterator, and the first batch: a batch."""


def _read(
    batches: Iterator[Any],
    checked: _Checked,
    requests: SimpleQueue[tuple[int, Future[_Read]] | None],
) -> None:
    """Read as many rows as are requested, or as come in a short time, until the request is None."""
    read, first, ended = 0, None, False
    got: list[np.ndarray] = []  # batches that are not handed on yet
    failure: BaseException | None = None
    lock = threading.Lock()

    def give(future: Future[_Read], *, late: bool = False) -> None:
        with lock:
            if future.done() or (late and not got):
                return
            if failure is None:
                future.set_result((got.copy(), ended))
                got.clear()
            else:
                future.set_exception(failure)

    while (request := requests.get()) is not None:
        wanted, future = request
        enough, until = read + wanted, time.monotonic() + _SLOW
        # Hands on rows while `next` is waiting: the iterator may itself wait for their answers.
        timer = threading.Timer(_SLOW, give, (future,), {"late": True})
        timer.daemon = True
        try:
            timer.start()
            while not ended and read < enough and requests.empty() and not future.done():
                if got and time.monotonic() > until:
                    break
                try:
                    batch = next(batches, _END)
                except Exception as error:
                    raise _reading(error, read) from error
                ended = batch is _END
                array = np.empty(0) if ended else checked(batch, first)
                if len(array):
                    first = array if first is None else first
                    read += len(array)
                    with lock:
                        got.append(array)
        except BaseException as error:
            failure = error
        timer.cancel()
        give(future)


def single(item: Any, first: np.ndarray | None) -> np.ndarray:
    """An input of any kind as a batch of one."""
    return as_objects([item])


def _checked(batch: Any, first: np.ndarray | None) -> np.ndarray:
    """A batch as an array of the form of the first; a copy, because an iterator may reuse the memory of its items.

    A tuple is no batch: elsewhere it is several inputs, and iterators that give tuples mostly give one for each row.
    """
    check_plain(batch)
    array = None if hasattr(batch, "columns") or isinstance(batch, tuple) else np.array(batch)
    if array is None or array.ndim == 0 or array.dtype.hasobject:
        raise InvalidArgument(
            f"the iterator gave an object of type {type(batch).__name__}, and it must give batches, each an array of rows: for "
            "one of single inputs give list(inputs), or batch them with numpy.stack; of a data frame give "
            "frame.to_numpy()"
        )
    if first is not None and (array.dtype, array.shape[1:]) != (first.dtype, first.shape[1:]):
        raise InvalidArgument(
            f"the iterator gave rows of shape {array.shape[1:]} and dtype {array.dtype} after others of shape "
            f"{first.shape[1:]} and dtype {first.dtype}: let it give rows of one shape, and each batch by "
            "batch.astype(dtype), of text with room for the longest, such as 'U100'"
        )
    return array
