"""Data sets and weights: where they are searched, how to get them, and how to load them."""

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
    """A data set is missing; the message names the command that gets it."""


@dataclass(frozen=True)
class File:
    """A file of data or weights that is not part of the repository."""

    name: str
    size: str
    how: str
    """The command that gets or makes it."""
    made_of: str | None = None
    """Name of the file that it is made from, if any."""


def _external(name: str, size: str, row: str) -> File:
    return File(name, size, f"`python -m experiments.prepare {row}` says where it comes from")


def _made(name: str, size: str, row: str, needs: str, made_of: str | None = None) -> File:
    how = f"`python -m experiments.prepare {row}` makes it (needs {needs})"
    return File(name, size, how, made_of)


_TORCH = "`pip install -e '.[train]'`"

FILES: dict[str, File] = {
    file.name: file
    for file in (
        _external("mnist.npz", "11 MB", "mnist"),
        _external("cifar10-jpeg.zip", "62 MB", "cifar10"),
        _external("imagenet-samples-224.zip", "7 MB", "imagenet"),
        _external("aws-lambda-256-workers.npz", "0.6 MB", "aws"),
        _external("hbv-banff.npz", "0.2 MB", "hbv"),
        _external("resnet20-cifar10.pt", "1.1 MB", "resnet20-weights"),
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
"""By name."""


def folder() -> Path:
    """The data folder: CODEDMAP_DATA, or ``data`` in the working directory."""
    return Path(os.environ.get("CODEDMAP_DATA", "data"))


def cache() -> Path:
    """The user's cache folder, used when the data folder does not exist or is not writable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / (
        "codedmap-experiments"
    )


def output_folder() -> Path:
    """Folder for files that are made here: the data folder if it is writable, else the cache."""
    shared = folder()
    # Root passes os.access even where the mode forbids writing, so the mode is checked as well.
    if shared.is_dir() and shared.stat().st_mode & 0o222 and os.access(shared, os.W_OK):
        return shared
    return cache()


def find(name: str) -> Path | None:
    """The file of this name in the data folder or the cache, or None."""
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
        raise AssertionError(f"{name} appeared during the search")
    return path


def require(names: Iterable[str]) -> None:
    """Check that all of these files exist.

    Raises
    ------
    MissingData
        If some are in neither the data folder nor the cache. Names all of them, and the files that
        they are made from if those are missing too.
    """
    missing: dict[str, File] = {}
    for name in names:
        file: File | None = FILES[name]
        while file is not None and find(file.name) is None:
            missing[file.name] = file
            file = FILES[file.made_of] if file.made_of else None
    if not missing:
        return
    # In the order of FILES, in which sources come before what is made from them.
    listed = [file for name, file in FILES.items() if name in missing]
    raise MissingData(
        f"not in the data folder {folder()}, nor in {cache()}:\n"
        + "".join(f"  {file.name} ({file.size}): {file.how}\n" for file in listed)
        + "get them, or point CODEDMAP_DATA or --data to a folder that has them"
    )


def digest(path: Path) -> str:
    """Checksum of the content of a file; it identifies a copy of a data set or a set of weights."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@remembered
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(name: str, write: Callable[[Any], object]) -> Path:
    """Write a file atomically.

    Parameters
    ----------
    name : str
        File name in `output_folder`.
    write : callable
        Writes the content into a binary file.

    Returns
    -------
    Path
        The file.
    """
    path = output_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two runs that make the same file apart.
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
    """A part of CIFAR-10, from a copy in JPEG, in an order that mixes the classes.

    Parameters
    ----------
    part : {"test", "train"}

    Returns
    -------
    images : ndarray, shape (10000 or 50000, 32, 32, 3), uint8
    labels : ndarray, shape (10000 or 50000,), int64
        Indices into `CIFAR10_CLASSES`.
    """

    def key(name: str) -> tuple[int, int] | None:
        # Archives of a whole repository have one more folder around everything.
        *_, where, kind, file = name.split("/")
        # Copies without leading zeros name image 0 ".jpg".
        number = int("0" + file.removesuffix(".jpg"))
        return (CIFAR10_CLASSES.index(kind), number) if where == part else None

    return _images("cifar10-jpeg.zip", part, key)


def photos() -> tuple[np.ndarray, np.ndarray]:
    """400 photos, one of each of 400 ImageNet classes, in random order.

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
        # RandomState: NumPy guarantees that its stream never changes.
        order = np.random.RandomState(ORDER_SEED).permutation(len(chosen))
        entries = [chosen[index][1] for index in order]
        labels = np.array([chosen[index][0][0] for index in order], np.int64)
        # The size of the archive is part of the name, so another copy of the data set is decoded again.
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
        # Without the cache the images are decoded again next time; that is no failure.
        print(f"experiments: {decoded} could not be cached: {error}")
    return images, labels
