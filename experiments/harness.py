"""Run an experiment cell by cell, so that an interrupted run goes on where it was."""

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
"""What identifies one independent piece of work: names and numbers only."""
Row = dict[str, Any]
Reads = tuple[str | Path, ...]
"""Files: names in `data.FILES`, or paths of what the repository holds."""


def _nothing(config: Any, cell: Cell) -> Reads:
    return ()


@dataclass(frozen=True)
class Experiment:
    """One question: a table, a figure and a few sentences, all made from its configuration.

    Parameters
    ----------
    name : str
        Also the names of its files.
    configure : callable
        ``quick`` to a frozen dataclass of settings.
    cells : callable
        Settings to the list of cells.
    compute : callable
        Settings, cell and a random generator of the cell's own to the rows of the table.
    plot : callable
        Draws the table into a file.
    report : callable
        The table in words: Markdown with a heading of its own, every figure taken from the table.
    reads : callable, optional
        Settings and cell to the files that the cell's rows follow from. All must be there before the
        first cell is computed, and rows computed from other content are not used again.
    """

    name: str
    configure: Callable[[bool], Any]
    cells: Callable[[Any], list[Cell]]
    compute: Callable[[Any, Cell, np.random.Generator], Iterable[Row]]
    plot: Callable[[pd.DataFrame, Path], None]
    report: Callable[[pd.DataFrame], str]
    reads: Callable[[Any, Cell], Reads] = _nothing


def results_folder(root: Path, quick: bool) -> Path:
    """Where tables and figures go; quick runs do not touch the full run's."""
    return root / "quick" if quick else root


def check(experiments: Iterable[Experiment], quick: bool) -> None:
    """Whether all files are there that these experiments need.

    Raises
    ------
    MissingData
        Naming all that are not.
    """
    names: list[str] = []
    for experiment in experiments:
        config = experiment.configure(quick)
        for cell in experiment.cells(config):
            names += [one for one in experiment.reads(config, cell) if isinstance(one, str)]
    data.require(names)


def store(root: Path, name: str) -> Path:
    """Where the finished cells of an experiment are kept."""
    return root / ".cells" / name


def run(experiment: Experiment, *, quick: bool, seed: int, root: Path) -> pd.DataFrame:
    """Compute all cells that an earlier run has not, and write table and figure.

    Parameters
    ----------
    experiment : Experiment
    quick : bool
        With the small configuration, into a folder of its own.
    seed : int
        The same seed gives the same table: each cell has a generator made from it and the cell.
    root : Path
        The results folder; finished cells are kept in its folder ``.cells``.

    Returns
    -------
    DataFrame
        Rows in the order of the cells.

    Raises
    ------
    MissingData
        Before the first cell, if data of any is missing.
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
    # What is drawn and told is what is written, to the last digit.
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
    # The cell's own stream does not depend on the other cells or their order.
    own = hashlib.sha256(json.dumps([experiment.name, cell], sort_keys=True, default=str).encode())
    entropy = [seed, *np.frombuffer(own.digest()[:16], np.uint32).tolist()]
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    rows = [{**cell, **row} for row in experiment.compute(config, cell, rng)]
    _write(path, json.dumps(rows, default=float))
    return json.loads(path.read_text())


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
