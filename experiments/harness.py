"""Run an experiment cell by cell; an interrupted run resumes after the last finished cell."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import data

__all__ = ["Cell", "Experiment", "Reads", "Row", "check", "results_folder", "run"]

Cell = dict[str, Any]
"""Identifies one independent unit of work; values are names and numbers only."""
Row = dict[str, Any]
Reads = tuple[str | Path, ...]
"""Files: names in `data.FILES`, or paths inside the repository."""


def _nothing(config: Any, cell: Cell) -> Reads:
    return ()


@dataclass(frozen=True)
class Experiment:
    """One experiment: its table, figure and report.

    Parameters
    ----------
    name : str
        Also the name of its files.
    configure : callable
        Maps ``quick`` to a frozen dataclass of settings.
    cells : callable
        Maps the settings to the list of cells.
    compute : callable
        Maps settings, cell and the random generator of the cell to rows of the table.
    plot : callable
        Draws the figure of a table into a file.
    report : callable
        Maps the table to a section in Markdown; every figure in it comes from the table.
    reads : callable, optional
        Maps settings and cell to the files that the rows depend on. All of them must exist before the
        first cell is computed. Rows computed from different content are computed again.
    stream : callable, optional
        Maps a cell to what seeds its random generator; by default the experiment's name and the cell.
    """

    name: str
    configure: Callable[[bool], Any]
    cells: Callable[[Any], list[Cell]]
    compute: Callable[[Any, Cell, np.random.Generator], Iterable[Row]]
    plot: Callable[[pd.DataFrame, Path], None]
    report: Callable[[pd.DataFrame], str]
    reads: Callable[[Any, Cell], Reads] = _nothing
    stream: Callable[[Cell], Any] | None = None


def results_folder(root: Path, quick: bool) -> Path:
    """Folder of tables and figures; quick runs have their own."""
    return root / "quick" if quick else root


def check(experiments: Iterable[Experiment], quick: bool) -> None:
    """Check that all files that these experiments read exist.

    Raises
    ------
    MissingData
        Names all files that are missing.
    """
    names: list[str] = []
    for experiment in experiments:
        config = experiment.configure(quick)
        for cell in experiment.cells(config):
            names += [one for one in experiment.reads(config, cell) if isinstance(one, str)]
    data.require(names)


def store(root: Path, name: str) -> Path:
    """Folder of the finished cells of an experiment."""
    return root / ".cells" / name


def run(experiment: Experiment, *, quick: bool, seed: int, root: Path) -> pd.DataFrame:
    """Compute all cells that are not stored yet, and write table and figure.

    Parameters
    ----------
    experiment : Experiment
    quick : bool
        Use the small configuration and its own folder.
    seed : int
        The same seed gives the same table: each cell seeds a generator with it and the cell.
    root : Path
        The results folder; finished cells are stored in its folder ``.cells``.

    Returns
    -------
    DataFrame
        Rows in the order of the cells.

    Raises
    ------
    MissingData
        Before the first cell, if a file is missing.
    """
    check([experiment], quick)
    config = experiment.configure(quick)
    cells = experiment.cells(config)
    folder = results_folder(root, quick)
    kept = store(root, experiment.name)
    kept.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tables = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(experiment.name, total=len(cells))
        for cell in cells:
            tables.append(_rows(experiment, config, cell, seed, kept))
            progress.advance(task)
    table = pd.DataFrame([row for rows in tables for row in rows])
    _write(folder / f"{experiment.name}.csv", table.to_csv(index=False, float_format="%.6g"))
    # Figure and report use the numbers as written, to the last digit.
    table = pd.read_csv(folder / f"{experiment.name}.csv")
    experiment.plot(table, folder / f"{experiment.name}.png")
    return table


def _rows(experiment: Experiment, config: Any, cell: Cell, seed: int, store: Path) -> list[Row]:
    known: list[Any] = [experiment.name, dataclasses.asdict(config), cell, seed]
    paths = [
        data.path_of(one) if isinstance(one, str) else one for one in experiment.reads(config, cell)
    ]
    if paths:
        known.append({path.name: data.digest(path) for path in paths})
    identity = json.dumps(known, sort_keys=True, default=str)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:24]
    path = store / f"{digest}.json"
    if path.exists():
        rows: list[Row] = json.loads(path.read_text())
        return rows
    # The random stream of a cell does not depend on the other cells or their order.
    label = experiment.stream(cell) if experiment.stream else [experiment.name, cell]
    own = hashlib.sha256(json.dumps(label, sort_keys=True, default=str).encode())
    entropy = [seed, *np.frombuffer(own.digest()[:16], np.uint32).tolist()]
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    rows = [{**cell, **row} for row in experiment.compute(config, cell, rng)]
    _write(path, json.dumps(rows, default=float))
    return json.loads(path.read_text())


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
