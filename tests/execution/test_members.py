"""Workers that join and leave while a job runs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.engine import Kept, Member
from codedmap.contracts.stopping import Outcome
from codedmap.errors import EngineError, NotEnoughAnswers, NotStarted, WorkerCrashed
from codedmap.execution import live
from codedmap.execution.live import in_order
from codedmap.execution.placed import Placed
from codedmap.execution.uncoded import RowsJob
from codedmap.testing import ScriptedCluster, crash


class Changing(ScriptedCluster):
    """Workers that join and leave when they are called, and what they have been sent."""

    def __init__(self, domains: list[str | None]) -> None:
        super().__init__(domains)
        self.before_call: Callable[[int], None] = lambda worker: None
        self.submitted: list[int] = []
        self.kept_on: list[int] = []

    def submit(self, worker, fn, payload):
        self.submitted.append(worker)
        self.before_call(worker)
        return super().submit(worker, fn, payload)

    def keep(self, worker, value) -> Kept:
        self.kept_on.append(worker)
        return super().keep(worker, value)


def test_a_job_goes_on_with_workers_that_join_after_others_have_left():
    engine = Changing([None, None, None, None])

    def change(worker: int) -> None:
        if len(engine.submitted) == 40:
            engine.leave(0)
            engine.leave(1)
        if len(engine.submitted) == 80:
            engine.join()

    engine.before_call = change
    result = cm.map(np.sin, np.arange(1000.0), engine=engine, chunk=5)
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, np.sin(np.arange(1000.0)))
    assert {0, 1}.isdisjoint(engine.submitted[60:])
    assert 4 in engine.submitted
    assert engine._watchers == []


def test_a_change_of_members_that_comes_to_nothing_delays_no_call(monkeypatch):
    engine = Changing([None])
    answered = RowsJob.answered

    def changed(job, call, reply):
        engine._changed()
        return answered(job, call, reply)

    monkeypatch.setattr(RowsJob, "answered", changed)
    result = cm.map(np.sin, np.arange(20.0), engine=engine, chunk=1)
    assert result.seconds < 4, "and not a second for each row"


def test_a_job_without_workers_waits_for_one():
    engine = Changing([None])
    timer = threading.Timer(0.2, engine.join)

    def change(worker: int) -> None:
        if 0 in engine.members():
            engine.leave(0)
            timer.start()

    engine.before_call = change
    result = cm.map(np.sin, np.arange(10.0), engine=engine)
    timer.join()
    assert result.exact.all()
    assert set(engine.submitted) == {0, 1}


@pytest.mark.parametrize("code", [None, cm.Replication(2, 4)])
@pytest.mark.filterwarnings("ignore:the code has 4 workers")
def test_a_job_that_begins_while_workers_are_replaced_waits_for_one(code):
    engine = Changing([None])
    engine.leave(0)
    timer = threading.Timer(0.2, engine.join)
    timer.start()
    assert cm.map(np.sin, np.arange(10.0), engine=engine, code=code).exact.all()
    timer.join()


@pytest.mark.parametrize("code", [None, cm.Replication(2, 4)])
def test_a_job_whose_workers_have_all_left_says_so(monkeypatch, code):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    engine = Changing([None] * 4)

    def change(worker: int) -> None:
        for name in tuple(engine.members()):
            engine.leave(name)

    engine.before_call = change
    with pytest.raises(NotEnoughAnswers, match="workers"):
        cm.map(np.sin, np.arange(10.0), engine=engine, code=code)
    missing = "no row was answered before the workers were gone"
    with nullcontext() if code is not None else pytest.warns(UserWarning, match=missing):
        partial = cm.map(np.sin, np.arange(10.0), engine=engine_again(), code=code, deadline=5.0)
    assert partial.outcome is Outcome.NONE_RUNNING
    assert not partial.exact.any()


def left_by_all_after(most: int) -> Changing:
    """An engine of two workers, which both leave after so many calls."""
    engine, calls = Changing([None] * 2), []

    def change(worker: int) -> None:
        calls.append(worker)
        if len(calls) > most:
            for name in tuple(engine.members()):
                engine.leave(name)

    engine.before_call = change
    return engine


@pytest.mark.parametrize("way", ["map", "callback", "imap"])
def test_a_pool_whose_workers_have_all_left_says_so(monkeypatch, way):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    engine = left_by_all_after(5)
    pool = cm.Pool(engine, hedge=None)
    ways = {
        "map": lambda: pool.map(abs, range(10), chunksize=1),
        "callback": lambda: pool.map(abs, range(10), chunksize=1, callback=id),
        "imap": lambda: list(pool.imap(abs, range(10), chunksize=1)),
    }
    none_left = pytest.raises(
        NotEnoughAnswers, match="of 10 inputs have no answer, and no worker is"
    )
    with pytest.warns(UserWarning, match="are missing"), none_left:
        ways[way]()


@pytest.mark.parametrize("out", [False, True])
def test_answers_are_kept_where_no_worker_is_left_if_failures_are_recorded(
    monkeypatch, tmp_path, out
):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    engine = left_by_all_after(5)
    options = {"chunk": 1, "hedge": None, "on_error": "record"}
    if out:
        options["out"] = tmp_path / "answers.npy"
    with pytest.warns(UserWarning, match=r"of 10 rows are missing .* no worker was left"):
        result = cm.map(np.sin, np.arange(10.0), engine=engine, **options)
    assert result.outcome is Outcome.NONE_RUNNING
    assert 3 <= result.exact.sum() <= 5
    assert (result.status[~result.exact] == cm.Status.MISSING).all()
    np.testing.assert_array_equal(
        result.values[result.exact], np.sin(np.arange(10.0))[result.exact]
    )
    with pytest.raises(NotEnoughAnswers):
        result.check()


def test_where_no_worker_is_left_it_is_said_what_ended_them(monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    with (
        ScriptedCluster([None] * 2, {0: crash(), 1: crash()}) as engine,
        pytest.raises(
            NotEnoughAnswers,
            match=r"10 of 10 rows are missing .* no worker was left; 2 calls ended",
        ) as caught,
    ):
        cm.map(np.sin, np.arange(10.0), engine=engine)
    assert "ended their workers. The last was lost with: " in str(caught.value)
    assert isinstance(caught.value.__cause__, WorkerCrashed)


def all_leave_at(engine: Changing, call: int) -> Callable[[int], None]:
    def change(worker: int) -> None:
        if len(engine.submitted) == call:
            for name in tuple(engine.members()):
                engine.leave(name)

    return change


def test_chunks_that_have_not_begun_when_all_workers_have_left_are_missing(monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    options: dict = {"code": cm.Replication(2, 2), "chunk": 1}
    for call in range(1, 20):
        engine = Changing([None] * 2)
        engine.before_call = all_leave_at(engine, call)
        with pytest.raises(NotEnoughAnswers, match="no call was left running") as caught:
            cm.map(np.sin, np.arange(20.0), engine=engine, **options)
        assert "still running" not in str(caught.value)
        engine = Changing([None] * 2)
        engine.before_call = all_leave_at(engine, call)
        partial = cm.map(np.sin, np.arange(20.0), engine=engine, on_error="record", **options)
        assert partial.outcome is Outcome.NONE_RUNNING
        assert (partial.status == cm.Status.MISSING).any()


@pytest.mark.parametrize("code", [None, cm.Replication(2, 2)])
@pytest.mark.parametrize("on_error", ["raise", "record"])
def test_an_iterator_that_is_not_read_to_its_end_is_no_result(monkeypatch, code, on_error):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    engine, go_on = Changing([None] * 2), threading.Event()

    def batches() -> Iterator[np.ndarray]:
        yield np.arange(4.0)
        go_on.wait(10)
        yield np.arange(4.0)

    left = threading.Timer(0.3, lambda: [engine.leave(name) for name in (0, 1)])
    left.start()
    with pytest.raises(NotEnoughAnswers, match="was read up to row 3 and has more"):
        cm.map(np.sin, batches(), engine=engine, code=code, on_error=on_error, chunk=1)
    go_on.set()
    left.join()


def test_sums_and_products_without_any_worker_say_so(monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    engine = Changing([None] * 4)
    code = cm.codes.CyclicGradientCode(workers=4, stragglers=1)
    shards = cm.CodedParts([np.ones(2)] * 4, code=code, engine=engine)
    matrix = cm.CodedMatrix(np.eye(4), code=cm.codes.MDSCode(2, 4), engine=engine)
    for name in tuple(engine.members()):
        engine.leave(name)
    with pytest.raises(NotEnoughAnswers, match="0 of 4 workers answered"):
        cm.sum(lambda part: part, shards)
    with pytest.raises(NotEnoughAnswers, match="0 of 4 workers answered"):
        matrix @ np.ones(4)


def test_what_another_job_has_moved_is_called_where_it_is():
    engine, code = Changing([None] * 3), cm.codes.CyclicGradientCode(3, 1)
    shards = cm.CodedParts(np.arange(3.0), code=code, engine=engine)
    misplaced = []
    submit = engine.submit

    def checked(worker, fn, payload):
        misplaced.extend([payload] if payload.worker != worker else [])
        return submit(worker, fn, payload)

    def change(worker: int) -> None:
        engine.before_call = lambda worker: None
        engine.leave(1)
        cm.sum(np.sum, shards)  # as one in another thread

    engine.submit, engine.before_call = checked, change
    assert round(float(cm.sum(np.sum, shards, stop=cm.Everyone()).value), 12) == 3.0
    assert misplaced == []


def test_workers_that_have_left_when_values_are_placed_are_an_error(monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.01)
    engine = Changing([None])
    engine.leave(0)
    with pytest.raises(EngineError, match="have left: start some"):
        Placed(engine, [1, 2], str)


@pytest.mark.filterwarnings("error")
def test_parts_are_placed_on_workers_that_take_the_place_of_others():
    engine, code = Changing([None]), cm.codes.FractionalRepetition(3, 2)
    engine.leave(0)
    joining = threading.Timer(0.1, engine.join)
    joining.start()
    assert cm.sum(np.sum, np.arange(3.0), code=code, engine=engine).value == 3.0
    joining.join()


def all_leave(engine: Changing, join_after: float | None = None) -> list[threading.Timer]:
    """All workers leave at the first call; another joins later."""
    timers = [] if join_after is None else [threading.Timer(join_after, engine.join)]

    def change(worker: int) -> None:
        engine.before_call = lambda worker: None
        for name in tuple(engine.members()):
            engine.leave(name)
        for timer in timers:
            timer.start()

    engine.before_call = change
    return timers


def test_sums_and_products_go_on_with_a_worker_that_joins_when_all_have_left():
    engine, code = Changing([None] * 3), cm.codes.CyclicGradientCode(3, 1)
    shards = cm.CodedParts(np.arange(3.0), code=code, engine=engine)
    matrix = cm.CodedMatrix(np.eye(4), code=cm.codes.MDSCode(2, 3), engine=engine)
    timers = all_leave(engine, join_after=0.05)
    result = cm.sum(np.sum, shards, stop=cm.Everyone())
    assert (round(float(result.value), 12), result.answered) == (3.0, (0, 1, 2))
    timers += all_leave(engine, join_after=0.05)
    np.testing.assert_allclose(matrix @ np.arange(4.0), np.arange(4.0), atol=1e-12)
    for timer in timers:
        timer.join()


def test_a_deadline_ends_a_job_without_workers():
    engine, code = Changing([None] * 3), cm.codes.CyclicGradientCode(3, 1)
    shards = cm.CodedParts(np.arange(3.0), code=code, engine=engine)
    all_leave(engine)
    for _ in range(2):  # they leave during the first sum, and have left before the second
        result = cm.sum(np.sum, shards, stop=cm.Deadline(0.1), throw=False)
        assert result.outcome is Outcome.DEADLINE
        assert result.seconds < 5


def test_a_deadline_ends_a_job_whose_workers_leave_when_all_its_chunks_are_decoded():
    engine, calls = Changing([None] * 3), itertools.count(1)

    def identity(x):
        for name in tuple(engine.members()) if next(calls) == 5 else ():
            engine.leave(name)
        return x

    options: dict = {"code": cm.KernelCode(2, 3, 1), "chunk": 1, "deadline": 0.1}
    result = cm.map(identity, np.arange(40.0), engine=engine, **options)
    assert result.outcome is Outcome.DEADLINE
    assert result.seconds < 5


def test_workers_that_could_not_be_called_have_failed(monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    engine = Changing([None])
    code = cm.codes.FractionalRepetition(3, 0)
    with pytest.warns(UserWarning, match="engine 1"):
        shards = cm.CodedParts(np.arange(3.0), code=code, engine=engine)
    engine.leave(0)
    result = cm.sum(np.sum, shards, throw=False)
    assert set(result.failed) == {0, 1, 2}
    assert all(isinstance(error, NotStarted) for error in result.failed.values())


def test_that_workers_have_left_is_the_first_step_of_an_error(monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.05)
    engine = Changing([None] * 2)

    def fn(batch):
        for worker in tuple(engine.members()):
            engine.leave(worker)
        return batch

    with pytest.raises(NotEnoughAnswers, match=r"NotStarted.* among them\. See why workers ended"):
        cm.map(fn, np.ones(4), code=cm.Uncoded(2), engine=engine)


def engine_again() -> Changing:
    engine = Changing([None] * 4)
    engine.before_call = lambda worker: (
        [engine.leave(name) for name in tuple(engine.members())] and None
    )
    return engine


@pytest.mark.parametrize("chunk", [None, "all"])
def test_payloads_of_a_code_go_on_elsewhere(chunk):
    engine = Changing([None] * 6)

    def change(worker: int) -> None:
        if len(engine.submitted) == 2:
            engine.leave(0)
            engine.leave(1)
            engine.leave(2)
            engine.join()
            engine.join()

    engine.before_call = change
    code = cm.Replication(3, 6)
    result = cm.map(np.sin, np.arange(9.0), engine=engine, code=code, chunk=chunk)
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, np.sin(np.arange(9.0)))


def test_copies_of_a_task_are_in_different_failure_domains():
    engine = Changing(["a", "a", "a", "b", "b", "b"])
    calls: dict[int, str] = {}
    code = cm.Replication(3, 6)
    result = cm.map(np.sin, np.arange(3.0), engine=engine, code=code, stop=cm.Everyone())
    for call in result.calls:
        calls[call.slot] = engine.members()[call.worker].domain
    encoding = code.encode(np.arange(3.0).reshape(3, 1, 1))
    payloads = np.asarray(encoding.payloads).ravel()
    for task in range(3):
        assert {calls[slot] for slot in np.flatnonzero(payloads == task)} == {"a", "b"}


def test_neighbours_in_the_order_of_workers_are_in_different_domains():
    members = {n: Member(domain) for n, domain in enumerate("aaaabbbbcccc")}
    order = in_order(members)
    domains = [members[n].domain for n in order]
    assert sorted(order) == list(range(12))
    assert all(one != other for one, other in itertools.pairwise(domains))
    assert in_order({3: Member(), 1: Member()}) == [1, 3]


def sum_of_squares(part):
    return (part**2).sum()


def test_parts_of_a_sum_are_rebuilt_elsewhere_while_it_runs():
    engine = Changing([None] * 6)
    code = cm.codes.CyclicGradientCode(6, 2)
    shards = cm.CodedParts(np.arange(12.0), code=code, engine=engine)
    assert engine.kept_on == [0, 1, 2, 3, 4, 5]

    def change(worker: int) -> None:
        if len(engine.submitted) == 1:
            for name in (0, 2, 4):
                engine.leave(name)
            engine.join()

    engine.before_call = change
    result = cm.sum(sum_of_squares, shards)
    np.testing.assert_allclose(result.value, (np.arange(12.0) ** 2).sum())
    engine.before_call = lambda worker: None
    engine.submitted.clear()
    again = cm.sum(sum_of_squares, shards)
    np.testing.assert_allclose(again.value, (np.arange(12.0) ** 2).sum())
    assert set(engine.submitted) <= {1, 3, 5, 6}
    assert 6 in engine.submitted


def test_parts_move_to_workers_that_join_after_others_have_left():
    engine, code = Changing([None] * 4), cm.codes.FractionalRepetition(4, 1)
    shards = cm.CodedParts(np.arange(8.0), code=code, engine=engine)
    for name in (1, 2, 3):
        engine.leave(name)
    assert cm.sum(np.sum, shards, stop=cm.Everyone()).value == 28.0
    assert set(engine.submitted) == {0}
    for _ in range(6):
        engine.join()
    for sent_again in (3, 0):
        engine.submitted.clear()
        engine.kept_on.clear()
        assert cm.sum(np.sum, shards, stop=cm.Everyone()).value == 28.0
        assert len(set(engine.submitted)) == 4
        assert len(engine.kept_on) == sent_again


def test_blocks_of_a_matrix_are_rebuilt_elsewhere():
    engine = Changing([None] * 5)
    matrix = np.random.default_rng(0).standard_normal((8, 3))
    coded = cm.CodedMatrix(matrix, code=cm.codes.MDSCode(4, 5), engine=engine)
    for name in (0, 1, 2):
        engine.leave(name)
    engine.join()
    v = np.arange(3.0)
    np.testing.assert_allclose(coded @ v, matrix @ v)
    assert {0, 1, 2}.isdisjoint(engine.kept_on[5:])


def test_calls_on_a_worker_that_dies_are_made_elsewhere():
    engine = Changing([None] * 3)
    died: list[int] = []
    submit = engine.submit

    def dying(worker, fn, payload):
        future = submit(worker, fn, payload)
        if worker == 1 and not died:
            died.append(worker)
            engine.leave(1)
            future = type(future)()
            future.set_exception(WorkerCrashed("worker 1 died"))
        return future

    engine.submit = dying  # type: ignore[method-assign]
    result = cm.map(np.sin, np.arange(30.0), engine=engine, chunk=3)
    assert result.exact.all()
    assert died
