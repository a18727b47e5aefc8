"""Report of the rates experiment, made from its table."""

from __future__ import annotations

import pandas as pd

from .rates_kernel import kernel_section
from .rates_plot import CEILING, FLOOR, KINDS, RESOLVED, SMOOTHINGS, TITLES, fits
from .stats import Interval, slope_interval

__all__ = ["report"]

WORDS = """## Rates: does the error fall as fast as proven?

**Question.** A code maps {tasks} inputs to a curve and sends one point of it to each of N workers. S of them are
stragglers. A second curve through the answers that arrived is evaluated at the inputs. Every result is an estimate,
and its error should fall with the number of workers. These bounds of the squared error are proven, the last row
in arXiv 2502.00645, whose abstract has the two in the opposite order, and the others in the codes' own papers:

| | LeTCC | BACC |
|---|---|---|
| exact answers | S³N⁻³ | N⁻² |
| noisy answers | S^(8/5) N^(-3/5) | none |
| each worker late with probability p | log³N·N⁻³ | log⁴N·N⁻² |

On logarithmic axes a power is a straight line whose slope is its exponent. A slope of -3 means that twice the workers
leave an eighth of the error. How do the measured slopes compare with the proven ones?

| function | inputs |
|---|---|
| x sin x, the papers' benchmark | one in each of {tasks} equal cells of [-10, 10], in order |
| a tanh network with five inputs and three outputs | random points, unordered |
| abs(x)^1.6, close to the roughest function that the theorem covers | as x sin x, with one input at the kink |

The error is the mean squared error divided by the variance of the outputs, so 1 is the error of predicting the mean.
It is the mean of {repetitions} repetitions ({noisy_repetitions} with noise), each with its own inputs, stragglers and
noise. Noise has {noise:.0f} % of the outputs' standard deviation. Slopes are least-squares slopes with 95 %
intervals. They use the cells marked `in_fit` in the table: errors between {floor:g} (smaller ones are rounding) and
{ceiling:g} (larger ones belong to unresolved curves), and for slopes against N at least {resolved} workers per task.

### Slopes against N, exact answers

{exact}

Proven: -3 for LeTCC, -2 for BACC.

{exact_verdict}

The bound holds for the roughest function of its class, so smooth functions do better. abs(x)^1.6 shows that the bound
could hardly be tighter: with {few:.0f} evenly spaced stragglers its slope is {rough}. The slopes of smooth functions
decrease slowly with N: {smooth} for x sin x over the four largest N and the same stragglers. The encoder's curve has
only two continuous derivatives at the inputs, so even these functions have an asymptotic rate of N⁻⁶ (our argument,
not the paper's). BACC has the smaller error in {behind} of the {cells} cells without noise{behind_from}.

### Slopes against N, noisy answers

{noisy}

Proven: -3/5 for LeTCC with a suitable smoothing parameter λ.

{noisy_verdict}

| λ | how it is chosen | error / error with the best λ, median |
|---|---|---|
| by theory | from the noise and the curvature, which users do not know | {rule_ratio:.2f} |
| by GCV | from the answers alone | {gcv_ratio:.2f} |
| best λ | the value with the smallest error of all values tried | 1.00 |

Without smoothing, and with BACC, more workers hardly reduce the error. At N = {last} ({wave}):

| decoder | error |
|---|---|
| BACC | {bacc:.2g} |
| LeTCC, no smoothing | {plain:.2g} |
| LeTCC, λ by GCV | {gcv:.2g} |
| noise of a single answer | {single:.2g} |

The best λ is proportional to N^({lambda_n}) and S^({lambda_s}) ({wave}). The theory has N^(-0.8), for rougher
functions than this one, and no power of S.

### KernelCode

{kernel}

### Slopes against S

{late}

Proven for LeTCC: 3, and 8/5 with noise. {above} of {curves} slopes exceed it{above_which}. This is no contradiction:
the theorem bounds the *level* of the error by a constant times S³N⁻³, not its slope, and the constant is that of the
roughest function. S consecutive stragglers leave a gap of width S/N in the curve. For a task in the gap the squared
error grows with the third power of the width for a roughest function, and with the eighth power for a smooth one. So
the error of smooth functions starts far lower and grows faster. The error of x sin x:

| stragglers | S | error |
|---|---|---|
| consecutive | {low_s:.0f} | {low:.1g} |
| consecutive | {high_s:.0f} | {high:.1g} |
| random | {high_s:.0f} | {anywhere:.1g} |

### Each worker late with probability p

{chance}

About pN workers are late in every wave. The error depends on the longest run of late neighbours, which grows as
log N. The bounds log³N·N⁻³ (LeTCC) and log⁴N·N⁻² (BACC) are not powers; the table shows their slopes over the same N.

{chance_verdict}

### Conclusion

- *Exact answers of a smooth function*: LeTCC without smoothing, from {resolved} workers per task on. Doubling the
  workers divides the error of x sin x by {gain:.0f} (BACC: {bacc_gain:.0f}; {many:.0f} random stragglers).
- *Noisy answers*: LeTCC with `decoder_smoothing="gcv"`. It needs no knowledge of the noise and is close to the best λ.
- *Exact answers from few workers per task*: `KernelCode`.
- *Neighbours on the curve should not fail together.* With {high_s:.0f} of {fixed} workers late, consecutive stragglers
  multiply the error of x sin x by {penalty:.1g} compared with random ones. Put neighbouring slots on different
  machines.
- These are rates of *smooth* functions with N several times K. They do not apply to an image classifier at
  N = 1.25 K: see the table of models.
"""


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
    found = fits(table)
    exact, noisy = (found.query(f"sweep == 'N' and noise {test}") for test in ("== 0", "> 0"))
    late, chance = found.query("sweep == 'S'"), found.query("sweep == 'p'")
    letcc, bacc = "code == 'LeTCC'", "code == 'BACC'"
    smoothed = {
        f"LeTCC, {label}": f"{letcc} and smoothing == '{name}'"
        for name, label in SMOOTHINGS.items()
    }
    by_count = {
        "LeTCC": f"{letcc} and noise == 0",
        "BACC": f"{bacc} and noise == 0",
        "LeTCC by GCV, noise": f"{letcc} and smoothing == 'gcv'",
        "BACC, noise": f"{bacc} and noise > 0",
    }
    both = {"LeTCC": letcc, "BACC": bacc}
    return WORDS.format(
        floor=FLOOR,
        ceiling=CEILING,
        resolved=RESOLVED,
        tasks=table["tasks"].max(),
        repetitions=table["repetitions"].max(),
        noisy_repetitions=table["repetitions"].min(),
        noise=100.0 * table["noise"].max(),
        exact=_slopes(exact, {**both, "KernelCode": "code == 'KernelCode'"}),
        exact_verdict=_verdicts({name: exact.query(query) for name, query in both.items()}),
        noisy=_slopes(noisy, {**smoothed, "BACC": bacc, "KernelCode": "code == 'KernelCode'"}),
        kernel=kernel_section(table),
        noisy_verdict=_verdicts({"LeTCC, all three λ": noisy.query("smoothing != 'none'")}),
        late=_slopes(late, by_count),
        chance=_slopes(chance, both, bounds=True),
        chance_verdict=_verdicts({name: chance.query(query) for name, query in both.items()}),
        **_without_noise(table, exact),
        **_with_noise(table),
        **_against_stragglers(table, late),
    )


def _slopes(found: pd.DataFrame, columns: dict[str, str], bounds: bool = False) -> str:
    """A table of slopes: one row per function, kind and S or p, one column per query."""
    varied = {"N": "S", "S": "N", "p": "p"}[found["sweep"].iloc[0]]
    head = ["f", "stragglers", varied, *columns]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for (name, kind, fixed), rows in found.groupby(["function", "kind", "fixed"], sort=False):
        cells = [TITLES[name], KINDS.get(kind, kind), f"{fixed:g}"]
        for query in columns.values():
            chosen = rows.query(query)
            cells.append("; ".join(_slope(row, bounds) for _, row in chosen.iterrows()))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _slope(row: pd.Series, bound: bool = False) -> str:
    interval = str(Interval(row["value"], row["low"], row["high"]))
    return f"{interval}, proven {row['bound']:.2f}" if bound else interval


def _verdicts(by_code: dict[str, pd.DataFrame]) -> str:
    """How many slopes are at least as steep as proven."""
    lines = [
        "| code | slopes | steeper, whole interval | steeper, part of it | not steeper | closest to its bound |",
        "|---" * 6 + "|",
    ]
    for code, found in by_code.items():
        clear = (found["high"] <= found["bound"]).sum()
        short = (found["value"] > found["bound"]).sum()
        nearest = found.loc[(found["high"] - found["bound"]).idxmax()]
        lines.append(
            f"| {code} | {len(found)} | {clear} | {len(found) - clear - short} | {short} "
            f"| {_slope(nearest)} ({_named(nearest)}) |"
        )
    return "\n".join(lines)


def _listed(found: pd.DataFrame) -> str:
    named = "; ".join(f"{_named(row)}: {_slope(row)}" for _, row in found.iterrows())
    return f" ({named})" if named else ""


def _named(row: pd.Series) -> str:
    varied = {"N": "S", "S": "N", "p": "p"}[row["sweep"]]
    return f"{TITLES[row['function']]}, {KINDS.get(row['kind'], row['kind'])}, {varied} = {row['fixed']:g}"


def _without_noise(table: pd.DataFrame, exact: pd.DataFrame) -> dict[str, object]:
    few, many = exact["fixed"].min(), exact["fixed"].max()
    rough = exact.query(
        "function == 'kink' and kind == 'periodic' and code == 'LeTCC' and fixed == @few"
    )
    anywhere = exact.query("function == 'wave' and kind == 'random' and fixed == @many")
    steep = anywhere.set_index("code")["value"]
    smooth = table.query(
        "sweep == 'N' and noise == 0 and function == 'wave' and kind == 'periodic' "
        "and code == 'LeTCC' and stragglers == @few and in_fit"
    ).tail(4)
    cell = ["sweep", "function", "kind", "workers", "stragglers", "probability"]
    cells = table.query("noise == 0").set_index([*cell, "code"])["mse"].unstack()
    behind = cells[cells["BACC"] < cells["LeTCC"]]
    least = behind["LeTCC"].min()
    return {
        "few": few,
        "many": many,
        "gain": 2.0 ** -steep["LeTCC"],
        "bacc_gain": 2.0 ** -steep["BACC"],
        "rough": _slope(rough.iloc[0]),
        "smooth": slope_interval(smooth["workers"].to_numpy(), smooth["mse"].to_numpy()),
        "behind": len(behind),
        "cells": len(cells),
        "behind_from": f", all with an error of LeTCC of at least {least:.2g}"
        if len(behind)
        else "",
    }


def _with_noise(table: pd.DataFrame) -> dict[str, object]:
    cell = ["sweep", "function", "kind", "workers", "stragglers"]
    cells = table.query("noise > 0 and code == 'LeTCC' and in_fit")
    cells = cells.set_index([*cell, "smoothing"])["mse"].unstack()
    ratios = cells.div(cells["oracle"], axis=0).median()
    example = table.query("noise > 0 and function == 'wave' and kind == 'random'")
    last = example.query("sweep == 'N'").query("workers == workers.max()")
    errors = last.set_index(["code", "smoothing"])["mse"]
    best = example.query("smoothing == 'oracle' and in_fit")
    powers = {}
    for sweep, x in (("N", "workers"), ("S", "stragglers")):
        own = best[best["sweep"] == sweep]
        powers[sweep] = Interval(0.0, 0.0, 0.0)
        if own["lambda"].nunique() > 1:  # one value everywhere is a slope of 0
            powers[sweep] = slope_interval(own[x].to_numpy(float), own["lambda"].to_numpy())
    return {
        "wave": _named(last.assign(fixed=last["stragglers"]).iloc[0]),
        "last": last["workers"].max(),
        "bacc": errors["BACC", "none"],
        "plain": errors["LeTCC", "none"],
        "gcv": errors["LeTCC", "gcv"],
        "single": table["noise"].max() ** 2,
        "gcv_ratio": ratios["gcv"],
        "rule_ratio": ratios["rule"],
        "lambda_n": powers["N"],
        "lambda_s": powers["S"],
    }


def _against_stragglers(table: pd.DataFrame, late: pd.DataFrame) -> dict[str, object]:
    proven = late.query("code == 'LeTCC' and smoothing in ('none', 'gcv')").dropna(subset="bound")
    above = proven[proven["value"] > proven["bound"]]
    wave = table.query("sweep == 'S' and noise == 0 and function == 'wave' and code == 'LeTCC'")
    aside = wave.query("kind == 'consecutive' and in_fit")
    first, last = aside.iloc[0], aside.iloc[-1]
    anywhere = wave.query("kind == 'random'").set_index("stragglers")["mse"][last["stragglers"]]
    return {
        "above": len(above),
        "curves": len(proven),
        "above_which": _listed(above),
        "low": first["mse"],
        "low_s": first["stragglers"],
        "high": last["mse"],
        "high_s": last["stragglers"],
        "fixed": last["workers"],
        "anywhere": anywhere,
        "penalty": last["mse"] / anywhere,
    }
