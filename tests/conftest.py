"""What several test files share."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chaos.rays import ray_environment
from hypothesis import settings

from codedmap.cli.engines import ENGINES
from codedmap.testing import Scripted

from .clusters import START, dask_scheduler, dask_workers, end_clusters, ray_head, standing
from .virtual import Clock

os.environ.update(ray_environment())
settings.register_profile("tests", deadline=None)  # no test asserts how long something takes
settings.load_profile("tests")


LONGEST = (
    "ray",
    "engines/test_local.py",
    "dask",
    "api/test_fill.py",
    "engines/test_local_starting.py",
    "api/test_map_rows.py",
    "planning/test_ways.py",
    "api/test_map_out.py",
    "api/test_auto.py",
    "api/test_plan.py",
    "engines/test_interrupted.py",
    "faults/test_single.py",
    "cli/test_stored.py",
    "examples/test_demo.py",
)
"""Groups of tests that begin first, so that no process is left with a long one at the end."""
WAITING = (
    "ray", "dask", "cli/", "contracts/test_engines.py", "engines/", "examples/", "faults/", "test_docs.py", "test_extend.py",
    "api/test_amap.py", "api/test_auto.py", "api/test_joblib", "api/test_map_", "api/test_matrix_local.py", "api/test_plan.py",
    "api/test_pool.py", "api/test_s", "api/test_tolerance.py", "experiments/test_planned.py", "experiments/test_serving.py",
)  # fmt: skip
"""How groups begin that mostly wait for processes: beside them there is a core for those that compute."""
DIVIDED = ("contracts/test_engines.py", "test_docs.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {group: place for place, group in enumerate(LONGEST)}
    groups = {item: _group(item.nodeid) for item in items}
    seen = {group: place for place, group in enumerate(dict.fromkeys(groups.values()))}
    items.sort(key=lambda item: (order.get(groups[item], len(order)), seen[groups[item]]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Where tests run in several processes, those of a file stay together, and those of a cluster.

    The contract tests of engines are divided by engine, and the documentation by page. Marks of xdist
    3.8 for ``--dist loadgroup`` have no effect with pytest 9.2, which has no attribute ``_nodeid``.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            """The last process takes first what computes, and the others what mostly waits."""
            computes = node is self.nodes[-1]
            first = next((g for g in self.workqueue if g.startswith(WAITING) != computes), None)
            if first is not None:
                self.workqueue.move_to_end(first, last=False)
            super()._assign_work_unit(node)

    return ByGroup(config, log)


def _group(nodeid: str) -> str:
    engine = re.search(r"(?<![a-z])(dask|ray)(?![a-z])", nodeid.lower())
    if engine:
        return engine[0]
    path, _, name = nodeid.partition("::")
    group = path.removeprefix("tests/")
    return group + name.partition("[")[2] if group in DIVIDED else group


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Thousands of tests are made, and none is garbage: looking for it took a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """A cluster ends with the last test of its group: standing idle it takes a sixth of a core."""
    try:
        return (yield)
    finally:
        if nextitem is None or _group(nextitem.nodeid) != _group(item.nodeid):
            end_clusters()


def pytest_sessionfinish() -> None:
    end_clusters()


@pytest.fixture
def dask_client(tmp_path_factory) -> Any:
    """A client, the default one, of four Dask workers with nannies."""
    return standing("dask", lambda: _dask(tmp_path_factory.mktemp("dask")))


@pytest.fixture
def ray_cluster(tmp_path_factory) -> str:
    """The address of a Ray cluster to which this process is connected."""
    return standing("ray", lambda: _ray(tmp_path_factory.mktemp("ray")))


@contextmanager
def _dask(folder: Path) -> Iterator[Any]:
    import distributed

    with dask_scheduler(folder) as address, dask_workers(folder, address, 4):
        os.environ["CODEDMAP_TEST_DASK"] = address
        with distributed.Client(address) as client:
            client.wait_for_workers(4, START)
            # What it starts at its first use belongs to it, not to the first test.
            future = client.submit(np.negative, client.scatter(np.zeros(1 << 21)))
            future.add_done_callback(lambda _: None)
            future.result()
            del future
            yield client
        del os.environ["CODEDMAP_TEST_DASK"]


@contextmanager
def _ray(folder: Path) -> Iterator[str]:
    import ray

    with ray_head(folder, 2) as address:
        os.environ["CODEDMAP_TEST_RAY"] = address
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        try:
            yield address
        finally:
            ray.shutdown()
            del os.environ["CODEDMAP_TEST_RAY"]


@pytest.fixture
def virtual_time(request, monkeypatch) -> None:
    """Jobs, and delays of `Scripted` engines, go by a `Clock`, but in tests of other engines."""
    if request.node.get_closest_marker("real_time") is None:
        Clock().install(monkeypatch)


@pytest.fixture
def scripted(monkeypatch) -> list[Scripted]:
    """Replaces the command line's worker processes; the engines made."""
    engines: list[Scripted] = []

    def made(workers, script=None):
        engines.append(Scripted(workers, script))
        return engines[-1]

    monkeypatch.setitem(ENGINES, "local", made)
    return engines
