"""Estimates at the end of a job: how they are made in the time that there is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

import codedmap as cm
from codedmap.execution.inputs import InputRows
from codedmap.execution.missing import estimate_missing, time_for_estimates
from codedmap.testing import Scripted, never

X = np.random.default_rng(0).uniform(size=(160, 2))


def waves(batch: np.ndarray) -> np.ndarray:
    """Each output follows one input, so that one kernel for both is a poor one."""
    return np.sin(14.0 * batch)


def estimated(effort, seconds: float) -> np.ndarray:
    exact = np.arange(160) % 4 != 0
    (found,) = estimate_missing(
        InputRows(X), np.flatnonzero(exact), np.flatnonzero(~exact), lambda at: waves(X[at]), lambda: seconds, effort=effort
    )  # fmt: skip
    return found.values


def test_spare_time_is_used_if_it_is_enough_to_be_thorough():
    np.testing.assert_array_equal(estimated("spare", 1e6), estimated("thorough", math.inf))
    for seconds in (-1.0, 0.0, 1.0):
        np.testing.assert_array_equal(estimated("spare", seconds), estimated("quick", math.inf))


class Clock(NamedTuple):
    seconds: float


@pytest.mark.parametrize(
    ("deadline", "effort", "left"), [(None, "spare", 2.0), (25.0, "thorough", 5.0)]
)
def test_estimates_end_at_the_deadline_or_after_a_tenth_of_the_job(deadline, effort, left):
    found, time_left = time_for_estimates(Clock(20.0), deadline)
    assert found == effort
    assert time_left() == pytest.approx(left)


@pytest.mark.parametrize("chunk", [None, 40])
def test_with_a_code_and_a_deadline_estimates_are_thorough(chunk):
    code = cm.KernelCode(10, 12, 2)
    off = {}
    for deadline in (None, 30.0):
        with Scripted(12, {0: never(), 5: never()}) as engine:
            stop = cm.Quorum(10) & cm.Decodable()
            result = cm.map(
                waves, X, code=code, engine=engine, stop=stop, deadline=deadline, chunk=chunk, hedge=None
            )  # fmt: skip
        assert (result.status == cm.Status.ESTIMATED).any()
        off[deadline] = np.abs(result.values - waves(X)).max()
    assert off[30.0] < 0.5 * off[None]


@pytest.mark.parametrize("code", [cm.KernelCode(10, 12, 2), cm.Replication(10, 12, fill="mean")])
def test_with_a_code_a_region_without_finite_answers_is_warned_about(code):
    def fn(batch):
        return np.where(batch[:, 1] > 0.7, np.nan, batch.sum(axis=1))

    with Scripted(12, {0: never(), 5: never()}) as engine:
        stop = cm.Quorum(10) & cm.Decodable()
        with pytest.warns(UserWarning, match=r"rows with input 1 > 0\.[67].* not finite"):
            cm.map(fn, X, code=code, engine=engine, stop=stop, hedge=None)
