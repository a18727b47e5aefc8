"""Page and summary of the surrogates experiment, made from its table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

__all__ = ["ASIDE", "WITH_OUTPUTS", "report", "significant", "summary"]

ENOUGH = 150
"""Lost rows from which calibration is judged."""
LEVEL = 0.01
ASIDE = 1e-3
"""What is added to each error before two are compared, in standard deviations."""
WITH_OUTPUTS = " with outputs"
"""The end of the names of surrogates that have other outputs as inputs."""

WORDS = """# Estimates beside surrogates of the same answered rows

Estimator: `{estimator}`. {simulators} simulators, {cells} cells, {lines} outputs of them. A cell is a simulator, a
number of rows, a share of them lost, at random or by worker (24 workers; contiguous blocks or strided rows). *Ratio* is
the estimates' RMSE on the lost rows over that of the best of five surrogates of the same answered rows, which is chosen
afterwards, each plus 0.001 of the output's standard deviation: scikit-learn's Gaussian process (Matérn 5/2, a length
scale an input, white noise, fitted per output on up to 600 rows from 4 starts, predicting from all), thin-plate splines
of 50 neighbours, histogram gradient boosting, the nearest neighbour, the mean. RMSE is over the standard deviation.
Seconds are the estimator's on one core, for all outputs of a cell.{absent}

{summary}

*Error / stderr* is a root mean square; it and the share within two standard errors are judged where {enough} rows or
more are lost. *Rank* is Spearman's correlation of standard errors and absolute errors; *at best* is what it would be if
every standard error were correct for its row. The quantiles of normal errors of one scale differ thirteenfold by
chance alone; the *scale* is what is left after that: exp(2.56 s), s² being the variance of log |error| less π²/8.

## By simulator

RMSE is that of 1,000 rows (200 where there is no cell of 1,000) with 17 % lost at random; the rest are medians over
cells.

| simulator | output | RMSE | best surrogate | ratio | largest ratio | error / stderr | within two | rank |
|---|---|---|---|---|---|---|---|---|
{simulators_table}

## By cell

| rows | lost | ratio, median | largest | error / stderr | within two | rank | seconds, median | largest |
|---|---|---|---|---|---|---|---|---|
{shapes}

## The largest ratios

| cell | output | RMSE | best surrogate | ratio [99 %] | error / stderr |
|---|---|---|---|---|---|
{worst}

{problems}
"""


def significant(table: pd.DataFrame) -> pd.Series:
    """Which ratios are above 1.10 at 99 %, by Holm's correction over all of the table."""
    order = table["p"].sort_values(kind="stable").index
    passes = table["p"][order].to_numpy() <= LEVEL / (
        len(order) - pd.RangeIndex(len(order)).to_numpy()
    )
    found = pd.Series(False, index=table.index)
    found[order] = passes.cumprod().astype(bool)
    return found


def summary(table: pd.DataFrame) -> str:
    """The counts of what is wanted."""
    judged = table[(table["lost"] >= ENOUGH) & table["calibration"].notna()]
    spread, wide = table[table["spread"] > 10], table[table["quantile_ratio"] > 10]
    lines = [
        ("ratio, median", "at most 1.0", f"{table['ratio'].median():.3f}"),
        *_of_inputs(table),
        ("ratio, largest", "at most 1.3", f"{table['ratio'].max():.2f}"),
        ("ratios above 1.3", "0", f"{(table['ratio'] > 1.3).sum()} of {len(table)}"),
        ("ratios above 1.10", "", f"{(table['ratio'] > 1.1).sum()} of {len(table)}"),
        ("ratios significantly above 1.10", "0", f"{significant(table).sum()} of {len(table)}"),
        *_judged(judged),
        (f"rank correlation, median of {len(spread)} whose errors' scale varies more than tenfold", "at least 0.6",
         f"{spread['rank'].median():.2f} (at best {spread['rank_at_best'].median():.2f})"),
        (f"rank correlation, median of {len(wide)} whose errors' 90 and 10 % quantiles differ more than tenfold", "",
         f"{wide['rank'].median():.2f} (at best {wide['rank_at_best'].median():.2f})"),
        ("seconds a cell, median and largest", "",
         f"{table['seconds'].median():.1f}, {table['seconds'].max():.1f}"),
        ("problems", "0", f"{table['problem'].notna().sum()}"),
    ]  # fmt: skip
    head = "| | wanted | measured |\n|---|---|---|\n"
    return head + "\n".join(f"| {what} | {wanted} | {got} |" for what, wanted, got in lines)


def _of_inputs(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The ratio to surrogates of the inputs alone, if others have had more."""
    more = [name for name in table if name.endswith(WITH_OUTPUTS)]
    if not more:
        return []
    alone = table[[name.removesuffix(WITH_OUTPUTS) for name in more]].min(axis=1)
    ratio = ((table["rmse"] + ASIDE) / (alone + ASIDE)).median()
    return [("ratio to the best surrogate of the inputs alone, median", "", f"{ratio:.3f}")]


def _judged(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    if not len(table):
        return [("error / stderr", "", f"no cell has lost {ENOUGH} rows")]
    size, within = table["calibration"], table["within"]
    return [
        ("error / stderr, median", "0.85 to 1.2", f"{size.median():.2f}"),
        ("error / stderr, smallest to largest", "0.7 to 1.4", f"{size.min():.2f} to {size.max():.2f}"),
        ("error / stderr in 0.7 to 1.4", "all", f"{size.between(0.7, 1.4).sum()} of {len(table)}"),
        ("within two stderr, median", "93 to 98 %", f"{within.median():.1%}"),
        ("within two stderr in 93 to 98 %", "all", f"{within.between(0.93, 0.98).sum()} of {len(table)}"),
    ]  # fmt: skip


def report(table: pd.DataFrame, estimator: str, absent: Sequence[str] = ()) -> str:
    """The page in Markdown; ``absent`` are titles of simulators that could not run."""
    keys = ["simulator", "rows", "loss", "kind"]
    return WORDS.format(
        estimator=estimator,
        simulators=table["simulator"].nunique(),
        cells=table.groupby(keys).ngroups,
        lines=len(table),
        summary=summary(table),
        enough=ENOUGH,
        absent=f" Not run, because what they need was not here: {', '.join(absent)}."
        if absent
        else "",
        simulators_table="\n".join(_simulators(table)),
        shapes="\n".join(_shapes(table)),
        worst="\n".join(_worst(table)),
        problems="\n".join(_problems(table)),
    )


def _medians(rows: pd.DataFrame) -> str:
    return f"{rows['calibration'].median():.2f} | {rows['within'].median():.0%} | {rows['rank'].median():.2f}"


def _simulators(table: pd.DataFrame) -> list[str]:
    lines = []
    for (title, output), rows in table.groupby(["title", "output"], sort=False):
        named = rows[(rows["loss"] == 0.17) & (rows["kind"] == "random")]
        named = named.sort_values("rows", key=lambda m: (m - 1_000).abs())
        rmse = f"{named['rmse'].iloc[0]:.3g}" if len(named) else ""
        best = ", ".join(f"{name} {count}" for name, count in rows["best"].value_counts().items())
        lines.append(
            f"| {title} | {output} | {rmse} | {best} | {rows['ratio'].median():.2f} | {rows['ratio'].max():.2f} | "
            f"{_medians(rows)} |"
        )
    return lines


def _shapes(table: pd.DataFrame) -> list[str]:
    return [
        f"| {m:,} | {loss:.0%}, {kind} | {rows['ratio'].median():.2f} | {rows['ratio'].max():.2f} | {_medians(rows)} | "
        f"{rows['seconds'].median():.1f} | {rows['seconds'].max():.1f} |"
        for (m, loss, kind), rows in table.groupby(["rows", "loss", "kind"])
    ]


def _worst(table: pd.DataFrame) -> list[str]:
    sure = significant(table)
    lines = []
    for at, row in table.sort_values("ratio", ascending=False).head(30).iterrows():
        mark = " **significant**" if sure[at] else ""
        lines.append(
            f"| {row['title']}, {row['rows']:,}, {row['loss']:.0%} {row['kind']} | {row['output']} | {row['rmse']:.3g} | "
            f"{row['best']} {row[row['best']]:.3g} | {row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]{mark} | "
            f"{row['calibration']:.2f} |"
        )
    return lines


def _problems(table: pd.DataFrame) -> list[str]:
    found = table[table["problem"].notna()]
    if not len(found):
        return []
    return ["## Problems\n", *(
        f"- {row.title}, {row.rows:,}, {row.loss:.0%} {row.kind}, {row.output}: {row.problem}"
        for row in found.itertuples()
    )]  # fmt: skip
