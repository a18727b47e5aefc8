"""A .npy file to which rows are added, and which is a whole one at any time."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgument

__all__ = ["Growing"]


class Growing:
    """A .npy file whose header is brought up to date after the rows.

    Parameters
    ----------
    path : Path
    dtype, shape
        Of a row.
    rows : int
        How many of it are there; 0: it is a new file.

    Raises
    ------
    InvalidArgument
        If it cannot be written, or is not what it would have to be.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], rows: int) -> None:
        self._path, self._dtype, self._shape, self._rows = path, dtype, shape, rows
        self._row = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        self._begin = len(self._header())
        flags = os.O_RDWR | (0 if rows else os.O_CREAT | os.O_TRUNC)
        try:
            self._file = os.open(path, flags, 0o666)
        except OSError as error:
            raise InvalidArgument(
                f"{path} cannot be written ({error.strerror}); {rows:,} rows of it had been"
            ) from error
        try:
            end = self._begin + rows * self._row
            if os.fstat(self._file).st_size < end and rows:
                raise InvalidArgument(
                    f"{path} is shorter than the {rows:,} rows that the journal says were written: put "
                    "it back, or remove the journal and the outputs to begin anew"
                )
            with _room_for(path):
                os.ftruncate(self._file, end)
                os.pwrite(self._file, self._header(), 0)
        except BaseException:
            os.close(self._file)
            raise

    def append(self, array: np.ndarray) -> None:
        """Write more rows, which do not count yet."""
        data = memoryview(np.ascontiguousarray(array, self._dtype).reshape(-1).view(np.uint8).data)
        at = self._begin + self._rows * self._row
        with _room_for(self._path):
            while data.nbytes:
                written = os.pwrite(self._file, data, at)
                data, at = data[written:], at + written
        self._rows += len(array)

    def settle(self) -> None:
        """Rows first, and then the header that counts them: what it counts is there."""
        with _room_for(self._path):
            os.fsync(self._file)
            os.pwrite(self._file, self._header(), 0)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Rows as they stand there."""
        data = os.pread(self._file, (end - begin) * self._row, self._begin + begin * self._row)
        return np.frombuffer(data, self._dtype).reshape(-1, *self._shape)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)

    def _header(self) -> bytes:
        # NumPy leaves room in it for the first axis to grow, so its length does not change.
        made = io.BytesIO()
        descr = np.lib.format.dtype_to_descr(self._dtype)
        shape = (self._rows, *self._shape)
        np.lib.format.write_array_header_2_0(
            made, {"descr": descr, "fortran_order": False, "shape": shape}
        )
        return made.getvalue()


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidArgument(
            f"{path} could not be written to ({error.strerror}): make room; what its journal tells of stands, "
            "and resume=True goes on from there"
        ) from error
