"""Any executor as an engine: what it does with one, and that the limits it states are real."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

import codedmap as cm
from codedmap.engines import FromExecutor

from ..processes import ANSWER, nap, pid, same

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def pool():
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


class Recording(Executor):
    """Runs everything at once, and notes what is done to its futures."""

    def __init__(self):
        self.cancelled = []

    def submit(self, fn, /, *args, **kwargs):
        executor = self

        class Noted(Future):
            def cancel(self):
                executor.cancelled.append(self)
                return super().cancel()

        future = Noted()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(cm.InvalidArgument, match="must be a whole number of at least 1"):
        FromExecutor(Recording(), workers)


@pytest.mark.parametrize("executor", [3, ThreadPoolExecutor, cm.testing.Scripted(1)])
def test_what_is_no_executor_is_refused(executor):
    with pytest.raises(cm.errors.InvalidArgument, match="is not an executor: give one"):
        FromExecutor(executor, 2)


def test_functions_that_pickle_cannot_send_travel_to_a_process_pool(pool):
    engine, offset = FromExecutor(pool, 2), 3
    futures = [engine.submit(0, fn, 2) for fn in (lambda x: x * 10, lambda x: x + offset, abs)]
    assert [future.result(ANSWER) for future in futures] == [20, 5, 2]
    assert engine.submit(1, pid, None).result(ANSWER) != os.getpid()


def test_an_exception_that_cannot_be_pickled_breaks_no_pool_of_a_program_that_uses_dask(pool):
    """Where Dask is imported, the cause and the context of an exception are pickled as well."""

    def fails(batch):
        from tblib import pickling_support  # as Dask does

        pickling_support.install()

        class OfHere(Exception):
            pass

        raise OfHere("disk full")

    with pytest.raises(cm.errors.RowFailed, match="with RuntimeError: OfHere: disk full"):
        cm.map(fails, np.ones(2), engine=FromExecutor(pool, 2))
    assert pool.submit(abs, -1).result(ANSWER) == 1


def test_a_function_that_cannot_be_sent_is_refused(pool):
    lock = threading.Lock()
    with pytest.raises(
        cm.errors.CannotSend, match=r"the function .*lambda.* cannot be sent.*lock.*inside"
    ):
        FromExecutor(pool, 2).submit(0, lambda x: lock, 1)
    with pytest.raises(cm.errors.CannotSend, match="lambda"):
        cm.map(lambda x: lock, np.ones((2, 1)), code=cm.Replication(2, 2), engine=pool)


class CannotBeOpened:
    def __reduce__(self):
        return open, ("/no/such/model",)

    def __call__(self, batch):
        return batch


def test_a_function_that_cannot_be_opened_breaks_no_process_pool(pool):
    with pytest.raises(cm.EngineError, match=r"cannot open fn.*/no/such/model.*: install what"):
        cm.map(CannotBeOpened(), np.ones(4), engine=pool)
    assert cm.map(np.sin, np.ones(4), engine=pool).exact.all()


def test_threads_are_given_the_function_itself():
    def fn(x):
        return fn

    with ThreadPoolExecutor(1) as executor:
        assert FromExecutor(executor, 1).submit(0, fn, 1).result(ANSWER) is fn


def test_a_call_that_is_submitted_in_a_thread_of_the_executor_runs_there():
    with ThreadPoolExecutor(1) as threads:
        engine = FromExecutor(threads, 1)
        made = [engine.submit(0, lambda text: engine.submit(0, int, text), t) for t in ("x", "1")]
        failed, done = (future.result(ANSWER) for future in made)
        assert isinstance(failed.exception(ANSWER), ValueError)
        assert done.result(ANSWER) == 1


def test_the_first_call_of_a_pool_of_one_thread_may_use_the_pool():
    """It waited for its own thread for ever: one begins before the pool has it in its set."""
    for _ in range(20):
        with ThreadPoolExecutor(1) as threads:
            engine = FromExecutor(threads, 1)
            made = engine.submit(0, lambda _, engine=engine: engine.runs_here, None)
            assert made.result(ANSWER)


def test_what_is_kept_is_sent_along(pool):
    engine = FromExecutor(pool, 2)
    kept = engine.keep(0, [1])
    futures = [engine.submit(slot, list.__len__, kept) for slot in (0, 1)]
    futures.append(engine.submit(0, engine.keep(0, np.negative), 3))
    assert [future.result(ANSWER) for future in futures] == [1, 1, -3]
    assert not kept.lost


def test_only_the_pools_of_the_standard_library_are_asked_to_cancel():
    executor = Recording()
    engine = FromExecutor(executor, 2)
    engine.abandon([engine.submit(0, same, 1)])
    assert executor.cancelled == []

    release = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        engine = FromExecutor(threads, 1)
        running, waiting = (
            engine.submit(0, lambda _: release.wait(ANSWER), 1),
            engine.submit(0, same, 1),
        )
        engine.abandon(iter([running, waiting]))
        assert waiting.cancelled()
        assert not running.done()
        release.set()
        assert running.result(ANSWER) is True


def test_a_crash_in_a_process_pool_costs_all_that_is_pending_as_stated(pool):
    engine = FromExecutor(pool, 2)
    pending = [engine.submit(0, nap, 5), engine.submit(1, nap, 0.3), engine.submit(0, same, 1)]
    os.kill(next(iter(pool._processes)), signal.SIGKILL)
    wait(pending, ANSWER)
    assert all(isinstance(future.exception(), BrokenProcessPool) for future in pending)


def test_a_broken_pool_fails_the_calls_that_follow_and_does_not_raise(pool):
    engine = FromExecutor(pool, 2)
    assert isinstance(engine.submit(0, os._exit, 1).exception(ANSWER), BrokenProcessPool)
    assert isinstance(engine.submit(1, same, 1).exception(ANSWER), BrokenProcessPool)
    remedy = "See whether fn ends its own.*create a new one, or use codedmap.engines.Local"
    with pytest.raises(cm.NotEnoughAnswers, match=remedy) as caught:
        cm.map(np.negative, np.ones((2, 1)), code=cm.Replication(2, 2), engine=pool)
    assert isinstance(caught.value.__cause__, BrokenProcessPool)


class Picky(Exception):
    """Pickle makes it again by a constructor that wants more than its message."""

    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")


class PickyExit(SystemExit):
    """As `Picky`, and no `Exception`."""

    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")


def raise_picky(batch):
    raise Picky("no data", 3)


def exit_pickily(batch):
    raise PickyExit("no data", 3)


def test_an_exception_that_pickle_cannot_make_again_does_not_break_the_pool(pool):
    engine = FromExecutor(pool, 2)
    error = engine.submit(0, exit_pickily, 1).exception(ANSWER)
    assert str(error) == "PickyExit: no data at 3"
    error = engine.submit(0, raise_picky, 1).exception(ANSWER)
    assert isinstance(error, RuntimeError)
    assert str(error) == "Picky: no data at 3"
    assert "raise_picky" in str(error.__cause__)
    assert engine.submit(1, same, 1).result(ANSWER) == 1
    with pytest.raises(
        cm.errors.RowFailed, match=r"^row 0 failed on worker . with Picky: no data at 3. Correct fn"
    ):
        cm.map(raise_picky, np.ones((2, 1)), code=cm.Replication(2, 2), engine=pool)


def test_an_executor_that_cannot_start_a_process_says_so(monkeypatch):
    def full(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with ThreadPoolExecutor(1) as executor:
        monkeypatch.setattr(executor, "submit", full)
        with pytest.raises(cm.EngineError, match=r"no more calls \(.*temporarily unavailable\)"):
            cm.map(np.sin, np.ones(4), engine=executor)


@pytest.mark.parametrize("code", [None, cm.Replication(2, 4)], ids=["rows", "code"])
def test_an_executor_that_changes_answers_is_named(code):
    class Changing(Recording):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(lambda: fn(*args, **kwargs).values)

    with pytest.raises(cm.EngineError, match=r"type ndarray, and not with what fn\(payload\)"):
        cm.map(np.negative, np.ones((4, 2)), code=code, engine=FromExecutor(Changing(), 4))


class Lifted(Future):
    """As those of Parsl: an attribute that it does not have is another future."""

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return Lifted()


class Lifting(Executor):
    """Runs calls in a thread, and keeps all functions that it is given, as Parsl does."""

    def __init__(self):
        self.functions = set()
        self._threads = ThreadPoolExecutor(2)

    def submit(self, fn, /, *args):
        self.functions.add(fn)
        future = Lifted()

        def end(done):
            if done.exception() is None:
                future.set_result(done.result())
            else:
                future.set_exception(done.exception())

        self._threads.submit(fn, *args).add_done_callback(end)
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._threads.shutdown(wait, cancel_futures=cancel_futures)


@pytest.mark.parametrize("code", [None, cm.Replication(2, 4)], ids=["rows", "code"])
def test_a_future_that_answers_any_attribute_is_asked_for_none(code):
    with Lifting() as executor:
        engine = FromExecutor(executor, 2 if code is None else 4)
        # One call runs on beyond the first look at what the futures say.
        fn = cm.itemwise(lambda x: (nap(1.2 * (x == 1)), -x)[1])
        X = np.arange(8.0)
        assert np.array_equal(cm.map(fn, X, code=code, engine=engine, hedge=None).values, -X)
    assert len(executor.functions) == 1


def test_a_future_that_was_cancelled_takes_no_answer():
    go = threading.Event()
    with Lifting() as executor:
        future = FromExecutor(executor, 1).submit(0, lambda _: go.wait(ANSWER), None)
        assert future.cancel()
        go.set()
    assert future.cancelled()


def test_an_object_whose_submit_returns_no_future_says_so():
    class Job:
        """As those of submitit."""

    class Submitting:
        def submit(self, fn, *args):
            return Job()

    with pytest.raises(cm.EngineError, match=r"type Job, and no concurrent\.futures\.Future: wrap"):
        cm.map(np.sin, np.ones(4), engine=FromExecutor(Submitting(), 2))
    with pytest.raises(cm.InvalidArgument, match=r"FromExecutor\(executor, workers=8\)"):
        cm.map(np.sin, np.ones(4), engine=Submitting())


def test_an_executor_that_has_been_shut_down_says_so():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(
        cm.EngineError, match=r"takes no more calls \(.*shutdown\): create a new one"
    ):
        cm.map(np.negative, np.ones((2, 1)), code=cm.Replication(2, 2), engine=executor)


def test_the_executor_stays_its_owners(pool):
    code = cm.Replication(2, 4)
    for engine in (FromExecutor(pool, 4), pool):
        result = cm.map(np.negative, np.ones((6, 2)), code=code, engine=engine, stop=cm.Everyone())
        assert np.array_equal(result.values, -np.ones((6, 2)))
        assert result.answered == (0, 1, 2, 3)
    assert pool.submit(abs, -1).result(ANSWER) == 1
