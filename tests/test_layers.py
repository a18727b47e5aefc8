"""The floor plan, as data: imports only go down, and each wing keeps to its own matters."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "codedmap"

FLOORS = {
    "_errors": 0, "_closing": 0, "_buffer": 0, "_checks": 0.5, "_two_opt": 0.5,
    "_forms": 0.75, "_points": 1, "_spline": 1, "_answers": 1, "_votes": 1, "_groups": 1, "_memory": 1, "_onnx": 1,
    "_ordering": 1, "_precision": 1, "_sketches": 1,
    "_rules": 1, "_rows": 2, "engines._contract": 1, "engines._parcel": 1, "engines._failure": 1,
    "_code": 2, "engines._serve": 2, "engines._domains": 1, "engines.executor": 2, "engines.resident": 2, "_display": 2,
    "_outliers": 2, "_contradictions": 2.5, "_nonfinite": 1, "_operators": 2, "_loose": 2.5, "_linear": 3, "engines._worker": 2.5, "engines._calls": 2.5, "engines._pinning": 2, "engines._slot": 3,
    "engines._remote": 3, "engines._seats": 2, "engines._cluster": 3.25, "engines._pinned": 3.5, "engines._tasks": 3.4, "engines._inside": 3.4, "engines._dask": 3.5, "engines.dask": 4,
    "engines._session": 3.5, "engines._actors": 3.6, "engines._ray": 3.75, "engines.ray": 4,
    "_kernel.process": 1, "_kernel.cells": 1, "_kernel.heard": 1, "_kernel.elimination": 1, "_kernel.evidence": 2,
    "_kernel.metric": 2, "_kernel.directions": 2.5, "_kernel.known": 3,
    "_kernel.suspects": 3, "_kernel.others": 3.5, "_kernel.geometry": 4, "_kernel.regression": 5, "_kernel.solving": 5.1,
    "_kernel.quarrels": 5.1, "_kernel.jury": 5.2, "_kernel.decoding": 5.5, "_kernel": 5.5,
    "_sums": 0, "_sums.integers": 0.5, "_sums.combining": 1, "_sums.shard": 1, "_sums.code": 2, "_sums.gradient": 3, "_sums.pieces": 3,
    "training._sketch": 1, "training._moments": 1, "training._step": 8, "training._optimizer": 9.5, "training._amsgrad": 9.6, "training._sketched": 9.7,
    "training": 9.8,
    "_sums.result": 7.5, "_sums.parts": 9, "_sums.door": 9.5,
    "_matrices": 0, "_matrices.code": 2, "_matrices.blocks": 3, "_matrices.products": 3, "_matrices.copies": 5.5,
    "_placed": 7, "_matrices.result": 7.5, "_matrices.call": 8, "_matrices.door": 9,
    "_clusters": 0, "_clusters.error": 1, "_clusters.cluster": 2, "_clusters.selection": 3, "_clusters.table": 4,
    "_clusters.inner": 4, "_clusters.outer": 5, "_clusters.door": 6,
    "_mixing": 4, "_robust": 4, "_ordered": 4,
    "codes.berrut": 5, "codes.lagrange": 5, "codes.replication": 5, "codes.spline": 5,
    "codes.fractional_repetition": 5, "codes.cyclic_gradient": 5, "codes.polynomial_gradient": 5,
    "codes.grouped_gradient": 5, "codes.ignore_stragglers": 5,
    "codes.mds": 5, "codes.polar": 5,
    "codes.kernel_copies": 5.7, "codes.kernel_encoding": 5.75, "codes.kernel": 5.875,
    "engines._guard": 3.5, "engines._descriptors": 1, "engines._room": 2, "engines.local": 4,
    "latency._models": 1, "latency._waits": 2, "latency._measured": 3, "latency": 4,
    "codes": 6, "engines": 6,
    "testing": 7, "_collect": 7, "_telling": 6.5, "_result": 7, "_hedge": 7.5,
    "_again": 3, "_parts": 3.5, "_batch": 4, "_wave": 8,
    "_stream": 8.5,
    "_digest": 1, "_journal": 1, "_source": 2.5, "_form": 0.5, "_growing": 0.5, "_sink": 1, "_totals": 7.5, "_store": 8, "_waves": 9,
    "_map": 9,
    "_planning": 0, "_planning.table": 6.5, "_planning.asking": 7, "_planning.replays": 7, "_planning.schemes": 8, "_planning.sampling": 8.25,
    "_planning.verdict": 8.25, "_planning.engine": 8.25, "_planning.door": 8.4, "_planning.auto": 8.45,
    "": 10,
    "_job": 11, "_cli_engine": 11, "_files": 11, "_shell": 10.5, "_cli_plan": 11.5, "_cli_waves": 11.75, "_cli": 12, "__main__": 13,
}  # fmt: skip

LEFT = (
    {
        "_points",
        "_spline",
        "_rows",
        "_forms",
        "_answers",
        "_votes",
        "_groups",
        "_code",
        "_linear",
        "_mixing",
    }
    | {"_ordering", "_ordered", "_two_opt", "_precision", "_outliers", "_operators", "_robust"}
    | {"_contradictions", "_nonfinite"}
    | {"_buffer", "_sketches", "training._sketch", "training._moments"}
    | {"_again", "_parts", "_batch", "_digest", "_source", "_form", "_growing", "_sink", "_totals"}
    | {
        "_planning.table",
        "_planning.asking",
        "_planning.replays",
        "_planning.schemes",
        "_planning.sampling",
    }
    | {"_planning.verdict"}
    | {"_matrices.code", "_matrices.blocks", "_matrices.products", "_matrices.copies"}
    | {"_sums.combining", "_sums.shard", "_sums.code", "_sums.gradient", "_sums.pieces"}
    | {name for name in FLOORS if name.startswith(("codes", "latency", "_kernel", "_clusters"))}
)
RIGHT = {"_rules", "_collect", "_placed", "_hedge", "_display", "testing"} | {
    name for name in FLOORS if name.startswith("engines")
}
DOORS = {
    "_matrices.call",
    "_matrices.door",
    "_matrices.result",
    "_sums.parts",
    "_sums.door",
    "_sums.result",
    "training._step",
    "training._optimizer",
    "training._amsgrad",
    "training._sketched",
    "training",
    "_map",
    "_stream",
    "_planning.door",
    "_planning.auto",
    "_planning.engine",
    "_wave",
    "_waves",
    "_store",
    "_result",
}
ARRAYS = {"numpy", "scipy"}
CLOCKS = {"time", "concurrent", "threading", "multiprocessing", "queue", "signal", "pebble"}
SUBPACKAGES = {
    "",
    "_clusters",
    "_kernel",
    "_matrices",
    "_planning",
    "_sums",
    "codes",
    "engines",
    "latency",
    "training",
}


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imports(name: str, tree: ast.AST) -> set[str]:
    """Modules imported: of this package relative to it with a leading dot, others by their first name."""
    package = [part for part in name.split(".") if part]
    package = package if name in SUBPACKAGES else package[:-1]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{target}.{alias.name}".lstrip(".")
                found.add("." + (inner if inner in FLOORS else target))
    return found


def test_every_module_has_a_floor():
    assert set(MODULES) == set(FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_only_go_down(name):
    for target in imports(name, MODULES[name]):
        if target.startswith("."):
            assert FLOORS[target[1:]] < FLOORS[name], f"{name} imports {target}"


@pytest.mark.parametrize("name", MODULES)
def test_each_wing_keeps_to_its_own_matters(name):
    others = {target for target in imports(name, MODULES[name]) if not target.startswith(".")}
    inner = {target[1:] for target in imports(name, MODULES[name]) if target.startswith(".")}
    if name in LEFT:
        assert not others & CLOCKS
        assert not inner & RIGHT
    if name in RIGHT:
        assert not others & ARRAYS
        assert not inner & LEFT
    if inner & LEFT and inner & RIGHT:
        assert name in DOORS | {"", "_job", "_cli", "_cli_plan"}


@pytest.mark.parametrize("name", MODULES)
def test_no_import_of_our_own_is_deferred_and_no_file_grows_without_end(name):
    for node in ast.walk(MODULES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert not {i for i in imports(name, node) if i.startswith(".")}
    path = PACKAGE / (name.replace(".", "/") or "__init__")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert len(path.read_text().splitlines()) <= 300


def test_importing_the_package_loads_nothing_optional_and_starts_nothing():
    optional = (
        "onnxruntime",
        "matplotlib",
        "torch",
        "rich",
        "click",
        "distributed",
        "dask",
        "ray",
        "mlxtend",
    )
    code = (
        "import sys, threading, multiprocessing, codedmap;"
        f"print([m for m in {optional!r} if m in sys.modules],"
        "threading.active_count(), multiprocessing.active_children())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[] 1 []\n"
    assert run.stderr == ""
