"""The door: groups, stop rules, failures and results, on a scripted engine."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm
from codedmap.testing import Faulty, Scripted, ScriptedCluster, corrupt, crash, fail, late, never

from ..byhand import ByHand
from ..contracts.codes import ROWS
from ..repeats import drawn
from ..virtual import Virtual

pytestmark = pytest.mark.usefixtures("virtual_time")

ONCE: dict[str, Any] = {"hedge": None, "retries": 0}
"""No call is made twice."""

every = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def affine(batch):
    return batch.reshape(len(batch), -1)[:, :2] * np.array([2.0, -1.0], batch.dtype) + 1


def inputs(rows: int, dtype=np.float64) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, 3)).astype(dtype)


@every
@drawn(2, 5, rows=st.integers(1, 150), tasks=st.integers(1, 8))
def test_any_number_of_rows_comes_back_in_order(row, rows, tasks):
    code = row.make(tasks, 3 * tasks + 2, 1)
    X = inputs(rows)
    with Scripted(code.workers) as engine:
        result = cm.map(affine, X, code=code, engine=engine)
    assert result.values.shape == (rows, 2)
    assert result.exact.shape == (rows,)
    assert (result.stderr is None) == (not row.states)
    assert result.abandoned == () or len(result.answered) == code.workers - code.stragglers
    assert (
        np.abs(result.values - affine(X)).max() <= 12 * (row.identity + 1e-12) + 0.5 * row.adaptive
    )
    if row.copies:
        assert result.exact.all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "code", [cm.SplineCode(5, 15, 3), cm.BerrutCode(5, 15, 3), cm.Replication(5, 15)]
)
def test_the_dtype_is_kept_from_end_to_end(code, dtype):
    kinds = set()

    def watched(batch):
        kinds.add(batch.dtype)
        return affine(batch)

    for rows in (50, 53):
        with Scripted(15) as engine:
            assert (
                cm.map(watched, inputs(rows, dtype), code=code, engine=engine).values.dtype == dtype
            )
    assert kinds == {np.dtype(dtype)}


def test_each_worker_gets_one_message_whatever_the_number_of_rows():
    for rows in (3, 40, 1000):
        with Scripted(12) as engine:
            cm.map(affine, inputs(rows), code=cm.SplineCode(4, 12, 2), engine=engine)
            assert [slot for slot, _ in engine.calls] == list(range(12))
            assert {payload.rows for _, payload in engine.calls} == {-(-rows // 4)}


@pytest.mark.parametrize("rows", [200_000, 200_009])
def test_a_large_batch_is_not_copied_more_than_the_encode_needs(rows):
    X = np.ones((rows, 8), np.float32)
    code = cm.SplineCode(20, 25, 5)
    with Scripted(25) as engine:
        cm.map(lambda batch: batch[:, 0], X[:40], code=code, engine=engine)  # imports
        engine.calls = _Forgetful()
        tracemalloc.start()
        result = cm.map(lambda batch: batch[:, 0].copy(), X, code=code, engine=engine)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    np.testing.assert_allclose(result.values, 1.0, atol=1e-5)
    payloads, outputs = X.nbytes * 25 / 20, rows * 4 * (25 / 20 + 1)
    assert peak < 1.1 * (payloads + outputs) + 2 * X.nbytes / 20


class _Forgetful(list):
    def append(self, call):
        pass


def test_by_default_it_stops_at_workers_minus_stragglers():
    with Scripted(12, {0: never(), 7: never()}) as engine:
        result = cm.map(affine, inputs(40), code=cm.SplineCode(4, 12, 2), engine=engine)
    assert result.abandoned == (0, 7)
    assert result.outcome is cm.Outcome.QUORUM
    assert len(result.answered) == 10


def test_by_default_it_also_waits_until_the_answers_can_be_decoded():
    script = {1: late(0.2), 4: never(), 7: never()}
    with Scripted(9, script) as engine:
        result = cm.map(affine, inputs(30), code=cm.Replication(3, 9), engine=engine)
    assert 1 in result.answered
    assert result.exact.all()


def test_a_deadline_takes_what_has_come():
    script = dict.fromkeys(range(5), never())
    with Scripted(12, script) as engine:
        result = cm.map(
            affine,
            inputs(40),
            code=cm.SplineCode(4, 12, 2),
            engine=engine,
            **ONCE,
            stop=cm.Quorum(10) | cm.Deadline(0.2),
        )
    assert result.outcome is cm.Outcome.DEADLINE
    assert len(result.answered) == 7
    assert result.seconds >= 0.2


@pytest.mark.parametrize("on_error", ["raise", "record"])
def test_a_deadline_ends_the_wait_also_when_a_quorum_came_that_cannot_be_decoded(on_error):
    stop = cm.Quorum(4) | cm.Deadline(0.2)
    options = {"code": cm.Replication(3, 6), "stop": stop, "on_error": on_error, **ONCE}
    with Scripted(6, {1: never(), 4: never()}) as engine:
        result = cm.map(affine, inputs(9), engine=engine, **options)
    assert result.outcome is cm.Outcome.DEADLINE
    assert result.exact.sum() == 6
    with pytest.raises(cm.NotEnoughAnswers, match="3 are missing"):
        result.check()


def test_a_deadline_is_no_excuse_for_rows_whose_calls_raised():
    options = {"code": cm.Uncoded(3), "stop": cm.Everyone() | cm.Deadline(2.0), **ONCE}
    with Scripted(3, {1: fail(ValueError("bad weights"))}) as engine:
        with pytest.raises(cm.NotEnoughAnswers, match=r"task 1.*Correct fn") as caught:
            cm.map(affine, inputs(9), engine=engine, **options)
        assert str(caught.value.__cause__) == "bad weights"
        result = cm.map(affine, inputs(9), engine=engine, on_error="record", **options)
    assert result.exact.sum() == 6


def test_everyone_waits_for_the_last_and_counts_the_failed():
    with Scripted(6, {2: late(0.2), 3: crash()}) as engine:
        result = cm.map(
            affine,
            inputs(12),
            code=cm.SplineCode(3, 6, 1),
            engine=engine,
            **ONCE,
            stop=cm.Everyone(),
        )
    assert result.outcome is cm.Outcome.EVERYONE
    assert result.answered == (0, 1, 2, 4, 5)
    assert set(result.failed) == {3}
    assert isinstance(result.failed[3], cm.WorkerCrashed)


def test_the_table_of_calls_says_how_each_ended():
    lost = {
        0: fail(ValueError("bad weights")), 1: crash(), 2: [fail(cm.errors.Abandoned("gone"))],
        3: [fail(cm.errors.NotStarted("gone"))],
    }  # fmt: skip
    with Scripted(9, lost | {4: late(0.2), 8: never()}) as engine:
        stop = cm.Everyone() | cm.Deadline(0.6)
        result = cm.map(
            affine, inputs(9), code=cm.Replication(3, 9), engine=engine, **ONCE, stop=stop
        )
    outcomes: dict[int, list[str]] = {}
    for call in result.calls:
        outcomes.setdefault(call.slot, []).append(call.outcome)
    lost = {0: ["raised"], 1: ["crashed"], 8: ["abandoned"]}
    lost |= {slot: ["not started", "answered"] for slot in (2, 3)}
    assert outcomes == lost | {slot: ["answered"] for slot in (4, 5, 6, 7)}
    [straggler] = [call for call in result.calls if call.slot == 4]
    assert straggler.worker == 4
    assert result.answered == (2, 3, 4, 5, 6, 7)
    assert result.abandoned == (8,)
    assert tuple(result.failed) == (0, 1)
    assert straggler.seconds >= 0.2
    assert result.worker_seconds >= 0.2


def test_a_lost_task_at_the_deadline_is_missing():
    args = {"code": cm.Uncoded(4), "stop": cm.Quorum(4) | cm.Deadline(0.1)}
    X = inputs(8)
    with Scripted(4, {2: never()}) as engine:
        result = cm.map(affine, X, engine=engine, **ONCE, **args)
    lost = np.array([False, False, False, False, True, True, False, False])
    assert result.outcome is cm.Outcome.DEADLINE
    np.testing.assert_array_equal(result.exact, ~lost)
    assert np.isnan(result.values[lost]).all()
    np.testing.assert_array_equal(result.values[~lost], affine(X)[~lost])
    assert np.isinf(result.stderr[lost]).all()
    np.testing.assert_array_equal(result.status, np.where(lost, cm.Status.MISSING, cm.Status.EXACT))
    with pytest.raises(cm.NotEnoughAnswers, match=r"0 of 8 rows failed and 2 are missing.*row 4"):
        result.check()


def test_without_throw_a_crash_does_not_cost_the_answers_still_to_come():
    script = {0: crash(), **dict.fromkeys((1, 2, 3), late(0.1))}
    with Scripted(4, script) as engine:
        result = cm.map(
            affine,
            inputs(8),
            code=cm.Uncoded(4),
            engine=engine,
            **ONCE,
            stop=cm.Everyone(),
            on_error="record",
        )
    assert result.outcome is cm.Outcome.EVERYONE
    assert result.answered == (1, 2, 3)
    assert result.exact.sum() == 6


def test_a_fill_stands_in_for_a_lost_task():
    with Scripted(4, {2: crash()}) as engine:
        result = cm.map(
            affine,
            inputs(8),
            code=cm.Uncoded(4, fill="mean"),
            engine=engine,
            **ONCE,
            stop=cm.Everyone(),
        )
    assert result.exact.sum() == 6
    assert (result.stderr[~result.exact] > 0).all()
    assert (result.status[~result.exact] == cm.Status.ESTIMATED).all()
    assert result.check() is result


@every
def test_a_bug_in_fn_looks_like_one(row):
    def broken(batch):
        return {}["no such key"]

    code = row.make(3, 12, 2)
    with Scripted(code.workers) as engine:
        with pytest.raises(cm.NotEnoughAnswers, match=r"failed.*KeyError.*no such key") as caught:
            cm.map(broken, inputs(9), code=code, engine=engine)
        assert isinstance(caught.value.__cause__, KeyError)
        result = cm.map(
            broken, inputs(9), code=code, engine=engine, on_error="record", max_failures=None
        )
    assert np.isnan(result.values).all()
    failed = (
        result.status == cm.Status.FAILED
    )  # rows whose own input was computed; others are missing
    assert set(np.flatnonzero(failed)) == set(result.failures)
    assert all(isinstance(error, KeyError) for error in result.failures.values())
    assert (result.status[~failed] == cm.Status.MISSING).all()
    assert failed.all() or not row.copies
    assert len(result.values) == 9
    assert result.outcome in (cm.Outcome.UNSATISFIABLE, cm.Outcome.NONE_RUNNING)


@pytest.mark.parametrize("answered", [0, 1])
def test_an_engine_that_has_broken_down_is_told_by_its_own_error(answered):
    lost = fail(cm.EngineError("the scheduler was lost: make a new engine"))
    code = cm.Replication(4, 8)
    with Scripted(8, dict.fromkeys(range(answered, 8), lost)) as engine:
        with pytest.raises(cm.CodedmapError) as told:
            cm.map(np.sin, np.ones((8, 2)), code=code, engine=engine)
        result = cm.map(np.sin, np.ones((8, 2)), code=code, engine=engine, on_error="record")
    if answered:  # a slot may fail so, and others go on
        assert isinstance(told.value, cm.NotEnoughAnswers)
        assert isinstance(told.value.__cause__, cm.EngineError)
    else:
        assert isinstance(told.value, cm.EngineError)
        assert str(told.value) == "the scheduler was lost: make a new engine"
    assert len(result.failed) == 8 - answered
    assert not result.failures  # no row is to blame


def test_it_stops_at_once_when_so_many_calls_failed_that_the_code_cannot_decode():
    script = {1: fail(ValueError("bad weights")), 4: crash(), 0: never(), 2: never()}
    with Scripted(6, script) as engine:
        with pytest.raises(cm.NotEnoughAnswers, match=r"task 1") as caught:
            cm.map(affine, inputs(9), code=cm.Replication(3, 6), engine=engine, **ONCE)
        assert str(caught.value.__cause__) == "bad weights"


def test_it_stops_at_once_when_the_stop_rule_can_never_be_satisfied():
    script = {n: crash() for n in range(3)} | {11: never()}
    code = cm.SplineCode(4, 12, 2)
    with Scripted(12, script) as engine:
        with pytest.raises(cm.NotEnoughAnswers, match=r"3 failed.*Quorum\(10\)"):
            cm.map(affine, inputs(40), code=code, engine=engine, **ONCE)
        result = cm.map(affine, inputs(40), code=code, engine=engine, **ONCE, on_error="record")
        assert result.outcome is cm.Outcome.UNSATISFIABLE
        assert np.isfinite(result.values).all()
        timed = cm.Quorum(10) | cm.Deadline(0.1)
        result = cm.map(affine, inputs(40), code=code, engine=engine, **ONCE, stop=timed)
        assert result.outcome is cm.Outcome.DEADLINE


def test_a_rule_out_of_reach_does_not_matter_when_every_row_is_exact():
    code = cm.Replication(3, 6)
    X = inputs(9)
    with Scripted(6, dict.fromkeys((0, 1, 2), crash())) as engine:
        result = cm.map(affine, X, code=code, engine=engine, **ONCE)
        assert result.exact.all()
        assert set(result.failed) == {0, 1, 2}
        np.testing.assert_array_equal(result.values, affine(X))
    script = dict.fromkeys((0, 1), crash()) | {3: late(0.2), 5: never()}
    with Scripted(6, script) as engine:
        result = cm.map(affine, X, code=code, engine=engine, **ONCE)
        assert result.exact.all()
        assert result.abandoned == (5,)


def test_a_byzantine_worker_among_copies_is_made_up_for_by_waiting_on():
    script = {0: corrupt(lambda a: a[:, :1]), 2: late(0.2)}
    with Scripted(4, script) as engine:
        result = cm.map(
            affine, inputs(6), code=cm.Replication(2, 4), engine=engine, stop=cm.Decodable()
        )
    assert result.rejected == (0,)
    assert result.exact.all()


def test_byzantine_workers_are_reported_and_their_answers_unused():
    script = {3: corrupt(lambda a: a * np.nan), 5: corrupt(lambda a: a.astype(str))}
    code = cm.SplineCode(4, 20, 2)
    with Scripted(20, script) as engine:
        for rows in (40, 43):
            result = cm.map(affine, inputs(rows), code=code, engine=engine, stop=cm.Everyone())
            assert result.rejected == (3, 5)
            assert np.isfinite(result.values).all()


def test_lagrange_waits_on_until_rounding_is_under_control():
    X = inputs(60)
    code = cm.LagrangeCode(6, 24, 12, degree=2)
    script = {n: late(0.15) for n in range(1, 24, 2)}
    with Scripted(24, script) as engine:
        result = cm.map(lambda batch: batch**2, X, code=code, engine=engine, **ONCE)
    assert np.abs(result.values - X**2).max() < 1e-6 * np.abs(X).max() ** 2
    bad = {n: fail(OSError(n)) for n in range(24) if n >= 11}
    with Scripted(24, bad) as engine, pytest.raises(cm.NotEnoughAnswers) as caught:
        cm.map(
            lambda batch: batch**2,
            X,
            code=code,
            engine=engine,
            **ONCE,
        )
    assert "amplifies rounding by" in str(caught.value)
    assert "11 are needed" in str(caught.value)


def test_progress_offers_a_standard_error_where_the_code_has_one():
    offered = []

    class Watching(cm.contracts.StoppingRule):
        def verdict(self, seen):
            offered.append(seen.stderr())
            return None if seen.running else cm.Outcome.EVERYONE

        def wake_after(self, seen):
            return None

    with Scripted(4, {3: late(0.1)}) as engine:
        cm.map(affine, inputs(8), code=cm.Uncoded(4, "mean"), engine=engine, stop=Watching())
    assert offered[-1] is not None


@pytest.mark.parametrize("out", [None, "out.npy"])
@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([1.0, 2.0, 3.0], float),
        ([1, 2, 3], int),
        (range(3), int),
        (np.arange(3), np.int64),
        ([[1.0], [2.0], [3.0]], np.ndarray),
        (["a", "b", "c"], str),
    ],
)
def test_a_batch_of_a_code_is_an_array_and_a_single_row_is_as_it_was_given(
    rows, kind, out, tmp_path
):
    seen = []

    def fn(given):
        seen.append(type(given))
        return len(given) * np.ones(len(given)) if batches else 1.0

    for batches in (True, False):
        with Scripted(4) as engine:
            cm.map(
                fn if batches else cm.itemwise(fn), rows, code=cm.Replication(2, 4), engine=engine,
                out=out and tmp_path / f"{batches}{out}", **ONCE,
            )  # fmt: skip
        assert all(issubclass(one, np.ndarray if batches else kind) for one in seen)
        seen.clear()


@pytest.mark.parametrize(
    ("fn", "rows", "code", "seconds"),
    [
        (affine, inputs(40), None, 0.9),
        (cm.itemwise(len), ["a"] * 40, None, 1.0),
        (affine, inputs(40), cm.KernelCode(2, 4, 1), 0.9),
        (affine, inputs(40), cm.SplineCode(2, 4, 1), 1.0),
    ],
)
@pytest.mark.filterwarnings("ignore:.* MISSING")
def test_a_tenth_of_a_deadline_is_left_where_rows_are_estimated_at_its_end(
    fn, rows, code, seconds, monkeypatch
):
    engine = Virtual(4, lambda worker, had: 0.04 if had < 5 and worker % 2 else 1e6)
    engine.install(monkeypatch)
    result = cm.map(fn, rows, code=code, engine=engine, deadline=1.0, hedge=None, chunk=2)
    assert result.outcome is cm.Outcome.DEADLINE
    assert engine.now == pytest.approx(seconds)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_rows_of_which_every_call_crashed_are_computed_in_the_end_unless_retries_are_0(retries):
    crashes = [crash()] * (retries + 1)
    options = {"code": cm.Uncoded(2), "retries": retries, "hedge": None, "on_error": "record"}
    with Scripted(2, {0: crashes, 1: crashes}) as engine:
        result = cm.map(affine, inputs(4), engine=engine, **options)
    assert result.exact.all() == (retries > 0)
    assert result.calls.count("crashed") == 2 * (retries + 1)


def test_progress_with_a_code_is_of_its_answers(capsys, monkeypatch):
    monkeypatch.setattr("codedmap.results.progress_bar._SELDOM", 0.0)
    with Scripted(6) as engine:
        cm.map(affine, inputs(10), code=cm.Replication(4, 6), engine=engine, progress=True, **ONCE)
    assert " of 18 answers" in capsys.readouterr().err  # of 3 groups


def test_answers_with_parts_beside_rows_that_raised_are_not_used():
    def fn(x):
        if x != int(x):
            raise ValueError("a mixture")
        return {"y": x} if x < 4 else x

    code = cm.LagrangeCode(2, 6, 1, degree=1)
    with Scripted(6) as engine:
        result = cm.map(
            cm.itemwise(fn), np.arange(13.0), code=code, engine=engine, on_error="record"
        )
    np.testing.assert_array_equal(result.values[result.exact], np.arange(7.0, 13.0))


def test_numbers_of_a_memory_map_do_not_become_text_beside_an_answer_that_is_text(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3.0))
    lazy = np.load(tmp_path / "x.npy", mmap_mode="r")

    def fn(batch):
        return ["none" if x == 0 else np.int32(x) for x in batch]

    with Scripted(3) as engine:
        result = cm.map(fn, lazy, code=cm.Uncoded(3), engine=engine)
    assert result.values.tolist() == ["none", 1.0, 2.0]


def test_exact_rows_of_a_code_without_standard_errors_have_0_beside_failed_ones():
    def fn(batch):
        return batch / (batch != 1.0)

    options = {"chunk": 1, "on_error": "record"}
    with Scripted(3) as engine, np.errstate(all="raise"):
        result = cm.map(fn, np.arange(3.0), code=cm.SplineCode(1, 3, 1), engine=engine, **options)
    np.testing.assert_array_equal(result.stderr, [0.0, np.inf, 0.0])
    np.testing.assert_array_equal(result.exact, [True, False, True])


def test_rows_computed_without_the_code_may_have_parts_and_fail():
    def fn(batch):
        if 2.0 in batch:
            raise ValueError("two")
        return {"y": batch, "both": np.stack([batch, batch], axis=1)}

    with Scripted(2, dict.fromkeys(range(2), [crash()] * 3)) as engine:
        result = cm.map(
            fn, np.arange(4.0), code=cm.Replication(1, 2), engine=engine, on_error="record"
        )
    np.testing.assert_array_equal(result.values["y"], [0.0, 1.0, np.nan, 3.0])
    np.testing.assert_array_equal(result.stderr["both"][1:3], [[0.0, 0.0], [np.inf, np.inf]])
    assert list(result.failures) == [2]


@pytest.mark.parametrize(("chunk", "calls"), [("all", 4), (8, 5), (None, 5)])
def test_payloads_that_are_bound_to_workers_are_not_sent_to_others(chunk, calls):
    options = {"stop": cm.Everyone(), "hedge": None, "chunk": chunk}
    with Scripted(4, {1: [crash()]}) as engine:
        result = cm.map(affine, inputs(8), code=cm.Replication(2, 4), engine=engine, **options)
        assert len(engine.calls) == calls
    assert result.exact.all()


@pytest.mark.parametrize(("numbers", "rows"), [(128, 4), (1024, 1), (2048, 1)])
def test_a_row_larger_than_what_is_encoded_at_once_is_encoded_alone(
    numbers, rows, tmp_path, monkeypatch
):
    seen = set()

    def fn(batch):
        seen.add(len(batch))
        return batch[:, 0]

    monkeypatch.setattr("codedmap.api.map._CHUNK_BYTES", 1 << 14)
    X, code = np.ones((8, numbers)), cm.Replication(2, 4)
    with Scripted(4) as engine:
        result = cm.map(fn, X, code=code, engine=engine, out=tmp_path / "out.npy", **ONCE)
    assert result.exact.all()
    assert seen == {rows}


@pytest.mark.real_time
def test_a_plan_may_be_made_before_there_is_a_worker():
    with ScriptedCluster([None]) as engine:
        engine.leave(0)
        threading.Timer(0.05, engine.join).start()
        result = cm.map(affine, inputs(8), code="auto", engine=engine)
    assert result.exact.all()


@pytest.mark.real_time
def test_what_estimates_need_is_imported_before_the_time_begins():
    source = """if True:
        import sys
        import numpy as np, codedmap as cm
        from concurrent.futures import ThreadPoolExecutor

        def fn(batch):
            print("scipy.optimize" in sys.modules)
            return batch

        with ThreadPoolExecutor(1) as pool:
            for deadline in (None, 60.0):
                cm.map(fn, np.ones((3, 1)), engine=pool, deadline=deadline, chunk=3)
        """
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_a_resident_function_is_sent_once_and_again_after_a_crash():
    with Scripted(4, {1: [crash()]}) as engine:
        fn = cm.engines.Resident(affine, engine)
        code = cm.SplineCode(2, 4, 1)
        first = cm.map(fn, inputs(6), code=code, engine=engine, **ONCE)
        assert set(first.failed) == {1}
        again = cm.map(fn, inputs(6), code=code, engine=engine, stop=cm.Everyone())
        assert again.answered == (0, 1, 2, 3)
        cm.map(fn, inputs(6), engine=engine, chunk=1)
        cm.map(fn, inputs(6), engine=engine, chunk=1)
        assert sum(map(len, engine._kept.values())) == 4 + 4, "for codes, and for rows"
    with (
        Scripted(4) as other,
        pytest.raises(cm.InvalidArgument, match=r"another engine.*engine=fn\.engine"),
    ):
        cm.map(fn, inputs(6), code=code, engine=other)


@pytest.mark.real_time
def test_any_executor_is_an_engine_and_stragglers_do_not_hold_the_caller():
    go_on, calls = threading.Event(), itertools.count()

    def fn(batch):
        if next(calls) < 2:
            go_on.wait(60.0)
        return affine(batch)

    with ThreadPoolExecutor(12) as pool:
        result = cm.map(
            fn, inputs(30), code=cm.SplineCode(5, 12, 2), engine=pool, hedge=None, chunk="all"
        )
        go_on.set()
    assert len(result.answered) == 10
    assert len(result.abandoned) == 2


def test_with_fewer_workers_than_slots_one_warning_says_what_that_means():
    with Scripted(4, {3: late(0.05)}) as engine:
        with pytest.warns(UserWarning, match="12 workers and the engine 4") as caught:
            result = cm.map(affine, inputs(30), code=cm.SplineCode(5, 12, 2), engine=engine)
        assert len(caught) == 1
    assert len(result.answered) >= 10


def test_itemwise_lifts_a_function_of_one_input():
    with Scripted(4) as engine:
        result = cm.map(
            cm.itemwise(lambda x: x.sum()), inputs(8), code=cm.Uncoded(4), engine=engine
        )
    np.testing.assert_allclose(result.values, inputs(8).sum(axis=1))


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("code", [cm.Replication(3, 6), cm.KernelCode(3, 6, 1, spread=0)])
def test_numbers_of_a_list_are_pythons_own_with_a_code_too(code, chunk):
    """NumPy's overflowed; and a worker with numbers that no int64 holds counted as Byzantine."""

    @cm.itemwise
    def power(number):
        if number == 5:
            raise ValueError("five")
        return number**40 if number in (3, 11) else number

    given = list(range(14))
    options = {"on_error": "record", "chunk": chunk}
    with Scripted(6) as engine:
        result = cm.map(power, given, code=code, engine=engine, **options)
        alone = cm.map(power, given, engine=engine, **options)
        numbers = cm.map(cm.itemwise(lambda n: n**40), given, code=code, engine=engine)
    assert [repr(value) for value in result.values] == [repr(value) for value in alone.values]
    assert list(result.failures) == [5]
    assert not result.rejected
    assert numbers.values.tolist() == [number**40 for number in given]


def test_the_callers_arrays_are_safe_from_fn_in_an_engine_of_threads():
    def rude(batch):
        batch += 1
        return batch

    X = inputs(8)
    with Scripted(4) as engine, pytest.raises(cm.NotEnoughAnswers) as caught:
        cm.map(rude, X, code=cm.Uncoded(4), engine=engine)
    assert isinstance(caught.value.__cause__, ValueError)
    np.testing.assert_array_equal(X, inputs(8))


def test_the_summary_says_what_happened():
    script = {0: never(), 1: crash(), 2: corrupt(lambda a: a[:1])}
    with Scripted(8, script) as engine:
        result = cm.map(
            affine, inputs(8), code=cm.Replication(2, 8), engine=engine, **ONCE, stop=cm.Quorum(6)
        )
    text = str(result)
    for part in (
        "6 of 8 workers answered",
        "enough workers had answered",
        "8 of 8 exact",
        "abandoned  1: worker 0",
        "rejected   1: worker 2",
        "failed     1: worker 1",
        "WorkerCrashed",
    ):
        assert part in text, text
    odd = Scripted(2)
    shown = str(cm.map(lambda b: b - np.inf, np.zeros((2, 1)), code=cm.Uncoded(2), engine=odd))
    assert "2 with entries that are not finite" in shown


@pytest.mark.real_time
def test_faulty_adds_real_faults_to_another_engine():
    with ThreadPoolExecutor(8) as pool:
        engine = Faulty(cm.engines.FromExecutor(pool, 8), {2: fail(OSError("disk")), 3: late(0.2)})
        result = cm.map(affine, inputs(8), code=cm.SplineCode(2, 8, 2), engine=engine)
    assert 3 not in result.answered
    assert set(result.failed) <= {2}


@pytest.mark.real_time
def test_an_fn_that_exits_fails_its_row_and_not_the_caller():
    def leaving(batch):
        if batch[0, 0] == 7.0:
            raise SystemExit(3)
        return affine(batch)

    X = inputs(8)
    X[0] = 7.0
    with ThreadPoolExecutor(8) as pool:
        result = cm.map(
            leaving,
            X,
            code=cm.Uncoded(8, fill="mean"),
            engine=pool,
            stop=cm.Everyone(),
            on_error="record",
        )
    assert isinstance(result.failures[0], SystemExit)
    assert result.exact.sum() == 7


def test_without_throw_a_flagged_result_still_names_the_byzantine_workers_and_rounds_nothing():
    code = cm.SplineCode(4, 10, 2)
    with Scripted(10) as engine:
        result = cm.map(
            lambda b: affine(b) * np.nan,
            inputs(8),
            code=code,
            engine=engine,
            **ONCE,
            on_error="record",
        )
    assert result.rejected == tuple(range(10))
    assert np.isnan(result.values).all()
    large = np.arange(3) + 2**60
    with Scripted(3, {1: crash()}) as engine:
        result = cm.map(
            lambda b: b, large, code=cm.Uncoded(3), engine=engine, **ONCE, on_error="record"
        )
        assert result.values.tolist()[0::2] == [2**60, 2**60 + 2]
    days = np.array(["2026-01-01", "2026-01-02"], "M8[D]")
    with Scripted(2, {1: crash()}) as engine:
        result = cm.map(
            lambda b: b, days, code=cm.Uncoded(2), engine=engine, **ONCE, on_error="record"
        )
        assert result.values.dtype == days.dtype
        assert np.isnat(result.values[1])


def test_a_first_answer_of_absurd_size_is_a_byzantine_workers():
    script = {0: corrupt(lambda a: np.broadcast_to(np.float64(0), (2, 10**13)))}
    with Scripted(10, script) as engine:
        result = cm.map(
            affine, inputs(8), code=cm.SplineCode(4, 10, 2), engine=engine, stop=cm.Everyone()
        )
    assert result.rejected == (0,)


@every
@drawn(2, 4, seed=st.integers(0, 2**31))
def test_the_order_of_arrival_is_irrelevant(row, seed):
    code = row.make(4, 14, 2)
    X = inputs(9)
    rng = np.random.default_rng(seed)

    def arriving(order):
        engine = ByHand(code.workers)
        results = cm.stream(noisy, X, code=code, engine=engine, stop=cm.Everyone())
        engine.answer(*order)
        return next(results).values

    def noisy(batch):
        return affine(batch) + 0.01 * np.sin(1e6 * batch[:, :2])

    straight = arriving(range(code.workers))
    shuffled = arriving(rng.permutation(code.workers).tolist())
    np.testing.assert_allclose(shuffled, straight, rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class Arranged:
    """Another code, with rows cut in an order of its own."""

    code: Any
    order: Callable[[np.ndarray], Any]

    @property
    def tasks(self):
        return self.code.tasks

    @property
    def workers(self):
        return self.code.workers

    @property
    def stragglers(self):
        return self.code.stragglers

    def encode(self, block):
        return self.code.encode(block)

    def arranged(self, rows):
        return self.order(rows)


@given(rows=st.integers(1, 60), tasks=st.integers(2, 6), lost=st.integers(0, 5), data=st.data())
@settings(max_examples=50)
@pytest.mark.parametrize("fill", ["mean", None])
def test_rows_are_cut_as_the_code_arranges_them_and_come_back_as_they_were(
    fill, rows, tasks, lost, data
):
    order = np.array(data.draw(st.permutations(range(rows))))
    lost %= tasks
    X = inputs(rows)
    code = Arranged(cm.Uncoded(tasks, fill), lambda given: order)
    with Scripted(tasks, {lost: crash()}) as engine:
        result = cm.map(
            affine, X, code=code, engine=engine, **ONCE, stop=cm.Everyone(), on_error="record"
        )
        groups = -(-rows // tasks)
        [first] = engine.calls[0][1].parts
        np.testing.assert_array_equal(first, X[order[:groups]])
    gone = np.isin(np.arange(rows), order[lost * groups : (lost + 1) * groups])
    np.testing.assert_array_equal(result.exact, ~gone)
    np.testing.assert_array_equal(result.values[~gone], affine(X)[~gone])
    if result.stderr is not None:
        np.testing.assert_array_equal(result.row_stderr() > 0, gone)
    if fill is None:
        assert np.isnan(result.values[gone]).all()


def test_a_code_may_leave_rows_as_they_are():
    X = inputs(10)
    with Scripted(3) as engine:
        code = Arranged(cm.Uncoded(3), lambda rows: None)
        result = cm.map(affine, X, code=code, engine=engine)
    np.testing.assert_array_equal(result.values, affine(X))


def test_the_order_may_depend_on_the_rows():
    X = inputs(12)
    with Scripted(3) as engine:
        code = Arranged(cm.Uncoded(3), lambda rows: np.argsort(rows[:, 0]))
        result = cm.map(affine, X, code=code, engine=engine)
        heads = np.concatenate([payload.parts[0][:, 0] for _, payload in engine.calls])
    assert (np.diff(heads) > 0).all()
    np.testing.assert_array_equal(result.values, affine(X))


@pytest.mark.parametrize(
    "order",
    [
        np.arange(5),
        np.arange(7),
        np.arange(6.0),
        np.array([0, 1, 2, 3, 4, 4]),
        np.array([0, 1, 2, 3, 4, 6]),
        np.array([0, 1, 2, 3, 4, -1]),
        np.arange(6)[:, None],
        np.ones(6, bool),
    ],
)
def test_an_arrangement_that_would_lose_rows_is_refused(order):
    code = Arranged(cm.Uncoded(3), lambda rows: order)
    with Scripted(3) as engine:
        with pytest.raises(cm.InvalidArgument, match="each of the numbers 0 to 5 once"):
            cm.map(affine, inputs(6), code=code, engine=engine)
        assert not engine.calls


def test_a_number_of_numpy_is_a_chunk_as_well():
    with Scripted(4) as engine:
        result = cm.map(
            np.sin, np.arange(12.0), code=cm.Replication(2, 4), engine=engine, chunk=np.int64(2)
        )
    assert {call.chunk for call in result.calls} == {0, 1, 2}


@pytest.mark.parametrize("code", [None, cm.SplineCode(4, 8, 1), "auto"])
def test_what_is_imported_takes_none_of_the_time_until_the_deadline(code, monkeypatch):
    engine = Virtual(8, lambda worker, had: math.inf if worker == 2 else 0.5)
    engine.install(monkeypatch)
    monkeypatch.setattr("codedmap.api.map.import_what_is_used", lambda: engine.sleep(2.0))
    result = cm.map(np.sin, np.arange(40.0), code=code, engine=engine, deadline=1.0, hedge=None)
    assert engine.now >= 2.0
    assert (result.status <= cm.Status.ESTIMATED).all()
    assert result.seconds <= 1.0


def test_a_call_that_crashes_is_made_three_times_by_default():
    with Scripted(8, dict.fromkeys(range(8), crash())) as engine:
        result = cm.map(np.sin, np.ones((1, 2)), engine=engine, on_error="record")
    assert str(result.calls) == "3 calls: 3 crashed (2 retries)"
    assert result.status.tolist() == [cm.Status.FAILED]


@pytest.mark.parametrize(
    ("code", "share"), [(cm.BerrutCode(4, 6, 1), 1.0), (cm.KernelCode(4, 6, 1), 0.9)]
)
def test_a_tenth_of_a_deadline_is_for_estimates_from_all_answers_of_the_job(code, share):
    with Scripted(6, {4: never(), 5: never()}) as engine:
        result = cm.map(np.sin, inputs(8), code=code, engine=engine, deadline=10.0, **ONCE)
    assert result.outcome is cm.Outcome.DEADLINE
    ends = [call.start + call.seconds for call in result.calls if call.outcome == "abandoned"]
    assert ends == [pytest.approx(10.0 * share, abs=0.01)] * 2


def test_with_a_deadline_no_more_answers_are_waited_for_than_a_code_needs():
    with Scripted(6, {5: never()}) as engine:
        result = cm.map(
            np.sin, inputs(8), code=cm.BerrutCode(4, 6, 1), engine=engine, deadline=10.0, **ONCE
        )
    assert result.outcome is not cm.Outcome.DEADLINE
    assert result.abandoned == (5,)
