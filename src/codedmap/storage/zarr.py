"""Answers in a Zarr group."""

from __future__ import annotations

import asyncio
import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidAnswer
from ..results.status import Status
from ..results.trees import errors_name
from .digest import checksum
from .journal import writing
from .output import Form, Output, Runs
from .source import Chunks, extra

_CHUNK = 1 << 18  # bytes of a chunk; a call that begins or ends within one compresses it again
_SETTLING = 5.0  # most seconds to wait for what Zarr still writes
_TAKEN = "zarr.json", "", ".", ".."  # names that no array can have


class ZarrOutput(Output):
    """A Zarr group with an array for each leaf of the answers, "status", and standard errors if rows are estimated."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.paths = (path,)
        self._zarr = extra("zarr", f"out={str(path)!r}")
        self._group: Any = None
        self._status: Any = None  # its array "status"
        self._checked: dict[str, Chunks] = {}  # chunks of arrays that `check` has read

    def open(self, form: Form, rows: int, *, new: bool) -> None:
        self.form = form
        with writing(self.paths[0]):
            self._group = self._zarr.open_group(self.paths[0], mode="w" if new else "a")
            for name, (descr, shape) in form.items():
                dtype = np.lib.format.descr_to_dtype(descr)
                if (
                    dtype.kind not in "biufc"
                    or dtype.char in "gG"
                    or name in _TAKEN
                    or not name.isprintable()
                    or set(name) & {"/", "\\"}
                ):
                    raise InvalidAnswer(
                        f"fn returned {name!r} of dtype {dtype}, and a Zarr group holds numbers of at most 64 bits, under names "
                        "of folders: return such, or give a path ending in .parquet"
                    )
                self.arrays[name] = self._array(name, dtype, (rows, *shape))
            self._status = self._create(
                "status",
                "status",
                shape=(rows,),
                chunks=(_CHUNK,),
                dtype=np.int8,
                fill_value=Status.MISSING,
                overwrite=True,
            )

    def _array(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
        if name in self._group:
            array = self._group[name]
            if array.shape[1:] == shape[1:]:
                array.resize(shape)  # of an iterator it has as many rows as were read
            if array.dtype != dtype or array.shape != shape:
                raise ValueError(f"{name} is damaged: dtype {array.dtype}, shape {array.shape}")
            return array
        size = dtype.itemsize * max(1, int(np.prod(shape[1:], dtype=np.int64)))
        chunks = (max(1, min(shape[0], _CHUNK // size)), *(max(1, s) for s in shape[1:]))
        fill = np.nan if dtype.kind in "fc" else 0
        return self._create(name, name, shape=shape, chunks=chunks, dtype=dtype, fill_value=fill)

    def _create(self, name: str, values: str, *, shape: tuple[int, ...], **options: Any) -> Any:
        """An array with the names of the axes of some ``values``; xarray opens no group without such names."""
        axes = ["row", *(f"{values}_{axis}" for axis in range(len(shape) - 1))]
        if self._group.metadata.zarr_format == 3:
            options["dimension_names"] = axes
        else:
            options["attributes"] = {"_ARRAY_DIMENSIONS": axes}
        return self._group.create_array(name, shape=shape, **options)

    def resize(self, rows: int) -> None:
        with writing(self.paths[0]):
            for array in (*self.arrays.values(), *self.errors.values()):
                array.resize((rows, *array.shape[1:]))

    def _errors(self, name: str, like: np.ndarray) -> Any:
        shape = (self.arrays[name].shape[0], *like.shape[1:])
        return self._create(
            errors_name(name, self.named),
            name,
            shape=shape,
            chunks=self.arrays[name].chunks,
            dtype=like.dtype,
            overwrite=True,
        )

    def check(self, runs: Runs, record: Mapping[str, Any]) -> bool:
        # Chunks can be kept: nothing is written while rows are checked, and those of many calls share a chunk.
        for name, array in self.arrays.items():
            if name not in self._checked:
                rows, size = array.shape[0], array.chunks[0]
                self._checked[name] = Chunks(array, np.r_[0:rows:size, rows], 2, size)
        chunks = self._checked.values()
        return checksum(each.take(runs) for each in chunks) == str(record["values"])

    def clear(self, runs: Runs) -> None:
        """Remove chunks that cannot be read: otherwise none of their rows could be written again."""
        for name, array in self.arrays.items():
            size = array.chunks[0]
            for chunk in {n for begin, end in runs for n in range(begin // size, -(-end // size))}:
                try:
                    array[chunk * size : (chunk + 1) * size]
                except OSError:
                    raise
                except Exception:  # whatever a codec raises
                    key = array.metadata.encode_chunk_key((chunk, *[0] * (array.ndim - 1)))
                    (self.paths[0] / name / key).unlink(missing_ok=True)

    def sync(self, status: np.ndarray) -> None:
        """Write the status. Files of chunks are not synchronised: those that are lost are found by their checksums."""
        if self._group is not None:
            with writing(self.paths[0]):  # in place, because others may read it
                if self._status.shape != status.shape:
                    self._status.resize(status.shape)
                self._status[:] = status

    def finish(self, status: np.ndarray) -> tuple[Any, Any]:
        self.sync(status)
        with writing(self.paths[0]):
            for name in () if self.errors else self.arrays:
                old = self.paths[0] / errors_name(name, self.named)
                if old.exists():
                    shutil.rmtree(old)  # quicker than by Zarr, which reads it first
            for partial in self.paths[0].rglob("*.partial"):  # left by processes that were killed
                partial.unlink()
        with writing(self.paths[0]):
            group = self._zarr.open_group(self.paths[0], mode="r")
            if not all(name in group for name in self.arrays):
                raise FileNotFoundError("it was removed meanwhile")
        values = {name: group[name] for name in self.arrays}
        stderr = {name: group[errors_name(name, self.named)] for name in self.errors}
        if set(values) == {"values"} and not self.named:
            return values["values"], stderr.get("values")
        return values, stderr or None

    def close(self) -> None:
        if self._group is not None:
            # No attribute of zarr, if Ctrl-C has interrupted its first import in this program.
            importlib.import_module("zarr.core.sync").sync(_settled())
        self._group, self.arrays, self.errors, self._checked = None, {}, {}, {}


async def _settled() -> None:
    """Return when Zarr has written all: after an error other writes may still go on."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=_SETTLING)
