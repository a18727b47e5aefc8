"""10⁷ rows of four numbers from a memory map, on two worker processes, into files: the time of `map` with ``out``, and
the largest memory of the caller beyond that of a job of 1,000 rows, in MB (its mapped pages included). Each job is run
in a process of its own; *waves* is `codedmap.waves` of the last version that had it, with the code `Uncoded(2)`, in the
same run. The ratio is to *waves* into a .npy file.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from .harness import Row, summary

__all__ = ["run"]

_LAST = "f2e9010"
"""The last version that had `waves`."""
_CASES = {
    "waves, .npy": "waves out.npy",
    "waves, Zarr array": "waves out.zarr",
    "map, .npy": "map out.npy",
    "map, .zarr": "map out.zarr",
    "map, .parquet": "map out.parquet",
    "map, Uncoded(2), .npy": "coded out.npy",
    "map, Uncoded(2), .zarr": "coded out.zarr",
}


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows, rounds = 10**6 if quick else 10**7, 1 if quick else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float64, (rows, 4))
        for begin in range(0, rows, 10**6):
            end = min(begin + 10**6, rows)
            source[begin:end] = np.arange(begin, end)[:, None]
        source.flush()
        del source
        old = _old(folder)
        found: dict[str, list[tuple[float, float]]] = {case: [] for case in _CASES}
        order = np.random.default_rng(0)
        for _ in range(rounds):
            for case in order.permutation(list(_CASES)):
                found[case].append(_one(folder, _CASES[case], old))
    base = np.array(found["waves, .npy"])[:, 0]
    table: list[Row] = []
    for case, figures in found.items():
        seconds, memory = np.array(figures).T
        row: Row = {"rows": rows, "job": case, "call": "time and memory"}
        row |= {**summary("ms", 1e3 * seconds), **summary("ratio", seconds / base)}
        row |= {"MB": float(memory.max()), "rounds": rounds}
        table.append(row)
    return table


def _old(folder: Path) -> Path:
    """The last version that had `waves`, from the history of the repository."""
    archive = subprocess.run(["git", "archive", _LAST, "src"], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder / "old", filter="data")
    return folder / "old" / "src"


def _one(folder: Path, case: str, old: Path) -> tuple[float, float]:
    new = Path(__file__).parents[1] / "src"
    path = old if case.startswith("waves") else new
    with tempfile.TemporaryDirectory(dir=folder) as place:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.stored", *case.split(), str(folder / "x.npy")],
            check=True, capture_output=True, text=True, cwd=place,
            env={**os.environ, "PYTHONPATH": f"{path}:{Path(__file__).parents[1]}"},
        )  # fmt: skip
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def norms(batch: np.ndarray) -> np.ndarray:
    """The norm of each row."""
    return np.asarray(np.sqrt((batch**2).sum(axis=1)))


def _job(kind: str, out: str, X: np.ndarray, engine: Any) -> None:
    import codedmap as cm  # noqa: PLC0415  of either version

    if kind == "waves":
        given: Any = out
        if out.endswith(".zarr"):
            import zarr  # noqa: PLC0415

            given = zarr.create_array(out, shape=len(X), chunks=2**17, dtype=np.float64)
        cm.waves(norms, X, code=cm.Uncoded(2), engine=engine, out=given).run()  # type: ignore[attr-defined]
    else:
        code = cm.Uncoded(2) if kind == "coded" else None
        cm.map(norms, X, code=code, engine=engine, out=out)


def _peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(peak) / 1024


if __name__ == "__main__":
    import codedmap as cm

    job, target, inputs = sys.argv[1:]
    mapped = np.load(inputs, mmap_mode="r")
    with cm.engines.Local(2) as pool:
        _job(job, f"few-{target}", mapped[:1000], pool)
        before = _peak()
        began = time.perf_counter()
        _job(job, target, mapped, pool)
        print(time.perf_counter() - began, _peak() - before)
