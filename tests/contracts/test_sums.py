"""Contract tests of every sum code in the table."""

from __future__ import annotations

import pickle
import tracemalloc
from itertools import combinations, islice
from math import comb

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

import codedmap as cm

from ..repeats import drawn, first
from .sum_codes import ROWS

MADE = [
    pytest.param(row, row.make(*sizes), id=f"{row.name} {sizes}")
    for row in ROWS
    for sizes in row.small
]
LARGE = [pytest.param(row, sizes, id=f"{row.name} {sizes}") for row in ROWS for sizes in row.large]
every = pytest.mark.parametrize(("row", "code"), MADE)
exact = pytest.mark.parametrize("code", [p.values[1] for p in MADE if p.values[0].exact], ids=repr)
lawful = settings(max_examples=25)


def slices(code, seed: int = 0, columns: int = 3) -> np.ndarray:
    """What a function gives for each part, cut into slices: (N, m, columns)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((code.workers, code.reduction, columns))


def answers(code, values: np.ndarray) -> np.ndarray:
    """What each worker answers, (N, columns), from nothing but the contract."""
    return np.stack([
        np.einsum("dm,dmc->c", code.coefficients(n), values[list(code.held(n))])
        for n in range(code.workers)
    ])  # fmt: skip


def decoded(code, answered, sent: np.ndarray) -> np.ndarray:
    weights = code.weights(frozenset(answered))
    assert set(weights) <= set(answered)
    return sum(np.outer(weight, sent[worker]) for worker, weight in weights.items())


def check(row, code, answered, sent: np.ndarray, values: np.ndarray) -> None:
    total = values.sum(axis=0)
    assert code.decodable(frozenset(answered)), answered
    found = decoded(code, answered, sent)
    if row.exact or len(answered) == code.workers:
        assert np.abs(found - total).max() <= 1e-9 * np.abs(total).max(), answered


@pytest.mark.parametrize("step", first(1, [5, 1]))
@every
def test_the_sum_is_exact_for_every_set_of_stragglers(row, code, step):
    """For every fifth set of several stragglers, and in ``make slow`` for all."""
    values = slices(code)
    sent, n = answers(code, values), code.workers
    for stragglers in range(code.stragglers + 1):
        every_set = combinations(range(n), stragglers)
        for missing in islice(every_set, 0, None, step if stragglers > 1 else 1):
            check(row, code, sorted(set(range(n)) - set(missing)), sent, values)


@pytest.mark.parametrize("trials", first(1, [10, 60]))
@pytest.mark.parametrize(("row", "sizes"), LARGE)
def test_the_sum_is_exact_for_random_sets_of_stragglers_of_many_workers(row, sizes, trials):
    code = row.make(*sizes)
    values = slices(code)
    sent, n, s = answers(code, values), code.workers, code.stragglers
    rng = np.random.default_rng(1)
    for trial in range(trials):
        missing = rng.permutation(n)[:s] if trial % 2 else (trial + np.arange(s)) % n
        check(row, code, sorted(set(range(n)) - set(missing.tolist())), sent, values)


@every
def test_it_is_what_sum_needs(row, code):
    n, m, s = code.workers, code.reduction, code.stragglers
    assert isinstance(code, cm.contracts.SumCode)
    assert not isinstance(code, cm.contracts.Code)
    assert 0 <= s < n
    assert code.amplification >= 0.99
    for worker in range(n):
        held = code.held(worker)
        assert code.coefficients(worker).shape == (len(held), m)
        assert set(held) <= set(range(n))
        assert len(set(held)) == len(held)
    if row.exact:
        # Ye and Abbe's bound: a part must survive s stragglers, and then still be cut into m.
        holders = np.bincount(np.concatenate([code.held(w) for w in range(n)]), minlength=n)
        assert (holders == s + m).all()


@every
def test_more_answers_never_hurt_and_without_enough_nothing_is_returned(row, code):
    n = code.workers
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(n).tolist()
        before = False
        for count in range(n + 1):
            answered = frozenset(order[:count])
            now = code.decodable(answered)
            assert now or not before
            if not now:
                with pytest.raises(cm.NotEnoughAnswers, match=f"{count} of {n} workers answered"):
                    code.weights(answered)
            before = now
        assert before


@every
def test_fewer_than_the_code_needs_are_not_decodable_unless_they_give_the_sum(row, code):
    n, s = code.workers, code.stragglers
    values = slices(code)
    sent = answers(code, values)
    rng = np.random.default_rng(2)
    for _ in range(50):
        count = int(rng.integers(0, n - s))
        answered = sorted(rng.permutation(n)[:count].tolist())
        if code.decodable(frozenset(answered)):
            assert row.exact
            check(row, code, answered, sent, values)


@every
def test_a_constant_comes_back_n_times(row, code):
    values = np.broadcast_to(slices(code)[:1], (code.workers, code.reduction, 3))
    sent = answers(code, values)
    for seed in range(5):
        missing = np.random.default_rng(seed).permutation(code.workers)[: code.stragglers]
        answered = set(range(code.workers)) - set(missing.tolist())
        found = decoded(code, answered, sent)
        total = code.workers * values[0]
        assert np.abs(found - total).max() <= 1e-9 * np.abs(total).max()


@every
def test_a_code_pickles_and_equals_its_copy(row, code):
    copy = pickle.loads(pickle.dumps(code))
    assert copy == code
    assert hash(copy) == hash(code)
    assert repr(copy) == repr(code)
    everyone = frozenset(range(code.workers))
    for worker in range(code.workers):
        assert copy.held(worker) == code.held(worker)
        np.testing.assert_array_equal(copy.coefficients(worker), code.coefficients(worker))
    for worker, weight in code.weights(everyone).items():
        np.testing.assert_array_equal(copy.weights(everyone)[worker], weight)


@exact
def test_the_amplification_is_that_of_the_worst_stragglers(code):
    """With coefficients of length 1 the weights are at most this long, times √N, and so rounding comes back."""
    n, s = code.workers, code.stragglers
    if comb(n, s) > 500:
        pytest.skip("not all sets of stragglers are looked at for the amplification")
    scale = np.array([np.linalg.norm(code.coefficients(w)) for w in range(n)])
    most = 0.0
    for missing in combinations(range(n), s):
        answered = frozenset(range(n)) - set(missing)
        weights = code.weights(answered)
        lengths = np.array([weights[w] * scale[w] for w in weights])
        most = max(most, np.linalg.norm(lengths, axis=0).max() / np.sqrt(n))
    assert most <= code.amplification * (1 + 1e-9)
    if isinstance(code, cm.codes.CyclicGradientCode | cm.codes.PolynomialGradientCode):
        assert most >= code.amplification * (1 - 1e-6)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    workers = draw(st.integers(1, 30))
    stragglers = draw(st.integers(0, workers - 1))
    return workers, stragglers, draw(st.integers(1, workers - stragglers))


@drawn(8, 25, sizes(), st.integers(0, 2**31))
def test_random_sizes_are_exact_or_refused(size, seed):
    workers, stragglers, reduction = size
    codes = [
        (cm.codes.CyclicGradientCode, (workers, stragglers)),
        (cm.codes.PolynomialGradientCode, (workers, stragglers, reduction)),
    ]
    for make, arguments in codes:
        try:
            code = make(*arguments, seed=seed)
        except cm.InvalidArgument as error:
            refused = str(error)
        else:
            refused = None
        if refused is not None:
            assert workers > 12, refused
            continue
        values = slices(code, seed)
        sent = answers(code, values)
        missing = np.random.default_rng(seed).permutation(workers)[:stragglers]
        check(ROWS[0], code, sorted(set(range(workers)) - set(missing.tolist())), sent, values)


@pytest.mark.slow
def test_a_long_run_does_not_keep_weights_for_all_sets_it_has_met():
    code = cm.codes.GroupedGradientCode(14, 14, 6)
    tracemalloc.start()
    for answered in combinations(range(14), 7):
        assert code.decodable(frozenset(answered))
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 3432 * 6 * 14 * 8  # the weights for all of them, as numbers alone
