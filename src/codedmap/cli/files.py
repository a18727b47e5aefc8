"""The files of a command: inputs and outputs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

import codedmap as cm

Save = Callable[[IO[bytes]], None]


def rows_in(path: Path, key: str | None, *, mapped: bool = False) -> np.ndarray:
    """The array in a .npy file, ``mapped`` or read, or in an .npz file: the only one, or that of the ``key``."""
    with path.open("rb") as file:
        if not file.read(6).startswith((b"\x93NUMPY", b"PK")):
            raise cm.InvalidArgument(
                f"inputs {path} is neither a .npy nor a .npz file: write it with numpy.save"
            )
        file.seek(0)
        try:
            mode: Literal["r"] | None = "r" if mapped else None
            loaded = np.load(path if mapped else file, mmap_mode=mode, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                return np.asarray(loaded[_chosen(path, loaded.files, key)])
        except cm.InvalidArgument:
            raise
        except Exception as error:  # a damaged file may raise anything
            problem = (
                f"cannot be read ({type(error).__name__}: {error}): write it again with numpy.save"
            )
            if "allow_pickle" in str(error) or "Python objects" in str(error):
                problem = (
                    "holds Python objects, and unpickling those could run any code: save an array of numbers or text (a "
                    "ragged list of rows must be padded first)"
                )
            raise cm.InvalidArgument(f"inputs {path} {problem}") from error
    if key is not None:
        raise cm.InvalidArgument(f"--key is for .npz files: {path} holds a single array")
    return loaded


def _chosen(path: Path, keys: list[str], key: str | None) -> str:
    found = [name for name in keys if key in (None, name)]
    if len(found) != 1:
        raise cm.InvalidArgument(
            f"{path} holds {len(keys)} array{'s' * (len(keys) != 1)} ({', '.join(keys)}): choose one of these with --key NAME"
        )
    return found[0]


def check_apart(output: Path, *read: str | Path) -> None:
    """Raise `InvalidArgument` if the output would replace one of the files that are read."""
    for path in read:
        with suppress(OSError):  # one of the files does not exist
            if output.samefile(path):
                raise cm.InvalidArgument(
                    f"output {output} is the file that is read as {path}, which would be lost: give the output "
                    "a name of its own"
                )


@contextmanager
def written(name: str, path: Path, force: bool) -> Iterator[Callable[[Save], None]]:
    """A function that writes to ``path``, through a temporary file created at once; failures leave no file."""
    part = path.with_name(f".codedmap.{uuid.uuid4().hex}.part")
    try:
        with suppress(FileNotFoundError):
            path.lstat()
            if path.is_dir():
                raise cm.InvalidArgument(f"{name} {path} is a directory: choose another name")
            if not force:
                raise cm.InvalidArgument(
                    f"{name} {path} exists: choose another name, or replace a file with --force"
                )
        if not path.parent.is_dir():
            raise cm.InvalidArgument(
                f"{name} {path}: there is no directory {path.parent}, create it first"
            )
        file = part.open("xb")
    except OSError as error:
        raise cm.InvalidArgument(
            f"{name} {path} cannot be written ({error.strerror}): choose another name or directory"
        ) from error

    def write(save: Save) -> None:
        try:
            with file:
                save(file)
            part.replace(path)
        except OSError as error:
            raise cm.InvalidArgument(
                f"{name} {path} could not be written ({error.strerror}): make room, and run the command again"
            ) from error

    try:
        with file:
            yield write
    finally:
        part.unlink(missing_ok=True)


def check_archivable(result: cm.MapResult) -> None:
    """Raise `InvalidAnswer` if the answers are not one array of numbers or text."""
    if not isinstance(result.values, np.ndarray) or result.values.dtype.hasobject:
        raise cm.InvalidAnswer(
            "answers are Python objects, which a .npz file cannot hold safely, or have several parts: return numbers or text "
            "in one array, or give an output ending in .parquet"
        )


def archive_of(result: cm.MapResult) -> dict[str, Any]:
    """The arrays of an .npz output."""
    check_archivable(result)
    arrays: dict[str, Any] = {"values": result.values, "exact": result.exact}
    if result.stderr is not None:
        arrays["stderr"] = result.stderr
    arrays["hedges"] = np.array(result.hedges)
    for name in ("answered", "abandoned", "failed", "rejected"):
        arrays[name] = np.array(list(getattr(result, name)), dtype=np.int64)
    failures = [f"{type(error).__name__}: {error}" for error in result.failed.values()]
    return arrays | {
        "failures": np.array(failures, dtype=str),
        "outcome": result.outcome.value,
        "seconds": result.seconds,
        "code": repr(result.code),
        "version": cm.__version__,
    }
