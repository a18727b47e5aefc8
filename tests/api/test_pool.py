"""Pools: the interface of multiprocessing.Pool, with exact results only."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import queue
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from scipy import optimize

import codedmap as cm
from codedmap.api.pool import _Last
from codedmap.testing import Scripted, crash

from ..byhand import ByHand
from ..processes import ANSWER, children, eventually, run_script
from ..repeats import first


@pytest.fixture
def pool():
    with ThreadPoolExecutor(3) as executor, cm.Pool(executor) as made:
        yield made


ANYTHING = [
    1, 2.5, True, None, "text", b"bytes", np.float32(3.0), np.ones(2), [1, 2], (1, 2), {"a": 1}, {3}
]  # fmt: skip


@pytest.mark.parametrize("way", ["map", "imap", "called", "starmap", "submit", "callback"])
def test_answers_are_what_the_function_returned(pool, way):
    ways = {
        "map": lambda: pool.map(lambda x: x, ANYTHING),
        "imap": lambda: list(pool.imap(lambda x: x, iter(ANYTHING))),
        "called": lambda: pool(lambda x: x, ANYTHING),
        "starmap": lambda: pool.starmap(lambda _, x: x, enumerate(ANYTHING)),
        "submit": lambda: [pool.submit(lambda x: x, item).result() for item in ANYTHING],
        "callback": lambda: pool.map(lambda x: x, ANYTHING, callback=lambda x: None),
    }
    answers = ways[way]()
    assert list(map(type, answers)) == list(map(type, ANYTHING))
    np.testing.assert_array_equal(answers.pop(7), np.ones(2))
    assert answers == ANYTHING[:7] + ANYTHING[8:]


class Opened:
    """A function that says what it holds, and by which unpickling it came to its worker."""

    def __init__(self, held):
        self.held, self.opened = held, os.urandom(8)

    def __reduce__(self):
        return Opened, (self.held,)

    def __call__(self, x):
        time.sleep(0.002)
        return float(self.held[0]), self.opened


@pytest.mark.parametrize("way", first(1, ["map", "imap"]))
def test_a_function_is_sent_again_only_if_it_holds_something_else(way):
    with cm.engines.Local(2) as engine, cm.Pool(engine) as pool:
        ways = {"map": pool.map, "imap": lambda *given: list(pool.imap(*given))}
        fn, seen = Opened(np.zeros(20_000)), []
        for held in (0.0, 0.0, 1.0, 1.0, 1.0):
            fn.held[0] = held
            seen.append(ways[way](fn, range(12), 1))
            assert {answer for answer, _ in seen[-1]} == {held}
        opened = [{made for _, made in answers} for answers in seen]
        assert len(opened[0] | opened[1]) <= 2
        assert len(opened[2] | opened[3] | opened[4]) <= 2
        assert not (opened[0] | opened[1]) & (opened[2] | opened[3])


def test_threads_that_share_a_pool_get_the_answers_of_their_own_function():
    """Between two steps of one call another thread may leave its function."""

    class Shared(cm.Pool):
        left = None

        @property
        def _last(self):
            return self.left.pop() if self.left else None

        @_last.setter
        def _last(self, before):
            resident = cm.engines.Resident(cm.itemwise(other), engine)
            self.left = [_Last(b"", resident)] if before else []

    def other(x):
        return "another thread's"

    with cm.engines.Local(1) as engine, Shared(engine) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]


class Counted(cm.engines.Local):
    """Counts the calls that it is given."""

    calls = 0

    def submit(self, worker, fn, payload):
        self.calls += 1
        return super().submit(worker, fn, payload)


def test_a_function_that_was_fast_is_next_called_once_on_each_worker():
    counts = []
    with Counted(2) as engine, cm.Pool(engine, hedge=None) as pool:
        for _ in range(5):
            before = engine.calls
            assert pool.map(abs, range(-16, 0)) == list(range(16, 0, -1))
            counts.append(engine.calls - before)
    assert counts[0] > 2
    assert min(counts) == 2  # others may be delayed by what else the machine does


@pytest.mark.parametrize(
    ("seconds", "items", "inputs"),
    [(1e-4, 16, 4), (1e-4, 3, 1), (2e-3, 9, 3), (2e-3, 16, 4), (4e-3, 16, 1)],
)
def test_inputs_of_a_call_follow_from_what_the_last_job_took(seconds, items, inputs):
    engine = Scripted(4)
    last = _Last(b"", cm.engines.Resident(abs, engine), seconds)
    assert last.first(items, engine.workers) == inputs


def test_answers_may_have_different_shapes(pool):
    assert [a.shape for a in pool.map(np.ones, [(1,), (2, 3), ()])] == [(1,), (2, 3), ()]


def test_without_inputs_nothing_is_computed(pool):
    before = threading.active_count()
    for inputs in ([], iter(())):
        assert pool.map(print, inputs) == pool.starmap(print, inputs) == []
        assert [*pool.imap(print, inputs)] == [*pool.imap_unordered(print, inputs)] == []
    assert eventually(lambda: threading.active_count() <= before)


def test_arguments_of_submit_may_have_any_name(pool):
    assert pool.submit(dict, fn=1, self=2, task=3).result() == {"fn": 1, "self": 2, "task": 3}


def test_a_callback_gets_each_answer_in_the_order_of_arrival():
    """The first input waits for all others."""
    done, seen = threading.Event(), []

    def wait(x):
        assert x or done.wait(60)
        return x

    def note(x):
        seen.append(x)
        if len(seen) == 4:
            done.set()

    with ThreadPoolExecutor(2) as executor, cm.Pool(executor, hedge=None) as pool:
        assert pool.map(wait, range(5), chunksize=1, callback=note) == [0, 1, 2, 3, 4]
    assert seen[-1] == 0
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_answers_come_while_others_are_computed():
    go_on = threading.Event()

    def wait(x):
        assert x != 3 or go_on.wait(60)
        return x

    with ThreadPoolExecutor(2) as executor, cm.Pool(executor, hedge=None) as pool:
        answers = pool.imap(wait, range(5), chunksize=1)
        assert [next(answers) for _ in range(3)] == [0, 1, 2]
        go_on.set()
        assert list(answers) == [3, 4]
        go_on.clear()
        answers = pool.imap_unordered(wait, range(5), chunksize=1)
        assert sorted(next(answers) for _ in range(4)) == [0, 1, 2, 4]
        go_on.set()
        assert list(answers) == [3]


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_inputs_that_have_no_end_are_read_as_they_are_needed(pool, way):
    before = threading.active_count()
    answers = getattr(pool, way)(lambda x: x * 2, itertools.count())
    assert sorted(next(answers) for _ in range(100))[50] % 2 == 0
    answers.close()
    unused = getattr(pool, way)(lambda x: x * 2, itertools.count())
    del unused
    assert eventually(lambda: threading.active_count() <= before + 3)  # of the executor


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_an_iterator_may_wait_for_the_answers_to_what_it_gave(pool, chunksize):
    """An optimiser that makes its next proposal of the answers: the second was held back, and nothing ended."""
    answers = queue.SimpleQueue()

    def proposals():
        x = 0
        for _ in range(4):
            yield x
            x = answers.get(timeout=ANSWER)

    found = []
    for answer in pool.imap(lambda x: x + 1, proposals(), chunksize=chunksize):
        found.append(answer)
        answers.put(answer)
    assert found == [1, 2, 3, 4]


def failing_after(inputs):
    yield from inputs
    raise KeyError("the iterator") from OSError("of the file")


@pytest.mark.parametrize("inputs", [[], [1], list(range(50))])
def test_what_an_iterator_of_inputs_raises_is_raised_as_it_is(pool, inputs):
    with pytest.raises(KeyError, match="the iterator") as caught:
        list(pool.imap(lambda x: x, failing_after(inputs)))
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(ZeroDivisionError) as failed:
        list(pool.imap(lambda x: 1 / x, iter([1, 0])))
    assert failed.value.__notes__ == ["for input 1"]


class Odd(Exception):
    def __init__(self, number):
        super().__init__(f"{number} is odd")
        self.number = number


def even(x):
    if x % 2:
        raise Odd(x)
    return x


@pytest.mark.parametrize("way", first(2, ["map", "submit", "imap", "callback"]))
def test_what_the_function_raises_is_raised(way):
    with cm.engines.Local(2) as engine, cm.Pool(engine) as pool:
        with pytest.raises(Odd, match="3 is odd") as caught:
            {
                "map": lambda: pool.map(even, [0, 2, 3, 4]),
                "imap": lambda: list(pool.imap(even, [0, 2, 3, 4])),
                "submit": lambda: pool.submit(even, 3).result(60),
                "callback": lambda: pool.map(even, [0, 2, 3, 4], callback=lambda x: None),
            }[way]()
        assert caught.value.number == 3
        notes = getattr(caught.value, "__notes__", [])
        named = [note for note in notes if note.startswith("for ")]
        assert named == ["for input 2 of 4"] * (way != "submit")
        assert any("in even" in str(part) for part in (*notes, caught.value.__cause__))


@pytest.mark.parametrize("way", ["map", "imap", "imap_unordered"])
@pytest.mark.parametrize(("inputs", "notes"), [([0], []), ([1, 0], ["for input 1 of 2"])])
def test_an_input_is_named_where_there_are_several(way, inputs, notes, pool):
    with pytest.raises(ZeroDivisionError) as caught:
        list(getattr(pool, way)(lambda x: 1 / x, inputs))
    assert [n for n in getattr(caught.value, "__notes__", []) if n.startswith("for ")] == notes


@pytest.mark.parametrize("way", ["imap_unordered", "callback"])
def test_what_is_raised_first_is_raised_at_once_where_the_order_is_that_of_arrival(way):
    go_on = threading.Event()

    def wait(x):
        assert x or go_on.wait(60)
        return 1 / (x - 1)

    with ThreadPoolExecutor(2) as executor, cm.Pool(executor, hedge=None) as pool:
        ways = {
            "callback": lambda: pool.map(wait, range(4), chunksize=1, callback=print),
            "imap_unordered": lambda: list(pool.imap_unordered(wait, range(4), chunksize=1)),
        }
        try:
            with pytest.raises(ZeroDivisionError):
                ways[way]()
        finally:
            go_on.set()


def test_what_would_end_the_caller_is_an_error(pool):
    def leave(x):
        raise SystemExit(x)

    with pytest.raises(cm.errors.RowFailed, match="the input raised SystemExit: 3") as caught:
        pool.map(leave, [3])
    assert "on_error" not in str(caught.value)  # which pools do not have
    with pytest.raises(cm.errors.RowFailed, match="input 0 of 2 raised SystemExit: 3") as caught:
        list(pool.imap(leave, [3, 3], chunksize=2))
    assert caught.value.row == 0
    assert isinstance(caught.value.__cause__, SystemExit)


@pytest.mark.parametrize("way", ["map", "imap", "submit"])
def test_what_would_end_a_loop_of_the_caller_is_an_error(way, pool):
    """It was a RuntimeError: a coroutine, or generator, raised StopIteration."""

    def first(x):
        return next(iter(x))

    with pytest.raises(cm.errors.RowFailed, match="raised StopIteration"):
        {
            "map": lambda: pool.map(first, [[]]),
            "imap": lambda: list(pool.imap(first, [[]])),
            "submit": lambda: pool.submit(first, []).result(60),
        }[way]()


@pytest.mark.parametrize(
    "use",
    [
        lambda pool, fn: optimize.brute(fn, [(0, 1)] * 2, Ns=3, workers=pool.map),
        lambda pool, fn: optimize.differential_evolution(
            fn, [(0, 1)] * 2, workers=pool.map, updating="deferred", seed=0
        ),
    ],
)
def test_an_objective_that_returns_none_is_said_with_its_input(pool, use):
    with pytest.raises(cm.errors.RowFailed, match=r"returned None for input \d+ of \d+: let it"):
        use(pool, lambda x: None if x[0] > 0.3 else 1.0)


def test_other_functions_may_return_none(pool):
    def write(x):
        return None

    write.__module__ = "scipy.io"
    assert pool.map(write, [1, 2]) == [None, None]


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda pool: pool.map(max, [1], [2]), r"chunksize=\[2\] must be a whole number"),
        (lambda pool: pool.imap(max, [1], [2]), r"chunksize=\[2\] must be a whole number"),
        (lambda pool: pool.map(abs, [1], 0), "chunksize=0 must be a whole number"),
        (lambda pool: pool.map(abs, [], 0), "chunksize=0 must be a whole number"),
        (lambda pool: pool.imap(abs, [], 0), "chunksize=0 must be a whole number"),
        (lambda pool: pool.imap(abs, iter([1]), 0.5), "chunksize=0.5 must be a whole number"),
        (lambda pool: pool.map("abs", []), "fn='abs' cannot be called"),
        (
            lambda pool: pool.map(cm.engines.Resident(abs, Scripted(1)), []),
            "give the function itself",
        ),
        (lambda pool: pool.starmap(max, [(1, 2), 3]), "input 1 of starmap is of type int"),
    ],
)
def test_inputs_that_cannot_be_used(pool, use, said):
    with pytest.raises(cm.InvalidArgument, match=said):
        use(pool)


def test_a_crash_costs_a_call_and_a_row_that_always_crashes_is_named():
    with Scripted(2, {0: [crash()]}) as engine, cm.Pool(engine) as pool:
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
    with cm.engines.Local(2) as engine, cm.Pool(engine, retries=1) as pool:
        with pytest.raises(cm.WorkerCrashed, match=r"^ended its worker 2 times") as caught:
            pool.map(lambda x: os._exit(3) if x else x, [0, 1])
        assert caught.value.__notes__ == ["for input 1 of 2"]
        assert pool.map(abs, [-1]) == [1]


def test_a_call_may_take_so_long():
    with cm.engines.Local(1, grace=0.0) as engine, cm.Pool(engine, call_timeout=0.5) as pool:
        with pytest.raises(cm.errors.CallTimeout, match=r"^still running"):
            pool.map(time.sleep, [60.0])
        with pytest.raises(cm.errors.CallTimeout, match=r"^still running"):
            pool.submit(time.sleep, 60.0).result(30)


def test_leaving_waits_for_calls_and_an_exception_abandons_them():
    with cm.engines.Local(1) as engine:
        with cm.Pool(engine) as pool:
            call = pool.submit(time.sleep, 0.3)
        assert call.done()
    assert call.result() is None
    calls = []

    def leave():
        with cm.Pool() as pool:
            assert 1 <= pool.size <= os.cpu_count()
            calls.append(pool.submit(time.sleep, 60.0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert calls[0].cancelled()
    with cm.Pool() as pool:
        call = pool.submit(time.sleep, 60.0)
        pool.terminate()
        with pytest.raises(CancelledError):
            call.result(0)


def test_calls_that_one_thread_waits_for_are_abandoned_by_another():
    with Scripted(1, {0: cm.testing.never()}) as engine, cm.Pool(engine) as pool:
        call = pool.submit(abs, -1)
        closing = threading.Thread(target=pool.close, daemon=True)
        closing.start()
        time.sleep(0.1)
        pool.terminate()
        closing.join(5)
        assert call.cancelled()
        assert not closing.is_alive()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_callback_of_a_call_may_end_the_pool(end):
    def callback(_):
        getattr(pool, end)()
        called.set()

    before, called = threading.active_count(), threading.Event()
    engine = ByHand(1)
    pool = cm.Pool(engine)
    pool.submit(abs, -1).add_done_callback(callback)
    assert eventually(lambda: engine.calls)
    engine.answer(0)
    assert called.wait(5)
    assert eventually(lambda: threading.active_count() <= before)
    with pytest.raises(cm.InvalidArgument, match="closed"):
        pool.submit(abs, -1)


def test_closing_waits_for_calls_and_raises_nothing_of_theirs(pool):
    def inverse(x):
        time.sleep(0.05 + 0.2 * abs(x))
        return 1 / x

    failed, called = pool.submit(inverse, 0), pool.submit(inverse, 1)
    pool.join()
    assert called.result(0) == 1.0
    with pytest.raises(ZeroDivisionError):
        failed.result(0)


def test_a_pool_shows_no_progress(pool, monkeypatch, capsys):
    monkeypatch.setattr("codedmap.results.progress_bar._is_shown", lambda: True)
    pool.map(abs, range(3))
    list(pool.imap(abs, range(3)))
    pool.submit(abs, 1).result(ANSWER)
    assert capsys.readouterr() == ("", "")


def test_a_closed_pool_computes_nothing():
    pool = cm.Pool()
    pool.close()
    pool.close()
    for use in (
        lambda: pool.map(abs, [1]),
        lambda: pool.map(abs, []),
        lambda: pool.imap(abs, [1]),
        lambda: pool.imap(abs, []),
        lambda: pool.submit(abs, 1),
    ):
        with pytest.raises(cm.InvalidArgument, match="the pool is closed"):
            use()


@pytest.mark.parametrize("inputs", [range(40), iter(range(40))])
def test_answers_of_a_pool_that_is_closed_are_not_waited_for(inputs):
    pool = cm.Pool()
    answers = pool.imap(abs, inputs, chunksize=1)
    assert next(answers) == 0
    pool.close()
    with pytest.raises(cm.EngineError, match="the pool was closed while answers"):
        list(answers)


def test_a_thread_that_computes_for_a_pool_computes_its_own_calls_of_it():
    """No thread is free for them if all wait: this never ended."""

    def nested(x):
        return (
            pool.map(abs, [-x, x]),
            list(pool.imap(abs, [x])),
            pool.submit(abs, -x).result(ANSWER),
        )

    def failing(x):
        return pool.submit(divmod, x, 0).result(ANSWER)

    with ThreadPoolExecutor(2) as executor, cm.Pool(executor) as pool:
        assert pool.map(nested, range(4)) == [([x, x], [x], x) for x in range(4)]
        with pytest.raises(ZeroDivisionError):
            pool.map(failing, [1])


def test_submit_starts_no_thread_for_a_call(monkeypatch):
    started = []

    def noted(thread, start=threading.Thread.start):
        started.append(thread.name)
        start(thread)

    with ThreadPoolExecutor(1) as threads, cm.Pool(threads) as pool:
        assert pool.submit(abs, -1).result(ANSWER) == 1
        monkeypatch.setattr(threading.Thread, "start", noted)
        assert [pool.submit(abs, k).result(ANSWER) for k in range(3)] == [0, 1, 2]
        assert started == []


def test_no_thread_is_left():
    before = threading.active_count()
    with cm.Pool() as pool:
        assert [call.result() for call in [pool.submit(abs, -x) for x in range(20)]] == list(
            range(20)
        )
    for _ in range(100):
        if threading.active_count() <= before:
            return
        time.sleep(0.05)
    pytest.fail(f"{threading.enumerate()}")


def test_no_thread_is_left_of_a_pool_that_was_dropped():
    """Each had five, as a backend of joblib has a pool that nothing closes."""
    before = threading.active_count()
    with Scripted(2) as engine:
        assert cm.Pool(engine).submit(abs, -1).result() == 1
        gc.collect()
        assert eventually(lambda: threading.active_count() <= before)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_workers_end_with_a_pool_that_was_dropped_when_its_calls_have_answered():
    before = children()
    assert cm.Pool().map(abs, [-1, 2]) == [1, 2]
    assert list(cm.Pool().imap(abs, [-1, 2])) == [1, 2]
    assert cm.Pool().submit(abs, -3).result(ANSWER) == 3
    gc.collect()
    assert eventually(lambda: children() == before)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"engine": 4}, r"give one such as codedmap.engines.Local"),
        ({"retries": -1}, "retries"),
        ({"call_timeout": 0}, "call_timeout"),
        ({"hedge": 3}, "hedge"),
        ({"hedge": cm.Hedge(after=1.0)}, "without a code"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, said):
    with pytest.raises(cm.InvalidArgument, match=said):
        cm.Pool(**arguments)


def test_a_pool_is_not_sent_to_a_worker(pool):
    with pytest.raises(TypeError, match="must not hold one"):
        pickle.dumps(pool)


def test_inside_a_worker_it_computes_there():
    def nested(x):
        with cm.Pool() as pool:
            return pool.map(abs, [-x]), pool.size

    with cm.engines.Local(1) as engine, cm.Pool(engine) as pool:
        assert pool.map(nested, [2]) == [([2], 1)]


@pytest.mark.parametrize("way", ["map", "imap", "submit"])
def test_a_function_that_cannot_be_sent_is_named(way):
    lock = threading.Lock()

    def locked(x):
        return x, lock

    class Wrapper:
        def __init__(self):
            self.lock = lock

        def __call__(self, x):
            return x

    with cm.engines.Local(1) as engine, cm.Pool(engine) as pool:
        ways = {
            "map": lambda: pool.map(locked, [1]),
            "imap": lambda: list(pool.imap(locked, [1])),
            "submit": lambda: pool.submit(locked, 1).result(ANSWER),
        }
        with pytest.raises(cm.errors.CannotSend, match=r"the function \S*\.locked cannot be sent"):
            ways[way]()
        with pytest.raises(cm.errors.CannotSend, match=r"the function \S*\.Wrapper cannot be sent"):
            pool.map(Wrapper(), [1])


@pytest.mark.parametrize(("way", "chunksize"), [("imap", 1), ("imap", 5), ("imap_unordered", 5)])
def test_answers_before_one_that_raises_are_given(way, chunksize, pool):
    raised = threading.Event()

    def inverse(x):
        if x == 0:
            raised.set()
        elif chunksize == 1:
            raised.wait()
        return 1 / x

    found = []
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        found.extend(getattr(pool, way)(inverse, [1, 2, 0, 4, 5], chunksize=chunksize))
    assert found[:2] == [1, 0.5]


def test_a_program_may_end_with_a_pool_that_is_open(tmp_path):
    source = """
        # main
        pool = cm.Pool(cm.engines.Local(1))
        print(pool.submit(abs, -1).result())
        """
    done = run_script(tmp_path, source)
    assert (done.out.split(), done.err) == (["1"], "")


def test_a_child_that_was_forked_off_can_neither_use_nor_end_it(tmp_path):
    source = """
        # main
        with cm.Pool(cm.engines.Local(1)) as pool:
            print(pool.submit(abs, -1).result(), flush=True)
            child = os.fork()
            if child: os.waitpid(child, 0)
            try: print(pool.submit(abs, -2).result())
            except cm.EngineError as error: print(error)
        """
    out = run_script(tmp_path, source).out
    assert sorted(out.split("\n"))[1:3] == ["1", "2"]
    assert "from which this one was forked" in out


def test_an_interruption_while_the_thread_of_calls_starts_does_not_leave_it(monkeypatch):
    def interrupted(thread, start=threading.Thread.start):
        start(thread)
        raise KeyboardInterrupt

    before = threading.active_count()
    with Scripted(1) as engine, cm.Pool(engine) as pool:
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.submit(abs, -1)
        monkeypatch.undo()
    assert eventually(lambda: threading.active_count() <= before)


def test_an_interruption_while_calls_are_waited_for_abandons_them(tmp_path):
    """Python printed of each that it was destroyed but pending."""
    source = """
        import signal, threading, time
        # main
        try:
            with cm.Pool(cm.engines.Local(1)) as pool:
                print(pool.submit(abs, -1).result(), flush=True)
                calls = [pool.submit(time.sleep, 60.0) for _ in range(3)]
                threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        except KeyboardInterrupt:
            print([call.cancelled() for call in calls])
        """
    script = run_script(tmp_path, source)
    assert script.out.endswith("[True, True, True]\n")
    assert script.err == ""
