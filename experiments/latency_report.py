"""Report of the latency experiment, made from its table."""

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

ASKED = """## Latency: error, time and cost of each scheme

**Question.** K tasks are sent to workers, some of which are late. How long does each scheme take, how many calls does
it need, and how large is its error?

| scheme | calls | the wave ends when | error |
|---|---|---|---|
| wait for all | K | every task has an answer | 0 |
| copies x2 | 2K, each task twice | every task has an answer | 0 |
| hedge p90 (p95) | K, and one more for each task without an answer when 90 % (95 %) of all calls have answered | every task has an answer | 0 |
| first m of n | n | m answers have arrived | missing tasks are estimated |

Three codes estimate: BACC and LeTCC, whose calls are on mixtures of all inputs, and plain copies, where a task
without an answer gets the mean of the other answers. A call on a mixture is assumed to take as long as one on an
input.

Call times:

| name | distribution | unit |
|---|---|---|
| exponential | 1 + Exp(0.5), a mild tail | the shortest possible call |
| bimodal | 1 + Exp(0.1); 5 % of the calls take 10 times as long | the shortest possible call |
| Pareto | 1 + 0.3 Pareto(1.5), a heavy tail | the shortest possible call |
{traces}

All schemes get the same draws. p50, p99 and p99.9 are the times within which 50, 99 and 99.9 % of the waves end.
Brackets are 95 % intervals."""

TRACES = """| AWS | measured on AWS Lambda, see below | the median call |

The AWS times are 29 arrays of 20 to 30 rounds of 256 workers each. A wave is one round of one array; its calls are
different workers of that round, drawn at random. The intervals are bootstrap intervals over the rounds of each array.
The *worst array* is the one with the largest p99 of waiting for all. Its intervals are wide because very few slow
rounds make up its tail."""
NO_TRACES = """
**The measured AWS traces were not available in this run.** They are left out."""


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
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
    """Errors of one service, and the largest difference to the other services."""
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
        "outputs. 0 is exact; 1 is the error of predicting the mean. The stragglers are those of simulated waves. The "
        "error depends on the number of answers, not on the distribution of call times: it differs by at most "
        f"{apart:.3f} between services. The table shows the {SERVICES[shown['service'].iloc[0]]} service.\n\n"
        + _grid(["waits for", "estimated by", *heads], rows)
    )


def _choice(timed: pd.DataFrame, errors: pd.DataFrame, services: list[str]) -> str:
    p99 = timed.pivot(index="scheme", columns="service", values="p99")[services]
    p50 = timed.pivot(index="scheme", columns="service", values="p50")[services]
    cost = timed.groupby("scheme")["cost"].mean()
    gain = p99.loc["wait for all"] / p99
    rows = [
        [scheme.name, f"{cost[scheme.name]:.2f}", *(f"{value:.1f}" for value in gain.loc[scheme.name])]
        for scheme in SCHEMES[1:]
    ]  # fmt: skip
    lines = [
        "**Conclusion.** The factor by which each scheme divides the p99 of waiting for all:",
        "",
        _grid(["scheme", "calls per task", *(SERVICES[service] for service in services)], rows),
        "",
        "- *Waiting for all* has the longest tail.",
        "- *Hedging* is exact and needs the fewest extra calls. It cannot be faster than its delay plus a second call.",
        "- *Copies* are exact as well and need twice the calls. For the same number of calls a code that does not wait "
        "for every task has a similar median and a shorter tail.",
        f"- {_copies(errors)}",
        f"- {_rivals(errors, 'first 1.5K of 2K')}",
    ]
    if "bimodal" in services:
        late, early = ("hedge p95", "bimodal"), ("hedge p90", "bimodal")
        lines.append(
            "- *A hedge must be sent before the slow calls return.* With exactly 5 % slow calls the 95th percentile is "
            f"itself a slow call: in the bimodal family p50 is {_figure(p50.loc[late])} with hedge p95, as without a "
            f"hedge, and {_figure(p50.loc[early])} with hedge p90. p99 stays at {_figure(p99.loc[early])}, because both "
            "calls of a task may be slow."
        )
    lines.append(
        "- *Rule of thumb.* If all answers must be exact, hedge; use copies where calls are cheap and the tail is heavy. "
        "If some answers may be estimates, do not wait for the last calls, keep the answers that arrived and estimate "
        "the missing ones. Mix inputs only where the function is smooth along their order, and compare with copies "
        "first."
    )
    return "\n".join(lines)


def _copies(errors: pd.DataFrame) -> str:
    means = errors.pivot_table(index=["title", "scheme"], columns="code", values="error")
    ratio = means[["BACC", "LeTCC"]].min(axis=1) / means["copies, mean"]
    spans = ratio.groupby("title").agg(["min", "max"])
    wins = ratio.groupby("title").min() > 1
    verdict = (
        "*Plain copies have a smaller error than the published codes on unordered inputs*, in the same waves and at "
        "the same number of calls."
        if wins.any()
        else "*The published codes are at least as good as plain copies here.*"
    )
    found = [f"{low:.2f} to {high:.2f} on {title}" for title, (low, high) in spans.T.items()]
    return (
        f"{verdict} The error of the better code, divided by that of copies filled with the mean, is "
        f"{_listed(found)}. Most answers of copies are exact and marked so; those of BACC and LeTCC are all estimates."
    )


def _rivals(errors: pd.DataFrame, scheme: str) -> str:
    means = errors.pivot_table(index=["title", "scheme"], columns="code", values="error")
    ahead = (means["LeTCC"] <= means["BACC"]).sum()
    kept = errors[errors["scheme"] == scheme].groupby("code")["agreement"].mean()
    return (
        f"*LeTCC against BACC*: LeTCC has the smaller mean error in {ahead} of {len(means)} cells. With the {scheme} LeTCC "
        f"keeps {kept['LeTCC']:.1%} of the labels, BACC {kept['BACC']:.1%}, copies {kept['copies, mean']:.1%}."
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
        "**More tasks** (p99). The time of a scheme that needs every task is the maximum of more and more calls. The "
        "time of a scheme that waits for a share of the calls tends to a quantile of one call. "
        f"At most {2 * sizes[-1]:,} workers; the traces have 256."
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
    head = ["p99", "earlier", "expected", "p99.9", "earlier", "expected"]
    return (
        f"**Check** against an earlier simulation of {waves:,.0f} waves, written independently (K = "
        f"{check['tasks'].iloc[0]:.0f}). *Expected* is the 95 % range of the earlier figure if both simulations are "
        f"correct: {inside} of {count} figures are in it. The earlier p99.9 rests on its {waves / 1000:.0f} slowest "
        "waves, so its range is wide where the tail is heavy.\n\n"
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
    unit = _listed([f"{value:.0f} ms ({SERVICES[name]})" for name, value in units.items()])
    waves = " to ".join(
        f"{count:.0f}" for count in sorted({live["waves"].min(), live["waves"].max()})
    )
    usual, worst = live["overhead_p50_ms"], live["overhead_p99_ms"]
    return (
        f"**Live.** K = {live['tasks'].iloc[0]:.0f} on `codedmap.engines.Local`, with worker processes that sleep for "
        f"the times drawn, {waves} waves per scheme, compared with the simulation of the same draws. The unit is {unit}. "
        f"{inside} of {count} ratios are within 10 % of 1, from {ratios.min().min():.3f} to {ratios.max().max():.3f}. The "
        "measured time includes encoding, sending, waking up and decoding. This overhead has a median of "
        f"{usual.min():.0f} to {usual.max():.0f} ms, depending on scheme and service, and a 99th percentile of "
        f"{worst.min():.0f} to {worst.max():.0f} ms. Several engines are used in turn, and a wave starts when its engine "
        f"is idle. Stragglers are ended after {GRACE:g} s. Waves with estimates are decoded by BACC and LeTCC in turn. "
        "These times are the only figures here that another run does not reproduce to the digit.\n\n"
        + _grid(["service", "scheme", *head, "calls per task"], rows)
        + "\n\nLive / simulated for times and calls."
    )


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
