"""Where a product cancels out, what rounding has left of it contradicts no answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import codedmap as cm
from codedmap.testing import Scripted, corrupt

CODES = (
    cm.codes.MDSCode(4, 5),
    cm.codes.MDSCode(4, 6),
    cm.codes.MDSCode(4, 9),
    cm.codes.PolarCode(4, 8),
    cm.codes.PolarCode(6, 8),
    cm.Replication(3, 9),
)


def smooth(rows: int, columns: int, dtype) -> tuple[np.ndarray, np.ndarray]:
    """A matrix of smooth rows, and columns that oscillate so much that hardly anything is left."""
    x, t = np.linspace(0, 1, rows), np.linspace(0, 1, columns)
    M = 1 / (1 + x[:, None] + t)
    v = np.linalg.svd(M)[2][-3:].T
    if np.dtype(dtype).kind == "c":
        M = M * np.exp(1j)
    return M.astype(dtype), v.astype(dtype)


def multiplied(M, v, code, script=None, **rest):
    with Scripted(code.workers, script or {}) as engine:
        A = cm.CodedMatrix(M, code=code, engine=engine, stop=cm.Everyone(), **rest)
        return A @ v, A.last


@pytest.mark.parametrize("code", CODES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("shape", [(40, 40), (30, 13)])
def test_products_that_cancel_out_contradict_no_answer(code, dtype, shape):
    M, v = smooth(*shape, dtype)
    found, told = multiplied(M, v, code)
    off = np.abs(found - M.astype(complex) @ v).max()
    assert off < 20 * np.finfo(dtype).eps * np.linalg.norm(M, axis=1).max()
    assert found.dtype == dtype
    assert told.exact
    assert not told.rejected


@pytest.mark.parametrize("code", CODES, ids=repr)
def test_sparse_ones_neither(code):
    M, v = smooth(40, 40, np.float64)
    found, told = multiplied(sparse.csr_array(M), v[:, 0], code)
    assert np.abs(found - M @ v[:, 0]).max() < 1e-14
    assert not told.rejected


@pytest.mark.parametrize("unit", [1e-318, 1e-300, 1e290])
def test_of_any_size(unit):
    rng = np.random.default_rng(0)
    M, v = rng.standard_normal((12, 7)), rng.standard_normal(7) * unit
    for code in CODES:
        found, told = multiplied(M, v, code)
        assert np.abs(found - M @ v).max() <= 1e-13 * unit + 5e-323
        assert not told.rejected


@pytest.mark.parametrize(
    "code", [cm.codes.MDSCode(4, 5), cm.codes.MDSCode(4, 7), cm.codes.PolarCode(6, 8)], ids=repr
)
@pytest.mark.parametrize("byzantine", [0, 4])
def test_a_wrong_answer_in_what_has_cancelled_out_is_noticed_none_the_less(code, byzantine):
    M, v = smooth(40, 40, np.float64)

    def wrong(answer):
        answer = answer.copy()
        answer[3] += 1e-9
        return answer

    with pytest.raises(cm.InvalidAnswer, match="contradict one another"):
        multiplied(M, v[:, 1:], code, {byzantine: corrupt(wrong)}, verify=False)


def test_a_small_wrong_answer_among_large_numbers_is_left_out_as_before():
    rng = np.random.default_rng(0)
    M, v = rng.standard_normal((12, 7)), rng.standard_normal(7)
    wrong = corrupt(lambda answer: answer + 1e-6)
    found, told = multiplied(M, v, cm.codes.MDSCode(4, 8), {5: wrong})
    assert set(told.rejected) == {5}
    assert np.abs(found - M @ v).max() < 1e-12


@pytest.mark.parametrize(("large", "small"), [(1e200, 1e-100), (1e-100, 1e200)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_that_are_no_numbers_do_not_hide_a_wrong_answer(large, small, dtype):
    if dtype == np.float32:
        large, small = large**0.15, small**0.15
    rng = np.random.default_rng(0)
    M = (rng.standard_normal((12, 7)) * large).astype(dtype)
    v = (rng.standard_normal(7) * small).astype(dtype)
    wrong = corrupt(lambda answer: answer * dtype(1.1))
    with pytest.raises(cm.InvalidAnswer, match="contradict one another"):
        multiplied(M, v, cm.codes.MDSCode(4, 5), {2: wrong}, verify=False)
    found, told = multiplied(M, v, cm.codes.MDSCode(4, 5), {2: wrong})
    assert set(told.rejected) == {2}
    np.testing.assert_allclose(found, M @ v, rtol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("unit", [1e-200, 1e-39, 1e100])
@pytest.mark.parametrize("code", [*CODES, cm.Replication(3, 6)], ids=repr)
def test_columns_beyond_the_range_of_the_matrix_hide_no_wrong_answer(code, unit):
    rng = np.random.default_rng(0)
    M, v = rng.standard_normal((12, 7)).astype(np.float32), rng.standard_normal(7) * unit
    try:
        found, told = multiplied(M, v, code, {2: corrupt(lambda answer: 2 * answer)})
    except (cm.InvalidAnswer, cm.NotEnoughAnswers):
        return
    assert set(told.rejected) == {2}
    assert np.abs(found - M @ v).max() < 1e-5 * unit


@pytest.mark.parametrize(("dtype", "unit"), [(np.float32, 1e-5), (np.float64, 1e-9)])
@pytest.mark.parametrize("code", [*CODES, cm.Replication(3, 6)], ids=repr)
def test_a_wrong_answer_in_a_small_column_is_noticed(code, dtype, unit):
    rng = np.random.default_rng(0)
    M = rng.standard_normal((12, 7)).astype(dtype)
    V = (rng.standard_normal((7, 2)) * [1.0, unit]).astype(dtype)
    try:
        found, told = multiplied(
            M, V, code, {2: corrupt(lambda answer: answer * np.array([1, -1], dtype))}
        )
    except (cm.InvalidAnswer, cm.NotEnoughAnswers):
        return
    assert set(told.rejected) == {2}
    assert np.abs(found - M @ V).max(axis=0)[1] < 1e-5 * unit
