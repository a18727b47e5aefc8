"""What a long run has done so far, in a file that can be believed whenever the process dies."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InvalidArgument

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

__all__ = ["Journal"]

_FORMAT = 1
_WORDS = {
    "rows": "a source of this many rows",
    "row": "rows of this form",
    "code": "the code",
    "fn": "the function",
    "out": "these outputs",
}


class Journal:
    """One line for what a run is, and one for each wave that is safely written; a line is whole or void.

    Nobody else can write to it meanwhile, where the system has file locks.

    Parameters
    ----------
    path : Path
    run : mapping
        What has to be the same to go on: names to values that JSON can hold. A value may be a pair,
        of which the second, a hash, stands behind the first, which is for people.
    resume : bool
        Go on with the run in the file, if there is one, rather than refuse.

    Raises
    ------
    InvalidArgument
        If the file cannot be used, is in use, holds another run, or any while not ``resume``.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InvalidArgument(
                f"journal {path} cannot be written ({error.strerror}): choose another name or directory"
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise InvalidArgument(
                    f"journal {path} is no file that could be read again: choose another name"
                )
            self._lock()
            self.records = self._read(run, resume=resume)
        except BaseException:
            self.close()
            raise

    def add(self, record: Mapping[str, Any]) -> None:
        """Put down that something has been done; returns when it will survive the machine."""
        line = json.dumps(record).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError as error:
            raise InvalidArgument(
                f"journal {self.path} could not be written to ({error.strerror}); what it told before stands: "
                "make room, and go on with resume=True"
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InvalidArgument(
                f"journal {self.path} is being written by another process, or by waves of this one that were not "
                "closed: wait until they have ended, or close them"
            ) from error

    def _read(self, run: Mapping[str, Any], *, resume: bool) -> list[dict[str, Any]]:
        begun = {"codedmap": _FORMAT, **json.loads(json.dumps(run))}
        with os.fdopen(os.dup(self._file), "rb") as file:
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]  # the rest was being written in the end
        if not whole and _begun_like(content):
            return self._begin(begun)
        try:
            first, *records = [json.loads(line) for line in whole.splitlines()]
            known = first["codedmap"] == _FORMAT
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(
                f"{self.path} is no journal of a run, or it is damaged: choose another name, or remove it to begin "
                "anew if it is of no other use"
            ) from error
        if not resume:
            raise InvalidArgument(
                f"{self.path} tells of a run that was begun before: go on with it by resume=True, or "
                "remove it, and its outputs, to begin anew"
            )
        if not known:
            raise InvalidArgument(
                f"{self.path} was written by another version of codedmap: finish the run with that one"
            )
        for name, value in begun.items():
            if first.get(name) != value:
                raise InvalidArgument(self._other(name, first.get(name), value))
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        return records

    def _begin(self, begun: Mapping[str, Any]) -> list[dict[str, Any]]:
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        try:
            self.add(begun)
        except InvalidArgument as error:
            self.path.unlink(missing_ok=True)  # it tells nothing yet
            raise InvalidArgument(
                f"journal {self.path} cannot be written ({error.__cause__}): make room, or choose another "
                "directory"
            ) from error
        _sync_folder(self.path.parent)
        return []

    def _other(self, name: str, was: Any, now: Any) -> str:
        told, given = (v[0] if isinstance(v, list) and len(v) == 2 else v for v in (was, now))
        begin = f"{self.path} tells of a run with {_WORDS[name]} {_short(told)}, and this one has "
        if told == given:
            return begin + (
                f"{_short(given)} as well, but it is not the same any more: what it is made of has "
                "changed. Go on with what it was, or remove the journal and the outputs to begin anew"
            )
        return begin + (
            f"{_short(given)}: go on with the same, or remove the journal and the outputs to begin anew"
        )


def _begun_like(content: bytes) -> bool:
    """Whether a file without a whole line can be the beginning of a journal."""
    start = b'{"codedmap"'
    return content[: len(start)] == start[: len(content)]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]} …"


def _sync_folder(path: Path) -> None:
    """Make the names in a folder survive the machine, where that needs doing."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:  # on Windows
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
