"""The gradients experiment in a picture and in words, every figure taken from its table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .gradients_live import TOLERANCE
from .plots import figure

__all__ = ["plot", "report"]

TITLES = {
    "sending": "sending dominates (the paper's example)",
    "even": "both alike",
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

WORDS = """## Gradient codes: how many parts, how many stragglers, how short an answer?

**Question.** {N} workers add up a function over {N} parts. If each computes d = S + m parts, any S of them may be
late and every answer has 1/m of the length of the sum: that is the trade-off of Ye and Abbe, and no code needs
fewer parts. More parts cost computing time, more stragglers save waiting, shorter answers save sending. Which d, S
and m are fastest, and do they beat what people do without a code: waiting for all, plain copies, leaving stragglers
out, sending late parts once more? The model of time is the paper's: a worker takes d·T + U/m, where T = t₁ + Exp(λ₁) is
what a part takes to compute, and U = t₂ + Exp(λ₂) what a sum takes to send. {waves:,} sums are simulated, all schemes
on the same draws; brackets are 95 % intervals of the mean.

*Polynomial* is `PolynomialGradientCode`, decoded from the first N - S answers; *grouped* is `GroupedGradientCode`
(groups of d), from the first m of each group; *copies* is `FractionalRepetition`, from the first of each group of
d; *hedge* sends a part once more when it is later than 90 % of all calls.

### At the same budget

{budget}

In each column the fastest m (and with it S = d - m) that the code has for these parts a worker. Decoding is not
counted. `PolynomialGradientCode` takes every d, the others those that divide N.

### Without a code

{plain}

*Error* is that of the scaled sum over the size of the sum, for parts whose values have mean 1 and standard deviation
1; the other schemes are exact.

**Result.** The fastest of each kind:

{out}

**For real.** The same draws (*sending dominates*, 1 is {unit:.0f} ms, {live_waves} sums a scheme) on `codedmap.engines.Local`,
whose processes really sleep for them, with the codes of the library. The clock includes sending, waking up and
decoding; nothing is subtracted. {inside} of {count} means are within {tolerance:.0%} of the simulated ones. The sums are exact
(off by {off:.0e} at most). These times are the only figures here that another run does not reproduce to the digit.

{live}

**Conclusion.** {means}
"""


def report(table: pd.DataFrame) -> str:
    """What was asked, what came out and what it means."""
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
        means=_means(timed),
    )


def _best(rows: pd.DataFrame) -> pd.Series:
    return rows.loc[rows["mean"].idxmin()]


def _interval(row: pd.Series) -> str:
    return f"{row['mean']:.2f} [{row.mean_low:.2f}, {row.mean_high:.2f}]"


def _budget(timed: pd.DataFrame) -> str:
    head = ["time", "parts a worker", "polynomial", "grouped", "copies"]
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
    head = ["scheme", "calls a part", "error", *TITLES.values()]
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
    """The fastest code with answers shorter than the sum; with whole ones groups are plain copies."""
    return _best(own[own.scheme.isin(("polynomial", "grouped")) & (own.m > 1)])


def _out(timed: pd.DataFrame) -> str:
    told = []
    for regime, title in TITLES.items():
        own = timed[timed.regime == regime]
        code, copies = _short(own), _best(own[own.scheme == "copies"])
        alone, hedge = (own[own.scheme == name].iloc[0] for name in ("wait for all", "hedge p90"))
        told.append(
            f"- *{title[0].upper()}{title[1:]}*: the fastest code with short answers is {code.scheme} with d = "
            f"{code.parts:.0f}, S = {code.S:.0f}, m = {code.m:.0f}: {code['mean']:.1f} on average, "
            f"{_than(code, alone)} waiting for all ({alone['mean']:.1f}), {_than(code, copies)} the best copies "
            f"({copies['mean']:.1f}, d = {copies.parts:.0f}), {_than(code, hedge)} hedging ({hedge['mean']:.1f}, "
            f"for {hedge.calls:.2f} calls a part)."
        )
    both = (
        timed[timed.regime == "sending"]
        .pivot_table(index=["S", "m"], columns="scheme", values="mean", observed=True)[
            ["polynomial", "grouped"]
        ]
        .dropna()
    )
    told.append(
        f"- *Groups against any N - S*: at the same S, m and parts the grouped code is faster in "
        f"{(both.grouped < both.polynomial).sum()} of {len(both)} cases of the first kind and never slower, because "
        "it can do with more than S missing if they are in different groups."
        if (both.grouped <= both.polynomial).all()
        else f"- *Groups against any N - S*: at the same S, m and parts the grouped code is faster in "
        f"{(both.grouped < both.polynomial).sum()} of {len(both)} cases of the first kind."
    )
    poly = timed[(timed.scheme == "polynomial") & (timed.regime == "even")]
    refused = poly[poly.refused.astype(bool)]
    able = poly[~poly.refused.astype(bool)]
    told.append(
        f"- *Rounding*: of {len(poly)} pairs of S and m the polynomial code refuses {len(refused)}, and amplifies "
        f"rounding at most {able.amplification.max():,.0f} times otherwise."
    )
    return "\n".join(told)


def _live(live: pd.DataFrame) -> str:
    head = [
        "scheme",
        "parts",
        "S",
        "m",
        "clock, ms",
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


def _than(code: pd.Series, other: pd.Series) -> str:
    share = code["mean"] / other["mean"] - 1.0
    return f"{abs(share):.0%} {'less' if share < 0 else 'more'} than"


def _means(timed: pd.DataFrame) -> str:
    won, lost = [], []
    for regime, title in TITLES.items():
        own = timed[timed.regime == regime]
        code = _short(own)
        rival = _best(own[own.scheme.isin(("copies", "wait for all", "hedge p90"))])
        if code.mean_high < rival.mean_low:
            won.append(title)
        else:
            lost.append(f"{title} ({rival.scheme})")
    text = f"A gradient code with short answers is the fastest exact scheme where {'; '.join(won) or 'nothing'}."
    if lost:
        text += f" Elsewhere something simpler is: {'; '.join(lost)}."
    return text + (
        " Short answers pay where sums are long and the network is slow; else keep m = 1, which makes copies. "
        "Hedging computes hardly anything twice, but each late part has to lie on a second worker as well, and "
        "`codedmap.sum` does not hedge; `codedmap.map` does."
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
            upper.set_xlabel("m: answers of 1/m of the sum")
            for scheme in ("polynomial", "grouped", "copies"):
                # Groups whose answers are whole are copies.
                chosen = own[own.scheme.eq(scheme) & (own.m.gt(1) | (scheme != "grouped"))]
                best = chosen[chosen.parts <= 8].groupby("parts")["mean"].min()
                label = {"copies": "copies", "grouped": "grouped, best m > 1"}.get(
                    scheme, f"{scheme}, best m"
                )
                lower.plot(best.index, best, "o-", color=COLOURS[scheme], label=label)
            lower.axhline(alone, color=COLOURS["wait for all"], ls="--", label="wait for all")
            hedge = own[own.scheme == "hedge p90"]["mean"].iloc[0]
            lower.axhline(
                hedge, color=COLOURS["hedge p90"], ls="-.", label="hedge p90 (1.1 calls a part)"
            )
            one = own[(own.scheme == "ignore stragglers") & (own.S == 1)].iloc[0]
            lower.plot([1], [one["mean"]], "s", color=COLOURS["ignore stragglers"], ms=9,
                       label=f"ignore one straggler (error {one.error:.0%})")  # fmt: skip
            lower.set_xlabel("parts each worker computes")
            for axis in (upper, lower):
                axis.set_ylim(0, min(3.0 * alone, 1.05 * max(axis.get_ylim()[1], 1.0)))
        axes[0, 0].set_ylabel("mean time of a sum, polynomial")
        axes[1, 0].set_ylabel("mean time of a sum")
        axes[0, 0].legend(fontsize=11)
        axes[1, 2].legend(fontsize=11)
