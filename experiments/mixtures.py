"""``python -m experiments mixtures``: what is a fifth more calls worth, and for which payloads?

Rows of a simulator are lost at random. A fifth more calls, as many of which are lost, compute nothing, second copies of
rows, new rows, or the mixtures of a `KernelCode`. The rows without an answer are estimated from all answers by
`codedmap.fill`. The error is over all rows of the job, those that are exact among them.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import codedmap as cm

from .cells import run_cells
from .harness import Row
from .simulators import SIMULATORS, design

__all__ = ["Cell", "SCHEMES", "main", "measured", "report"]

SCHEMES = ("nothing", "copies", "new rows", "mixtures")
TASKS, WORKERS = 20, 24
ROWS, LOSSES = (60, 240), (0.17, 0.4)
ASIDE = 1e-3
"""Of an output's standard deviation: smaller errors are all alike."""
SMOOTH, ROUGH = 0.03, 0.3
"""Errors of estimated rows without more calls, by which functions are called smooth or rough."""


class Cell(NamedTuple):
    """One comparison."""

    simulator: str
    rows: int
    loss: float


def measured(cell: Cell, seed: int) -> list[Row]:
    """One row a scheme and output."""
    simulator = SIMULATORS[cell.simulator]
    rng = np.random.default_rng([seed, cell.rows, round(100 * cell.loss), *cell.simulator.encode()])
    m, more = cell.rows, cell.rows * (WORKERS - TASKS) // TASKS
    inputs = rng.permutation(design(simulator, m + more))
    code = cm.KernelCode(TASKS, WORKERS, 0)
    unit = np.where(inputs.std(axis=0) > 0, inputs.std(axis=0), 1.0)
    X, new = inputs[:m], inputs[m:]
    X = X[code.arranged(X / unit)]
    encoding = code.encode((X / unit).reshape(TASKS, -1, X.shape[1]))
    mixed = [slot for slot, task in enumerate(encoding.raw) if task is None]
    mixtures = encoding.payloads[mixed].reshape(-1, X.shape[1]) * unit
    y, new_y, mixed_y = (_answers(simulator, points) for points in (X, new, mixtures))
    lost, come = rng.random(m) < cell.loss, rng.random(more) >= cell.loss
    twice = rng.permutation(m)[:more][come]
    still = lost.copy()
    still[twice] = False
    known = {"new rows": (new[come], new_y[come]), "mixtures": (mixtures[come], mixed_y[come])}
    deviation = np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0)
    rows = []
    for scheme in SCHEMES:
        gone = still if scheme == "copies" else lost
        holed = y.copy()
        holed[gone] = np.nan
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            filled = cm.fill(X, holed, known=known.get(scheme))
        off = (np.asarray(filled.values).reshape(y.shape) - y) / deviation
        for output, (all_rows, estimated) in enumerate(
            zip(_size(off), _size(off[gone]) if gone.any() else np.zeros(y.shape[1]), strict=True)
        ):
            rows.append(
                {
                    "simulator": cell.simulator, "dimensions": X.shape[1], "rows": m, "loss": cell.loss,
                    "output": output, "scheme": scheme, "error": all_rows, "estimated": estimated,
                }
            )  # fmt: skip
    return rows


def _answers(simulator: object, points: np.ndarray) -> np.ndarray:
    return np.asarray(simulator.call(points), np.float64).reshape(len(points), -1)


def _size(off: np.ndarray) -> np.ndarray:
    return np.sqrt((off**2).mean(axis=0))


def report(table: pd.DataFrame) -> str:
    """The table in Markdown, every figure of which is made from rows of `measured`."""
    keys = ["simulator", "rows", "loss", "output"]
    wide = table.pivot_table(index=[*keys, "dimensions"], columns="scheme", values="error") + ASIDE
    before = table[table.scheme == "nothing"].set_index(keys)["estimated"]
    wide = wide.reset_index("dimensions")
    wide["kind"] = np.select(
        [before.loc[wide.index] < SMOOTH, before.loc[wide.index] > ROUGH],
        ["smooth", "rough"],
        "between",
    )
    wide = wide.reset_index()
    parts = [("all", wide)]
    parts += [(f"{kind}", some) for kind, some in wide.groupby("kind")]
    parts += [(f"{loss:.0%} lost", some) for loss, some in wide.groupby("loss")]
    parts += [(f"{rows} rows", some) for rows, some in wide.groupby("rows")]
    few = wide.dimensions <= 4
    parts += [("up to 4 inputs", wide[few]), ("5 inputs and more", wide[~few])]
    lines = [
        "# What a fifth more calls is worth",
        "",
        f"{wide.simulator.nunique()} simulators, {len(wide)} outputs of cells. RMSE over all rows of a job with 1.2 calls a "
        "row, over that with 1.0, where the answers come that come; each plus 0.001 of the output's standard deviation. "
        f"Geometric means, with the 10 and 90 % quantiles. A function is smooth if estimates without more calls are off by "
        f"less than {SMOOTH:g} deviations, rough from {ROUGH:g} on.",
        "",
        "| | outputs | copies | new rows | mixtures | mixtures better than copies |",
        "|---|---|---|---|---|---|",
    ]
    for name, some in parts:
        cells = []
        for scheme in SCHEMES[1:]:
            ratio = np.log(some[scheme] / some["nothing"])
            low, high = np.exp(np.quantile(ratio, [0.1, 0.9]))
            cells.append(f"{np.exp(ratio.mean()):.2f} ({low:.2f} to {high:.2f})")
        better = (some["mixtures"] < some["copies"]).mean()
        lines.append(f"| {name} | {len(some)} | {' | '.join(cells)} | {better:.0%} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run the experiment; the exit code."""
    return run_cells(
        "mixtures", "What a fifth more calls is worth.", arguments, _cells, measured, report
    )


def _cells(quick: bool) -> list[Cell]:
    if quick:
        return [Cell(name, 60, 0.4) for name in ("ishigami", "piston")]
    names = [name for name, one in SIMULATORS.items() if not one.needs and one.given is None]
    return [Cell(name, rows, loss) for rows in ROWS for loss in LOSSES for name in names]
