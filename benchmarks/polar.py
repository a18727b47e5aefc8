"""Decoding the product of a matrix from the first answers of N workers in random order, for the given number of columns,
in float64 with one thread. The set of answers was not decoded before.

| column | what is timed |
|---|---|
| PolarCode | the first set of answers that its sequential decoder can decode |
| dense K x K system | a dense MDS code: Gaussian weights, `numpy.linalg.solve`, answers already stacked |
| MDSCode | its first K workers hold their own block, so the system is as large as the missing ones among them |

*answers* is the number needed divided by K, over 200 random orders (20 from N = 1,024 on). × is the ratio to the time
of `PolarCode`. The goal is a factor of 10 against the dense system at N = 4,096.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import codedmap as cm

from .harness import Row, interleaved, threads

__all__ = ["run"]

_WIDTHS = (1, 16, 64)


def run(*, quick: bool = False) -> list[Row]:
    """Rows of the table."""
    rows: list[Row] = []
    with threads(1):
        for workers in (64, 256, 1_024) if quick else (64, 256, 1_024, 4_096):
            for tasks in (3 * workers // 4, workers // 2):
                rows += _of(tasks, workers, quick=quick)
    return rows


def _of(tasks: int, workers: int, *, quick: bool) -> list[Row]:
    random = np.random.default_rng(workers)
    polar, mds = cm.codes.PolarCode(tasks, workers), cm.codes.MDSCode(tasks, workers)
    orders = [random.permutation(workers).tolist() for _ in range(20 if workers > 256 else 200)]
    needed = [_needed(polar, order) for order in orders]
    name, dense, ours = "PolarCode", "dense K x K system", "MDSCode"
    notes = {
        name: f"answers {np.mean(needed) / tasks:.3f} K, at most {np.max(needed) / tasks:.3f} K",
        dense: "answers K",
    }
    weights = random.standard_normal((workers, tasks)) / tasks**0.5
    rows: list[Row] = []
    for columns in _WIDTHS:
        values = random.standard_normal((tasks, columns))
        calls: dict[str, Callable[[], object]] = {
            name: _decoding(polar, values, orders[0][: needed[0]]),
            dense: _solving(weights, values, orders[0][:tasks]),
            ours: _decoding(mds, values, _first(mds, orders[0])),
        }
        timings = interleaved(calls, quick=quick, rounds=15, few=5)
        rows += timings.rows({"N": workers, "K": tasks, "columns": columns}, name, notes)
        notes = {}
    return rows


def _needed(code: cm.codes.PolarCode, order: list[int]) -> int:
    """Number of answers in this order that suffice, by bisection: decodable is monotone."""
    low, high = code.tasks, code.workers
    while low < high:
        middle = (low + high) // 2
        if code.decodable(frozenset(order[:middle])):
            high = middle
        else:
            low = middle + 1
    return low


def _first(code: cm.codes.MDSCode, order: list[int]) -> list[int]:
    count = code.tasks
    while not code.decodable(frozenset(order[:count])):
        count += 1
    return order[:count]


def _decoding(
    code: cm.codes.PolarCode | cm.codes.MDSCode, values: np.ndarray, workers: list[int]
) -> Callable[[], object]:
    answers = {worker: code.weights(worker) @ values for worker in workers}
    make = type(code)

    def decode() -> object:
        # A new code each time, because a code caches the last set of workers. Its weights are drawn
        # beforehand; they are the same for all products.
        fresh = make(code.tasks, code.workers)
        vars(fresh).update({k: v for k, v in vars(code).items() if k != "_solver"})
        return fresh.decode(answers)

    return decode


def _solving(weights: np.ndarray, values: np.ndarray, workers: list[int]) -> Callable[[], object]:
    answers = weights[workers] @ values
    return lambda: np.linalg.solve(weights[workers], answers)
