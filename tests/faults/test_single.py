"""Every fault alone, on every engine: what it costs, and that all is well again afterwards."""

from __future__ import annotations

import importlib.util
import math

import pytest
from chaos import cgroups
from chaos.clusters import CLUSTERS
from chaos.faults import FAULTS, PLAUSIBLE
from chaos.single import CODE, PATIENCE, ROWS, WAIT, Outcome, tried

pytestmark = pytest.mark.timeout(400)  # all faults of an engine, one after the other

TRIED = [
    "Local",
    *(pytest.param(name, marks=pytest.mark.slow) for name in CLUSTERS if name != "Local"),
]

HELD = ROWS // CODE.tasks
"""Rows that the worker which is struck computes as they are."""

SEEN = {
    "killed (SIGKILL)": {"failed: WorkerCrashed", "failed: WorkerLost"},
    "crashes (SIGSEGV)": {"failed: WorkerCrashed", "failed: WorkerLost"},
    "ends itself (exit code 0)": {"failed: WorkerCrashed", "failed: WorkerLost"},
    "hangs (SIGSTOP)": {"abandoned"},
    "frozen (cgroup freezer)": {"abandoned"},
    "sleeps for a minute": {"abandoned"},
    "sleeps in C with the interpreter locked": {"abandoned"},
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
    found = {outcome.fault: outcome for outcome in tried(cluster)}
    cgroups.remove()
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_costs_the_rows_of_its_worker_at_most(outcomes, fault):
    if reason := fault.impossible():
        pytest.skip(reason)
    outcome = outcomes[fault.name]
    assert outcome.seen in SEEN[fault.name]
    assert outcome.exact + outcome.estimated == ROWS
    if outcome.seen == "answered":
        assert outcome.exact == ROWS
        # What nobody contradicts is passed through, and no code can know better.
        unnoticed = fault.name in ("answers NaN", PLAUSIBLE.name)
        assert outcome.wrong == (HELD if unnoticed else 0)
    else:
        assert outcome.exact - outcome.wrong == ROWS - HELD
        # NaN is contradicted where a mixture in its cell has a finite answer, and only there.
        assert outcome.wrong < (HELD if fault.name == "answers NaN" else 1)
        assert math.isfinite(outcome.error)
        assert 0 < outcome.error < 8
    # Who is stuck has the deadline waited out; who is gone has not.
    gone = outcome.seen.startswith(("failed", "rejected"))
    assert outcome.seconds < (WAIT if gone else 5 * WAIT)
    assert outcome.back < PATIENCE
