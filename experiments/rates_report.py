"""The rates experiment in words, every figure taken from the table."""

from __future__ import annotations

import pandas as pd

from .rates_kernel import beside_kernel
from .rates_plot import CEILING, FLOOR, KINDS, RESOLVED, SMOOTHINGS, TITLES, fits
from .stats import Interval, slope_interval

__all__ = ["report"]

WORDS = """## Rates: does the error fall as the paper proves?

**Question.** A code bends {tasks} inputs into a curve and gives each of N workers one point of it. S of
them are late and not waited for. A second curve, drawn through the answers that came, is read off
where the inputs sit. Every result is an estimate, and more workers should make it better. The paper
behind LeTCC proves how fast at least: the squared error falls as S³N⁻³ if workers compute exactly, and
as S^(8/5) N^(-3/5) if each answer carries noise. On logarithmic axes such a law is a straight line and
its exponent the slope: -3 means that twice the workers leave an eighth of the error. How steep are
the measured lines, beside the proven ones and beside those of BACC, the older code?

Three functions: x sin x on [-10, 10], the papers' own benchmark, one input in each of {tasks} equal
cells; a small tanh network of five inputs and three outputs, on points in no order; and abs(x)^1.6 with
its kink at one of the inputs, about the roughest function that the theorem covers. An error is the mean
squared error of the estimates against the function of the inputs themselves, in units of the variance
of the outputs, so that 1 is as good as guessing their mean. It is a mean of {repetitions} repetitions
({noisy_repetitions} with noise), each with inputs, late workers and noise drawn anew. Noise has {noise:.0f} %
of the outputs' standard deviation. Slopes are least-squares lines with 95 % intervals through the cells
that the table marks `in_fit`: errors between {floor:g} (less is rounding) and {ceiling:g} (more is a curve
not resolved at all), and against N only from {resolved} workers a task on.

### More workers, exact answers

{exact}

Proven: -3 for LeTCC, -2 for BACC. LeTCC: {exact_verdict} BACC: {bacc_verdict}
(A line that just follows its bound has it in the middle of its interval.)

A bound must hold for the roughest function of its class, so smooth ones do better. abs(x)^1.6 shows
that it could not be much better: with {few:.0f} stragglers evenly spread its slope is {rough}. The lines
of the smooth functions flatten slowly ({smooth} for x sin x over the four largest N, same stragglers): at
the inputs the encoder's curve is smooth only up to its second derivative, which leaves even these
functions N⁻⁶ in the end (our reasoning, not the paper's). In {behind} of the {cells} cells without noise
BACC's error is the smaller one{behind_from}.

### More workers, noisy answers

{noisy}

Proven: -3/5 for LeTCC with a suitable smoothing λ. *By theory* λ follows from the noise and the bend of
the curve, which users do not know; *GCV* finds it from the answers alone; *in hindsight* it is the one
value, of many tried, with the least error. With these three, {noisy_verdict}

Without smoothing, more workers hardly help once noise is what counts, and BACC has none: at N = {last}
({wave}) the error is {bacc:.2g} with BACC, {plain:.2g} with an interpolating LeTCC and {gcv:.2g} with GCV, where
the noise of a single answer is {single:.2g}. GCV's error is in the median {gcv_ratio:.2f} times that of the best λ,
the theory's {rule_ratio:.2f} times. The best λ itself goes as N^({lambda_n}) and S^({lambda_s}) ({wave});
theory has -0.8, for functions rougher than this one, and no power of S.

### KernelCode beside them

{kernel}

### More stragglers

{late}

Proven for LeTCC: 3, and 8/5 with noise. {above} of {curves} slopes exceed it{above_which}. That is no
contradiction: the theorem bounds the *level* of the error by a constant times S³N⁻³, not its slope, and
the constant is that of the roughest function. S late workers side by side tear a gap of width S/N into
the curve. If a task sits in it, a roughest function is missed by the width to the power 3/2, squared 3; a smooth
one by the width to the power 4, squared 8. So smooth functions start far lower and climb faster: x sin x
from {low:.1g} at S = {low_s:.0f} to {high:.1g} at S = {high_s:.0f}. Besides, a longer gap is more likely to hold a task at all.
Stragglers anywhere seldom tear long gaps ({anywhere:.1g} at S = {high_s:.0f}), and evenly spread ones never do.

### Each worker late on its own

{chance}

With probability p each, about pN workers are late in every wave, however many there are; what counts is the
longest row of late neighbours, which grows only as log N. Proven: log³N·N⁻³ for LeTCC, log⁴N·N⁻² for BACC;
the table has the slopes of these two over the same N. LeTCC: {chance_verdict} BACC: {chance_bacc_verdict}

### What it means for choosing a scheme

- Exact answers of a smooth function: LeTCC without smoothing, from {resolved} workers a task on. There twice
  the workers leave 1/{gain:.0f} of the error of x sin x (BACC: 1/{bacc_gain:.0f}; {many:.0f} stragglers anywhere).
- Noisy answers: LeTCC with `decoder_smoothing="gcv"`. It knows nothing and loses next to nothing.
- Answers without noise from few workers a task: `KernelCode`, see above.
- Neighbours on the curve should not fail together: with {high_s:.0f} of {fixed} workers late, side by side instead
  of anywhere multiplies the error of x sin x by {penalty:.1g}. Put neighbouring slots on different machines.
- These are rates of *smooth* functions, seen when N is several times K. They say nothing of a
  classifier on images at N = 1.25 K: see the table of models.
"""


def report(table: pd.DataFrame) -> str:
    """What was asked, what came out and what it means, for a reader outside the field."""
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
        exact_verdict=_verdict(exact.query(letcc)),
        bacc_verdict=_verdict(exact.query(bacc)),
        noisy=_slopes(noisy, {**smoothed, "BACC": bacc, "KernelCode": "code == 'KernelCode'"}),
        kernel=beside_kernel(table),
        noisy_verdict=_verdict(noisy.query("smoothing != 'none'")),
        late=_slopes(late, by_count),
        chance=_slopes(chance, both, bounds=True),
        chance_verdict=_verdict(chance.query(letcc)),
        chance_bacc_verdict=_verdict(chance.query(bacc)),
        **_without_noise(table, exact),
        **_with_noise(table),
        **_against_stragglers(table, late),
    )


def _slopes(found: pd.DataFrame, columns: dict[str, str], bounds: bool = False) -> str:
    """A table of slopes, a row for each function, kind and S or p, a column for each query."""
    varied = {"N": "S", "S": "N", "p": "p"}[found["sweep"].iloc[0]]
    head = ["f", "late workers", varied, *columns]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for (name, kind, fixed), rows in found.groupby(["function", "kind", "fixed"], sort=False):
        cells = [TITLES[name], KINDS.get(kind, kind), f"{fixed:g}"]
        for query in columns.values():
            chosen = rows.query(query)
            cells.append("; ".join(_told(row, bounds) for _, row in chosen.iterrows()))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _told(row: pd.Series, bound: bool = False) -> str:
    interval = str(Interval(row["value"], row["low"], row["high"]))
    return f"{interval}, proven {row['bound']:.2f}" if bound else interval


def _verdict(found: pd.DataFrame) -> str:
    """How many slopes are as steep as proven, and which are not."""
    clear = found["high"] <= found["bound"]
    short = found[found["value"] > found["bound"]]
    nearest = found.loc[(found["high"] - found["bound"]).idxmax()]
    count = "all" if clear.all() else f"{clear.sum()} of"
    text = f"{count} {len(found)} slopes are at least as steep with their whole interval"
    if not clear.all():
        text += f", {(~clear).sum() - len(short)} more with a part of it"
    if len(short):
        return f"{text}, and {len(short)} are not{_listed(short)}."
    return f"{text}; the nearest to its bound is {_told(nearest)} ({_named(nearest)})."


def _listed(found: pd.DataFrame) -> str:
    named = "; ".join(f"{_named(row)}: {_told(row)}" for _, row in found.iterrows())
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
        "rough": _told(rough.iloc[0]),
        "smooth": slope_interval(smooth["workers"].to_numpy(), smooth["mse"].to_numpy()),
        "behind": len(behind),
        "cells": len(cells),
        "behind_from": f"; LeTCC's own is {least:.2g} or more there" if len(behind) else "",
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
        if own["lambda"].nunique() > 1:  # the same of the tried values everywhere is a slope of 0
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
