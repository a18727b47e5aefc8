"""How many answers a polynomial needs."""

from __future__ import annotations

import numpy as np
import pytest

from codedmap import InvalidArgument, NotEnoughAnswers
from codedmap.codes import LagrangeCode


def cubic(batch: np.ndarray) -> np.ndarray:
    return batch**3 - 2.0 * batch


@pytest.mark.parametrize("stragglers", [0, 2])
def test_as_many_workers_as_answers_are_needed_and_may_be_lost_are_enough(stragglers):
    X = np.random.default_rng(0).uniform(-1, 1, (4, 1, 2))
    code = LagrangeCode(4, 10 + stragglers, stragglers, degree=3)
    assert code.threshold == 10
    encoding = code.encode(X)
    answers = {slot: cubic(encoding.payloads[slot]) for slot in range(10)}
    np.testing.assert_allclose(encoding.decode(answers).values, cubic(X), rtol=1e-5, atol=1e-5)
    del answers[9]
    with pytest.raises(NotEnoughAnswers, match="10 answers are needed for degree 3"):
        encoding.decode(answers)


@pytest.mark.parametrize("stragglers", [0, 2])
def test_one_worker_fewer_is_refused(stragglers):
    with pytest.raises(InvalidArgument, match=f"use at least {10 + stragglers} workers"):
        LagrangeCode(4, 9 + stragglers, stragglers, degree=3)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, "tight"])
def test_a_tolerance_lies_between_0_and_1(tolerance):
    with pytest.raises(InvalidArgument, match="must be above 0 and below 1"):
        LagrangeCode(2, 4, 0, degree=1, tolerance=tolerance)


def test_answers_suffice_whose_rounding_stays_below_the_tolerance():
    code = LagrangeCode(4, 40, 0, degree=3)
    few, spread, every = (frozenset(range(0, n, step)) for n, step in ((10, 1), (40, 4), (40, 1)))
    assert "10 answers are enough on paper" in code.shortfall(few, np.dtype(float))
    assert code.shortfall(spread, np.dtype(float)) is None
    assert "above the tolerance of 1e-06" in code.shortfall(every, np.dtype(np.float16))


def test_answers_are_no_more_precise_than_their_payloads():
    X = np.random.default_rng(0).standard_normal((6, 1, 3))
    for dtype, off in ((np.float64, 1e-4), (np.float32, None)):
        encoding = LagrangeCode(6, 30, 0, degree=2).encode(X.astype(dtype))
        answers = {slot: encoding.payloads[slot].astype(float) ** 2 for slot in range(13)}
        if off is None:
            with pytest.raises(NotEnoughAnswers, match="in float32 gives errors"):
                encoding.decode(answers)
        else:
            assert np.abs(encoding.decode(answers).values - X**2).max() < off


def test_rounding_of_payloads_is_no_wrong_answer():
    rng = np.random.default_rng(0)
    for _ in range(50):
        encoding = LagrangeCode(2, 4, 0, degree=1).encode(
            rng.standard_normal((2, 1, 1), np.float32)
        )
        answers = {slot: 3.0 * encoding.payloads[slot].astype(float) for slot in range(4)}
        assert encoding.decode(answers).rejected == ()
