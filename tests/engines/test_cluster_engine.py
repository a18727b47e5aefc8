"""Workers that join and leave, on a toy cluster: their numbers, and what becomes of their calls."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import count

import pytest

import codedmap as cm
from codedmap.contracts.engine import Member
from codedmap.engines.cluster_engine import ClusterEngine, check_versions
from codedmap.engines.transport import serve as serving
from codedmap.engines.transport.parcel import pack, receive
from codedmap.engines.transport.serve import serve, versions
from codedmap.errors import NotStarted

from ..interleaving import interleaved
from ..interrupting import interrupted
from ..processes import ANSWER, eventually


class Toys(ClusterEngine):
    """Workers by name, each of which answers every call with its name."""

    kind = "toy"

    def __init__(self, *names: str, workers: int | None = None, grace: float | None = None) -> None:
        super().__init__(workers, grace, asyncio.new_event_loop())
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.held: dict[str, Future[None]] = {}
        """Workers that answer only when this is done."""
        self.dead: set[str] = set()
        self.refused = False
        self.dismissed: list[tuple[str, threading.Thread]] = []
        self.ended: list[str] = []
        self.forgotten: list[tuple[str, object]] = []
        self.released: list[str] | None = None
        self._wait(self._begin({name: Member(name) for name in names}))

    def _is_open(self):
        return True

    def _send(self, queue, call):
        if self.refused:
            raise cm.EngineError("nothing can be sent")
        if queue.name in self.dead:
            raise self._crash_error(queue.name)

        def done(_):
            content = call.request.content if call.request.setup else pack((str, queue.name), None)
            self._soon(queue.answered, call, serve(replace(call.request, content=content)))

        self.held.get(queue.name, _ready()).add_done_callback(done)

    def _dismiss(self, name):
        self.dismissed.append((name, threading.current_thread()))

    async def _end(self, name):
        self.ended.append(name)

    async def _forget(self, name, key):
        self.forgotten.append((name, key))

    async def _release(self, busy):
        self.released = busy

    def _disconnect(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What happens to the cluster.

    def happen(self, function, *arguments) -> None:
        async def do() -> None:
            function(*arguments)

        self._wait(do())

    def join(self, name: str) -> None:
        self.happen(self._join, name, Member(name))

    def leave(self, name: str) -> None:
        self.happen(self._leave, name, self._crash_error(name))

    def hold(self, name: str) -> Future[None]:
        return self.held.setdefault(name, Future())

    def where(self, worker: int) -> str:
        return self.submit(worker, str, "").result(ANSWER)

    def names(self) -> dict[int, object]:
        return {number: member.domain for number, member in self.members().items()}


def _ready() -> Future[None]:
    ready: Future[None] = Future()
    ready.set_result(None)
    return ready


def test_a_worker_that_joins_has_a_new_number():
    with Toys("a", "b") as engine:
        assert engine.names() == {0: "a", 1: "b"}
        engine.leave("b")
        assert engine.names() == {0: "a"}
        engine.join("b")
        engine.join("c")
        assert engine.names() == {0: "a", 2: "b", 3: "c"}
        assert [engine.where(worker) for worker in (0, 2, 3)] == ["a", "b", "c"]
        assert engine.workers == 3


def test_a_worker_that_joins_twice_has_one_number():
    with Toys("a") as engine:
        engine.join("a")
        assert engine.names() == {0: "a"}


def test_no_more_than_so_many_are_used_and_another_takes_the_place_of_one_that_dies():
    with Toys("a", "b", "c", workers=2) as engine:
        assert engine.names() == {0: "a", 1: "b"}
        engine.join("d")
        engine.leave("d")  # a spare one
        engine.leave("a")
        assert engine.names() == {1: "b", 2: "c"}
        engine.leave("b")
        assert engine.names() == {2: "c"}
        engine.join("e")
        assert engine.names() == {2: "c", 3: "e"}


def test_of_more_workers_than_are_used_those_are_used_that_are_apart():
    class Hosts(Toys):
        async def _begin(self, found):
            await super()._begin({name: Member(name[0]) for name in found})

    with Hosts("a1", "a2", "a3", "b1", "b2", "b3", workers=4) as engine:
        assert list(engine.names().values()) == ["a", "b", "a", "b"]


def test_calls_that_wait_for_a_worker_that_leaves_have_not_started():
    with Toys("a", "b") as engine:
        go = engine.hold("a")
        kept = engine.keep(0, "first")
        calls = [engine.submit(0, str, "") for _ in range(3)]
        last = engine.keep(0, "last")
        calls.append(engine.submit(0, last, ""))
        assert engine.load(0) == 5  # it and the value that it waits for are one
        assert not calls[0].running()
        engine.leave("a")
        assert all(isinstance(call.exception(ANSWER), NotStarted) for call in calls)
        assert isinstance(engine.last_loss, cm.WorkerCrashed)
        assert engine.load(0) == 0
        assert isinstance(engine.submit(0, str, "").exception(ANSWER), NotStarted)
        assert kept.lost
        assert last.lost
        assert engine.keep(0, "late").lost
        go.set_result(None)
        assert engine.where(1) == "b"


def test_a_call_that_is_sent_to_a_worker_that_has_left_fails_with_what_made_it_leave():
    """It had left as the call was sent, and a job said only that no worker was left."""
    with Toys("a", "b") as engine:
        engine.happen(engine._leave, "a", NotStarted("it is paused"))
        assert str(engine.submit(0, str, "").exception(ANSWER)) == "it is paused"


def test_a_keyboard_interrupt_at_any_point_of_a_call_costs_no_worker():
    """A call that was taken, and not yet sent, held its worker for ever."""
    with Toys("a") as engine:
        n, where = 0, "at the start"
        while where is not None:
            n += 1
            where = interrupted(n, lambda: engine.submit(0, str, ""))
            assert engine.where(0) == "a", where


def test_what_cannot_be_sent_is_named():
    lock = threading.Lock()
    with Toys("a") as engine:
        for call, says in [
            (lambda: engine.submit(0, str, lock), "^the payload, of type lock, cannot be sent"),
            (lambda: engine.submit(0, partial(str, lock), ""), "^the function str cannot be sent"),
            (lambda: engine.keep(0, cm.itemwise(lock.locked)), "^the function lock.locked cannot"),
            (lambda: engine.keep(0, lock), "^the value to keep cannot be sent"),
        ]:
            with pytest.raises(cm.errors.CannotSend, match=says):
                call()


class Forgotten:
    """A value whose engine is closed while a worker opens it."""

    def __reduce__(self):
        return serving.forget, ("toys",)


def test_a_value_that_is_forgotten_while_it_is_opened_is_not_kept():
    """A worker of Dask held the function of a closed engine for good, with all its data."""
    key = ("toys", 0, 1)
    for request in (
        serving.Request(pack(Forgotten(), None), None, keep=key),
        serving.Request(pack((serving.KeptKey(key), None), None), None),
    ):
        serving._kept.update({} if request.keep else {key: [receive(pack(Forgotten(), None))]})
        serve(request)
        assert key not in serving._kept


def test_much_that_is_kept_is_released_at_once_and_little_with_the_next_call():
    with Toys("a", "b") as engine:
        much, little = engine.keep(0, b"0" * (1 << 20)), engine.keep(0, b"0")
        gone, keys = engine.keep(1, b"0" * (1 << 20)), [much.key, little.key]
        engine.leave("b")
        assert engine.where(0) == "a"
        assert serving._kept.keys() >= {*keys}
        del much, little, gone
        assert eventually(lambda: engine.forgotten)
        assert engine.where(0) == "a"
        assert engine.forgotten == [("a", keys[0])]
        assert keys[1] not in serving._kept


def test_a_late_answer_of_a_worker_that_has_gone_changes_nothing():
    with Toys("a") as engine:
        go = engine.hold("a")
        call = engine.submit(0, str, "")
        assert eventually(call.running)
        engine.leave("a")
        go.set_result(None)
        assert isinstance(call.exception(ANSWER), cm.WorkerCrashed)


def test_a_worker_found_dead_by_a_call_is_dismissed_in_the_thread_of_the_cluster():
    with Toys("a", "b") as engine:
        engine.dead.add("a")
        assert isinstance(engine.submit(0, str, "").exception(ANSWER), cm.WorkerCrashed)
        assert eventually(lambda: engine.dismissed)
        assert engine.dismissed == [("a", engine._thread)]
        assert engine.names() == {1: "b"}


def test_a_dead_call_does_not_cost_a_worker_that_has_come_under_the_same_name():
    with Toys("a") as engine:
        before = engine._queues[0]
        engine.leave("a")
        engine.join("a")
        engine._soon(engine._end_dead, before, engine._crash_error("a"))
        engine.happen(lambda: None)
        assert engine.names() == {1: "a"}


@pytest.mark.parametrize(("grace", "give_up"), [(0.1, "abandon"), (600.0, "end")])
def test_after_grace_a_worker_that_still_runs_an_abandoned_call_is_ended(grace, give_up):
    """`end` gives no grace."""
    with Toys("a", "b", grace=grace) as engine:
        go = engine.hold("a")
        abandoned, behind = engine.submit(0, str, ""), engine.submit(0, str, "")
        over = engine.submit(1, str, "")
        assert over.result(ANSWER) == "b"
        getattr(engine, give_up)([abandoned, over])
        assert isinstance(abandoned.exception(ANSWER), cm.errors.Abandoned)
        assert isinstance(behind.exception(ANSWER), NotStarted)
        assert eventually(lambda: engine.ended) == ["a"]
        assert engine.names() == {1: "b"}
        go.set_result(None)


def test_a_call_that_waits_on_its_worker_for_other_calls_is_ended_after_grace_once_it_has_begun():
    """It was ended as soon as it began, if that was between two looks at it."""
    with Toys("a", grace=0.1) as engine:
        go = engine.hold("a")
        call, queue = engine.submit(0, str, ""), engine._queues[0]
        assert eventually(call.running)
        queue.note_wait(True)
        engine.abandon([call])
        time.sleep(0.25)
        assert (call.waits, engine.ended) == (True, [])
        queue.note_wait(False)
        assert len(call.begun) == 2
        assert eventually(lambda: engine.ended) == ["a"]
        assert time.monotonic() - call.begun[-1] >= 0.1
        go.set_result(None)


STEPS = []


def first():
    STEPS.append("first")


def second():
    STEPS.append("second")


def test_setups_run_once_each_in_their_order():
    STEPS.clear()
    with Toys("a") as engine:
        engine.setup(first)
        engine.setup(second)
        assert engine.where(0) == "a"
        engine.setup(first)
        assert [engine.where(0) for _ in range(2)] == ["a", "a"]
    assert STEPS == ["first", "second", "first"]


def fails():
    raise OSError("no licence")


def test_calls_after_a_setup_that_raised_fail_with_what_it_raised():
    with Toys("a") as engine:
        engine.setup(fails)
        for _ in range(2):
            error = engine.submit(0, str, "").exception(ANSWER)
            assert isinstance(error, cm.EngineError)
            assert "could not be set up, because fails raised OSError: no licence" in str(error)
            assert isinstance(error.__cause__, OSError)


def test_a_call_that_needs_what_is_lost_fails_alone():
    with Toys("a") as engine:
        kept = engine.keep(0, "x")
        assert engine.where(0) == "a"
        go = engine.hold("a")
        calls = [engine.submit(0, fn, "") for fn in (str, kept, str)]
        kept.lost = True
        go.set_result(None)
        assert isinstance(calls[1].exception(ANSWER), cm.errors.KeptLost)
        assert calls[2].result(ANSWER) == "a"


def test_workers_that_die_in_their_setup_one_after_another_are_an_error_and_others_not():
    with Toys("a") as engine:
        engine.setup(str)
        for number in range(6):
            engine.dead = set() if number == 2 else {"a"}
            error = engine.submit(number, str, "").exception(ANSWER)
            if number == 2:
                assert error is None
                engine.leave("a")
            else:
                assert isinstance(error, cm.EngineError if number == 5 else cm.WorkerCrashed)
            assert eventually(lambda: not engine.workers)
            engine.join("a")
    assert str(error).startswith("3 workers have died during their setup and none has survived it")


def test_other_versions_on_a_worker_are_refused():
    check_versions("a", versions())
    for found, says in [
        (
            {"Python": "3.1", "codedmap": "0"},
            "^a has Python 3.1, codedmap 0, but the caller Python",
        ),
        (
            ImportError("no codedmap"),
            r"^a cannot run codedmap \(ImportError: no codedmap\): install",
        ),
    ]:
        with pytest.raises(cm.EngineError, match=says):
            check_versions("a", found)


def test_when_the_whole_cluster_is_lost_every_call_fails_and_says_so():
    with Toys("a", "b") as engine:
        go = engine.hold("a")
        calls = [engine.submit(0, str, ""), engine.submit(0, str, "")]
        engine.happen(engine._lose, "the toys are broken")
        for call in calls:
            with pytest.raises(cm.EngineError, match="the toys are broken"):
                call.result(ANSWER)
        assert engine.members() == {}
        go.set_result(None)


def test_any_number_of_calls_may_fail_at_once_when_they_cannot_be_sent():
    with Toys("a") as engine:
        go = engine.hold("a")
        calls = [engine.submit(0, str, "") for _ in range(5 * sys.getrecursionlimit())]
        engine.refused = True
        go.set_result(None)
        assert calls[0].result(ANSWER) == "a"
        for call in calls[1:]:
            assert isinstance(call.exception(ANSWER), cm.EngineError)


def test_after_the_end_calls_are_refused_also_to_workers_that_had_gone(caplog):
    engine = Toys("a", "b")
    go = engine.hold("a")
    engine.submit(0, str, "")
    engine.leave("b")
    engine.close()
    assert engine.released == ["a"]
    for worker in (0, 1):
        with pytest.raises(cm.EngineError, match="the engine has been closed"):
            engine.submit(worker, str, "")
    with pytest.raises(cm.EngineError, match="the engine has been closed"):
        engine.setup(str)
    engine.close()
    go.set_result(None)
    assert not caplog.records


def test_closing_that_was_interrupted_is_done_when_it_is_called_again(monkeypatch):
    engine = Toys("a")

    def interrupted(_) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(engine._queues[0], "fail", interrupted)
    with pytest.raises(KeyboardInterrupt), engine:
        pass
    assert engine.released == []
    assert not engine._thread.is_alive()


@pytest.mark.parametrize("change", ["join", "leave"])
@pytest.mark.parametrize(
    ("of", "use"),
    [
        (ClusterEngine.setup, lambda engine: engine.setup(str)),
        (ClusterEngine.members, lambda engine: engine.members()),
        (ClusterEngine.load, lambda engine: engine.load(0)),
        (ClusterEngine.submit, lambda engine: engine.submit(0, str, "")),
        (ClusterEngine.keep, lambda engine: engine.keep(0, "")),
    ],
)
def test_workers_may_join_and_leave_while_an_engine_is_used(change, of, use):
    """Another worker was added to those that setup went through: a RuntimeError of Python, and no worker was set up."""
    for n in count(1):
        with Toys("a", "b") as engine:
            name = {"join": "c", "leave": "a"}[change]
            if not interleaved(n, of, partial(use, engine), partial(getattr(engine, change), name)):
                break
            assert engine.where(1) == "b"
    assert n > 5


def test_two_threads_may_close_an_engine_at_once():
    """One waited for ever for an event loop that the other had stopped."""

    class Slow(Toys):
        async def _release(self, busy):
            again = releasing.is_set()
            releasing.set()
            await asyncio.sleep(1.0 if again else 0.2)

    engine, releasing = Slow("a"), threading.Event()
    closing = [threading.Thread(target=engine.close, daemon=True) for _ in range(2)]
    closing[0].start()
    assert releasing.wait(ANSWER)
    closing[1].start()
    for thread in closing:
        thread.join(5.0)
        assert not thread.is_alive()
    assert not engine._thread.is_alive()


def test_an_engine_may_be_closed_in_a_callback_of_a_call():
    """The event loop waited for itself, and with it all other calls of the cluster."""
    engine = Toys("a")
    hold = engine.hold("a")
    first = engine.submit(0, str, "")
    first.add_done_callback(lambda _: engine.close())
    last = engine.submit(0, str, "")
    assert eventually(first.running)
    hold.set_result(None)
    assert isinstance(last.exception(5.0), cm.errors.Abandoned)
    engine._thread.join(5.0)
    assert not engine._thread.is_alive()
    engine.close()


def test_an_engine_may_be_closed_in_a_callback_of_a_call_that_its_end_fails():
    """It was released twice, and the second time its event loop had ended."""
    engine = Toys("a", "b")
    for worker in (0, 1):
        engine.hold("ab"[worker])
        call = engine.submit(worker, str, "")
        call.add_done_callback(lambda _: engine.close())
        assert eventually(call.running)
    engine.close()
    assert engine.released == ["a", "b"]


def test_an_engine_that_nothing_refers_to_is_closed_when_its_calls_have_ended():
    """Its actors, or what it had done to the cluster, stayed until the program ended."""
    engine = Toys("a", "b")
    thread, held, hold = engine._thread, weakref.ref(engine), engine.hold("a")
    call = engine.submit(0, str, "")
    del engine
    gc.collect()
    hold.set_result(None)
    assert call.result(ANSWER) == "a"
    del call, hold  # which refers to what waits for it
    with pytest.warns(ResourceWarning, match="an engine of 2 toy workers was dropped, and never"):
        assert eventually(lambda: gc.collect() >= 0 and held() is None)
    assert eventually(lambda: not thread.is_alive())


def test_who_watches_is_called_until_it_watches_no_more():
    with Toys("a") as engine:
        seen = []
        look = lambda: seen.append(engine.names())  # noqa: E731
        engine.watch(look)
        engine.join("b")
        engine.leave("a")
        engine.unwatch(look)
        engine.unwatch(look)
        engine.join("c")
        assert seen == [{0: "a", 1: "b"}, {1: "b"}]


def test_a_job_on_a_cluster_that_was_lost_waits_for_no_worker():
    class Lost(Toys):
        lost = False

        def _check_open(self):
            if self.lost:
                raise cm.EngineError("the cluster was lost")

    with Lost("a") as toys:
        toys.lost = True
        toys._soon(toys._lose, "the cluster was lost")
        assert eventually(lambda: not toys.workers)
        with pytest.raises(cm.EngineError, match="was lost"):
            cm.map(str, ["b"], engine=toys)
