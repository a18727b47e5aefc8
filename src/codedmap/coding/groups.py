"""Any number of rows cut into groups of K tasks."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided


def cut(inputs: np.ndarray, tasks: int) -> list[np.ndarray]:
    """Cut m >= 1 rows (m, *x) into B = ceil(m / K) groups; task k of group b is row k·B + b.

    If K does not divide m, the last groups lack their last task: instead of it they repeat the last real row of their
    own group. They are a block of their own, so that only they are copied. There are one or two blocks (K, groups, *x),
    in order, and the first is a view, unless every group lacks a task (then m < K²).
    """
    rows = len(inputs)
    groups = -(-rows // tasks)
    missing = tasks * groups - rows
    if missing == 0:
        return [inputs.reshape(tasks, groups, *inputs.shape[1:])]
    whole = max(0, groups - missing)
    task, group = np.ogrid[:tasks, whole:groups]
    rest = inputs[np.minimum(task, (rows - 1 - group) // groups) * groups + group]
    if whole == 0:
        return [rest]
    step = inputs.strides[0]
    view = as_strided(
        inputs,
        (tasks, whole, *inputs.shape[1:]),
        (groups * step, step, *inputs.strides[1:]),
        writeable=False,
    )
    return [view, rest]
