"""The planned experiment in words, every figure taken from the table."""

from __future__ import annotations

import pandas as pd

from .planned_plot import CODES, LOOSE
from .stats import Interval

__all__ = ["NAMED", "report"]

NAMED = (
    ("lenet-8x8", 25, 20, 3, 0.25),
    ("lenet-8x8", 100, 20, 60, 0.28),
    ("lenet-mnist", 25, 20, 3, 0.25),
    ("lenet-mnist", 100, 20, 60, 0.28),
    ("tanh-network", 25, 20, 3, 1 / 6),
    ("tanh-network", 60, 20, 20, 1 / 6),
    ("pendulum", 25, 20, 3, 1 / 6),
    ("pendulum", 60, 20, 20, 1 / 6),
)
"""Function, N, K, S, and the share of LeTCC's RMSE that was wanted at most."""
RIVALS = ["LeTCC", "BACC", "copies"]
AT_MOST, ASIDE = 1.05, 1e-3

WORDS = """## Planned codes: does the plan choose well, and do the error bars hold?

**Question.** `codedmap.plan` measures codes on a sample and recommends one, with what it has learnt. Is its
choice good on rows it has not seen, and is `stderr` of an estimated row what the row is off? {cells} cells:
{functions} functions at budgets (N, K, S), a plan on 10 K rows for each (half of all rows where there are
fewer), then {waves} or more random straggler sets, each on {groups} groups of held-out rows, the same for all
codes and cut as `codedmap.map` cuts them: kernel codes get rows that are alike in one group. The rivals are LeTCC, BACC, and copies whose lost rows get the mean. Intervals (95 %) leave out one
block of rows at a time. Wanted, before anything was measured: no error above {at_most} times the best rival's
(plus {aside:g} of the outputs' deviation), and a median of at most 0.35; a root mean square of error over standard
error of 0.6 to 1.6 in every cell with 500 estimated rows or more, and of 0.8 to 1.25 at the median; of single
outputs, 93 to 98 % of errors within two standard errors at the median; a rank correlation of standard errors
and errors of at least 0.6 at the median where errors spread more than twofold.

**Result.**

| | wanted | planned | KernelCode as it is |
|---|---|---|---|
{verdicts}

{missed}

RMSE over LeTCC's, in the cells whose goals were set beforehand:

| function | N, K, S | wanted at most | planned | chosen | KernelCode as it is |
|---|---|---|---|---|---|
{named}

RMSE of each code over the outputs' standard deviation, the median over a function's budgets:

| function | planned | KernelCode as it is | LeTCC | BACC | copies | error / standard error, planned | rank correlation, planned |
|---|---|---|---|---|---|---|---|
{functions_table}

**Conclusion.** {meaning} The plan chose {choices}. A rank correlation asks more than calibration does: that *this*
row's standard error be larger than that one's where its error is. One error is one draw, so even standard
errors that are right for every row do not rank errors perfectly: shuffling the standardised errors among the rows
shows what is left, {best:.2f} at the median for planned codes where {got:.2f} was measured (for single outputs
{best_single:.2f} and {got_single:.2f}). So use a standard error as what it is, the size of an error to reckon with;
where all of a wave's are alike, as with copies, it does not tell which row is the worst.
"""


def report(table: pd.DataFrame) -> str:
    """What was asked, what came out and what it means for somebody who plans."""
    cells = table[table["what"] == "code"]
    keys = ["function", "N", "K", "S"]
    errors = cells.set_index([*keys, "code"])["relative"].unstack()
    by = {code: cells[cells["code"] == code].set_index(keys) for code in CODES}
    excess = {code: errors[code] - AT_MOST * errors[RIVALS].min(axis=1) for code in CODES}
    planned = by["planned"]
    spread = planned[planned["spread"] > 2]
    single = spread[spread["outputs"] == 1]
    return WORDS.format(
        cells=len(planned),
        functions=planned.index.get_level_values("function").nunique(),
        waves=table["waves"].min(),
        groups=table["groups"].max(),
        at_most=AT_MOST,
        aside=ASIDE,
        verdicts="\n".join(_verdicts(by, excess)),
        missed="\n".join(_missed(by, excess)),
        named="\n".join(_named(by)),
        functions_table="\n".join(_functions(cells)),
        meaning=_meaning(planned, excess["planned"]),
        choices=_choices(planned),
        best=spread["rank_at_best"].median(),
        got=spread["rank"].median(),
        best_single=single["rank_at_best"].median(),
        got_single=single["rank"].median(),
    )


def _verdicts(by: dict[str, pd.DataFrame], excess: dict[str, pd.Series]) -> list[str]:
    lines: dict[str, list[str]] = {}
    for code, rows in by.items():
        judged = rows[rows["calibration"].notna()]
        single, spread = judged[judged["outputs"] == 1], judged[judged["spread"] > 2]
        inside = judged["calibration"].between(*LOOSE)
        over = excess[code] > ASIDE
        for name, told in (
            (
                f"cells at most {AT_MOST} x the best rival | all",
                f"{(~over).sum()} of {len(over)}",
            ),
            ("RMSE / the best rival's, median | 0.35", f"{rows['ratio'].median():.2f}"),
            ("the worst of these | 1.05", f"{rows['ratio'].max():.2f}"),
            ("cells with error / standard error in 0.6..1.6 | all",
             f"{inside.sum()} of {len(judged)}"),
            ("error / standard error, median | 0.8..1.25", f"{judged['calibration'].median():.2f}"),
            ("least and most | 0.6..1.6",
             f"{judged['calibration'].min():.2f}..{judged['calibration'].max():.2f}"),
            ("within two standard errors, single outputs, median | 93..98 %",
             f"{single['within'].median():.1%}"),
            ("rank correlation, median | 0.6", f"{spread['rank'].median():.2f}"),
            ("the same, single outputs | ", f"{spread[spread.outputs == 1]['rank'].median():.2f}"),
        ):  # fmt: skip
            lines.setdefault(name, []).append(told)
    return [f"| {name} | " + " | ".join(told) + " |" for name, told in lines.items()]


def _missed(by: dict[str, pd.DataFrame], excess: dict[str, pd.Series]) -> list[str]:
    """The cells that are out of bounds, by name."""
    lines = []
    for code, rows in by.items():
        over = rows[(excess[code] > ASIDE).reindex(rows.index)]
        if len(over):
            named = "; ".join(f"{_cell(key, row)} {row.ratio:.2f}" for key, row in over.iterrows())
            lines.append(f"Behind the best rival, {CODES[code]}: {named}.\n")
        judged = rows[rows["calibration"].notna()]
        out = judged[~judged["calibration"].between(*LOOSE)]
        if len(out):
            named = "; ".join(
                f"{_cell(key, row)} "
                + str(Interval(row.calibration, row.calibration_low, row.calibration_high))
                for key, row in out.iterrows()
            )
            lines.append(f"Error over standard error out of 0.6..1.6, {CODES[code]}: {named}.\n")
    few = by["planned"]["calibration"].isna().sum()
    lines.append(
        f"In {few} cells the planned code estimated fewer than 500 rows, and its standard errors are "
        "not judged: nearly all of its rows are exact."
    )
    return lines


def _cell(key: tuple[str, int, int, int], row: pd.Series) -> str:
    return f"{row['title']} {key[1:]}"


def _named(by: dict[str, pd.DataFrame]) -> list[str]:
    lines = []
    for *cell, goal in NAMED:
        key = tuple(cell)
        if key not in by["planned"].index:
            continue
        planned, plain = by["planned"].loc[key], by["KernelCode"].loc[key]
        told = [str(Interval(one["letcc"], one["letcc_low"], one["letcc_high"])) +
                ("" if one["letcc"] <= goal else " (missed)") for one in (planned, plain)]  # fmt: skip
        budget = ", ".join(str(number) for number in key[1:])
        lines.append(
            f"| {planned['title']} | {budget} | {goal:.2f} | {told[0]} | {planned['chosen']} | {told[1]} |"
        )
    return lines


def _functions(cells: pd.DataFrame) -> list[str]:
    lines = []
    for title, rows in cells.groupby("title", sort=False):
        middle = rows.groupby("code")["relative"].median()
        planned = rows[rows["code"] == "planned"]
        told = [f"{middle[code]:.2g}" for code in (*CODES, *RIVALS)]
        for what in ("calibration", "rank"):
            value = planned[what].median()
            told.append("" if pd.isna(value) else f"{value:.2f}")
        lines.append(f"| {title} | " + " | ".join(told) + " |")
    return lines


def _meaning(planned: pd.DataFrame, excess: pd.Series) -> str:
    over = (excess > ASIDE).sum()
    if over:
        text = f"The plan's choice was out of bounds in {over} of {len(planned)} cells (above). "
    else:
        text = (
            f"On rows it had not seen, the plan's choice was within bounds in all {len(planned)} cells: "
            f"its error is {planned['ratio'].median():.2f} times the best rival's at the median, and "
            f"{planned['ratio'].max():.2f} times at worst. "
        )
    judged = planned[planned["calibration"].notna()]
    off = (~judged["calibration"].between(*LOOSE)).sum()
    middle = judged["calibration"].median()
    text += f"Its standard errors are the size of the errors: {middle:.2f} at the median"
    if off:
        return text + f", with {off} of {len(judged)} cells out of bounds (above)."
    return text + f", and within bounds in all {len(judged)} cells that could be judged."


def _choices(planned: pd.DataFrame) -> str:
    counts = planned["chosen"].value_counts()
    return ", ".join(f"{name} {count} times" for name, count in counts.items())
