"""Values between processes: small ones through the pipe, large buffers through shared memory.

A parcel's large buffers are in one file of the shared-memory file system. The receiver opens it,
removes its name, and maps it into memory. The sender writes it as a file: through a mapping that
would take twice as long, and the sender would be killed by SIGBUS if there were no space left.
Where there is no room (containers often have 64 MB), the buffers go through the pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import io
import mmap
import os
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property, partial
from operator import attrgetter
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

from ...errors import CannotSend, EngineError
from .descendants import SHARED

_SMALL = 64 << 10  # bytes below which the pipe is as fast
_ALIGNMENT = 64  # bytes, of the buffers in a segment
_MAP_FIXED = 0x10  # a flag of Linux's mmap; only Linux has such files
_ALIGNED = 16  # bytes, of memory that arrays of any dtype can use


@dataclass(frozen=True, slots=True)
class Parcel:
    """A pickled value and where its buffers are."""

    head: bytes
    """The value, pickled without its buffers."""
    inline: tuple[bytes | pickle.PickleBuffer, ...] = ()
    """Buffers that travel with it."""
    segment: str | None = None
    """The name of the file with the other buffers."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where in that file each of them begins and ends."""
    packer: int = 0
    """The process that has made it."""

    def __reduce_ex__(self, protocol: int) -> tuple[Any, ...]:  # type: ignore[override]
        rest = self.segment, self.spans, self.packer
        if protocol < 5 or not self.inline:
            return Parcel, (self.head, tuple(map(bytes, self.inline)), *rest)
        # Buffers that have arrived as bytes would travel on as copies inside the pickle. The head is a buffer as well:
        # Dask receives the first buffer in one block with the pickle, whatever its alignment.
        head, *parts = map(pickle.PickleBuffer, (bytearray(self.head), *self.inline))
        return _rebuild, (head, tuple(parts), *rest)

    @property
    def nbytes(self) -> int:
        """Bytes of the value as it travels."""
        shared = self.spans[-1][1] if self.spans else 0
        return len(self.head) + sum(memoryview(part).nbytes for part in self.inline) + shared


def _rebuild(head: Any, *rest: Any) -> Parcel:
    return Parcel(bytes(head), *rest)


def pack(value: Any, segment: str | None, culprit: Callable[[], str] = str) -> Parcel:
    """Pickle a value, with its large buffers in a shared segment of this name if there is room.

    Without a segment buffers stay where they are, for a cluster that sends buffers in its own way. Raises `CannotSend`
    if not even cloudpickle can pickle the value; ``culprit`` says what cannot be sent.
    """
    try:
        head, buffers = value.content if isinstance(value, PickledOnce) else _dumps(value)
    except Exception as error:
        raise CannotSend(
            f"{culprit()} cannot be sent to another process: {type(error).__name__}: {error}. Create what "
            "cannot be pickled (locks, open files, connections) inside the function, or give the "
            "worker a path or bytes to open it from"
        ) from error
    if segment is None:
        return Parcel(head, tuple(buffers), packer=os.getpid())
    raws = [buffer.raw() for buffer in buffers]
    if sum(raw.nbytes for raw in raws) >= _SMALL:
        spans = tuple(_spans(raws))
        with contextlib.suppress(OSError):
            _write(SHARED / segment, raws, spans)
            return Parcel(head, (), segment, spans)
    return Parcel(head, tuple(raw.tobytes() for raw in raws))


def pack_copy(fn: Any) -> Parcel:
    """Pickle a function that is sent later, when the caller may have changed its memory; raises `CannotSend`."""
    content = pack(fn, None, partial(culprit, fn, None))
    return Parcel(content.head, tuple(map(bytes, content.inline)))


def _dumps(value: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """A pickled value and its buffers; pickled by pickle if possible, because cloudpickle takes ten times as long."""
    buffers: list[pickle.PickleBuffer] = []
    main = sys.modules.get("__mp_main__")
    if main is not None and main.__name__ == "__mp_main__":  # in a process of multiprocessing
        cloudpickle.register_pickle_by_value(main)
    if not cloudpickle.list_registry_pickle_by_value() - {"__mp_main__"}:
        with contextlib.suppress(Exception):
            head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
            if b"_main__" not in head:  # definitions of the main module travel by value
                return head, buffers
    buffers.clear()
    return _dumps_by_value(value, buffers.append), buffers


def _dumps_by_value(value: Any, buffer_callback: Callable[[Any], object] | None = None) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


def _cached_function(fn: Any) -> Any:
    """A function with an lru_cache: by value if it is not found by its name. Cloudpickle sends only the name."""
    if fn.__module__ not in {"__main__", *cloudpickle.list_registry_pickle_by_value()}:
        with contextlib.suppress(AttributeError, KeyError):
            if attrgetter(fn.__qualname__)(sys.modules[fn.__module__]) is fn:
                return fn.__reduce__()
    return _cached, (fn.__wrapped__, fn.cache_parameters())


def _cached(fn: Any, parameters: Mapping[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(fn)


def _cached_property(made: Any) -> Any:
    """A cached property without its lock, which it has before Python 3.12."""
    state = {name: value for name, value in vars(made).items() if name != "lock"}
    return cached_property, (made.func,), state


def _code(code: CodeType) -> Any:
    """A code object with the name of its file, for tracebacks; cloudpickle leaves it out since 3.1.3."""
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    name = "".join(code.co_filename)  # a copy, so that the pickle is always the same
    return make, tuple(name if one == "<dynamic-code>" else one for one in arguments)


def _library(made: ctypes.CDLL) -> Any:
    # Its classes could be pickled, but would not be classes of functions after that.
    raise TypeError(f"cannot pickle {made!r}")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Also pickles what cloudpickle cannot send, or only in a way that cannot be opened."""

    dispatch_table: ClassVar[Any] = ChainMap(
        {
            type(cache(_dumps)): _cached_function,
            cached_property: _cached_property,
            CodeType: _code,
            ctypes.CDLL: _library,
        },
        cloudpickle.Pickler.dispatch_table,
    )

    def reducer_override(self, value: Any) -> Any:
        reduced = super().reducer_override(value)
        # Cloudpickle sets the slots of such a class when it is too late for them. Those of tuples and enumerations are
        # empty, and cannot be set earlier.
        by_value = isinstance(value, type) and reduced is not NotImplemented
        if by_value and "__slots__" in vars(value) and not issubclass(value, Enum | tuple):
            reduced[1][3]["__slots__"] = vars(value)["__slots__"]
        return reduced


class PickledOnce:
    """A function for several workers, pickled once for all of them. It can be called like the function."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __call__(self, *arguments: Any) -> Any:
        return self.fn(*arguments)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        head, buffers = self.content
        apart = buffers if protocol >= 5 else [bytearray(buffer.raw()) for buffer in buffers]
        return _unpickled, (head, apart)

    @cached_property
    def content(self) -> tuple[bytes, list[pickle.PickleBuffer]]:
        """The pickled function and its buffers, which are the function's own memory."""
        return _dumps(self.fn)

    def forget(self) -> None:
        """Pickle the function again if it is sent once more."""
        self.__dict__.pop("content", None)

    def digest(self) -> bytes:
        """A digest of the content as it is now."""
        head, buffers = self.content
        made = hashlib.blake2b(head, digest_size=16)
        for buffer in buffers:
            made.update(buffer.raw())
        return made.digest()


def _unpickled(head: bytes, buffers: list[Any]) -> Any:
    return pickle.loads(head, buffers=buffers)


@dataclass(frozen=True, slots=True)
class Received:
    """A parcel whose buffers are in this process's own memory, not yet unpickled."""

    head: bytes
    buffers: tuple[bytearray | memoryview, ...]

    def unpack(self) -> Any:
        """The value; its arrays are views of these buffers, writable and not copied."""
        return pickle.loads(self.head, buffers=self.buffers)


def receive(parcel: Parcel) -> Received:
    """Take over a parcel's buffers; its segment has no name any more then.

    Raises `EngineError` if it cannot be opened.
    """
    if parcel.segment is None:
        travelled = parcel.packer != os.getpid()
        return Received(parcel.head, tuple(_writable(part, travelled) for part in parcel.inline))
    path = SHARED / parcel.segment
    try:
        with path.open("r+b") as file:
            path.unlink()
            memory = memoryview(_mapped(file.fileno()))
    except OSError as error:
        raise EngineError(
            f"what another process has sent cannot be opened ({error}): is there memory left, are too many files open?"
        ) from error
    return Received(parcel.head, tuple(memory[a:b] for a, b in parcel.spans))


@cache
def _mapping() -> Any:
    """The system's mmap, which maps a file to a given address."""
    found = ctypes.CDLL(None, use_errno=True).mmap
    found.restype = ctypes.c_void_p
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    return found


def _mapped(file: int) -> mmap.mmap:
    """An open file in memory, which keeps no descriptor open, so that callers may keep any number of answers."""
    size = os.fstat(file).st_size
    if sys.version_info >= (3, 13):
        return mmap.mmap(file, size, trackfd=False)
    memory = mmap.mmap(-1, size)  # addresses to which the file is mapped
    place = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    allowed = mmap.PROT_READ | mmap.PROT_WRITE
    if _mapping()(place, size, allowed, mmap.MAP_SHARED | _MAP_FIXED, file, 0) != place:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return memory


def _writable(part: bytes | pickle.PickleBuffer, travelled: bool) -> bytearray | memoryview:
    """A part as writable memory that is not shared: a copy, or the block in which it was received.

    A part from another process that fills a writable block was received into that block. It may be marked
    read-only because it was read-only where it was packed.
    """
    view = memoryview(part)
    if travelled and view.obj is not None:
        block = memoryview(view.obj)
        if not block.readonly and block.c_contiguous and block.nbytes == view.nbytes:
            flat = block.cast("B")
            if flat.nbytes and ctypes.addressof(ctypes.c_char.from_buffer(flat)) % _ALIGNED == 0:
                return flat
    return bytearray(view)


def culprit(fn: Any, payload: Any) -> str:
    """Which of the two cannot be sent, for a message."""
    fn = _plain(fn)
    inner = getattr(fn, "fn", fn)  # of a task
    kind = type(payload)
    own = kind.__module__.startswith("codedmap.")  # the rows that it holds are the caller's
    what = "the inputs" if own else f"the payload, of type {kind.__name__},"
    return _unsendable(inner) or _unsendable(fn) or what


def culprit_kept(value: Any) -> str:
    """The part of a value to keep that cannot be sent, for a message: if it wraps a function, perhaps that."""
    value = _plain(value)
    what = "what kwargs holds" if getattr(value, "kwargs", None) else "the value to keep"
    return _unsendable(getattr(value, "fn", None)) or what


def _plain(fn: Any) -> Any:
    return fn.fn if isinstance(fn, PickledOnce) else fn


def _unsendable(fn: Any) -> str:
    try:
        _dumps_by_value(fn)
    except Exception:
        named = fn
        # The function in an Itemwise, a function of a pool, or a partial.
        while not hasattr(named, "__qualname__") and (
            inner := getattr(named, "fn", None) or getattr(named, "func", None)
        ):
            named = inner
        return f"the function {getattr(named, '__qualname__', type(named).__qualname__)}"
    return ""


def discard(segment: str) -> None:
    """Remove a segment that its receiver will never open, if it exists."""
    with contextlib.suppress(OSError):  # also where nothing can be written
        (SHARED / segment).unlink()


def _spans(raws: list[memoryview]) -> Iterator[tuple[int, int]]:
    end = 0
    for raw in raws:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + raw.nbytes
        yield start, end


def _write(path: Path, raws: list[memoryview], spans: tuple[tuple[int, int], ...]) -> None:
    # Opened in one step: an interrupt between two steps would leave a descriptor open.
    with open(path, "xb", opener=partial(os.open, mode=0o600)) as file:
        try:
            for raw, (start, _) in zip(raws, spans, strict=True):
                file.seek(start)
                file.write(raw)
        except BaseException:
            path.unlink()
            raise
