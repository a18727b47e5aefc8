"""What a job has done so far, in a file that is right whenever the process or the machine dies."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InvalidArgument, OutputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

_WORDS = {
    "version": "version {} of codedmap",
    "given": "version={}",
    "rows": "{} rows",
    "row": "inputs of the form {}",
    "fn": "the function {}",
    "code": "code={}",
    "out": "the output {}",
}


@contextmanager
def writing(path: Path | None = None) -> Iterator[None]:
    """Turn an `OSError` into an `OutputError` that says what to do."""
    try:
        yield
    except OSError as error:
        if path is None:  # it comes from an array of the caller
            raise
        raise OutputError(
            f"{path} could not be written to ({error.strerror or error}): make room or allow writing, and go on "
            "with resume=True; rows that were written before are kept"
        ) from error


_BEGUN = re.compile(rb"[0-9a-f]{0,8}|[0-9a-f]{8} (\{[^\n]*)?")
"""The content of a journal whose first line was not finished."""


class Journal:
    """A file with a line that describes the job, and one for each call that is written; each line has a checksum.

    If the system has file locks, no other process can write to it meanwhile. ``job`` is what has to be the same when the
    job is resumed: by name a value, or a pair of a text for messages and a checksum. With ``anew`` what the file holds
    is dropped. Raises `InvalidArgument` if the file cannot be used, is in use, is damaged or holds another job.
    """

    def __init__(self, path: Path, job: Mapping[str, Any], *, anew: bool = False) -> None:
        self.path, self.new = path, False
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise InvalidArgument(
                f"{path} cannot be written ({error.strerror}): choose another name or folder"
            ) from error
        try:
            self._lock()
            if anew:
                os.ftruncate(self._file, 0)
            self.records = self._read(json.loads(json.dumps(job)))
        except BaseException:
            self.close()
            raise

    @property
    def identity(self) -> tuple[int, int]:
        """Device and number of its file, which tell it from a later file of the same name."""
        return _identity(self._file)

    @property
    def in_place(self) -> bool:
        """Whether its file still has its name."""
        with suppress(OSError):
            found = self.path.stat()
            return (found.st_dev, found.st_ino) == self.identity
        return False

    def check_in_place(self) -> None:
        """Raise `OutputError` if its file was removed: then the outputs may be those of another job."""
        if not self.in_place:
            raise _removed(self.path)

    def read(self) -> list[dict[str, Any]]:
        """All records in the file, also those of `add_record`; damaged ones are left out."""
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            return _records(file.read().splitlines(keepends=True)[1:])

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record. It survives the death of this process at once, and of the machine after `sync`."""
        _append(self._file, self.path, record)

    def sync(self) -> None:
        """Return when all records are on disk."""
        with writing(self.path):
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file, and release the lock."""
        if self._file >= 0:
            if fcntl is not None:  # closing does not release it if a process was forked meanwhile
                with suppress(OSError):
                    fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
        self._file = -1

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(self._file).st_nlink:
                raise BlockingIOError("removed by the other job in the meantime")
        except BlockingIOError as error:
            raise InvalidArgument(
                f"{self.path} is being written by another job, of this process or another: wait until it has ended"
            ) from error
        except OSError:  # some file systems of clusters have no locks
            pass

    def _read(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """The records in the file; begins a new journal if it has none, and checks that it is of the same job."""
        with os.fdopen(os.dup(self._file), "rb") as file:
            content = file.read()
        if _BEGUN.fullmatch(content):
            try:
                with writing(self.path):
                    os.ftruncate(self._file, 0)
                self.add({"codedmap": job})
            except BaseException:
                self.path.unlink(missing_ok=True)  # else it would have to be resumed
                raise
            self.new = True
            return []
        lines = content.splitlines(keepends=True)
        first = _record(lines[0]) or {}
        if "codedmap" not in first:
            raise InvalidArgument(
                f"the first line of {self.path} is damaged, so what the job was is not known: remove it and its "
                "outputs to begin anew"
            )
        for name, now in job.items():
            was = first["codedmap"].get(name)
            if was != now:
                raise InvalidArgument(self._other(name, was, now))
        if not content.endswith(b"\n"):
            with writing(self.path):
                os.write(self._file, b"\n")
        return _records(lines[1:])

    def _other(self, name: str, was: Any, now: Any) -> str:
        """The message for a journal of another job."""
        shown, given = (
            _WORDS[name].format(str(v[0] if isinstance(v, list) else v)[:200]) for v in (was, now)
        )
        apart = "compute rows that are not exact as a job of their own, " if name == "fn" else ""
        end = f"go on with what it was, {apart}or remove the journal and the outputs to begin anew"
        if shown == given:
            return (
                f"{self.path} is of a job with {shown}, which is not the same now (its code, its program, what it uses, kwargs, "
                f"seed or parameters): {end}"
            )
        return f"{self.path} is of a job with {shown}, and this one has {given}: {end}"


def add_record(path: Path, record: Mapping[str, Any], identity: tuple[int, int]) -> None:
    """Add a record to the journal of this identity, which another process has open."""
    with writing(path):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        if _identity(file) != identity:
            raise _removed(path)
        _append(file, path, record)
    finally:
        os.close(file)


def _removed(path: Path) -> OutputError:
    return OutputError(
        f"{path} was removed while this job ran, and the output may be another job's now: give each job an output of its own"
    )


def _identity(file: int) -> tuple[int, int]:
    found = os.fstat(file)
    return found.st_dev, found.st_ino


def _append(file: int, path: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, separators=(",", ":")).encode()
    line = b"%08x %s\n" % (zlib.crc32(text), text)
    with writing(path):
        written = os.write(file, line)
        if written < len(line):  # there may be no room for the rest: half a line is ignored later
            os.write(file, line[written:])


def _records(lines: list[bytes]) -> list[dict[str, Any]]:
    return [record for line in lines if (record := _record(line)) is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None if it is damaged."""
    with suppress(ValueError):
        if line.endswith(b"\n") and int(line[:8], 16) == zlib.crc32(line[9:-1]):
            record: dict[str, Any] = json.loads(line[9:-1])
            return record
    return None
