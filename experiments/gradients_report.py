"""Figure and report of the gradients experiment, both made from its table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .gradients_live import TOLERANCE
from .plots import figure

__all__ = ["plot", "report"]

TITLES = {
    "sending": "sending dominates (the paper's example)",
    "even": "both equal",
    "computing": "computing dominates",
}
COLOURS = {
    "polynomial": "#0072B2",
    "grouped": "#D55E00",
    "copies": "#009E73",
    "wait for all": "#999999",
    "ignore stragglers": "#CC79A7",
    "hedge p90": "#E69F00",
}

SHADES = ("#440154", "#3B528B", "#21918C", "#5EC962", "#E6C800")

WORDS = """## Gradient codes: parts computed, stragglers tolerated, length of an answer

**Question.** {N} workers add up a function over {N} parts. If each computes d = S + m parts, then any S workers may be
late and each answer has 1/m of the length of the sum. This is the trade-off of Ye and Abbe; no code needs fewer
parts. More parts cost computing time, more stragglers save waiting time, shorter answers save sending time. Which d,
S and m are fastest? Are they faster than the methods without a code: waiting for all, copies, ignoring stragglers,
hedging?

The time model is the paper's. A worker takes d·T + U/m, where T = t₁ + Exp(λ₁) is the time to compute a part and
U = t₂ + Exp(λ₂) the time to send a sum. {waves:,} sums are simulated, with the same draws for all schemes. Brackets
are 95 % intervals of the mean.

| scheme | code | decoded from |
|---|---|---|
| polynomial | `PolynomialGradientCode` | the first N - S answers |
| grouped | `GroupedGradientCode`, groups of d workers | the first m answers of each group |
| copies | `FractionalRepetition` | the first answer of each group of d workers |
| hedge p90 | none | each part is sent again when it is later than 90 % of all calls |

### Mean time at the same number of parts per worker

{budget}

Each column shows the fastest m, and S = d - m, that the code has for this number of parts. Decoding time is not
included. `PolynomialGradientCode` exists for every d, the others for those that divide N.

### Mean time without a code

{plain}

*Error* is the relative error of the scaled sum, for parts whose values have mean 1 and standard deviation 1. The
other schemes are exact.

**Result.** The fastest scheme of each kind:

{out}

**Live.** The same draws (*sending dominates*, unit {unit:.0f} ms, {live_waves} sums per scheme) on
`codedmap.engines.Local`, with worker processes that sleep for these times. The measured time includes sending,
waking up and decoding. {inside} of {count} means are within {tolerance:.0%} of the simulated ones. The sums are exact
(largest error {off:.0e}). These times are the only figures here that another run does not reproduce to the digit.

{live}

**Conclusion.**

{meaning}
"""


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
    timed, live = table[table.part == "time"], table[table.part == "live"]
    ratio = live.ratio
    return WORDS.format(
        N=int(timed.parts.max()),
        waves=int(timed.waves.max()),
        budget=_budget(timed),
        plain=_plain(timed),
        out=_out(timed),
        unit=live.unit_ms.max(),
        live_waves=int(live.waves.max()),
        inside=int(((ratio - 1.0).abs() <= TOLERANCE).sum()),
        count=len(live),
        tolerance=TOLERANCE,
        off=live.off.max(),
        live=_live(live),
        meaning=_meaning(timed),
    )


def _best(rows: pd.DataFrame) -> pd.Series:
    return rows.loc[rows["mean"].idxmin()]


def _interval(row: pd.Series) -> str:
    return f"{row['mean']:.2f} [{row.mean_low:.2f}, {row.mean_high:.2f}]"


def _budget(timed: pd.DataFrame) -> str:
    head = ["regime", "parts per worker", "polynomial", "grouped", "copies"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for regime, title in TITLES.items():
        own = timed[(timed.regime == regime) & timed.parts.isin((1, 2, 3, 4, 6))]
        for parts, rows in own[own.scheme.isin(("polynomial", "grouped", "copies"))].groupby(
            "parts"
        ):
            cells = [title, f"{parts:.0f}"]
            for scheme in ("polynomial", "grouped", "copies"):
                best = _best(rows[rows.scheme == scheme])
                cells.append(f"{_interval(best)}, m = {best.m:.0f}, S = {best.S:.0f}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plain(timed: pd.DataFrame) -> str:
    head = ["scheme", "calls per part", "error", *TITLES.values()]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    chosen = timed[timed.scheme.isin(("wait for all", "ignore stragglers", "hedge p90"))]
    for (scheme, late), rows in chosen.groupby(["scheme", "S"], sort=False):
        by = rows.set_index("regime")
        name = f"{scheme}, S = {late:.0f}" if late else scheme
        error = f"{by.error.mean():.1%}" if by.error.max() else "0"
        cells = [name, f"{by.calls.mean():.2f}", error, *(_interval(by.loc[r]) for r in TITLES)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _short(own: pd.DataFrame) -> pd.Series:
    """The fastest code with answers shorter than the sum; a grouped code with m = 1 is plain copies."""
    return _best(own[own.scheme.isin(("polynomial", "grouped")) & (own.m > 1)])


def _out(timed: pd.DataFrame) -> str:
    head = ["regime", "short answers", "time", "waiting for all", "best copies", "hedge p90"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for regime, title in TITLES.items():
        own = timed[timed.regime == regime]
        code, copies = _short(own), _best(own[own.scheme == "copies"])
        alone, hedge = (own[own.scheme == name].iloc[0] for name in ("wait for all", "hedge p90"))
        cells = [
            title,
            f"{code.scheme}, d = {code.parts:.0f}, S = {code.S:.0f}, m = {code.m:.0f}",
            f"{code['mean']:.1f}",
            _against(alone, code),
            f"{_against(copies, code)}, d = {copies.parts:.0f}",
            f"{_against(hedge, code)}, {hedge.calls:.2f} calls per part",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    both = (
        timed[timed.regime == "sending"]
        .pivot_table(index=["S", "m"], columns="scheme", values="mean", observed=True)[
            ["polynomial", "grouped"]
        ]
        .dropna()
    )
    grouped = (
        f"- At the same S, m and parts the grouped code is faster than the polynomial code in "
        f"{(both.grouped < both.polynomial).sum()} of {len(both)} cases of the first regime"
    )
    if (both.grouped <= both.polynomial).all():
        grouped += (
            " and never slower: it tolerates more than S stragglers if they are in different groups"
        )
    poly = timed[(timed.scheme == "polynomial") & (timed.regime == "even")]
    refused = poly.refused.astype(bool)
    return "\n".join(
        [
            *lines,
            "",
            "In parentheses: the time of the code with short answers relative to that scheme.",
            "",
            f"{grouped}.",
            f"- The polynomial code refuses {refused.sum()} of {len(poly)} pairs of S and m. For the others it amplifies "
            f"rounding at most {poly[~refused].amplification.max():,.0f} times.",
        ]
    )


def _live(live: pd.DataFrame) -> str:
    head = [
        "scheme",
        "parts",
        "S",
        "m",
        "live, ms",
        "simulated, ms",
        "ratio",
        "median overhead, ms",
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += [
        f"| {row.scheme} | {row.parts:.0f} | {row.S:.0f} | {row.m:.0f} | {row.live:.0f} | {row.simulated:.0f} "
        f"| {row.ratio:.3f} | {row.overhead_p50:.0f} |"
        for row in live.itertuples()
    ]
    return "\n".join(lines)


def _against(other: pd.Series, code: pd.Series) -> str:
    return f"{other['mean']:.1f} ({code['mean'] / other['mean'] - 1.0:+.0%})"


def _meaning(timed: pd.DataFrame) -> str:
    won, lost = [], []
    for regime, title in TITLES.items():
        own = timed[timed.regime == regime]
        code = _short(own)
        rival = _best(own[own.scheme.isin(("copies", "wait for all", "hedge p90"))])
        if code.mean_high < rival.mean_low:
            won.append(title)
        else:
            lost.append((title, rival.scheme))
    lines = ["| regime | fastest exact scheme |", "|---|---|"]
    lines += [f"| {title} | gradient code with short answers |" for title in won]
    lines += [f"| {title} | {scheme} |" for title, scheme in lost]
    return "\n".join(
        [
            *lines,
            "",
            "Short answers pay off where sums are long and the network is slow. Elsewhere use m = 1, which is plain "
            "copies. Hedging repeats few computations, but a second worker needs each late part as well; "
            "`codedmap.sum` does not hedge, `codedmap.map` does.",
        ]
    )


def plot(table: pd.DataFrame, path: Path) -> None:
    """Mean times against m for each S, and the best of each scheme against the parts computed."""
    timed = table[table.part == "time"]
    with figure(path, 2, 3) as axes:
        for column, (regime, title) in enumerate(TITLES.items()):
            own = timed[timed.regime == regime]
            alone = own[own.scheme == "wait for all"]["mean"].iloc[0]
            upper, lower = axes[0, column], axes[1, column]
            poly = own[own.scheme == "polynomial"]
            for late in range(5):
                line = poly[poly.S.eq(late) & poly.m.le(6)].sort_values("m")
                upper.plot(
                    line.m,
                    line["mean"],
                    "o-",
                    color=SHADES[late],
                    label=f"S = {late}",
                )
            upper.axhline(alone, color=COLOURS["wait for all"], ls="--", label="wait for all")
            upper.set_title(title, fontsize=14)
            upper.set_xlabel("m (answers have 1/m of the length of the sum)")
            for scheme in ("polynomial", "grouped", "copies"):
                # A grouped code with m = 1 is plain copies.
                chosen = own[own.scheme.eq(scheme) & (own.m.gt(1) | (scheme != "grouped"))]
                best = chosen[chosen.parts <= 8].groupby("parts")["mean"].min()
                label = {"copies": "copies", "grouped": "grouped, best m > 1"}.get(
                    scheme, f"{scheme}, best m"
                )
                lower.plot(best.index, best, "o-", color=COLOURS[scheme], label=label)
            lower.axhline(alone, color=COLOURS["wait for all"], ls="--", label="wait for all")
            hedge = own[own.scheme == "hedge p90"]["mean"].iloc[0]
            lower.axhline(
                hedge, color=COLOURS["hedge p90"], ls="-.", label="hedge p90 (1.1 calls per part)"
            )
            one = own[(own.scheme == "ignore stragglers") & (own.S == 1)].iloc[0]
            lower.plot([1], [one["mean"]], "s", color=COLOURS["ignore stragglers"], ms=9,
                       label=f"ignore one straggler (error {one.error:.0%})")  # fmt: skip
            lower.set_xlabel("parts per worker")
            for axis in (upper, lower):
                axis.set_ylim(0, min(3.0 * alone, 1.05 * max(axis.get_ylim()[1], 1.0)))
        axes[0, 0].set_ylabel("mean time of a sum, polynomial")
        axes[1, 0].set_ylabel("mean time of a sum")
        axes[0, 0].legend(fontsize=11)
        axes[1, 2].legend(fontsize=11)
