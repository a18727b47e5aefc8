"""Report of the planned experiment, made from its table."""

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
"""Function, N, K, S, and the goal: RMSE at most this multiple of LeTCC's."""
RIVALS = ["LeTCC", "BACC", "copies"]
AT_MOST, ASIDE = 1.05, 1e-3

WORDS = """## Planned codes: quality of the plan, and calibration of the standard errors

**Question.** `codedmap.plan` measures codes on a sample and recommends one, together with what it has learned. Is
this choice good on other rows? Does `stderr` of an estimated row match its error?

{cells} cells: {functions} functions at budgets (N, K, S). Each plan uses 10 K rows (half of all rows if there are
fewer). The codes are then measured with at least {waves} random straggler sets, each on {groups} groups of held-out
rows. Rows and straggler sets are the same for all codes. Groups are cut as `codedmap.map` cuts them: kernel codes get
similar rows in one group. The rivals are LeTCC, BACC, and copies whose lost rows get the mean. Intervals are 95 %
jackknife intervals over blocks of rows.

The goals were set before the measurement. Errors may exceed {at_most} times the best rival's by {aside:g} of the
outputs' standard deviation. Standard errors are evaluated in cells with at least 500 estimated rows. *Error /
standard error* is a root mean square. The rank correlation is that of errors and standard errors, in cells where
errors vary by more than a factor of two.

**Result.**

| | goal | planned | default KernelCode |
|---|---|---|---|
{verdicts}

{missed}

RMSE divided by LeTCC's, in the cells that had goals of their own:

| function | N, K, S | goal, at most | planned | chosen code | default KernelCode |
|---|---|---|---|---|---|
{named}

RMSE of each code over the outputs' standard deviation, median over the budgets of a function:

| function | planned | default KernelCode | LeTCC | BACC | copies | error / standard error, planned | rank correlation, planned |
|---|---|---|---|---|---|---|---|
{functions_table}

**Conclusion.** {meaning}

| chosen code | cells |
|---|---|
{choices}

A rank correlation is a stronger requirement than calibration: rows with larger standard errors must have larger
errors. One error is one random draw, so even standard errors that are correct for every row do not rank errors
perfectly. Their rank correlation follows from shuffling the standardised errors among the rows:

| rank correlation, planned codes, median | all | single outputs |
|---|---|---|
| measured | {got:.2f} | {got_single:.2f} |
| if every standard error were correct | {best:.2f} | {best_single:.2f} |

So read a standard error as the typical size of the error. Where all standard errors of a wave are alike, as with
copies, they do not show which row has the largest error.
"""


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
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
        evaluated = rows[rows["calibration"].notna()]
        single, spread = evaluated[evaluated["outputs"] == 1], evaluated[evaluated["spread"] > 2]
        inside = evaluated["calibration"].between(*LOOSE)
        over = excess[code] > ASIDE
        for name, value in (
            (
                f"cells with RMSE at most {AT_MOST} times the best rival's | all",
                f"{(~over).sum()} of {len(over)}",
            ),
            ("RMSE / best rival's RMSE, median | at most 0.35", f"{rows['ratio'].median():.2f}"),
            ("RMSE / best rival's RMSE, largest | at most 1.05", f"{rows['ratio'].max():.2f}"),
            ("cells with error / standard error in 0.6 to 1.6 | all",
             f"{inside.sum()} of {len(evaluated)}"),
            ("error / standard error, median | 0.8 to 1.25", f"{evaluated['calibration'].median():.2f}"),
            ("error / standard error, smallest to largest | 0.6 to 1.6",
             f"{evaluated['calibration'].min():.2f} to {evaluated['calibration'].max():.2f}"),
            ("errors within two standard errors, single outputs, median | 93 to 98 %",
             f"{single['within'].median():.1%}"),
            ("rank correlation, median | at least 0.6", f"{spread['rank'].median():.2f}"),
            ("rank correlation, single outputs, median | ", f"{spread[spread.outputs == 1]['rank'].median():.2f}"),
        ):  # fmt: skip
            lines.setdefault(name, []).append(value)
    return [f"| {name} | " + " | ".join(values) + " |" for name, values in lines.items()]


def _missed(by: dict[str, pd.DataFrame], excess: dict[str, pd.Series]) -> list[str]:
    """The cells that miss a goal."""
    lines = []
    for code, rows in by.items():
        over = rows[(excess[code] > ASIDE).reindex(rows.index)]
        if len(over):
            lines += [
                f"Cells behind the best rival, {CODES[code]}:\n",
                "| cell | RMSE / best rival's |",
                "|---|---|",
            ]
            lines += [f"| {_cell(key, row)} | {row.ratio:.2f} |" for key, row in over.iterrows()]
            lines.append("")
        evaluated = rows[rows["calibration"].notna()]
        out = evaluated[~evaluated["calibration"].between(*LOOSE)]
        if len(out):
            lines += [f"Cells with error / standard error outside 0.6 to 1.6, {CODES[code]}:\n"]
            lines += ["| cell | error / standard error |", "|---|---|"]
            for key, row in out.iterrows():
                ratio = Interval(row.calibration, row.calibration_low, row.calibration_high)
                lines.append(f"| {_cell(key, row)} | {ratio} |")
            lines.append("")
    few = by["planned"]["calibration"].isna().sum()
    lines.append(
        f"In {few} cells the planned code estimated fewer than 500 rows, because nearly all rows are exact. Its "
        "standard errors are not evaluated there."
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
        ratios = [str(Interval(one["letcc"], one["letcc_low"], one["letcc_high"])) +
                ("" if one["letcc"] <= goal else " (missed)") for one in (planned, plain)]  # fmt: skip
        budget = ", ".join(str(number) for number in key[1:])
        lines.append(
            f"| {planned['title']} | {budget} | {goal:.2f} | {ratios[0]} | {planned['chosen']} | {ratios[1]} |"
        )
    return lines


def _functions(cells: pd.DataFrame) -> list[str]:
    lines = []
    for title, rows in cells.groupby("title", sort=False):
        middle = rows.groupby("code")["relative"].median()
        planned = rows[rows["code"] == "planned"]
        entries = [f"{middle[code]:.2g}" for code in (*CODES, *RIVALS)]
        for what in ("calibration", "rank"):
            value = planned[what].median()
            entries.append("" if pd.isna(value) else f"{value:.2f}")
        lines.append(f"| {title} | " + " | ".join(entries) + " |")
    return lines


def _meaning(planned: pd.DataFrame, excess: pd.Series) -> str:
    inside = (excess <= ASIDE).sum()
    evaluated = planned[planned["calibration"].notna()]
    calibrated = evaluated["calibration"].between(*LOOSE).sum()
    return (
        f"On held-out rows the error of the planned code meets its goal in {inside} of {len(planned)} cells. It is "
        f"{planned['ratio'].median():.2f} times the best rival's at the median and {planned['ratio'].max():.2f} times at "
        f"worst. Error over standard error is {evaluated['calibration'].median():.2f} at the median and within bounds in "
        f"{calibrated} of {len(evaluated)} cells. The plans chose:"
    )


def _choices(planned: pd.DataFrame) -> str:
    counts = planned["chosen"].value_counts()
    return "\n".join(f"| {name} | {count} |" for name, count in counts.items())
