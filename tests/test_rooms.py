"""The rooms of the package and their order: a room imports only rooms below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "codedmap"

ROOMS = """
cli
training
topology
api
matrices
sums
planning
storage
codes
latency
execution
engines
engines.transport
estimation
detection
coding
results
contracts
errors
""".split()
"""From the top down; at the root stand the face, `errors` and `testing`."""

WITHOUT_CLOCKS = {"contracts", "coding", "detection", "estimation", "codes", "latency", "sums"}
WITHOUT_ARRAYS = {"engines", "engines.transport"}
CLOCKS = {"time", "concurrent", "threading", "multiprocessing", "queue", "signal"}
KNOW_THREADS = {"contracts.engine", "estimation.threads"}
"""What a future is, and that a limit is the process's: neither waits for anything."""
ARRAYS = {"numpy", "scipy"}


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imported(name: str, tree: ast.AST) -> Iterator[str]:
    """Modules that a module imports: of this package with a leading dot, others by their first name."""
    package = name.split(".") if name else []
    if name and not (PACKAGE / name.replace(".", "/")).is_dir():
        package.pop()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            target = package[: len(package) - node.level + 1]
            target += node.module.split(".") if node.module else []
            for alias in node.names:
                inner = ".".join([*target, alias.name])
                yield "." + (inner if inner in MODULES else ".".join(target))


def room(module: str) -> str | None:
    """The room of a module, or None for those at the root."""
    rooms = [one for one in ROOMS if module == one or module.startswith(one + ".")]
    return max(rooms, key=len, default=None)


def ours(name: str) -> set[str]:
    return {target[1:] for target in imported(name, MODULES[name]) if target.startswith(".")}


def test_every_module_stands_in_a_room():
    assert {name for name in MODULES if room(name) is None} == {"", "__main__", "testing"}
    assert {room(name) for name in MODULES} - {None} == set(ROOMS)


def test_a_room_imports_only_rooms_below_it():
    wrong = [
        f"{name} imports {target}"
        for name in MODULES
        for target in ours(name)
        if (here := room(name)) is not None
        and ((there := room(target)) is None or ROOMS.index(there) < ROOMS.index(here))
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    # `from . import name` of a package is an import of that module, not of the package.
    order = list(TopologicalSorter({name: ours(name) - {name} for name in MODULES}).static_order())
    assert set(order) == set(MODULES)


def test_some_rooms_know_no_clocks_and_others_no_arrays():
    wrong = [
        f"{name} imports {target}"
        for name in MODULES
        for target in imported(name, MODULES[name])
        if (room(name) in WITHOUT_CLOCKS and target in CLOCKS and name not in KNOW_THREADS)
        or (room(name) in WITHOUT_ARRAYS and target in ARRAYS)
    ]
    assert wrong == []


def test_no_import_of_our_own_is_deferred():
    wrong = [
        f"{name}.{node.name}"
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(target.startswith(".") for target in imported(name, node))
    ]
    assert wrong == []


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
        "zarr",
        "pyarrow",
        "pandas",
    )
    code = (
        "import sys, threading, multiprocessing, codedmap;"
        f"print([m for m in {optional!r} if m in sys.modules],"
        "threading.active_count(), multiprocessing.active_children())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[] 1 []\n"
    assert run.stderr == ""
