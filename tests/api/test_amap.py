"""`map` in an event loop: the same results, while the loop goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from inspect import signature

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.engine import Kept
from codedmap.storage.output import NpyOutput
from codedmap.testing import Scripted, crash, never

from ..processes import children, eventually, hold
from ..repeats import first

X = np.arange(12.0)


def sleepy(batch):
    time.sleep(0.02 * len(batch))
    return batch + 1


def one_seven(batch):
    if 7 in batch:
        raise ValueError("seven")
    return batch


def test_it_takes_what_map_takes():
    taken = {name: one.default for name, one in signature(cm.map).parameters.items()}
    del taken["fn"], taken["inputs"]
    with Scripted(1) as engine:
        result = asyncio.run(cm.amap(np.sin, X, **taken | {"engine": engine}))
    np.testing.assert_array_equal(result.values, np.sin(X))
    for given in ({"like": 1}, {"dead_line": 3}):
        with pytest.raises(TypeError, match=f"no argument {next(iter(given))}"):
            cm.stream(np.sin, X, **given)


@pytest.mark.parametrize("code", [None, cm.Replication(3, 6), cm.KernelCode(3, 6, 1)])
def test_results_are_those_of_map(code):
    """Without hedges: where this process is held up, answers that have come look late."""
    with Scripted(6, {1: [crash()]}) as engine:
        here = cm.map(np.sin, X, code=code, engine=engine, hedge=None)
    with Scripted(6, {1: [crash()]}) as engine:
        there = asyncio.run(cm.amap(np.sin, X, code=code, engine=engine, hedge=None))
    np.testing.assert_array_equal(here.values, there.values)
    np.testing.assert_array_equal(here.status, there.status)
    assert len(here.calls) == len(there.calls)


def test_without_an_engine_it_runs_on_the_cores_and_leaves_nothing():
    result = asyncio.run(cm.amap(np.sin, X))
    np.testing.assert_array_equal(result.values, np.sin(X))
    assert eventually(lambda: not children()), children()


def test_errors_are_those_of_map():
    with Scripted(3) as engine:
        with pytest.raises(cm.errors.RowFailed, match="row 7") as caught:
            asyncio.run(cm.amap(one_seven, X, engine=engine, chunk=1))
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(cm.InvalidArgument, match="Deadline"):
            asyncio.run(cm.amap(np.sin, X, engine=engine, deadline=0))


def test_the_loop_goes_on_meanwhile():
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        with ThreadPoolExecutor(2) as pool:
            await cm.amap(sleepy, X, engine=pool)  # 0.12 s at least
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) >= 3


class Abandoning(Scripted):
    """Keeps what was abandoned."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.abandoned: list = []

    def abandon(self, futures) -> None:
        self.abandoned += (futures := list(futures))
        super().abandon(futures)


@pytest.mark.parametrize("code", [None, cm.Replication(2, 4)])
def test_cancelling_abandons_the_calls(code):
    async def main(engine) -> None:
        job = asyncio.create_task(
            cm.amap(np.sin, X, code=code, engine=engine, hedge=None, retries=0)
        )
        while len(engine.calls) < 4:
            await asyncio.sleep(0.001)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    with Abandoning(4, {n: never() for n in range(4)}) as engine:
        asyncio.run(main(engine))
        assert len(engine.abandoned) == 4
        assert all(future.done() for future in engine.abandoned)


def test_a_timeout_of_the_loop_ends_it_and_what_it_started():
    async def main() -> None:
        async with asyncio.timeout(0.5):
            await cm.amap(cm.itemwise(time.sleep), [60.0] * 4)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert eventually(lambda: not children()), children()


class Slow(list):
    """Inputs that are read slowly."""

    def __init__(self, entered: threading.Event, go_on: threading.Event) -> None:
        super().__init__([1.0, 2.0])
        self.entered, self.go_on = entered, go_on

    def __array__(self, *arguments, **options):
        self.entered.set()
        assert self.go_on.wait(60)
        return np.array([1.0, 2.0])

    def __len__(self) -> int:
        self.entered.set()
        assert self.go_on.wait(60)
        return 2


def test_a_task_cancelled_before_its_calls_leaves_nothing():
    entered, go_on = threading.Event(), threading.Event()

    async def main() -> None:
        job = asyncio.create_task(cm.amap(np.sin, Slow(entered, go_on)))
        await asyncio.to_thread(entered.wait, 60)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        go_on.set()

    asyncio.run(main())
    assert eventually(lambda: not children()), children()


def test_a_short_job_does_not_wait_for_a_long_one():
    ended: list[str] = []

    async def job(name: str, rows: int, pool) -> None:
        await cm.amap(sleepy, np.arange(float(rows)), engine=pool, chunk=1)
        ended.append(name)

    async def main() -> None:
        with ThreadPoolExecutor(2) as pool:
            long = asyncio.create_task(job("long", 60, pool))
            await asyncio.sleep(0.05)
            await asyncio.gather(*(job(f"short {n}", 3, pool) for n in range(3)), long)

    asyncio.run(main())
    assert ended[-1] == "long"


@pytest.mark.parametrize("count", first(1, [100, 1000]))
def test_many_jobs_at_once(count):
    async def main(pool) -> list[cm.MapResult]:
        jobs = (cm.amap(np.sin, X + n, engine=pool, chunk=6) for n in range(count))
        return await asyncio.gather(*jobs)

    with ThreadPoolExecutor(4) as pool:
        results = asyncio.run(main(pool))
    for n, result in enumerate(results):
        np.testing.assert_array_equal(result.values, np.sin(X + n))


@pytest.mark.parametrize("kind", first(1, ["threads", "local"]))
def test_calls_that_wait_for_other_jobs_are_neither_hedged_nor_timed_out(kind, tmp_path):
    sent = []

    async def main(engine) -> list[cm.MapResult]:
        options = {"engine": engine, "chunk": 1}
        submit = engine.submit
        engine.submit = lambda *call: sent.append(call) or submit(*call)
        first = asyncio.create_task(
            cm.amap(cm.itemwise(hold), [tmp_path] * 2, **options, hedge=None)
        )
        while len(list(tmp_path.iterdir())) < 2:
            await asyncio.sleep(0.01)
        jobs = [
            asyncio.create_task(cm.amap(sleepy, np.arange(3.0), **options, call_timeout=2.5))
            for _ in range(40)
        ]
        await asyncio.sleep(4.0)
        assert len(sent) <= 2 + 40 * 3
        (tmp_path / "go on").touch()
        await first
        return await asyncio.gather(*jobs)

    with ThreadPoolExecutor(2) if kind == "threads" else cm.engines.Local(2) as engine:
        results = asyncio.run(main(engine))
    assert all(result.exact.all() for result in results)


def test_a_stream_improves_and_ends_with_the_result():
    async def main() -> list[cm.MapResult]:
        with ThreadPoolExecutor(2) as pool:
            return [part async for part in cm.astream(sleepy, X, engine=pool, chunk=1)]

    parts = asyncio.run(main())
    known = [part.exact.sum() for part in parts]
    assert known == sorted(known)
    assert len(parts) > 1
    assert parts[-1].exact.all()
    np.testing.assert_array_equal(parts[-1].values, X + 1)


def test_closing_a_stream_abandons_its_calls():
    async def main(engine) -> None:
        async with aclosing(cm.astream(np.sin, X, engine=engine, chunk=1, hedge=None)) as parts:
            async for part in parts:
                assert part.exact.any()
                break

    script = {0: never(), 1: never()}
    with Abandoning(3, script) as engine:
        asyncio.run(main(engine))
        assert len(engine.abandoned) >= 2


def test_rows_are_written_and_the_job_resumed(tmp_path):
    out = tmp_path / "answers.npy"
    result = asyncio.run(cm.amap(np.sin, X, engine=Scripted(2), out=out))
    np.testing.assert_array_equal(result.values, np.sin(X))
    with Scripted(2) as engine:
        asyncio.run(cm.amap(np.sin, X, engine=engine, out=out, resume=True))
        assert engine.calls == []


def test_what_is_written_when_a_job_fails_is_as_with_map(tmp_path):
    def fn(batch):
        if batch[0] == bad:
            raise ValueError("no")
        return batch

    out = tmp_path / "answers.npy"
    with Scripted(1) as engine:
        bad = X[0]
        with pytest.raises(cm.CodedmapError):
            asyncio.run(cm.amap(fn, X, engine=engine, out=out, chunk=1))
        assert not list(tmp_path.iterdir()), "nothing was done"
        bad = X[3]
        with pytest.raises(cm.CodedmapError) as caught:
            asyncio.run(cm.amap(fn, X, engine=engine, out=out, chunk=1))
        assert "3 rows are exact" in caught.value.__notes__[-1]


def test_a_task_cancelled_while_its_output_is_completed_waits_for_that(tmp_path, monkeypatch):
    entered, go_on, events = threading.Event(), threading.Event(), []
    finish, close = NpyOutput.finish, NpyOutput.close

    def slow_finish(self, *arguments):
        entered.set()
        assert go_on.wait(60)
        events.append("finished")
        return finish(self, *arguments)

    def noted_close(self):
        events.append("closed")
        close(self)

    monkeypatch.setattr(NpyOutput, "finish", slow_finish)
    monkeypatch.setattr(NpyOutput, "close", noted_close)

    async def main(engine) -> None:
        job = asyncio.create_task(cm.amap(np.sin, X, engine=engine, out=tmp_path / "a.npy"))
        await asyncio.to_thread(entered.wait, 60)
        job.cancel()
        asyncio.get_running_loop().call_later(0.2, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await job

    with Scripted(2) as engine:
        asyncio.run(main(engine))
    assert events == ["finished", "closed"]


def test_what_is_cancelled_while_it_closes_is_closed_nevertheless():
    def batches():
        while True:
            yield X[:1]

    async def main(engine) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        results = cm.astream(np.sin, batches(), engine=engine)
        await anext(results)
        loop.run_in_executor(None, time.sleep, 0.2)
        closing = asyncio.ensure_future(results.aclose())
        await asyncio.sleep(0.05)
        closing.cancel()
        await asyncio.wait([closing])

    with Scripted(2) as engine:
        asyncio.run(main(engine))
    assert eventually(lambda: all("_read" not in t.name for t in threading.enumerate()))


def test_threads_of_the_loop_that_wait_for_a_job_do_not_hold_it_up():
    async def main(engine):
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))

        def ask():
            return asyncio.run_coroutine_threadsafe(job(), loop).result(10.0)

        async def job():
            results = [result async for result in cm.astream(np.sqrt, X, engine=engine)]
            return results[-1], await cm.amap(np.sqrt, X, engine=engine)

        return await asyncio.to_thread(ask)

    with Scripted(2) as engine:
        for result in asyncio.run(main(engine)):
            np.testing.assert_array_equal(result.values, np.sqrt(X))


@pytest.mark.parametrize("late", ["close", "finish"])
def test_an_event_loop_may_end_before_what_a_job_has_open_is_closed(
    late, monkeypatch, tmp_path, caplog
):
    begun, go, call = threading.Event(), threading.Event(), getattr(NpyOutput, late)

    def slow(*given):
        begun.set()
        go.wait(10.0)
        return call(*given)

    async def main(engine):
        job = asyncio.create_task(cm.amap(np.sin, X, engine=engine, out=tmp_path / "y.npy"))
        await asyncio.to_thread(begun.wait, 10.0)
        for _ in range(2):  # Ctrl-C, and once more
            job.cancel()
            await asyncio.sleep(0.05)
        assert job.done()

    monkeypatch.setattr(NpyOutput, late, slow)
    with Scripted(2) as engine:
        asyncio.run(main(engine))
    go.set()
    assert eventually(lambda: "codedmap" not in {t.name for t in threading.enumerate()})
    assert not caplog.records


def test_small_jobs_at_the_same_time_begin_with_different_workers():
    class Waiting:
        """Answers when it has been sent eight calls."""

        workers = 4

        def __init__(self):
            self.sent = []

        def submit(self, worker, fn, payload):
            future = Future()
            self.sent.append((worker, future, getattr(fn, "key", fn), payload))
            if len(self.sent) == 8:
                for _, waiting, compute, batch in self.sent:
                    waiting.set_result(compute(batch))
            return future

        def keep(self, worker, value):
            return Kept(worker, value)

        def abandon(self, futures):
            pass

        def load(self, worker):
            return sum(sent == worker for sent, *_ in self.sent)

    async def jobs():
        return await asyncio.gather(*(cm.amap(np.sin, X[:1], engine=engine) for _ in range(8)))

    engine = Waiting()
    assert all(result.values == np.sin(X[:1]) for result in asyncio.run(jobs()))
    assert Counter(worker for worker, *_ in engine.sent) == dict.fromkeys(range(4), 2)


def test_an_engine_says_how_many_calls_a_worker_has():
    with cm.engines.Local(2) as engine:
        assert engine.load(0) == 0
        calls = [engine.submit(0, time.sleep, 60.0) for _ in range(3)]
        while engine.load(0) < 3:  # they are on their way
            time.sleep(0.01)
        assert (engine.load(0), engine.load(1)) == (3, 0)
        engine.abandon(calls)
