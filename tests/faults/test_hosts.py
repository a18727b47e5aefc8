"""Faults of whole hosts, which are network namespaces, and of the scheduler, on a Dask cluster."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from chaos import hosts
from chaos.outages import (
    CODE,
    EACH,
    HOSTS,
    OUTAGES,
    ROWS,
    interrupt_caller,
    kill_scheduler,
    run_outage,
    run_outages,
)
from chaos.placement import measure_placement
from chaos.report import hosts_page
from chaos.sites import host, site

import codedmap as cm

from ..processes import eventually

pytestmark = pytest.mark.timeout(150)

LATE = 5.0
"""Seconds that a wave may take here: ten times what its calls do."""
BY_NAME = {outage.name: outage for outage in OUTAGES}


@pytest.fixture(scope="module", autouse=True)
def possible():
    if reason := hosts.unavailable():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def cluster(possible):
    with site(HOSTS, EACH) as made:
        yield made


def test_workers_of_a_host_are_no_neighbours(cluster):
    with cm.engines.Dask(cluster.client) as engine:
        where = [engine.submit(worker, host, None).result(30) for worker in range(engine.workers)]
    assert sorted(where) == sorted(host.address for host in cluster.hosts for _ in range(EACH))
    assert all(one != other for one, other in pairwise(where))


def test_killing_a_host_costs_the_answers_of_its_workers_at_once(cluster):
    seen = run_outage(cluster, BY_NAME["host killed (SIGKILL to all), started again"], LATE)
    assert seen.result == f"{EACH} failed: WorkerCrashed"
    assert "died during the call, or left: its answer is lost" in seen.message
    assert seen.seconds < LATE
    assert_only_the_host_is_lost(seen)


def test_a_host_that_is_cut_off_is_abandoned_and_is_back_when_it_is_back(cluster):
    outage = replace(BY_NAME["host cut off for 3 s (iptables)"], seconds=LATE + 1)
    seen = run_outage(cluster, outage, LATE)
    assert seen.result == f"{EACH} abandoned"
    assert LATE <= seen.seconds < 5 * LATE
    assert_only_the_host_is_lost(seen)


def assert_only_the_host_is_lost(seen):
    assert seen.others == 0
    assert (seen.exact, seen.wrong) == (ROWS - EACH * ROWS // CODE.tasks, 0)
    assert seen.exact + seen.estimated == ROWS
    assert 0 < seen.error < 8


def test_ctrl_c_ends_the_caller_at_once_and_leaves_nothing_behind(cluster):
    seen = interrupt_caller(cluster)
    assert seen.result == "ends, and leaves nothing on the scheduler"
    assert seen.message == "KeyboardInterrupt"
    assert seen.seconds < LATE


def test_the_end_of_the_scheduler_is_one_error(cluster):
    seen = kill_scheduler(cluster)  # and of the cluster of these tests
    assert seen.message.startswith(
        "EngineError: the connection to the Dask scheduler at tcp://198.18."
    )
    assert "make a new engine" in seen.message
    assert seen.seconds < LATE


OWNER = """
import sys, time
from chaos.hosts import network
with network(2) as net:
    print(net.address, *(host.namespace for host in net.hosts), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_hosts_are_gone_with_who_made_them(how):
    owner = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(2, signal.default_int_handler)" + OWNER],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=Path(hosts.__file__).parents[1], start_new_session=True,
    )  # fmt: skip
    with owner:
        address, *holders = owner.stdout.readline().split()
        link = f"cm{owner.pid}"
        assert any(link in path.name for path in Path("/sys/class/net").iterdir())
        assert all(Path(f"/proc/{pid}").exists() for pid in holders)
        owner.send_signal(how)
        owner.wait(30)
    gone = lambda: not any(Path(f"/proc/{pid}").exists() for pid in holders)  # noqa: E731
    assert eventually(gone)
    assert eventually(
        lambda: not any(link in path.name for path in Path("/sys/class/net").iterdir())
    )
    assert address not in Path("/proc/net/fib_trie").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_befalls_a_host_costs_the_rows_of_its_workers_at_most():
    outcomes = list(run_outages())
    assert len(outcomes) == 2 + sum(outage.unavailable() is None for outage in OUTAGES)
    for seen in outcomes:
        assert seen.wrong == 0
        if seen.of_rows:
            assert seen.others == 0
            assert seen.exact + seen.estimated == ROWS
            assert seen.exact >= ROWS - EACH * ROWS // CODE.tasks
            assert math.isnan(seen.error) or 0 < seen.error < 8
    page = hosts_page(outcomes, list(measure_placement(sets=1)))
    assert all(seen.outage in page for seen in outcomes)
