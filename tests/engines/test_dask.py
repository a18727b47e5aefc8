"""What the Dask engine does beyond the contract tests of engines."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import distributed
import numpy as np
import pytest
from dask import config as dask_config
from dask.base import annotate

import codedmap as cm
from codedmap.engines import dask
from codedmap.engines.dask import Dask
from codedmap.engines.transport.serve import serve
from codedmap.execution import live

from ..clusters import START, command, dask_scheduler, dask_workers
from ..processes import ANSWER, eventually, hold, nap, pid, same

pytestmark = pytest.mark.timeout(90)


def key_of_this_task(_):
    return distributed.get_worker().get_current_task()


def kill(_):
    os.kill(os.getpid(), signal.SIGKILL)


def resources_taken(_):
    return distributed.get_worker().state.available_resources


@pytest.fixture
def client(dask_client):
    dask_client.wait_for_workers(4, ANSWER)
    return dask_client


def test_by_default_all_worker_processes_are_used(client):
    with cm.engines.Dask(client) as engine:
        assert engine.workers == 4
        assert len({engine.submit(worker, pid, None).result(ANSWER) for worker in range(4)}) == 4


def test_a_task_is_named_for_the_dashboard_and_runs_the_calls_that_follow(client):
    def known(dask_scheduler):
        return names[0] in dask_scheduler.tasks

    with cm.engines.Dask(client) as engine:
        calls = [engine.submit(2, key_of_this_task, None) for _ in range(3)]
        names = [call.result(ANSWER) for call in calls]
        assert names[0].rpartition("-")[0] == "codedmap-call1-worker2"
        assert names == [names[0]] * 3
        assert eventually(lambda: not client.run_on_scheduler(known))
        later = engine.submit(2, key_of_this_task, None).result(ANSWER)
        assert later.rpartition("-")[0] == "codedmap-call4-worker2"


def test_workers_may_be_threads_of_the_caller():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(2, START)
        with pytest.warns(UserWarning, match="has 4 threads in 2 workers") as warned:
            engine = cm.engines.Dask(client)
        assert warned[0].filename == __file__
        with engine:
            X, output = np.arange(100.0), sys.stdout
            np.testing.assert_array_equal(cm.map(np.negative, X, engine=engine).values, -X)
            assert engine.in_process
            assert sys.stdout is output


def exits_at_first(row, path):
    if row == 1 and not path.exists():
        path.touch()
        os._exit(1)
    return -row


@pytest.mark.slow
def test_a_local_cluster_closes_no_nanny_whose_worker_has_crashed(tmp_path):
    # A default that is sooner than a worker starts.
    lost = {"distributed": {"deploy": {"lost-worker-timeout": "10ms"}}}
    dask_config.update_defaults(lost)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        cm.engines.Dask(client) as engine,
    ):
        fn, path = cm.itemwise(exits_at_first), tmp_path / "crashed"
        found = cm.map(fn, np.arange(3.0), engine=engine, kwargs={"path": path})
        np.testing.assert_array_equal(found.values, [0.0, -1.0, -2.0])
        assert path.exists()


def test_a_call_that_waited_for_a_task_of_others_has_not_started_when_the_worker_dies(client):
    with cm.engines.Dask(client, workers=1) as engine:
        address = engine.submit(0, key_of_this_worker, None).result(ANSWER)
        worker = engine.submit(0, pid, None).result(ANSWER)
        other = client.submit(nap, 150.0, workers=[address], pure=False)
        assert eventually(lambda: other.key in client.processing()[address])
        assert eventually(lambda: not engine._tasks)  # the last one waits for no more calls
        call = engine.submit(0, same, 1)
        assert eventually(lambda: len(client.processing()[address]) == 2)
        os.kill(worker, signal.SIGKILL)
        assert isinstance(call.exception(ANSWER), cm.errors.NotStarted)
        other.release()
    client.wait_for_workers(4, START)


def test_a_call_that_waits_for_a_task_of_others_neither_times_out_nor_ends_it(client):
    with cm.engines.Dask(client, workers=1, grace=0.5) as engine:
        address = engine.submit(0, key_of_this_worker, None).result(ANSWER)
        function = cm.engines.Resident(cm.itemwise(same), engine)
        assert cm.map(function, [1.0], engine=engine).exact.all()
        for given_up in (False, True):
            assert eventually(lambda: not engine._tasks)
            other = client.submit(nap, 3.0, workers=[address], pure=False)
            assert eventually(lambda key=other.key: key in client.processing()[address])
            if given_up:
                call = engine.submit(0, same, 1)
                assert eventually(lambda: len(client.processing()[address]) == 2)
                engine.abandon([call])
            assert cm.map(function, [1.0], engine=engine, call_timeout=2.0).exact.all()
            assert eventually(lambda done=other: done.status == "finished")
            assert list(engine.members()) == [0]


def test_other_tasks_of_a_worker_have_their_turn_between_calls(client):
    with cm.engines.Dask(client, workers=1) as engine:
        address = engine.submit(0, key_of_this_worker, None).result(ANSWER)
        calls = [engine.submit(0, nap, 0.1) for _ in range(50)]
        calls[0].result(ANSWER)
        assert client.submit(same, "other", workers=[address], pure=False).result(ANSWER) == "other"
        assert not calls[-1].done()
        engine.abandon(calls)


def test_an_answer_is_there_before_the_next_call_crashes(client):
    with cm.engines.Dask(client, workers=1) as engine:
        calls = [engine.submit(0, *call) for call in ((same, 1), (same, 2), (kill, 3), (same, 4))]
        assert [call.result(ANSWER) for call in calls[:2]] == [1, 2]
        assert isinstance(calls[2].exception(ANSWER), cm.WorkerCrashed)
        limit = "(a nanny, if any, ends it near its memory limit, here "
        assert limit in str(calls[2].exception(ANSWER))
        assert isinstance(calls[3].exception(ANSWER), cm.errors.NotStarted)
    client.wait_for_workers(4, START)


def test_without_grace_a_straggler_keeps_its_worker(client):
    with cm.engines.Dask(client, workers=2) as engine:
        before = engine.submit(0, pid, None).result(ANSWER)
        straggler = engine.submit(0, nap, 1.5)
        engine.abandon([straggler])
        queued = engine.submit(0, same, "behind")
        engine.abandon([queued])
        assert isinstance(queued.exception(ANSWER), cm.errors.Abandoned)
        assert not straggler.done()
        assert engine.submit(1, same, "free").result(ANSWER) == "free"
        assert engine.submit(0, pid, None).result(ANSWER) == before


@pytest.mark.slow
def test_a_worker_that_an_abandoned_call_holds_is_not_waited_for_by_the_next_job(client, tmp_path):
    with (
        cm.engines.Dask(client, workers=5) as engine,
        dask_workers(tmp_path, client.scheduler.address, 1, "--no-nanny"),
    ):
        assert eventually(lambda: 4 in engine.members(), START)
        straggler = engine.submit(4, nap, 150.0)
        assert eventually(straggler.running)
        engine.abandon([straggler])
        began = time.monotonic()
        result = cm.map(np.negative, np.arange(100.0), engine=engine)
        assert time.monotonic() - began < 30.0
        np.testing.assert_array_equal(result.values, -np.arange(100.0))
        assert not straggler.done()


def test_without_grace_the_scheduler_knows_of_a_straggler_after_the_engine_has_been_closed(
    client, tmp_path
):
    def processing():
        return "codedmap-call1-worker0" in str(client.processing())

    with cm.engines.Dask(client, workers=1) as engine:
        straggler = engine.submit(0, hold, tmp_path)
        assert eventually(lambda: [*tmp_path.iterdir()])  # it has begun
    assert isinstance(straggler.exception(ANSWER), cm.errors.Abandoned)
    assert processing()
    (tmp_path / "go on").touch()
    assert eventually(lambda: not any(client.processing().values()))


def test_only_workers_that_have_what_a_call_needs_are_used(client, tmp_path):
    needs = cm.Limits(memory="1 GB", licences={"matlab": 2})
    step = (
        "start some with it, by `dask worker --resources matlab=2 --memory-limit 1000000000`, say"
    )
    with pytest.raises(cm.EngineError, match=step):
        cm.engines.Dask(client, limits=needs)
    options = ("--resources", "matlab=2", "--memory-limit", "2GB", "--no-nanny")
    with dask_workers(tmp_path, client.scheduler.address, 1, *options):
        client.wait_for_workers(5, START)
        with cm.engines.Dask(client, limits=needs) as engine:
            assert engine.workers == 1
            assert engine.memory_limit == 10**9
            first, second = (engine.submit(0, resources_taken, None) for _ in range(2))
            assert first.result(ANSWER) == second.result(ANSWER) == {"matlab": 0.0}
        with cm.engines.Dask(client) as engine:
            assert engine.workers == 5


def test_annotations_where_map_is_called_do_not_move_the_tasks_of_workers(client):
    with cm.engines.Dask(client, workers=1) as engine:
        with annotate(resources={"none has it": 1}, allow_other_workers=True):
            task = engine.submit(0, key_of_this_task, None).result(ANSWER)
        assert eventually(lambda: not engine._tasks)
        assert engine.submit(0, key_of_this_task, None).result(ANSWER) != task


def test_a_task_that_ended_as_the_engine_was_closed_is_forgotten_by_the_scheduler(client):
    def known(dask_scheduler):
        return task.key in dask_scheduler.tasks

    task = client.submit(same, 1, pure=False)
    assert task.result(ANSWER) == 1
    client.run_on_scheduler(dask.hold_running, keys=[task.key])
    assert client.run_on_scheduler(known)
    task.release()
    assert eventually(lambda: not client.run_on_scheduler(known))


def test_large_payloads_travel_without_a_warning_and_can_be_written(client):
    def negate_in_place(batch):
        np.negative(batch, out=batch)
        return batch

    with cm.engines.Dask(client, workers=2) as engine:
        payload = np.ones(2 << 20)
        answer = engine.submit(1, negate_in_place, payload).result(ANSWER)
    assert (answer == -1).all()
    assert (payload == 1).all()


def test_payloads_and_answers_are_not_kept_by_the_logs_of_client_and_scheduler(client):
    def logged(dask_scheduler, me):
        return str(list(dask_scheduler.client_comms[me].recent_message_log)).count("answered")

    with cm.engines.Dask(client, workers=2) as engine:
        for _ in range(5):
            engine.submit(0, np.negative, np.ones(1 << 12)).result(ANSWER)
        assert client.run_on_scheduler(logged, me=client.id) <= 1
        assert "offer" not in str(client.scheduler_comm.recent_message_log)


@pytest.mark.slow
def test_more_workers_than_there_are_are_used_when_they_join(client, tmp_path):
    with cm.engines.Dask(client, workers=5) as engine:
        assert engine.workers == 4
        with dask_workers(tmp_path, client.scheduler.address, 2):
            assert eventually(lambda: engine.workers == 5, START)
            client.wait_for_workers(6, START)
            assert set(engine.members()) == {0, 1, 2, 3, 4}
            assert engine.submit(4, same, "joined").result(ANSWER) == "joined"
        assert eventually(lambda: set(engine.members()) == {0, 1, 2, 3}, ANSWER)


def test_a_job_uses_workers_that_join_and_outlives_those_that_leave(client, tmp_path):
    def slow(batch):
        time.sleep(0.02 * len(batch))
        return -batch

    started = threading.Event()

    def change() -> None:
        started.wait(ANSWER)
        os.kill(engine.submit(0, pid, None).result(ANSWER), signal.SIGKILL)

    X = np.arange(400.0)
    with (
        cm.engines.Dask(client, workers=2) as engine,
        dask_workers(tmp_path, client.scheduler.address, 1, "--no-nanny"),
    ):
        changing = threading.Thread(target=change)
        changing.start()
        for part in cm.stream(slow, X, engine=engine, chunk=10):
            result = part
            started.set()
        changing.join(ANSWER)
        assert 0 not in engine.members()
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, -X)
    workers = {call.worker for call in result.calls}
    assert {0, 1} < workers


@pytest.mark.parametrize("how", ["mapping", "callable"])
def test_neighbouring_workers_are_in_different_domains(client, how):
    racks = {address: k // 2 for k, address in enumerate(client.scheduler_info(-1)["workers"])}
    domains = racks if how == "mapping" else lambda worker: racks[worker["address"]]
    with cm.engines.Dask(client, failure_domains=domains) as engine:
        where = [engine.submit(n, key_of_this_worker, None).result(ANSWER) for n in range(4)]
        members = engine.members()
    found = [racks[address] for address in where]
    assert found in ([0, 1, 0, 1], [1, 0, 1, 0])
    assert [members[n].domain for n in range(4)] == found


def test_by_default_the_domain_is_the_host(client):
    with cm.engines.Dask(client) as engine:
        assert {(m.domain, m.host) for m in engine.members().values()} == {
            ("127.0.0.1", "127.0.0.1")
        }


def key_of_this_worker(_):
    return distributed.get_worker().address


def test_a_worker_without_a_domain_is_an_error(client):
    with pytest.raises(cm.InvalidArgument, match="failure_domains has no entry for the worker tcp"):
        cm.engines.Dask(client, failure_domains={"elsewhere": 1})


@pytest.mark.parametrize("domains", [3, "rack 1"])
def test_failure_domains_of_another_kind_are_an_error(client, domains):
    with pytest.raises(cm.InvalidArgument, match=r"failure_domains=.* must be a mapping"):
        cm.engines.Dask(client, failure_domains=domains)


def test_what_is_no_client_is_refused():
    with pytest.raises(cm.InvalidArgument, match=r"is not a Dask client: give distributed\.Client"):
        cm.engines.Dask("tcp://127.0.0.1:8786")


def test_a_closed_client_is_refused_before_and_after(client):
    other = distributed.Client(client.scheduler.address, set_as_default=False)
    engine = cm.engines.Dask(other, workers=1)
    other.close()
    with pytest.raises(cm.EngineError, match="the Dask client is closed"):
        engine.submit(0, same, 1)
    engine.close()
    with pytest.raises(cm.EngineError, match="the Dask client is closed"):
        cm.engines.Dask(other)


def test_a_client_that_another_thread_connects_is_waited_for(client):
    """As `get_client` gives it to the second of two tasks that begin in a worker at the same time."""
    with distributed.Client(client.scheduler.address, set_as_default=False) as other:
        connection, other.scheduler_comm, other.status = other.scheduler_comm, None, "connecting"

        def connect():
            other.scheduler_comm, other.status = connection, "running"

        threading.Timer(0.2, connect).start()
        with cm.engines.Dask(other, workers=1) as engine:
            assert engine.submit(0, same, 1).result(ANSWER) == 1


def test_nothing_is_left_at_the_scheduler_of_a_client_that_has_gone(client):
    def left(dask_scheduler):
        return [name for name in dask_scheduler.plugins if name.startswith("codedmap")]

    other = distributed.Client(client.scheduler.address, set_as_default=False)
    engine = cm.engines.Dask(other)
    kept = engine.keep(0, same)
    assert engine.submit(0, kept, 1).result(ANSWER) == 1
    assert client.run_on_scheduler(left)
    other.close()
    assert eventually(lambda: not client.run_on_scheduler(left))
    assert eventually(lambda: not any(client.run(count_kept).values()))
    engine.close()


def test_a_client_that_is_not_the_default_one_will_do(client, monkeypatch):
    with distributed.Client(client.scheduler.address, set_as_default=False) as other:
        monkeypatch.setattr(distributed.client, "_global_clients", {})
        with cm.engines.Dask(other, workers=2) as engine:
            assert engine.submit(1, same, "answer").result(ANSWER) == "answer"


def test_a_cluster_without_workers_is_an_error(tmp_path):
    with (
        dask_scheduler(tmp_path) as address,
        distributed.Client(address, set_as_default=False) as client,
        pytest.raises(cm.EngineError, match=r"no workers: .* client\.wait_for_workers"),
    ):
        cm.engines.Dask(client)


@pytest.mark.slow
def test_an_engine_is_over_with_its_connection_to_the_scheduler(tmp_path):
    lost = r"the connection to the Dask scheduler at tcp://127.* was lost, .*: make a new engine"
    with dask_scheduler(tmp_path) as address, dask_workers(tmp_path, address, 1, "--no-nanny"):
        client = distributed.Client(address, set_as_default=False)
        client.wait_for_workers(1, START)
        engine = cm.engines.Dask(client)
        assert engine.submit(0, same, 1).result(ANSWER) == 1
        running = engine.submit(0, nap, 60.0)
    with client:
        # On a busy machine the call may not have begun when its worker ended.
        lost_call = cm.EngineError | cm.WorkerCrashed | cm.errors.NotStarted
        assert isinstance(running.exception(ANSWER), lost_call)
        with pytest.raises(cm.EngineError, match=lost):
            engine.submit(0, same, 2)
        where = ("--host", "127.0.0.1", "--port", address.rpartition(":")[2])
        with command(tmp_path, "dask", "scheduler", *where, "--no-dashboard"):
            assert eventually(lambda: client.status == "running", START)
            with pytest.raises(cm.EngineError, match=lost):
                engine.submit(0, same, 3)
            engine.close()
            client.close()


def test_a_job_whose_workers_have_left_ends_with_its_scheduler(tmp_path):
    """As when a `LocalCluster` is closed: the job waited 30 s for other workers."""
    with ThreadPoolExecutor(1) as pool:
        with dask_scheduler(tmp_path) as address:
            with dask_workers(tmp_path, address, 1, "--no-nanny"):
                client = distributed.Client(address, set_as_default=False)
                client.wait_for_workers(1, START)
                engine = cm.engines.Dask(client)
                job = pool.submit(cm.map, cm.itemwise(nap), [60.0] * 4, engine=engine)
                assert eventually(lambda: engine._calls)
            assert eventually(lambda: not client.scheduler_info()["workers"])
        with client, pytest.raises(cm.EngineError, match="connection to the Dask scheduler"):
            job.result(ANSWER)
        engine.close()


def pause(at, dask_worker):
    """Have it paused from this share of its memory limit on."""
    dask_worker.memory_manager.memory_pause_fraction = at


def count_kept():
    from codedmap.engines.transport import serve

    return len(serve._kept)


def test_what_a_function_holds_is_released_on_the_workers_when_its_job_has_ended(client):
    weights = np.ones(1 << 18)
    with cm.engines.Dask(client) as engine:
        cm.map(lambda batch: batch + weights[0], np.arange(8.0), engine=engine)
        assert eventually(lambda: not any(client.run(count_kept).values()))
        assert cm.map(np.negative, np.arange(8.0), engine=engine).exact.all()
        fails = cm.itemwise(lambda x: 1 // len(weights[:0]))
        result = cm.map(fails, np.arange(8.0), engine=engine, on_error="record", max_failures=None)
        assert eventually(lambda: not any(client.run(count_kept).values()))
        assert len(result.failures) == 8


def test_a_client_does_not_hold_engines_that_were_closed(client):
    """Unsubscribed, it still referred to what handled their events: a service kept one engine for each of its jobs."""
    with cm.engines.Dask(client) as engine:
        assert cm.map(np.negative, np.arange(8.0), engine=engine).exact.all()
    held = weakref.ref(engine)
    del engine
    assert eventually(lambda: gc.collect() >= 0 and held() is None)


def count_paused(dask_scheduler):
    return [worker.status.name for worker in dask_scheduler.workers.values()].count("paused")


@pytest.mark.slow
def test_workers_that_dask_has_paused_are_not_waited_for_until_they_run_again(client, monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.5)
    X = np.arange(10.0)
    with cm.engines.Dask(client) as engine:
        address = engine.submit(0, key_of_this_worker, None).result(ANSWER)
        assert eventually(lambda: not engine._tasks)  # they wait for no more calls
        try:
            client.run(pause, 1e-9, workers=[address])
            assert eventually(lambda: client.run_on_scheduler(count_paused) == 1)
            call = engine.submit(0, same, 1)
            assert isinstance(call.exception(ANSWER), cm.errors.NotStarted)
            assert f"{address} is paused: near its memory limit of " in str(call.exception())
            assert set(engine.members()) == {1, 2, 3}
            np.testing.assert_array_equal(cm.map(np.negative, X, engine=engine).values, -X)
            client.run(pause, 1e-9)
            assert eventually(lambda: client.run_on_scheduler(count_paused) == 4)
            assert eventually(lambda: not engine._tasks)
            for _ in range(2):
                with pytest.raises(cm.NotEnoughAnswers, match=r"no worker .* is paused: near"):
                    cm.map(np.negative, X, engine=engine)
        finally:
            client.run(pause, 0.8)
        assert eventually(lambda: set(engine.members()) == {4, 5, 6, 7}, ANSWER)
        np.testing.assert_array_equal(cm.map(np.negative, X, engine=engine).values, -X)


def test_a_call_that_is_sent_as_the_scheduler_has_gone_is_not_waited_for(tmp_path):
    with dask_scheduler(tmp_path) as address, dask_workers(tmp_path, address, 1, "--no-nanny"):
        client = distributed.Client(address, set_as_default=False)
        client.wait_for_workers(1, START)
        scheduler = client.run_on_scheduler(os.getpid)
        with cm.engines.Dask(client) as engine:
            os.kill(scheduler, signal.SIGSTOP)
            call = engine.submit(0, same, 1)
            assert eventually(lambda: engine._calls)
            os.kill(scheduler, signal.SIGKILL)
            error = call.exception(ANSWER)
            assert isinstance(error, cm.EngineError)
            assert "the connection to the Dask scheduler" in str(error)
        client.close()


def test_a_scheduler_that_hangs_holds_up_neither_end_nor_beginning_for_ever(client, monkeypatch):
    monkeypatch.setattr(dask, "_PATIENCE", 1.0)
    scheduler = client.run_on_scheduler(os.getpid)
    engine = cm.engines.Dask(client)
    os.kill(scheduler, signal.SIGSTOP)
    try:
        began = time.monotonic()
        engine.close()
        with pytest.raises(cm.EngineError, match="has not answered within 1 s: is it stopped"):
            cm.engines.Dask(client)
        assert time.monotonic() - began < ANSWER
    finally:
        os.kill(scheduler, signal.SIGCONT)
    monkeypatch.undo()
    with cm.engines.Dask(client) as engine:
        assert engine.submit(3, same, "again").result(ANSWER) == "again"


def test_other_versions_on_the_cluster_are_an_error(client, monkeypatch):
    monkeypatch.setattr(cm, "__version__", "9.9")
    with pytest.raises(
        cm.EngineError, match=r"the scheduler has .* but the caller .*9\.9: install"
    ):
        cm.engines.Dask(client)


def test_what_the_workers_cannot_import_is_told(client, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def fn(batch):\n    return batch\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with cm.engines.Dask(client, workers=1) as engine:
        error = engine.submit(0, only_here.fn, 1).exception(ANSWER)
    assert isinstance(error, cm.errors.CannotSend)
    assert "No module named 'only_here'): install what this imports where the workers run" in str(
        error
    )


def test_a_call_runs_once_though_the_connection_is_lost_as_it_is_sent(
    client, monkeypatch, tmp_path
):
    def note(_):
        with (tmp_path / "calls").open("a") as file:
            file.write("called\n")
        return "answer"

    ask, lost = client.scheduler.codedmap, []

    async def loses(**message):
        if len(lost) < 2:
            lost.append(message)
            if len(lost) == 2:
                await ask(**message)
            raise OSError("cut off")
        return await ask(**message)

    with cm.engines.Dask(client, workers=1) as engine:
        monkeypatch.setattr(client.scheduler, "codedmap", loses, raising=False)
        assert engine.submit(0, note, None).result(ANSWER) == "answer"
    assert len(lost) == 2
    assert (tmp_path / "calls").read_text() == "called\n"


def test_a_call_fails_with_its_task_and_the_worker_goes_on(client):
    def breaks(on):
        def broken(_):
            raise RuntimeError("broken")

        dask.serve = broken if on else serve

    with cm.engines.Dask(client, workers=1) as engine:
        address = engine.submit(0, key_of_this_worker, None).result(ANSWER)
        client.run(breaks, True, workers=[address])
        with pytest.raises(RuntimeError, match="broken"):
            engine.submit(0, same, 1).result(ANSWER)
        client.run(breaks, False, workers=[address])
        assert engine.submit(0, same, 2).result(ANSWER) == 2


def test_an_answer_that_comes_twice_is_sent_on_once_and_has_the_same_next_call():
    async def twice():
        scheduler = Mock(client_comms={"me": Mock()}, queued=(), handlers={})
        scheduler.workers = {"a": Mock(processing={})}
        exchange = dask.Exchange("topic", "me")
        await exchange.start(scheduler)
        assert await exchange.offer("a", "call 1", "request 1")
        assert await exchange.offer("a", "call 1", "request 1")
        assert await exchange.answer("a") == ["call 1", "request 1"]
        assert await exchange.answer("a") == ["call 1", "request 1"]
        asking = [asyncio.ensure_future(exchange.answer("a", "call 1", "answer 1")) for _ in "12"]
        await asyncio.sleep(0)
        assert not await exchange.offer("a", "call 2", "request 2")
        assert await asyncio.gather(*asking) == [["call 2", "request 2"]] * 2
        sent = [
            call.args[0]["event"][1][0] for call in scheduler.client_comms["me"].send.mock_calls
        ]
        assert sent == ["began", "answered"]
        assert await exchange.answer("a", "call 2", "answer 2") is None
        assert await exchange.offer("a", "call 3", "request 3")

    asyncio.run(twice())


def test_tasks_are_forgotten_after_their_answers_have_come(client):
    with cm.engines.Dask(client, workers=1) as engine:
        assert engine.submit(0, same, 1).result(ANSWER) == 1
        run = engine.run
        assert eventually(lambda: not [key for key in client.futures if run in str(key)])


def test_no_task_is_left_of_a_worker_that_was_ended_with_the_engine(client):
    before = set(client.scheduler_info(-1)["workers"])
    with cm.engines.Dask(client, workers=1, grace=60.0) as engine:
        running = engine.submit(0, nap, 150.0)
        assert eventually(lambda: any(client.processing().values()))
        run = engine.run

    def left(dask_scheduler):
        return [str(key) for key in dask_scheduler.tasks if run in str(key)]

    assert running.done()
    assert eventually(lambda: len(before & set(client.scheduler_info(-1)["workers"])) == 3, ANSWER)
    client.wait_for_workers(4, START)  # its successor, which no other test is to see coming
    assert eventually(lambda: not client.run_on_scheduler(left))
    assert eventually(lambda: not [key for key in client.futures if run in str(key)])


def test_a_worker_that_the_scheduler_has_just_lost_is_ended_already(client):
    with cm.engines.Dask(client, workers=1) as engine:
        client.sync(engine._end, "tcp://127.0.0.1:1")


@pytest.mark.slow
def test_a_worker_whose_versions_differ_is_not_used_when_it_joins(client, tmp_path, monkeypatch):
    with Dask(client) as engine:
        monkeypatch.setattr(cm, "__version__", "9.9")
        with dask_workers(tmp_path, client.scheduler.address, 1, "--no-nanny"):
            client.wait_for_workers(5, START)
            time.sleep(1.0)
            assert set(engine.members()) == {0, 1, 2, 3}


def test_the_same_program_gives_the_same_values_as_on_local(client):
    X = np.random.default_rng(0).standard_normal((12, 3))
    code = cm.SplineCode(3, 4, 1)
    values = []
    with cm.engines.Local(4) as local, cm.engines.Dask(client) as dask:
        for engine in (local, dask):
            result = cm.map(np.tanh, X, code=code, engine=engine, stop=cm.Everyone())
            values.append(result.values)
    # Answers are summed in the order in which they come, which differs also between calls on Local.
    assert np.allclose(*values, rtol=0, atol=1e-14)
