"""Estimates at the end of a job: how they are made in the time that there is."""

from __future__ import annotations

import math
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest

import codedmap as cm
from codedmap.estimation.candidates import Points
from codedmap.execution.inputs import InputRows
from codedmap.execution.missing import _groups, estimate_missing, on_cores, time_for_estimates
from codedmap.testing import Scripted, never

from ..repeats import first

X = np.random.default_rng(0).uniform(size=(160, 2))


def waves(batch: np.ndarray) -> np.ndarray:
    """Each output follows one input, so that one kernel for both is a poor one."""
    return np.sin(14.0 * batch)


def estimated(effort, seconds) -> np.ndarray:
    exact = np.arange(160) % 4 != 0
    left = seconds if callable(seconds) else lambda: seconds
    (found,) = estimate_missing(
        InputRows(X), np.flatnonzero(exact), np.flatnonzero(~exact), lambda at: waves(X[at]), left, effort=effort
    )  # fmt: skip
    return found.values


def test_spare_time_is_used_if_it_is_enough_to_be_thorough():
    np.testing.assert_array_equal(estimated("spare", 1e6), estimated("thorough", math.inf))
    quick = estimated("quick", math.inf)
    for seconds in (-1.0, 0.0, 0.2):
        np.testing.assert_array_equal(estimated("spare", seconds), quick)
    truth = waves(X[::4])
    assert np.abs(estimated("spare", 0.3) - truth).max() < 0.2 * np.abs(quick - truth).max()


def test_on_a_busy_machine_spare_time_makes_no_estimate_worse():
    """As many seconds of the clock hold fewer of the processor."""
    began = time.process_time()
    busy = estimated("spare", lambda: 0.5 - 20.0 * (time.process_time() - began))
    np.testing.assert_array_equal(busy, estimated("quick", math.inf))


def test_in_a_few_tenths_of_a_second_each_output_has_a_kernel_of_its_own():
    truth = waves(X[::4])
    off = {
        effort: np.abs(estimated(effort, 0.25) - truth).max() for effort in ("quick", "thorough")
    }
    assert off["thorough"] < 0.2 * off["quick"]


@pytest.mark.parametrize("effort", ["quick", "thorough"])
def test_an_output_that_is_not_finite_costs_no_other_output_its_row(effort):
    rows = np.arange(160)
    both = waves(X)
    whole = {"a": both[:, 0], "b": np.where(X[:, 1] > 0.3, np.nan, both[:, 1])}

    def made(names: str) -> dict[str, np.ndarray]:
        (found,) = estimate_missing(
            InputRows(X), rows[rows % 4 != 0], rows[::4], lambda at: {name: whole[name][at] for name in names},
            lambda: 5.0, effort=effort,
        )  # fmt: skip
        return found.values

    np.testing.assert_array_equal(made("ab")["a"], made("a")["a"])
    assert np.isfinite(made("ab")["b"]).all()


def test_outputs_are_together_where_there_is_no_time_for_each():
    finite = np.ones((100, 30), bool)
    finite[np.arange(30), np.arange(30)] = False
    assert len(_groups(finite, 3.5, quick=False)) == 30
    assert len(_groups(finite, 2.5, quick=False)) == len(_groups(finite, math.inf, quick=True)) == 1
    finite[:90] = np.tile(np.eye(30, dtype=bool), (3, 1))
    assert len(_groups(finite, 0.0, quick=False)) == 1
    finite[90:] = finite[:10]
    assert len(_groups(finite, 0.0, quick=False)) == 30  # all rows would be lost


def test_series_that_break_off_are_estimated_a_few_groups_at_a_time():
    """Each of 140 times is finite in other rows than the next."""
    times = np.random.default_rng(1).permutation(140)
    finite = np.random.default_rng(0).permutation(160)[:, None] >= times
    groups = _groups(finite, 0.4, quick=False)
    assert len(groups) < 10
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(140))
    for group in groups:
        some = finite[:, group]
        assert 2 * np.count_nonzero(some.all(axis=1)) > some.sum(axis=0).max()
    series = np.where(finite, X[:, :1] + times, np.nan)
    rows = np.arange(160)
    (found,) = estimate_missing(
        InputRows(X), rows[:120], rows[120:], lambda at: series[at], lambda: 0.4
    )
    assert np.abs(found.values - X[120:, :1] - times).max() < 1.0


def test_other_threads_end_soon_after_ctrl_c(monkeypatch):
    monkeypatch.setattr("codedmap.execution.missing.cores", lambda: 2)
    points = np.random.default_rng(0).normal(size=(40, 2))
    known = Points(points, points[:5] + 0.1, 0, lambda: math.inf, thorough=True, each=on_cores)
    go_on, begun, ended = known.within(1e9), threading.Event(), threading.Event()

    def searched(output):
        if not output:
            begun.wait(30.0)
            raise KeyboardInterrupt  # here in a thread, and by a signal where threads are waited for
        begun.set()
        try:
            while go_on():
                time.sleep(0.001)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        known.each(searched, range(2))
    assert ended.wait(30.0)


def test_an_output_that_raises_does_not_wait_for_others(monkeypatch):
    monkeypatch.setattr("codedmap.execution.missing.cores", lambda: 2)
    begun, over, ended = threading.Event(), threading.Event(), []

    def fn(number):
        if number == 0:
            begun.wait(5.0)
            raise KeyboardInterrupt
        begun.set()
        over.wait(5.0)
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        on_cores(fn, range(2))
    assert not ended
    over.set()


class Clock(NamedTuple):
    seconds: float


@pytest.mark.parametrize(
    ("deadline", "effort", "left"), [(None, "spare", 2.0), (25.0, "thorough", 5.0)]
)
def test_estimates_end_at_the_deadline_or_after_a_tenth_of_the_job(deadline, effort, left):
    found, time_left = time_for_estimates(Clock(20.0), deadline)
    assert found == effort
    assert time_left() == pytest.approx(left)


@pytest.mark.parametrize("chunk", first(1, [None, 40]))
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


def test_what_is_written_to_a_file_is_so_many_numbers_at_a_time():
    """Of 200,000 outputs 20 rows are 32 MB."""
    wide = np.linspace(0.0, 1.0, 200_000)
    parts = estimate_missing(
        InputRows(X),
        np.arange(6),
        np.arange(6, 46),
        lambda at: X[at, :1] * wide,
        lambda: 0.0,
        effort="quick",
        sample=True,
    )
    assert [len(part.rows) for part in parts] == [20, 20]


def test_an_answer_far_beyond_all_others_is_not_used_and_that_is_said():
    def fn(rows):
        return np.where(rows[:, 0] == X[3, 0], -1e30, rows.sum(axis=1))

    with Scripted(10, {9: never()}) as engine:
        stop = cm.Share(0.9)
        with pytest.warns(
            UserWarning, match=r"an answer of row 3 is -1e\+30, .* have fn raise there$"
        ):
            result = cm.map(fn, X, engine=engine, stop=stop, chunk=16, hedge=None)
    estimated = result.status == cm.Status.ESTIMATED
    assert estimated.sum() == 16
    assert np.abs(result.values - X.sum(axis=1))[estimated].max() < 0.1
