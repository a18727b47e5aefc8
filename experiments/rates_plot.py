"""Slopes and figure of the rates experiment, made from its table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .plots import SCHEME_COLOURS, figure
from .stats import slope_interval

__all__ = [
    "CEILING",
    "FLOOR",
    "KINDS",
    "RESOLVED",
    "SMOOTHINGS",
    "TITLES",
    "fits",
    "plot",
    "proven",
]

FLOOR = 1e-20
"""Errors below this are rounding errors and are left out of the fits."""
CEILING = 0.1
"""Errors above this belong to unresolved curves and are left out of the fits."""
RESOLVED = 4
"""Smallest N / K in fits of slopes against N."""

TITLES = {"wave": "x sin x", "network": "tanh network", "kink": "abs(x)^1.6"}
KINDS = {"random": "random", "consecutive": "consecutive", "periodic": "evenly spaced"}
SMOOTHINGS = {
    "none": "no smoothing",
    "rule": "λ by theory",
    "gcv": "λ by GCV",
    "oracle": "best λ",
}

CODES = ("BACC", "LeTCC")
MARKERS = "os^"
SMOOTHING_COLOURS = {"none": "#56B4E9", "rule": "#CC79A7", "gcv": "#009E73", "oracle": "#000000"}
TITLE, AXIS, LEGEND = 18, 16, 14


def fits(table: pd.DataFrame) -> pd.DataFrame:
    """Slopes of the log error over the cells in the fit, and the proven exponents.

    Returns
    -------
    DataFrame
        One row per curve with three or more cells in the fit: ``sweep``, ``function``, ``noise``,
        ``kind``, ``fixed`` (S, N or p, the quantity that the curve does not vary), ``code``,
        ``smoothing``, ``value``, ``low``, ``high`` (the slope) and ``bound``: the proven exponent, NaN
        if none is known. In the probabilistic regime the bounds are not powers; there ``bound`` is
        the slope of the bound over the same N.
    """
    fixed = table["stragglers"].where(table["sweep"] == "N", table["workers"])
    fixed = fixed.where(table["sweep"] != "p", table["probability"])
    keys = ["sweep", "function", "noise", "kind", "fixed", "code", "smoothing"]
    rows = []
    for key, curve in table[table["in_fit"]].assign(fixed=fixed).groupby(keys, sort=False):
        if len(curve) < 3:
            continue
        names = dict(zip(keys, key, strict=True))
        x = curve["stragglers" if names["sweep"] == "S" else "workers"].to_numpy(float)
        slope = slope_interval(x, curve["mse"].to_numpy())
        rows.append({**names, **slope._asdict(), "bound": _bound(names, x)})
    return pd.DataFrame(rows)


def _bound(curve: dict[str, object], x: np.ndarray) -> float:
    letcc = curve["code"] == "LeTCC"
    if curve["sweep"] == "p":
        return slope_interval(x, proven(str(curve["code"]), x, curve["fixed"])).value
    if curve["code"] == "KernelCode":
        return np.nan
    if curve["noise"]:
        if not letcc or curve["smoothing"] == "none":
            return np.nan
        return -0.6 if curve["sweep"] == "N" else 1.6
    if curve["sweep"] == "N":
        return -3.0 if letcc else -2.0
    return 3.0 if letcc else np.nan


def proven(code: str, workers: np.ndarray, probability: object) -> np.ndarray:
    """The proven rate, up to a constant, if each worker is slow with this probability."""
    run = np.log(workers) / -np.log(float(str(probability)))  # the longest run of slow neighbours
    return run**3 / workers**3.0 if code == "LeTCC" else run**4 / workers**2.0


def plot(table: pd.DataFrame, path: Path) -> None:
    """Four panels: against N without and with noise, against S, and with independent stragglers."""
    with figure(path, 2, 2) as axes:
        for axis, panel in zip(axes.flat, (_exact, _noisy, _stragglers, _independent), strict=True):
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            panel(axis, table)
            axis.xaxis.set_major_formatter("{x:.0f}")
            axis.set_ylabel("mean squared error / variance", fontsize=AXIS)
            axis.tick_params(labelsize=AXIS - 1)
            axis.grid(alpha=0.25)


def _exact(axis: Axes, table: pd.DataFrame) -> None:
    cells = _most(table.query("sweep == 'N' and noise == 0 and kind == 'random'"))
    for code, power, rate in (("BACC", -2.0, "N⁻²"), ("LeTCC", -3.0, "N⁻³")):
        for marker, name in zip(MARKERS, TITLES, strict=True):
            curve = cells.query("code == @code and function == @name")
            label = f"{code}, {TITLES[name]}"
            _curve(axis, curve, "workers", label, SCHEME_COLOURS[code], marker)
        _guide(axis, curve, "workers", partial(_power, power), f"{rate}, proven for {code}")
    for marker, name in zip(MARKERS, TITLES, strict=True):
        curve = cells.query("code == 'KernelCode' and function == @name and mse > 0")
        label = f"KernelCode, {TITLES[name]}"
        _curve(axis, curve, "workers", label, SCHEME_COLOURS["KernelCode"], marker)
    axis.set_title(
        f"Error against N, S = {cells['stragglers'].max():.0f} random stragglers", fontsize=TITLE
    )
    axis.set_xlabel("workers N", fontsize=AXIS)
    axis.set_ylim(bottom=cells.query("code == 'LeTCC'")["mse"].min() / 1e6)
    axis.legend(fontsize=LEGEND - 2, frameon=False, loc="lower left", labelspacing=0.2)


def _noisy(axis: Axes, table: pd.DataFrame) -> None:
    cells = table.query("sweep == 'N' and noise > 0 and kind == 'random' and function == 'wave'")
    cells = _most(cells)
    _curve(axis, cells.query("code == 'BACC'"), "workers", "BACC", SCHEME_COLOURS["BACC"], "s")
    for marker, (name, label) in zip("ov^D", SMOOTHINGS.items(), strict=True):
        curve = cells.query("code == 'LeTCC' and smoothing == @name")
        _curve(axis, curve, "workers", f"LeTCC, {label}", SMOOTHING_COLOURS[name], marker)
    _guide(axis, curve, "workers", partial(_power, -0.6), "$N^{-3/5}$, proven for LeTCC")
    kernel = cells.query("code == 'KernelCode' and mse > 0")
    _curve(axis, kernel, "workers", "KernelCode", SCHEME_COLOURS["KernelCode"], "v")
    axis.set_title(f"The same with noisy answers, {TITLES['wave']}", fontsize=TITLE)
    axis.set_xlabel("workers N", fontsize=AXIS)
    axis.legend(fontsize=LEGEND, frameon=False, loc="upper right", labelspacing=0.25)


def _stragglers(axis: Axes, table: pd.DataFrame) -> None:
    cells = table.query("sweep == 'S' and noise == 0 and function == 'wave'")
    for code in CODES:
        for marker, kind in zip(MARKERS, KINDS, strict=True):
            curve = cells[(cells["code"] == code) & (cells["kind"] == kind)]
            label = f"{code}, {KINDS[kind]}"
            _curve(axis, curve, "stragglers", label, SCHEME_COLOURS[code], marker)
    worst = cells.query("code == 'LeTCC' and kind == 'consecutive'")
    _guide(axis, worst, "stragglers", partial(_power, 3.0), "S³, proven for LeTCC")
    axis.set_title(
        f"Error against S, N = {cells['workers'].max()}, {TITLES['wave']}", fontsize=TITLE
    )
    axis.set_xlabel("stragglers S", fontsize=AXIS)
    axis.set_ylim(bottom=cells["mse"].min() / 1e5)
    axis.legend(fontsize=LEGEND, frameon=False, loc="lower right", ncol=2, labelspacing=0.25)


def _independent(axis: Axes, table: pd.DataFrame) -> None:
    cells = table.query("sweep == 'p' and function == 'wave'")
    for code, label in (("BACC", "log⁴N·N⁻²"), ("LeTCC", "log³N·N⁻³")):
        for marker, p in zip(MARKERS, sorted(cells["probability"].unique()), strict=False):
            curve = cells.query("code == @code and probability == @p")
            _curve(axis, curve, "workers", f"{code}, p = {p:g}", SCHEME_COLOURS[code], marker)
        rate = partial(proven, code, probability=p)
        _guide(axis, curve, "workers", rate, f"{label}, proven for {code}")
    axis.set_title(f"Each worker late with probability p, {TITLES['wave']}", fontsize=TITLE)
    axis.set_xlabel("workers N", fontsize=AXIS)
    axis.legend(fontsize=LEGEND, frameon=False, loc="lower left", labelspacing=0.25)


def _most(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells["stragglers"] == cells["stragglers"].max()]


def _power(exponent: float, x: np.ndarray) -> np.ndarray:
    return x**exponent


def _curve(axis: Axes, cells: pd.DataFrame, x: str, label: str, colour: str, marker: str) -> None:
    at, mean = cells[x].to_numpy(float), cells["mse"].to_numpy()
    face = colour if marker in "oD" else "white"
    axis.plot(
        at,
        mean,
        marker + "-",
        color=colour,
        mfc=face,
        ms=6 if marker == "D" else 9,
        lw=2,
        label=label,
    )
    # Student's interval of a mean over few large errors may reach below 0, outside of a log axis.
    low = np.maximum(cells["low"].to_numpy(), mean / 10.0)
    axis.fill_between(at, low, cells["high"].to_numpy(), color=colour, alpha=0.15, lw=0)


def _guide(
    axis: Axes,
    cells: pd.DataFrame,
    x: str,
    rate: Callable[[np.ndarray], np.ndarray],
    label: str,
) -> None:
    """A proven rate; its unknown constant is fitted to the first cell in the fit."""
    cells = cells[cells["in_fit"]]
    if len(cells):
        at = cells[x].to_numpy(float)
        line = rate(at) / rate(at[:1]) * cells["mse"].iloc[0]
        style = ":" if "BACC" in label else "--"
        axis.plot(at, line, style, color="#444444", lw=1.5, zorder=0, label=label)
