"""Systematic payloads in cells: each task's own input, and mixtures of it with a neighbour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_COPIED = 1 << 22  # most numbers that are mixed at a time: 32 MB


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Where N payloads of B groups sit: ``(1 - weight) * x[home] + weight * x[neighbour]``.

    Weights lie in [0, 1], so a payload is on the segment between two real inputs: it stays within
    whatever convex set the inputs are from.
    """

    home: np.ndarray
    """(N, B) int: the task whose cell a payload is in."""
    neighbour: np.ndarray
    """(N, B) int: the task it is mixed with."""
    weight: np.ndarray
    """(N, B) float; 0 where the payload is the home's own input."""
    place: np.ndarray
    """(N, B) int: the position of the home on the path."""

    @np.errstate(under="ignore")  # a caller may have NumPy raise for it
    def at(self, inputs: np.ndarray, slots: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """The payloads (n, *x) of some slots (n,) in some groups (n,), of inputs (K, B, *x) in their dtype."""
        rows = inputs[self.home[slots, groups], groups]
        weight = self.weight[slots, groups]
        mixed = np.flatnonzero(weight)
        many = max(1, _COPIED // max(1, rows[:1].size))
        for part in (mixed[begin : begin + many] for begin in range(0, len(mixed), many)):
            # In this form a mixture of two equal inputs is that input to the last bit, and no mixture
            # leaves the range of its two inputs.
            off = inputs[self.neighbour[slots[part], groups[part]], groups[part]]
            off -= rows[part]
            off *= weight[part].astype(off.real.dtype).reshape(-1, *(1,) * (rows.ndim - 1))
            rows[part] += off
        return np.asarray(rows)


def cells_along(orders: np.ndarray, workers: int, spread: float) -> Cells:
    """Payloads for N >= K workers in the cells of tasks along a path, in each group (B, K).

    Slot k < K is task k itself. With r payloads in its cell, the others are mixtures with the task
    before or after it on the path, in turn, with weights ``spread · i / r``, i = 1, 1, 2, 2, ...
    The two tasks at the ends of the path have only one neighbour, and smaller steps. If K does not
    divide N, the cells with one payload more are spread evenly along the path. A spread of 0 makes copies; with 1
    payloads are evenly spaced between neighbours.
    """
    groups, tasks = orders.shape
    rank = np.empty_like(orders)
    np.put_along_axis(rank, orders, np.arange(tasks)[None], axis=1)
    each, extra = divmod(workers, tasks)
    if spread == 0.0 or tasks == 1:
        home = np.broadcast_to((np.arange(workers) % tasks)[:, None], (workers, groups))
        return Cells(home, home, np.zeros((workers, groups)), home)
    fuller = ((np.arange(extra) + 0.5) * tasks / max(1, extra)).astype(int)
    count = np.full(tasks, each)
    count[fuller] += 1
    step, share = _steps(count, spread)
    # Which workers share a cell changes from group to group, so that two wrong workers do not always share one.
    turned = [(rank.T + turn * np.arange(groups)) % tasks for turn in range(each)]
    place = np.concatenate([*turned, np.broadcast_to(fuller[:, None], (extra, groups))])
    turn = np.concatenate([np.repeat(np.arange(each), tasks), np.full(extra, each)])[:, None]
    every = np.arange(groups)
    neighbour = orders[every, place + step[place, turn]]
    return Cells(orders[every, place], neighbour, share[place, turn], place)


def _steps(count: np.ndarray, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """For each cell along the path and each payload in it: the step to the neighbour, and the weight of that."""
    tasks, most = len(count), int(count.max())
    turn = np.arange(most)
    distance = (turn + 1) // 2
    # Neighbouring cells start on opposite sides: else two payloads would meet in one gap while the
    # next gap stays empty.
    side = np.where(turn % 2 == 1, 1, -1) * np.where(np.arange(tasks) % 2, -1, 1)[:, None]
    share = spread * distance / count[:, None]
    for end, inward in ((0, 1), (tasks - 1, -1)):
        side[end] = inward
        share[end] = spread * (count[end] // 2) / count[end] * turn / max(1, count[end] - 1)
    step = np.where(turn == 0, 0, side)
    return step, share
