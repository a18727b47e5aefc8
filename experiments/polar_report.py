"""Figure and report of the polar experiment, both made from its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from .plots import figure
from .stats import slope_interval

__all__ = ["plot", "report"]

COLOURS = {"polar": "#D55E00", "MDS": "#0072B2", "copies": "#009E73", "dense": "#999999"}
CALLS = {"PolarCode": "polar", "MDSCode": "MDS", "dense K x K system": "dense"}
KINDS = {"alike": "blocks of equal size", "uneven": "an eighth of the blocks 10 times as large"}

WORDS = """## Polar codes against MDS codes: answers needed, decoding time, estimates

**Question.** N workers compute the product of a matrix in K blocks. How many answers does each code need, how long
does decoding take, and how good are estimates before it?

| | MDS code | polar code |
|---|---|---|
| needs | any K answers | more than K answers |
| decodes by | solving a linear system as large as the missing blocks | additions |
| before it can decode | the blocks whose workers answered | an estimate of all blocks, with error bars |

### Answers needed

Answers in excess of K, in random order: the mean with its 95 % interval, and the 95th percentile. An earlier
simulation, written independently, found 5 % at K/N = 0.875, 10 to 11 % at 0.75 and 16 % at 0.625 (N from 64 to 512,
kernel [[1, 1], [0, 1]]).

{needed}

{needed_verdict}

### Decoding time

From `python -m benchmarks polar` ({date}, {cpu}): a set of answers that was not decoded before, one thread. The slopes
are those of time against N on logarithmic axes, from {few} to {many} workers, with 95 % intervals.

{decoding}

{decoding_verdict}

### Estimates before decoding

Root mean square error divided by the root mean square of the products, mean over {repetitions} random matrices and
orders. 0 is exact; 1 is the error of predicting 0. A polar code estimates until it can decode. Missing blocks of an
`MDSCode` and of `Replication` count as 0. *Coverage* is the share of entries within 1.96 standard errors, in the runs
that needed an estimate.

{anytime}

**Coverage.** {coverage}

**Result.** {out}

**Conclusion.** Up to a few hundred workers an MDS code is the better choice. It needs the fewest answers, and the
blocks that it has before decoding are exact, which gives a smaller error than an estimate of all blocks. The polar
code decodes faster from about a thousand workers on. Its estimate has an error bar for every entry; the other codes
have no information on missing blocks.
"""


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
    needed = table[table.part == "needed"]
    decoding = table[table.part == "decoding"]
    anytime = table[table.part == "anytime"]
    return WORDS.format(
        needed=_needed(needed),
        needed_verdict=_needed_verdict(needed),
        date=decoding.date.iloc[0],
        cpu=decoding.cpu.iloc[0],
        few=int(decoding.N.min()),
        many=f"{int(decoding.N.max()):,}",
        decoding=_decoding(decoding),
        decoding_verdict=_decoding_verdict(decoding),
        repetitions=int(anytime.repetitions.max()),
        anytime=_anytime(anytime),
        coverage=_coverage(anytime),
        out=_out(anytime),
    )


_SOME = 10
"""Number of estimates from which a coverage is shown."""


def _needed(needed: pd.DataFrame) -> str:
    rates = sorted((needed.K / needed.N).unique(), reverse=True)
    lines = ["| code | N | orders | " + " | ".join(f"K/N = {rate:g}" for rate in rates) + " |"]
    lines.append("|---" * (3 + len(rates)) + "|")
    for (scheme, N), rows in needed.groupby(["scheme", "N"], sort=False):
        cells = []
        for rate in rates:
            row = rows[rows.K.eq(round(rate * N))].iloc[0]
            cells.append(
                f"{row.over:+.1%} [{row.over_low:.1%}, {row.over_high:.1%}], p95 {row.over_p95:+.1%}"
            )
        lines.append(
            f"| {scheme} | {N:,.0f} | {rows.orders.iloc[0]:,.0f} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def _needed_verdict(needed: pd.DataFrame) -> str:
    polar = needed[needed.scheme == "polar"]
    usual, half = polar[polar.K / polar.N > 0.6], polar[polar.K / polar.N < 0.6]
    return (
        f"From K/N = {(usual.K / usual.N).max():g} down to {(usual.K / usual.N).min():g} the polar code needs "
        f"{usual.over.min():.0%} to {usual.over.max():.0%} more answers than K, where 5 to 16 % were expected. At "
        f"K/N = {(half.K / half.N).max():g} it needs {half.over.min():.0%} to {half.over.max():.0%} more. At these sizes the "
        "excess depends little on N; only its spread decreases."
    )


def _decoding(decoding: pd.DataFrame) -> str:
    lines = [
        "| columns | K/N | polar, ms | MDS, ms | dense, ms | slopes: polar | MDS | dense |",
        "|---" * 8 + "|",
    ]
    rate = (decoding.K / decoding.N).round(3)
    for (columns, share), rows in decoding.groupby([decoding["columns"], rate]):
        largest, cells, slopes = rows[rows.N.eq(rows.N.max())], [], []
        for call in CALLS:
            own = rows[rows.scheme == call].dropna(subset="ms")
            cells.append(f"{largest[largest.scheme == call].ms.iloc[0]:.1f}")
            slopes.append(str(slope_interval(own.N.to_numpy(float), own.ms.to_numpy(float))))
        lines.append(f"| {columns:.0f} | {share:g} | " + " | ".join([*cells, *slopes]) + " |")
    return "\n".join(lines) + f"\n\nThe times are for N = {int(decoding.N.max()):,}."


def _decoding_verdict(decoding: pd.DataFrame) -> str:
    wide = decoding.pivot_table(index=["N", "K", "columns"], columns="scheme", values="ms")
    ratio = wide["MDSCode"] / wide["PolarCode"]
    dense = wide["dense K x K system"] / wide["PolarCode"]
    lines = ["| workers | MDS / polar | dense / polar |", "|---|---|---|"]
    for N, rows in ratio.groupby("N"):
        lines.append(
            f"| {int(N):,} | {rows.min():.2g} to {rows.max():.2g} | {dense[N].min():.2g} to {dense[N].max():.2g} |"
        )
    return "Decoding time divided by that of the polar code:\n\n" + "\n".join(lines)


def _anytime(anytime: pd.DataFrame) -> str:
    lines = [
        "| N, K | products | answers | polar | MDS | copies | coverage | decodable: polar | MDS | copies |"
    ]
    lines.append("|---" * 10 + "|")
    for (N, K, kind), rows in anytime.groupby(["N", "K", "kind"], sort=False):
        counts = sorted(rows.answers.unique())
        for m in counts[1::4]:
            by = rows[rows.answers == m].set_index("scheme")
            cells = [_error(by.loc[name]) for name in ("polar", "MDS", "copies")]
            polar = by.loc["polar"]
            covered = (
                f"{polar.covered:.1%} [{polar.covered_low:.1%}, {polar.covered_high:.1%}]"
                if polar.estimated >= _SOME
                else ""
            )
            through = [f"{by.loc[name].decodable:.0%}" for name in ("polar", "MDS", "copies")]
            lines.append(
                f"| {N:.0f}, {K:.0f} | {KINDS[kind]} | {m:.0f} | "
                + " | ".join([*cells, covered, *through])
                + " |"
            )
    return "\n".join(lines)


def _error(row: pd.Series) -> str:
    if row.error < 1e-9:
        return "exact"
    return f"{row.error:.2f} [{max(0.0, row.error_low):.2f}, {row.error_high:.2f}]"


def _coverage(anytime: pd.DataFrame) -> str:
    polar = anytime[(anytime.scheme == "polar") & anytime.covered.notna()]
    lines = [
        "| blocks | coverage of all entries | smallest, of a cell | largest, of a cell | 95 % in the interval |",
        "|---" * 5 + "|",
    ]
    for kind, rows in polar.groupby("kind", sort=False):
        solid = rows[rows.estimated >= 0.5 * rows.repetitions]
        low, high = solid.loc[solid.covered.idxmin()], solid.loc[solid.covered.idxmax()]
        mean = np.average(rows.covered, weights=rows.estimated)
        inside = ((rows.covered_low <= 0.95) & (rows.covered_high >= 0.95)).sum()
        lines.append(
            f"| {KINDS[kind]} | {mean:.1%} | {_cell(low)} | {_cell(high)} | {inside} of {len(rows)} cells |"
        )
    return (
        "The nominal coverage is 95 %.\n\n"
        + "\n".join(lines)
        + "\n\nSmallest and largest are over cells in which at "
        "least half of the runs needed an estimate. The other cells rest on few runs."
    )


def _cell(row: pd.Series) -> str:
    return f"{row.covered:.1%} (N = {row.N:.0f}, K = {row.K:.0f}, {row.answers:.0f} answers)"


def _out(anytime: pd.DataFrame) -> str:
    wide = anytime.pivot_table(
        index=["N", "K", "kind", "answers"], columns="scheme", values="error"
    )
    estimated = wide[(wide["polar"] > 1e-9) & (wide["MDS"] > 1e-9)]
    ahead = (estimated["polar"] < estimated["MDS"]).sum()
    copies = (estimated["polar"] < estimated["copies"]).sum()
    useless = (estimated["polar"] > 1.0).sum()
    return (
        f"With fewer than K answers the polar estimate has a smaller error than the available blocks of an MDS code in "
        f"{ahead} of {len(estimated)} cells, and than those of plain copies in {copies}. In {useless} cells its error is above "
        "1, larger than that of predicting 0."
    )


def plot(table: pd.DataFrame, path: Path) -> None:
    """Excess answers, decoding times, errors and coverage."""
    needed, decoding = table[table.part == "needed"], table[table.part == "decoding"]
    anytime = table[table.part == "anytime"]
    with figure(path, 2, 2) as axes:
        (excess, times), (errors, coverage) = axes
        polar = needed[needed.scheme == "polar"]
        shades = ("#7F2704", "#D55E00", "#E69F00", "#F0C060")
        for (rate, rows), shade in zip(polar.groupby(polar.K / polar.N), shades, strict=True):
            bars = [100 * (rows.over - rows.over_low), 100 * (rows.over_high - rows.over)]
            excess.errorbar(
                rows.N,
                100 * rows.over,
                bars,
                marker="o",
                capsize=4,
                color=shade,
                label=f"K/N = {rate:g}",
            )
        excess.axhspan(5, 16, color="#eeeeee", zorder=0)
        excess.text(
            needed.N.max(),
            6.3,
            "5 to 16 % expected",
            ha="right",
            va="bottom",
            fontsize=11,
            color="#666666",
        )
        excess.set_xscale("log", base=2)
        excess.set_xlabel("N")
        excess.set_ylabel("answers needed beyond K, %")
        excess.set_ylim(0, 30)
        excess.legend(fontsize=11, ncols=2, loc="upper right")
        rate = (decoding.K / decoding.N).round(3)
        for call, name in CALLS.items():
            own = decoding[decoding.scheme.eq(call) & decoding["columns"].eq(16) & rate.eq(0.75)]
            times.loglog(
                own.N,
                own.ms,
                "o-",
                color=COLOURS[name],
                label=f"{name}" + (" K x K system" if name == "dense" else ""),
            )
        times.set_xlabel("N (K/N = 0.75, 16 columns)")
        times.set_ylabel("decoding, ms")
        times.legend(fontsize=11)
        N, K = anytime.N.iloc[0], anytime.K.iloc[0]
        chosen = anytime[anytime.N.eq(N) & anytime.K.eq(K) & anytime.kind.eq("alike")]
        for name in ("polar", "MDS", "copies"):
            own = chosen[chosen.scheme == name].sort_values("answers")
            errors.plot(own.answers, own.error, "o-", color=COLOURS[name], label=name)
            errors.fill_between(
                own.answers, own.error_low, own.error_high, color=COLOURS[name], alpha=0.2
            )
        errors.axhline(1.0, color="#999999", ls=":", label="predicting 0")
        errors.set_ylim(0, 2.5)
        errors.set_xlabel(f"answers (N = {N:.0f}, K = {K:.0f}, blocks of equal size)")
        errors.set_ylabel("RMS error / RMS of the products")
        errors.legend(fontsize=11)
        for (N, K, kind), rows in anytime[anytime.scheme == "polar"].groupby(
            ["N", "K", "kind"], sort=False
        ):
            own = rows[rows.estimated >= 0.1 * rows.repetitions].sort_values("answers")
            bars = [100 * (own.covered - own.covered_low), 100 * (own.covered_high - own.covered)]
            style = "o-" if kind == "alike" else "s--"
            coverage.errorbar(own.answers / N, 100 * own.covered, bars, fmt=style, capsize=3,
                              label=f"N = {N:.0f}, K = {K:.0f}, {kind}")  # fmt: skip
        coverage.axhline(95, color="#444444", lw=1)
        coverage.set_ylim(85, 100)
        coverage.set_xlabel("answers / N (runs that needed an estimate)")
        coverage.set_ylabel("entries within 1.96 standard errors, %")
        coverage.legend(fontsize=10, ncols=2, loc="lower right")
