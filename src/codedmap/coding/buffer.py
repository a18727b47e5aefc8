"""Memory for large arrays, used again: fresh memory costs as much as what is written there."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Buffer"]

_Lent = tuple[np.ndarray, Callable[[], object]]
"""Memory, and what returns its user, or None when that is gone."""

_LITTLE = 1 << 20  # bytes below which an array gets memory of its own, which is cheap
_MUCH = 128 << 20  # bytes above which nothing is held back for another time


class Buffer:
    """Memory for arrays that follow one another, the last two of which are held until its owner goes.

    The system clears what memory it gives, and that takes longer than to write a mixture of inputs
    there. So memory is kept, and is the next array's if that is as large and nobody refers to what
    was there any more: not to a view of it, nor to anything that was made from its memory. Two,
    because somebody may still be busy with the last array when the next is made.
    """

    def __init__(self) -> None:
        # What is taken out here is this caller's alone, whichever thread it is in.
        self._last: deque[_Lent] = deque(maxlen=2)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """An array with undefined entries."""
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or not _LITTLE <= size <= _MUCH:
            return np.empty(shape, dtype)
        memory = self._free(size)
        # Whatever refers to the array's memory refers to this, and nothing else does.
        user: Any = (ctypes.c_char * size).from_buffer(memory.data)
        self._last.append((memory, weakref.ref(user)))
        made: np.ndarray = np.frombuffer(user, dtype).reshape(shape)
        return made

    def _free(self, size: int) -> np.ndarray:
        """Memory that nobody refers to; what is in use is kept for later, what is of another size is not."""
        lent: list[_Lent] = []
        while self._last:
            try:
                memory, user = self._last.popleft()
            except IndexError:  # another thread was faster
                break
            if memory.size != size:
                continue
            if user() is None:
                self._last.extendleft(reversed(lent))
                return memory
            lent.append((memory, user))
        if 2 * size <= _MUCH:
            self._last.extendleft(reversed(lent))
        return np.empty(size, np.uint8)
