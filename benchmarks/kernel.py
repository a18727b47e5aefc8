"""Decoding with `KernelCode(20, 60, 20, spread=0.5)` from 40 answers with ten outputs. About 13 of them are answers to
raw inputs, so seven tasks of a group are estimated. The baseline is one regression for all groups as anybody could write
it: a Gaussian process of scikit-learn with one length scale, fitted to the answers of 300 payloads, that predicts from
all. All columns but the baseline and *encode* include the search for wrong answers.

| column | what is timed |
|---|---|
| decode | judging and estimating |
| decode, six outliers | six workers answer with noise of ten standard deviations |
| encode | payloads and path |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

import codedmap as cm

from .harness import Row, interleaved, thread_counts, threads

__all__ = ["run"]

_TASKS, _WORKERS, _ANSWERS, _COLUMNS, _OUTPUTS = 20, 60, 40, 5, 10
_BASELINE = "scikit-learn"
_FITTED = 300


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows = []
    for count in thread_counts():
        with threads(count):
            for groups in (1, 10) if quick else (1, 10, 50):
                calls = _calls(groups)
                rows += interleaved(calls, quick=quick).rows(
                    {"threads": count, "groups": groups}, _BASELINE
                )
    return rows


def _calls(groups: int) -> Mapping[str, Callable[[], object]]:
    random = np.random.default_rng(0)
    inputs = random.standard_normal((_TASKS, groups, _COLUMNS))
    code = cm.KernelCode(_TASKS, _WORKERS, _WORKERS - _ANSWERS, spread=0.5)
    one = random.standard_normal((_COLUMNS, 24)) / np.sqrt(_COLUMNS)
    two = random.standard_normal((24, _OUTPUTS))
    encoding = code.encode(inputs)
    slots = np.sort(random.permutation(_WORKERS)[:_ANSWERS]).tolist()
    answers = {n: np.tanh(encoding.payloads[n] @ one) @ two for n in slots}
    outliers = answers | {
        n: answers[n] + 10 * two.std() * random.standard_normal(answers[n].shape)
        for n in random.permutation(slots)[:6].tolist()
    }
    lost = [task for task in range(_TASKS) if task not in slots]
    points = encoding.payloads[slots].reshape(-1, _COLUMNS)
    stacked = np.stack([answers[n] for n in slots]).reshape(-1, _OUTPUTS)
    wanted = inputs[lost].reshape(-1, _COLUMNS)
    return {
        _BASELINE: lambda: _predicted(points, stacked, wanted),
        "decode": lambda: encoding.decode(answers),
        "decode, six outliers": lambda: encoding.decode(outliers),
        "encode": lambda: code.encode(inputs),
    }


def _predicted(points: np.ndarray, answers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415  slow to import
    from sklearn.gaussian_process.kernels import Matern, WhiteKernel  # noqa: PLC0415

    kernel = Matern(nu=2.5) + WhiteKernel(1e-6)
    some = np.random.default_rng(0).permutation(len(points))[:_FITTED]
    fitted = GaussianProcessRegressor(kernel, normalize_y=True).fit(points[some], answers[some])
    whole = GaussianProcessRegressor(fitted.kernel_, optimizer=None, normalize_y=True)
    return np.asarray(whole.fit(points, answers).predict(wanted))
