"""Jobs with a code on engines: when they end, rows that raise, chunks, and replays."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import codedmap as cm
from codedmap.execution.chunk_rows import ChunkRows
from codedmap.execution.chunks import ChunkScheduler
from codedmap.execution.coded import CodedMap
from codedmap.execution.events import Loss
from codedmap.execution.inputs import InputRows
from codedmap.execution.job_rows import JobRows
from codedmap.execution.uncoded import KeptTasks
from codedmap.testing import Scripted, corrupt, crash, fail, late, never

from ..repeats import crossed, first
from ..virtual import Virtual
from .test_live import logged

pytestmark = pytest.mark.usefixtures("virtual_time")


def squares(batch: np.ndarray) -> np.ndarray:
    return batch**2


def called(script, stop=None, code=None, **options):
    code = cm.Replication(2, 6) if code is None else code
    stop = cm.Quorum(code.workers) if stop is None else stop
    X = np.arange(8.0).reshape(4, 2)
    with Scripted(code.workers, script) as engine:
        options = {"hedge": None, "retries": 0, **options}
        return X, cm.map(squares, X, code=code, engine=engine, stop=stop, **options)


def test_an_answer_that_makes_a_chunk_decodable_is_not_waited_for_if_too_few_can_come():
    script = dict.fromkeys(range(5), fail(OSError("disk full"))) | {5: never()}
    refused = pytest.raises(cm.NotEnoughAnswers, match="disk full")
    with Scripted(6, script) as engine, refused:
        cm.map(squares, np.ones((6, 2)), code=cm.KernelCode(3, 6, 1), engine=engine, hedge=None)


def test_where_every_row_is_there_a_rule_out_of_reach_is_not_waited_for():
    X, result = called({0: [crash()], 5: [late(60.0)]})
    assert result.outcome is cm.Outcome.EXACT
    assert result.abandoned == (5,)
    np.testing.assert_array_equal(result.values, X**2)


def test_where_a_row_may_still_come_exact_a_rule_out_of_reach_is_no_reason_to_end():
    X, result = called({0: [crash()], 2: [crash()], 4: [late(0.2)]})
    assert result.outcome is not cm.Outcome.UNSATISFIABLE
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, X**2)


def test_where_a_row_can_only_be_estimated_a_rule_out_of_reach_ends_the_call():
    script = {0: [crash()], 2: [crash()], 4: [crash()], 5: [late(60.0)]}
    _, result = called(script, code=cm.Replication(2, 6, fill="mean"))
    assert result.outcome is cm.Outcome.UNSATISFIABLE
    assert result.abandoned == (5,)


def test_a_rule_out_of_reach_does_not_end_a_job_before_it_can_be_decoded():
    script = {0: fail(OSError(0)), 5: late(60.0)} | {slot: late(0.1) for slot in range(1, 5)}
    X, result = called(script, code=cm.SplineCode(2, 6, 2))
    assert result.outcome is cm.Outcome.UNSATISFIABLE
    assert (result.status == cm.Status.ESTIMATED).all()
    assert np.isfinite(result.values).all()
    assert len(X) == len(result.values)


def test_without_a_rule_of_ones_own_one_that_is_out_of_reach_is_an_error():
    script = {0: fail(OSError(0)), 1: fail(OSError(1)), 2: fail(OSError(2)), 5: late(60.0)}
    code = cm.SplineCode(2, 6, 2)
    refused = pytest.raises(cm.NotEnoughAnswers, match=r"Quorum\(4\).*more than could still come")
    with Scripted(6, script) as engine, refused:
        cm.map(squares, np.ones((4, 2)), code=code, engine=engine, retries=0)


# Rows of which one raises


@cm.itemwise
def picky(row):
    if row[0] == 7.0:
        raise ValueError("seven")
    return row**2


def seven(rows=12, at=4):
    X = np.random.default_rng(0).normal(size=(rows, 2))
    X[at] = 7.0
    return X


@pytest.mark.parametrize("chunk", [None, 2, "all"])
@pytest.mark.parametrize("stop", [None, cm.Everyone()])
def test_a_row_that_raises_costs_itself(chunk, stop):
    X = seven()
    options = {"code": cm.Replication(3, 6), "stop": stop, "chunk": chunk}
    with Scripted(6) as engine:
        result = cm.map(picky, X, engine=engine, on_error="record", **options)
        assert list(result.failures) == [4]
        assert str(result.failures[4]) == "seven"
        assert result.status[4] == cm.Status.FAILED
        others = np.arange(12) != 4
        assert result.exact[others].all()
        np.testing.assert_array_equal(result.values[others], X[others] ** 2)
        assert np.isnan(result.values[4]).all()
        with pytest.raises(cm.errors.RowFailed, match=r"row 4 failed on worker \d with ValueError"):
            cm.map(picky, X, engine=engine, **options)


def test_a_row_that_raises_once_is_exact_where_another_copy_answers():
    raised = []

    @cm.itemwise
    def once(row):
        if row[0] == 7.0 and not raised:
            raised.append(row)
            raise ValueError("once")
        return row**2

    X = seven()
    with Scripted(6) as engine:
        result = cm.map(once, X, code=cm.Replication(3, 6), engine=engine, stop=cm.Everyone())
    assert result.exact.all()
    assert result.failures == {}
    np.testing.assert_array_equal(result.values, X**2)


def test_a_row_that_raises_among_rows_in_another_order_is_named_as_given():
    X = seven(rows=24, at=17)
    code = cm.KernelCode(6, 8, 1)
    with Scripted(8) as engine:
        result = cm.map(picky, X, code=code, engine=engine, on_error="record", stop=cm.Everyone())
    assert list(result.failures) == [17]
    assert np.isnan(result.values[17]).all()
    assert np.isinf(result.stderr[17]).all()
    assert (result.status != cm.Status.FAILED).sum() == 23


def test_a_mixture_that_raises_is_an_answer_that_is_missing():
    @cm.itemwise
    def positive(row):
        if row[0] > 0.9:
            raise ValueError("too large")
        return row

    X = np.linspace(0, 1, 12)[:, None]
    with Scripted(8) as engine:
        result = cm.map(positive, X, code=cm.SplineCode(3, 8, 3), engine=engine)
    assert result.failures == {}
    assert result.failed
    assert np.abs(result.values - X).max() < 0.1


# Chunks


@pytest.mark.parametrize(
    "code",
    [
        cm.Uncoded(4),
        cm.Replication(4, 8),
        cm.LagrangeCode(4, 12, 2, degree=2),
        cm.BerrutCode(4, 8, 2),
        cm.SplineCode(4, 8, 2),
    ],
    ids=lambda code: type(code).__name__,
)
@pytest.mark.parametrize("rows", [1, 5, 32, 43])
def test_chunks_are_decoded_apart_and_give_the_same_rows(code, rows):
    X = np.random.default_rng(rows).normal(size=(rows, 3))
    with Scripted(code.workers) as engine:
        options = {"code": code, "engine": engine, "stop": cm.Everyone()}
        whole = cm.map(squares, X, **options)
        for chunk in (1, 3):
            parts = cm.map(squares, X, chunk=chunk, **options)
            np.testing.assert_allclose(parts.values, whole.values, atol=1e-9)
            np.testing.assert_array_equal(parts.status, whole.status)
            groups = -(-rows // code.tasks)
            assert len({call.chunk for call in parts.calls}) == -(-groups // chunk)


def test_a_slow_call_holds_up_nothing_that_its_code_can_do_without():
    with Scripted(4, {0: [late(60.0)]}) as engine:
        result = cm.map(
            squares, np.ones((40, 2)), code=cm.Replication(2, 4), engine=engine, chunk=2, hedge=None
        )
    assert result.exact.all()
    assert result.seconds < 12.0
    assert {call.chunk for call in result.calls} == set(range(10))


def test_at_the_deadline_finished_chunks_are_kept_and_others_missing(monkeypatch):
    engine = Virtual(2, lambda worker, had: 5.0 if had else 0.0)
    engine.install(monkeypatch)
    X = np.arange(12.0).reshape(6, 2)
    result = cm.map(squares, X, code=cm.Uncoded(2), engine=engine, chunk=1, deadline=0.3)
    assert result.outcome is cm.Outcome.DEADLINE
    done = result.status == cm.Status.EXACT
    np.testing.assert_array_equal(np.flatnonzero(done), [0, 3])
    assert (result.status[~done] == cm.Status.MISSING).all()
    np.testing.assert_array_equal(result.values[done], X[done] ** 2)
    assert np.isnan(result.values[~done]).all()


@pytest.mark.parametrize(
    ("code", "limit", "out"),
    crossed(
        [cm.KernelCode(2, 2, 0), cm.Uncoded(2, fill="mean"), cm.Replication(2, 2, fill="mean")],
        [{"stop": cm.Deadline(0.3)}, {"tolerance": 0.0, "deadline": 0.6}],
        [None, "out.npy"],
    ),
)
def test_at_the_deadline_chunks_that_were_not_begun_are_estimated(
    code, limit, out, monkeypatch, tmp_path
):
    """Rows of finished chunks were, and the others MISSING, though the code estimates from all answers."""
    monkeypatch.chdir(tmp_path)
    engine = Virtual(2, lambda worker, had: 0.0 if had < 5 else 5.0)
    engine.install(monkeypatch)
    X = np.random.default_rng(0).uniform(size=(20, 2))
    options = {} if out is None else {"out": out}
    result = cm.map(squares, X, code=code, engine=engine, chunk=1, **limit, **options)
    assert result.outcome is cm.Outcome.DEADLINE
    exact = result.exact
    assert exact.sum() == 10
    assert (result.status[~exact] == cm.Status.ESTIMATED).all()
    assert (result.stderr[~exact] > 0).all()
    assert np.isfinite(result.stderr).all()
    np.testing.assert_allclose(result.values, X**2, atol=0.2)
    if out is not None:  # rows of a chunk are read together
        assert np.flatnonzero(exact).max() > 10


@pytest.mark.parametrize(("answered", "status"), [(1, cm.Status.MISSING), (2, cm.Status.ESTIMATED)])
def test_one_answer_says_nothing_of_others(answered, status):
    code, X = cm.KernelCode(3, 3, 0), np.array([[1.0], [3.0], [2.0]])
    with Scripted(3, {worker: never() for worker in range(answered, 3)}) as engine:
        result = cm.map(squares, X, code=code, engine=engine, stop=cm.Quorum(answered), hedge=None)
    exact = np.arange(3) < answered
    assert result.status.tolist() == np.where(exact, cm.Status.EXACT, status).tolist()
    assert (np.isnan(result.values[~exact]) == (status == cm.Status.MISSING)).all()
    assert (np.isinf(result.stderr[~exact]) == (status == cm.Status.MISSING)).all()


@pytest.mark.parametrize("chunk", [None, 2])
def test_known_answers_with_other_outputs_than_those_of_mixtures_are_not_used(chunk):
    """All answers had come, and the job ended with an error of NumPy's."""
    X, known = (np.random.default_rng(seed).uniform(size=(24, 2)) for seed in (0, 1))
    options = {"code": cm.KernelCode(3, 5, 1), "chunk": chunk, "hedge": None}
    results = []
    for answers in (None, (known, np.stack([known.sum(1)] * 2, 1))):
        with Scripted(5, {0: never()}) as engine:
            if answers is None:
                results.append(cm.map(np.sum, X, kwargs={"axis": 1}, engine=engine, **options))
                continue
            with pytest.warns(
                UserWarning, match="have 2 numbers a row, and those of fn 1: they are"
            ):
                results.append(
                    cm.map(np.sum, X, kwargs={"axis": 1}, engine=engine, known=answers, **options)
                )
    alone, beside = results
    assert (beside.status == alone.status).all()
    np.testing.assert_array_equal(beside.values, alone.values)


@pytest.mark.parametrize("out", [None, "out.npy"])
@pytest.mark.parametrize("dtype", ["i8", "?", "U5"])
def test_a_task_that_only_fills_up_a_group_changes_no_dtype(dtype, out, monkeypatch, tmp_path):
    """Whole numbers became floats where it had no answer, which an output of these does not hold."""
    monkeypatch.chdir(tmp_path)
    X = np.arange(4.0)  # of three tasks in two groups
    options: dict = {"code": cm.Uncoded(3), "stop": cm.Deadline(0.3), "hedge": None}
    script = {2: never()}
    if out is not None:
        options |= {"out": out, "chunk": 1}
        script = {1: [cm.testing.Act(), never()], 2: [cm.testing.Act(), never()]}
    with Scripted(3, script) as engine:
        result = cm.map(lambda batch: batch.astype(dtype), X, engine=engine, **options)
    assert result.exact.all()
    assert result.values.dtype == dtype
    np.testing.assert_array_equal(result.values, X.astype(dtype))


@pytest.mark.parametrize("chunk", first(1, [None, 4]))
@pytest.mark.parametrize("code", [cm.Uncoded(3, fill="mean"), cm.KernelCode(3, 3, 2)])
@pytest.mark.parametrize("stop", [cm.Quorum(1), cm.Tolerance(0.0) | cm.Deadline(0.3)], ids=str)
def test_one_answer_of_each_group_tells_of_the_others(code, stop, chunk):
    """Rows of copies were MISSING: one answer has no spread, though there are those of other groups."""
    X = np.random.default_rng(0).uniform(size=(30, 2))
    options = {"code": code, "stop": stop, "chunk": chunk, "hedge": None}
    with Scripted(3, {1: never(), 2: never()}) as engine:
        result = cm.map(squares, X, engine=engine, **options)
        *_, last = cm.stream(squares, X, engine=engine, **options)
    for one in (result, last):
        estimated = one.status == cm.Status.ESTIMATED
        assert one.exact.sum() >= 4
        assert (one.exact | estimated).all()
        assert (one.stderr[estimated] > 0).all()
        assert np.isfinite(one.stderr).all()
        assert np.isfinite(one.values).all()


def test_an_answer_that_is_not_confirmed_is_missing():
    code = cm.Replication(2, 4, confirm=2)
    with Scripted(4, {0: never(), 2: corrupt(lambda answer: answer + 5.0)}) as engine:
        result = cm.map(
            squares, np.ones((6, 2)), code=code, engine=engine, stop=cm.Quorum(3), hedge=None
        )
    exact = np.arange(6) >= 3
    assert result.status.tolist() == np.where(exact, cm.Status.EXACT, cm.Status.MISSING).tolist()
    assert np.isnan(result.values[~exact]).all()


@pytest.mark.parametrize("lost", [crash(), fail(OSError("disk full"))])
def test_without_a_rule_of_ones_own_answers_that_cannot_be_confirmed_are_an_error(lost):
    """Each row was answered once, and the result had rows that were FAILED or MISSING."""
    X, options = np.ones((9, 2)), {"code": cm.Replication(3, 6, confirm=2), "retries": 0}
    refused = pytest.raises(cm.NotEnoughAnswers, match=r"no call was left.* more than could still")
    with Scripted(6, {0: lost}) as engine, refused:
        cm.map(squares, X, engine=engine, **options)
    with Scripted(6, {0: lost}) as engine:
        assert cm.map(squares, X, engine=engine, on_error="record", **options).exact.sum() == 6


@pytest.mark.parametrize("code", [cm.Replication(3, 9), cm.KernelCode(4, 8, 2)], ids=repr)
def test_one_worker_that_answers_soon_in_another_form_costs_no_job(code):
    """It was sent all hedges, as others were late, and several answers of one worker counted as those of several."""
    X = np.random.default_rng(0).random((24, 2))
    script = {0: corrupt(lambda a: None), **{n: late(0.1) for n in range(1, code.workers)}}
    for stop in (None, cm.Decodable(), cm.Tolerance(0.0)):
        with Scripted(code.workers, script) as engine:
            result = cm.map(squares, X, code=code, engine=engine, stop=stop)
        assert result.rejected == (0,)
        assert result.exact.any()
        np.testing.assert_array_equal(result.values[result.exact], squares(X)[result.exact])
        several = pytest.raises(cm.InvalidAnswer, match=r"[2-9] of [2-9] workers")
        with Scripted(code.workers, script) as engine, several:
            cm.map(lambda batch: None, X, code=code, engine=engine, stop=stop)


def test_a_stream_of_chunks_gives_what_is_finished():
    with Scripted(2, {0: [late(0.0), late(0.2)]}) as engine:
        results = cm.stream(
            squares, np.ones((8, 2)), code=cm.Uncoded(2), engine=engine, chunk=1, hedge=None
        )
        counts = [int(result.exact.sum()) for result in results]
    assert counts == sorted(counts)
    assert counts[0] < 8
    assert counts[-1] == 8


def test_a_live_run_replayed_gives_the_same_decisions():
    code, X = cm.Replication(3, 6), np.random.default_rng(0).normal(size=(60, 2))
    script = {1: [crash(), late(0.05)], 2: [late(0.1)], 4: [fail(ValueError("once"))]}
    with Scripted(6, script) as engine:
        job = CodedMap(
            code,
            engine,
            KeptTasks(squares, engine, checked=False),
            JobRows(InputRows(X)),
            stop=cm.Quorum(5) & cm.Decodable(),
            record=True,
            show=lambda job: None,
            size=4,
            hedge=cm.Hedge(),
            retries=2,
            partial=True,
        )
        log = logged(job)
        result = job.run()
    assert result.exact.all()
    enough = code.encode(np.zeros((3, 1, 2))).decodable
    whole = replace(job.scheduler.job, decodable=lambda chunk, slots: enough(slots))
    replayed = ChunkScheduler(whole)
    decisions = [plain(decision) for event in log for decision in replayed.handle(event)]
    starts = [what[1:] for what in decisions if what[0] == "Start"]
    made = {(call.chunk, call.slot, call.worker, call.kind) for call in result.calls}
    assert {(chunk, slot, worker, kind.value) for _, worker, chunk, slot, kind in starts} == made
    assert replayed.outcome is job.scheduler.outcome
    assert replayed.started == job.scheduler.started


def plain(decision) -> tuple:
    call = getattr(decision, "call", None)
    what = () if call is None else (call.number, call.worker, call.chunk, call.slot, call.kind)
    return (type(decision).__name__, *what)


# What a review found


def test_a_deadline_holds_for_chunks_opened_since():
    script = dict.fromkeys(range(2), late(60.0))
    with Scripted(2, script) as engine, pytest.warns(UserWarning, match="no payload, of 2 rows"):
        result = cm.map(squares, np.ones((4, 1)), code=cm.Uncoded(2), engine=engine, deadline=0.1)
    assert result.outcome is cm.Outcome.DEADLINE
    assert result.seconds < 12.0


def test_answers_that_are_not_believed_are_not_asked_for_for_ever():
    X = seven(rows=19, at=5)
    for script in ({0: [crash()]}, {}):
        with Scripted(1, script) as engine, pytest.warns(UserWarning, match="engine 1"):
            result = cm.map(
                picky,
                X,
                code=cm.KernelCode(3, 6, 1),
                engine=engine,
                on_error="record",
                stop=cm.Everyone(),
            )
        assert len(result.calls) < 30
        assert list(result.failures) == [5]


@pytest.mark.parametrize("answer", [str, lambda x: 2**53 + 1, lambda x: np.datetime64(int(x), "D")])
@pytest.mark.parametrize("code", [cm.Uncoded(2), cm.Replication(2, 4)], ids=["uncoded", "copies"])
def test_a_row_that_raises_changes_no_other_of_any_kind(answer, code):
    @cm.itemwise
    def fn(row):
        if row[0] == 1:
            raise ValueError("one")
        return answer(row[0])

    with Scripted(4) as engine:
        options = {"code": code, "engine": engine, "stop": cm.Everyone()}
        result = cm.map(fn, np.arange(4.0)[:, None], on_error="record", **options)
    assert result.status.tolist() == [0, 2, 0, 0]
    values = [str(result.values[row]) for row in (0, 2, 3)]  # to NumPy 2**53 + 1 is 2.0**53
    assert values == [str(answer(float(row))) for row in (0, 2, 3)]
    assert result.rejected == ()


@pytest.mark.parametrize("answer", [2**53 + 1, np.datetime64(1, "D")])
def test_answers_to_inputs_are_not_rounded_where_mixtures_raise(answer):
    """Integers were float64, and times raised what NumPy says of a sum of times and floats."""

    def fn(batch):
        if (batch % 1).any() or (batch == 2).any():
            raise ValueError("two")
        return np.array([answer] * len(batch))

    with Scripted(3) as engine:
        options = {"code": cm.SplineCode(2, 3, 1), "engine": engine, "chunk": 2}
        result = cm.map(fn, np.arange(4.0)[:, None], on_error="record", **options)
    assert result.status.tolist() == [0, 0, 2, 0]
    kept = [str(result.values[row]) for row in (0, 1, 3)]
    assert kept == [str(answer)] * 3  # to NumPy 2**53 + 1 is 2.0**53


@pytest.mark.parametrize("bad", [(0, 1, 2), (0, 3)])
def test_a_copy_that_raised_costs_nothing_where_the_other_answered(bad):
    asked: dict[float, int] = {}

    @cm.itemwise
    def fn(row):
        asked[row[0]] = asked.get(row[0], 0) + 1
        if row[0] in bad and asked[row[0]] == 1:
            raise ValueError("once")
        return -np.inf if row[0] == 0 else row[0] ** 2

    with Scripted(4) as engine:
        result = cm.map(
            fn,
            np.arange(8.0)[:, None],
            code=cm.Replication(2, 4),
            engine=engine,
            stop=cm.Everyone(),
            on_error="record",
        )
    assert result.exact.all()
    assert result.values.tolist() == [-np.inf, *[row**2 for row in range(1, 8)]]
    assert result.rejected == ()


@pytest.mark.parametrize("second", [crash(), never()])
def test_a_hedge_that_is_lost_is_made_again(second):
    with Scripted(4, {0: never(), 1: [late(0.0), second]}) as engine:
        result = cm.map(
            squares, np.arange(16.0)[:, None], code=cm.Uncoded(4), engine=engine, retries=0
        )
    assert result.exact.all()
    assert result.hedges == 2


@pytest.mark.parametrize("chunk", [None, "all"])
def test_no_slot_waits_for_ever_for_a_worker_that_is_stuck(chunk):
    with Scripted(2, {0: never()}) as engine, pytest.warns(UserWarning, match="engine 2"):
        result = cm.map(
            squares, np.arange(8.0)[:, None], code=cm.Uncoded(4), engine=engine, chunk=chunk
        )
    assert result.exact.all()


def test_it_is_not_exact_where_copies_differ():
    X = np.arange(8.0)[:, None]
    script = {0: late(0.5), 1: corrupt(lambda answer: answer + 1)}
    with Scripted(4, script) as engine:
        result = cm.map(squares, X, code=cm.Replication(2, 4), engine=engine, stop=cm.Quorum(4))
    assert result.outcome is not cm.Outcome.EXACT
    assert not result.exact[4:].any()


def test_no_more_hedges_than_the_rule_needs():
    script = {worker: [never()] for worker in range(7, 12)}
    with Scripted(12, script) as engine:
        X = np.linspace(0, 1, 8)[:, None]
        result = cm.map(squares, X, code=cm.SplineCode(4, 12, 4), engine=engine)
    assert result.hedges == 1


def test_where_every_row_is_exact_late_calls_are_not_waited_for():
    script = {**{worker: [never()] for worker in range(4)}, 5: never()}
    with Scripted(10, script) as engine:
        result = cm.map(
            squares,
            np.arange(3.0)[:, None],
            code=cm.Replication(1, 2),
            engine=engine,
            chunk=1,
            stop=cm.Quorum(2) | cm.Deadline(30),
        )
    assert result.exact.all()
    assert result.seconds < 5


def test_a_time_beside_a_quorum_ends_no_job():
    X = np.arange(12.0)[:, None]
    stop = cm.Deadline(0.05) & cm.Quorum(3)
    with Scripted(4, {3: late(0.2)}) as engine:
        options = {"code": cm.Replication(2, 4), "engine": engine, "chunk": 1, "hedge": None}
        assert cm.map(squares, X, stop=stop, **options).exact.all()


def test_a_batch_that_raises_says_why_its_rows_have_no_answer():
    def fn(batch):
        if (batch == 3).any():
            raise ValueError("three")
        return batch**2

    X = np.arange(8.0)[:, None]
    with Scripted(2) as engine:
        options = {"code": cm.Uncoded(2), "engine": engine, "chunk": 1}
        result = cm.map(fn, X, on_error="record", **options)
        assert result.status.tolist() == [0, 0, 0, 2, 0, 0, 0, 0]
        assert str(result.failures[3]) == "three"
        with pytest.raises(cm.NotEnoughAnswers, match="three"):
            cm.map(fn, X, **options)


def test_an_engine_without_workers_is_refused():
    class Empty(Scripted):
        workers = 0

    with pytest.raises(cm.InvalidArgument, match="has no workers"):
        cm.map(squares, np.ones((2, 1)), code=cm.Uncoded(2), engine=Empty(1))


@pytest.mark.parametrize("code", [cm.LagrangeCode(2, 4, 2, degree=1), cm.SplineCode(2, 4, 2)])
@pytest.mark.parametrize("whole", [False, True])
def test_a_row_that_raises_in_a_hedge_of_its_own_input_fails(code, whole):
    X = np.arange(8.0).reshape(4, 2)

    @cm.itemwise
    def fn(row):
        if row[0] == 2.0:
            raise ValueError("two")
        return int(row.sum()) if whole else float(row.sum())

    script = {worker: [never()] for worker in range(4)}
    options = {"code": code, "hedge": cm.Hedge(after=0.02), "retries": 1}
    options["stop"] = cm.Decodable() | cm.Deadline(5)
    with Scripted(6, script) as engine:
        result = cm.map(fn, X, engine=engine, on_error="record", **options)
        assert result.status.tolist() == [0, 2, 0, 0]
        assert result.values[[0, 2, 3]].tolist() == [1, 9, 13]
        assert str(result.failures[1]) == "two"
    with Scripted(6, script) as engine, pytest.raises(cm.errors.RowFailed, match="row 1"):
        cm.map(fn, X, engine=engine, **options)


def test_the_outcome_is_that_of_the_chunk_that_lacks_most():
    script = {
        0: [late(0.0), late(0.0), crash()],
        1: [late(0.0), corrupt(lambda answer: answer + 1)],
    }
    with Scripted(2, script) as engine, pytest.warns(UserWarning, match="engine 2"):
        result = cm.map(
            lambda batch: batch.sum(axis=1),
            np.arange(5.0).reshape(5, 1),
            code=cm.Replication(2, 4),
            engine=engine,
            chunk=2,
            retries=0,
            stop=cm.Quorum(4),
        )
    assert not result.exact.all()
    assert result.outcome is not cm.Outcome.EXACT


@pytest.mark.parametrize(
    "code",
    [
        cm.Uncoded(6),
        cm.Uncoded(6, fill="mean"),
        cm.Replication(3, 6),
        cm.Replication(3, 6, fill="mean"),
        cm.KernelCode(5, 6, 1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_worker_that_never_answers_does_not_hold_up_rows_that_raise(code, share):
    X = np.random.default_rng(0).uniform(size=(60, 3))

    def raising(batch):
        if batch[0, 0] < share:
            raise ValueError("no")
        return batch[:, 0]

    with Scripted(6, {0: [never()] * 9}) as engine:
        result = cm.map(raising, X, code=code, engine=engine, on_error="record", max_failures=None)
    assert result.seconds < 10
    assert not result.exact.all()
    np.testing.assert_array_equal(result.values[result.exact], X[result.exact, 0])


def test_an_own_input_that_may_still_answer_is_waited_for_though_others_raised():
    def raising(batch):
        if (batch == 7.0).any():
            raise ValueError("no")
        return batch

    X = np.arange(12.0)
    with Scripted(6, {0: late(0.3)}) as engine:
        result = cm.map(
            raising, X, code=cm.Uncoded(6), engine=engine, on_error="record", hedge=None
        )
    assert result.exact.sum() == 11
    assert list(result.failures) == [7]


@pytest.mark.parametrize("code", [cm.SplineCode(5, 10, 2), cm.BerrutCode(5, 10, 2)], ids=repr)
def test_inputs_are_sent_where_every_mixture_raises_for_some_row(code):
    fn = cm.itemwise(lambda row: 1 / 0 if row[0] < 0.2 else row[1])
    X = np.random.default_rng(0).uniform(size=(200, 3))
    with Scripted(10) as engine:
        result = cm.map(fn, X, code=code, engine=engine, on_error="record")
    np.testing.assert_array_equal(result.status == cm.Status.FAILED, X[:, 0] < 0.2)
    assert result.exact.sum() == (X[:, 0] >= 0.2).sum()


def test_a_row_that_raises_in_a_call_of_its_own_has_failed():
    def raising(batch):
        if (batch > 0.8).any():
            raise ValueError("no")
        return batch

    X = np.linspace(0, 1, 20)
    with Scripted(6) as engine:
        result = cm.map(
            raising, X, code=cm.KernelCode(5, 6, 1), engine=engine, on_error="record", chunk=1
        )
    assert not (result.status[X > 0.8] == cm.Status.EXACT).any()
    assert (result.status[X > 0.8] == cm.Status.FAILED).sum() >= 3
    assert (result.status[X <= 0.8] < cm.Status.FAILED).all()


@pytest.mark.parametrize("code", [cm.Replication(3, 6), cm.KernelCode(4, 6, 1, spread=0)])
@pytest.mark.parametrize("bad", [(7,), (0, 29), (3, 4, 5, 11), range(30)])
def test_rows_that_a_batch_raises_for_are_found(code, bad):
    """They took their whole batch with them: with 20 rows a call, 19 had the error of another."""

    def fn(batch):
        wrong = np.isin(batch[:, 0], bad)
        if wrong.any():
            raise ValueError(f"no {batch[wrong][0, 0]:g}")
        return batch

    X = np.arange(30.0)[:, None] * [1.0, 0.1]
    with Scripted(6) as engine:
        result = cm.map(
            fn, X, code=code, engine=engine, on_error="record", max_failures=None,
            stop=cm.Everyone(), hedge=None,
        )  # fmt: skip
        with pytest.raises(cm.errors.RowFailed, match=r"failed on worker \d with ValueError: no"):
            cm.map(fn, X, code=code, engine=engine, stop=cm.Everyone())
    assert f"failed     {len(bad)}; the first, row {bad[0]}, with ValueError: no" in str(result)
    assert {row: str(error) for row, error in result.failures.items()} == {
        row: f"no {row}" for row in bad
    }
    good = np.delete(np.arange(30), list(bad))
    assert (result.status[good] == cm.Status.EXACT).all()
    if len(good):
        np.testing.assert_array_equal(result.values[good], X[good])


@pytest.mark.parametrize(
    "change",
    [lambda rows: rows[:-1], lambda rows: np.repeat(rows, 2, 0), lambda rows: np.zeros(())],
)
def test_a_worker_for_which_rows_raise_may_answer_with_other_rows(change):
    """Its answer was made one of all rows, which ended the job with an error of NumPy's."""

    def fn(batch):
        if 17 in batch:
            raise ValueError("seventeen")
        return batch**2

    X = np.arange(30.0)
    with Scripted(6, {1: corrupt(change)}) as engine:  # one of the two that compute row 17
        options = {"code": cm.Replication(3, 6), "engine": engine, "stop": cm.Everyone()}
        result = cm.map(fn, X, on_error="record", hedge=None, **options)
    assert list(result.failures) == [17]
    assert result.exact.sum() == 29
    np.testing.assert_array_equal(result.values[result.exact], X[result.exact] ** 2)
    assert result.rejected == (1,)


def test_a_batch_that_is_too_large_for_the_function_is_computed_by_halves():
    sizes = []

    def fn(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise MemoryError("no room for so many")
        return batch

    X = np.arange(30.0)
    with Scripted(3) as engine:
        result = cm.map(fn, X, code=cm.Uncoded(3), engine=engine)
        np.testing.assert_array_equal(result.values, X)
        with pytest.raises(cm.NotEnoughAnswers, match="no room"):  # no row is computed twice
            cm.map(fn, X, code=cm.Uncoded(3), engine=engine, retries=0, hedge=None)
    assert max(sizes[-3:]) == 10


def test_inputs_are_sent_where_every_mixture_raises():
    """That no call had answered was the end of the job."""
    X = np.random.default_rng(0).uniform(size=(20, 2))

    def fn(batch):
        if not np.isin(batch[:, 0], X[:, 0]).all():
            raise ValueError("outside of the table")
        return batch.sum(1)

    with Scripted(6) as engine:
        result = cm.map(fn, X, code=cm.SplineCode(4, 6, 1), engine=engine)
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, X.sum(1))


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_only_calls_that_raised_had_are_failed_and_never_missing(seed):
    X = np.random.default_rng(seed).uniform(size=(60, 3))

    def raising(batch):
        if (batch[:, 0] < 0.2).any():
            raise ValueError("no")
        return batch[:, 1]

    for code in (cm.Replication(2, 4, fill="mean"), cm.Uncoded(4, fill="mean")):
        with Scripted(4) as engine:
            result = cm.map(raising, X, code=code, engine=engine, on_error="record", chunk=3)
        assert (result.status != cm.Status.MISSING).all()
        assert set(result.failures) == set(np.flatnonzero(result.status == cm.Status.FAILED))
        assert all(isinstance(error, ValueError) for error in result.failures.values())


@pytest.mark.parametrize("kind", [dict, tuple])
def test_answers_of_several_parts_are_refused_where_rows_raise_too(kind):
    """All rows held the dict of all."""

    @cm.itemwise
    def fn(row):
        return {"a": 1 / row[0], "b": row[1]} if kind is dict else (1 / row[0], row[1])

    rows = np.arange(12.0).reshape(6, 2)
    with (
        Scripted(2) as engine,
        pytest.raises(cm.InvalidAnswer, match=f"returned a {kind.__name__}"),
    ):
        cm.map(fn, rows, code=cm.Uncoded(2), engine=engine, on_error="record")


def test_a_deadline_before_the_first_payload_names_the_rows_of_one():
    script = dict.fromkeys(range(4), never())
    message = "no payload, of 10 rows each, was answered in 0.* chunk="
    with Scripted(4, script) as engine, pytest.warns(UserWarning, match=message):
        result = cm.map(np.sin, np.ones(20), code=cm.Replication(2, 4), engine=engine, deadline=0.1)
    assert (result.status == cm.Status.MISSING).all()
    message = "no payload, of 1 row each, was answered in 0.* s: allow more time$"
    with Scripted(4, script) as engine, pytest.warns(UserWarning, match=message):
        cm.map(np.sin, np.ones(2), code=cm.Replication(2, 4), engine=engine, deadline=0.1)


def test_mixtures_fail_and_own_inputs_have_two_forms():
    """The call raised, whatever was allowed, and said to wait longer though nothing ran any more."""
    fn = cm.itemwise(lambda number: np.ones(1 + int(3 * number)))
    X, code = np.random.default_rng(0).random(12), cm.SplineCode(2, 4, 1)
    told = "6 rows are MISSING: .* it cannot be found which is right: let fn return one shape"
    with Scripted(4) as engine, pytest.warns(UserWarning, match=told):
        result = cm.map(fn, X, code=code, engine=engine, on_error="record")
    assert result.outcome is cm.Outcome.NONE_RUNNING
    assert np.bincount(result.status).tolist() == [0, 0, 6, 6]
    assert result.rejected == ()
    with Scripted(4) as engine, pytest.raises(cm.errors.RowFailed, match="answers of shapes"):
        cm.map(fn, X, code=code, engine=engine)


def test_an_error_counts_payloads_and_not_what_was_sent_besides():
    script, code = dict.fromkeys(range(7), crash()), cm.SplineCode(4, 8, 2)
    told = r"\d of 8 workers answered, \d failed, worker 0 first"
    with Scripted(8, script) as engine, pytest.raises(cm.NotEnoughAnswers, match=told):
        cm.map(squares, np.ones((40, 2)), code=code, engine=engine)


@pytest.mark.parametrize("size", [None, 2])
def test_rows_of_which_copies_have_two_forms_say_why_they_are_missing(size):
    text = corrupt(lambda answer: np.full(len(answer), "bad"))
    told = "6 rows are MISSING: 2 of 4 workers.*kind 'U', and it cannot be found.*: let fn return"
    given = {"code": cm.Replication(2, 4), "stop": cm.Everyone(), "chunk": size}
    with Scripted(4, {2: text, 3: text}) as engine, pytest.warns(UserWarning, match=told):
        result = cm.map(np.sin, np.arange(6.0), engine=engine, **given)
    assert (result.status == cm.Status.MISSING).all()


@pytest.mark.parametrize(
    "code", [cm.Uncoded(2), cm.Replication(2, 4), cm.KernelCode(2, 4, 1, spread=0)], ids=repr
)
def test_codes_that_copy_take_rows_of_different_lengths(code):
    rows = [[1, 2], [3, 4, 5], [6], [7, 8]]
    with Scripted(code.workers) as engine:
        each = cm.map(cm.itemwise(sum), rows, code=code, engine=engine)
        batches = cm.map(lambda batch: [*map(sum, batch)], rows, code=code, engine=engine)
    assert each.values.tolist() == batches.values.tolist() == [3, 12, 6, 15]
    with Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match="cannot be mixed"):
        cm.map(cm.itemwise(sum), rows, code=cm.SplineCode(2, 4, 1), engine=engine)


def test_why_a_slot_failed_is_not_that_an_earlier_call_of_it_had_not_begun():
    """Where one was taken back, the error did not say that the setup of the workers had failed."""
    chunk = object.__new__(ChunkRows)
    chunk.errors, chunk.encoded = {}, SimpleNamespace(task_of={})
    failed = cm.EngineError("could not be set up")
    for error, loss in ((CancelledError(), Loss.NOT_STARTED), (failed, Loss.RAISED)):
        chunk.lose(SimpleNamespace(slot=1, groups=1), error, loss, record=False)
    assert chunk.errors == {1: failed}


def not_sent(x):
    return (k for k in ()) if x == 7 else float(x)


def interrupted(x):
    if x == 7:
        raise KeyboardInterrupt
    return float(x)


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("fn", "kind"), first(1, [(not_sent, cm.errors.CannotSend), (interrupted, KeyboardInterrupt)])
)
def test_a_row_that_fails_its_whole_call_costs_only_itself(fn, kind):
    code, inputs = cm.Replication(1, 2), np.arange(12.0)
    with cm.engines.Local(2) as engine:
        result = cm.map(cm.itemwise(fn), inputs, code=code, engine=engine, on_error="record")
        assert np.flatnonzero(~result.exact).tolist() == list(result.failures) == [7]
        assert isinstance(result.failures[7], kind)
        with pytest.raises(cm.errors.RowFailed, match="row 7 failed"):
            cm.map(cm.itemwise(fn), inputs, code=code, engine=engine)
