"""Codes of one's own that estimate, with a standard error for each output or for each row."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts import Estimate

SPREAD = np.array([[0.5, 1.0, 2.0], [1.0, 2.0, 4.0]])


class Halves:
    """Two tasks, each sent as it is; a task that is lost is 7, with a standard error for each output."""

    tasks, workers, stragglers, has_stderr = 2, 2, 1, True

    def __init__(self, errors):
        self.errors = errors

    def encode(self, inputs):
        return Halved(inputs, self.errors)


class Halved:
    raw = (0, 1)

    def __init__(self, payloads, errors):
        self.payloads, self.errors = payloads, errors

    def decodable(self, answered):
        return bool(answered)

    def decode(self, answers):
        shape = (2, *next(iter(answers.values())).shape)
        values, exact = np.full(shape, 7.0), np.zeros(shape[:2], dtype=bool)
        for task, answer in answers.items():
            values[task], exact[task] = answer, True
        stderr = self.errors(values)
        stderr[exact] = 0.0
        return Estimate(values, exact, stderr, ())


def of_outputs(values):
    return np.array(np.broadcast_to(SPREAD[:, None], values.shape))


def of_rows(values):
    return np.array(np.broadcast_to(SPREAD[:, :1], values.shape[:2]))


ROWS = np.arange(60.0).reshape(20, 3)


@pytest.mark.parametrize(
    ("chunk", "out"), [(1, None), (4, None), ("all", None), (4, "out.zarr"), (4, "out.npy")]
)
def test_a_code_may_have_a_standard_error_for_each_output(chunk, out, tmp_path):
    with cm.testing.Scripted(2, {1: cm.testing.never()}) as engine:
        options = {"chunk": chunk, "engine": engine, "stop": cm.Quorum(1)}
        options |= {} if out is None else {"out": tmp_path / out}
        result = cm.map(np.sqrt, ROWS, code=Halves(of_outputs), **options)
        plain = cm.map(np.sqrt, ROWS, code=Halves(of_rows), engine=engine, stop=cm.Quorum(1))
    values, stderr, exact = np.array(result.values), np.array(result.stderr), result.exact
    assert (result.status[~exact] == cm.Status.ESTIMATED).all()
    assert 0 < exact.sum() < 20
    np.testing.assert_array_equal(values[exact], np.sqrt(ROWS)[exact])
    assert (stderr[exact] == 0.0).all()
    assert {tuple(row) for row in stderr[~exact].tolist()} <= {tuple(row) for row in SPREAD}
    assert (values[~exact] == 7.0).all()
    kinds = {tuple(row) for row in plain.stderr[~plain.exact].tolist()}
    assert kinds <= {(one,) * 3 for one in SPREAD[:, 0]}


@pytest.mark.parametrize(("tolerance", "exact"), [(1.5, True), (5.0, False)])
def test_a_tolerance_is_for_the_largest_standard_error_of_an_output(tolerance, exact):
    with cm.testing.Scripted(2, {1: cm.testing.late(0.3)}) as engine:
        stop = cm.Tolerance(tolerance)
        result = cm.map(np.sqrt, ROWS, code=Halves(of_outputs), engine=engine, stop=stop)
    assert result.exact.all() == exact
