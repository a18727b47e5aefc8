"""Rows of a worker that is rejected in some groups of a `KernelCode` are exact in none."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm

from ..repeats import first

GROUPS, BYZANTINE = 30, 3


def smooth(x: np.ndarray) -> np.ndarray:
    return np.stack([np.tanh(x @ [0.5, -0.3, 0.2]), np.sin(x @ [0.1, 0.4, -0.2])], axis=-1)


@pytest.mark.parametrize(("wrong", "exact"), first(1, [(6, 0), (12, 0), (24, 0)]))
def test_none_of_its_rows_is_exact_once_it_is_wrong_in_a_tenth_of_the_groups(wrong, exact):
    inputs = np.random.default_rng(0).normal(size=(20, GROUPS, 3))
    encoding = cm.KernelCode(20, 25, 0).encode(inputs)
    answers = {n: smooth(payload) for n, payload in enumerate(encoding.payloads)}
    answers[BYZANTINE][:wrong] = 30.0
    estimate = encoding.decode(answers)
    assert estimate.rejected == (BYZANTINE,)
    assert estimate.exact[BYZANTINE].sum() == exact
    assert np.delete(estimate.exact, BYZANTINE, axis=0).all()
    off = np.abs(estimate.values - smooth(inputs)).max(axis=-1)
    assert off[estimate.exact].max() == 0
    assert (estimate.stderr[~estimate.exact] > 0).all()


def test_a_raw_answer_that_nothing_nearby_contradicts_is_believed():
    inputs = np.random.default_rng(0).normal(size=(20, GROUPS, 3))
    encoding = cm.KernelCode(20, 25, 0).encode(inputs)
    answers = {n: smooth(payload) for n, payload in enumerate(encoding.payloads)}
    answers[BYZANTINE][0] = 30.0
    estimate = encoding.decode(answers)
    assert estimate.rejected == ()
    assert estimate.exact.all()
    with_confirm = cm.KernelCode(20, 25, 0, confirm=2).encode(inputs).decode(answers)
    assert not with_confirm.exact.any()


def test_nan_that_is_contradicted_in_some_groups_is_rejected_in_all():
    inputs = np.random.default_rng(0).normal(size=(20, 10, 3))
    encoding = cm.KernelCode(20, 25, 5).encode(inputs)
    answers = {n: smooth(payload) for n, payload in enumerate(encoding.payloads)}
    answers[4] = np.full_like(answers[4], np.nan)  # in some groups there is a mixture in its cell
    estimate = encoding.decode(answers)
    assert estimate.rejected == (4,)
    assert np.isfinite(estimate.values).all()
    assert not estimate.exact[4].any()
