"""Outputs: .npy files, Zarr groups, Parquet files and arrays, each written in any order."""

from __future__ import annotations

import errno
import os
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr

import codedmap as cm
from codedmap import Status
from codedmap.execution.job_rows import Order, runs_of
from codedmap.results.trees import error_leaves
from codedmap.storage.output import NpyOutput, Output, cast, form_of
from codedmap.storage.parquet import ParquetOutput
from codedmap.storage.zarr import ZarrOutput

KINDS = {".npy": NpyOutput, ".zarr": ZarrOutput, ".parquet": ParquetOutput}
VALUES = np.random.default_rng(0).normal(size=(40, 2))
CUTS = [np.arange(20, 40), np.array([0, 1, 2, 7, 8]), np.array([3, 4, 5, 6, *range(9, 20)])]


def content(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".zarr":
        return zarr.open_group(path, mode="r")["values"][:]
    column = pq.read_table(path)["values"].combine_chunks()
    return column.flatten().to_numpy().reshape(-1, 2)


@pytest.mark.parametrize("suffix", KINDS)
def test_rows_in_any_order_are_checked_and_read_again(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    output, status = KINDS[suffix](path), np.zeros(40, np.int8)
    form = form_of({"values": VALUES})
    output.open(form, 40, new=True)
    lines = [(runs_of(at), output.write(runs_of(at), {"values": VALUES[at]})) for at in CUTS]
    output.sync(status)
    output.close()
    again = KINDS[suffix](path)
    again.open(form, 40, new=False)
    assert all(again.check(runs, line) for runs, line in lines)
    assert not again.check(lines[0][0], {**lines[0][1], "values": lines[1][1]["values"]})
    some = np.array([2, 3, 19, 39])
    np.testing.assert_array_equal(again.read(some)["values"], VALUES[some])
    again.finish(status)
    again.close()
    np.testing.assert_array_equal(content(path), VALUES)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_rows_that_the_system_reads_in_parts_are_not_damaged(tmp_path, monkeypatch, suffix):
    output, pread = KINDS[suffix](tmp_path / f"out{suffix}"), os.pread
    output.open(form_of({"values": VALUES}), 40, new=True)
    line = output.write([(0, 40)], {"values": VALUES})
    monkeypatch.setattr(os, "pread", lambda file, size, begin: pread(file, min(size, 99), begin))
    assert output.check([(0, 40)], line)
    output.finish(np.zeros(40, np.int8))
    np.testing.assert_array_equal(content(tmp_path / f"out{suffix}"), VALUES)


@pytest.mark.parametrize("suffix", KINDS)
def test_status_and_standard_errors_are_beside_the_values(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    output = KINDS[suffix](path)
    status = np.array([0] * 36 + [1, 0, 1, 3], np.int8)
    stderr = np.zeros_like(VALUES)
    stderr[[36, 38]], stderr[39] = [[0.5, 0.25], [2.0, 3.0]], np.inf
    output.open(form_of({"values": VALUES}), 40, new=True)
    output.write([(0, 40)], {"values": VALUES})
    output.write_errors([(36, 37), (38, 39)], {"values": stderr[[36, 38]]})
    output.blank(np.array([39]))
    _, spread = output.finish(status)
    output.close()
    if suffix == ".npy":
        found = np.load(tmp_path / "out.status.npy"), np.load(tmp_path / "out.stderr.npy")
    elif suffix == ".zarr":
        group = zarr.open_group(path, mode="r")
        found = group["status"][:], group["stderr"][:]
    else:
        table = pq.read_table(path)
        named = [Status[one] for one in table["status"].to_pylist()]
        found = named, np.array(table["stderr"].to_pylist())
        # A null row would be none that pyarrow before 26 reads.
        assert table["values"].null_count == 0
        assert table["values"][39].as_py() == [None, None], "nothing is known of the last row"
    np.testing.assert_array_equal(found[0], status)
    np.testing.assert_array_equal(found[1], stderr)
    np.testing.assert_array_equal(error_leaves(spread)[0], stderr)


@pytest.mark.parametrize("suffix", KINDS)
def test_more_rows_than_were_said(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    output = KINDS[suffix](path)
    output.open(form_of({"values": VALUES}), 10, new=True)
    output.write([(0, 10)], {"values": VALUES[:10]})
    output.resize(40)
    output.write([(10, 40)], {"values": VALUES[10:]})
    output.finish(np.zeros(40, np.int8))
    output.close()
    np.testing.assert_array_equal(content(path), VALUES)


def test_the_status_in_a_group_can_be_read_at_any_time(tmp_path, monkeypatch):
    """It was removed and made again, and a reader found none in between."""
    output = ZarrOutput(tmp_path / "out.zarr")
    output.open(form_of({"values": VALUES}), 10, new=True)
    status = zarr.open_group(tmp_path / "out.zarr", mode="r")["status"]
    assert (status[:] == Status.MISSING).all()
    monkeypatch.setattr(zarr.storage.LocalStore, "delete_dir", None)
    output.sync(np.zeros(10, np.int8))
    assert (status[:] == Status.EXACT).all()
    output.resize(40)
    output.sync(np.ones(40, np.int8))
    assert zarr.open_group(tmp_path / "out.zarr", mode="r")["status"][:].tolist() == [1] * 40


def test_a_group_that_cannot_grow(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = ZarrOutput(tmp_path / "out.zarr")
    output.open(form_of({"values": VALUES}), 10, new=True)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(cm.errors.OutputError, match="No space left on device"):
        output.resize(40)


def test_a_npy_file_is_one_that_numpy_would_have_written(tmp_path):
    output = NpyOutput(tmp_path / "out.npy")
    output.open(form_of({"values": VALUES}), 40, new=True)
    output.write([(0, 40)], {"values": VALUES})
    output.finish(np.zeros(40, np.int8))
    output.close()
    with (tmp_path / "numpy.npy").open("wb") as file:
        np.lib.format.write_array(file, VALUES, version=(2, 0))
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_chunks_of_zarr_take_256_kilobytes(tmp_path):
    output = ZarrOutput(tmp_path / "out.zarr")
    output.open({"values": ["<f8", [4]], "counts": ["<i4", []]}, 10**6, new=True)
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert group["values"].chunks == (2**13, 4)
    assert group["counts"].chunks == (2**16,)
    assert np.isnan(group["values"][0]).all()


def test_parquet_holds_text_nothing_and_rows_of_any_shape(tmp_path):
    output = ParquetOutput(tmp_path / "out.parquet")
    columns = {
        "name": np.array(["a", None, "ü", "d"], object),
        "flag": np.array([True, False, True, True]),
        "cube": np.arange(16.0).reshape(4, 2, 2),
    }
    output.open(form_of({**columns, "name": columns["name"][:1]}), 4, new=True)
    output.write([(0, 1), (2, 4)], {name: c[[0, 2, 3]] for name, c in columns.items()})
    output.write([(1, 2)], {name: c[1:2] for name, c in columns.items()})
    output.finish(np.zeros(4, np.int8))
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["name"] == ["a", None, "ü", "d"], "a piece of None only has no type of its own"
    assert table["flag"] == [True, False, True, True]
    assert table["cube"] == columns["cube"].tolist()
    output.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        (NpyOutput, {"a": VALUES, "b": VALUES}, "a dict of a, b, and a .npy file holds one array"),
        (
            NpyOutput,
            {"values": np.array(["text"], object)},  # as text of a function of one input is
            "are Python objects, which a .npy file .* return numbers .*, or give .*parquet, which holds text",
        ),
        (ZarrOutput, {"values": np.array(["a"])}, "'values' of dtype <U1, and a Zarr group holds"),
        (
            ZarrOutput,
            {"values": np.ones(1, [("a", "i4")])},
            r"dtype \[\('a', '<i4'\)\], and a Zarr",
        ),
        (ZarrOutput, {"": VALUES}, "under names of folders"),
        (ZarrOutput, {"..": VALUES}, "under names of folders"),
        (ZarrOutput, {"a\\b": VALUES}, "under names of folders"),
        (ParquetOutput, {"\ud800": VALUES}, "that Parquet cannot hold"),
        (ZarrOutput, {"values": np.ones(3, np.longdouble)}, "numbers of at most 64 bits"),
    ],
)
def test_answers_that_an_output_cannot_hold(tmp_path, kind, columns, message):
    suffix = {value: key for key, value in KINDS.items()}[kind]
    output = kind(tmp_path / f"out{suffix}")
    with pytest.raises(cm.InvalidAnswer, match=message):
        output.open(form_of(columns), 40, new=True)


@pytest.mark.parametrize("dtype", ["M8[3s]", "m8[7ms]", "M8[D]"])
def test_times_in_steps_of_several_units_are_what_they_were(tmp_path, dtype):
    times = np.array([1, 2], dtype)
    output = ParquetOutput(tmp_path / "out.parquet")
    output.open(form_of({"values": times}), 2, new=True)
    output.write([(0, 2)], {"values": times})
    output.finish(np.zeros(2, np.int8))
    found = pq.read_table(tmp_path / "out.parquet")["values"].to_numpy()
    np.testing.assert_array_equal(found, times)


def test_an_object_that_arrow_does_not_know(tmp_path):
    output = ParquetOutput(tmp_path / "out.parquet")
    output.open({"values": ["|O", []]}, 1, new=True)
    for it in (object(), 10**30, "\ud800"):
        with pytest.raises(cm.InvalidAnswer, match="that Parquet cannot hold"):
            output.write([(0, 1)], {"values": np.array([it], object)})


def test_text_that_pandas_lacks_is_null_in_parquet(tmp_path):
    output = ParquetOutput(tmp_path / "out.parquet")
    column = pd.Series(["a", None, np.nan, pd.NA], dtype=object).to_numpy()
    output.open(form_of({"values": column}), 4, new=True)
    output.write([(0, 4)], {"values": column})
    output.finish(np.zeros(4, np.int8))
    assert pq.read_table(tmp_path / "out.parquet")["values"].to_pylist() == ["a", None, None, None]


def test_nanoseconds_of_times_with_a_zone_are_kept(tmp_path):
    output = ParquetOutput(tmp_path / "out.parquet")
    times = pd.to_datetime([10**18 + 1, None], utc=True).astype(object).to_numpy()
    output.open(form_of({"values": times}), 2, new=True)
    output.write([(0, 2)], {"values": times})
    output.finish(np.zeros(2, np.int8))
    column = pq.read_table(tmp_path / "out.parquet")["values"]
    assert column.to_pylist() == [times[0], None]


def test_types_that_one_column_of_parquet_cannot_hold(tmp_path):
    output = ParquetOutput(tmp_path / "out.parquet")
    output.open({"values": ["<i8", []]}, 2, new=True)
    output.write([(0, 1)], {"values": np.array([2**60 + 1])})
    with pytest.raises(cm.InvalidAnswer, match="cannot hold beside others"):
        output.write([(1, 2)], {"values": np.array(["a"])})
    with pytest.raises(cm.InvalidAnswer, match="do not fit into the type of their column"):
        output.write([(1, 2)], {"values": np.array([0.5])})
    output.write([(1, 2)], {"values": np.array([7])})
    output.finish(np.zeros(2, np.int8))
    assert pq.read_table(tmp_path / "out.parquet")["values"].to_pylist() == [2**60 + 1, 7]


@pytest.mark.parametrize("pair", [("a", b"b"), (b"b", "a"), (Decimal("0.1"), 0.5)])
def test_what_parquet_would_make_others_is_refused(tmp_path, pair):
    """Text beside bytes became bytes, and decimals beside floats floats."""
    one, two = (np.array([value], object) for value in pair)
    output = ParquetOutput(tmp_path / "out.parquet")
    output.open({"values": ["|O", []]}, 3, new=True)
    output.write([(0, 1)], {"values": one})
    for runs, column in (([(1, 2)], two), ([(1, 3)], np.r_[two, one])):
        with pytest.raises(cm.InvalidAnswer, match="cannot hold"):
            output.write(runs, {"values": column})


@pytest.mark.parametrize(
    ("array", "dtype", "rounds", "kept"),
    [
        ([1.5, 2.5], "f4", False, False),
        ([1.5, 2.5], "f4", True, True),
        ([1e300], "f4", True, False),
        ([np.nan, np.inf], "f4", True, True),
        (np.array([1, 2]), "f8", False, True),
        (np.array([2**60 + 1]), "f8", False, False),
        (np.array([2**60 + 1]), "f8", True, True),
        (np.array([-1]), "u8", False, False),
        (np.array([1, 2**40]), "i4", False, False),
        (np.array([1, 2**20]), "i4", False, True),
        (np.array([-1]), "u4", False, False),
        ([1.5], "i8", True, False),
        ([1 + 2j], "f8", True, False),
        (np.array(["ab"]), "<U1", False, False),
        (np.array(["a"]), "<U2", False, True),
        (np.array([True]), "f8", False, True),
        (np.array([1]), "<U30", False, False),
        (np.array([1]), "m8[s]", False, False),
        (np.array(["3000-01-01"], "M8[D]"), "M8[ns]", False, False),
        (np.array(["2000-01-01", "NaT"], "M8[D]"), "M8[ns]", False, True),
        (np.zeros(1, "f8, i4"), "f4, i8", True, False),
        (np.zeros(1, "f8, i4"), "f8, i8", True, True),
        (np.zeros(1, [("a", "f8"), ("b", "f8")]), [("b", "f8"), ("a", "f8")], True, False),
    ],
)
def test_values_are_never_wrapped_around_cut_off_or_rounded_unasked(array, dtype, rounds, kept):
    array, dtype = np.asarray(array), np.dtype(dtype)
    if kept:
        assert cast("values", array, np.empty(0, dtype), rounds=rounds).dtype == dtype
    else:
        said = f"of dtype {re.escape(str(array.dtype))}.*has dtype {re.escape(str(dtype))}"
        with pytest.raises(cm.InvalidAnswer, match=said):
            cast("values", array, np.empty(0, dtype), rounds=rounds)


@pytest.mark.parametrize(("number", "dtype"), [(2**53 + 1, "f8"), (1, "U30")])
def test_fields_of_records_are_kept_or_refused(number, dtype):
    array = np.array([(number,)], [("a", "i8")])
    with pytest.raises(cm.InvalidAnswer, match="values 'a' of dtype int64"):
        cast("values", array, np.empty(0, [("a", dtype)]), rounds=False)


@pytest.mark.filterwarnings("error")
def test_whole_numbers_may_be_put_into_complex_ones():
    assert cast("values", np.array([2]), np.empty(0, "c8"), rounds=True) == 2


def test_an_array_that_is_given_has_to_fit():
    output = Output(np.zeros((5, 2), np.float32))
    with pytest.raises(cm.InvalidArgument, match="room for 5 rows, and there are 40"):
        output.open(form_of({"values": VALUES}), 40, new=True)
    with pytest.raises(cm.InvalidAnswer, match=r"shape \(3,\), and out has rows of shape \(2,\)"):
        output.open({"values": ["<f8", [3]]}, 5, new=True)
    with pytest.raises(cm.InvalidAnswer, match="a dict of a, b, and out is one array"):
        output.open({"a": ["<f8", [2]], "b": ["<f8", [2]]}, 5, new=True)


def test_an_order_gives_each_wanted_row_once():
    rng = np.random.default_rng(0)
    for seed in (None, 1):
        for block in (1, 3, 7):
            wanted = rng.random(50) < 0.6
            order = Order(wanted, block=block, seed=seed)
            whole = [np.r_[order.at(b, min(b + 4, order.count))] for b in range(0, order.count, 4)]
            rows = np.concatenate(whole)
            assert sorted(rows.tolist()) == np.flatnonzero(wanted).tolist()
            assert (seed is None) == (np.diff(rows) > 0).all()
            order.extend(50, np.array([False, True, True]))
            order.extend(53, np.array([True, False, True]))
            assert np.r_[order.at(len(rows), order.count)].tolist() == [51, 52, 53, 55]
    kept = Order(np.ones(100, bool), block=10, seed=0)
    firsts = [kept.at(b, b + 10) for b in range(0, 100, 10)]
    assert all(isinstance(at, slice) and at.start % 10 == 0 for at in firsts), "blocks stay whole"
