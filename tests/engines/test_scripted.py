"""The engines for tests do what their script says, and no more."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import count

import numpy as np
import pytest

import codedmap as cm
from codedmap.testing import (
    Act,
    Faulty,
    Scripted,
    ScriptedCluster,
    corrupt,
    crash,
    fail,
    late,
    never,
)

from ..interleaving import interleaved
from ..processes import ANSWER, children, eventually, pid, same, threads

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(cm.InvalidArgument, match="must be a whole number of at least 1"):
        Scripted(workers)


@pytest.mark.parametrize("slot", [-1, 3, None, "a", 1.0, [0], np.array(0)])
def test_a_slot_that_the_engine_does_not_have_is_refused(slot):
    engine = Scripted(3)
    for refuses in (
        lambda: engine.submit(slot, np.sin, 1.0),
        lambda: engine.keep(slot, 1.0),
        lambda: Faulty(engine, {}).submit(slot, np.sin, 1.0),
    ):
        with pytest.raises(cm.InvalidArgument, match=r"worker=.* does not exist: .* are 0 to 2"):
            refuses()
    assert engine.calls == []
    assert engine.submit(np.int64(2), np.sin, 0.0).result(0) == 0.0


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Scripted(3, {3: never()}), r"worker=3 does not exist: .* are 0 to 2"),
        (lambda: Faulty(Scripted(3), {-1: never()}), r"worker=-1 does not exist"),
        (
            lambda: Scripted(3, {0: [Act(), 2.0]}),
            r"script of worker 0 has 2\.0, which is not an act",
        ),
        (lambda: Scripted(3, [never()]), r"script=\[Act.* must be a mapping from workers to acts"),
        (lambda: Scripted(3, {0: never}), r"script of worker 0 has <function never"),
        (lambda: late(-1), r"seconds=-1 must be a number of at least 0"),
        (lambda: crash(float("nan")), r"seconds=nan must be"),
        (lambda: late("1"), r"seconds='1' must be"),
        (lambda: fail("no network"), r"error='no network' cannot be raised"),
    ],
)
def test_a_script_that_would_not_be_followed_is_refused(make, match):
    with pytest.raises(cm.InvalidArgument, match=match):
        make()


def test_a_script_may_have_acts_of_workers_that_join_later():
    with ScriptedCluster([None], {1: corrupt(np.negative)}) as engine:
        assert engine.submit(engine.join(), np.abs, 3.0).result(0) == -3.0


# Scripted.


def test_without_a_script_every_call_answers_at_once_in_the_callers_thread():
    before, running = children(), threads()
    with Scripted(3) as engine:
        futures = [
            engine.submit(slot, lambda x: (x, threading.get_ident()), slot) for slot in range(3)
        ]
        assert [future.result(0) for future in futures] == [
            (k, threading.get_ident()) for k in range(3)
        ]
        assert children() == before
        assert threads() <= running


def test_all_calls_are_noted_in_order():
    with Scripted(3, {1: crash(), 2: never()}) as engine:
        for slot, payload in [(0, "a"), (2, "b"), (1, "c"), (0, "d")]:
            engine.submit(slot, same, payload)
        assert engine.calls == [(0, "a"), (2, "b"), (1, "c"), (0, "d")]


def test_a_late_call_is_computed_at_once_and_answers_after_its_delay():
    computed = []
    with Scripted(1, {0: late(0.3)}) as engine:
        began = time.monotonic()
        future = engine.submit(0, computed.append, 1)
        assert computed == [1]
        assert not future.done()
        assert future.result(ANSWER) is None
        assert time.monotonic() - began >= 0.3
    assert computed == [1]


def test_never_means_never_until_it_is_given_up():
    with Scripted(2, dict.fromkeys((0, 1), never())) as engine:
        futures = [engine.submit(slot, same, 1) for slot in (0, 1)]
        assert wait(futures, 0.1).not_done == set(futures)
        engine.abandon(futures[:1])
        assert isinstance(futures[0].exception(0), cm.errors.Abandoned)
        assert not futures[1].done()
    assert isinstance(futures[1].exception(0), cm.errors.Abandoned)


def test_a_delay_that_is_given_up_ends_without_an_answer():
    before = threads()
    with Scripted(1, {0: [late(60), Act()]}) as engine:
        future = engine.submit(0, same, 1)
        engine.abandon([future])
        engine.abandon([future])
        assert isinstance(future.exception(0), cm.errors.Abandoned)
        assert engine.submit(0, same, 2).result(0) == 2
    assert eventually(lambda: not threads() - before)


def test_a_sequence_gives_each_call_its_act_and_those_after_it_answer():
    script = {0: [fail(KeyError("first")), corrupt(lambda x: -x), crash()], 1: corrupt(lambda x: 0)}
    with Scripted(2, script) as engine:
        first, second, third, *rest = [engine.submit(0, same, 5) for _ in range(5)]
        assert isinstance(first.exception(0), KeyError)
        assert second.result(0) == -5
        assert isinstance(third.exception(0), cm.WorkerCrashed)
        assert [future.result(0) for future in rest] == [5, 5]
        assert [engine.submit(1, same, 5).result(0) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("seconds", [0.0, 0.1])
@pytest.mark.parametrize(("act", "error"), [(crash, cm.WorkerCrashed), (fail, OSError)])
def test_a_call_that_crashes_or_fails_does_not_run(act, error, seconds):
    ran = []
    act = act(seconds) if act is crash else act(OSError("as said"), seconds)
    with Scripted(1, {0: act}) as engine:
        assert isinstance(engine.submit(0, ran.append, 1).exception(ANSWER), error)
    assert ran == []


def test_what_fn_raises_is_raised_by_the_future_with_its_traceback():
    def broken(x):
        return x / 0

    with Scripted(1, {0: [late(0.05), corrupt(same), Act()]}) as engine:
        for _ in range(3):
            error = engine.submit(0, broken, 1).exception(ANSWER)
            assert isinstance(error, ZeroDivisionError)
            assert error.__traceback__.tb_next.tb_frame.f_code.co_name == "broken"


def test_what_is_kept_is_lost_when_its_slot_crashes_and_not_before():
    with Scripted(2, {0: [Act(), crash(0.2), Act()]}) as engine:
        kept, other = engine.keep(0, 3), engine.keep(1, np.negative)
        assert engine.submit(0, abs, kept).result(0) == 3
        crashing = engine.submit(0, same, 1)
        assert not kept.lost
        assert isinstance(crashing.exception(ANSWER), cm.WorkerCrashed)
        assert kept.lost
        assert isinstance(engine.submit(0, abs, kept).exception(0), cm.errors.KeptLost)
        assert engine.submit(1, other, 2).result(0) == -2


def test_a_crash_takes_the_other_calls_of_a_worker_that_is_not_replaced():
    with ScriptedCluster([None] * 2, {0: [never(), crash()]}) as engine:
        calls = [engine.submit(worker, abs, -3) for worker in (0, 0, 1)]
        for lost in calls[:2]:
            with pytest.raises(cm.WorkerCrashed):
                lost.result(ANSWER)
        assert calls[2].result(ANSWER) == 3


def test_a_future_may_be_cancelled_by_its_owner():
    with Scripted(1, {0: late(0.1)}) as engine:
        future = engine.submit(0, same, 1)
        assert future.cancel()
        time.sleep(0.3)  # the answer arrives after the call was abandoned
        assert future.cancelled()


# Faulty.


@pytest.fixture(scope="module")
def local():
    with cm.engines.Local(2) as engine:
        yield engine


def test_faults_happen_in_the_worker(local):
    script = {0: [Act(), corrupt(lambda answer: (os.getpid(), answer)), fail(KeyError("as said"))]}
    engine = Faulty(local, script)
    worker = engine.submit(0, pid, None).result(ANSWER)
    assert engine.submit(0, pid, None).result(ANSWER) == (worker, worker)
    error = engine.submit(0, pid, None).exception(ANSWER)
    assert isinstance(error, KeyError)
    assert error.args == ("as said",)
    assert engine.submit(0, pid, None).result(ANSWER) == worker


def test_a_crash_is_a_real_one(local):
    engine = Faulty(local, {1: [Act(), crash(), Act()]})
    before = engine.submit(1, pid, None).result(ANSWER)
    error = engine.submit(1, pid, None).exception(ANSWER)
    assert isinstance(error, cm.WorkerCrashed)
    assert "SIGKILL" in str(error)
    assert engine.submit(1, pid, None).result(ANSWER) != before


def test_a_late_answer_is_late_and_never_is_never():
    with cm.engines.Local(2, grace=0.1) as owner:
        engine = Faulty(owner, {0: late(0.3), 1: never()})
        began = time.monotonic()
        futures = [engine.submit(slot, same, slot) for slot in (0, 1)]
        assert futures[0].result(ANSWER) == 0
        assert time.monotonic() - began >= 0.3
        assert not futures[1].done()
        engine.abandon(futures)
        assert isinstance(futures[1].exception(ANSWER), cm.errors.Abandoned)


def test_how_many_calls_a_worker_has_is_known(local):
    """Else a job waits for calls behind the stragglers of the job before."""
    assert Faulty(local, {}).load == local.load


def test_calls_of_what_is_kept_take_faults_as_well(local):
    acts = [Act(), late(0.01), corrupt(np.negative), fail(OSError("disk")), crash(), Act()]
    engine = Faulty(local, {0: acts, 1: acts})
    number, function = engine.keep(0, 3), engine.keep(1, abs)
    for slot, call in ((0, (abs, number)), (1, (function, -3))):
        assert [engine.submit(slot, *call).result(ANSWER) for _ in range(3)] == [3, 3, -3]
        with pytest.raises(OSError, match="disk"):
            engine.submit(slot, *call).result(ANSWER)
        with pytest.raises(cm.WorkerCrashed):
            engine.submit(slot, *call).result(ANSWER)
        with pytest.raises(cm.errors.KeptLost):
            engine.submit(slot, *call).result(ANSWER)


def test_a_kept_function_of_a_kept_payload_takes_none(local):
    engine = Faulty(local, {0: [Act(), late(0.01)]})
    function, number = engine.keep(0, abs), engine.keep(0, -3)
    assert engine.submit(0, function, number).result(ANSWER) == 3
    with pytest.raises(cm.InvalidArgument, match="send one of them"):
        engine.submit(0, function, number)


def test_it_has_the_workers_of_its_engine_and_leaves_closing_to_its_owner():
    with ThreadPoolExecutor(2) as executor:
        engine = Faulty(cm.engines.FromExecutor(executor, 7), {})
        assert isinstance(engine, cm.engines.Engine)
        assert engine.workers == 7
        assert not hasattr(engine, "close")


def test_a_call_may_answer_while_it_is_abandoned():
    for n in count(1):
        with Scripted(1, {0: late(ANSWER)}) as engine:
            future = engine.submit(0, same, 3)
            _, timer = engine._pending[future]
            if not interleaved(n, Scripted._end, partial(engine.abandon, [future]), timer.function):
                break
            assert future.done(), n
    assert n > 10


def test_a_worker_may_leave_as_it_is_sent_a_call():
    """The call never ended, and neither did its job."""
    for n in count(1):
        engine, sent = ScriptedCluster([None, None], {0: never()}), []
        submit = lambda engine=engine, sent=sent: sent.append(engine.submit(0, same, 3))  # noqa: E731
        if not interleaved(n, ScriptedCluster.submit, submit, partial(engine.leave, 0)):
            break
        assert isinstance(sent[0].exception(ANSWER), cm.errors.WorkerLost)
        assert not engine._pending
    assert n > 10


class AllButOne(cm.contracts.StoppingRule):
    """Stop when all but one worker have answered or failed."""

    def verdict(self, seen):
        return cm.Outcome.QUORUM if len(seen.running) <= 1 else None

    def wake_after(self, seen):
        return None


def test_a_map_over_real_faults_tells_what_befell_each_worker():
    script = {0: never(), 4: crash(), 5: corrupt(np.negative), 7: fail(ValueError("broken"))}
    with cm.engines.Local(9, grace=0.1) as owner:
        engine = Faulty(owner, script)
        code = cm.Replication(3, 9)
        result = cm.map(
            np.sin,
            np.ones((6, 2)),
            code=code,
            engine=engine,
            stop=AllButOne(),
            hedge=None,
            retries=0,
        )
    assert result.abandoned == (0,)
    assert set(result.failed) == {4, 7}
    assert isinstance(result.failed[4], cm.WorkerCrashed)
    assert isinstance(result.failed[7], ValueError)
    assert result.answered == (1, 2, 3, 5, 6, 8)
    assert 5 in result.rejected
    rows = [k for k in range(6) if result.exact[k]]
    assert np.allclose(result.values[rows], np.sin(1.0))
