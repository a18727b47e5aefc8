"""What results print: every count that they state, and nothing that there is not."""

from __future__ import annotations

import re

import numpy as np
import pytest

import codedmap as cm
from codedmap import Outcome, Replication, Status
from codedmap.estimation import Known
from codedmap.results import (
    CallRecord,
    CallTable,
    FillResult,
    MapResult,
    MatrixResult,
    SumResult,
)
from codedmap.results.summary import first_line, short
from codedmap.testing import Scripted, fail

FAILED = {7: ValueError("negative\nand more"), 8: OSError("gone")}


def mapped(values, stderr, exact, **others) -> MapResult:
    workers = {"answered": (0, 1, 2), "abandoned": (), "failed": {}, "rejected": ()}
    given = workers | {"code": Replication(2, 9), "failures": {}}
    stderr = None if stderr is None else np.array(stderr)
    unknown = np.zeros(len(exact), bool) if stderr is None else np.isinf(stderr)
    return MapResult(
        np.array(values),
        stderr,
        np.where(exact, Status.EXACT, np.where(unknown, Status.MISSING, Status.ESTIMATED)),
        **(given | {"outcome": Outcome.QUORUM, "seconds": 1.25} | others),
    )


def lines_of(result) -> dict[str, str]:
    """The lines below the first by their name."""
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in str(result).splitlines()[1:]}


@pytest.mark.parametrize(
    ("values", "stderr", "exact", "rows"),
    [
        ([[1.0, 2.0]] * 3, [0.0] * 3, [True] * 3, "3 of 3 exact"),
        (
            [1, 2],
            None,
            [True, False],
            "1 of 2 exact, 1 estimated (this code has no standard errors)",
        ),
        (
            [[1.0, 2.0]] * 4,
            [0.0, 0.5, 0.25, 0.0],
            [True, False, False, True],
            "2 of 4 exact, 2 estimated (standard error up to 0.5)",
        ),
        (
            [[1.0, 2.0], [np.nan, 1.0], [np.nan, np.nan], [0.0, np.inf]],
            [0.0, 0.25, np.inf, np.inf],
            [True, False, False, False],
            "1 of 4 exact, 1 estimated (standard error up to 0.25), 2 missing, "
            "1 with entries that are not finite",
        ),
        (
            [np.nan, np.nan],
            [np.inf, np.inf],
            [False, False],
            "0 of 2 exact, 2 missing",
        ),
    ],
)
def test_the_rows_of_a_map(values, stderr, exact, rows):
    assert lines_of(mapped(values, stderr, exact)) == {"rows": rows}


def test_the_workers_of_a_map():
    result = mapped(
        [1.0], [0.0], [True], abandoned=(4, 5), failed=FAILED, rejected=(2,), hedges=3,
    )  # fmt: skip
    first, *_ = str(result).splitlines()
    assert first == f"3 of 7 workers answered in 1.25 s: {Outcome.QUORUM.value}"
    assert lines_of(result) == {
        "rows": "1 of 1 exact",
        "abandoned": "2: workers 4, 5",
        "rejected": "1: worker 2",
        "failed": "2: workers 7, 8; the first, 7, with ValueError: negative",
        "hedges": "3",
    }
    assert "running" in lines_of(
        mapped([1.0], [0.0], [True], abandoned=(4,), outcome=Outcome.WAITING)
    )


@pytest.mark.parametrize(("count", "end"), [(12, "10, 11"), (13, "10, 11, …")])
def test_no_more_than_twelve_workers_are_listed(count, end):
    shown = lines_of(mapped([1.0], [0.0], [True], abandoned=tuple(range(count))))["abandoned"]
    assert shown.startswith(f"{count}: workers 0, 1, 2, ")
    assert shown.endswith(end)


def call(outcome: str, kind: str = "first") -> CallRecord:
    return CallRecord(range(2), 0, 0, 1, "here", 0.0, 0.5, outcome, kind)


def test_a_map_without_a_code():
    calls = [call("answered"), call("answered", "retry"), call("crashed")]
    result = mapped(
        [1.0, np.nan, np.nan], None, [True, False, False], code=None, calls=CallTable(calls),
        failures={1: ValueError("negative\nand more")}, outcome=Outcome.EVERYONE,
    )  # fmt: skip
    result.status[:] = [Status.EXACT, Status.FAILED, Status.MISSING]
    first, *_ = str(result).splitlines()
    assert first == (f"3 rows in 1.25 s: 1 exact, 1 failed, 1 missing; {Outcome.EVERYONE.value}")
    assert lines_of(result) == {
        "calls": "3 calls: 2 answered, 1 crashed (1 retry)",
        "failed": "1; the first, row 1, with ValueError: negative",
    }


def test_a_map_without_a_code_says_what_estimates_are_worth_and_which_answers_are_not_finite():
    values = {"a": np.array([1.0, np.nan, 2.0, np.nan]), "b": np.array([[1.0, np.inf]] * 4)}
    values["c"] = np.array(["x"] * 4)
    stderr = {"a": np.array([0.0, 0.0, 0.5, np.inf]), "b": np.full((4, 2), 0.25)}
    result = mapped([0.0] * 4, None, [True] * 4, code=None, calls=CallTable([]))
    for name, value in (("values", values), ("stderr", stderr)):
        object.__setattr__(result, name, value)
    result.status[2:] = Status.ESTIMATED, Status.MISSING
    assert lines_of(result) == {
        "calls": "no calls",
        "estimates": "standard error up to 0.5",
        "not": "finite entries of 3 rows (the first is 0)",
    }


def test_a_table_of_calls():
    table = CallTable([call("answered"), call("late", "hedge"), call("answered", "hedge")])
    assert str(table) == repr(table) == "3 calls: 2 answered, 1 late (2 hedges)"
    assert (table.count("answered"), table.count("hedge"), table.count("raised")) == (2, 2, 0)
    assert table.columns()["outcome"] == ["answered", "late", "answered"]
    assert list(table.columns()) == list(CallRecord._fields)
    assert isinstance(table[1:], CallTable)
    assert table[1:].columns()["kind"] == ["hedge", "hedge"]
    assert table[-1] == list(table)[2]
    assert str(CallTable([])) == "no calls"


@pytest.mark.parametrize(
    ("stderr", "product"),
    [
        (None, "2 x 2, exact"),
        ([[0.0, 0.5], [0.25, 0.0]], "2 x 2, estimated (standard error up to 0.5)"),
        (
            [[0.0, 0.5], [np.inf, np.inf]],
            "2 x 2, estimated (standard error up to 0.5), nothing known of 2 entries",
        ),
        ([[np.inf] * 2] * 2, "2 x 2, estimated, nothing known of 4 entries"),
    ],
)
def test_a_product(stderr, product):
    stderr = None if stderr is None else np.array(stderr)
    result = MatrixResult(
        shape=(2, 2),
        stderr=stderr,
        answered=(0, 1),
        abandoned=(2,),
        failed={},
        rejected={3: "off"},
        repaired=(4,),
        outcome=Outcome.DECODABLE,
        seconds=0.5,
    )
    assert result.exact == (stderr is None)
    assert lines_of(result) == {
        "product": product,
        "abandoned": "1: worker 2",
        "rejected": "1: worker 3",
        "repaired": "1: worker 4",
    }


@pytest.mark.parametrize(
    ("value", "exact", "state"),
    [
        ([1.0, np.nan], True, "exact"),
        ([1.0, 2.0], False, "not exact"),
        ([np.nan, np.nan], False, "unknown"),
        ([], True, "exact"),
    ],
)
def test_a_sum(value, exact, state):
    result = SumResult(
        value=np.array(value),
        exact=exact,
        parts=6_000,
        received=1_024,
        answered=(0, 1),
        abandoned=(),
        failed={},
        rejected={},
        repaired=(),
        outcome=Outcome.EVERYONE,
        seconds=0.5,
    )
    assert lines_of(result) == {
        "sum": f"{state}, of 6,000 parts: shape ({len(value)},), float64; 1,024 bytes received"
    }


def test_a_result_is_checked_for_rows_without_a_value():
    result = mapped([1.0] * 4, [0.0] * 4, [True] * 4)
    assert result.check() is result
    result.status[1] = Status.ESTIMATED
    assert result.check() is result
    assert result.exact.tolist() == [True, False, True, True]
    result.status[2:] = Status.MISSING, Status.FAILED
    with pytest.raises(
        cm.NotEnoughAnswers,
        match=r"1 of 4 rows failed and 1 are missing .*row 2\): see failures, or allow more time$",
    ) as caught:
        result.check()
    assert caught.value.__cause__ is None
    failed = mapped([1.0] * 8, [0.0] * 8, [True] * 8, failures={1: OSError("late")} | FAILED)
    failed.status[:] = Status.FAILED
    failed.status[1] = Status.ESTIMATED  # after it ran too long
    with pytest.raises(
        cm.NotEnoughAnswers, match=r"7 of 8 rows failed and 0 are .*row 0\): see failures$"
    ) as caught:
        failed.check()
    assert caught.value.__cause__ is FAILED[7]


@pytest.mark.parametrize(
    ("outputs", "more"), [(3, None), (20, None), (1022, "and 1,002 more outputs")]
)
def test_lost_runs(outputs, more):
    left_out = np.array([0.5, np.nan, 0.25, *[1.0] * outputs])[:outputs]
    deviation = np.array([2.0, 1.0, 0.0, *[1.0] * outputs])[:outputs]
    result = FillResult(
        values=np.ones((3, outputs)), stderr=np.zeros((3, outputs)), status=np.array([0, 0, 1], np.int8),
        methods=("plane",) * outputs, left_out=left_out, deviation=deviation,
        losses="most with x > 1", outputs=("a", "long", *["y"] * outputs)[:outputs], inputs=("x",),
        _points=np.ones((3, 1)), _flat=np.ones((3, outputs)), _errors=np.zeros((3, outputs)),
    )  # fmt: skip
    first, *lines, last = str(result).splitlines()
    assert first == "3 rows: 2 exact, 1 estimated"
    assert lines[:3] == [
        "  a     plane; off by 0.5 (25.00% of the deviation) where answers are left out",
        "  long  plane",
        "  y     plane; off by 0.25 where answers are left out",
    ]
    assert lines[20:] == ([] if more is None else [f"  {more}"])
    assert last == "  not lost at random: most with x > 1"
    object.__setattr__(result, "losses", None)
    assert "random" not in str(result)


def test_long_texts_of_exceptions_are_cut():
    for length, shown in ((500, "x" * 500), (501, "x" * 500 + " ... and 1 characters more")):
        assert short(ValueError("x" * length)) == f"ValueError: {shown}"
    assert short(OSError()) == "OSError"
    for length, end in ((148, "xx"), (149, "x ...")):
        line = first_line(ValueError("x" * length + "\nmore"))
        assert line.startswith("ValueError: xxx")
        assert line.endswith(end)
        assert len(line.removesuffix(" ...")) == 160
    assert first_line(ValueError("\n*****\n  no convergence: T = -10\n*****\n")) == (
        "ValueError: no convergence: T = -10"
    )
    assert first_line(ValueError("\n***\n")) == "ValueError"

    class Odd(Exception):
        def __str__(self):
            raise KeyError

    assert short(Odd()) == "Odd, whose text raises an exception itself"


def test_a_notebook_shows_a_table_and_never_the_arrays():
    inputs = np.linspace(0.0, 1.0, 40).reshape(20, 2)
    with Scripted(4, {1: fail(ValueError("<no>"))}) as engine:
        result = cm.map(
            np.sin, inputs, code=cm.Replication(2, 4), engine=engine, hedge=None, retries=0
        )
    with Scripted(4) as engine:
        plan = cm.plan(np.sin, inputs, engine=engine, budget=5.0)
        parts = cm.CodedParts(list(inputs), code=cm.codes.FractionalRepetition(4, 1), engine=engine)
        total = cm.sum(np.sum, parts)
    filled = cm.fill(inputs, np.where(np.arange(20) == 3, np.nan, inputs.sum(axis=1)))
    for shown in (result, plan, total, filled):
        assert repr(shown) == str(shown)
        page = shown._repr_html_()
        assert "array(" not in page
        assert page.count("<tr>") == sum(line.startswith("  ") for line in str(shown).splitlines())
        assert "<no>" not in page
    left = '<td style="text-align: left">'  # text; columns of numbers are on the right
    assert f"<tr>{left}rows</td>{left}" in result._repr_html_()
    assert f"<tr>{left}exact with hedging</td><td>" in plan._repr_html_()


def test_one_thing_is_named_in_the_singular():
    X = np.ones((1, 1))
    with Scripted(1) as engine:
        texts = [str(cm.map(np.sin, X, code=cm.Uncoded(1), engine=engine))]
        parts = cm.CodedParts(X, code=cm.codes.FractionalRepetition(1, 0), engine=engine)
        texts += [repr(parts), str(cm.sum(np.sin, parts))]
    texts += [repr(cm.latency.Empirical(X)), repr(Known(np.ones((3, 1)), np.ones((3, 1))))]
    for make in (
        lambda: cm.Replication(2, 1),
        lambda: cm.map(lambda batch: batch[:1], np.ones((3, 1)), code=cm.Uncoded(1)),
        lambda: cm.map(np.sin, X, known=(np.ones((3, 2)), np.ones(3)), deadline=5),
        lambda: cm.sweep(np.sin, {"x": [1.0], "y": [1.0, 2.0]}),
        lambda: cm.map(np.sin, np.ones((2, 1)), out=np.ones(1)),
    ):
        with pytest.raises(cm.CodedmapError) as caught:
            make()
        texts.append(str(caught.value))
    wrong = re.compile(r"\b1 (workers|rows|parts|numbers|entries|tasks|answers|calls|rounds)\b")
    assert [text for text in texts if wrong.search(text)] == []
