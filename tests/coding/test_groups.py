from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codedmap.coding.groups import cut


@given(st.integers(1, 400), st.integers(1, 25))
def test_task_k_of_group_b_is_row_kB_plus_b_and_missing_tasks_repeat_rows_of_their_group(
    rows, tasks
):
    inputs = np.arange(rows * 2).reshape(rows, 2)
    groups = -(-rows // tasks)
    blocks = cut(inputs, tasks)
    whole = np.concatenate(blocks, axis=1)
    assert whole.shape == (tasks, groups, 2)
    for b in range(groups):
        own = {k * groups + b for k in range(tasks) if k * groups + b < rows}
        for k in range(tasks):
            row = whole[k, b, 0] // 2
            assert row == k * groups + b or (k * groups + b >= rows and row in own)
    np.testing.assert_array_equal(whole.reshape(-1, 2)[:rows], inputs)


@pytest.mark.parametrize("rows", [1_000_000, 1_000_003])
def test_the_cut_of_a_million_rows_copies_less_than_K_squared_of_them(rows):
    inputs = np.zeros((rows, 3), np.float32)
    first, *rest = cut(inputs, 20)
    assert np.shares_memory(first, inputs)
    assert sum(block.shape[1] for block in rest) < 20


@pytest.mark.parametrize("layout", ["sliced", "reversed", "fortran"])
@pytest.mark.parametrize("rows", [60, 67])
def test_any_memory_layout_is_cut_alike(layout, rows):
    plain = np.arange(rows * 6.0).reshape(rows, 2, 3)
    other = {
        "sliced": np.repeat(plain, 2, axis=0)[::2],
        "reversed": plain[::-1].copy()[::-1],
        "fortran": np.asfortranarray(plain),
    }[layout]
    for ours, theirs in zip(cut(other, 8), cut(plain, 8), strict=True):
        np.testing.assert_array_equal(ours, theirs)
