"""Plans as text and pictures."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

import codedmap as cm
from codedmap.results import Plan, PlanRow

EXACT = PlanRow("exact with hedging", None, None, 4.4, 5.0, 1.05, 1.0, 0.0)
LATE = PlanRow(
    "estimates at a deadline", None, 4.1, 4.1, 4.1, 0.95, 0.9, 0.01, errors=(0.006, 0.03)
)
CODED = PlanRow("KernelCode", cm.KernelCode(6, 8, 2), None, 2.0, 2.5, 1.3, 0.8, 0.09)
COPIES = PlanRow("copies", cm.Replication(4, 8), None, math.inf, math.inf, 2.0, 1.0, 0.0)


def plan(*rows, **changes):
    given = {
        "tasks": 1000, "workers": 8, "stragglers": 2, "deviation": 2.0, "asked": 0.05, "computed": 90, "timed": 40,
        "seconds": 0.4, "remarks": ("not looked at within 0.4 s: SplineCode",),
    }  # fmt: skip
    return Plan(rows, **{**given, **changes})


def test_sentences_come_first_then_the_table_then_what_was_not_looked_at():
    assert str(plan(EXACT, LATE, COPIES)).splitlines() == [
        "Exact with hedging: 4.4 s. Estimates at a deadline at 4.1 s: 0.6 to 3 % error, 0.9 calls a row. Not worth it.",
        "  way                       time    p99  calls   exact       error",
        "  exact with hedging       4.4 s  5.0 s   1.05  100.0%           0",
        "  estimates at a deadline  4.1 s  4.1 s   0.95   90.0%  0.6 to 3 %",
        "  copies                   never  never   2.00  100.0%           0",
        "1,000 rows on 8 workers; planned in 0.4 s from 90 rows answered and 40 calls timed",
        "not looked at within 0.4 s: SplineCode",
    ]


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        ([EXACT], "Exact with hedging: 4.4 s."),
        (
            [LATE, EXACT],
            "Exact with hedging: 4.4 s. Estimates at a deadline at 4.1 s: 0.6 to 3 % error, 0.9 calls a row. "
            "Worth it.",
        ),
        (
            [replace(LATE, error=0.3, errors=(0.01, 1.4)), EXACT],
            "Exact with hedging: 4.4 s. Estimates at a deadline at 4.1 s: < 140 % error, 0.9 calls a row. "
            "More than 5 %.",
        ),
        (
            [replace(LATE, errors=(0.01, 0.08)), EXACT],
            "Exact with hedging: 4.4 s. Estimates at a deadline at 4.1 s: 1 to 8 % error, 0.9 calls a row. "
            "Perhaps more than 5 %.",
        ),
        (
            [replace(LATE, exact=1.0, error=0.0, errors=(0.0, 0.3)), EXACT],
            "Exact with hedging: 4.4 s. Estimates at a deadline at 4.1 s: < 30 % error, 0.9 calls a row. "
            "Perhaps more than 5 %.",
        ),
        (
            [replace(LATE, exact=1.0, error=0.0, errors=(0.0, 0.1)), EXACT],
            "Exact with hedging: 4.4 s. Estimates at a deadline at 4.1 s: < 10 % error, 0.9 calls a row. Worth it.",
        ),
        (
            [EXACT, replace(CODED, error=0.04)],
            "Exact with hedging: 4.4 s. KernelCode: 2.0 s, 4 % error, 1.3 calls a row. Perhaps more than the 5 % "
            "allowed. Not worth it.",
        ),
        (
            [EXACT, CODED],
            "Exact with hedging: 4.4 s. KernelCode: 2.0 s, 9 % error, 1.3 calls a row. More than the 5 % allowed. "
            "Not worth it.",
        ),
    ],
)
def test_what_to_do(rows, advice):
    assert plan(*rows).advice == advice


def test_what_map_is_given():
    assert plan(EXACT, LATE).options == {}
    assert plan(LATE, EXACT).options == {"deadline": 4.1}
    assert plan(CODED, EXACT).options == {"code": CODED.code}


def test_few_timed_calls_give_ranges():
    row = PlanRow("exact with hedging", None, None, 4.4, 5.0, 1.0, 1.0, 0.0, (3.9, 132.4))
    assert "3.9 to 132 s  132 s" in str(plan(row))  # 99 of 100 jobs take no less than 95 of 100
    even = PlanRow("exact with hedging", None, None, 4.4, 5.0, 1.0, 1.0, 0.0, (4.41, 4.42))
    assert " to " not in str(plan(even))


def test_tiny_errors_and_shares_that_are_not_whole():
    row = PlanRow("estimates at a deadline", None, 1.0, 1.0, 1.0, 1.0, 0.99999, 1e-7)
    assert "< 0.1 %" in str(plan(row))
    assert "99.9%" in str(plan(row))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(100.0, "100 s"), (99.9, "99.9 s"), (1.0, "1.0 s"), (0.25, "0.25 s"), (1e-3, "0.001 s"), (9e-4, "< 0.001 s")],
)  # fmt: skip
def test_times_have_as_many_digits_as_matter(seconds, shown):
    row = PlanRow("copies", None, None, seconds, seconds, 2.0, 1.0, 0.0)
    line = str(plan(row)).splitlines()[2]
    assert re.split(" {2,}", line.strip())[:4] == ["copies", shown, shown, "2.00"]


@pytest.mark.parametrize(
    ("error", "shown"),
    [(1.0, "100 %"), (0.99, "99 %"), (0.124, "12 %"), (1e-3, "0.1 %"), (9e-4, "< 0.1 %"), (0.0, "0"), (math.nan, "unknown")],
)  # fmt: skip
def test_errors_have_as_many_digits_as_matter(error, shown):
    row = PlanRow("copies", None, None, 1.0, 1.0, 2.0, 0.5, error)
    assert f"50.0%  {shown:>5}\n" in str(plan(row))


def test_times_below_a_millisecond_are_said_to_be_that():
    row = PlanRow("copies", None, None, 2e-5, 3e-5, 2.0, 1.0, 0.0, range=(8e-6, 1.3))
    text = str(plan(row))
    assert "< 0.001 to 1.3 s" in text
    assert "e-0" not in text


def test_of_errors_that_may_be_anything_the_largest_is_said():
    row = PlanRow(
        "estimates at a deadline", None, 1.0, 1.0, 1.0, 1.0, 0.9, 0.01, errors=(1e-4, 0.3)
    )
    assert "< 30 %" in str(plan(row))
    row = PlanRow("BerrutCode", None, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, errors=(0.7, 1.5))
    assert "70 to 150 %" in str(plan(row))


def test_it_is_drawn():
    pytest.importorskip("matplotlib").use("agg")
    axes = plan(EXACT, LATE, CODED, COPIES).plot()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "exact with hedging (recommended)", "estimates at a deadline", "KernelCode",
    ]  # fmt: skip
    drawn = [(*line.get_xdata(), *{*line.get_ydata()}) for line in axes.lines]
    assert drawn == [
        (1e-3, 1e-3, 1e-3, 4.4), (0.006, 0.01, 0.03, 4.1), (0.09, 0.09, 0.09, 2.0)
    ]  # fmt: skip
    assert all(line.get_markevery() == [1] for line in axes.lines), "the error has a dot"
    assert (axes.get_xscale(), axes.get_ylim()[0]) == ("log", 0.0)
    assert plan(LATE, EXACT).plot(axes) is axes
