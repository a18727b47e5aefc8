"""`fill`: rows that were lost, estimated from those that are there. *smooth* is a sine of a mixture of 12 inputs, and
*rough* one of three times as many waves, with a jump; 17 % of the rows are lost. *error* is the root mean square on the
lost rows, in standard deviations of the output, over all outputs.

| column | what is timed |
|---|---|
| radial basis | `RBFInterpolator` of SciPy, thin plates through 50 neighbours; it gives no standard errors |
| fill | `fill` in a process that has called it before |
| fill, first | `fill` in a new process, with all that is imported |
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np

import codedmap as cm

from .harness import Row, interleaved

__all__ = ["run"]

_COLUMNS, _LOST = 12, 0.17
_BASELINE = "radial basis"
_LONGEST = 300.0  # seconds of a call
_CASES = (
    ("smooth", 2_000, 4),
    ("rough", 2_000, 4),
    ("smooth", 2_000, 1_000),
    ("smooth", 100_000, 4),
)
_QUICK = (("smooth", 300, 2),)


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    return [row for case in (_QUICK if quick else _CASES) for row in _rows(*case, quick=quick)]


def data(kind: str, rows: int, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (rows, 12), outputs (rows, outputs), and the outputs with NaN in rows that are lost."""
    random = np.random.default_rng(0)
    inputs = random.random((rows, _COLUMNS))
    mixed = inputs @ random.standard_normal((_COLUMNS, outputs))
    answers = np.sin(mixed) if kind == "smooth" else np.sin(3.0 * mixed) + 0.1 * (mixed > 0.0)
    lossy = answers.copy()
    lossy[random.random(rows) < _LOST] = np.nan
    return inputs, answers, lossy


def _rows(kind: str, rows: int, outputs: int, *, quick: bool) -> Iterator[Row]:
    inputs, answers, lossy = data(kind, rows, outputs)
    lost = np.isnan(lossy[:, 0])
    known = inputs[~lost], answers[~lost]
    first = f"import codedmap; from benchmarks.filling import data; X, _, y = data({kind!r}, {rows}, {outputs}); codedmap.fill(X, y)"
    estimates: Mapping[str, Callable[[], np.ndarray]] = {
        _BASELINE: lambda: _interpolated(*known, inputs[lost]),
        "fill": lambda: cm.fill(inputs, lossy).values[lost],
    }
    calls: dict[str, Callable[[], object]] = dict(estimates)
    if outputs == _CASES[0][2] and rows == _CASES[0][1]:
        calls["fill, first"] = lambda: subprocess.run([sys.executable, "-c", first], check=True)
    timings = interleaved(calls, quick=quick, few=3, longest=_LONGEST)
    case: Row = {"function": kind, "rows": rows, "outputs": outputs}
    for row in timings.rows(case, _BASELINE):
        if (estimate := estimates.get(str(row["call"]))) is not None:
            off = estimate() - answers[lost]
            row["error"] = float(np.sqrt((off**2).mean() / answers.var(axis=0).mean()))
        yield row


def _interpolated(points: np.ndarray, answers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    from scipy.interpolate import RBFInterpolator  # noqa: PLC0415  slow to import

    return np.asarray(RBFInterpolator(points, answers, neighbors=50)(wanted))
