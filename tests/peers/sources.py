"""The tests of other libraries, from the source distributions that PyPI has of the versions installed here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType

import cloudpickle
import pytest


@cache
def source(name: str) -> Path:
    """The unpacked source of an installed library; skips the test where there is none."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    folder = Path(mkdtemp(prefix="peers"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
    ]
    done = subprocess.run(
        [*command, "--dest", folder, f"{name}=={version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no source of {name} {version}: {done.stderr[-200:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def module(library: str, path: str) -> ModuleType:
    """A test module of a library."""
    file = source(library) / path
    if not file.exists():
        pytest.skip(f"the source of {library} has no {path}")
    sys.path.insert(0, str(file.parent))  # for what stands beside it
    try:
        spec = importlib.util.spec_from_file_location(f"{library}_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = found
        spec.loader.exec_module(found)
        cloudpickle.register_pickle_by_value(found)  # workers cannot import it
    finally:
        sys.path.remove(str(file.parent))
    return found
