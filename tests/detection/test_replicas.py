"""The vote of copies, against one that counts row by row."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from codedmap.detection.replicas import compare

NAN, NAT = float("nan"), np.datetime64("NaT", "D")
VALUES = {
    "float64": [1.0, 1.0 + 1e-12, -1.0, 2.0, NAN, np.inf],
    "float32": [1.0, 1.0 + 1e-6, -1.0, 2.0, NAN, -np.inf],
    "small": [1e-9, 1e-9 + 1e-20, -1e-9, NAN],
    "complex128": [1.0, 1.0j, 1.0j + 1e-12, NAN],
    "int64": [1, 2, -1],
    "bool": [True, False],
    "datetime64[D]": [np.datetime64("2024-01-01"), np.datetime64("2024-01-02"), NAT],
    "U3": ["one", "two"],
    "object": ["one", None, 1.0, NAN, np.arange(2), np.arange(3)],
}


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b or (a != a and b != b))  # noqa: PLR0124  NaN and NaT are not themselves


def agree(a: np.ndarray, b: np.ndarray) -> bool:
    close = 0.0
    if a.dtype.kind in "fc":
        finite = [abs(x) for x in (*a, *b) if np.isfinite(x)]
        close = max(finite, default=0.0) * np.finfo(a.dtype).eps ** 0.5
    return all(
        same(x, y) or (a.dtype.kind in "fc" and np.isfinite(x) and np.isfinite(y) and abs(x - y) <= close)
        for x, y in zip(a, b, strict=True)
    )  # fmt: skip


def counted(rows: np.ndarray, rejected: np.ndarray):
    """Value, votes, stderr and outliers of some copies (c, q) of a row."""
    count = len(rows)
    finite = np.isfinite(rows) if rows.dtype.kind in "fc" else np.ones(rows.shape, dtype=bool)
    whole = [all(f or not finite[:, k].any() for k, f in enumerate(row)) for row in finite]
    voters = [i for i in range(count) if (whole[i] or not any(whole)) and not rejected[i]]
    support = [sum(agree(rows[i], rows[j]) for j in voters) if i in voters else 0 for i in range(count)]  # fmt: skip
    best = support.index(max(support))
    if 2 * support[best] > len(voters):
        wrong = [i not in voters or not agree(rows[best], rows[i]) for i in range(count)]
        return rows[best], support[best], 0.0, wrong
    error = np.inf if voters else 0.0
    if voters and rows.dtype.kind in "biufc":
        pairs = [np.abs(rows[i].astype(complex) - rows[j]) for i in voters for j in voters]
        error = np.sqrt((np.max(pairs, axis=0) ** 2).mean())
    first = voters[0] if voters else 0
    return rows[first], 0, error if np.isfinite(error) else np.inf, [i not in voters for i in range(count)]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", VALUES)
def test_the_vote_is_that_of_counting_row_by_row(kind, count):
    rng = np.random.default_rng(count)
    dtype = np.dtype("float64" if kind == "small" else kind)
    copies = np.empty((count, 60, 2), dtype=dtype)
    for at in np.ndindex(copies.shape):
        copies[at] = VALUES[kind][0 if rng.random() < 0.6 else rng.integers(len(VALUES[kind]))]
    for some in (None, rng.random((count, 60)) < 0.15):
        verdict = compare(copies, some)
        rejected = np.zeros((count, 60), dtype=bool) if some is None else some
        with np.errstate(invalid="ignore"):
            for row in range(60):
                value, votes, stderr, wrong = counted(copies[:, row], rejected[:, row])
                assert all(map(same, verdict.values[row], value))
                assert verdict.votes[row] == votes
                assert verdict.stderr[row] == pytest.approx(stderr)
                assert verdict.outliers[:, row].tolist() == wrong


def test_answers_are_equal_up_to_half_of_the_digits_of_the_largest_entry_of_their_row():
    for dtype in (np.float32, np.float64):
        for unit in (1e-20, 1.0, 1e20):
            eps = np.finfo(dtype).eps ** 0.5
            for off, equal in ((0.9 * eps, True), (1.1 * eps, False)):
                copies = unit * np.array([[[1.0, 0.0, np.inf]], [[1.0, off, np.inf]]])
                for some in (copies[..., :2], copies):
                    assert (compare(some.astype(dtype)).votes[0] == 2) == equal


def test_answers_without_an_entry_agree():
    assert compare(np.zeros((3, 2, 0))).votes.tolist() == [3, 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_copies_may_differ_by_more_than_a_square_can_hold(dtype):
    copies = np.array([[[0.0, 0.3]], [[0.0, -0.3]]], dtype=dtype) * np.finfo(dtype).max
    found = compare(copies)
    np.testing.assert_array_equal(found.votes, 0)
    assert found.stderr > 0.1 * np.finfo(dtype).max


def test_records_and_tuples_that_hold_nan_agree():
    records = np.array([[(np.nan, 3), (1.0, 2)]] * 3, dtype=[("f", "f8"), ("i", "i4")])
    objects = np.empty((3, 2), dtype=object)
    for copy in range(3):
        objects[copy] = [(float("nan"), 3), "text"]
    for copies in (records, objects):
        assert compare(copies).votes.tolist() == [3, 3]
        copies[1, 0] = (np.nan, 4)
        verdict = compare(copies)
        assert verdict.votes.tolist() == [2, 3]
        assert verdict.outliers[:, 0].tolist() == [False, True, False]


def test_records_agree_in_all_outputs_and_fields():
    records = np.zeros((3, 4, 2), dtype=[("f", "f8", (2,)), ("i", "i4")])
    records["i"][1, 1, 1] = 5
    records["f"][2, 2, 1, 1] = 1.0
    verdict = compare(records)
    assert verdict.votes.tolist() == [3, 2, 2, 3]
    assert np.argwhere(verdict.outliers).tolist() == [[1, 1], [2, 2]]


def test_objects_agree_if_they_are_equal_though_they_are_pickled_otherwise():
    objects = np.array([[1], [1.0], [Fraction(1)], [2]], dtype=object)[:, None]
    verdict = compare(objects)
    assert verdict.votes.tolist() == [3]
    assert verdict.outliers[:, 0].tolist() == [False, False, False, True]
