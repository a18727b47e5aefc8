"""Any number of rows cut into groups of K tasks."""

from __future__ import annotations

import numpy as np


def cut(inputs: np.ndarray, tasks: int) -> np.ndarray:
    """Cut m >= 1 rows (m, *x) into B = ceil(m / K) groups, (K, B, *x); task k of group b is row k·B + b.

    A view, if K divides m. If it does not, rows are copied, and the last groups lack their last task: instead of it they
    repeat the last real row of their own group.
    """
    rows = len(inputs)
    groups = -(-rows // tasks)
    if rows == tasks * groups:
        return inputs.reshape(tasks, groups, *inputs.shape[1:])
    task, group = np.ogrid[:tasks, :groups]
    return np.asarray(inputs[np.minimum(task, (rows - 1 - group) // groups) * groups + group])
