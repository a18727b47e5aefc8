"""Slots on workers that join and leave, on a toy cluster: which slots share a worker, and for how long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

import codedmap as cm
from codedmap.engines import cluster_engine
from codedmap.engines.cluster import Cluster
from codedmap.engines.cluster_engine import ClusterEngine, Placement
from codedmap.engines.transport.parcel import pack
from codedmap.engines.transport.serve import serve

from ..processes import ANSWER, eventually

PATIENCE = 0.5
LONG = 60.0


class Toy(Cluster):
    """Workers by name, each of which answers every call with its name."""

    kind = "toy"

    def __init__(self, _: str, *, names: list[str]) -> None:
        super().__init__(asyncio.new_event_loop())
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.names = names
        self.held: dict[str, Future[None]] = {}
        """Workers that answer only when this is done."""
        self.dead: set[str] = set()
        self.dismissed: list[tuple[str, threading.Thread]] = []

    open = True

    def check_open(self):
        pass

    def watch(self, on_event):
        self.on_event = on_event
        return {name: (name,) for name in self.names}

    async def admit(self, worker):
        return (worker,)

    def sender(self, worker):
        return partial(self._serve, worker)

    def _serve(self, worker, request, slot, number):
        answer: Future[object] = Future()
        if worker in self.dead:
            answer.set_exception(self.crash_error(worker))
            return answer

        def done(_):
            answer.set_result(serve(replace(request, content=pack((str, worker), None))))

        self.held.get(worker, _ready()).add_done_callback(done)
        return answer

    def dismiss(self, worker):
        self.dismissed.append((worker, threading.current_thread()))

    async def end(self, worker):
        pass

    async def release(self, workers, busy):
        pass

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _ready() -> Future[None]:
    ready: Future[None] = Future()
    ready.set_result(None)
    return ready


class Toys(ClusterEngine):
    """An engine whose calls answer with the name of their worker."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(partial(Toy, names=names), None, None)

    def where(self, slot: int, seconds: float = ANSWER) -> str:
        return self.submit(slot, str, "").result(seconds)

    def send_event(self, what: str, worker: str) -> None:
        async def send() -> None:
            self._cluster.on_event(what, worker)
            await asyncio.gather(*self._cluster._doing)

        self._cluster.wait(send())

    def hold(self, worker: str) -> Future[None]:
        return self._cluster.held.setdefault(worker, Future())


@contextmanager
def toys(*names: str) -> Iterator[Toys]:
    with Toys(list(names)) as engine:
        yield engine


def test_a_slot_waits_for_a_worker_of_its_own_before_it_shares_another(monkeypatch):
    monkeypatch.setattr(cluster_engine, "_PATIENCE", LONG)
    with toys("a", "b") as engine:
        assert [engine.where(slot) for slot in (0, 1)] == ["a", "b"]
        engine.send_event("left", "b")
        call = engine.submit(1, str, "")
        with pytest.raises(TimeoutError):
            call.result(PATIENCE)
        engine.send_event("joined", "c")
        assert call.result(ANSWER) == "c"


def test_the_patience_of_one_slot_is_not_cut_short_by_that_of_another(monkeypatch):
    monkeypatch.setattr(cluster_engine, "_PATIENCE", PATIENCE)
    with toys("a", "b", "c") as engine:
        engine.send_event("left", "b")
        engine.send_event("joined", "d")
        assert engine.where(1) == "d"
        monkeypatch.setattr(cluster_engine, "_PATIENCE", LONG)
        engine.send_event("left", "d")
        call = engine.submit(1, str, "")
        with pytest.raises(TimeoutError):
            call.result(3 * PATIENCE)
        engine.send_event("joined", "e")
        assert call.result(ANSWER) == "e"


def test_a_slot_that_shared_a_worker_moves_to_the_next_that_comes_when_it_is_idle(monkeypatch):
    monkeypatch.setattr(cluster_engine, "_PATIENCE", PATIENCE)
    monkeypatch.setattr(cluster_engine, "_AGAIN", PATIENCE)
    with toys("a", "b") as engine:
        kept = engine.keep(1, "left here")
        engine.send_event("left", "b")
        assert engine.where(1) == "a"
        assert kept.lost
        kept = engine.keep(1, "left here")
        go = engine.hold("a")
        busy = engine.submit(1, str, "")
        engine.send_event("joined", "c")
        with pytest.raises(TimeoutError):
            busy.result(2 * PATIENCE)
        go.set_result(None)
        assert busy.result(ANSWER) == "a"
        assert eventually(lambda: engine.where(1) == "c")
        assert kept.lost
        assert engine.where(0) == "a"


def test_a_worker_found_dead_at_once_is_dismissed_in_the_thread_of_the_cluster():
    with toys("a", "b") as engine:
        toy, worker = engine._cluster, engine.where(0)
        toy.dead.add(worker)
        assert isinstance(engine.submit(0, str, "").exception(ANSWER), cm.WorkerCrashed)
        assert eventually(lambda: toy.dismissed)
        assert toy.dismissed == [(worker, toy._thread)]


def test_without_any_worker_calls_fail_and_say_so(monkeypatch):
    monkeypatch.setattr(cluster_engine, "_PATIENCE", PATIENCE)
    with toys("a") as engine:
        engine.send_event("left", "a")
        error = engine.submit(0, str, "").exception(ANSWER)
        assert isinstance(error, cm.WorkerCrashed)
        assert "the toy cluster has had no worker for this slot: start workers" in str(error)


def test_oversubscribed_slots_move_only_where_there_is_room_and_one_at_a_time():
    placement = Placement({name: (name,) for name in "abc"}, 3)
    for name in "bc":
        placement.remove(name)
    assert placement.fill() == {}
    assert placement.fill([1, 2]) == {1: "a", 2: "a"}
    assert placement.oversubscribed() == []
    placement.add("d", ("d",))
    assert placement.oversubscribed() == [1, 2]
    placement.unassign(1)
    assert placement.fill() == {1: "d"}
    assert placement.oversubscribed() == []
