"""How long the experiments take, recorded by runs that start without stored cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

__all__ = ["record", "report"]


def record(folder: Path, name: str, seconds: float) -> None:
    """Add the wall-clock time of an experiment to the table."""
    path = folder / "times.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["experiment", "seconds"])
    times = dict(zip(table.experiment, table.seconds, strict=True))
    times[name] = round(seconds)
    pd.DataFrame(times.items(), columns=["experiment", "seconds"]).to_csv(path, index=False)


def report(table: pd.DataFrame) -> str:
    """The section of the page, from the table (``experiment``, ``seconds``)."""
    return "\n".join(
        [
            "## How long it takes",
            "",
            f"These {len(table)} experiments took {table.seconds.sum() / 60:.0f} minutes of wall-clock time, one "
            "after the other and without stored cells. Most of the time of the latency and serving experiments is "
            "spent in workers that sleep.",
            "",
            "| experiment | minutes |",
            "|---|---|",
            *(f"| {row.experiment} | {row.seconds / 60:.1f} |" for row in table.itertuples()),
            "",
            "Table: `results/times.csv`",
            "",
        ]
    )
