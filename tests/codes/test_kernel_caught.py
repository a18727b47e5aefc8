"""A worker that was caught lying in some groups of a `KernelCode` is no witness in the others."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm

GROUPS, LIAR = 30, 3


def smooth(x: np.ndarray) -> np.ndarray:
    return np.stack([np.tanh(x @ [0.5, -0.3, 0.2]), np.sin(x @ [0.1, 0.4, -0.2])], axis=-1)


@pytest.mark.parametrize(("lied", "exact"), [(1, GROUPS - 1), (6, 0), (12, 0), (24, 0)])
def test_none_of_its_rows_is_exact_once_it_lied_in_a_tenth_of_the_groups(lied, exact):
    inputs = np.random.default_rng(0).normal(size=(20, GROUPS, 3))
    encoding = cm.KernelCode(20, 25, 0).encode(inputs)
    answers = {n: smooth(payload) for n, payload in enumerate(encoding.payloads)}
    answers[LIAR][:lied] = 30.0
    estimate = encoding.decode(answers)
    assert estimate.rejected == (LIAR,)
    assert estimate.exact[LIAR].sum() == exact
    assert np.delete(estimate.exact, LIAR, axis=0).all()
    off = np.abs(estimate.values - smooth(inputs)).max(axis=-1)
    assert off[estimate.exact].max() == 0
    assert (estimate.stderr[~estimate.exact] > 0).all()
    honest = np.arange(GROUPS) >= lied
    kept = honest & ~estimate.exact[LIAR]
    if exact == 0 and lied <= 0.25 * GROUPS:
        # Its answers there may be right and are kept, but nobody vouches for them.
        np.testing.assert_array_equal(estimate.values[LIAR, kept], smooth(inputs)[LIAR, kept])


def test_who_says_nan_where_it_is_contradicted_is_not_believed_where_nobody_can_contradict_it():
    inputs = np.random.default_rng(0).normal(size=(20, 10, 3))
    encoding = cm.KernelCode(20, 25, 5).encode(inputs)
    answers = {n: smooth(payload) for n, payload in enumerate(encoding.payloads)}
    answers[4] = np.full_like(answers[4], np.nan)  # in some groups there is a mixture in its cell
    estimate = encoding.decode(answers)
    assert estimate.rejected == (4,)
    assert np.isfinite(estimate.values).all()
    assert not estimate.exact[4].any()
