"""Freivalds' check: no correct product fails, however badly scaled, and wrong ones do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from codedmap.matrices.freivalds import BlockCheck, ProductCheck

from ..repeats import first

DTYPES = (np.float64, np.float32, np.complex128, np.complex64)
BLOCKS = (
    "normal", "rows", "columns", "entries", "condition", "equal", "powers", "zeros", "smooth",
)  # fmt: skip
COLUMNS = ("normal", "equal", "entries", "unit", "far", "cancelling")


def check_of(A, rng):
    return BlockCheck.of(A, rng)


def largest(dtype):
    """The largest exponent of ten."""
    return 150.0 if np.finfo(dtype).eps < 1e-10 else 15.0


def block(kind, rows, columns, dtype, rng):
    """An honest block, (b, n), with entries from 1e-150 to 1e150, in single precision from 1e-15 to 1e15."""
    A, far = rng.standard_normal((rows, columns)), largest(dtype)
    match kind:
        case "rows":
            A *= 10.0 ** rng.uniform(-far, far, (rows, 1))
        case "columns":
            A *= 10.0 ** rng.uniform(-far, far, columns)
        case "entries":
            A *= 10.0 ** rng.uniform(-far, far, (rows, columns))
        case "condition":
            left, _, right = np.linalg.svd(A, full_matrices=False)
            A = (
                left
                * 10.0 ** rng.uniform(-12.0, 0.0, len(right))
                @ right
                * 10.0 ** rng.uniform(-far, far)
            )
        case "equal":  # every addition is rounded alike
            A = np.full((rows, columns), 0.1 * 10.0 ** rng.uniform(-far, far))
        case "powers":
            A = np.ldexp(1.0, rng.integers(-40, 40, (rows, columns)))
        case "zeros":
            A *= (rng.random((rows, 1)) < 0.5) * (rng.random(columns) < 0.5)
        case "smooth":
            A = 1 / (1 + np.linspace(0, 1, rows)[:, None] + np.linspace(0, 1, columns))
    if np.dtype(dtype).kind == "c":
        A = A * np.exp(1j * rng.uniform(0, 6, A.shape))
    A = A.astype(dtype)
    if rng.random() < 0.25:
        A = sparse.csr_array(A * (rng.random(A.shape) < rng.choice([0.05, 0.5, 1.0])))
    return A


def multiplied(kind, A, count, rng):
    """Columns, (n, c)."""
    rows, columns = A.shape
    v, far = rng.standard_normal((columns, count)), largest(A.dtype)
    match kind:
        case "equal":
            v = np.full((columns, count), 0.1)
        case "entries":
            v *= 10.0 ** rng.uniform(-far, far, (columns, 1))
        case "unit":
            v = np.eye(columns)[:, rng.integers(columns, size=count)]
        case "far":
            v *= 10.0 ** rng.uniform(-2 * far, 2 * far, count)
        case "cancelling":
            if not sparse.issparse(A) and rows * columns < 5_000:
                scaled = A.astype(np.complex128) / (np.abs(A).max() or 1.0)
                v = np.linalg.svd(scaled)[2][-count:].conj().T
                v = v if A.dtype.kind == "c" else v.real
    return np.ascontiguousarray(v, A.dtype)


@pytest.mark.parametrize("cases", first(1, [3_000, 100_000]))
def test_no_correct_product_fails(cases):
    rng = np.random.default_rng(cases)
    tested = 0
    while tested < cases:
        dtype = DTYPES[rng.integers(len(DTYPES))]
        kind = BLOCKS[rng.integers(len(BLOCKS))]
        rows, columns = (int(rng.choice([1, 2, 3, 7, 30, 150])) for _ in range(2))
        columns = 1500 if rng.random() < 0.03 else columns
        with np.errstate(all="ignore"):
            A = block(kind, rows, columns, dtype, rng)
            check = check_of(A, rng)
            for _ in range(10):
                of = COLUMNS[rng.integers(len(COLUMNS))]
                v = multiplied(of, A, int(rng.integers(1, 4)), rng)
                product = A @ v
                if np.isfinite(product).all() and np.isfinite(v).all():
                    assert ProductCheck(v).passes(check, product), (kind, of, dtype, A.shape)
                    tested += 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, sparse.csr_array])
def test_nor_a_long_one_whose_additions_are_all_rounded_alike(dtype, form):
    rng = np.random.default_rng(0)
    for size in (4_000, 60_000):
        A = form(np.full((20, size), 0.1, dtype))
        for number in (0.1, 0.73):
            v = np.full((size, 1), number, dtype)
            assert ProductCheck(v).passes(check_of(A, rng), A @ v)


LIES = {
    "minus": lambda a, rng: -a,
    "zero": lambda a, rng: 0 * a,
    "a part in a thousand": lambda a, rng: a * a.dtype.type(1.001),
    "one entry": lambda a, rng: changed(
        a, lambda flat: flat.__setitem__(rng.integers(len(flat)), 3 * np.abs(a).max())
    ),
    "two entries exchanged": lambda a, rng: changed(a, exchange),
    "backwards": lambda a, rng: a[::-1],
    "not a number": lambda a, rng: a * np.nan,
    "infinite": lambda a, rng: changed(a, lambda flat: flat.__setitem__(0, np.inf)),
    "far beyond": lambda a, rng: np.full_like(a, np.finfo(a.dtype).max),
}


def changed(answer, change):
    answer = answer.copy()
    change(answer.reshape(-1))
    return answer


def exchange(flat):
    low, high = np.abs(flat).argmin(), np.abs(flat).argmax()
    flat[[low, high]] = flat[[high, low]]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15)
@given(
    st.integers(2, 60), st.integers(1, 60), st.integers(1, 3), st.integers(0, 2**31), st.booleans()
)
def test_wrong_products_fail(lie, dtype, rows, columns, count, seed, scaled):
    rng = np.random.default_rng(seed)
    A = block("normal", rows, columns, dtype, rng)
    if scaled and not sparse.issparse(A):  # every row and column in a size of its own
        sizes = 10.0 ** rng.uniform(-8, 8, columns)
        A = (A * 10.0 ** rng.uniform(-8, 8, (rows, 1)) * sizes).astype(dtype)
        v = (rng.standard_normal((columns, count)) / sizes[:, None]).astype(dtype)
    else:
        v = rng.standard_normal((columns, count)).astype(dtype)
    product, sums = A @ v, abs(A) @ np.abs(v)
    with np.errstate(all="ignore"):
        wrong = LIES[lie](product, rng)
    if lie == "backwards" and not scaled:
        wrong = np.roll(product, 1, axis=0)
    # In a row of zeros anything else is wrong.
    with np.errstate(all="ignore"):
        far = np.abs(wrong - product) > 200 * columns * rows**0.5 * np.finfo(dtype).eps * sums
    if far.any() or not np.isfinite(wrong).all():
        assert not ProductCheck(v).passes(check_of(A, rng), wrong)


def test_a_large_row_hides_no_error_of_a_small_one():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 30)) * 10.0 ** np.linspace(-150, 150, 40)[:, None]
    v = rng.standard_normal((30, 1))
    check, product = check_of(A, rng), A @ v
    for row in range(40):
        for change in (1 + 1e-8, 0.0, -1.0):
            wrong = product.copy()
            wrong[row] *= change
            assert not ProductCheck(v).passes(check, wrong), row


@pytest.mark.parametrize("dtype", DTYPES)
def test_nor_do_rows_of_zeros(dtype):
    A = np.zeros((4, 3), dtype)
    A[1] = 1e-5
    for M in (A, sparse.csr_array(A)):
        check, v = check_of(M, np.random.default_rng(0)), np.full((3, 1), 1e-5, dtype)
        for row in range(4):
            wrong = M @ v
            assert ProductCheck(v).passes(check, wrong)
            wrong[row] -= dtype(1e-12)
            assert not ProductCheck(v).passes(check, wrong)


def test_nor_a_large_column():
    rng = np.random.default_rng(0)
    A, V = rng.standard_normal((40, 30)), rng.standard_normal((30, 3)) * [1e-200, 1.0, 1e200]
    check, product = check_of(A, rng), A @ V
    for column in range(3):
        wrong = product.copy()
        wrong[7, column] *= 1 + 1e-6
        assert not ProductCheck(V).passes(check, wrong)


@pytest.mark.parametrize(
    ("dtype", "passing", "failing"), [(np.float64, 1e-13, 1e-8), (np.float32, 1e-5, 1e-1)]
)
def test_how_small_an_error_passes(dtype, passing, failing):
    """In one entry, over the sum of absolute values there, of a block of 1,000 x 4,000."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((1000, 4000)).astype(dtype)
    v = rng.standard_normal((4000, 1)).astype(dtype)
    check, product = check_of(A, rng), A @ v
    size = (np.abs(A[3]) @ np.abs(v))[0]
    for error, passes in ((passing, True), (failing, False)):
        wrong = product.copy()
        wrong[3] += error * size
        assert ProductCheck(v).passes(check, wrong) is passes


def test_each_check_is_drawn_anew():
    A = np.random.default_rng(0).standard_normal((5, 4))
    one, other = (check_of(A, np.random.default_rng()) for _ in range(2))
    assert (one.rows != other.rows).all()
