"""Decoding with `KernelCode(20, 60, 20, spread=0.5)` from 40 answers with ten outputs. About 13 of them are answers to
raw inputs, so seven tasks of a group are estimated. The baseline is the same regression with a given prior as a simple
implementation: a Python loop over the groups that solves one linear system each. The goals are 3 ms for one group and
half a second for 1,000.

| column | what is timed |
|---|---|
| prior given | decoding with a given prior; the encoding has not decoded before |
| again | the same encoding and responders a second time, as a stream of results needs it |
| choosing a prior | compares about 30 priors on the answers of at most 50 groups |
| choosing a prior, six outliers | six workers answer with noise of ten standard deviations |
| encode | payloads and path |

All columns but the baseline and *encode* include the search for outliers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.spatial.distance import cdist

import codedmap as cm

from .harness import Row, interleaved, thread_counts, threads

__all__ = ["run"]

_TASKS, _WORKERS, _ANSWERS, _COLUMNS, _OUTPUTS = 20, 60, 40, 5, 10
_PRIOR = cm.estimation.Prior(3.0, 1e-6)
_LOOP = "loop over groups, prior given"


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows = []
    for count in thread_counts():
        with threads(count):
            for groups in (1, 100) if quick else (1, 100, 1_000):
                calls = _calls(groups)
                rows += interleaved(calls, quick=quick).rows(
                    {"threads": count, "groups": groups}, _LOOP
                )
    return rows


def _calls(groups: int) -> Mapping[str, Callable[[], object]]:
    random = np.random.default_rng(0)
    inputs = random.standard_normal((_TASKS, groups, _COLUMNS))
    plain = cm.KernelCode(_TASKS, _WORKERS, _WORKERS - _ANSWERS, spread=0.5)
    given = cm.KernelCode(_TASKS, _WORKERS, _WORKERS - _ANSWERS, spread=0.5, prior=_PRIOR)
    one = random.standard_normal((_COLUMNS, 24)) / np.sqrt(_COLUMNS)
    two = random.standard_normal((24, _OUTPUTS))
    payloads = given.encode(inputs).payloads
    slots = np.sort(random.permutation(_WORKERS)[:_ANSWERS]).tolist()
    answers = {n: np.tanh(payloads[n] @ one) @ two for n in slots}
    outliers = answers | {
        n: answers[n] + 10 * two.std() * random.standard_normal(answers[n].shape)
        for n in random.permutation(slots)[:6].tolist()
    }
    lost = [task for task in range(_TASKS) if task not in slots]
    points, targets = payloads[slots].swapaxes(0, 1), inputs[lost].swapaxes(0, 1)
    stacked = np.stack([answers[n] for n in slots], axis=1)
    kept = given.encode(inputs)
    found = kept.decode(answers)
    expected = _looped(points, targets, stacked).swapaxes(0, 1)
    np.testing.assert_allclose(found.values[lost], expected, atol=1e-6)
    return {
        _LOOP: lambda: _looped(points, targets, stacked),
        "prior given": _fresh(given, inputs, answers),
        "again": lambda: kept.decode(answers),
        "choosing a prior": _fresh(plain, inputs, answers),
        "choosing a prior, six outliers": _fresh(plain, inputs, outliers),
        "encode": lambda: plain.encode(inputs),
    }


def _fresh(
    code: cm.KernelCode, inputs: np.ndarray, answers: Mapping[int, np.ndarray]
) -> Callable[[], object]:
    """Decoding with an encoding without cached geometry or solutions."""
    encoding = code.encode(inputs)

    def decode() -> object:
        encoding.decoder.solver._parts.clear()
        encoding.decoder.solver.geometry._whole = None
        return encoding.decode(answers)

    return decode


def _looped(points: np.ndarray, targets: np.ndarray, answers: np.ndarray) -> np.ndarray:
    found = np.empty((*targets.shape[:2], answers.shape[2]))
    for group, (here, there, y) in enumerate(zip(points, targets, answers, strict=True)):
        covariance = _correlation(cdist(here, here)) + _PRIOR.noise * np.eye(len(here))
        near = _correlation(cdist(there, here))
        solved = np.linalg.solve(covariance, np.column_stack([np.ones(len(here)), y]))
        mean = solved[:, 1:].sum(axis=0) / solved[:, 0].sum()
        found[group] = mean + near @ (solved[:, 1:] - solved[:, :1] * mean)
    return found


def _correlation(apart: np.ndarray) -> np.ndarray:
    scaled = np.sqrt(5.0) * apart / _PRIOR.length
    return (1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled)
