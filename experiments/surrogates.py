"""``python -m experiments surrogates``: are estimates as good as the best surrogate of the same answered rows?

One cell is a simulator, a number of rows, a share of them lost, and how they were lost. Every estimate of a lost row is
compared with its answer, per output, and so are five surrogates; the best of these is chosen afterwards. Answers and
surrogates are kept in a cache, so that a run after a change of the estimator takes the estimator's time only.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr
from threadpoolctl import threadpool_limits

import codedmap as cm

from . import data
from .harness import Row, results_folder
from .rivals import RIVALS, predictions
from .simulators import SIMULATORS, Simulator, Unavailable, table
from .surrogates_report import ASIDE, WITH_OUTPUTS, report, summary

__all__ = ["ESTIMATORS", "Cell", "cells", "lost_rows", "main", "measure", "scores"]

WORKERS = 24
AT_MOST = 1.10
CALIBRATION = ("calibration", "within", "rank", "rank_at_best", "spread", "quantile_ratio")
DRAWS = 1_000
"""Bootstrap samples."""

SPARE, TASKS = 0.2, 20
"""Calls besides one for each row, as a share of these; and rows of a group, in which neighbours are mixed."""

Estimator = Callable[..., tuple[np.ndarray, np.ndarray]]
"""A cell, inputs (m, d), answers (m, q), lost (m,) and a generator to values and standard errors (e, q) of lost rows."""

SHAPES = (
    (1_000, 0.17, "random"), (200, 0.17, "random"), (200, 0.40, "block"), (5_000, 0.17, "strided"),
    (1_000, 0.40, "random"), (1_000, 0.17, "block"), (5_000, 0.05, "block"), (5_000, 0.40, "random"),
)  # fmt: skip
"""Rows, share lost, and how: at random, or the rows of lost workers, contiguous or strided."""


@dataclass(frozen=True)
class Cell:
    """One comparison."""

    simulator: Simulator
    rows: int
    loss: float
    kind: str

    @property
    def name(self) -> str:
        return f"{self.simulator.name}-{self.rows}-{round(100 * self.loss)}-{self.kind}"


def cells(
    simulators: Iterable[Simulator],
    rows: Sequence[int] = (),
    kinds: Sequence[str] = (),
    losses: Sequence[float] = (),
) -> list[Cell]:
    """The cells of simulators, those of the same shape together; empty sequences choose all."""
    # The same first rows twice would be no further evidence: a size beyond a simulator's most is left out.
    simulators = list(simulators)
    return [
        Cell(one, m, loss, kind)
        for m, loss, kind in SHAPES
        for one in simulators
        if m <= one.most and (not rows or m in rows) and (not kinds or kind in kinds) and (not losses or loss in losses)
    ]  # fmt: skip


def lost_rows(rows: int, loss: float, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Which rows are lost, (rows,) bool."""
    if kind == "random":
        lost = np.zeros(rows, bool)
        lost[rng.permutation(rows)[: round(loss * rows)]] = True
        return lost
    row = np.arange(rows)
    worker = row * WORKERS // rows if kind == "block" else row % WORKERS
    return np.isin(worker, rng.permutation(WORKERS)[: round(loss * WORKERS)])


def _fill(
    cell: Cell,
    X: np.ndarray,
    y: np.ndarray,
    lost: np.ndarray,
    rng: np.random.Generator,
    known: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    filled = cm.fill(X, np.where(lost[:, None], np.nan, y), known=known, seed=0)
    changed = (filled.values[~lost] != y[~lost]) | (filled.stderr[~lost] != 0)
    if changed.any():
        raise ValueError(
            f"{changed.any(axis=1).sum()} of {len(changed)} answered rows are no longer exact"
        )
    return filled.values[lost], filled.stderr[lost]


def _copies(
    cell: Cell, X: np.ndarray, y: np.ndarray, lost: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of the rows is computed twice; a lost row is exact if its copy is not lost."""
    copies = rng.permutation(len(X))[: round(SPARE * len(X))]
    found = np.zeros(len(X), bool)
    found[copies[rng.random(len(copies)) >= cell.loss]] = True
    values, stderr = y[lost], np.zeros((int(lost.sum()), y.shape[1]))
    still = ~found[lost]
    values[still], stderr[still] = _fill(cell, X, y, lost & ~found, rng)
    return values, stderr


def _mixtures(
    cell: Cell, X: np.ndarray, y: np.ndarray, lost: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A fifth more calls compute the mixtures of a `KernelCode`, some of which are lost as well."""
    lacking = cell.simulator.lacking()
    if lacking:
        raise Unavailable(f"{cell.simulator.name} needs {', '.join(lacking)} to compute mixtures")
    code = cm.KernelCode(TASKS, round((1 + SPARE) * TASKS), 0)
    whole = X[code.arranged(X)][: len(X) // TASKS * TASKS]
    encoding = code.encode(whole.reshape(TASKS, -1, X.shape[1]))
    mixed = [slot for slot, task in enumerate(encoding.raw) if task is None]
    points = encoding.payloads[mixed].reshape(-1, X.shape[1])
    points = points[rng.random(len(points)) >= cell.loss]
    answers = np.asarray(cell.simulator.call(points), np.float64).reshape(len(points), -1)
    return _fill(cell, X, y, lost, rng, known=(points, answers[:, : y.shape[1]]))


def _outputs(
    cell: Cell, X: np.ndarray, y: np.ndarray, lost: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each output is lost by itself; the others of the same rows are known."""
    parts = []
    for column in range(y.shape[1]):
        given = y.copy()
        given[lost, column] = np.nan
        filled = cm.fill(X, given, seed=0)
        parts.append((filled.values[lost, column], filled.stderr[lost, column]))
    values, stderr = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
    return values, stderr


def _rivals_with_outputs(
    X: np.ndarray, y: np.ndarray, lost: np.ndarray, name: str, cache: Path
) -> np.ndarray:
    """Values (5, e, q) by surrogates that have the other outputs as inputs too."""
    each = (
        predictions(
            np.hstack([X, np.delete(y, column, axis=1)]), y[:, [column]], lost, f"{name}-{column}", cache
        )[0]
        for column in range(y.shape[1])
    )  # fmt: skip
    return np.concatenate(list(each), axis=2)


ESTIMATORS: dict[str, Estimator] = {
    "fill": _fill, "copies": _copies, "mixtures": _mixtures, "outputs": _outputs,
}  # fmt: skip
"""By name: of the answered rows; of a fifth more calls, for copies or mixtures; of one output at a time."""

MORE = {
    "copies": f", {1 + SPARE:g} calls a row",
    "mixtures": f", {1 + SPARE:g} calls a row",
    "outputs": ", one lost at a time, beside ten surrogates: five of the inputs, five of these and the other outputs",
}
"""What the page says of these."""


def measure(cell: Cell, estimator: str, seed: int, cache: Path) -> list[Row]:
    """One row an output; one row with what it needs where the simulator cannot run here."""
    head = {
        "simulator": cell.simulator.name, "title": cell.simulator.title, "rows": cell.rows, "loss": cell.loss,
        "kind": cell.kind,
    }  # fmt: skip
    try:
        X, y = table(cell.simulator, cell.rows, cache)
    except Unavailable as error:
        return [{**head, "problem": str(error), "skipped": True}]
    entropy = [seed, zlib.crc32(cell.name.encode())]
    rng = np.random.default_rng(entropy)
    lost = lost_rows(len(X), cell.loss, cell.kind, rng)
    with threadpool_limits(1):
        rivals, seconds = predictions(X, y, lost, cell.name, cache)
        names = list(RIVALS)
        if estimator == "outputs":
            rivals = np.concatenate([rivals, _rivals_with_outputs(X, y, lost, cell.name, cache)])
            names += [f"{name}{WITH_OUTPUTS}" for name in RIVALS]
        began = time.perf_counter()
        problem = ""
        try:
            values, stderr = ESTIMATORS[estimator](cell, X, y, lost, rng)
        except Unavailable as error:
            return [{**head, "problem": str(error), "skipped": True}]
        except Exception as error:  # one failure must not cost the table
            problem = f"{type(error).__name__}: {error}"
            values = stderr = np.full((int(lost.sum()), y.shape[1]), np.nan)
        took = time.perf_counter() - began
    head |= {"inputs": X.shape[1], "answered": int((~lost).sum()), "lost": int(lost.sum()), "seconds": took,
             "GP_seconds": seconds[0]}  # fmt: skip
    exact = (stderr == 0).all(axis=1) if estimator == "copies" else None
    found = scores(y, lost, values, stderr, rivals, rng, exact, names)
    return [
        {**head, "output": name, **row, "problem": problem or row["problem"]}
        for name, row in zip(cell.simulator.outputs, found, strict=True)
    ]


def scores(
    y: np.ndarray,
    lost: np.ndarray,
    values: np.ndarray,
    stderr: np.ndarray,
    rivals: np.ndarray,
    rng: np.random.Generator,
    exact: np.ndarray | None = None,
    names: Sequence[str] = tuple(RIVALS),
) -> Iterator[Row]:
    """Errors and calibration on the lost rows, one row an output.

    Parameters
    ----------
    y : ndarray, shape (m, q)
    lost : ndarray of bool, shape (m,)
    values, stderr : ndarray, shape (e, q)
        Of the lost rows.
    rivals : ndarray, shape (r, e, q)
    rng : Generator
        Of the bootstrap.
    exact : ndarray of bool, shape (e,), optional
        Lost rows of which there was a copy.
    names : sequence of str
        Of the r rivals.
    """
    drawn = rng.poisson(1.0, (DRAWS, len(values))).astype(float)
    drawn /= np.maximum(drawn.sum(axis=1, keepdims=True), 1.0)
    for i in range(y.shape[1]):
        truth, sd = y[lost, i], float(y[:, i].std()) or 1.0
        others = ((rivals[:, :, i] - truth) / sd) ** 2
        off, stated = (values[:, i] - truth) / sd, stderr[:, i] / sd
        estimated = np.ones(len(off), bool) if exact is None else ~exact
        best = int(others.mean(axis=1).argmin())
        row: Row = {"sd": sd, "best": names[best]}
        row |= dict(zip(names, np.sqrt(others.mean(axis=1)), strict=True))
        row |= dict.fromkeys(("low", "high", *CALIBRATION), np.nan)
        row["problem"] = _problem(off, stated[estimated])
        if not np.isfinite(off).all():
            yield {**row, "rmse": np.inf, "ratio": np.inf, "p": 0.0}
            continue
        pair = np.stack([off**2, others[best]], axis=1)
        ratio = _ratio(pair.mean(axis=0))
        again = np.log(_ratio(drawn @ pair))
        low, high = np.exp(np.quantile(again, (0.005, 0.995)))
        # Far in the tail, where Holm's correction asks, the normal distribution stands for the bootstrap's.
        p = float(norm.sf(np.log(ratio / AT_MOST) / max(again.std(), 1e-9)))
        row |= {
            "rmse": np.sqrt(pair[:, 0].mean()),
            "ratio": ratio,
            "low": low,
            "high": high,
            "p": p,
        }
        yield row | _calibrated(off[estimated], stated[estimated], rng)


def _ratio(squares: np.ndarray) -> Any:
    errors = np.sqrt(squares) + ASIDE
    return errors[..., 0] / errors[..., 1]


def _problem(off: np.ndarray, stated: np.ndarray) -> str:
    bad = np.count_nonzero(~np.isfinite(off))
    wrong = np.count_nonzero(~(np.isfinite(stated) & (stated > 0)))
    return "; ".join(
        f"{count} of {len(off)} {what}"
        for count, what in ((bad, "values not finite"), (wrong, "standard errors not finite or not above 0"))
        if count
    )  # fmt: skip


def _calibrated(off: np.ndarray, stated: np.ndarray, rng: np.random.Generator) -> Row:
    good = np.isfinite(stated) & (stated > 0)
    off, stated = np.abs(off[good]), stated[good]
    if len(off) < 5:
        return {}
    # Were the errors' scale the same everywhere, log |error| of normal errors would have a variance of π²/8.
    logs = np.log(np.maximum(off, 1e-12 * max(off.max(), 1e-300)))
    beyond = np.sqrt(max(float(logs.var()) - np.pi**2 / 8, 0.0))
    found = (
        np.sqrt(np.mean((off / stated) ** 2)),
        np.mean(off <= 2 * stated),
        _rank(stated, off),
        # The rank correlation if every standard error were correct for its row.
        _rank(stated, stated * rng.permutation(off / stated)),
        min(np.exp(2.563 * beyond), 1e6),
        min(np.divide(*np.exp(np.quantile(logs, (0.9, 0.1)))), 1e6),
    )
    return dict(zip(CALIBRATION, map(float, found), strict=True))


def _rank(one: np.ndarray, other: np.ndarray) -> float:
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else 0.0


def main(line: Sequence[str]) -> int:
    """The command."""
    parser = _parser()
    options = parser.parse_args(line)
    if options.data is not None:
        os.environ["CODEDMAP_DATA"] = str(options.data)
    if options.held_out:
        # Imported here: nothing but this option may see them.
        from . import held_out  # noqa: PLC0415

    known = held_out.LATER if options.held_out else SIMULATORS
    if options.estimator == "outputs":
        known = {name: one for name, one in known.items() if len(one.outputs) > 1}
    names = options.only or tuple(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no simulator is called {unknown[0]}: choose from {', '.join(known)}")
    rows = options.rows or ((200,) if options.quick else ())
    chosen = cells([known[name] for name in names], rows, options.kind, options.loss)
    if not chosen:
        parser.error(f"no cell is left: rows, losses and kinds are {', '.join(map(str, SHAPES))}")
    found = pd.DataFrame(_measured(chosen, options))
    if not len(found):
        print("surrogates: no simulator could run here", file=sys.stderr)
        return 2
    whole = not (options.quick or options.only or options.rows or options.kind or options.loss)
    folder = results_folder(options.results, quick=not whole)
    folder.mkdir(parents=True, exist_ok=True)
    name = "surrogates" if options.estimator == "fill" else f"surrogates-{options.estimator}"
    path = folder / f"{name}{'-held-out' if options.held_out else ''}.csv"
    found.to_csv(path, index=False, float_format="%.5g")
    absent = sorted({cell.simulator.title for cell in chosen} - set(found["title"]))
    more = MORE.get(options.estimator, "")
    text = report(pd.read_csv(path), options.estimator + more, absent)
    path.with_suffix(".md").write_text(text)
    print(text if not whole else summary(pd.read_csv(path)))
    print(f"written: {path} and {path.with_suffix('.md')}")
    return 0


def _parser() -> argparse.ArgumentParser:
    def several(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
        return lambda text: tuple(kind(part) for part in text.split(","))

    parser = argparse.ArgumentParser(
        prog="python -m experiments surrogates", description="Judge estimates beside surrogates of the same rows."
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="200 rows only")
    parser.add_argument(
        "--only", type=several(str), default=(), metavar="NAME,...", help="these simulators"
    )
    parser.add_argument(
        "--rows", type=several(int), default=(), help="these numbers of rows: 200, 1000, 5000"
    )
    parser.add_argument(
        "--loss", type=several(float), default=(), help="these shares lost: 0.05, 0.17, 0.4"
    )
    parser.add_argument("--kind", type=several(str), default=(), help="random, block, strided")
    parser.add_argument(
        "--held-out", action="store_true", help="simulators that no development has used"
    )
    parser.add_argument(
        "--estimator", choices=ESTIMATORS, default="fill",
        help="with copies or mixtures at 1.2 calls a row; surrogates have 1.0",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the losses")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each on one core")
    parser.add_argument(
        "--cache", type=Path, default=Path(os.environ.get("CODEDMAP_SURROGATES") or data.cache() / "surrogates"),
        help="folder of answers and surrogates (environment: CODEDMAP_SURROGATES)",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, help="folder of data sets")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results")
    return parser


def _measured(chosen: list[Cell], options: argparse.Namespace) -> Iterator[Row]:
    call = partial(measure, estimator=options.estimator, seed=options.seed, cache=options.cache)
    skipped: set[str] = set()
    with ProcessPoolExecutor(options.jobs) as pool:
        found = pool.map(call, chosen) if options.jobs > 1 else map(call, chosen)
        for at, (cell, rows) in enumerate(zip(chosen, found, strict=True), 1):
            if "skipped" in rows[0]:
                if cell.simulator.name not in skipped:
                    print(f"skipped: {rows[0]['problem']}", file=sys.stderr, flush=True)
                skipped.add(cell.simulator.name)
                continue
            said = "  ".join(
                f"{row['ratio']:.2f}/{row.get('calibration', np.nan):.2f}" for row in rows
            )
            print(
                f"{at}/{len(chosen)} {cell.name} {rows[0]['seconds']:.1f} s  ratio/calibration {said}"
                f"{'  ' + rows[0]['problem'] if rows[0]['problem'] else ''}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            yield from rows
