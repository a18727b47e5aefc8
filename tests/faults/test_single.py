"""Every fault alone, on every engine: what it costs, and that all workers answer again afterwards."""

from __future__ import annotations

import importlib.util
import math

import pytest
from chaos import cgroups
from chaos.clusters import CLUSTERS
from chaos.faults import FAULTS, PLAUSIBLE
from chaos.single import CODE, PATIENCE, ROWS, WAIT, Outcome, run_faults

pytestmark = pytest.mark.timeout(400)  # all faults of an engine, one after the other

TRIED = [
    "Local",
    *(pytest.param(name, marks=pytest.mark.slow) for name in CLUSTERS if name != "Local"),
]

HELD = ROWS // CODE.tasks
"""Rows whose raw inputs the faulty worker computes."""

SEEN = {
    "killed (SIGKILL)": {"failed: WorkerCrashed", "failed: WorkerLost"},
    "crashes (SIGSEGV)": {"failed: WorkerCrashed", "failed: WorkerLost"},
    "exits (exit code 0)": {"failed: WorkerCrashed", "failed: WorkerLost"},
    "hangs (SIGSTOP)": {"abandoned"},
    "frozen (cgroup freezer)": {"abandoned"},
    "sleeps for a minute": {"abandoned"},
    "sleeps in C, holding the interpreter lock": {"abandoned"},
    "has a tenth of its CPU (cgroup quota)": {"answered", "abandoned"},
    "raises": {"failed: ValueError"},
    "runs out of memory (RLIMIT_AS)": {"failed: MemoryError"},
    "answers in another shape": {"rejected"},
    "answers NaN": {"answered", "rejected"},
    "answers noise": {"rejected"},
    "answers with the sign flipped": {"rejected"},
    "answers a constant": {"rejected"},
    PLAUSIBLE.name: {"answered", "rejected"},
}


@pytest.fixture(scope="module", params=TRIED)
def outcomes(request) -> dict[str, Outcome]:
    cluster = CLUSTERS[request.param]
    lacking = [name for name in cluster.needs if importlib.util.find_spec(name) is None]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} is not installed")
    found = {outcome.fault: outcome for outcome in run_faults(cluster)}
    cgroups.remove()
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_costs_the_rows_of_its_worker_at_most(outcomes, fault):
    if reason := fault.unavailable():
        pytest.skip(reason)
    outcome = outcomes[fault.name]
    assert outcome.seen in SEEN[fault.name]
    assert outcome.exact + outcome.estimated == ROWS
    if outcome.seen == "answered":
        assert outcome.exact == ROWS
        # An answer that no other answer contradicts is passed through.
        unnoticed = fault.name in ("answers NaN", PLAUSIBLE.name)
        assert outcome.wrong == (HELD if unnoticed else 0)
    else:
        assert outcome.exact - outcome.wrong == ROWS - HELD
        # NaN is contradicted where a mixture in its cell has a finite answer, and only there.
        assert outcome.wrong < (HELD if fault.name == "answers NaN" else 1)
        assert math.isfinite(outcome.error)
        assert 0 < outcome.error < 8
    # A stuck worker is waited for until the deadline, a lost one is not.
    lost = outcome.seen.startswith(("failed", "rejected"))
    assert outcome.seconds < (WAIT if lost else 5 * WAIT)
    assert outcome.back < PATIENCE
