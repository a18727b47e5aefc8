"""Answers of several parts, row by row."""

from __future__ import annotations

import dataclasses
from collections import deque
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from codedmap.errors import InvalidAnswer
from codedmap.results.calls import CallRecord, CallTable, draw_timeline
from codedmap.results.trees import Rows, leaf_rows, leaves, map_leaves, read_columns, stacked


class Pair(NamedTuple):
    left: object
    right: object


@dataclasses.dataclass
class Box:
    size: object
    label: object


TREE = {"a": 1, "b": (2, Pair(3, Box(4, {"c": 5})))}


def test_leaves_are_in_order_and_the_tree_is_kept():
    assert leaves(TREE) == [1, 2, 3, 4, 5]
    doubled = map_leaves(lambda leaf: 2 * leaf, TREE)
    assert doubled == {"a": 2, "b": (4, Pair(6, Box(8, {"c": 10})))}
    assert isinstance(doubled["b"][1], Pair)
    assert map_leaves(lambda *pair: sum(pair), TREE, TREE) == doubled


def test_a_class_is_a_leaf():
    assert leaves(Box) == [Box]


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ({"a": 1}, {"b": 1}, r"keys \['a'\] for some rows and a dict with the keys \['b'\]"),
        (
            (1, 2),
            (1,),
            r"a tuple with the keys \['y_0', 'y_1'\] for some rows and a tuple with the keys \['y_0'\]",
        ),
        ((1, 2), 3, "a tuple with the keys .* for some rows and a int"),
        (3, (1, 2), "a int for some rows and a tuple"),
        (Box(1, 2), {"a": 1}, "a Box with the keys .* for some rows and a dict"),
    ],
)
def test_trees_that_differ(one, two, message):
    with pytest.raises(InvalidAnswer, match=message):
        map_leaves(lambda *pair: None, one, two)


def test_single_answers_are_stacked():
    both = stacked([{"x": 1, "s": "a"}, {"x": 2.5, "s": "b"}])
    np.testing.assert_array_equal(both["x"], [1.0, 2.5])
    assert both["s"].dtype == object
    assert stacked([np.ones(3), np.zeros(3)]).shape == (2, 3)
    assert stacked([b"x", b"yy"]).tolist() == [b"x", b"yy"]
    ragged = [[[1], [2, 3]], [[4, 5], [6]]]
    assert stacked([{"x": row} for row in ragged])["x"].tolist() == ragged
    dates = stacked([np.datetime64("2020-01-01"), np.datetime64("2021-01-01")])
    assert dates.dtype.kind == "M"


@pytest.mark.parametrize(
    "parts", [[np.ones(2), np.ones(3)], [np.ones(2), "a"], [None, np.ones(2)], [np.ones(2), 1.0]]
)
def test_numbers_that_differ_in_shape_cannot_be_stacked(parts):
    with pytest.raises(InvalidAnswer, match="shapes"):
        stacked(parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Kelvin:
    """What `__init__` makes of single values."""

    value: float
    unit: object = dataclasses.field(init=False, default=1.0)
    of: dataclasses.InitVar[float] = 273.0

    def __post_init__(self, of):
        if self.value < 0.0:
            raise ValueError("below 0")
        object.__setattr__(self, "value", float(self.value) + of)


def test_dataclasses_of_arrays_are_made_without_their_init():
    """Values were converted again with each array, and checks of single values raised."""
    rows = Rows(3)
    for at in range(3):
        rows.put(slice(at, at + 1), 1, stacked([Kelvin(at)]))
    for made in (stacked([Kelvin(at) for at in range(3)]), rows.values(np.zeros(3, bool))):
        assert type(made) is Kelvin
        assert made.value.tolist() == [273.0, 274.0, 275.0]
        assert made.unit.tolist() == [1.0] * 3


NANOSECOND = np.datetime64("2020-01-01T00:00:00.123456789")


def record(value, dtype):
    return np.array((value,), [("a", dtype)])[()]


@pytest.mark.parametrize(
    "parts",
    [
        [1.0, "a", "b"],
        ["a", 1.0, b"c"],
        [NANOSECOND, None, 3],
        [3, np.timedelta64(5, "s"), 2.5],
        [np.array([1.5, 2.0]), np.array(["a", "b"]), np.array([1, 2])],
        [np.array(["a"]), np.array([2**53 + 1]), np.array([NANOSECOND])],
        [NANOSECOND, np.datetime64("3000-01-01"), np.datetime64("2020-01-01")],
        [np.timedelta64(1, "ns"), np.timedelta64(2**40, "D"), np.timedelta64(3, "s")],
        [record(2**53 + 1, "i8"), record(0.5, "f8"), record(3, "i4")],
        [record(NANOSECOND, "M8[ns]"), record("3000-01-01", "M8[D]"), record("a", "U1")],
        [record(NANOSECOND, "M8[ns]"), None, 0.5],
    ],
)
def test_values_of_different_kinds_stay_what_they_are(parts):
    """Numbers became text or times, times whole numbers or others, and numbers before text had no place beside it."""
    rows = Rows(3)
    for at, part in enumerate(parts):
        rows.put(slice(at, at + 1), 1, np.array([part]) if np.ndim(part) else stacked([part]))
    for made in (stacked(parts), rows.values(np.zeros(3, bool))):
        assert made.dtype == object
        for one, part in zip(made, parts, strict=True):
            assert list(np.ravel(one)) == list(np.ravel(part))
            assert np.ndim(part) or type(one) is type(part)


LARGE = [
    (2**53 + 1, 0.5), (0.5, 2**53 + 1), (2**63 + 3, -1), (np.int64(2**60 + 1), np.float32(1)), (2**60 + 1, 1j)
]  # fmt: skip


@pytest.mark.parametrize("pair", LARGE)
def test_large_whole_numbers_among_others_are_not_rounded(pair):
    together, tree = stacked(pair), stacked([{"a": one} for one in pair])
    apart = Rows(3)
    for place, one in enumerate(pair):
        apart.put(slice(place + 1, place + 2), 1, np.array([one]))
    column = apart.values(np.array([True, False, False]))
    assert column[0] is None
    for found in (
        together,
        tree["a"],
        column[1:],
        leaf_rows(list(pair), 2),
        leaf_rows(deque(pair), 2),
    ):
        # Beside a float of NumPy's, Python rounds a whole number before it compares.
        assert found.dtype == object
        assert list(found) == list(pair)
    for rows in ([list(pair), [1, 2.5]], [list(pair)] * 2):
        assert stacked(rows).tolist() == stacked([{"a": row} for row in rows])["a"].tolist() == rows
        assert leaf_rows(rows, 2).tolist() == rows


def test_whole_numbers_become_floats_where_that_rounds_nothing():
    assert stacked([1, 0.5]).dtype == float
    assert stacked([2**60, 0.5]).dtype == float
    found = Rows(3)
    found.put(slice(0, 1), 1, np.array([7]))
    found.put(slice(1, 2), 1, np.array([0.5]))
    found.put(slice(2, 3), 1, np.array([2**60]))
    assert found.values(np.zeros(3, dtype=bool)).tolist() == [7.0, 0.5, 2.0**60]


def test_records_beside_rows_that_failed_keep_their_fields_and_times():
    """They were tuples, and their times whole numbers."""
    rows = Rows(2)
    rows.put(slice(0, 1), 1, stacked([record(NANOSECOND, "M8[ns]")]))
    found = rows.values(np.array([False, True]))
    assert found[0]["a"] == NANOSECOND
    assert found[1] is None


def test_times_of_several_units_have_the_finest_that_holds_them():
    found = stacked([NANOSECOND, np.datetime64("2020-01-01"), np.datetime64("NaT", "D")])
    assert found.dtype == "M8[ns]"
    assert found[1] == np.datetime64("2020-01-01")


def test_records_are_stacked():
    kind = [("x", float), ("n", int)]
    rows = np.array([(0.5, 1), (1.5, 2)], kind)
    np.testing.assert_array_equal(stacked(list(rows)), rows)
    other = np.array([(1, "a")], [("n", int), ("s", "U1")])
    with pytest.raises(InvalidAnswer, match="with the fields x, n for some inputs and n, s"):
        stacked([rows[0], other[0]])


def test_objects_may_be_anything():
    ragged = stacked([[1, "x"], None])
    assert ragged.tolist() == [[1, "x"], None]


def test_a_leaf_has_a_row_for_each_row_of_the_batch():
    assert leaf_rows([1, 2, 3], 3).dtype.kind == "i"
    assert leaf_rows(["a", "b"], 2).dtype == object
    assert leaf_rows([[1], [1, 2]], 2).tolist() == [[1], [1, 2]]
    assert leaf_rows(np.ones((2, 3)), 2).shape == (2, 3)
    with pytest.raises(InvalidAnswer, match="3 rows for a batch of 2"):
        leaf_rows(np.ones(3), 2)
    with pytest.raises(InvalidAnswer, match="a single value for a batch of 1"):
        leaf_rows(4.0, 1)
    with pytest.raises(InvalidAnswer, match=r"61 axes: return at most 60, as by answer.reshape"):
        leaf_rows(np.ones((1,) * 61), 1)


def test_masked_answers_are_refused():
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    for make in (
        lambda: stacked([np.ones(2), masked]),
        lambda: stacked([{"a": masked}]),
        lambda: leaf_rows(masked, 2),
    ):
        with pytest.raises(InvalidAnswer, match="masked"):
            make()
    assert stacked([np.ma.masked_array([1.0, 2.0])]).tolist() == [[1.0, 2.0]]


def test_rows_are_filled_in_any_order():
    rows = Rows(4)
    rows.put(np.array([3, 1]), 2, np.array([30, 10]))
    rows.put(slice(0, 1), 1, np.array([0]))
    missing = np.array([False, False, True, False])
    np.testing.assert_array_equal(rows.values(missing), [0.0, 10.0, np.nan, 30.0])
    rows.put(slice(2, 3), 1, np.array([2.5]))
    whole = rows.values(np.zeros(4, dtype=bool))
    np.testing.assert_array_equal(whole, [0.0, 10.0, 2.5, 30.0])


def test_what_is_given_out_early_does_not_change():
    rows = Rows(2)
    rows.put(slice(0, 1), 1, np.array([1.0]))
    early = rows.values(np.array([False, True]))
    rows.put(slice(1, 2), 1, np.array([2.0]))
    assert np.isnan(early[1])


@pytest.mark.parametrize(
    ("first", "missing"),
    [
        (np.array([True]), np.nan),
        (np.array(["a"]), None),
        (np.array(["2020-01-01"], dtype="M8[D]"), np.datetime64("NaT", "D")),
        (np.array([1j]), np.nan),
    ],
)
def test_what_stands_where_nothing_is(first, missing):
    rows = Rows(2)
    rows.put(slice(0, 1), 1, first)
    value = rows.values(np.array([False, True]))[1]
    assert value is None if missing is None else np.isnan(value) or np.isnat(value)


def test_kinds_that_do_not_go_together_become_objects():
    rows = Rows(2)
    rows.put(slice(0, 1), 1, np.array(["2020-01-01"], dtype="M8[D]"))
    rows.put(slice(1, 2), 1, np.array([1.5]))
    assert rows.values(np.zeros(2, dtype=bool)).dtype == object


def test_without_an_answer_nothing_is_known():
    np.testing.assert_array_equal(Rows(2).values(np.ones(2, dtype=bool)), [np.nan, np.nan])


def test_rows_of_another_shape():
    rows = Rows(2)
    rows.put(slice(0, 1), 1, np.ones((1, 2)))
    with pytest.raises(InvalidAnswer, match=r"shape \(2,\) for some inputs and of shape \(3,\)"):
        rows.put(slice(1, 2), 1, np.ones((1, 3)))


def test_whole_numbers_in_a_file_are_floats_beside_rows_without_an_answer():
    """Memory that was not set decided whether they became objects."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"y": [1, None] * 20})
    file = SimpleNamespace(before=(), schema_arrow=table.schema, read=table.select)
    rng, known = np.random.default_rng(0), np.arange(40) % 2 == 0
    for _ in range(20):
        used = [rng.random(40) for _ in range(20)]
        del used
        np.testing.assert_array_equal(read_columns(file, known)["y"], [1.0, np.nan] * 20)


RECORDS = [
    CallRecord(range(3), 0, 0, 0, "host", 0.0, 1.0, "answered", "first"),
    CallRecord(range(3, 4), 1, 0, 1, "", 0.0, 0.5, "crashed", "first"),
    CallRecord(range(3, 4), 2, 0, 0, "host", 1.0, 0.5, "answered", "retry"),
    CallRecord(range(3), 3, 0, 1, "", 1.0, 0.5, "abandoned", "hedge"),
]


def test_a_table_of_calls():
    table = CallTable(RECORDS)
    assert len(table) == 4
    assert table[1].outcome == "crashed"
    assert table[1:3][0] is RECORDS[1]
    assert list(table) == RECORDS
    assert table.columns()["worker"] == [0, 1, 0, 1]
    assert table.count("answered") == 2
    assert table.count("hedge") == 1
    assert str(table) == "4 calls: 2 answered, 1 crashed, 1 abandoned (1 retry, 1 hedge)"
    assert str(CallTable([])) == "no calls"


def test_a_picture_of_calls():
    from matplotlib.colors import to_rgba

    figure = draw_timeline(CallTable(RECORDS))
    assert figure._repr_png_().startswith(b"\x89PNG"), "a notebook shows it"
    axes = figure.axes[0]
    bars = [bar for container in axes.containers for bar in container]
    assert sorted((bar.get_x(), bar.get_width()) for bar in bars) == [
        (0.0, 0.5), (0.0, 1.0), (1.0, 0.5), (1.0, 0.5)
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1"]
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in bars] == [0, 1, 0, 1]
    assert all(bar.get_height() < 1.0 for bar in bars)
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xlim()[0]) == ("seconds", "worker", 0.0)
    colours = ["tab:blue", "tab:red", "tab:blue", "tab:gray"]
    assert [bar.get_facecolor() for bar in bars] == [to_rgba(colour) for colour in colours]
    edges = [to_rgba(colour) for colour in ("white", "white", "white", "black")]
    assert [bar.get_edgecolor() for bar in bars] == edges
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == ["answered", "abandoned", "crashed", "hedge"]
    assert draw_timeline(CallTable(RECORDS), axes) is figure
