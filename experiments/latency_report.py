"""The latency experiment in words, every figure taken from its table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from .latency_live import GRACE
from .latency_schemes import SCHEMES
from .services import MEASURED

__all__ = ["report"]

SERVICES = {
    "exponential": "exponential",
    "bimodal": "bimodal",
    "pareto": "Pareto",
    "aws": "AWS, all arrays",
    "aws-worst": "AWS, worst array",
}
DIGITS = 3

ASKED = """## Latency: accuracy, time and cost at once

**Question.** K tasks are sent to workers of which some are late. One can *wait for all* of them; send each
task twice and take the first answer (*copies x2*); *hedge*, that is, send a second call only for what is
not back when 90 % (or 95 %) of all calls are; or send more calls than tasks, wait for the first of them,
whichever they are, and estimate what is missing. How long does each take, how many calls does it cost,
and how wrong is it? The first three give every task an answer of its own: their error is 0. The first K
(1.25K, 1.5K) answers of 1.25K (2K) calls leave room for estimates: by BACC or LeTCC, whose calls are
on mixtures of all inputs, or by plain copies of the inputs, where a task without an answer gets the mean
of the answers that came. A call on a mixture is assumed to take as long as one on an input.

The times of calls are drawn from made-up families, in which 1 is the shortest possible call: *exponential*,
1 + Exp(0.5), a mild tail; *bimodal*, 1 + Exp(0.1), where 5 % of calls take 10 times as long; *Pareto*,
1 + 0.3 Pareto(1.5), a heavy tail. {traces}

All schemes meet the same draws. p50, p99, p99.9: the time within which 50, 99, 99.9 % of the waves are
answered. Brackets are 95 % intervals."""

TRACES = """Beside them stand times measured on AWS Lambda, in which 1 is the median call:
a wave is one round of one of 29 arrays, and its calls are different ones of the round's 256 workers, drawn
at random. Their intervals come from drawing the rounds of each array again, since there are only 20
to 30 of them, whatever is simulated. The *worst array* is the one where waiting for all has the largest
p99; its wide intervals say that very few bad rounds make its tail."""
NO_TRACES = """**The measured AWS traces were not there when this ran**, so they are left out."""


def report(table: pd.DataFrame) -> str:
    """The table as Markdown."""
    timed = table[table["part"] == "time"]
    K = int(timed["tasks"].min())
    small = timed[timed["tasks"] == K]
    services = [name for name in SERVICES if name in set(timed["service"])]
    measured = any(name in MEASURED for name in services)
    errors = table[table["part"] == "accuracy"]
    parts = [
        ASKED.format(traces=TRACES if measured else NO_TRACES),
        f"**Time and cost**, K = {K}, {small['waves'].iloc[0]:,.0f} simulated waves.",
        *(_times(small, services, quantile) for quantile in ("p99", "p50", "p999")),
        _errors(errors),
        _choice(small, errors, services),
        _growth(timed, services),
        _check(table[table["part"] == "check"]),
        _live(table[table["part"] == "live"]),
    ]
    return "\n\n".join(parts) + "\n"


def _figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 10 ** (DIGITS - 1):
        return f"{value:,.0f}"
    return f"{value:#.{DIGITS}g}"


def _interval(row: pd.Series, name: str) -> str:
    return f"{_figure(row[name])} [{_figure(row[f'{name}_low'])}, {_figure(row[f'{name}_high'])}]"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _times(timed: pd.DataFrame, services: list[str], quantile: str) -> str:
    name = quantile.replace("p999", "p99.9")
    rows = []
    for scheme in SCHEMES:
        own = timed[timed["scheme"] == scheme.name].set_index("service")
        cells = [_interval(own.loc[service], quantile) for service in services]
        rows.append([scheme.name, f"{own['cost'].mean():.2f}", *cells])
    return _grid([name, "calls per task", *(SERVICES[service] for service in services)], rows)


def _errors(errors: pd.DataFrame) -> str:
    """Of one service, with what the others differ."""
    shown = errors[errors["service"] == errors["service"].iloc[0]]
    titles = shown.drop_duplicates("judge").set_index("judge")["title"]
    labelled = shown.dropna(subset="agreement")["title"].iloc[0]
    rows = []
    for (scheme, code), group in shown.groupby(["scheme", "code"], sort=False):
        own = group.set_index("judge")
        cells = [_interval(own.loc[judge], "error") for judge in titles.index]
        rows.append([scheme, code, *cells, f"{own['agreement'].dropna().iloc[0]:.1%}"])
    heads = [*(f"error: {title}" for title in titles), f"same label: {labelled}"]
    means = errors.groupby(["scheme", "code", "judge"])["error"]
    apart = float((means.max() - means.min()).max())
    return (
        "**Error of the estimates**: root mean square over all tasks, in standard deviations of the "
        "outputs: 0 is exact, 1 is knowing nothing but the mean. Who is late is taken from simulated waves. "
        "It is a matter of chance in all services alike, so the error depends on how many answers are "
        f"waited for and not on the service: at most {apart:.3f} lie between two of them, and here the "
        f"{SERVICES[shown['service'].iloc[0]]} one stands for all.\n\n"
        + _grid(["waits for", "estimates by", *heads], rows)
    )


def _choice(timed: pd.DataFrame, errors: pd.DataFrame, services: list[str]) -> str:
    p99 = timed.pivot(index="scheme", columns="service", values="p99")[services]
    p50 = timed.pivot(index="scheme", columns="service", values="p50")[services]
    cost = timed.groupby("scheme")["cost"].mean()
    few, many = (s.name for s in SCHEMES if s.name in ("first K of 1.25K", "first 1.5K of 2K"))
    gain = p99.loc["wait for all"] / p99

    def over(scheme: str) -> str:
        return _listed([f"{value:.1f}" for value in gain.loc[scheme]])

    lines = [
        f"**What it means for choosing** (in this order: {_listed([SERVICES[s] for s in services])}).",
        f"- *Waiting for all is what costs.* Its p99 is {over(few)} times that of the {few}, "
        f"which costs {cost[few]:.2f} calls a task, and {over(many)} times that of the {many}.",
        f"- *Hedging is the cheapest cure, and exact.* After p90 it sends {cost['hedge p90']:.2f} calls "
        f"a task and divides the p99 of waiting by {over('hedge p90')}. It cannot be faster than its "
        "delay and a second call.",
        f"- *Copies are exact as well*, cost {cost['copies x2']:.2f} and divide it by {over('copies x2')}. "
        f"In the median they take {_listed([_figure(v) for v in p50.loc['copies x2']])}, where the {many}, "
        f"for the same calls, take {_listed([_figure(v) for v in p50.loc[many]])}: what is gained by not "
        "waiting for every task is the tail.",
        _copies(errors),
        _rivals(errors, many),
    ]
    if "bimodal" in services:
        late, early = ("hedge p95", "bimodal"), ("hedge p90", "bimodal")
        lines.append(
            "- *A hedge must go out before the slow calls come back.* With exactly 5 % slow ones the 95th "
            f"percentile is already one of theirs: in the bimodal family p50 is {_figure(p50.loc[late])}, as "
            f"without a hedge, against {_figure(p50.loc[early])} after p90; and where two calls may be "
            f"slow, p99 stays at {_figure(p99.loc[early])} all the same."
        )
    lines.append(
        "- *Rule of thumb.* If all answers must be exact: hedge, and copy where calls are cheap and the "
        "tail is heavy. If some may be estimates: do not wait for the last ones, keep the answers that "
        "came, and fill in the rest. Mix inputs only where the function is smooth along the order in "
        "which they are mixed, and measure that against copies first."
    )
    return "\n".join([lines[0], "", *lines[1:]])


def _copies(errors: pd.DataFrame) -> str:
    means = errors.pivot_table(index=["title", "scheme"], columns="code", values="error")
    ratio = means[["BACC", "LeTCC"]].min(axis=1) / means["copies, mean"]
    spans = ratio.groupby("title").agg(["min", "max"])
    told = [f"{low:.2f} to {high:.2f} times on {title}" for title, (low, high) in spans.T.items()]
    wins = ratio.groupby("title").min() > 1
    verdict = (
        "*Plain copies beat the published codes in the same waves, at the same cost, wherever inputs come "
        "as they come.*"
        if wins.any()
        else "*The published codes are at least as good as plain copies here.*"
    )
    return (
        f"- {verdict} The better code's error, beside that of copies whose gaps get the mean, is "
        f"{_listed(told)}. Besides, most answers of copies are exact and marked so; those of BACC and LeTCC "
        "are estimates throughout."
    )


def _rivals(errors: pd.DataFrame, scheme: str) -> str:
    means = errors.pivot_table(index=["title", "scheme"], columns="code", values="error")
    behind = means.index[means["LeTCC"] > means["BACC"]]
    text = f"- *LeTCC against BACC*: the smaller mean error in {len(means) - len(behind)} of {len(means)} cells"
    if len(behind):
        text += f" (not on {_listed([', '.join(cell) for cell in behind])})"
    kept = errors[errors["scheme"] == scheme].groupby("code")["agreement"].mean()
    return (
        f"{text}. With the {scheme} LeTCC keeps {kept['LeTCC']:.1%} of the labels, BACC {kept['BACC']:.1%}, "
        f"copies {kept['copies, mean']:.1%}."
    )


def _growth(timed: pd.DataFrame, services: list[str]) -> str:
    rows = []
    sizes = sorted(int(size) for size in timed["tasks"].unique())
    for service in (name for name in services if name != "aws-worst"):
        for scheme in SCHEMES:
            own = timed[(timed["service"] == service) & (timed["scheme"] == scheme.name)]
            own = own.set_index("tasks")
            cells = [_interval(own.loc[s], "p99") if s in own.index else "" for s in sizes]
            rows.append([SERVICES[service], scheme.name, *cells])
    text = (
        "**More tasks** (p99). What waits for every task waits for the worst of more and more calls; what "
        "waits for a share of the calls takes less and less chance, and tends to a quantile of one call. "
        f"{2 * sizes[-1]:,} workers at most; the traces have 256."
    )
    return text + "\n\n" + _grid(["service", "scheme", *(f"K = {s:,}" for s in sizes)], rows)


def _check(check: pd.DataFrame) -> str:
    waves = check["earlier_waves"].iloc[0]
    inside, count = 0, 0
    rows = []
    for row in check.to_dict("records"):
        cells = []
        for name in ("p99", "p999"):
            low, high = row[f"expected_{name}_low"], row[f"expected_{name}_high"]
            # The earlier figures are rounded to three digits.
            inside += low * 0.995 <= row[f"earlier_{name}"] <= high * 1.005
            count += 1
            cells += [_figure(row[name]), _figure(row[f"earlier_{name}"]),
                      f"{_figure(low)} to {_figure(high)}"]  # fmt: skip
        rows.append([SERVICES[row["service"]], row["scheme"], *cells])
    head = ["p99", "earlier", "expected of it", "p99.9", "earlier", "expected of it"]
    return (
        f"**Check** against an earlier simulation of {waves:,.0f} waves, written independently (K = "
        f"{check['tasks'].iloc[0]:.0f}). *Expected* is the 95 % range of what it gives if "
        f"both are right and differ by chance: {inside} of {count} figures are in it. Its p99.9 rests on the "
        f"{waves / 1000:.0f} slowest of them, hence the wide ranges where the tail is heavy.\n\n"
        + _grid(["service", "scheme", *head], rows)
    )


def _live(live: pd.DataFrame) -> str:
    names = ("p50", "p99", "mean")
    ratios = live[[f"ratio_{name}" for name in names]]
    inside, count = int(((ratios - 1).abs() <= 0.1).sum().sum()), ratios.size
    rows = []
    for _, row in live.iterrows():
        cells = [f"{row[f'live_{name}']:.0f} / {row[f'simulated_{name}']:.0f}" for name in names]
        cells += [f"{row[f'ratio_{n}']:.3f} [{row[f'ratio_{n}_low']:.3f}, {row[f'ratio_{n}_high']:.3f}]" for n in names]  # fmt: skip
        cost = f"{row['cost']:.2f} / {row['simulated_cost']:.2f}"
        rows.append([SERVICES[row["service"]], row["scheme"], *cells, cost])
    head = [*(f"{name}, ms" for name in names), *(f"ratio, {name}" for name in names)]
    units = live.drop_duplicates("service").set_index("service")["unit_ms"]
    told = _listed([f"{SERVICES[name]} {unit:.0f} ms" for name, unit in units.items()])
    waves = " to ".join(
        f"{count:.0f}" for count in sorted({live["waves"].min(), live["waves"].max()})
    )
    usual, worst = live["overhead_p50_ms"], live["overhead_p99_ms"]
    return (
        f"**For real**: K = {live['tasks'].iloc[0]:.0f} on `codedmap.engines.Local`, whose processes really "
        f"sleep for the times drawn (1 is {told}), {waves} waves a scheme, against "
        f"the simulation of the same draws. Nothing is subtracted. {inside} of {count} ratios are within "
        f"10 %; the largest is {ratios.max().max():.3f}, the smallest {ratios.min().min():.3f}. The clock "
        "includes encoding, sending, waking up and decoding. Compared wave by wave this adds, in the "
        f"median, {usual.min():.0f} ms (scheme and service with the least) to {usual.max():.0f} ms, the more the "
        f"more calls there are, and in the slowest 1 % of waves {worst.min():.0f} to {worst.max():.0f} ms, which "
        "is what else runs on the machine. Crews of workers take turns, and a wave begins when its crew is "
        f"idle; stragglers sleep on meanwhile, and are ended after {GRACE:g} s. The hedge is a small engine "
        "wrapped around `Local`. Waves with estimates are decoded by BACC and LeTCC in turn. These times "
        "are the only figures here that another run does not reproduce to the digit.\n\n"
        + _grid(["service", "scheme", *head, "calls per task"], rows)
    )


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
