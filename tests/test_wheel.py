"""A built wheel and source distribution hold what they should, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import codedmap as cm

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return out


def test_the_wheel_is_the_package_its_licence_and_its_command(built):
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"codedmap-{cm.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"codedmap-{cm.__version__}.dist-info"
        entry = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    package = ROOT / "src" / "codedmap"
    sources = {f"codedmap/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    assert {name for name in names if name.startswith("codedmap/")} == sources | {
        "codedmap/py.typed"
    }
    assert f"{info}/licenses/LICENSE" in names
    assert "codedmap = codedmap.cli:main" in entry
    assert "License-Expression: BSD-3-Clause" in metadata
    assert "\n# codedmap" in metadata
    subprocess.run(["check-wheel-contents", str(wheel)], check=True, env=_path())


def test_the_source_distribution_holds_the_tests_the_example_model_and_no_virtual_environment(
    built,
):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        "src/codedmap/py.typed",
        "tests/test_wheel.py",
        "examples/lenet5/lenet5-mnist.onnx",
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
    ):
        assert needed in names
    assert not [name for name in names if ".venv" in name or "__pycache__" in name]
    assert source.stat().st_size < 5_000_000


def _path() -> dict[str, str]:
    import os

    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
