"""The table, as text and as a file, and its summary in sentences."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, median

import numpy as np

from .schemes import Run

__all__ = ["Row", "reading", "summary", "text", "write"]


@dataclass(frozen=True, slots=True)
class Row:
    """One scheme over all waves."""

    scheme: str
    seconds_median: float
    seconds_min: float
    seconds_max: float
    calls: float
    """Mean number of worker calls per wave."""
    rmse: float
    """Of the logits, over all waves."""
    rmse_min: float
    """Smallest of a wave."""
    rmse_max: float
    rmse_over_sd: float
    """In standard deviations of the model's logits over the digits."""
    exact: float
    """Share of digits marked exact."""
    same_label: float
    """Share of digits whose label equals that of the model."""


def summary(scheme: str, runs: Sequence[Run], own: Sequence[np.ndarray]) -> Row:
    """Summarise the waves of a scheme.

    Parameters
    ----------
    scheme : str
    runs : sequence of Run
        One per wave.
    own : sequence of ndarray, each of shape (rows, outputs)
        Answers of the model to the same rows.
    """
    seconds = [run.seconds for run in runs]
    got, wanted = np.concatenate([run.values for run in runs]), np.concatenate(own)
    rmse = _rmse(got, wanted)
    waves = [_rmse(run.values, answers) for run, answers in zip(runs, own, strict=True)]
    sd = float(np.sqrt(wanted.astype(float).var(axis=0).mean()))
    return Row(
        scheme=scheme,
        seconds_median=median(seconds),
        seconds_min=min(seconds),
        seconds_max=max(seconds),
        calls=mean(len(run.calls) for run in runs),
        rmse=rmse,
        rmse_min=min(waves),
        rmse_max=max(waves),
        rmse_over_sd=rmse / sd,
        exact=float(np.mean([run.exact for run in runs])),
        same_label=float(np.mean(got.argmax(axis=1) == wanted.argmax(axis=1))),
    )


def text(rows: Sequence[Row]) -> str:
    """An aligned table of 78 columns."""
    head = (
        f"{'scheme':<17} {'seconds (min - max)':>19} {'calls':>6} {'RMSE':>6} {'RMSE/sd':>8} "
        f"{'exact':>6} {'same label':>10}"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        seconds = f"{row.seconds_median:.2f} ({row.seconds_min:.2f} - {row.seconds_max:.2f})"
        lines.append(
            f"{row.scheme:<17} {seconds:>19} {row.calls:>6.1f} {row.rmse:>6.3f} "
            f"{row.rmse_over_sd:>8.3f} {row.exact:>6.1%} {row.same_label:>10.1%}"
        )
    return "\n".join(lines)


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the table as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)])
        table.writeheader()
        for row in rows:
            table.writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            )


def reading(rows: Sequence[Row]) -> str:
    """A summary made from the figures."""
    named = {row.scheme: row for row in rows}
    wait, hedged, copies = named["Wait for everyone"], named["Hedged"], named["Replication x2"]
    berrut, spline, kernel = named["BACC"], named["LeTCC"], named["KernelCode"]
    return " ".join(
        [
            f"Waiting for everyone took {wait.seconds_median / spline.seconds_median:.1f} times as "
            f"long as LeTCC ({wait.seconds_median:.2f} s against {spline.seconds_median:.2f} s). The "
            f"answers of LeTCC are estimates: {spline.same_label:.1%} of the labels equal the model's"
            f"{_rivals(spline, berrut)}.",
            f"KernelCode took {kernel.seconds_median:.2f} s. {kernel.exact:.0%} of its answers are exact, "
            f"the others have standard errors. Its error is {kernel.rmse / spline.rmse:.2f} times that of "
            f"LeTCC, and {kernel.same_label:.1%} of its labels equal the model's.",
            _budget(copies, spline, kernel),
            _cheap(hedged, copies, spline),
        ]
    )


def _rmse(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got.astype(float) - wanted) ** 2)))


def _rivals(spline: Row, berrut: Row) -> str:
    """BACC against LeTCC; which answers are among the first N - S varies between runs."""
    how = f"its error is {berrut.rmse / spline.rmse:.2f} times that of LeTCC"
    if berrut.rmse_min < spline.rmse_max and spline.rmse_min < berrut.rmse_max:
        how += ", but both vary more than that between waves"
    return f" (BACC: {berrut.same_label:.1%}; {how})"


def _budget(copies: Row, spline: Row, kernel: Row) -> str:
    """Copies against the codes, at the same number of calls."""
    same = f"At the same {copies.calls:.0f} calls plain copies are exact"
    typical = f"{copies.seconds_median:.2f} s against {spline.seconds_median:.2f} s"
    worst = f"{copies.seconds_max:.2f} s against {spline.seconds_max:.2f} s"
    fast = "as fast" if copies.seconds_median < 1.1 * spline.seconds_median else "nearly as fast"
    if copies.seconds_median > 1.5 * spline.seconds_median:
        return f"{same} but slower ({typical}): here the code saves time at the cost of accuracy."
    if copies.seconds_max > 1.5 * spline.seconds_max:
        return (
            f"{same} and usually {fast} ({typical}). They are the better choice here, unless the "
            f"slowest wave matters ({worst}; KernelCode {kernel.seconds_max:.2f} s)."
        )
    return (
        f"{same} and {fast} ({typical}; {worst} in the slowest wave): for this model copies are "
        "the better choice."
    )


def _cheap(hedged: Row, copies: Row, spline: Row) -> str:
    cost = f"{hedged.calls:.1f} calls instead of {copies.calls:.0f}"
    time = f"{hedged.seconds_median:.2f} s, {hedged.seconds_median / spline.seconds_median:.1f} times as long as LeTCC"
    return f"Hedging is exact as well, with {cost}; it took {time}."
