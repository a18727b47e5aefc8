"""How the Dask engine fetches answers: together, unless one would delay another."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

import codedmap as cm
from codedmap.engines import dask_tasks
from codedmap.engines.transport.parcel import Parcel
from codedmap.engines.transport.serve import Request

from ..processes import ANSWER, eventually

pytestmark = pytest.mark.timeout(60)

REQUEST = Request(Parcel(b""), None)
SMALL = Parcel(b"answer")
LARGE = Parcel(bytes(1 << 20))
HANGS = object()


class Task:
    """A task that ends when its client says so."""

    def __init__(self, key, end):
        self.key = key
        self.released = False
        self._end = end

    async def exception(self):
        await self._end.wait()

    def cancelled(self):
        return False

    def release(self):
        self.released = True


class Client:
    """As much of a Dask client as tasks need: whose answers come, and which are asked for together."""

    def __init__(self, loop):
        self.loop = SimpleNamespace(asyncio_loop=loop)
        self.scheduler_comm = SimpleNamespace(recent_message_log=[])
        self.scheduler = SimpleNamespace(gather=self._gather)
        self.tasks = {}
        self.answers = {}
        self.asked = []
        self.seconds = 0.0
        self.error = None
        self.end = asyncio.Event()

    def submit(self, fn, request, *, key, workers, pure):
        assert not pure
        self.tasks[key] = Task(key, self.end)
        return self.tasks[key]

    async def _gather(self, keys):
        self.asked.append(sorted(keys))
        await asyncio.sleep(self.seconds)
        found = {key: self.answers.get(key, SMALL) for key in keys}
        if self.error is not None and len(keys) > 1:
            raise self.error
        if HANGS in found.values():
            await asyncio.sleep(1e9)
        if None in found.values():
            return {"status": "error", "keys": keys}
        return {"status": "OK", "data": found}


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, daemon=True)
    thread.start()
    yield made

    async def cancel():
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run_coroutine_threadsafe(cancel(), made).result(ANSWER)
    made.call_soon_threadsafe(made.stop)
    thread.join(ANSWER)
    made.close()


class Crew:
    """Some workers, and their tasks."""

    def __init__(self, loop, workers):
        self.client = Client(loop)
        self.tasks = dask_tasks.Tasks(self.client, lambda: None, cm.WorkerCrashed)
        self._loop = loop
        self._send = {worker: self.tasks.sender(worker) for worker in workers}

    def wave(self, number):
        """A call on each worker, all of which end at once; their futures."""
        self.client.asked.clear()
        self.client.end.clear()
        futures = {w: send(REQUEST, w, number) for w, send in self._send.items()}
        assert eventually(lambda: len(self.client.tasks) == number * len(futures))
        self._loop.call_soon_threadsafe(self.client.end.set)
        return futures

    def answered(self, number):
        return {worker: f.result(ANSWER) for worker, f in self.wave(number).items()}


@pytest.fixture
def crew(loop):
    made = Crew(loop, ["a", "b", "c"])
    assert set(made.answered(1).values()) == {SMALL}
    assert len(made.client.asked) == 3  # nothing was known of them
    return made


def key(worker, number):
    return f"codedmap-wave{number}-{worker}"


def test_answers_that_are_there_at_the_same_time_are_asked_for_together(crew):
    assert crew.answered(2) == dict.fromkeys("abc", SMALL)
    assert crew.client.asked == [[key(w, 2) for w in "abc"]]


def test_who_cannot_be_reached_does_not_hold_up_the_others(crew):
    crew.client.answers[key("b", 2)] = HANGS
    futures = crew.wave(2)
    began = time.monotonic()
    assert [futures[w].result(ANSWER) for w in "ac"] == [SMALL, SMALL]
    assert time.monotonic() - began < 10 * dask_tasks._PATIENCE
    assert not futures["b"].done()
    del crew.client.answers[key("b", 2)]


def test_an_answer_that_is_not_found_is_asked_for_again(crew):
    crew.client.answers[key("b", 2)] = None
    futures = crew.wave(2)
    assert [futures[w].result(ANSWER) for w in "ac"] == [SMALL, SMALL]
    crew.client.answers[key("b", 2)] = SMALL
    assert futures["b"].result(ANSWER) == SMALL


def test_large_answers_are_asked_for_alone_from_the_second_on(crew):
    crew.client.answers[key("b", 2)] = LARGE
    assert crew.answered(2)["b"] is LARGE  # its size was not known
    crew.answered(3)
    assert sorted(crew.client.asked) == [[key("a", 3), key("c", 3)], [key("b", 3)]]
    crew.answered(4)  # the last was small
    assert crew.client.asked == [[key(w, 4) for w in "abc"]]


@pytest.mark.parametrize("seconds", [dask_tasks._SOON, dask_tasks._PATIENCE])
def test_what_is_late_is_asked_for_alone_until_it_comes_soon(crew, seconds):
    crew.client.seconds = 1.5 * seconds
    crew.answered(2)
    crew.answered(3)
    assert sorted(crew.client.asked) == [[key(w, 3)] for w in "abc"]
    crew.client.seconds = 0.0
    crew.answered(4)
    crew.answered(5)
    assert crew.client.asked == [[key(w, 5) for w in "abc"]]


def test_an_error_of_asking_together_leaves_nobody_waiting(crew):
    crew.client.error = RuntimeError("no reply that can be read")
    for number in (2, 3):
        assert crew.answered(number) == dict.fromkeys("abc", SMALL)
        assert all([key(w, number)] in crew.client.asked for w in "abc")


def test_what_nobody_waits_for_is_not_asked_for(crew, loop):
    crew.client.seconds = 0.5 * dask_tasks._PATIENCE
    first = crew.wave(2)
    assert eventually(lambda: len(crew.client.asked) == 1)
    late = {worker: crew.tasks.sender(worker)(REQUEST, worker, 3) for worker in "abc"}
    assert eventually(lambda: len(crew.tasks._ready) == 3)
    loop.call_soon_threadsafe(crew.tasks.dismiss, "b")
    assert isinstance(late["b"].exception(ANSWER), cm.WorkerCrashed)
    assert [late[worker].result(ANSWER) for worker in "ac"] == [SMALL, SMALL]
    assert [first[worker].result(ANSWER) for worker in "ac"] == [SMALL, SMALL]
    assert not [keys for keys in crew.client.asked if key("b", 3) in keys]


def test_no_more_than_so_many_are_asked_for_together(loop, monkeypatch):
    monkeypatch.setattr(dask_tasks, "_MOST", 2)
    crew = Crew(loop, list("abcde"))
    crew.answered(1)
    assert set(crew.answered(2).values()) == {SMALL}
    assert sorted(map(len, crew.client.asked)) == [1, 2, 2]


def test_the_task_of_a_worker_that_has_gone_is_forgotten_at_once(crew, loop):
    crew.client.end.clear()
    call = crew.tasks.sender("b")(REQUEST, "b", 2)
    assert eventually(lambda: key("b", 2) in crew.client.tasks)
    loop.call_soon_threadsafe(crew.tasks.dismiss, "b")
    assert isinstance(call.exception(ANSWER), cm.WorkerCrashed)
    assert crew.client.tasks[key("b", 2)].released


def test_tasks_are_forgotten_a_little_after_their_answers_have_come(crew):
    tasks = crew.client.tasks.values()
    assert eventually(lambda: all(task.released for task in tasks))


def test_the_calls_of_a_worker_that_has_gone_fail_and_so_do_later_ones(crew, loop):
    crew.client.end.clear()
    send = crew.tasks.sender("b")
    call = send(REQUEST, "b", 2)
    assert eventually(lambda: key("b", 2) in crew.client.tasks)
    loop.call_soon_threadsafe(crew.tasks.dismiss, "b")
    assert isinstance(call.exception(ANSWER), cm.WorkerCrashed)
    assert isinstance(send(REQUEST, "b", 3).exception(ANSWER), cm.WorkerCrashed)
    assert key("b", 3) not in crew.client.tasks
