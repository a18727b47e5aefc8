"""Products with small operators are computed in blocks: the same numbers, by one thread."""

from __future__ import annotations

import numpy as np
import pytest

from codedmap.coding.operators import apply

from ..repeats import crossed


def draw(shape, dtype):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


@pytest.mark.parametrize(
    ("columns", "shape", "dtype"),
    crossed(
        ["blocks", 0, 1, 7],
        [(13, 9), (1, 1), (1, 6), (8, 6), (4, 3), (24, 18), (25, 20), (3, 170), (512, 1), (60, 20)],
        [np.float64, np.float32, np.complex64, np.complex128],
    ),
)
def test_a_product_in_blocks_is_the_product(dtype, shape, columns):
    if columns == "blocks":  # two whole ones and a part, of the operators that are applied so
        columns = min(2 * (1 << 19) // (shape[0] * shape[1]) + 3, 100_003)
    operator, values = draw(shape, np.float64), draw((shape[1], columns), dtype)
    product = apply(operator, values)
    assert product.dtype == dtype
    assert product.shape == (shape[0], columns)
    exact = operator @ values.astype(np.result_type(np.float64, dtype))
    most = np.abs(operator) @ np.abs(values)  # what rounding errors are in proportion to
    assert (np.abs(product - exact) <= (shape[1] + 8) * np.finfo(dtype).eps * most).all()


def test_columns_may_be_a_view():
    operator, values = draw((8, 6), np.float64), draw((12, 90_000), np.float64)[::2, ::2]
    np.testing.assert_allclose(apply(operator, values), operator @ values, rtol=0, atol=1e-13)
