"""Designs: what they may be, what comes back beside them, and what is said of those that cannot be computed."""

from __future__ import annotations

import dataclasses
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from fractions import Fraction

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
from dask.dataframe import from_pandas

import codedmap as cm
from codedmap import InvalidAnswer, InvalidArgument, NotEnoughAnswers, Status
from codedmap.results.sobol import drawn_rows
from codedmap.testing import Scripted, crash

from ..repeats import crossed

NAN = float("nan")
DESIGN = {"a": np.arange(6.0), "b": np.array([3, 1, 4, 1, 5, 9])}


@pytest.fixture(scope="module", autouse=True)
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def sweep(pool):
    return lambda *args, **options: cm.sweep(*args, engine=pool, **options)


def product(a, b):
    return {"product": a * b, "count": 2, "label": f"{b}"}


def picky(a, b):
    if b == 1:
        raise ValueError("one is too few")
    return product(a, b)


def test_outputs_stand_beside_the_rows_of_a_pandas_frame(sweep):
    design = pd.DataFrame(DESIGN, index=[5, 5, "x", "y", "z", "w"])
    result = sweep(product, design)
    pd.testing.assert_frame_equal(result.table[["a", "b"]], design)
    assert list(result.table.columns[2:]) == [
        "product", "count", "label", "product_stderr", "count_stderr", "status",
    ]  # fmt: skip
    assert (result.table["product"] == design["a"] * design["b"]).all()
    assert result.table["count"].dtype == np.int64
    assert (result.table["product_stderr"] == 0).all()
    assert (result.table["status"] == "EXACT").all()
    assert list(design) == ["a", "b"]
    assert repr(result).startswith("6 rows in ")
    assert "6 exact\n  inputs     a, b\n  outputs    product, count, label" in repr(result)


def test_a_row_that_fails_carries_its_reason_and_no_numbers(sweep):
    result = sweep(picky, pd.DataFrame(DESIGN))
    failed = DESIGN["b"] == 1
    np.testing.assert_array_equal(result.status, np.where(failed, Status.FAILED, Status.EXACT))
    table = result.table
    assert (table["error"][failed] == "ValueError: one is too few").all()
    assert table["error"][~failed].isna().all()
    assert table["product"][failed].isna().all()
    assert table["product_stderr"][failed].isna().all()
    np.testing.assert_array_equal(result.exact, ~failed)
    with pytest.raises(
        NotEnoughAnswers, match=r"2 of 6 rows failed and 0 are missing \(the first is row"
    ):
        result.check()
    assert len(result.timeline().axes[0].patches) == len(result.run.calls)
    assert list(result.failures) == [1, 3]
    assert "2 failed" in repr(result)
    assert "the first, row 1, with ValueError: one is too few" in repr(result)
    again = pickle.loads(pickle.dumps(result))
    pd.testing.assert_frame_equal(again.table, table)


def test_none_among_numbers_is_nan_and_elsewhere_it_stays(sweep):
    def sometimes(a, b):
        odd = a % 2
        if odd:
            return dict.fromkeys(("flow", "whole", "count", "flag", "label"))
        return {"flow": a or np.nan, "whole": 3, "count": 10**400, "flag": True, "label": "even"}

    table = sweep(sometimes, DESIGN).table
    np.testing.assert_array_equal(table["flow"], [np.nan, np.nan, 2.0, np.nan, 4.0, np.nan])
    np.testing.assert_array_equal(table["whole"], [3.0, np.nan] * 3)
    for name, value in {"count": 10**400, "flag": True, "label": "even"}.items():
        assert table[name].tolist() == [value, None] * 3
    assert sweep(lambda a, b: 2**70, DESIGN).table["y"].tolist() == [2**70] * 6
    for known, expected in ((0, [None] * 3), (1, [0.0, NAN, NAN]), (2, [0.0, 1.0, NAN])):
        column = sweep(lambda a, n=known: {"y": a if a < n else None}, {"a": [0.0, 1.0, 2.0]})
        np.testing.assert_array_equal(
            column.table["y"], np.array(expected, object if not known else float)
        )


def test_where_every_row_fails_there_are_no_outputs(sweep):
    result = sweep(lambda a, b: {"c": 1 / 0}, DESIGN, max_failures=None)
    assert list(result.table) == ["a", "b", "status", "error"]
    assert result.values == {}


def test_a_dict_comes_back_as_a_dict_with_arrays_in_one_piece(sweep):
    result = sweep(lambda a, b: {"pair": [a, b]}, {name: list(c) for name, c in DESIGN.items()})
    assert list(result.table) == ["a", "b", "pair", "pair_stderr", "status"]
    assert result.table["pair"].shape == result.table["pair_stderr"].shape == (6, 2)
    assert result.table["b"].dtype == np.int64


def test_a_list_of_dicts_is_the_table_of_their_keys(sweep):
    rows = [{"b": 3, "a": 0.5}, {"a": 2, "b": 1}, {"a": 1.5, "b": 4}]
    result, same = sweep(picky, rows), sweep(picky, {"b": [3, 1, 4], "a": [0.5, 2, 1.5]})
    assert list(result.table) == list(same.table)
    for name, column in same.table.items():
        np.testing.assert_equal(result.table[name], column)
    assert result.status.tolist() == [Status.EXACT, Status.FAILED, Status.EXACT]


def test_in_frames_each_entry_of_an_array_is_a_column(sweep):
    table = sweep(lambda a, b: np.array([[a], [b]]), pd.DataFrame(DESIGN)).table
    np.testing.assert_array_equal(table["y_1_0"], DESIGN["b"])
    assert {"y_0_0", "y_0_0_stderr", "y_1_0_stderr"} < set(table)


def test_a_polars_frame_comes_back_as_one(sweep):
    design = polars.DataFrame({**DESIGN, "kind": list("abcabc")})
    table = sweep(lambda a, b, kind: {"n": b, "kinds": kind * b}, design).table
    assert table.select("a", "b", "kind").equals(design)
    assert table["n"].dtype == polars.Int64
    assert table["kinds"][1] == "b"
    assert table["status"].to_list() == ["EXACT"] * 6


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([2**53 + 1, 0.5, 1], polars.Object),
        ([1, "a", None], polars.Object),
        ([b"a", "a", None], polars.Object),
        ([Fraction(1, 3)] * 3, polars.Object),
        ([np.datetime64("2020-01-01", "ns"), 0.5, 1], polars.Object),
        ([np.datetime64("2020-01-01T01:00:00"), None, None], polars.Object),
        ([np.datetime64("2020-01-01T01:00:00")] * 3, polars.Datetime("ms")),
        ([np.timedelta64(3, "m")] * 3, polars.Duration("ms")),
        ([[{"a": 1}], [{"b": 2}], [{"a": 3}]], polars.Object),
    ],
)
def test_any_outputs_stand_in_a_polars_frame_as_they_are(sweep, values, dtype):
    """All rows were lost at the end where polars has no type for them; others became floats."""
    column = sweep(lambda a: {"y": values[a]}, polars.DataFrame({"a": [0, 1, 2]})).table["y"]
    assert column.dtype == dtype
    assert dtype != polars.Object or column.to_list() == values


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_durations_beside_none_stay_what_they_are(sweep, unit):
    """The sweep ended with a TypeError after its last row, or they were numbers."""
    values = [np.timedelta64(3, unit), None]
    column = sweep(lambda a: {"y": values[a]}, {"a": [0, 1]}).table["y"]
    assert list(column) == values


@pytest.mark.filterwarnings("ignore:The 'generic' unit")
@pytest.mark.parametrize("time", [np.datetime64("2020"), np.datetime64("2020-01-01")])
def test_no_time_without_a_unit_is_one_of_any_unit(sweep, time):
    """The sweep ended with a ValueError of NumPy, which cannot make a year a time without a unit."""
    values = [type(time)("NaT"), type(time)("NaT"), time]
    column = sweep(lambda a: {"y": values[a]}, {"a": [0, 1, 2]}).table["y"]
    assert [np.isnat(one) for one in column] == [True, True, False]
    assert column[2] == time


@pytest.mark.filterwarnings("ignore:The 'generic' unit")
@pytest.mark.parametrize("frame", [pd.DataFrame, polars.DataFrame, dict])
@pytest.mark.parametrize("kind", [np.datetime64, np.timedelta64])
def test_times_of_which_none_is_known_are_in_seconds(sweep, kind, frame):
    """The sweep ended with a TypeError of pandas after its last row."""
    column = sweep(lambda a: kind("NaT"), frame({"a": [0, 1, 2]})).table["y"]
    assert [np.isnat(one) for one in np.asarray(column)] == [True] * 3


@pytest.mark.parametrize("kind", ["pandas", "polars", "xarray", "dict"])
def test_text_that_has_no_bytes_is_escaped_in_frames(sweep, kind):
    """One such text, of a row or of an error, cost all rows."""

    def fn(a):
        if a == 1:
            raise ValueError("20 \udcb0C")
        return "25 \udcb0C"

    design = {"a": [0, 1]}
    if kind == "xarray":
        design = pytest.importorskip("xarray").Dataset(coords=design)
    elif kind != "dict":
        design = (pd if kind == "pandas" else polars).DataFrame(design)
    result = sweep(fn, design)
    shown = "25 \udcb0C" if kind == "dict" else "25 \\udcb0C"
    assert np.asarray(result.table["y"])[0] == shown
    assert result.values["y"][0] == "25 \udcb0C"
    assert "20 \\udcb0C" in str(result)


def test_durations_among_other_outputs_are_printed(sweep):
    """Printing ended with a TypeError: NumPy's durations are numbers."""
    values = [pd.Period("2020-01"), np.timedelta64(3, "s"), np.timedelta64("NaT", "s")]
    assert "3 exact" in str(sweep(lambda a: {"y": values[a]}, {"a": [0, 1, 2]}))


@pytest.mark.parametrize("frame", [pd.DataFrame, polars.DataFrame])
@pytest.mark.parametrize("out", [None, "table.parquet"])
@pytest.mark.parametrize("fn", [lambda time: time, lambda time: {"y": time}])
def test_times_keep_their_zone(sweep, fn, out, frame, tmp_path):
    times = list(pd.date_range("2020-03-28 22:00", periods=6, freq="h", tz="Europe/Berlin"))
    table = sweep(fn, frame({"time": times}), out=out and tmp_path / out).table
    assert list(table["y"]) == times
    assert table["y"].dtype == table["time"].dtype


@pytest.mark.parametrize("frame", [pd.DataFrame, polars.DataFrame])
@pytest.mark.parametrize(
    "fn", [lambda batch: batch["time"], cm.itemwise(lambda row: pd.Timestamp(row["time"]))]
)
def test_times_of_map_keep_their_zone(pool, fn, frame):
    times = list(pd.date_range("2020-03-28 22:00", periods=6, freq="h", tz="Europe/Berlin"))
    assert list(cm.map(fn, frame({"time": times}), engine=pool).values) == times


@pytest.mark.parametrize("out", [None, "table.parquet"])
def test_large_whole_numbers_beside_none_are_not_rounded(sweep, out, tmp_path):
    """They were, where they were read from a Parquet file."""
    result = sweep(
        lambda a, b: {"y": None if b == 1 else 2**53 + 1}, DESIGN, out=out and tmp_path / out
    )
    assert set(result.table["y"]) == {None, 2**53 + 1}
    # One less is a float beside which None is NaN.
    result = sweep(lambda a, b: {"y": None if b == 1 else -(2**53)}, DESIGN)
    column = result.table["y"]
    assert (column.dtype, {*column[~np.isnan(column)]}) == (float, {-(2.0**53)})


def test_large_whole_numbers_of_a_design_reach_fn_as_they_are(sweep):
    design = {"a": [2**53 + 1, 0.5], "b": pyarrow.array(["x", None]).fill_null("y")}
    table = sweep(lambda a, b: {"y": a, "z": b}, design).table
    assert table["y"].tolist() == [2**53 + 1, 0.5]
    assert table["z"].tolist() == ["x", "y"]


@dataclasses.dataclass
class Pair:
    low: float
    high: float


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (lambda a, b: a, ["y"]),
        (lambda a, b: (a, b), ["y_0", "y_1"]),
        (lambda a, b: Pair(low=a, high=b), ["low", "high"]),
        (lambda a, b: pd.Series({"u": a, "v": b}), ["u", "v"]),
    ],
)
def test_answers_of_any_kind_have_names(sweep, answer, names):
    assert list(sweep(answer, DESIGN).values) == names


def test_values_keep_their_kind_on_the_way_to_the_function(sweep):
    kinds = []
    design = {"n": [1, 2], "x": np.array([1, 2], np.float32), "t": ["u", "v"], "o": [1, "w"]}
    sweep(lambda n, x, t, o: kinds.append((type(n), type(x), type(t), type(o))) or 0, design)
    assert set(kinds) == {(int, np.float32, str, int), (int, np.float32, str, str)}
    powers = sweep(lambda n, flag: str(2**n) if flag is True else "", {"n": [70], "flag": [True]})
    assert powers.table["y"][0] == str(2**70)


def test_a_function_of_the_whole_batch_gets_columns_of_the_kind_of_the_design(sweep):
    seen = []

    def batch(given):
        seen.append(type(given))
        return {"c": given["a"] + given["b"]}

    for design, kind in (
        (DESIGN, dict), (pd.DataFrame(DESIGN), pd.DataFrame), (polars.DataFrame(DESIGN), polars.DataFrame),
    ):  # fmt: skip
        result = sweep(batch, design, frame=True)
        np.testing.assert_array_equal(result.values["c"], DESIGN["a"] + DESIGN["b"])
        assert seen[-1] is kind


def test_a_frame_is_an_answer_to_a_batch(sweep):
    design = pd.DataFrame(DESIGN)
    result = sweep(lambda rows: pd.DataFrame({"d": rows["a"] * 2}), design, frame=True, unique=True)
    np.testing.assert_array_equal(result.table["d"], DESIGN["a"] * 2)


@pytest.mark.parametrize("design", [DESIGN, pd.DataFrame(DESIGN)], ids=["dict", "frame"])
@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda rows: sum(rows["a"]), "a single value for 6 rows of the design"),
        (lambda rows: {"y": rows["a"], "z": [1.0]}, "1 row for 6 rows of the design"),
    ],
)
def test_a_batch_with_another_number_of_rows_is_refused(pool, design, fn, said):
    """The message named itemwise, which a sweep does not need."""
    with pytest.raises(InvalidAnswer, match=f"returned {said}: with frame=True it returns a row"):
        cm.sweep(fn, design, frame=True, engine=pool, chunk="all")


def test_equal_rows_are_computed_once(sweep):
    calls = []

    def once(a, b):
        calls.append(a)
        if a == 2:
            raise ValueError("two")
        return np.copysign(1.0, a) + b

    design = {"a": [0.0, -0.0, 2.0, 0.0, 2.0], "b": [True, 1, 1, True, 1]}
    design["b"] = np.array(design["b"], dtype=object)
    result = sweep(once, design, unique=True, hedge=None)
    assert len(calls) == 3
    np.testing.assert_array_equal(result.table["y"], [2, 0, np.nan, 2, np.nan])
    assert list(result.failures) == [2, 4]
    assert "5 rows (3 distinct)" in repr(result)
    assert "equal earlier" not in repr(result)


def test_rows_that_are_equal_are_said(sweep):
    design = {"a": [1.0, 2.0, 1.0, 1.0], "b": ["u", "u", "u", "v"]}
    assert "rows that equal earlier ones: 1; unique=True" in repr(sweep(lambda a, b: a, design))
    assert "equal earlier" not in repr(sweep(lambda a: a, {"a": np.arange(5)}))


def test_rows_that_cannot_be_compared_are_none_that_are_equal(sweep, monkeypatch):
    design = {"a": [{"k": 1}, {"k": 1}]}
    assert "equal earlier" not in repr(sweep(lambda a: 1, design))
    with pytest.raises(InvalidArgument, match="unique=True compares rows, and the design has obj"):
        sweep(lambda a: 1, design, unique=True)
    monkeypatch.setattr("codedmap.api.sweep._COMPARED", 3)
    for rows, said in ((3, True), (4, False)):
        assert ("equal earlier" in repr(sweep(lambda a: 1, {"a": [1] * rows}))) == said


def test_rows_without_an_answer_are_estimated_if_it_is_asked_for(sweep):
    rng = np.random.default_rng(0)
    design = pd.DataFrame({"a": rng.random(60), "b": rng.integers(0, 5, 60)})
    result = sweep(
        lambda a, b: {"s": a + b, "n": int(b)}, design, stop=cm.Share(0.5), chunk=1, hedge=None
    )
    estimated = result.status == Status.ESTIMATED
    table = result.table
    assert estimated.any()
    assert (table["s_stderr"][estimated] > 0).all()
    assert (table["s_stderr"][~estimated] == 0).all()
    assert (table["status"][estimated] == "ESTIMATED").all()
    assert np.abs(table["s"] - design["a"] - design["b"]).max() < 0.01
    assert "estimated" in repr(result)
    assert re.search("standard errors over the deviation: (n .*, )?s ", repr(result))


def test_a_warning_of_losses_that_are_not_random_names_the_column(sweep):
    rng = np.random.default_rng(0)
    design = pd.DataFrame({"a": rng.random(200), "depth": rng.random(200)})

    def fn(a, depth):
        if depth > 0.8:
            raise ValueError("too deep")
        return a + depth

    with pytest.warns(
        UserWarning, match=r"not missing at random: of the rows with depth > 0\.[78]"
    ):
        sweep(fn, design, stop=cm.Share(0.7), chunk=1, hedge=None)


@pytest.mark.parametrize("unit", ["ns", "us", "D"])
def test_dates_and_durations_are_those_of_numpy_whatever_their_unit(sweep, unit):
    after = np.array([36, 60], "m8[h]").astype(f"m8[{unit}]")
    begin = np.array(["2026-01-01", "2026-02-01"], f"M8[{unit}]")

    def fn(begin, after):
        return {"hours": after / np.timedelta64(1, "h"), "kind": type(begin).__name__}

    table = sweep(fn, {"begin": begin, "after": after}).table
    assert table["hours"].tolist() == ([24, 48] if unit == "D" else [36, 60])
    assert table["kind"].tolist() == ["datetime64"] * 2


@pytest.mark.parametrize("deadline", [None, 5.0])
def test_a_region_without_finite_answers_is_warned_about_where_it_is_called(sweep, deadline):
    rng = np.random.default_rng(0)
    design = pd.DataFrame({"a": rng.random(200), "depth": rng.random(200)})

    def fn(a, depth):
        return a + depth if depth < 0.8 else np.nan

    with pytest.warns(UserWarning, match=r"rows with depth > 0\.[78].* not finite") as said:
        sweep(fn, design, stop=cm.Share(0.7), deadline=deadline, chunk=1, hedge=None)
    assert {one.filename for one in said} == {__file__}


def test_a_warning_of_rows_that_are_missing_names_the_output_that_is_no_number(sweep):
    with pytest.warns(UserWarning, match="not all real numbers: 'label' is of dtype object"):
        sweep(product, {"a": np.arange(60), "b": np.arange(60)}, stop=cm.Share(0.5), chunk=1)


@pytest.mark.parametrize("large", [2**53, 2**64])
def test_a_warning_of_rows_that_are_missing_names_integers_that_no_float_holds(sweep, large):
    """It said to let fn return numbers, which it did."""
    with pytest.warns(UserWarning, match=r"with integers beyond 2\*\*53, .* return floats"):
        sweep(lambda a: large + 1 + 2 * int(a), {"a": np.arange(60)}, stop=cm.Share(0.5), chunk=1)


def test_an_array_whose_dimension_is_one_of_the_grid_is_refused(sweep):
    xarray = pytest.importorskip("xarray")
    grid = xarray.Dataset(coords={"v_dim_0": [1, 2], "b": [3, 4]})
    with pytest.raises(cm.InvalidAnswer, match="output 'v', and there is 'v_dim_0' beside it"):
        sweep(lambda v_dim_0, b: {"v": np.ones(2)}, grid)


def test_the_summary_counts_values_that_are_not_finite(sweep):
    result = sweep(lambda a: {"u": 1 / a if a else np.inf, "t": "x"}, {"a": [1, 0, 2, 0]})
    assert "  not finite u in 2 rows (the first is 1)" in repr(result)


def test_the_summary_counts_text_among_numbers(sweep):
    """Such as the `***` that Fortran prints for a number that is too wide."""
    answers = [2.0, "***", np.nan, 3, "***"]
    result = sweep(lambda a: {"u": answers[a], "label": "x", "n": a}, {"a": list(range(5))})
    assert result.table["u"].tolist()[:2] == [2.0, "***"]
    assert repr(result).splitlines()[3:] == [
        "  text       u in 2 rows (the first is 1), and a number in 2"
    ]


@pytest.mark.parametrize(
    "odd", [[f"run {k}" for k in range(60)], pd.date_range("2026-01-01", periods=60)]
)
def test_rows_of_what_is_no_number_are_missing_and_a_warning_names_the_column(sweep, odd):
    design = {"kind": ["p", "q"] * 30, "a": np.arange(60.0), "name": odd}
    with pytest.warns(UserWarning, match="not numbers. Encode 'name'"):
        result = sweep(lambda kind, a, name: a, design, stop=cm.Share(0.5), chunk=1)
    missing = result.status == Status.MISSING
    assert missing.any()
    assert np.isnan(result.table["y_stderr"][missing]).all()


@pytest.mark.parametrize(
    ("kind", "frame"), crossed([dict, pd.DataFrame, polars.DataFrame], [False, True])
)
def test_rows_are_estimated_from_text_of_few_kinds(sweep, kind, frame, tmp_path):
    rng = np.random.default_rng(0)
    soils = rng.choice(["clay", "sand", "peat"], 120).tolist()
    design = kind({"a": rng.random(120), "soil": soils})
    level = {"clay": 1.0, "sand": 5.0, "peat": 9.0}

    def fn(a, soil):
        return a**2 + level[soil]

    def of_frame(columns):
        assert isinstance(columns, kind)
        assert columns["soil"].shape == columns["a"].shape
        return np.array(
            [fn(a, soil) for a, soil in zip(columns["a"], columns["soil"], strict=True)]
        )

    options = {"stop": cm.Share(0.5), "chunk": 1, "hedge": None, "frame": frame}
    out = tmp_path / "runs.parquet"
    result = sweep(of_frame if frame else fn, design, out=out, **options)
    estimated = result.status == Status.ESTIMATED
    assert estimated.sum() > 30
    truth = np.array([fn(a, soil) for a, soil in zip(design["a"], design["soil"], strict=True)])
    assert np.abs(result.table["y"] - truth).max() < 0.5
    assert pd.read_parquet(out)["soil"].tolist() == soils
    del options["stop"]
    result = sweep(of_frame if frame else fn, design, out=out, resume=True, **options)
    np.testing.assert_array_equal(result.table["y"], truth)


def test_an_output_in_a_file_may_be_called_as_a_standard_error_of_an_input(sweep, tmp_path):
    result = sweep(lambda a: {"a_stderr": -a}, {"a": [1, 2]}, out=tmp_path / "runs.parquet")
    assert result.table["a_stderr"].tolist() == [-1, -2]
    assert list(pickle.loads(pickle.dumps(result)).values) == ["a_stderr"]


@pytest.mark.parametrize("out", ["runs.parquet", "runs.zarr", None])
def test_an_output_may_be_called_as_one_array_is_in_a_file(sweep, out, tmp_path):
    design = {"a": np.linspace(0, 1, 40), "stderr": np.arange(40) % 7}
    options = {"stop": cm.Share(0.5), "chunk": 1, "hedge": None, "out": out and tmp_path / out}
    result = sweep(lambda a, stderr: {"values": a + stderr}, design, **options)
    assert (result.table["values_stderr"][result.status == Status.ESTIMATED] > 0).all()
    if out == "runs.parquet":
        table = pd.read_parquet(tmp_path / out)
        np.testing.assert_array_equal(table["stderr"], design["stderr"])
        np.testing.assert_array_equal(table["values_stderr"], result.table["values_stderr"])
    options |= {"out": out and tmp_path / f"close-{out}", "tolerance": {"values": 1.0}}
    assert sweep(lambda a, stderr: {"values": a + stderr}, design, **options).check()


def test_a_tolerance_that_cannot_be_looked_at_is_said(sweep):
    """Every row was computed, and nothing said that an output of text was why."""
    with pytest.warns(
        UserWarning, match=r"no standard error was looked at, because .*'kind' is of"
    ):
        result = sweep(
            lambda a: {"y": a, "kind": "x"}, {"a": np.linspace(0, 1, 40)}, tolerance={"y": 1.0}
        )
    assert result.exact.all()


def test_why_a_row_failed_does_not_name_another():
    """Rows of the job, and numbers of workers, are not those of the design."""
    with cm.testing.Scripted(1, {0: [cm.testing.late(0.0), cm.testing.crash()]}) as engine:
        result = cm.sweep(
            lambda a: a, {"a": [1, 1, 1, 2]}, unique=True, engine=engine, retries=0, chunk=1
        )
    assert result.table["error"][3].startswith("WorkerCrashed: ended its worker 1 time, ")


def test_what_is_the_same_for_all_rows_is_given_once(sweep):
    result = sweep(lambda a, b, *, scale, rng: a * scale + 0 * rng.random(), DESIGN,
                   kwargs={"scale": 10}, seed=3)  # fmt: skip
    np.testing.assert_array_equal(result.table["y"], DESIGN["a"] * 10)


CALLS = []


def fragile(a, b):
    CALLS.append(a)
    if b == 1:
        raise ValueError("one is too few")
    return {"n": int(b), "pair": np.array([a, b])}


@pytest.mark.parametrize("kind", ["zarr", "parquet"])
def test_a_sweep_that_is_written_goes_on_with_the_rows_that_failed(sweep, tmp_path, kind):
    design, out = pd.DataFrame(DESIGN), tmp_path / f"runs.{kind}"
    first = sweep(fragile, design, out=out)
    assert first.table["n"].isna().tolist() == (DESIGN["b"] == 1).tolist()
    assert first.table["pair_1"].dtype == np.float64
    CALLS.clear()
    second = sweep(fragile, design, out=out, resume=True, hedge=None)
    assert sorted(CALLS) == [1.0, 3.0]
    pd.testing.assert_frame_equal(first.table, second.table)
    with pytest.raises(InvalidArgument, match=r"with the function fragile"):
        sweep(product, design, out=out, resume=True)
    none = tmp_path / f"none.{kind}"
    failed = sweep(lambda a, b: 1 / 0, design, out=none, max_failures=None)
    assert list(failed.table) == ["a", "b", "status", "error"]


@pytest.mark.parametrize("kind", ["zarr", "parquet"])
def test_estimates_are_written_and_made_exact_on_resuming(sweep, tmp_path, kind):
    rng, out = np.random.default_rng(0), tmp_path / f"runs.{kind}"
    design = pd.DataFrame({"a": rng.random(60), "b": rng.integers(0, 5, 60)})

    def fn(a, b):
        return {"s": a + b, "pair": np.array([a, -a])}

    first = sweep(fn, design, out=out, stop=cm.Share(0.5), chunk=1, hedge=None)
    estimated = first.status == Status.ESTIMATED
    assert estimated.any()
    assert (first.table["pair_1_stderr"][estimated] > 0).all()
    assert (first.table["s_stderr"][~estimated] == 0).all()
    if kind == "parquet":
        file = pd.read_parquet(out)
        assert list(file) == ["a", "b", "s", "pair", "status", "s_stderr", "pair_stderr"]
        pd.testing.assert_frame_equal(file[["a", "b"]], design)
        np.testing.assert_array_equal(file["s_stderr"], first.table["s_stderr"])
        assert file["status"].tolist() == first.table["status"].tolist()
    second = sweep(fn, design, out=out, resume=True, hedge=None)
    assert (second.status == Status.EXACT).all()
    assert sum(len(call.rows) for call in second.run.calls) == estimated.sum()
    np.testing.assert_array_equal(second.table["pair_1"], -design["a"])


def test_a_column_that_a_file_cannot_hold_is_named_before_anything_runs(sweep, tmp_path):
    design = {"a": [1.0, 2.0], "b": np.array([1, "u"], dtype=object)}
    CALLS.clear()
    with pytest.raises(InvalidArgument, match="column 'b' of the design cannot be written to runs"):
        sweep(fragile, design, out=tmp_path / "runs.parquet")
    assert not CALLS
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("design", "message"),
    [
        ({"a": [1.0, NAN, NAN], "b": [1, 2, 3]}, r"'a' .* no value in 2 of 3 rows .* row 1"),
        ({"a": ["u", None], "b": [1, 2]}, r"'a' .* no value in 1 of 2 rows .* row 1"),
        (pd.DataFrame({"a": pd.array([None, 1], dtype="Int64"), "b": [1, 2]}), "'a' .* row 0"),
        ({"a": [1, 2], "b": [1, 2, 3], "c": [1, 2, 3]}, "'a' .* 2 entries and others 3"),
        ({"a": [], "b": []}, "2 columns and 0 rows"),
        (pd.DataFrame(), "0 columns and 0 rows"),
        ({"a": [1.0, 2.0, "3 mm"], "b": [1, 2, 3]}, "'a' .* 2 numbers, and '3 mm' in row 2"),
        (pd.DataFrame({"a": ["3,5", "2"], "b": [1, 2]}), "'a' .* '3,5' in row 0"),
        ({"a": 1, "b": [1, 2]}, r"'a' .* int.* kwargs=\{'a'"),
        ({"a": [[1, 2], [3]], "b": [1, 2]}, "'a' .* ragged"),
        ({"a": np.ones((2, 2)), "b": [1, 2]}, r"'a' .* shape \(2, 2\)"),
        ({"status": [1], "a": [1], "b": [1]}, "'status'"),
        (pd.DataFrame([[1, 2]]), "called 0, 1: .* name of its own that is text"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "called 'a': .* name of its own"),
        ({"names": ["a", "b"], "bounds": [[0, 1]] * 2}, "without a sample"),
        (({"names": ["a", "b"]}, np.ones((3, 3))), r"2 names and the sample the shape \(3, 3\)"),
        (({"names": ["a", "b"]}, np.ones(2)), r"2 names and the sample the shape \(2,\)"),
        (({"names": ["a", "b"]}, np.ones((2, 2, 1))), r"the sample the shape \(2, 2, 1\)"),
        (
            ({"names": ["a", "b"]}, pd.DataFrame({"b": [1], "a": [2]})),
            "the names 'a', 'b' and the sample the columns 'b', 'a': .* in the order of the names",
        ),
        ([], "0 columns and 0 rows"),
        ([{}, {}], "0 columns and 0 rows"),
        ([{"a": 1, "b": 2}, {"a": 1}], "row 0 of the design has 'b', and row 1 has not"),
        (
            [{"a": 1, "b": 2}] * 2 + [{"a": 1, "b": 2, "c": 3}],
            "row 2 .* has 'c', and row 0 has not",
        ),
        ([{"a": 1, "b": 2}, 3], "type list: give a data frame"),
        ((1, 2), r"as \(problem, sample\)"),
        (({"names": ["a", "b"]},), r"as \(problem, sample\)"),
        (({"names": ["a", "b"]}, np.ones((2, 2)), 3), r"as \(problem, sample\)"),
        (({"a": [1]}, np.ones((2, 2))), r"as \(problem, sample\)"),
        (np.ones((3, 2)), "ndarray: give a data frame"),
        (pyarrow.table({"a": [1], "b": [1]}), "type Table: give a data frame"),
        (from_pandas(pd.DataFrame({"a": [1], "b": [1]})), r"of Dask's: give design.compute\(\)"),
        (pd.Series([1, 2]), "type Series: give a data frame"),
        ({"a": "uv", "b": [1, 2]}, r"'a' .* type str, .* kwargs=\{'a'"),
        ({"a": ["u", NAN], "b": [1, 2]}, r"'a' .* no value in 1 of 2 rows .* row 1"),
        ({"a": ["u", pd.NaT], "b": [1, 2]}, r"'a' .* no value in 1 of 2 rows .* row 1"),
        (
            DESIGN | {"c": np.ones(6)},
            "fn takes 'a', 'b', and by name it is given 'a', 'b', 'c': .*unexpected keyword argument 'c'",
        ),
        ({"a": [1]}, "by name it is given 'a': missing a required .*argument: 'b'"),
    ],
)
def test_a_design_that_cannot_be_computed_is_refused(sweep, design, message):
    def never(a, b):
        raise AssertionError

    with pytest.raises(InvalidArgument, match=message):
        sweep(never, design)


@pytest.mark.parametrize(
    ("fn", "options", "message"),
    [
        (product, {"kwargs": {"a": 1}}, "'a' is a column"),
        (product, {"kwargs": {"a": 1, "b": 2}}, "'a', 'b' are columns of the design, and given"),
        (product, {"kwargs": 3}, "kwargs=3 must be a mapping"),
        (product, {"kwargs": {"c": 1}}, "unexpected keyword argument 'c'"),
        (product, {"seed": 1}, "unexpected keyword argument 'rng'"),
        (lambda a, b, /: a, {}, "positional only|missing a required"),
        (cm.itemwise(product), {}, "of type Itemwise"),
        (product, {"out": "runs.npy"}, "zarr or .parquet"),
        (product, {"out": 3}, "zarr or .parquet"),
        (lambda a, /, b: a, {}, "positional only|missing a required"),
        (product, {"frame": True}, "'a', 'b', .* as one argument: missing a required .*'b'"),
        (lambda d: d["a"], {"frame": True, "seed": 1}, "unexpected keyword argument 'rng'"),
        (lambda a=1, /: a, {}, "positional.only|unexpected keyword argument"),
        (
            lambda a, b, *, c: a,
            {},
            "fn takes 'a', 'b', 'c', .*: missing a required .*argument: 'c'",
        ),
    ],
)
def test_arguments_that_cannot_work_are_refused(sweep, fn, options, message):
    with pytest.raises(InvalidArgument, match=message):
        sweep(fn, DESIGN, **options)


@pytest.mark.parametrize(
    ("count", "end"), [(12, "'c11': missing"), (14, "'c11' and 2 more: missing")]
)
def test_no_more_than_twelve_columns_are_listed(sweep, count, end):
    with pytest.raises(InvalidArgument, match=end):
        sweep(lambda a: a, {f"c{k}": [1] for k in range(count)})


def test_a_function_of_any_names_takes_any_columns(sweep):
    assert sweep(lambda a, **others: a + others["b"], DESIGN).table["y"].tolist() == [
        3,
        2,
        6,
        4,
        9,
        14,
    ]


def test_text_beside_numbers_and_units_everywhere_are_no_mistake(sweep):
    assert sweep(lambda a: 1, {"a": ["scott", 0.5]}).status.tolist() == [0, 0]
    assert sweep(lambda a: 1, {"a": ["3 mm", "4 mm"]}).status.tolist() == [0, 0]
    odd = np.array([1.0, (1, 2)], dtype=object)
    assert sweep(lambda a: 1, {"a": odd}).status.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda a, b: {"a": 1}, "output 'a', and there is 'a'"),
        (lambda a, b: {"status": 1}, "output 'status'"),
        (lambda a, b: {"u": 1, "u_stderr": 1}, "output 'u', and there is 'u_stderr'"),
        (lambda a, b: {"u": [1, 2], "u_1": 1}, "output 'u', and there is 'u_1'"),
        (lambda a, b: {"u": {"v": 1}}, "a dict as its output 'u'"),
        (lambda a, b: {3: 1}, "called 3"),
        (lambda a, b: None, "returned None"),
        (lambda a, b: {}, "returned {}"),
    ],
)
def test_outputs_that_fit_into_no_table_end_the_sweep(sweep, answer, message):
    with pytest.raises(InvalidAnswer, match=message):
        sweep(answer, pd.DataFrame(DESIGN))


@pytest.mark.parametrize("chunk", [1, 6, None])
def test_a_row_with_other_outputs_fails_alone(sweep, chunk):
    answers = {3: {"v": 1}, 4: None}
    result = sweep(lambda a, b: answers.get(a, {"u": a}), pd.DataFrame(DESIGN), chunk=chunk)
    assert result.status.tolist() == [0, 0, 0, 2, 2, 0]
    assert "keys ['u'] for some rows and a dict with the keys ['v']" in result.table["error"][3]
    assert "returned None" in result.table["error"][4]
    assert list(result.values) == ["u"]


@pytest.mark.parametrize("odd", ["diverged", 1j])
def test_a_row_that_does_not_fit_into_a_column_of_parquet_fails_alone(sweep, tmp_path, odd):
    """It ended the sweep, and on resuming again."""
    path = tmp_path / "runs.parquet"
    table = sweep(lambda a, b: odd if a == 4 else a, DESIGN, out=path, chunk=2).table
    assert table["status"].tolist() == ["EXACT"] * 4 + ["FAILED", "EXACT"]
    assert "cannot hold" in table["error"][4]
    np.testing.assert_array_equal(table["y"], [0, 1, 2, 3, NAN, 5])
    np.testing.assert_array_equal(pd.read_parquet(path)["y"], table["y"])


def test_an_output_of_a_batch_with_the_name_of_an_input_ends_the_sweep(sweep):
    with pytest.raises(InvalidAnswer, match="output 'a', and there is 'a'"):
        sweep(lambda rows: {"a": rows["b"]}, DESIGN, frame=True)


@pytest.mark.slow
def test_an_output_may_be_one_of_thousands(sweep):
    """Their names were compared each with each for every row: 3,000 outputs of 200 rows took five minutes."""
    outputs = [f"o_{k}" for k in range(1000)]
    result = sweep(lambda a: dict.fromkeys(outputs, a), {"a": np.arange(40.0)})
    assert list(result.values) == outputs
    with pytest.raises(InvalidAnswer, match="output 'o', and there is 'o_0' beside it"):
        sweep(lambda a: {**dict.fromkeys(outputs, a), "o": [a]}, pd.DataFrame({"a": [1.0]}))


@pytest.mark.parametrize(("name", "refused"), [("y_0", True), ("y_0_0", False), ("y0", False)])
def test_a_column_of_a_batch_that_has_the_name_of_an_input_ends_the_sweep(sweep, name, refused):
    design = pd.DataFrame({name: [1.0, 2.0]})
    options = {"frame": True, "chunk": "all"}
    assert sweep(lambda rows: rows[name] * 2, design, **options).table["y"].tolist() == [2, 4]
    with pytest.raises(InvalidAnswer, match="output 'y'") if refused else nullcontext():
        sweep(lambda rows: np.ones((len(rows), 2)), design, **options)


def test_the_name_of_an_input_may_begin_like_a_number_of_an_array(sweep):
    assert sweep(lambda y_0: y_0, pd.DataFrame({"y_0": [1, 2]})).table["y"].tolist() == [1, 2]


def test_a_dataset_of_coordinates_is_a_grid_and_keeps_its_dimensions(sweep):
    xarray = pytest.importorskip("xarray")
    grid = xarray.Dataset(coords={"k": [1.0, 2.0, 4.0], "d": [0.0, 1.0], "m": ["u", "v"]})

    def fn(k, d, m):
        if m == "v" and k == 4:
            raise ValueError("diverged")
        return {"x": k * 10 + d, "path": np.array([k, d, 0])}

    table = sweep(fn, grid).table
    assert table["x"].dims == ("k", "d", "m")
    assert float(table["x"].sel(k=2, d=1, m="v")) == 21
    assert table["path"].dims == ("k", "d", "m", "path_dim_0")
    assert table["path_stderr"].dims == table["path"].dims
    assert str(table["status"].sel(k=4, d=0, m="v").item()) == "FAILED"
    assert table["error"].sel(k=4, d=0, m="v").item() == "ValueError: diverged"
    assert table["error"].sel(k=1, d=0, m="v").item() == ""


def test_a_dataset_of_variables_varies_them_and_coordinates_by_name(sweep):
    xarray = pytest.importorskip("xarray")
    field = xarray.Dataset({"T": (("lat", "lon"), [[1.0, 2.0], [3.0, 4.0]])},
                           coords={"lat": [10.0, 20.0], "lon": [0, 1]})  # fmt: skip
    np.testing.assert_array_equal(sweep(lambda T: T, field).table["y"], field["T"])
    added = sweep(lambda T, lat: T + lat, field).table["y"]
    xarray.testing.assert_equal(added, (field["T"] + field["lat"]).rename("y"))
    with pytest.raises(InvalidAnswer, match="output 'lon'"):
        sweep(lambda T: {"lon": T}, field)


PROBLEM = {"names": ["x", "z"], "bounds": [[-1.0, 1.0]] * 2, "num_vars": 2}


def sobol_sample(seed=1, **options):
    sampler = pytest.importorskip("SALib.sample.sobol")
    return sampler.sample(PROBLEM, 32, seed=seed, **options)


def model(x, z):
    return {"u": np.sin(x) + z**2, "text": "t"}


def test_sobol_indices_are_those_of_salib_and_estimates_add_to_them(sweep, capsys):
    sample = sobol_sample()
    analyze = pytest.importorskip("SALib.analyze.sobol").analyze
    result = sweep(model, (PROBLEM, sample))
    assert list(result.table.columns[:3]) == ["x", "z", "u"]
    indices = result.sobol(seed=5)
    for name, value in analyze(PROBLEM, result.values["u"], seed=5).items():
        np.testing.assert_array_equal(indices["u"][name], value)
    assert (indices["u"]["S1_std"] == 0).all()
    lossy = sweep(lambda x, z: np.sin(x) + z**2, (PROBLEM, sample), stop=cm.Share(0.6), chunk=1)
    assert (lossy.status == Status.ESTIMATED).any()
    one, two, other = (lossy.sobol(draws=10, seed=s)["y"]["ST_std"] for s in (1, 1, 2))
    lossy.sobol(print_to_console=True)
    assert capsys.readouterr().out.count("ST_conf") == 1  # and not once for each draw
    assert (one > 0).all()
    np.testing.assert_array_equal(one, two)
    assert (one != other).all()


def test_the_uncertainty_of_an_index_holds_what_estimates_are_off_in_all(sweep):
    """The output does not depend on z, and estimates that are off make it seem to, in every draw."""
    sample = sobol_sample(calc_second_order=False)
    result = sweep(lambda x, z: x, (PROBLEM, sample))
    only_z = np.arange(len(sample)) % 4 == 2
    doubtful = dataclasses.replace(result, stderr={"y": np.where(only_z, 0.3, 0.0)})
    indices = doubtful.sobol(calc_second_order=False)["y"]
    assert indices["ST"][1] == 0.0
    variance, doubted = result.values["y"].var(), 0.3**2
    assert indices["ST_std"][1] > doubted / (2.0 * variance) * 5.0 / 3.0


def test_estimates_of_a_draw_are_too_far_off_together():
    values, stderr = np.zeros(2000), np.repeat([0.0, 1.0], 1000)
    drawn = np.array(list(drawn_rows(values, stderr, 200, np.random.default_rng(0))))
    assert (drawn[:, :1000] == 0.0).all()
    squares = (drawn[:, 1000:] ** 2).mean(axis=1)
    low, high = np.quantile(squares, [0.05, 0.95])
    assert 0.4 < low < 0.5
    assert 4.0 < high < 4.8
    assert (
        abs(np.corrcoef(drawn[:, 1000:1500].sum(axis=1), drawn[:, 1500:].sum(axis=1))[0, 1]) < 0.2
    )


def test_sobol_indices_of_a_frame_need_the_problem(sweep):
    sample = sobol_sample(calc_second_order=False)
    result = sweep(model, pd.DataFrame(sample, columns=["x", "z"]))
    with pytest.raises(InvalidArgument, match="problem="):
        result.sobol()
    assert "S2" not in result.sobol(PROBLEM, calc_second_order=False, draws=2)["u"]
    for options in ({"draws": 1}, {"seed": 0}):
        with pytest.raises(InvalidArgument, match=f"{next(iter(options))}="):
            result.sobol(PROBLEM, calc_second_order=False, **options)


def test_sobol_indices_of_other_samples_and_of_gaps_are_refused(sweep):
    sample = sobol_sample()
    with pytest.raises(InvalidArgument, match="row 1 is not"):
        sweep(model, (PROBLEM, np.random.default_rng(0).random(sample.shape))).sobol()
    with pytest.raises(InvalidArgument, match="multiple of 6"):
        sweep(model, (PROBLEM, sample[:-1])).sobol()

    def gappy(x, z):
        if x > 0.5:
            raise ValueError("too large")
        return x

    result = sweep(gappy, (PROBLEM, sample))
    with pytest.raises(
        NotEnoughAnswers,
        match=r"of 192 rows failed and 0 are missing.*fill\(X, y\)\.sobol\(problem\)",
    ):
        result.sobol()
    with pytest.raises(NotEnoughAnswers, match="y is not finite in 192 rows"):
        sweep(lambda x, z: NAN, (PROBLEM, sample)).sobol()


def test_a_problem_of_salib_is_a_design_once_it_has_a_sample(sweep):
    salib = pytest.importorskip("SALib")
    spec = salib.ProblemSpec({"names": ["x", "z"], "bounds": [[-1.0, 1.0]] * 2})
    with pytest.raises(InvalidArgument, match="without a sample"):
        sweep(model, spec)
    result = sweep(model, spec.sample_sobol(32, seed=1))
    assert set(result.sobol()) == {"u"}


def test_rows_that_go_together_by_place_have_one_order(pool):
    """Answers of a frame in another order, and columns in another, were exact and of other rows."""
    design = pd.DataFrame({"a": [3.0, 1.0, 2.0]})
    for fn in (lambda d: d["a"].sort_values(), lambda d: {"y": d["a"].sort_values()}):
        with pytest.raises(InvalidAnswer, match="in another order, by their index"):
            cm.sweep(fn, design, frame=True, engine=pool, chunk="all")
    with pytest.raises(InvalidArgument, match="columns of the design have the same index"):
        cm.sweep(lambda a, b: a, {"a": design["a"], "b": design["a"][::-1]}, engine=pool)


def test_a_dataset_without_dimensions_is_one_row(pool):
    xarray = pytest.importorskip("xarray")
    table = cm.sweep(lambda a: 2 * a, xarray.Dataset({"a": 3.0}), engine=pool).table
    assert (float(table["y"]), str(table["status"].item())) == (6.0, "EXACT")


def test_a_call_that_crashes_is_made_three_times_by_default():
    with Scripted(8, dict.fromkeys(range(8), crash())) as engine:
        result = cm.sweep(product, {"a": [1.0], "b": [2.0]}, engine=engine)
    assert str(result.run.calls) == "3 calls: 3 crashed (2 retries)"


@pytest.mark.parametrize("kind", [dict, pd.DataFrame])
def test_lists_of_different_lengths_are_one_column_beside_which_others_are_free(sweep, kind):
    """An output "y_0" beside a list "y" was refused, as if its entries were columns."""
    lists = [[1.0], [2.0, 3.0]]
    table = sweep(lambda a, b: {"y": lists, "y_0": a}, kind(DESIGN)).table
    assert list(table["y"]) == [lists] * 6
    np.testing.assert_array_equal(table["y_0"], DESIGN["a"])
