"""The part of the rates report that compares `codedmap.KernelCode` with LeTCC."""

from __future__ import annotations

import pandas as pd

from .rates_plot import TITLES

__all__ = ["kernel_section"]


def kernel_section(table: pd.DataFrame) -> str:
    """Errors of KernelCode and LeTCC in the cells that have both, as Markdown."""
    keys = ["function", "noise", "workers", "stragglers"]
    own = table.query("code == 'KernelCode'").set_index(keys)["mse"]
    lines = [
        "| f | noise | N | KernelCode | LeTCC | KernelCode is better |",
        "|---" * 6 + "|",
    ]
    for noise in (0.0, table["noise"].max()):
        letcc = table.query(
            "sweep == 'N' and kind == 'random' and noise == @noise and code == 'LeTCC'"
        )
        letcc = letcc[letcc["smoothing"] == ("gcv" if noise else "none")].set_index(keys)["mse"]
        both = pd.concat([own, letcc], axis=1, keys=["own", "letcc"]).dropna()
        for name, title in TITLES.items():
            here = both[both.index.get_level_values("function") == name]
            better = f"{(here['own'] < here['letcc']).sum()} of {len(here)} cells"
            for n in _ends(both):
                row = here[here.index.get_level_values("workers") == n].iloc[0]
                kind = f"{noise:.0%}" if noise else "none"
                lines.append(
                    f"| {title} | {kind} | {n} | {row.own:.2g} | {row.letcc:.2g} | {better} |"
                )
    return (
        "Mean squared errors for stragglers at random positions, at the smallest and the largest N. LeTCC uses GCV with "
        "noise and no smoothing without.\n\n"
        + "\n".join(lines)
        + "\n\n`KernelCode` sends the raw input of every task first, so most tasks are exact and only those of stragglers "
        "are estimated. It has the smaller error long before a curve through all workers is resolved. It returns noisy "
        "answers to raw inputs as they are: more workers do not reduce its error below the noise of a single answer "
        f"({table['noise'].max() ** 2:.2g}). LeTCC averages and is the better code for noisy answers. No rate is proven for "
        "`KernelCode`."
    )


def _ends(both: pd.DataFrame) -> tuple[int, int]:
    workers = both.index.get_level_values("workers")
    return int(workers.min()), int(workers.max())
