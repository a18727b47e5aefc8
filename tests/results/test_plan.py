"""How a plan is shown: as a table, on a narrow terminal, and drawn."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from codedmap import InvalidArgument
from codedmap.codes import Uncoded
from codedmap.results import Plan, PlanRow

NAN, INF = float("nan"), float("inf")
ROWS = (
    PlanRow("copies", Uncoded(4), 12, 2.0, 0.25, 0.5, 0.875, 0.9, 1.5, 2.25),
    PlanRow("all", None, 24, 1.0, 0.0, 0.0, None, 1.0, 3.0, INF, note="waits"),
    PlanRow("spline", None, 20, 1.2, NAN, NAN, None, NAN, None, None, note="left out"),
)


def plan(rows=ROWS, deviation=0.5, **others):
    options = {"workers": 24, "stragglers": 1, "groups": 1, "waves": 60, "advice": "Use copies."}
    return Plan(rows, deviation=deviation, **(options | others))


def test_a_table():
    shown = plan(computed=1_200, seconds=2.0, remarks=("Few rows.",))
    assert str(shown).splitlines() == [
        "24 workers, 1 straggler: 60 straggler sets on 1 group of sample rows; "
        "fn computed 1,200 rows; 2.0 s",
        "  scheme       K  cost  RMSE  RMSE/sd  p95   exact  labels  p50 s  p99 s",
        "  copies      12  2.00  0.25      0.5  0.5   90.0%   87.5%    1.5   2.25",
        "  all [1]     24  1.00     0        0    0  100.0%       -      3  never",
        "  spline [2]  20  1.20     -        -    -       -       -      -      -",
        "  [1] waits",
        "  [2] left out",
        "  Few rows.",
        "Use copies.",
    ]


def test_columns_of_which_nothing_is_known_are_left_out():
    bare = (PlanRow("copies", None, 12, 2.0, 0.25, 0.5, None, 0.9, None, None),)
    assert str(plan(bare, deviation=0.0)).splitlines()[1:3] == [
        "  scheme   K  cost  RMSE  p95  exact",
        "  copies  12  2.00  0.25  0.5  90.0%",
    ]


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (72, "  scheme       K  cost  RMSE  RMSE/sd  p95   exact  labels  p50 s  p99 s"),
        (71, "  scheme       K  cost  RMSE  RMSE/sd   exact  labels  p50 s  p99 s"),
        (60, "  scheme       K  cost  RMSE  RMSE/sd   exact  labels  p99 s"),
        (20, "  scheme      RMSE/sd"),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_and_longer_notes(width, head):
    first = "24 workers, 1 straggler: 60 straggler sets on 1 group of sample rows; "
    lines = plan(advice="Use copies, which is as good as any.").text(width).splitlines()
    assert head in lines
    assert max(map(len, lines)) <= max(width, 21)
    words = " ".join(line.strip() for line in lines)
    assert first in words
    assert words.endswith("Use copies, which is as good as any.")


def test_a_choice_in_a_few_words():
    assert plan().choice == (
        "copies, 12 tasks, 1 straggler, expected error 0.5 of the deviation (planned on 1 group)"
    )
    assert plan(deviation=0.0, groups=3).choice == (
        "copies, 12 tasks, 1 straggler, expected error 0.25 (planned on 3 groups)"
    )
    exact = plan((ROWS[1],), stragglers=2)
    assert exact.choice == "all, 24 tasks, 2 stragglers (planned on 1 group)"
    assert plan().code == Uncoded(4)
    with pytest.raises(InvalidArgument, match="no scheme in this plan is a code"):
        assert exact.code


def test_it_is_drawn_in_units_of_the_deviation():
    mpl.use("Agg")
    axes = plan().plot()
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == ["all", "copies"]
    assert [text.get_text() for text in axes.texts] == [
        "  exact, 1.0 calls a task, p99 never",
        "  2.0 calls a task, p99 2.25 s",
    ]
    lines, dots = axes.lines[::2], axes.lines[1::2]
    np.testing.assert_allclose([line.get_xdata() for line in lines], [[1e-4, 1e-4], [0.5, 1.0]])
    assert [line.get_ydata()[0] for line in lines] == [1, 0]
    assert [dot.get_xdata()[0] for dot in dots] == [1e-4, 0.5]
    assert [dot.get_markerfacecolor() for dot in dots] == ["white", "C1"]
    assert [line.get_color() for line in lines] == ["C0", "C1"]
    assert axes.get_title(loc="left") == "24 workers, 1 straggler"
    assert axes.get_xscale() == "log"
    assert [axes.spines[side].get_visible() for side in ("top", "right", "left")] == [0, 0, 1]
    mpl.pyplot.close(axes.figure)


def test_without_a_deviation_it_is_drawn_in_the_outputs_unit():
    mpl.use("Agg")
    axes = plan(deviation=0.0).plot()
    np.testing.assert_allclose([line.get_xdata()[0] for line in axes.lines[1::2]], [1e-4, 0.25])
    mpl.pyplot.close(axes.figure)
