"""What the Dask engine does beyond the contract tests of engines."""

from __future__ import annotations

import itertools
import os
import signal
import time

import distributed
import numpy as np
import pytest

import codedmap as cm
from codedmap.engines import dask_cluster

from ..clusters import START, command, dask_scheduler, dask_workers
from ..processes import ANSWER, eventually, nap, pid, same

pytestmark = pytest.mark.timeout(90)


def key_of_this_task(_):
    return distributed.get_worker().get_current_task()


@pytest.fixture
def client(dask_client):
    dask_client.wait_for_workers(4, ANSWER)
    return dask_client


def test_by_default_there_is_a_slot_for_each_worker(client):
    with cm.engines.Dask(client) as engine:
        assert engine.workers == 4
        assert len({engine.submit(slot, pid, None).result(ANSWER) for slot in range(4)}) == 4


def test_tasks_are_named_for_the_dashboard(client):
    with cm.engines.Dask(client) as engine:
        names = [engine.submit(2, key_of_this_task, None).result(ANSWER) for _ in range(2)]
    assert [name.rpartition("-")[0] for name in names] == [
        "codedmap-wave1-slot2",
        "codedmap-wave2-slot2",
    ]


def test_without_grace_a_straggler_keeps_its_worker_and_its_slot_is_tried_again_later(client):
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


def test_without_grace_the_scheduler_knows_of_a_straggler_after_the_engine_has_been_closed(client):
    with cm.engines.Dask(client, workers=1) as engine:
        straggler = engine.submit(0, nap, 3.0)
        assert eventually(lambda: any(client.processing().values()))
    assert isinstance(straggler.exception(ANSWER), cm.errors.Abandoned)
    assert any("codedmap-wave1-slot0" in str(keys) for keys in client.processing().values())
    assert eventually(lambda: not any(client.processing().values()))


def test_large_payloads_travel_without_a_warning_and_can_be_written(client):
    def negate_in_place(batch):
        np.negative(batch, out=batch)
        return batch

    with cm.engines.Dask(client, workers=2) as engine:
        payload = np.ones(2 << 20)
        answer = engine.submit(1, negate_in_place, payload).result(ANSWER)
    assert (answer == -1).all()
    assert (payload == 1).all()


def test_payloads_that_were_sent_are_not_kept_by_the_client(client):
    with cm.engines.Dask(client, workers=2) as engine:
        for _ in range(5):
            engine.submit(0, np.shape, np.ones(1 << 12)).result(ANSWER)
        log = tuple(client.scheduler_comm.recent_message_log)
    assert not [message for sent in log for message in sent if message["op"] == "update-graph"]


def test_fewer_workers_than_slots_are_shared_with_one_warning(client):
    with pytest.warns(UserWarning, match="6 slots share 4 Dask workers") as warned:
        engine = cm.engines.Dask(client, workers=6)
    with engine:
        pids = [engine.submit(slot, pid, None).result(ANSWER) for slot in range(6)]
    assert len(warned) == 1
    assert len(set(pids)) == 4
    assert all(one != other for one, other in itertools.pairwise(pids))


@pytest.mark.parametrize("how", ["mapping", "callable"])
def test_neighbouring_slots_go_to_different_domains(client, how):
    racks = {address: k // 2 for k, address in enumerate(client.scheduler_info(-1)["workers"])}
    domains = racks if how == "mapping" else lambda worker: racks[worker["address"]]
    with cm.engines.Dask(client, failure_domains=domains) as engine:
        where = [engine.submit(n, key_of_this_worker, None).result(ANSWER) for n in range(4)]
    found = [racks[address] for address in where]
    assert found in ([0, 1, 0, 1], [1, 0, 1, 0])


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
    with pytest.raises(cm.InvalidArgument, match=r"is no Dask client: give distributed\.Client"):
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


def test_an_engine_is_over_with_its_connection_to_the_scheduler(tmp_path):
    lost = r"the connection to the Dask scheduler at tcp://127.* was lost, .*: make a new engine"
    with dask_scheduler(tmp_path) as address, dask_workers(tmp_path, address, 1):
        client = distributed.Client(address, set_as_default=False)
        client.wait_for_workers(1, START)
        engine = cm.engines.Dask(client)
        assert engine.submit(0, same, 1).result(ANSWER) == 1
        running = engine.submit(0, nap, 60.0)
    with client:
        assert isinstance(running.exception(ANSWER), cm.EngineError | cm.WorkerCrashed)
        with pytest.raises(cm.EngineError, match=lost):
            engine.submit(0, same, 2)
        where = ("--host", "127.0.0.1", "--port", address.rpartition(":")[2])
        with command(tmp_path, "dask", "scheduler", *where, "--no-dashboard"):
            assert eventually(lambda: client.status == "running", START)
            with pytest.raises(cm.EngineError, match=lost):
                engine.submit(0, same, 3)
            engine.close()
            client.close()


def test_a_scheduler_that_hangs_holds_up_neither_end_nor_beginning_for_ever(client, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_PATIENCE", 1.0)
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
    assert "No module named 'only_here'): install the module where the workers run" in str(error)


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
