"""Contract tests of every map code in the table."""

from __future__ import annotations

import pickle
from functools import wraps

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm

from ..repeats import first
from . import matrix_codes, sum_codes
from .codes import ROWS, Row

every = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
linear = pytest.mark.parametrize("row", [r for r in ROWS if not r.copies], ids=lambda row: row.name)
lawful = settings(max_examples=25)


def law(*drawn):
    """A test of each row for 6 draws, or 25; for 3 or 10 of the adaptive rows, which are five of one class and take most time."""

    def of_rows(test):
        @pytest.mark.parametrize("many", first(1, [False, True]), ids=["few", "many"])
        @every
        @wraps(test)
        def run(row, many):
            few, most = (3, 10) if row.adaptive else (6, 25)

            @settings(max_examples=most if many else few)
            @given(st.tuples(*drawn))
            def draws(values):
                test(row, *values)

            draws()

        del run.__wrapped__
        return run

    return of_rows


def test_every_code_is_in_a_table():
    made = [row.make(4, 12, 3) for row in ROWS]
    made += [row.make(*row.small[0]) for row in sum_codes.ROWS]
    made += [row.make(2, 8) for row in matrix_codes.ROWS]
    codes = {getattr(cm.codes, name) for name in cm.codes.__all__} - {cm.codes.LinearCode}
    assert codes == set(map(type, made))


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int, int]:
    tasks = draw(st.integers(1, 9))
    workers = draw(st.integers(3 * tasks, 5 * tasks + 3))
    return tasks, workers, draw(st.integers(0, workers - 2 * tasks))


def case(row: Row, size: tuple[int, int, int], seed: int, groups: int = 3):
    """A code, an encoding of random inputs (K, groups, 4), and the inputs."""
    code = row.make(*size)
    inputs = np.random.default_rng(seed).standard_normal((code.tasks, groups, 4))
    return code, code.encode(inputs), inputs


def smooth(payloads: np.ndarray) -> np.ndarray:
    """A polynomial of degree 1, so that it lies in every code's class: (n, B, 4) to (n, B, 2)."""
    return payloads @ np.array([[1.0, 0.5], [-2.0, 1.0], [0.3, 0.0], [1.0, -1.0]]) + 0.25


def answered(rng: np.random.Generator, encoding, code, least: int = 1) -> list[int]:
    """A random set of slots that can be decoded."""
    slots = list(rng.permutation(code.workers))
    for count in range(least, code.workers + 1):
        if encoding.decodable(frozenset(slots[:count])):
            return [int(slot) for slot in slots[:count]]
    raise AssertionError("all answers must be decodable")


def answers(values: np.ndarray, slots) -> dict[int, np.ndarray]:
    return {slot: values[slot] for slot in slots}


@law(sizes(), st.integers(0, 2**31))
def test_shapes(row, size, seed):
    code, encoding, inputs = case(row, size, seed)
    assert isinstance(code, cm.contracts.Code)
    assert 0 <= code.stragglers < code.workers
    assert encoding.payloads.shape == (code.workers, *inputs.shape[1:])
    rng = np.random.default_rng(seed)
    estimate = encoding.decode(answers(smooth(encoding.payloads), answered(rng, encoding, code)))
    assert estimate.values.shape == (code.tasks, 3, 2)
    assert estimate.exact.shape == (code.tasks, 3)
    assert estimate.exact.dtype == bool
    if row.states:
        assert estimate.stderr.shape == (code.tasks, 3, 2)
        for output in range(2):
            np.testing.assert_array_equal(estimate.stderr[..., output] == 0, estimate.exact)
    else:
        assert estimate.stderr is None
    assert estimate.rejected == ()


@every
def test_payloads_in_use_stay_as_they_are(row):
    code = row.make(4, 12, 3)
    inputs = np.random.default_rng(0).standard_normal((4, 3, 20_000))
    first = code.encode(inputs).payloads[3]
    before = first.copy()
    second = code.encode(inputs + 1)
    np.testing.assert_array_equal(first, before)
    np.testing.assert_array_equal(second.payloads, code.encode(inputs + 1).payloads)


@law(sizes(), st.integers(0, 2**31))
def test_a_constant_survives(row, size, seed):
    code, encoding, _ = case(row, size, seed)
    rng = np.random.default_rng(seed)
    constant = np.broadcast_to(np.array([3.0, -1.5]), (code.workers, 3, 2))
    estimate = encoding.decode(answers(constant, answered(rng, encoding, code)))
    np.testing.assert_allclose(
        estimate.values, np.broadcast_to(constant[0], (code.tasks, 3, 2)), atol=10 * row.constant
    )


@law(sizes(), st.integers(0, 2**31))
def test_the_order_of_answers_is_irrelevant(row, size, seed):
    code, encoding, _ = case(row, size, seed)
    rng = np.random.default_rng(seed)
    slots = answered(rng, encoding, code)
    values = smooth(encoding.payloads)
    one = encoding.decode(answers(values, slots))
    other = encoding.decode(answers(values, rng.permutation(slots).tolist()))
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.exact, other.exact)


@law(sizes(), st.integers(0, 2**31))
def test_with_all_answers_the_identity_returns_the_inputs(row, size, seed):
    code, encoding, inputs = case(row, size, seed)
    estimate = encoding.decode(answers(encoding.payloads, range(code.workers)))
    error = np.abs(estimate.values - inputs).max()
    assert error <= row.identity * np.ptp(inputs)


@law(sizes(), st.integers(0, 2**31))
def test_more_answers_never_make_it_undecodable_and_without_enough_nothing_is_returned(
    row, size, seed
):
    code, encoding, _ = case(row, size, seed)
    order = np.random.default_rng(seed).permutation(code.workers).tolist()
    values = smooth(encoding.payloads)
    before = False
    for count in range(code.workers + 1):
        now = encoding.decodable(frozenset(order[:count]))
        assert now >= before
        if now:
            # From the first that suffice, and from some more, of which other examples have others.
            if not before or (count + seed) % 12 == 0:
                encoding.decode(answers(values, order[:count]))
        else:
            with pytest.raises(cm.NotEnoughAnswers):
                encoding.decode(answers(values, order[:count]))
        before = now
    assert before


@law(sizes())
def test_any_workers_minus_stragglers_answers_decode_unless_conditioning_forbids(row, size):
    code, encoding, _ = case(row, size, 0)
    count = code.workers - code.stragglers
    for seed in range(2):
        slots = np.random.default_rng(seed).permutation(code.workers)[:count].tolist()
        given = answers(smooth(encoding.payloads), slots)
        if encoding.decodable(frozenset(slots)):
            estimate = encoding.decode(given)
            assert np.isfinite(estimate.values).all()
            assert estimate.rejected == () or row.adaptive
        else:
            assert isinstance(code, cm.LagrangeCode)
            with pytest.raises(cm.NotEnoughAnswers, match=r"amplifies rounding by .* tolerance of"):
                encoding.decode(given)


@law(sizes(), st.integers(0, 2**31))
def test_nan_in_an_answer_is_reported_unless_it_is_the_only_one_to_an_input(row, size, seed):
    code, encoding, _ = case(row, size, seed)
    slot = seed % code.workers
    values = smooth(encoding.payloads)
    values[slot, 1, 0] = np.nan
    estimate = encoding.decode(answers(values, range(code.workers)))
    raw = getattr(encoding, "raw", (None,) * code.workers)
    if raw[slot] is None or raw.count(raw[slot]) > 1:
        assert estimate.rejected == (slot,)
    if estimate.rejected:
        assert estimate.rejected == (slot,)
        assert np.isfinite(estimate.values).all()
        return
    task = raw[slot]
    np.testing.assert_array_equal(estimate.values[task, 1], values[slot, 1])
    assert estimate.exact[task, 1]
    assert np.isnan(estimate.values).sum() == 1


@every
def test_a_code_pickles_and_equals_its_copy(row):
    code, encoding, inputs = case(row, (4, 14, 3), 0)
    encoding.decode(answers(smooth(encoding.payloads), range(code.workers)))
    copy = pickle.loads(pickle.dumps(code))
    assert copy == code
    assert hash(copy) == hash(code)
    assert repr(copy) == repr(code)
    np.testing.assert_array_equal(copy.encode(inputs).payloads, encoding.payloads)
    with pytest.raises(AttributeError):
        code.tasks = 5


@law(sizes(), st.integers(0, 2**31))
def test_trailing_axes_are_independent_and_groups_do_not_mix(row, size, seed):
    code, encoding, inputs = case(row, size, seed)
    rng = np.random.default_rng(seed)
    slots = answered(rng, encoding, code)
    values = np.concatenate([smooth(encoding.payloads), smooth(encoding.payloads**2)], axis=2)
    whole = encoding.decode(answers(values, slots)).values
    if row.adaptive:
        outputs, groups = rng.permutation(4), rng.permutation(3)
        permuted = encoding.decode(answers(values[:, groups][:, :, outputs], slots)).values
        np.testing.assert_allclose(permuted, whole[:, groups][:, :, outputs], atol=1e-9)
        return
    alone = encoding.decode(answers(values[:, :, 1:2], slots)).values
    np.testing.assert_allclose(
        alone, whole[:, :, 1:2], atol=row.constant * (1 + np.abs(whole).max())
    )
    again = code.encode(inputs[:, 1:2])
    np.testing.assert_allclose(again.payloads, encoding.payloads[:, 1:2], atol=1e-12)
    one = again.decode(answers(values[:, 1:2], slots)).values
    np.testing.assert_allclose(one, whole[:, 1:2], atol=row.constant * (1 + np.abs(whole).max()))


@every
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, np.complex128])
def test_the_dtype_is_kept(row, dtype):
    code = row.make(4, 14, 2)
    inputs = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(dtype)
    encoding = code.encode(inputs)
    assert encoding.payloads.dtype == dtype
    slots = range(code.workers)
    if dtype is np.float16 and isinstance(code, cm.LagrangeCode):
        with pytest.raises(cm.NotEnoughAnswers, match="float16"):
            encoding.decode(answers(encoding.payloads, slots))
        return
    estimate = encoding.decode(answers(encoding.payloads, slots))
    assert estimate.values.dtype == dtype
    reach = 0.02 if dtype is np.float16 else 1e-4
    assert np.abs(estimate.values - inputs).max() <= (row.identity + reach) * 6


@linear
@pytest.mark.parametrize(
    "inputs", [np.arange(8).reshape(4, 2, 1), np.full((4, 2), "a"), np.full((4, 2), None)]
)
def test_what_cannot_be_mixed_is_refused_with_the_remedy(row, inputs):
    with pytest.raises(cm.InvalidArgument, match=r"cannot be mixed.*cast.*Replication"):
        row.make(4, 14, 2).encode(inputs)


@linear
@pytest.mark.parametrize(
    "answer", [np.zeros((2, 3), int), np.full((2, 1), "yes"), np.full((2,), True)]
)
def test_labels_cannot_be_decoded_by_a_code_that_mixes(row, answer):
    code = row.make(4, 14, 2)
    encoding = code.encode(np.ones((4, 2, 3)))
    with pytest.raises(cm.InvalidAnswer, match="scores instead of labels"):
        encoding.decode(dict.fromkeys(range(code.workers), answer))


@pytest.mark.parametrize("row", [r for r in ROWS if r.copies], ids=lambda row: row.name)
@pytest.mark.parametrize(
    "inputs", [np.arange(8).reshape(4, 2), np.array([["a", "bb"]] * 4), np.array([[None, "x"]] * 4)]
)
def test_a_code_that_copies_takes_anything(row, inputs):
    code = row.make(4, 14, 2)
    encoding = code.encode(inputs)
    estimate = encoding.decode(answers(encoding.payloads, range(code.workers)))
    np.testing.assert_array_equal(estimate.values, inputs)
    assert estimate.exact.all()


@every
@pytest.mark.parametrize("shape", [(3, 2, 1), (4,), (4, 0, 2)])
def test_inputs_of_another_shape_are_refused(row, shape):
    with pytest.raises(cm.InvalidArgument, match=r"takes an array .* but got list"):
        row.make(4, 12, 3).encode(np.zeros((4, 2)).tolist())
    with pytest.raises(cm.InvalidArgument, match="K = 4 tasks"):
        row.make(4, 14, 2).encode(np.ones(shape))


@every
@pytest.mark.parametrize("slot", [-1, 12, "a", 1.5])
def test_an_answer_of_a_slot_that_the_code_does_not_have_is_refused(row, slot):
    _, encoding, _ = case(row, (4, 12, 3), 0)
    given = dict(enumerate(smooth(encoding.payloads)))
    with pytest.raises(
        cm.InvalidArgument, match=r"slot .* does not exist: the slots .* are 0 to \d"
    ):
        encoding.decode(given | {slot: given[0]})
    with pytest.raises(cm.InvalidArgument, match=r"dict from slots, 0 to \d+, .* got a list"):
        encoding.decode(list(given.values()))


@pytest.mark.parametrize("make", [cm.SplineCode, cm.BerrutCode])
def test_large_codes_keep_no_dense_operator_and_agree_with_smaller_ones(make, monkeypatch):
    inputs = np.random.default_rng(0).standard_normal((30, 2, 5)).astype(np.float32)
    slots = np.random.default_rng(1).permutation(90)[:70].tolist()

    def run():
        encoding = make(30, 90, 20).encode(inputs)
        return encoding.payloads, encoding.decode(answers(encoding.payloads, slots)).values

    dense = run()
    for module in ("coding.spline", "codes.berrut"):
        monkeypatch.setattr(f"codedmap.{module}.DENSE_ENTRIES", 100)
    for ours, theirs in zip(run(), dense, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("make", [cm.SplineCode, cm.BerrutCode])
def test_ten_thousand_workers_take_memory_linear_in_their_number(make):
    import tracemalloc

    inputs = np.ones((2_000, 1, 3))
    tracemalloc.start()
    encoding = make(2_000, 10_000, 1_000).encode(inputs)
    slots = np.random.default_rng(0).permutation(10_000)[:9_000].tolist()
    estimate = encoding.decode(answers(encoding.payloads, slots))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(estimate.values, 1.0, atol=1e-9)
    assert peak < 10_000 * 2_000 * 8 / 3


@pytest.mark.parametrize(("make", "share"), [(cm.SplineCode, 0.2), (cm.BerrutCode, 0.4)])
@lawful
@given(st.integers(4, 40), st.integers(0, 2**31))
def test_with_few_spare_workers_the_identity_returns_the_inputs_as_stated(make, share, tasks, seed):
    code = make(tasks, -(-5 * tasks // 4), 0)
    inputs = np.random.default_rng(seed).standard_normal((tasks, 1, 10))
    encoding = code.encode(inputs)
    estimate = encoding.decode(answers(encoding.payloads, range(code.workers)))
    assert np.abs(estimate.values - inputs).max() <= share * np.ptp(inputs)
