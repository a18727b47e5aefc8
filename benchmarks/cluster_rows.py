"""The first cases of `rows` on clusters: eight sleeping workers of Dask and of Ray on this machine, called by `cm.map` with
the engine of that cluster, and by `client.map` or a Ray task a row. Columns and faults are those of `rows`.
"""

from __future__ import annotations

from itertools import islice

from .harness import Row
from .rows import FULL, QUICK, cases, sleeping_cases, started

__all__ = ["run"]

_CASES = 6  # of those of `rows`
_WORKERS = 8
_CREWS = {"Dask": ("codedmap on Dask", "Dask"), "Ray": ("codedmap on Ray", "Ray")}


def run(*, quick: bool = False, repeats: int | None = None) -> list[Row]:
    """Rows of the table."""
    size = QUICK if quick else FULL
    workers = size.sleeping if quick else _WORKERS
    chosen = dict(
        islice(sleeping_cases(size, size.rows * workers // size.sleeping).items(), _CASES)
    )
    table = []
    for name, crew in _CREWS.items():
        with started(workers, crew) as running:
            table += cases(running, chosen, f"{workers} of {name}", repeats or (1 if quick else 7))
    return table
