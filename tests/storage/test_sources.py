"""Inputs that are read as they are needed."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray
import zarr

import codedmap as cm
from codedmap.execution.inputs import InputRows
from codedmap.execution.job_rows import JobRows
from codedmap.storage import source as source_module
from codedmap.storage.digest import RowsDigest, checksum
from codedmap.storage.source import Batches, opened
from codedmap.testing import Scripted


def opened_now(inputs):
    with ExitStack() as stack:
        return opened(inputs, stack)


X = np.arange(120.0).reshape(40, 3)


class Watched:
    """An array with slices, which says how many rows at most were read at once."""

    def __init__(self, array, shape=None):
        self.array, self.shape, self.dtype = array, shape or array.shape, array.dtype
        self.most = 0

    def __getitem__(self, at):
        part = self.array[at]
        self.most = max(self.most, len(part))
        return part


def sources(path):
    np.save(path / "x.npy", X)
    yield np.load(path / "x.npy", mmap_mode="r")
    yield zarr.array(X, chunks=(7, 3))
    yield Watched(X)
    dask = pytest.importorskip("dask.array")
    yield dask.from_array(X, chunks=(7, 3))
    yield xarray.DataArray(dask.from_array(X, chunks=(7, 3)))


def test_arrays_of_every_kind_give_their_rows(tmp_path):
    for source in sources(tmp_path):
        rows = InputRows(opened_now(source))
        assert rows.lazy
        assert rows.rows == 40
        assert rows.form == [["<f8", [3]]]
        for at in (slice(3, 9), np.array([5, 6, 39, 0]), np.array([2])):
            [part] = rows.batch(at)
            assert type(part) is np.ndarray
            np.testing.assert_array_equal(part, X[at])
        np.testing.assert_array_equal(rows.points(np.array([1, 2])), X[1:3])


def test_what_is_in_memory_stays_as_it_is():
    frame = pd.DataFrame({"a": [1.0]})
    for given in (X, [1, 2], frame, frame["a"], (X, X)):
        assert not InputRows(opened_now(given)).lazy


def test_only_the_rows_of_a_call_are_read(tmp_path):
    source = Watched(X)
    with Scripted(2) as engine:
        result = cm.map(lambda x: 2 * x, source, engine=engine, chunk=5)
    np.testing.assert_array_equal(result.values, 2 * X)
    assert source.most == 5
    source = Watched(X)
    with Scripted(4) as engine:
        code = cm.Replication(2, 4)
        result = cm.map(lambda x: 2 * x, source, engine=engine, code=code, chunk=5)
    np.testing.assert_array_equal(result.values, 2 * X)
    assert source.most == 10


def test_rows_in_the_other_order_of_bytes_stay_so():
    """What fn gets, and the checksum of rows, must not depend on how an iterator cuts them."""
    big = X.astype(">f8")
    with ExitStack() as stack:
        for source in (iter(np.split(big, [20])), Watched(big)):
            [part] = InputRows(opened(source, stack)).batch(np.array([3, 4, 18]))
            assert part.dtype == big.dtype
            np.testing.assert_array_equal(part, X[[3, 4, 18]])


def test_text_of_a_source_is_never_cut_off():
    class Narrow(Watched):
        def __getitem__(self, at):
            return np.array(super().__getitem__(at).tolist())  # as wide as its longest

    rows = InputRows(opened_now(Narrow(np.array(["a", "b", "c", "longer"]))))
    assert rows.batch(np.array([0, 3]))[0].tolist() == ["a", "longer"]


def test_several_inputs_of_which_some_are_read_later(tmp_path):
    with Scripted(2) as engine:
        result = cm.map(lambda a, b: a[:, 0] + b, (Watched(X), np.arange(40)), engine=engine)
    np.testing.assert_array_equal(result.values, X[:, 0] + np.arange(40))


@pytest.mark.parametrize("labels", [None, [f"row {i}" for i in range(40)]])
@pytest.mark.parametrize("grouped", [7, 100])
def test_parquet_gives_frames(tmp_path, grouped, labels):
    columns = {"a": np.arange(40), "name": [f"n{i}" for i in range(40)]}
    frame = pd.DataFrame(columns, index=labels)
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "x.parquet", row_group_size=grouped)
    rows = InputRows(opened_now(tmp_path / "x.parquet"))
    for at in (slice(3, 9), np.array([5, 6, 39, 0])):
        pd.testing.assert_frame_equal(rows.batch(at)[0], frame.iloc[at])

    def fn(part):
        return (part["a"].astype(str) + part["name"]).to_numpy()

    with Scripted(2) as engine:
        result = cm.map(fn, str(tmp_path / "x.parquet"), engine=engine, chunk=6)
    assert result.values.tolist() == [f"{i}n{i}" for i in range(40)]


def test_nulls_in_a_row_group_change_the_dtype_of_all(tmp_path):
    """A job that had computed rows of several row groups together could not be resumed."""
    columns = {"i": [1, 2, None, 4], "b": [True, False, None, True], "n": [1, 2, 3, 4]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=2)
    rows = InputRows(opened_now(tmp_path / "x.parquet"))
    parts = [rows.batch(at)[0] for at in (slice(0, 2), slice(2, 4), np.array([0, 3]))]
    assert [str(dtype) for dtype in parts[0].dtypes] == ["float64", "object", "int64"]
    assert all(part.dtypes.equals(parts[0].dtypes) for part in parts)
    cut = RowsDigest().add([parts[0][:1]]).add([parts[1][1:]])
    assert checksum([parts[2]]) == cut.hex()


def batches(sizes):
    begin = 0
    for size in sizes:
        yield X[begin : begin + size]
        begin += size


def test_batches_are_read_as_they_are_needed_and_dropped_when_done(monkeypatch):
    monkeypatch.setattr(source_module, "_SLOW", 60.0)
    read = []

    def counted():
        for batch in batches([5] * 8):
            read.append(len(batch))
            yield batch

    source = Batches(counted())
    assert (source.rows, len(read)) == (5, 1), "the first says what a row looks like"
    assert source.add(source.read(7).result()) == 10
    np.testing.assert_array_equal(source.take(slice(3, 12)), X[3:12])
    source.done(slice(0, 7))
    assert [first for first, _, _ in source._held] == [5, 10]
    np.testing.assert_array_equal(source.take(np.array([7, 8, 14])), X[[7, 8, 14]])
    source.done(np.array([7, 8, 9]))
    assert [first for first, _, _ in source._held] == [10]
    assert not source.ended
    assert source.add(source.read(100).result()) == 25
    assert source.ended
    source.close()


def test_rows_of_a_slow_iterator_do_not_wait_for_the_next_ones():
    def slow():
        for batch in batches([5] * 8):
            time.sleep(0.15)
            yield batch

    with Batches(slow()) as source:
        assert source.add(source.read(35).result()) == 5


def test_rows_that_were_read_are_given_while_the_next_are_waited_for():
    go_on = threading.Event()

    def waiting():
        yield from batches([5] * 3)
        assert go_on.wait(30)
        yield X[15:20]
        raise KeyError("the end")

    with Batches(waiting()) as source:
        assert source.add(source.read(35).result(30)) == 10
        again = source.read(35)
        go_on.set()
        with pytest.raises(cm.InvalidArgument, match="KeyError"):
            again.result(30)


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [13, 0, 27], [39, 1]])
@pytest.mark.parametrize("code", [None, cm.Replication(3, 6)])
def test_jobs_of_an_iterator(sizes, code):
    with Scripted(6) as engine:
        result = cm.map(lambda x: 2 * x, batches(sizes), engine=engine, code=code)
    np.testing.assert_array_equal(result.values, 2 * X)
    assert result.exact.all()


def test_an_iterator_is_not_read_far_ahead():
    read, done, ahead = [], [], []

    def counted():
        for n in range(200):
            read.append(n)
            yield np.full((5, 1), float(n))

    def fn(batch):
        done.append(len(batch))
        ahead.append(5 * len(read) - sum(done))
        return batch

    with Scripted(2) as engine:
        result = cm.map(fn, counted(), engine=engine, chunk=5)
    assert len(result.values) == 1000
    assert max(ahead) <= 40


def test_an_iterator_may_write_into_what_it_gave():
    def reused():
        buffer = np.empty((5, 3))
        for begin in range(0, 40, 5):
            buffer[:] = X[begin : begin + 5]
            yield buffer

    with Scripted(4) as engine:
        result = cm.map(lambda x: 2 * x, reused(), engine=engine)
    np.testing.assert_array_equal(result.values, 2 * X)


def readers():
    return [thread for thread in threading.enumerate() if "_read" in thread.name]


@pytest.mark.parametrize("code", [None, cm.Replication(1, 2)])
def test_a_slow_iterator_holds_up_neither_answers_nor_the_loop(code):
    given = threading.Event()

    def slow():
        yield X[:4]
        assert given.wait(30)
        yield X[4:]

    async def main(engine):
        async for result in cm.astream(lambda x: x, slow(), engine=engine, code=code, chunk=2):
            if len(result.status) == 4 and result.exact.all():
                given.set()
        return result

    with Scripted(4) as engine:
        result = asyncio.run(main(engine))
    np.testing.assert_array_equal(result.values, X)
    for thread in readers():
        thread.join(30)
    assert not readers()


def test_an_iterator_is_not_read_on_after_its_job_has_failed():
    failed, read = threading.Event(), []

    def slow():
        for n in range(100):
            read.append(n)
            yield X[:1] + n
            if n == 3:
                assert failed.wait(30)

    def fn(batch):
        raise ValueError("no")

    with Scripted(2) as engine, pytest.raises(cm.errors.RowFailed):
        cm.map(fn, slow(), engine=engine, chunk=4)
    failed.set()
    for thread in readers():
        thread.join(30)
    assert not readers()
    assert len(read) < 10


def test_an_interruption_while_the_thread_of_an_iterator_starts_does_not_leave_it(monkeypatch):
    def interrupted(thread, start=threading.Thread.start):
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Batches(iter([X]))
    for thread in readers():
        thread.join(5)
    assert not readers()


def test_each_row_of_an_iterator_is_copied_a_few_times_only():
    with ExitStack() as stack:
        rows = JobRows(InputRows(opened(batches([1] * 40), stack)))
        copies = 0
        while not rows.ended:
            before = rows.status
            rows.add(rows.read(1).result())
            copies += not np.shares_memory(before, rows.status)
    assert rows.count == 40
    assert copies < 10


def test_rows_of_an_iterator_that_fail_are_recorded():
    def fn(x):
        if x[0] == 30:
            raise ValueError("thirty")
        return x

    with Scripted(3) as engine:
        result = cm.map(cm.itemwise(fn), batches([5] * 8), engine=engine, on_error="record")
    assert list(result.failures) == [10]
    assert result.exact.sum() == 39


# Bad input


def raising():
    yield X[:20]
    raise OSError("the disk is gone")


class Raising(Watched):
    def __getitem__(self, at):
        if at.stop > 30:
            raise OSError("the disk is gone")
        return super().__getitem__(at)


class Growing(Watched):
    def __getitem__(self, at):
        if at.start >= 10:
            self.shape = (41, 3)
        return super().__getitem__(at)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (raising, "raised OSError when rows from 20 on were read: the disk is gone"),
        (lambda: Raising(X), r"raised OSError when rows from \d+ on were read"),
        (lambda: Watched(X, (50, 3)), r"have shape \(0, 3\), and by their shape as a whole"),
        (lambda: Growing(X), "had 40 rows when the job began, and have 41 now"),
        (lambda: Watched(X, (np.nan, 3)), "how many rows there are must be known"),
        (lambda: iter([X, X[:, :2]]), r"rows of shape \(2,\) and dtype float64 after others"),
        (lambda: iter([X, X.astype(np.float32)]), "dtype float32 after others"),
        (lambda: iter([X, 3.0]), "gave an object of type float, and it must give batches"),
        (
            lambda: (pair for pair in [(0, 1), (2, 3)]),
            "gave an object of type tuple, and it must give batches",
        ),
        (lambda: iter([X, None, X]), "gave an object of type NoneType, and it must give batches"),
        (
            lambda: iter([X, pd.DataFrame(X)]),
            r"gave an object of type DataFrame.*give\s+frame\.to_numpy",
        ),
        (lambda: iter([]), "empty"),
        (lambda: (X, iter([X])), "one of several inputs is an iterator"),
        (lambda: "x.csv", "must be that of a .parquet file"),
        (lambda: "nowhere.parquet", "cannot be read as Parquet.*: check the path"),
    ],
)
@pytest.mark.parametrize("code", [None, cm.Replication(2, 4)], ids=["rows", "coded"])
def test_sources_that_are_not_what_they_seem(make, message, code):
    with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match=message):
        cm.map(lambda x: x, make(), engine=engine, chunk=5, code=code)


def test_a_folder_of_parquet_files(tmp_path):
    folder = tmp_path / "x.parquet"
    folder.mkdir()
    with (
        Scripted(1) as engine,
        pytest.raises(cm.InvalidArgument, match="of a folder of files give"),
    ):
        cm.map(lambda x: x, folder, engine=engine)


def test_a_file_that_is_cut_under_a_memory_map(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1000, 3)))
    source = np.load(tmp_path / "x.npy", mmap_mode="r")

    def fn(batch):
        with (tmp_path / "x.npy").open("r+b") as file:
            file.truncate(200)
        return batch

    with (
        Scripted(2) as engine,
        pytest.raises(cm.InvalidArgument, match="or their file has another size"),
    ):
        cm.map(fn, source, engine=engine, chunk=5)


@pytest.mark.parametrize(
    ("options", "shown"),
    [({"deadline": 1.0}, r"Deadline\(1\)"), ({"stop": cm.Share(0.5)}, r"Share\(0.5\)")],
)
def test_an_iterator_cannot_be_left_early(options, shown):
    message = f"{shown} may stop before all are"
    with Scripted(2) as engine, pytest.raises(cm.InvalidArgument, match=message):
        cm.map(lambda x: x, batches([5] * 8), engine=engine, **options)


def test_rows_of_a_file_that_are_no_numbers_are_missing_and_why_is_said(tmp_path):
    pq.write_table(pa.table({"a": list("abcdefgh")}), tmp_path / "x.parquet")

    def job(stop):
        with Scripted(1) as engine:
            return cm.map(
                lambda frame: frame.a.str.len(),
                tmp_path / "x.parquet",
                engine=engine,
                chunk=1,
                stop=stop,
            )

    with pytest.warns(UserWarning, match="are MISSING.*get_dummies"):
        assert job(cm.Share(0.5)).exact.sum() == 4
    with pytest.raises(cm.InvalidArgument, match=r"get_dummies.*or stop by"):
        job(cm.Tolerance(0.1))


def test_a_code_does_not_take_frames_that_are_read_later(tmp_path):
    pq.write_table(pa.table({"a": [1.0, 2.0]}), tmp_path / "x.parquet")
    with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match="data frames or objects"):
        cm.map(lambda x: x, tmp_path / "x.parquet", engine=engine, code=cm.Replication(1, 4))
    with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match="have to be in memory"):
        cm.map(lambda x: x, Watched(X), engine=engine, code="auto")
    with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match='chunk="all" encodes all'):
        cm.map(lambda x: x, Watched(X), engine=engine, code=cm.Replication(1, 4), chunk="all")


def test_packages_that_are_not_installed(tmp_path, monkeypatch):
    import sys

    for name, call in {
        "zarr": lambda: cm.map(np.sin, X, engine=Scripted(1), out=tmp_path / "o.zarr"),
        "pyarrow": lambda: cm.map(np.sin, X, engine=Scripted(1), out=tmp_path / "o.parquet"),
        "pandas": lambda: cm.map(np.sin, tmp_path / "x.parquet", engine=Scripted(1)),
    }.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(cm.InvalidArgument, match=r"pip install 'codedmap\[storage\]'"):
                call()


def test_a_row_that_a_code_cannot_take_is_named_wherever_it_is_read(tmp_path):
    X = np.arange(400.0)
    X[333] = np.nan
    np.save(tmp_path / "x.npy", X)
    given = np.load(tmp_path / "x.npy", mmap_mode="r")
    options = {"code": cm.KernelCode(2, 4, 1), "chunk": 5}
    for stop in (None, cm.Deadline(60)):
        with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match="the first is row 333"):
            cm.map(np.sin, given, engine=engine, stop=stop, **options)


@pytest.mark.parametrize("dtype", ["<f8", ">i4"])
def test_scattered_rows_of_a_zarr_array_are_read_and_written_at_once(dtype, monkeypatch):
    array = zarr.create_array({}, shape=(300, 2), chunks=(50, 2), dtype=dtype)
    array[:] = np.arange(600).reshape(300, 2)
    runs = [(120, 123), (4, 6), (299, 300), (40, 60)]
    rows = np.concatenate([np.arange(*run) for run in runs])
    slices = []
    monkeypatch.setattr(type(array), "__getitem__", lambda *given: slices.append(given))
    monkeypatch.setattr(type(array), "__setitem__", lambda *given: slices.append(given))
    read = source_module.read_runs(array, runs)
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, np.stack([2 * rows, 2 * rows + 1], axis=1))
    source_module.write_runs(array, runs, -read)
    np.testing.assert_array_equal(source_module.read_runs(array, runs), -read)
    assert not slices  # each of which decompresses a whole chunk
    monkeypatch.undo()
    assert (array[:] < 0).any(axis=1).sum() == len(rows)


def test_chunks_that_are_read_row_by_row_are_computed_once(tmp_path):
    computed = []

    def block(block_info=None):
        [(begin, end), _] = block_info[None]["array-location"]
        computed.append(begin)
        return np.arange(float(2 * begin), 2 * end).reshape(-1, 2)

    array = da.map_blocks(block, chunks=((30, 50, 20), (2,)), dtype=float)
    scattered = np.array([90, 31, 29, 5, 79, 80, 99])
    for given in (array, xarray.DataArray(array)):
        computed.clear()
        rows = opened_now(given)
        for at in (scattered, scattered[::-1], slice(28, 33)):
            expected = np.arange(200.0).reshape(100, 2)[at]
            np.testing.assert_array_equal(rows.take(at), expected)
        assert sorted(computed) == [0, 30, 80]
    frame = pd.DataFrame({"a": np.arange(100.0)})
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=10)
    rows = opened_now(str(tmp_path / "x.parquet"))
    for at in (np.array([91, 5, 44]), np.array([6, 45, 92])):
        assert rows.take(at)["a"].tolist() == at.tolist()
    assert rows._group.cache_info().misses == 3


def test_chunks_of_another_dtype_or_shape_than_was_said_are_never_cast_or_repeated():
    array = da.from_array(X + 0.5, chunks=(7, 3))
    rows = opened_now(array.map_blocks(lambda block: block, dtype=np.int64))
    np.testing.assert_array_equal(rows.take(slice(5, 9)), X[5:9] + 0.5)
    rows = opened_now(array.map_blocks(lambda block: block[:, :1], dtype=float))
    with pytest.raises(cm.InvalidArgument, match=r"have shape \(4, 1\), and .* rows of \(3,\)"):
        rows.take(slice(5, 9))


@pytest.mark.parametrize(("largest", "reads"), [(1 << 20, [0, 30, 60, 90]), (0, [*range(95)])])
def test_chunks_of_zarr_are_decompressed_once_unless_they_are_large(monkeypatch, largest, reads):
    array = zarr.array(np.arange(190.0).reshape(95, 2), chunks=(30, 1))
    found, read = [], type(array).__getitem__
    monkeypatch.setattr(
        type(array), "__getitem__", lambda self, at: [found.append(at.start), read(self, at)][1]
    )
    monkeypatch.setattr(source_module, "_LARGEST", largest)
    rows = opened_now(array)
    for row in range(95):
        np.testing.assert_array_equal(rows.take(slice(row, row + 1)), [[2 * row, 2 * row + 1]])
    assert found == reads
    found.clear()
    np.testing.assert_array_equal(rows.take(slice(1, 95))[:, 0], np.arange(2, 190, 2))
    assert found == [1]  # of many chunks at once


def test_text_of_any_length_in_a_zarr_array():
    text = zarr.array(np.array(["a", "bb"], np.dtypes.StringDType()))

    def upper(batch):
        return [one.upper() for one in batch]

    for code in (None, cm.Replication(1, 2)):
        with Scripted(2) as engine:
            with pytest.raises(cm.InvalidArgument, match=r"give inputs\[:\].astype\(object\)"):
                cm.map(upper, text, code=code, engine=engine)
            result = cm.map(upper, text[:].astype(object), code=code, engine=engine)
        assert result.values.tolist() == ["A", "BB"]


@pytest.mark.parametrize("kind", ["zarr", "parquet"])
def test_rows_in_a_random_order_read_a_chunk_few_times_if_not_all_are_kept(
    kind, monkeypatch, tmp_path
):
    """Each call read all chunks, so that a job with a deadline took 16 times as long as one without."""
    monkeypatch.setattr(source_module, "_KEPT", 8000)  # two of eight chunks
    X = np.arange(4000.0)
    if kind == "zarr":
        source = opened_now(zarr.array(X, chunks=(500,)))
        cached = source._chunks._chunk
    else:
        pd.DataFrame({"a": X}).to_parquet(tmp_path / "x.parquet", row_group_size=500)
        source = opened_now(str(tmp_path / "x.parquet"))
        cached = source._group
    rows = JobRows(InputRows(source), shuffled=True)
    found = [np.ravel(rows.inputs.batch(rows.at(at, at + 40))[0]) for at in range(0, 4000, 40)]
    assert sorted(np.concatenate(found).tolist()) == X.tolist()
    assert np.abs(np.diff(np.concatenate(found)) - 1).astype(bool).sum() >= 24, "in a random order"
    assert cached.cache_info().misses <= 80, "of eight chunks; it was 2,996"
