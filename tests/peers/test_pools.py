"""Libraries that take a pool, with their own tests of pools where they have some."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import codedmap as cm

from .sources import module

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]


@pytest.mark.parametrize("test", ["test_init_close", "test_map", "test_map_callback"])
def test_the_tests_of_schwimmbad(test):
    base = module("schwimmbad", "tests/test_pools.py").PoolTestBase
    case = type("Case", (base,), {"PoolClass": cm.Pool})()
    getattr(case, test)()


@pytest.mark.parametrize("move", ["StretchMove", "DEMove", "DESnookerMove", "WalkMove"])
def test_the_tests_of_emcee(move):
    pytest.importorskip("emcee")
    from emcee import moves
    from emcee.tests.integration import test_proposal

    with cm.Pool() as pool:
        test_proposal._test_normal(getattr(moves, move)(), nsteps=300, pool=pool)


@pytest.mark.parametrize(
    ("test", "arguments"),
    [
        *(("test_pool_samplers", (sample,)) for sample in ("slice", "rwalk", "rslice", "unif")),
        *(
            ("test_usepool", (use,))
            for use in ("prior_transform", "loglikelihood", "propose_point", "update_bound")
        ),
    ],
)
def test_the_tests_of_dynesty(monkeypatch, test, arguments):
    """Those that make a pool of multiprocessing; dynesty.pool.Pool is a pool of its own."""
    pytest.importorskip("dynesty")
    tests = module("dynesty", "tests/test_pool.py")
    processes = SimpleNamespace(Pool=lambda workers: cm.Pool())
    monkeypatch.setattr(tests, "mp", SimpleNamespace(get_context=lambda kind: processes))
    getattr(tests, test)(*arguments)


def bowl(x):
    return float((x**2).sum())


def test_scipy_takes_its_map():
    from scipy import optimize

    with cm.Pool() as pool:
        found = optimize.differential_evolution(
            bowl, [(-3, 3)] * 3, workers=pool.map, updating="deferred", seed=0, maxiter=30
        )
        alone = optimize.differential_evolution(
            bowl, [(-3, 3)] * 3, updating="deferred", seed=0, maxiter=30
        )
        np.testing.assert_array_equal(found.x, alone.x)
        grid = optimize.brute(bowl, [(-3, 3)] * 2, Ns=9, workers=pool.map, finish=None)
        np.testing.assert_array_equal(grid, [0.0, 0.0])
        called = optimize.brute(bowl, [(-3, 3)] * 2, Ns=9, workers=pool, finish=None)
        np.testing.assert_array_equal(called, grid)


def test_pymoo_takes_its_starmap():
    pytest.importorskip("pymoo")
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize
    from pymoo.parallelization.starmap import StarmapParallelization

    class Bowl(ElementwiseProblem):
        def _evaluate(self, x, out, *args, **kwargs):
            out["F"] = bowl(x)

    def best(**options):
        problem = Bowl(n_var=3, n_obj=1, xl=-3, xu=3, **options)
        return minimize(problem, GA(pop_size=20), ("n_gen", 5), seed=1).F

    with cm.Pool() as pool:
        runner = StarmapParallelization(pool.starmap)
        np.testing.assert_array_equal(best(elementwise_runner=runner), best())


def test_pyabc_takes_its_map_and_its_submit(tmp_path):
    pytest.importorskip("pyabc")
    import pyabc

    def model(parameters):
        return {"y": parameters["mean"] + 0.1 * np.random.default_rng().standard_normal()}

    with cm.Pool() as pool:
        for sampler in (
            pyabc.sampler.MappingSampler(map_=pool.map),
            pyabc.sampler.ConcurrentFutureSampler(cfuture_executor=pool, client_max_jobs=4),
        ):
            prior = pyabc.Distribution(mean=pyabc.RV("uniform", -2, 4))
            abc = pyabc.ABCSMC(
                model,
                prior,
                lambda x, x0: abs(x["y"] - x0["y"]),
                population_size=20,
                sampler=sampler,
            )
            abc.new(f"sqlite:///{tmp_path / type(sampler).__name__}.db", {"y": 0.5})
            history = abc.run(max_nr_populations=2)
            found, weights = history.get_distribution()
            assert abs((found["mean"] * weights).sum() - 0.5) < 0.5
