"""The command line of experiments whose cells are measured in processes, and written as a table and a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd

from .harness import Row

__all__ = ["run_cells"]

Cell = TypeVar("Cell", bound=tuple)


def run_cells(
    name: str,
    description: str,
    arguments: list[str],
    cells_of: Callable[[bool], Sequence[Cell]],
    measured: Callable[..., list[Row]],
    report: Callable[[pd.DataFrame], str],
) -> int:
    """Measure all cells and write ``name.csv`` and ``name.md``; the exit code.

    Parameters
    ----------
    name, description : str
        Of the experiment.
    arguments : list of str
        Of the command line.
    cells_of : callable
        The cells, or fewer and smaller ones if it is given True.
    measured : callable
        The rows of a cell; it is given ``seed=`` as well.
    report : callable
        The table in Markdown.
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments {name}", description=description)
    parser.add_argument("--quick", action="store_true", help="few small cells")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes, each on one core")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results")
    options = parser.parse_args(arguments)
    cells, found = cells_of(options.quick), []
    with ProcessPoolExecutor(options.jobs) as pool:
        each = pool.map(partial(measured, seed=options.seed), cells)
        for at, (cell, rows) in enumerate(zip(cells, each, strict=True), 1):
            print(f"{at}/{len(cells)}", *cell, file=sys.stderr, flush=True)
            found += rows
    folder = options.results / "quick" if options.quick else options.results
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    pd.DataFrame(found).to_csv(path, index=False, float_format="%.5g")
    text = report(pd.read_csv(path))
    path.with_suffix(".md").write_text(text)
    print(text)
    return 0
