"""joblib and scikit-learn on an engine."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from joblib.parallel import BatchedCalls
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import codedmap as cm
from codedmap.testing import Scripted, ScriptedCluster, crash

from ..processes import eventually
from ..repeats import first


def slowly(seconds, x):
    time.sleep(seconds)
    return abs(x)


@pytest.mark.slow
def test_searches_and_forests_of_scikit_learn():
    X, y = make_classification(120, 6, random_state=0)
    search = GridSearchCV(SVC(), {"C": [0.1, 1.0]}, cv=3)
    forest = RandomForestClassifier(6, random_state=0)
    alone = search.fit(X, y).cv_results_["mean_test_score"], forest.fit(X, y).predict_proba(X)
    with cm.engines.Local(2) as engine, joblib.parallel_config(backend=cm.JoblibBackend(engine)):
        found = search.fit(X, y).cv_results_["mean_test_score"], forest.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(found[0], alone[0])
    np.testing.assert_array_equal(found[1], alone[1])


def test_a_crash_costs_one_call():
    with Scripted(2, {0: [crash()]}) as engine, joblib.parallel_config(cm.JoblibBackend(engine)):
        assert Parallel()(delayed(abs)(-x) for x in range(6)) == list(range(6))


@pytest.mark.parametrize(("engine", "each"), first(1, [
    (lambda: Scripted(2, {0: [crash()] * 2, 1: [crash()]}), 0.0),
    (lambda: cm.engines.Local(1), 0.5),
]))  # fmt: skip
def test_a_batch_that_crashes_or_takes_too_long_is_computed_call_by_call(engine, each):
    with engine() as opened:
        backend = cm.JoblibBackend(opened, call_timeout=2.0)
        calls = [delayed(time.sleep)(each), *[delayed(slowly)(each, -x) for x in range(1, 5)]]
        batch = BatchedCalls(calls, backend.get_nested_backend())
        assert backend.submit(batch).result(60) == [None, 1, 2, 3, 4]


def test_without_retries_no_call_of_a_batch_is_made_twice():
    with Scripted(1, {0: [crash()]}) as engine:
        backend = cm.JoblibBackend(engine, hedge=None, retries=0)
        batch = BatchedCalls([delayed(abs)(-1)] * 2, backend.get_nested_backend())
        with pytest.raises(cm.WorkerCrashed):
            backend.submit(batch).result(60)
        assert len(engine.calls) == 1


def test_what_a_call_raises_is_raised():
    with ThreadPoolExecutor(2) as executor, joblib.parallel_config(cm.JoblibBackend(executor)):
        with pytest.raises(ZeroDivisionError):
            Parallel()(delayed(divmod)(1, x) for x in (1, 0, 2))
        assert Parallel()([delayed(abs)(-1)]) == [1]


def test_generators_and_nested_calls():
    def inner(x):
        return Parallel(n_jobs=2)(delayed(pow)(x, k) for k in range(3))

    with ThreadPoolExecutor(2) as executor, joblib.parallel_config(cm.JoblibBackend(executor)):
        assert Parallel()(delayed(inner)(x) for x in range(3)) == [[1, 0, 0], [1, 1, 1], [1, 2, 4]]
        assert list(Parallel(return_as="generator")(delayed(abs)(-x) for x in range(4))) == [
            0,
            1,
            2,
            3,
        ]


@pytest.mark.parametrize(("asked", "jobs"), [(None, 3), (-1, 3), (-2, 2), (-9, 1), (2, 2), (8, 3)])
def test_as_many_jobs_as_there_are_workers(asked, jobs):
    with Scripted(3) as engine:
        assert cm.JoblibBackend(engine).effective_n_jobs(asked) == jobs
    with ScriptedCluster([None]) as cluster:
        cluster.leave(0)
        assert cm.JoblibBackend(cluster).effective_n_jobs(asked) == 1


def test_by_default_all_workers_compute():
    """Each call waits for the others."""
    together = threading.Barrier(3)
    with ThreadPoolExecutor(3) as executor:
        backend = cm.JoblibBackend(executor, hedge=None)
        with joblib.parallel_config(backend):
            places = Parallel(batch_size=1)(delayed(together.wait)(10) for _ in range(3))
    assert sorted(places) == [0, 1, 2]


def test_what_cannot_be_used():
    with Scripted(3) as engine, pytest.raises(ValueError, match="no meaning"):
        cm.JoblibBackend(engine).effective_n_jobs(0)
    with pytest.raises(cm.InvalidArgument, match=r"give codedmap\.engines\.Local"):
        cm.JoblibBackend(None)


@pytest.mark.parametrize(("level", "below"), [(None, 1), (0, 1), (2, 3)])
def test_calls_inside_of_calls_are_one_level_deeper(level, below):
    with Scripted(1) as engine:
        nested, jobs = cm.JoblibBackend(engine, nesting_level=level).get_nested_backend()
    assert (nested.nesting_level, jobs) == (below, None)


def test_what_was_computed_is_not_kept_and_what_is_aborted_is_abandoned():
    called = threading.Event()
    with ThreadPoolExecutor(2) as executor:
        backend = cm.JoblibBackend(executor, hedge=None)
        done = backend.submit(lambda: np.ones(3))
        answer = weakref.ref(backend.retrieve_result_callback(done))
        assert answer() is not None
        del done
        assert eventually(lambda: not gc.collect() and answer() is None)
        late = backend.submit(lambda: called.wait(60))
        try:
            backend.abort_everything()
            assert late.cancelled()
        finally:
            called.set()
