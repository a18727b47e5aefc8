"""One program on every engine: only the line that makes the engine differs, and the values do not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.sparse import linalg

import codedmap as cm
from codedmap.contracts.engine import members_of
from codedmap.testing import Faulty, crash

from ..processes import eventually
from ..repeats import first
from .calls import gradient, predict

pytestmark = pytest.mark.timeout(120)

WORKERS = 4
X = np.random.default_rng(0).standard_normal((60, 3))
SQUARE = np.random.default_rng(1).standard_normal((8, 8)) + 8 * np.eye(8)


def program(engine) -> Iterator[tuple[str, np.ndarray]]:
    """What a user computes: every door, all answers awaited, and with a worker that crashes."""
    everyone = cm.Everyone()
    for code in (cm.KernelCode(2, WORKERS, 1), cm.SplineCode(2, WORKERS, 1)):
        result = cm.map(predict, X, code=code, engine=engine, stop=everyone)
        assert result.answered == tuple(range(WORKERS))
        yield repr(code), result.values
    crashing = Faulty(engine, {sorted(members_of(engine))[2]: crash()})
    once = {"retries": 0, "hedge": None}  # else the payload goes to another worker
    result = cm.map(predict, X, code=code, engine=crashing, stop=everyone, **once)
    assert result.answered == (0, 1, 3)
    assert isinstance(result.failed[2], cm.WorkerCrashed)
    yield "crash", result.values
    # A cluster starts another worker in place of the one that crashed, under another number.
    assert eventually(lambda: engine.workers == WORKERS, 30.0)
    resident = cm.engines.Resident(predict, engine)
    for _ in range(2):
        result = cm.map(resident, X, code=cm.Uncoded(WORKERS), engine=engine)
        yield "resident", result.values
    shards = cm.CodedParts(X, code=cm.codes.CyclicGradientCode(WORKERS, 1), engine=engine)
    weights = np.ones(3)
    for _ in range(3):
        weights = weights - 0.01 * cm.sum(gradient, shards, args=(weights,), stop=everyone).value
    yield "sum", weights
    A = cm.CodedMatrix(SQUARE, code=cm.codes.MDSCode(3, WORKERS), engine=engine, stop=everyone)
    yield "product", A @ np.ones(8)
    solution, failed = linalg.gmres(A, np.ones(8), rtol=1e-10)
    assert not failed
    yield "solver", solution


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with cm.engines.Local(WORKERS) as engine:
        return dict(program(engine))


def test_the_expected_values_are_right(expected):
    assert np.allclose(expected["resident"], predict(X), rtol=0, atol=0)
    assert np.allclose(expected["product"], SQUARE @ np.ones(8), rtol=0, atol=1e-12)
    assert np.allclose(SQUARE @ expected["solver"], np.ones(8), rtol=0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", first(1, ["Dask", "Ray"]))
def test_a_cluster_gives_the_same_values(name, expected, request):
    if name == "Dask":
        client = request.getfixturevalue("dask_client")
        engine = cm.engines.Dask(client, workers=WORKERS)
    else:
        request.getfixturevalue("ray_cluster")
        engine = cm.engines.Ray(WORKERS)
    with engine:
        values = dict(program(engine))
    assert values.keys() == expected.keys()
    for what, value in values.items():
        # Answers are summed in the order in which they come, which differs also between runs.
        np.testing.assert_allclose(value, expected[what], rtol=0, atol=1e-9, err_msg=what)
