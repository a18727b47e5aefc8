"""How long the experiments take: noted by every run that keeps nothing of an earlier one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

__all__ = ["noted", "told"]


def noted(folder: Path, name: str, seconds: float) -> None:
    """Put an experiment's time on the clock into the table beside the others."""
    path = folder / "times.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["experiment", "seconds"])
    times = dict(zip(table.experiment, table.seconds, strict=True))
    times[name] = round(seconds)
    pd.DataFrame(times.items(), columns=["experiment", "seconds"]).to_csv(path, index=False)


def told(table: pd.DataFrame) -> str:
    """The table (``experiment``, ``seconds``) in words."""
    return "\n".join(
        [
            "## How long it takes",
            "",
            f"These {len(table)} experiments took {table.seconds.sum() / 60:.0f} minutes on the clock, one "
            "after the other and with nothing kept from earlier runs; most of the latency experiment's time "
            "its workers really sleep.",
            "",
            "| experiment | minutes |",
            "|---|---|",
            *(f"| {row.experiment} | {row.seconds / 60:.1f} |" for row in table.itertuples()),
            "",
            "Table: `results/times.csv`",
            "",
        ]
    )
