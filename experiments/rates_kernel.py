"""What the rates experiment's report says of `codedmap.KernelCode` beside LeTCC."""

from __future__ import annotations

import pandas as pd

from .rates_plot import TITLES

__all__ = ["beside_kernel"]


def beside_kernel(table: pd.DataFrame) -> str:
    """What the kernel code's error is beside LeTCC's, in the cells that have both."""
    keys = ["function", "noise", "workers", "stragglers"]
    own = table.query("code == 'KernelCode'").set_index(keys)["mse"]
    lines = []
    for noise in (0.0, table["noise"].max()):
        letcc = table.query(
            "sweep == 'N' and kind == 'random' and noise == @noise and code == 'LeTCC'"
        )
        letcc = letcc[letcc["smoothing"] == ("gcv" if noise else "none")].set_index(keys)["mse"]
        both = pd.concat([own, letcc], axis=1, keys=["own", "letcc"]).dropna()
        few, many = (both.index.get_level_values("workers") == n for n in _ends(both))
        told = []
        for name, title in TITLES.items():
            here = both.index.get_level_values("function") == name
            first, last = both[here & few].iloc[0], both[here & many].iloc[0]
            told.append(
                f"{title}: {first.own:.2g} against {first.letcc:.2g}, then {last.own:.2g} against "
                f"{last.letcc:.2g}"
            )
        first, last = _ends(both)
        what = "with noise, LeTCC by GCV" if noise else "without noise"
        better = (both["own"] < both["letcc"]).sum()
        lines.append(
            f"KernelCode against LeTCC {what}, at N = {first} and at N = {last}: "
            + "; ".join(told)
            + f". Its error is the smaller one in {better} of {len(both)} cells."
        )
    lines.append(
        "It sends every task's own input first, so most tasks are exact and only those whose worker "
        "is late are estimated: it has the smaller error long before a curve through all workers is "
        "resolved. Of noisy answers it passes those to a task's own input through, noise and all: "
        f"more workers do not help it below the noise of a single answer ({table['noise'].max() ** 2:.2g}), "
        "and LeTCC, which averages, is the code for them. No rate is proven for it. Its curves are "
        "for stragglers anywhere, up to the N where its cubic time is felt."
    )
    return "\n\n".join(lines)


def _ends(both: pd.DataFrame) -> tuple[int, int]:
    workers = both.index.get_level_values("workers")
    return int(workers.min()), int(workers.max())
