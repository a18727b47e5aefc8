"""What came of it: the table, as text and as a file, and what it says in words."""

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
    """Mean number of worker calls a wave."""
    rmse: float
    """Of the logits, over all waves."""
    rmse_min: float
    """In the wave where it is least."""
    rmse_max: float
    rmse_over_sd: float
    """In units of the standard deviation of the model's own logits over the digits."""
    exact: float
    """Share of digits whose answer is the model's own, and known to be."""
    same_label: float
    """Share of digits that get the label which the model itself gives them."""


def summary(scheme: str, runs: Sequence[Run], own: Sequence[np.ndarray]) -> Row:
    """Put a scheme's waves together.

    Parameters
    ----------
    scheme : str
    runs : sequence of Run
        One a wave.
    own : sequence of ndarray, each of shape (rows, outputs)
        What the model itself answers to the same rows.
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
    """The same as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)])
        table.writeheader()
        for row in rows:
            table.writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            )


def reading(rows: Sequence[Row]) -> str:
    """What the figures say, made from the figures."""
    named = {row.scheme: row for row in rows}
    wait, hedged, copies = named["Wait for everyone"], named["Hedged"], named["Replication x2"]
    berrut, spline, kernel = named["BACC"], named["LeTCC"], named["KernelCode"]
    return " ".join(
        [
            f"Waiting for everyone took {wait.seconds_median / spline.seconds_median:.1f} times as "
            f"long as LeTCC ({wait.seconds_median:.2f} s against {spline.seconds_median:.2f} s), "
            f"whose answers are estimates: {spline.same_label:.1%} of the labels are the model's own"
            f"{_rivals(spline, berrut)}.",
            f"KernelCode, as fast ({kernel.seconds_median:.2f} s), has {kernel.exact:.0%} of the answers "
            f"exact and states a standard error for the others; its error is "
            f"{kernel.rmse / spline.rmse:.2f} times LeTCC's, {kernel.same_label:.1%} of its labels are "
            "the model's own.",
            _budget(copies, spline, kernel),
            _cheap(hedged, copies, spline),
        ]
    )


def _rmse(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((got.astype(float) - wanted) ** 2)))


def _rivals(spline: Row, berrut: Row) -> str:
    """Both codes meet the same luck, but who is among the first N - S is a matter of milliseconds."""
    how = f"its error is {berrut.rmse / spline.rmse:.2f} times LeTCC's"
    if berrut.rmse_min < spline.rmse_max and spline.rmse_min < berrut.rmse_max:
        how += ", but both vary more between waves"
    return f" (BACC: {berrut.same_label:.1%}; {how})"


def _budget(copies: Row, spline: Row, kernel: Row) -> str:
    """Copies against the codes, at the same number of calls."""
    same = f"At the same {copies.calls:.0f} calls plain copies are exact"
    typical = f"{copies.seconds_median:.2f} s against {spline.seconds_median:.2f} s"
    worst = f"{copies.seconds_max:.2f} s against {spline.seconds_max:.2f} s"
    fast = "as fast" if copies.seconds_median < 1.1 * spline.seconds_median else "nearly as fast"
    if copies.seconds_median > 1.5 * spline.seconds_median:
        return f"{same} but slower ({typical}): here the code buys time with accuracy."
    if copies.seconds_max > 1.5 * spline.seconds_max:
        return (
            f"{same} and usually {fast} ({typical}), so copies are the better choice here, "
            f"unless it is the slowest wave that counts ({worst}; KernelCode {kernel.seconds_max:.2f} s)."
        )
    return (
        f"{same} and {fast} ({typical}; {worst} in the slowest wave): for this model copies are "
        "the better choice."
    )


def _cheap(hedged: Row, copies: Row, spline: Row) -> str:
    cost = f"{hedged.calls:.1f} calls instead of {copies.calls:.0f}"
    time = f"{hedged.seconds_median:.2f} s, {hedged.seconds_median / spline.seconds_median:.1f} times LeTCC's"
    return f"Hedging is exact as well, with {cost}, in {time}."
