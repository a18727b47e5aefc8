"""What the Ray engine does beyond the contract tests of engines."""

from __future__ import annotations

import ctypes
import math
import os
import signal
from concurrent.futures import Future
from unittest.mock import Mock

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.engine import Member

from ..clusters import standing
from ..processes import ANSWER, alive, eventually, pid, run_script, same

pytestmark = [pytest.mark.timeout(90), pytest.mark.usefixtures("ray_cluster")]


def task_name(_):
    import ray

    return ray.get_runtime_context().get_task_name()


def node(_):
    import ray

    return ray.get_runtime_context().get_node_id()


def sleep_in_c(seconds):
    """Holds the interpreter lock all the while."""
    ctypes.PyDLL(None).sleep(seconds)


@pytest.mark.slow
def test_by_default_there_is_an_actor_for_each_cpu():
    with cm.engines.Ray() as engine:
        assert engine.workers == 2
        assert len({engine.submit(worker, pid, None).result(ANSWER) for worker in range(2)}) == 2


@pytest.mark.slow
def test_engines_one_after_another_have_one_class_of_actors():
    """Ray keeps every class of actors that it is given."""
    from codedmap.engines.ray import Actor

    for _ in range(2):
        with cm.engines.Ray(1) as engine:
            assert engine.submit(0, same, 3).result(ANSWER) == 3
    assert len(Actor.__subclasses__()) == 1


@pytest.mark.parametrize("workers", [None, 3, 7])
def test_actors_that_reserve_nothing_are_placed_by_the_cpus_of_nodes(workers, monkeypatch):
    import ray

    def entry(**resources):
        return ray.nodes()[0] | {"NodeManagerAddress": str(resources), "Resources": resources}

    nodes = {"head": entry(), "small": entry(CPU=1.0), "large": entry(CPU=3.0)}
    placed = []

    def start(self, node):
        placed.append(node)
        found = Future()
        found.set_result(None)
        return f"{len(placed)}", found

    monkeypatch.setattr("codedmap.engines.ray.Ray._living_nodes", lambda _: nodes)
    monkeypatch.setattr("codedmap.engines.ray.Ray._start", start)
    monkeypatch.setattr("codedmap.engines.ray.Ray._greet", lambda *_: Member())
    with cm.engines.Ray(workers):
        count = [placed.count(node) for node in ("head", "small", "large")]
    assert count == {None: [0, 1, 3], 3: [0, 1, 2], 7: [0, 2, 5]}[workers]


@pytest.mark.slow
def test_there_may_be_more_actors_than_cpus_because_they_reserve_none():
    with cm.engines.Ray(3) as engine:
        assert len({engine.submit(worker, pid, None).result(ANSWER) for worker in range(3)}) == 3


def test_actors_for_which_there_is_no_room_join_when_there_is():
    import ray

    with cm.engines.Ray(1, num_cpus=1) as other, cm.engines.Ray(2, num_cpus=1) as engine:
        assert (other.workers, engine.workers) == (1, 1)
        assert engine.submit(0, same, "one").result(ANSWER) == "one"
        other.close()
        assert eventually(lambda: set(engine.members()) == {0, 1}, ANSWER)
        assert engine.submit(1, same, "two").result(ANSWER) == "two"
    assert eventually(lambda: ray.available_resources().get("CPU", 0) == 2)


def test_what_a_closed_engine_has_reserved_is_free_for_the_next():
    for _ in range(2):
        with cm.engines.Ray(num_cpus=1) as engine:
            assert engine.workers == 2


def test_an_actor_that_died_between_calls_is_found_dead_by_the_next_and_replaced():
    with cm.engines.Ray(2) as engine:
        os.kill(engine.submit(0, pid, None).result(ANSWER), signal.SIGKILL)
        assert isinstance(engine.submit(0, pid, None).exception(ANSWER), cm.WorkerCrashed)
        assert eventually(lambda: set(engine.members()) == {1, 2}, ANSWER)
        assert engine.submit(2, same, "new").result(ANSWER) == "new"


def test_no_room_for_one_worker_is_an_error():
    with pytest.raises(cm.EngineError, match=r"no node .* has {'CPU': 5} free .*num_cpus=0"):
        cm.engines.Ray(2, num_cpus=5)
    with pytest.raises(cm.EngineError, match=r"no node .* has {'memory': 10+} free"):
        cm.engines.Ray(2, limits=cm.Limits(memory=10**18))


@pytest.mark.parametrize("need", [-1, math.nan, math.inf, "two"])
def test_what_cannot_be_reserved_is_refused(need):
    with pytest.raises(cm.InvalidArgument, match=r"num_cpus=.* must be a number"):
        cm.engines.Ray(2, num_cpus=need)


def test_an_actor_reserves_what_a_call_needs():
    import ray

    before = ray.available_resources()["memory"]
    with cm.engines.Ray(1, limits=cm.Limits(memory="50 MB")) as engine:
        assert engine.memory_limit == 50_000_000
        assert ray.available_resources()["memory"] == before - 50_000_000
    with pytest.raises(cm.EngineError, match=r"no node .* has {'GPU': 1, 'matlab': 2} free"):
        cm.engines.Ray(1, limits=cm.Limits(gpu=1, licences={"matlab": 2}))


@pytest.fixture
def one(ray_cluster):
    """An engine of one actor for tests that do not end it: to start one takes a second."""
    return standing("one actor", lambda: cm.engines.Ray(1))


@pytest.mark.slow
def test_calls_are_named_by_their_worker_for_the_dashboard(one):
    names = {one.submit(0, task_name, None).result(ANSWER) for _ in range(2)}
    # One name, because Ray keeps statistics of every name.
    assert [name.rpartition("-")[0] for name in names] == ["codedmap-worker0"]


def test_a_straggler_deep_in_c_code_is_really_gone_after_grace():
    with cm.engines.Ray(1, grace=0.3) as engine:
        worker = engine.submit(0, pid, None).result(ANSWER)
        straggler = engine.submit(0, sleep_in_c, 60)
        engine.abandon([straggler])
        assert isinstance(straggler.exception(ANSWER), cm.errors.Abandoned)
        assert eventually(lambda: not alive(worker))
        assert eventually(lambda: set(engine.members()) == {1}, ANSWER)
        assert engine.submit(1, pid, None).result(ANSWER) != worker


def test_closing_ends_the_actors_whatever_they_are_doing():
    with cm.engines.Ray(2) as engine:
        workers = [engine.submit(worker, pid, None).result(ANSWER) for worker in (0, 1)]
        straggler = engine.submit(0, sleep_in_c, 60)
    assert isinstance(straggler.exception(ANSWER), cm.errors.Abandoned)
    assert eventually(lambda: not any(map(alive, workers)))


def test_large_payloads_can_be_written_and_large_answers_too(one):
    def negate_in_place(batch):
        np.negative(batch, out=batch)
        return batch

    payload = np.ones(1 << 20)
    answer = one.submit(0, negate_in_place, payload).result(ANSWER)
    answer += 1
    assert (answer == 0).all()
    assert (payload == 1).all()


def test_references_to_objects_of_ray_can_be_opened_where_they_arrive(one):
    import ray

    held, given = ray.put(1), ray.put(2)

    def total(payload):
        [ref] = payload
        return [ray.put(ray.get(held, timeout=ANSWER) + ray.get(ref, timeout=ANSWER))]

    [made] = one.submit(0, total, [given]).result(2 * ANSWER)
    assert ray.get(made, timeout=ANSWER) == 3


def test_what_is_kept_is_released_when_it_is_needed_no_more(one, tmp_path):
    class Large:
        def __init__(self):
            self.own = np.ones(1 << 18)

        def __call__(self, _):
            return self.own.sum()

        def __del__(self):
            if os.getpid() != caller:
                (tmp_path / "released").touch()

    caller = os.getpid()
    kept = one.keep(0, Large())
    assert one.submit(0, kept, None).result(ANSWER) == 1 << 18
    del kept
    assert eventually((tmp_path / "released").exists)


def test_a_worker_without_a_domain_is_an_error():
    with pytest.raises(
        cm.InvalidArgument, match=r"failure_domains has no entry for .* its node id"
    ):
        cm.engines.Ray(2, failure_domains={"elsewhere": 1})


@pytest.mark.parametrize("domains", [3, "rack 1"])
def test_failure_domains_of_another_kind_are_an_error(domains):
    with pytest.raises(cm.InvalidArgument, match=r"failure_domains=.* must be a mapping"):
        cm.engines.Ray(2, failure_domains=domains)


@pytest.mark.slow
def test_failure_domains_may_be_a_function_of_the_node():
    with cm.engines.Ray(2, failure_domains=lambda node: node["NodeManagerAddress"]) as engine:
        assert [member.domain for member in engine.members().values()] == 2 * ["127.0.0.1"]


def test_a_worker_that_ray_has_ended_for_the_memory_of_its_node_says_so(one):
    from ray.exceptions import OutOfMemoryError

    queue, ended = Mock(), Future()
    ended.set_exception(OutOfMemoryError("the node was low on memory"))
    one._answered(queue, None, ended)
    error = queue.answered.call_args.args[2]
    assert isinstance(error, cm.WorkerCrashed)
    assert "its node was low on memory, and Ray ended it: use fewer workers" in str(error)
    assert isinstance(error.__cause__, OutOfMemoryError)


def test_other_versions_on_the_cluster_are_an_error(monkeypatch):
    monkeypatch.setattr(cm, "__version__", "9.9")
    with pytest.raises(cm.EngineError, match=r"a Ray worker has .* but the caller .*9\.9: install"):
        cm.engines.Ray(1)


def test_workers_that_cannot_run_codedmap_are_an_error(tmp_path, monkeypatch):
    (tmp_path / "unknown_there.py").write_text(
        "class Worker:\n    def hello(self):\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import ray
    import unknown_there

    monkeypatch.setattr("codedmap.engines.ray._REMOTE", ray.remote(unknown_there.Worker))
    with pytest.raises(cm.EngineError, match=r"a Ray worker has not started .*unknown_there"):
        cm.engines.Ray(1)


def test_what_the_workers_cannot_import_is_told(one, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def fn(batch):\n    return batch\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    error = one.submit(0, only_here.fn, 1).exception(ANSWER)
    assert isinstance(error, cm.errors.CannotSend)
    assert "No module named 'only_here'): install what this imports where the workers run" in str(
        error
    )


LOCAL = """
import os, ray, tempfile
def slow(_):
    time.sleep(60)
def long(_):
    time.sleep(5)
def there(_):
    return ray.get_runtime_context().get_node_id()
# main
temporary = tempfile.TemporaryDirectory(prefix="ray")
size = dict(num_cpus=2, object_store_memory=100 << 20)
quiet = dict(log_to_driver=False, logging_level="ERROR")
alone = dict(include_dashboard=False, _temp_dir=temporary.name)
"""


@pytest.mark.slow
def test_ray_that_is_not_initialised_or_was_shut_down_is_told(tmp_path):
    ended = run_script(
        tmp_path,
        LOCAL
        + """
        def show(what):
            try:
                what()
            except cm.EngineError as error:
                print(error)

        show(cm.engines.Ray)
        ray.init(**size, **alone, **quiet)
        with cm.engines.Ray(1) as engine:
            call = engine.submit(0, slow, None)
            ray.shutdown()
            print(type(call.exception(30)).__name__)
            show(lambda: engine.submit(0, abs, -1))
            assert not ray.is_initialized()
        """.replace("\n        ", "\n"),
    )
    first, second, third = ended.out.splitlines()
    assert first.startswith("Ray is not initialised: call ray.init() first")
    assert second in (
        "EngineError",
        "WorkerCrashed",
    )  # Ray may still report that it killed the worker
    assert third.startswith(
        "Ray has been shut down, and the engine's workers with it: call ray.init"
    )
    assert (ended.err, ended.process.returncode) == ("", 0)


@pytest.mark.slow  # it takes Ray a while to see that a node has been lost
def test_neighbours_are_on_different_nodes_and_a_lost_node_costs_the_calls_of_its_own_workers(
    tmp_path,
):
    ended = run_script(
        tmp_path,
        LOCAL
        + """
        from ray.cluster_utils import Cluster

        # Ray writes the address of a cluster to a folder that it does not make.
        os.environ["RAY_TMPDIR"] = temporary.name
        os.mkdir(os.path.join(temporary.name, "ray"))
        each = dict(num_cpus=2, object_store_memory=100 << 20)
        cluster = Cluster(
            initialize_head=True,
            head_node_args=dict(each, temp_dir=temporary.name, include_dashboard=False),
        )
        second = cluster.add_node(**each)
        ray.init(cluster.address, **quiet)
        with cm.engines.Ray(4) as engine:
            nodes = [engine.submit(worker, there, None).result(30) for worker in range(4)]
            print('result', nodes[0] != nodes[1], nodes[:2] == nodes[2:])
            calls = [engine.submit(worker, long, None) for worker in range(4)]
            time.sleep(1.0)
            cluster.remove_node(second, allow_graceful=False)
            errors = [call.exception(60) for call in calls]
            lost = [type(error).__name__ for error in errors if error]
            print('result', lost, [node for node, error in zip(nodes, errors) if not error] == 2 * [there(None)])
            until = time.monotonic() + 60
            while set(engine.members()) & {0, 1, 2, 3} == {0, 1, 2, 3} or engine.workers < 4:
                assert time.monotonic() < until
                time.sleep(0.1)
            after = [engine.submit(worker, there, None).result(60) for worker in engine.members()]
            print('result', after == 4 * [there(None)], max(engine.members()))
        ray.shutdown()
        cluster.shutdown()
        """.replace("\n        ", "\n"),
    )
    lines = [
        line for line in ended.out.splitlines() if line.startswith("result")
    ]  # Ray prints, too
    assert lines == [
        "result True True",
        "result ['WorkerCrashed', 'WorkerCrashed'] True",
        "result True 5",
    ]
    assert ended.process.returncode == 0
