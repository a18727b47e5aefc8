"""Memory for large arrays, used again: fresh memory costs as much as what is written there."""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Buffer"]

_LITTLE = 1 << 20  # bytes below which an array gets memory of its own, which is cheap
_MUCH = 128 << 20  # bytes above which nothing is held back for another time


class Buffer:
    """Memory for one array at a time, held until its owner goes.

    The system clears what memory it gives, and that takes longer than to write a mixture of inputs
    there. So the memory of the last array is kept, and is the next one's if that is as large and
    nobody refers to the last any more: not a view of it, nor anything that was made from its memory.
    """

    def __init__(self) -> None:
        # What is taken out here is this caller's alone, whichever thread it is in.
        self._last: deque[tuple[np.ndarray, Callable[[], object]]] = deque(maxlen=1)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array with undefined entries."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if dtype.hasobject or not _LITTLE <= size <= _MUCH:
            return np.empty(shape, dtype)
        memory = self._free(size)
        # Whatever refers to the array's memory refers to this, and nothing else does.
        user: Any = (ctypes.c_char * size).from_buffer(memory.data)
        self._last.append((memory, weakref.ref(user)))
        made: np.ndarray = np.frombuffer(user, dtype).reshape(shape)
        return made

    def _free(self, size: int) -> np.ndarray:
        with contextlib.suppress(IndexError):
            memory, user = self._last.pop()
            if memory.size == size and user() is None:
                return memory
        return np.empty(size, np.uint8)
