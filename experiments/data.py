"""Data sets and weights: where they are looked for, how to get them, and what is in them."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = [
    "CIFAR10_CLASSES",
    "FILES",
    "File",
    "MissingData",
    "cache",
    "cifar10",
    "digest",
    "find",
    "folder",
    "mnist",
    "output_folder",
    "path_of",
    "photos",
    "require",
    "save",
]

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
)  # fmt: skip
ORDER_SEED = 0


class MissingData(RuntimeError):
    """A data set that is not there; the message says which command fetches it."""


@dataclass(frozen=True)
class File:
    """A file of data or weights that the repository does not hold."""

    name: str
    size: str
    how: str
    """The command that fetches or makes it."""
    made_of: str | None = None
    """The name of another file here that it is made of."""


def _told(name: str, size: str, row: str) -> File:
    return File(name, size, f"`python -m experiments.prepare {row}` says where it comes from")


def _made(name: str, size: str, row: str, needs: str, made_of: str | None = None) -> File:
    how = f"`python -m experiments.prepare {row}` makes it (needs {needs})"
    return File(name, size, how, made_of)


_TORCH = "`pip install -e '.[train]'`"

FILES: dict[str, File] = {
    file.name: file
    for file in (
        _told("mnist.npz", "11 MB", "mnist"),
        _told("cifar10-jpeg.zip", "62 MB", "cifar10"),
        _told("imagenet-samples-224.zip", "7 MB", "imagenet"),
        _told("aws-lambda-256-workers.npz", "0.6 MB", "aws"),
        _told("resnet20-cifar10.pt", "1.1 MB", "resnet20-weights"),
        _made(
            "resnet20-cifar10.onnx", "1.1 MB", "resnet20", f"{_TORCH} and resnet20-cifar10.pt",
            "resnet20-cifar10.pt",
        ),
        _made(
            "efficientnet-lite0.onnx", "19 MB", "efficientnet", f"{_TORCH}; pip loads 17 MB"
        ),
        _made("vit-s14-saliency.onnx", "97 MB", "vit", "no more; pip loads 90 MB"),
    )
}  # fmt: skip
"""By name; one row a file."""


def folder() -> Path:
    """The data folder: CODEDMAP_DATA, or ``data`` in the working directory."""
    return Path(os.environ.get("CODEDMAP_DATA", "data"))


def cache() -> Path:
    """The user's own folder, for what is made here when the data folder is shared or not there."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / (
        "codedmap-experiments"
    )


def output_folder() -> Path:
    """Where files that are made go: the data folder if it may be written to, else the cache."""
    shared = folder()
    # Root passes os.access even where the mode says that nobody is meant to write.
    if shared.is_dir() and shared.stat().st_mode & 0o222 and os.access(shared, os.W_OK):
        return shared
    return cache()


def find(name: str) -> Path | None:
    """The file of this name in the data folder or the cache, if it is there."""
    paths = (place / name for place in (folder(), cache()))
    return next((path for path in paths if path.is_file()), None)


def path_of(name: str) -> Path:
    """The file of this name in the data folder or the cache.

    Raises
    ------
    MissingData
        If it is in neither.
    """
    path = find(name)
    if path is None:
        require([name])
        raise AssertionError(f"{name} came while it was looked for")
    return path


def require(names: Iterable[str]) -> None:
    """Look for all of these files at once.

    Raises
    ------
    MissingData
        If some are in neither the data folder nor the cache: it names all of them, and what they
        are made of if that is missing too.
    """
    missing: dict[str, File] = {}
    for name in names:
        file: File | None = FILES[name]
        while file is not None and find(file.name) is None:
            missing[file.name] = file
            file = FILES[file.made_of] if file.made_of else None
    if not missing:
        return
    # In the order of the table, in which what something is made of comes first.
    listed = [file for name, file in FILES.items() if name in missing]
    raise MissingData(
        f"not in the data folder {folder()}, nor in {cache()}:\n"
        + "".join(f"  {file.name} ({file.size}): {file.how}\n" for file in listed)
        + "get them, or point CODEDMAP_DATA or --data to a folder that has them"
    )


def digest(path: Path) -> str:
    """A checksum of a file's content: another copy of a data set, or other weights, have another."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@remembered
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(name: str, write: Callable[[Any], object]) -> Path:
    """Make a file that is either whole or not there.

    Parameters
    ----------
    name : str
        Its name in `output_folder`.
    write : callable
        Writes the content into a binary file.

    Returns
    -------
    Path
        The file.
    """
    path = output_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # With the process in the name, two runs that make the same file do not write into each other.
    temporary = path.with_name(f"{name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """The test part of MNIST.

    Returns
    -------
    images : ndarray, shape (10000, 28, 28), uint8
    labels : ndarray, shape (10000,), int64
    """
    with np.load(path_of("mnist.npz")) as arrays:
        return arrays["x_test"], arrays["y_test"].astype(np.int64)


def cifar10(part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """A part of CIFAR-10, from the copy in JPEG, in an order that mixes the classes.

    Parameters
    ----------
    part : {"test", "train"}

    Returns
    -------
    images : ndarray, shape (10000 or 50000, 32, 32, 3), uint8
    labels : ndarray, shape (10000 or 50000,), int64
        Places in `CIFAR10_CLASSES`.
    """

    def key(name: str) -> tuple[int, int] | None:
        # Archives of a repository as a whole have a folder of its name around everything.
        *_, where, kind, file = name.split("/")
        # Image 0 is called ".jpg" in some copies, because they lost the leading zeros.
        number = int("0" + file.removesuffix(".jpg"))
        return (CIFAR10_CLASSES.index(kind), number) if where == part else None

    return _images("cifar10-jpeg.zip", part, key)


def photos() -> tuple[np.ndarray, np.ndarray]:
    """Photos of as many ImageNet classes, in an order that mixes them.

    Returns
    -------
    images : ndarray, shape (400, 224, 224, 3), uint8
    labels : ndarray, shape (400,), int64
        Class indices 0..999.
    """
    return _images("imagenet-samples-224.zip", "all", lambda name: (int(name[:-4]), 0))


def _images(
    name: str, part: str, key: Callable[[str], tuple[int, int] | None]
) -> tuple[np.ndarray, np.ndarray]:
    path = path_of(name)
    with zipfile.ZipFile(path) as archive:
        keys = {entry: key(entry) for entry in archive.namelist() if entry.endswith(".jpg")}
        chosen = sorted((place, entry) for entry, place in keys.items() if place is not None)
        # RandomState, because NumPy promises never to change its stream.
        order = np.random.RandomState(ORDER_SEED).permutation(len(chosen))
        entries = [chosen[index][1] for index in order]
        labels = np.array([chosen[index][0][0] for index in order], np.int64)
        # With the size of the archive in the name, another copy of the data set is decoded anew.
        decoded = f"{path.stem}-{part}-{path.stat().st_size}.npy"
        kept = find(decoded)
        if kept is not None:
            return np.load(kept), labels
        images = np.stack(
            [
                np.asarray(Image.open(io.BytesIO(archive.read(entry))).convert("RGB"))
                for entry in entries
            ]
        )
    try:
        save(decoded, lambda file: np.save(file, images))
    except OSError as error:
        # Decoding again next time is no reason to fail.
        print(f"experiments: {decoded} could not be kept: {error}")
    return images, labels
