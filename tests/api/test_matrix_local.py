"""The door `CodedMatrix` on real worker processes that sleep and are killed."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from scipy.sparse import linalg

import codedmap as cm

from ..processes import alive, eventually, kill_and_wait, pid, run_script, shm_names

WORKERS = 5


@pytest.fixture(scope="module")
def local():
    with cm.engines.Local(workers=WORKERS) as engine:
        yield engine


def matrix(rows=200, columns=40):
    return np.random.default_rng(0).standard_normal((rows, columns))


def right(A, v):
    np.testing.assert_allclose(A @ v, matrix() @ v, atol=1e-11)


def test_stragglers_are_not_waited_for_and_crashes_cost_nothing_but_their_answer(local):
    script = {1: cm.testing.late(60), 4: [cm.testing.crash()]}
    A = cm.CodedMatrix(
        matrix(), code=cm.codes.MDSCode(3, WORKERS), engine=cm.testing.Faulty(local, script)
    )
    began = time.monotonic()
    right(A, np.ones(40))
    assert time.monotonic() - began < 10  # of 60
    assert A.last.answered == (0, 2, 3)
    assert set(A.last.abandoned) | set(A.last.failed) == {1, 4}


def test_what_an_idle_worker_kept_is_placed_again_after_it_was_killed(local):
    A = cm.CodedMatrix(
        matrix(), code=cm.codes.MDSCode(3, WORKERS), engine=local, stop=cm.Everyone()
    )
    right(A, np.ones(40))
    assert A.last.answered == tuple(range(WORKERS))
    for worker in (0, 3):
        kill_and_wait(local.submit(worker, pid, None).result(30))
    right(A, np.ones(40))  # it may be noticed only now
    right(A, np.ones(40))
    assert A.last.answered == tuple(range(WORKERS))
    assert not A.last.failed
    right(A, np.arange(40.0))
    assert A.last.repaired == ()


def test_a_worker_that_hangs_before_it_has_its_block_is_replaced(monkeypatch):
    monkeypatch.setattr("codedmap.engines.local._OPENING", 0.1)  # a minute
    with cm.engines.Local(workers=3, grace=0.1) as engine:
        stopped = engine.submit(0, pid, None).result(30)
        os.kill(stopped, signal.SIGSTOP)
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(2, 3), engine=engine)
        right(A, np.ones(40))
        assert A.last.abandoned == (0,)
        assert eventually(lambda: not alive(stopped), 60.0)
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(2, 3), engine=engine, stop=cm.Everyone())
        right(A, np.ones(40))
        assert A.last.answered == (0, 1, 2)


def test_the_product_comes_even_when_all_workers_were_killed(local):
    A = cm.CodedMatrix(matrix(), code=cm.codes.PolarCode(3, 4), engine=local)
    right(A, np.ones(40))
    for worker in range(4):
        kill_and_wait(local.submit(worker, pid, None).result(30))
    right(A, np.ones(40))
    assert len(A.last.repaired) >= 3


def test_workers_killed_again_and_again_do_not_stop_a_solver(local):
    M = matrix(120, 120)
    M = M @ M.T / 120 + np.eye(120)
    script = {
        2: [*4 * [cm.testing.Act()], cm.testing.crash()] * 100,
        4: [*6 * [cm.testing.Act()], cm.testing.crash()] * 100,
    }
    engine = cm.testing.Faulty(local, script)
    A = cm.CodedMatrix(
        M, code=cm.codes.MDSCode(3, WORKERS), engine=engine, symmetric=True, stop=cm.Everyone()
    )
    repaired, failed = set(), set()

    def look(_):
        repaired.update(A.last.repaired)
        failed.update(A.last.failed)

    solution, info = linalg.cg(A, M[:, 0], rtol=1e-10, callback=look)
    assert info == 0
    np.testing.assert_allclose(solution, np.eye(120)[0], atol=1e-8)
    assert failed == repaired == {2, 4}


def test_a_closed_engine_says_so():
    with cm.engines.Local(workers=3) as engine:
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(2, 3), engine=engine)
        right(A, np.ones(40))
    with pytest.raises(cm.EngineError, match="closed: create a new one"):
        A @ np.ones(40)


def test_workers_forget_a_matrix_that_is_gone_and_nothing_is_left(local):
    A = cm.CodedMatrix(matrix(4000, 100), code=cm.codes.MDSCode(3, WORKERS), engine=local)
    assert (A @ np.ones(100)).shape == (4000,)
    del A
    for worker in range(WORKERS):
        local.submit(worker, pid, None).result(30)
    assert eventually(lambda: not shm_names())


def test_interrupting_a_product_leaves_nothing(tmp_path):
    done = run_script(
        tmp_path,
        """
        import numpy as np, threading
        # main
        with cm.engines.Local(workers=3) as workers:
            engine = cm.testing.Faulty(workers, {n: cm.testing.late(60) for n in range(3)})
            A = cm.CodedMatrix(np.ones((9, 9)), code=cm.codes.MDSCode(2, 3), engine=engine)
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            began = time.monotonic()
            try:
                A @ np.ones(9)
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - began < 10)
        """,
    )
    assert done.out == "interrupted True\n"
    assert done.err == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_large_solve_with_stragglers_and_two_dead_workers_is_as_good_as_a_local_one():
    size, steps = 4_000, 400
    rng = np.random.default_rng(0)
    M = rng.standard_normal((size, size))
    M = (M + M.T) / np.sqrt(2 * size) + 2.5 * np.eye(size)  # eigenvalues from 0.5 to 4.5
    b = rng.standard_normal(size)
    local_residuals, residuals = [], []
    expected, info = linalg.cg(M, b, rtol=1e-12, callback=local_residuals.append)
    assert info == 0
    acts = {worker: [cm.testing.Act()] * steps for worker in range(16)}
    for step in range(steps):
        for worker in rng.choice(14, 3, replace=False):
            acts[int(worker)][step] = cm.testing.late(0.05)
    for worker in (14, 15):  # for good, after three products
        acts[worker][3:] = [cm.testing.crash()] * (steps - 3)
    outcomes = []
    with cm.engines.Local(workers=16) as workers:
        engine = cm.testing.Faulty(workers, acts)
        A = cm.CodedMatrix(
            M, code=cm.codes.MDSCode(tasks=11, workers=16), engine=engine, symmetric=True
        )

        def look(x):
            residuals.append(x)
            outcomes.append(A.last)

        solution, info = linalg.cg(A, b, rtol=1e-12, callback=look)
    assert info == 0
    assert len(residuals) == len(local_residuals)

    def relative(x):
        return np.linalg.norm(M @ x - b) / np.linalg.norm(b)

    assert relative(solution) <= 1.01 * max(relative(expected), 1e-12)
    assert all(last.exact for last in outcomes)
    assert all({14, 15} & (set(last.failed) | set(last.abandoned)) for last in outcomes[5:])
    assert sum(len(last.abandoned) for last in outcomes) > len(outcomes)
    print(
        f"{len(outcomes)} steps, relative residual {relative(solution):.3g} "
        f"(local {relative(expected):.3g}), {sum(o.seconds for o in outcomes):.1f} s in products"
    )
