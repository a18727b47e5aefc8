"""KernelCode: payloads, regression, error bars, and what it learns."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm
from codedmap.testing import Scripted, never

from ..repeats import drawn, first

lawful = settings(max_examples=25)


def smooth(batch: np.ndarray) -> np.ndarray:
    """(n, ..., d) to (n, ..., 3)."""
    slopes = np.random.default_rng(99).standard_normal((batch.shape[-1], 3))
    return np.tanh(batch @ slopes / np.sqrt(batch.shape[-1]))


def steep(batch):
    return np.exp(6 * batch[:, :2])


def case(code, groups=1, columns=4, seed=0, dtype=np.float64):
    inputs = np.random.default_rng(seed).standard_normal((code.tasks, groups, columns))
    inputs = inputs.astype(dtype)
    return inputs, code.encode(inputs)


def some(encoding, slots, fn=smooth):
    return {int(n): fn(encoding.payloads[n]) for n in slots}


@drawn(6, 25, st.integers(0, 2**31), st.sampled_from([1e-100, 1.0, 1e100]), st.floats(-1e3, 1e3))
def test_estimates_follow_the_scale_and_the_offset_of_the_answers(seed, scale, offset):
    code = cm.KernelCode(5, 12, 0)
    _, encoding = case(code, 2, 3, seed)
    slots = np.random.default_rng(seed).permutation(12)[:8]
    one = encoding.decode(some(encoding, slots))
    other = encoding.decode(some(encoding, slots, lambda x: scale * (smooth(x) + offset)))
    assert other.rejected == one.rejected
    # A kernel is searched for until estimates change by less than a thousandth of their standard error.
    reach = 1e-3 * one.stderr + 1e-6 * (1 + abs(offset))
    off = np.abs(other.values / scale - offset - one.values)
    assert (off <= reach).all()
    np.testing.assert_allclose(
        other.stderr / scale, one.stderr, rtol=0.05, atol=1e-5 * (1 + abs(offset))
    )


@drawn(6, 25, st.integers(0, 2**31), st.sampled_from([2.0**-200, 2.0**200]))
def test_estimates_do_not_depend_on_the_unit_of_the_inputs(seed, unit):
    code = cm.KernelCode(5, 12, 0)
    inputs, encoding = case(code, 2, 3, seed)
    scaled = code.encode(inputs * unit)
    slots = np.random.default_rng(seed).permutation(12)[:8]
    one = encoding.decode(some(encoding, slots))
    other = scaled.decode(some(scaled, slots, lambda x: smooth(x / unit)))
    np.testing.assert_allclose(other.values, one.values, rtol=1e-12)
    np.testing.assert_allclose(other.stderr, one.stderr, rtol=1e-12)


def test_complex_answers_are_pairs_of_real_ones():
    code = cm.KernelCode(5, 12, 0)
    _, encoding = case(code, 3)
    slots = (0, 2, 5, 6, 8, 9, 11)
    complexes = some(encoding, slots, lambda x: smooth(x) + 1j * smooth(2 * x))
    whole = encoding.decode(complexes)
    pairs = encoding.decode(
        some(encoding, slots, lambda x: np.stack([smooth(x), smooth(2 * x)], axis=-1))
    )
    np.testing.assert_array_equal(whole.values, pairs.values[..., 0] + 1j * pairs.values[..., 1])
    np.testing.assert_allclose(whole.stderr, np.hypot(pairs.stderr[..., 0], pairs.stderr[..., 1]))
    longer = {slot: answer.astype(np.clongdouble) for slot, answer in complexes.items()}
    np.testing.assert_array_equal(encoding.decode(longer).values, whole.values)


@pytest.mark.parametrize("unit", [1.0, 1e-30, 1e-310])
def test_numbers_that_are_too_small_are_0_also_where_numpy_is_told_to_raise(unit):
    code = cm.KernelCode(5, 6, 1)
    inputs = np.random.default_rng(0).random((60, 3)) * [1, 1, unit]
    with np.errstate(all="raise"), cm.testing.Scripted(6, {2: cm.testing.never()}) as engine:
        result = cm.map(steep, inputs, code=code, engine=engine)
    assert np.isfinite(result.values).all()
    assert result.status.max() == cm.Status.ESTIMATED


def test_complex_inputs_are_pairs_of_real_ones():
    code = cm.KernelCode(5, 12, 0)
    pairs, encoding = case(code, 3, 4)
    inputs = pairs.view(complex)
    other = code.encode(inputs)
    np.testing.assert_allclose(other.payloads.view(float), encoding.payloads, atol=1e-15)
    slots = (0, 2, 5, 6, 8, 9, 11)
    one = encoding.decode(some(encoding, slots))
    two = other.decode(some(other, slots, lambda x: smooth(x.view(float))))
    np.testing.assert_allclose(two.values, one.values, atol=1e-10)


def test_single_precision_is_decoded_in_double():
    code = cm.KernelCode(6, 15, 0)
    _, encoding = case(code, 3, dtype=np.float32)
    slots = (0, 2, 5, 6, 8, 9, 11, 13)
    answers = some(encoding, slots)
    assert answers[0].dtype == np.float64
    answers = {n: answer.astype(np.float32) for n, answer in answers.items()}
    one = encoding.decode(answers)
    assert one.values.dtype == np.float32
    wide = encoding.decode({n: answer.astype(np.float64) for n, answer in answers.items()})
    np.testing.assert_array_equal(one.values, wide.values.astype(np.float32))


# Payloads


@lawful
@given(
    st.integers(1, 9),
    st.integers(0, 20),
    st.floats(0.0, 1.0),
    st.sampled_from([np.float16, np.float32, np.float64, np.complex64]),
    st.integers(0, 2**31),
)
def test_payloads_never_leave_the_segment_between_two_inputs(tasks, more, spread, dtype, seed):
    code = cm.KernelCode(tasks, tasks + more, 0, spread)
    inputs, encoding = case(code, 2, 3, seed, dtype)
    np.testing.assert_array_equal(encoding.payloads[:tasks], inputs)
    assert encoding.payloads.dtype == dtype
    assert encoding.raw[:tasks] == tuple(range(tasks))
    parts = (np.real, np.imag) if np.iscomplexobj(inputs) else (np.real,)
    for slot in range(tasks, code.workers):
        for group in range(2):
            payload = encoding.payloads[slot, group]
            assert any(
                all(
                    (np.minimum(part(one), part(other)) <= part(payload)).all()
                    and (part(payload) <= np.maximum(part(one), part(other))).all()
                    for part in parts
                )
                for one in inputs[:, group]
                for other in inputs[:, group]
            )


@lawful
@given(st.integers(2, 9), st.integers(1, 4), st.floats(0.05, 1.0), st.integers(0, 2**31))
def test_a_cell_reaches_less_than_half_way_to_its_neighbours(tasks, each, spread, seed):
    code = cm.KernelCode(tasks, tasks * each, 0, spread)
    inputs, encoding = case(code, 1, 30, seed)
    # Thirty coordinates of a mixture tell which few inputs it is made of.
    weights = np.linalg.lstsq(
        np.vstack([inputs[:, 0].T, np.ones(tasks)]),
        np.vstack([encoding.payloads[:, 0].T, np.ones(code.workers)]),
        rcond=None,
    )[0].T
    assert ((np.abs(weights) > 1e-9).sum(axis=1) <= 2).all()
    assert (np.sort(weights, axis=1)[:, -2] <= 0.5 * spread + 1e-9).all()
    homes = [[n for n in range(code.workers) if weights[n, k] > 0.5 - 1e-9] for k in range(tasks)]
    assert all(len(home) >= each for home in homes)
    assert set().union(*homes) == set(range(code.workers))


def test_integers_are_copied_and_lost_ones_estimated_as_real_numbers():
    code = cm.KernelCode(4, 8, 0, spread=0)
    inputs = np.arange(8).reshape(4, 2)
    encoding = code.encode(inputs)
    assert encoding.payloads.dtype == inputs.dtype
    whole = encoding.decode(some(encoding, range(4), lambda x: 3 * x))
    assert whole.values.dtype == inputs.dtype
    np.testing.assert_array_equal(whole.values, 3 * inputs)
    part = encoding.decode(some(encoding, (0, 1, 7), lambda x: 3 * x))
    assert part.values.dtype == np.float64
    np.testing.assert_array_equal(part.values[[0, 1, 3]], 3.0 * inputs[[0, 1, 3]])
    assert not part.exact[2].any()
    assert (np.abs(part.values[2] - 3.0 * inputs[2]) <= 3 * part.stderr[2]).all()
    text = code.encode(np.array([["a"], ["b"], ["c"], ["d"]]))
    with pytest.raises(cm.NotEnoughAnswers, match="nothing can stand in for 1 of 4 tasks"):
        text.decode(some(text, (0, 1, 3), lambda x: x))


def test_copies_of_text_inputs_are_estimated_from_scores():
    encoding = cm.KernelCode(4, 8, 0, spread=0).encode(np.array([["a"], ["b"], ["c"], ["d"]]))
    scores = {n: np.array([[float(n), 1.0]]) for n in (0, 1, 3)}
    estimate = encoding.decode(scores)
    np.testing.assert_allclose(estimate.values[2], [[4 / 3, 1.0]])
    assert np.isfinite(estimate.stderr[2]).all()


# Edges


def test_one_task_and_one_answer():
    encoding = cm.KernelCode(1, 3, 1).encode(np.ones((1, 2, 4)))
    assert encoding.raw == (0, 0, 0)
    estimate = encoding.decode(some(encoding, (2,)))
    assert estimate.exact.all()
    np.testing.assert_array_equal(estimate.values[0], smooth(encoding.payloads[2]))


def test_one_answer_stands_for_all_with_an_infinite_error():
    _, encoding = case(cm.KernelCode(4, 8, 2))
    for slot in (1, 6):
        estimate = encoding.decode(some(encoding, (slot,)))
        np.testing.assert_allclose(
            estimate.values, np.broadcast_to(smooth(encoding.payloads[slot]), (4, 1, 3))
        )
        assert np.isinf(estimate.stderr[~estimate.exact]).all()
        assert estimate.exact.sum() == (1 if slot == 1 else 0)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_inputs_that_are_all_equal(spread):
    encoding = cm.KernelCode(5, 13, 2, spread).encode(np.full((5, 3, 4), 0.7))
    np.testing.assert_array_equal(encoding.payloads, 0.7)
    estimate = encoding.decode(some(encoding, (1, 3, 6, 8, 9, 10, 12)))
    np.testing.assert_allclose(
        estimate.values, np.broadcast_to(smooth(encoding.payloads[0]), (5, 3, 3)), rtol=1e-12
    )
    assert estimate.rejected == ()
    # The next one may be another: one in as many as there are answers.
    assert (estimate.stderr[~estimate.exact] < 1 / (7 * 3)).all()
    assert (estimate.stderr[~estimate.exact] > 0).all()


@pytest.mark.parametrize("value", [0.0, 3.5, -1e140, 1e-140])
def test_a_constant_is_certain_but_never_quite(value):
    _, encoding = case(cm.KernelCode(5, 13, 2), 3)
    estimate = encoding.decode(
        some(encoding, (1, 3, 6, 8, 9, 10, 12), lambda x: np.full((3, 2), value))
    )
    np.testing.assert_allclose(estimate.values, value, rtol=1e-12)
    assert estimate.rejected == ()
    lost = ~estimate.exact
    assert (estimate.stderr[lost] > 0).all()
    assert (estimate.stderr[lost] <= abs(value) / (7 * 3) + 1e-300).all()


def test_where_numbers_end_there_is_an_error_still():
    _, encoding = case(cm.KernelCode(5, 13, 2), 3)
    slots = (1, 3, 6, 8, 9, 10, 12)
    estimate = encoding.decode(some(encoding, slots, lambda x: 1e300 * smooth(x)))
    assert np.isfinite(estimate.values).all()
    assert (estimate.stderr[~estimate.exact] > 1e295).all()


@lawful
@given(st.integers(1, 8), st.integers(2, 12), st.integers(0, 2**31))
def test_repeated_rows_reject_no_worker(distinct, tasks, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((distinct, 3))
    code = cm.KernelCode(tasks, 3 * tasks, 0, spread=rng.choice([0.0, 0.2, 1.0]))
    inputs = rows[rng.integers(0, distinct, tasks)][:, None]
    encoding = code.encode(inputs)
    answers = some(
        encoding, range(code.workers), lambda x: x @ np.array([[1.0, 2], [3, -1], [0, 1]])
    )
    assert encoding.decode(answers).rejected == ()


def test_a_wrong_answer_to_a_payload_that_others_have_too_is_outvoted():
    judged = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((4, 3))
        encoding = cm.KernelCode(20, 60, 0).encode(rows[np.arange(20) % 4][:, None])
        answers = some(encoding, range(60))
        byzantine_worker = int(rng.integers(60))
        same = (encoding.payloads == encoding.payloads[byzantine_worker]).all(axis=(1, 2))
        if same.sum() > 2:
            judged += 1
            answers[byzantine_worker] = answers[byzantine_worker] + 10.0
            assert encoding.decode(answers).rejected == (byzantine_worker,)
    assert judged > 10


def test_copies_that_disagree_everywhere_are_still_an_estimate():
    encoding = cm.KernelCode(2, 4, 0, spread=0).encode(np.ones((2, 1, 1)))
    answers = {n: np.full((1, 1), float(n)) for n in range(4)}
    estimate = encoding.decode(answers)
    copies = cm.Replication(2, 4).encode(np.ones((2, 1, 1))).decode(answers)
    np.testing.assert_array_equal(estimate.values, copies.values)
    np.testing.assert_array_equal(estimate.stderr, copies.stderr)


def test_nothing_and_salvage():
    _, encoding = case(cm.KernelCode(4, 8, 2))
    assert not encoding.decodable(frozenset())
    with pytest.raises(cm.NotEnoughAnswers, match="none of 8 workers"):
        encoding.decode({})
    estimate = encoding.salvage(some(encoding, (1, 6)))
    assert estimate.exact[:, 0].tolist() == [False, True, False, False]
    assert np.isnan(estimate.values[[0, 2, 3]]).all()
    assert np.isinf(estimate.stderr[[0, 2, 3]]).all()


@pytest.mark.parametrize("confirm", [1, 2])
def test_a_judgement_differs_from_a_decoding_in_lost_tasks_only(confirm):
    code = cm.KernelCode(6, 15, 5, 0.3, confirm=confirm)
    _, encoding = case(code, 4)
    answers = some(encoding, range(2, 15)) | {4: np.full((4, 3), 50.0)}
    judged, decoded = encoding.judge(answers), encoding.decode(answers)
    assert judged.rejected == decoded.rejected == (4,)
    assert (judged.exact == decoded.exact).all()
    if confirm > 1:  # then raw answers are estimates too, and their error comes from a regression
        errors = np.sqrt((decoded.stderr**2).mean(axis=2))
        np.testing.assert_allclose(judged.stderr, errors)
        return
    assert decoded.exact.any()
    lost = ~decoded.exact
    assert (judged.values[~lost] == decoded.values[~lost]).all()
    kept = np.concatenate([answer for slot, answer in answers.items() if slot != 4])
    np.testing.assert_allclose(
        judged.values[lost], np.broadcast_to(kept.mean(axis=0), (lost.sum(), 3))
    )
    spread = np.sqrt(kept.var(axis=0, ddof=1).mean())
    np.testing.assert_allclose(judged.stderr[lost], spread)


def test_answers_that_are_exact_come_back_to_the_last_bit():
    code = cm.KernelCode(6, 15, 3)
    _, encoding = case(code, 4, dtype=np.float32)
    answers = some(encoding, (0, 1, 2, 4, 5, 7, 9, 14))
    answers[1][2] = [-np.inf, 0.0, 1.0]
    estimate = encoding.decode(answers)
    for task in (0, 1, 2, 4, 5):
        assert estimate.exact[task].all()
        np.testing.assert_array_equal(estimate.values[task], answers[task])
    assert np.isfinite(estimate.values[3]).all()
    assert estimate.rejected == ()


# Error bars


def drawn(rng, points, outputs):
    """A draw of a Matérn process at points (n, d), (n, outputs)."""
    apart = np.sqrt(5 * ((points[:, None] - points[None]) ** 2).sum(axis=2)) / 2.0
    covariance = (1 + apart + apart**2 / 3) * np.exp(-apart) + 1e-10 * np.eye(len(points))
    return np.linalg.cholesky(covariance) @ rng.standard_normal((len(points), outputs)) * 3.0 + 7.0


@pytest.mark.slow
def test_on_draws_of_a_process_errors_are_what_is_stated():
    code = cm.KernelCode(10, 20, 8, spread=0.5)
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(30):
        inputs, encoding = case(code, 5, 3, int(rng.integers(2**31)))
        slots = rng.permutation(20)[:12].tolist()
        points = np.concatenate([encoding.payloads, inputs]).reshape(150, 3)
        truth = drawn(rng, points, 4).reshape(30, 5, 4)
        estimate = encoding.decode({n: truth[n] for n in slots})
        off = (estimate.values - truth[20:])[~estimate.exact]
        ratios.append(np.abs(off) / estimate.stderr[~estimate.exact])
    ratios = np.concatenate(ratios)
    assert len(ratios) > 400
    assert 0.8 < np.sqrt((ratios**2).mean()) < 1.25
    assert (ratios > 3.0).mean() < 0.02


# Learning


def mapped(code, X, script=None, fn=smooth):
    with Scripted(code.workers, script) as engine:
        return cm.map(fn, X, code=code, engine=engine)


def rows(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
def test_inputs_of_small_dtypes_are_estimated_from_as_others(dtype):
    least = 0 if dtype is np.uint8 else -128
    inputs = np.random.default_rng(0).integers(least, least + 256, (6, 20, 2))

    def decoded(inputs):
        encoding = cm.KernelCode(6, 8, 2, spread=0.0).encode(inputs)
        rows = inputs.astype(np.float64)
        answers = np.sin(rows / 100).sum(axis=2, keepdims=True)
        return encoding.decode({slot: answers[slot] for slot in range(5)})

    found, expected = decoded(inputs.astype(dtype)), decoded(inputs.astype(np.float64))
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)
    np.testing.assert_allclose(found.stderr, expected.stderr, rtol=1e-6)


def test_exact_rows_of_a_call_help_the_next_one():
    X = rows(200)
    code = cm.KernelCode(10, 20, 5)
    script = {n: never() for n in (1, 4, 8, 13, 17)}
    result = mapped(code, X, script)
    fitted = code.fitted(result, X)
    assert len(fitted.known) == result.exact.sum()
    np.testing.assert_array_equal(fitted.known.inputs, X[result.exact])

    def later(one):
        """The error over several calls, and over its standard error."""
        squares, ratios = [], []
        for seed in range(1, 7):
            given = rows(60, seed)
            found = mapped(one, given, script)
            each = ((found.values - smooth(given)) ** 2).mean(axis=1)
            lost = ~found.exact
            squares.append(each)
            ratios.append(np.sqrt(each[lost]) / found.row_stderr()[lost])
        return (np.sqrt(np.mean(part)) for part in (squares, np.concatenate(ratios) ** 2))

    (plain, _), (known, ratio) = later(code), later(fitted)
    assert known < 0.8 * plain
    assert 0.5 < ratio < 1.6


def test_known_answers_are_the_finite_exact_ones_and_those_before():
    X = rows(30)
    code = cm.KernelCode(10, 20, 5)
    more = rows(30, 2)

    def holed(batch):
        out = smooth(batch)
        out[np.isclose(batch[:, 0], more[4, 0])] = np.nan
        return out

    first = code.fitted(mapped(code, X), X)
    second = first.fitted(mapped(first, more, fn=holed), more)
    np.testing.assert_array_equal(
        second.known.inputs, np.concatenate([X, np.delete(more, 4, axis=0)])
    )


def test_a_code_with_known_answers_pickles_and_equals_its_copy():
    X = rows(30)
    code = cm.KernelCode(5, 10, 1, known=cm.estimation.Known(X, smooth(X)))
    assert code == cm.KernelCode(5, 10, 1, known=(X, smooth(X)))
    _, encoding = case(code, 2, 3)
    encoding.decode(some(encoding, range(9)))
    copy = pickle.loads(pickle.dumps(code))
    assert copy == code
    assert hash(copy) == hash(code)
    assert repr(copy) == repr(code)
    assert "<Known: 30 answers>" in repr(code)
    other = replace(code, known=cm.estimation.Known(X, smooth(X) + 1e-9))
    assert other != code
    with pytest.raises(ValueError, match="read-only"):
        copy.known.inputs[0] = 0.0


def test_with_answers_known_nearby_hardly_anything_is_left_to_estimate():
    X = rows(100)
    code = cm.KernelCode(5, 10, 1, known=cm.estimation.Known(X, smooth(X)))
    encoding = code.encode(X[:10].reshape(5, 2, 3))
    estimate = encoding.decode(some(encoding, (7,)))
    np.testing.assert_allclose(estimate.values, smooth(X[:10]).reshape(5, 2, 3), atol=1e-3)
    assert (estimate.stderr < 1e-2).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cm.estimation.Known(rows(4), np.ones(3)), "same number of rows, at least 3"),
        (lambda: cm.estimation.Known(rows(2), np.ones(2)), "same number of rows, at least 3"),
        (lambda: cm.estimation.Known(3.0, 4.0), "same number of rows"),
        (
            lambda: cm.estimation.Known(rows(4), [1.0, 2.0, np.nan, np.inf]),
            "2 of 4 rows are finite",
        ),
        (lambda: cm.estimation.Known(rows(3), np.array(["a", "b", "c"])), "must be numbers"),
        (lambda: cm.KernelCode(5, 4, 0), "4 workers cannot hold .* 5 tasks"),
        (lambda: cm.KernelCode(0, 4, 0), "tasks"),
        (lambda: cm.KernelCode(4, 8, 8), "8 stragglers of 8 workers"),
        (lambda: cm.KernelCode(4, 8, 1, spread=1.5), "spread=1.5 must be between 0"),
        (lambda: cm.KernelCode(4, 8, 1, spread=np.nan), "spread=nan"),
        (lambda: cm.KernelCode(4, 8, 1, spread="wide"), "spread='wide'"),
        (lambda: cm.KernelCode(4, 8, 1, known=rows(4)), r"must be a pair \(X0, y0\)"),
        (lambda: cm.KernelCode(4, 8, 1, known=(rows(4), np.ones(3))), "same number of rows"),
        (lambda: cm.KernelCode(4, 8, 1, confirm=3), "confirm=3 must be 1 or 2"),
        (lambda: cm.KernelCode(4, 8, 1, confirm=1.5), "confirm=1.5"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(make, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        make()


def test_known_answers_must_be_of_the_same_function():
    X = rows(20)
    code = cm.KernelCode(5, 10, 1, known=cm.estimation.Known(X, smooth(X)))
    with pytest.raises(cm.InvalidArgument, match=r"inputs of 2 numbers .* 20 known ones of 3"):
        code.encode(np.ones((5, 1, 2)))
    encoding = code.encode(X[:5, None])
    with pytest.raises(cm.InvalidAnswer, match=r"answers of 1 number .* 20 known ones of 3"):
        encoding.decode(some(encoding, range(8), lambda x: x[:, :1]))
    with pytest.raises(cm.InvalidArgument, match="dtype <U1 have no distance"):
        replace(code, spread=0.0).encode(np.full((5, 1, 3), "a"))


def test_only_results_of_these_inputs_are_known():
    X = rows(20)
    code = cm.KernelCode(5, 10, 1)
    result = mapped(code, X)
    with pytest.raises(
        cm.InvalidArgument, match="a result of 20 rows does not belong to 19 inputs"
    ):
        code.fitted(result, X[1:])
    fitted = code.fitted(result, X)
    with pytest.raises(cm.InvalidArgument, match="inputs of 2 numbers"):
        fitted.fitted(result, X[:, :2])


def test_rows_that_are_alike_share_a_group():
    rng = np.random.default_rng(0)
    centres = 100.0 * np.arange(4)[:, None]
    X = rng.permutation(
        np.concatenate([centres[i] + rng.standard_normal((5, 3)) for i in range(4)])
    )
    shared = []

    def watched(batch):
        shared.append(np.round(batch[:, 0] / 100.0))
        return batch

    result = mapped(cm.KernelCode(5, 10, 1), X, fn=watched)
    np.testing.assert_array_equal(result.values, X)
    assert all(sorted(rounded) == [0, 1, 2, 3] for rounded in shared)


# Through the entry point


def test_map_estimates_what_is_late_and_says_how_well():
    def fn(batch):
        return smooth(3 * batch)

    X = rows(400)
    result = mapped(cm.KernelCode(20, 60, 20), X, {n: never() for n in range(0, 60, 3)}, fn)
    lost = ~result.exact
    assert 0.3 < lost.mean() < 0.4
    error = np.sqrt(((result.values - fn(X)) ** 2).mean(axis=1))
    assert (error[~lost] == 0.0).all()
    assert (result.stderr[~lost] == 0.0).all()
    assert 0.5 < np.sqrt(((error[lost] / result.row_stderr()[lost]) ** 2).mean()) < 1.5
    assert np.sqrt((error**2).mean()) < 0.05 * fn(X).std()
    assert result.rejected == ()


def test_nan_that_is_not_confirmed_has_no_standard_error():
    code = cm.KernelCode(10, 12, 2, confirm=2)
    encoding = code.encode(np.random.default_rng(0).uniform(size=(10, 1, 2)))
    right = {slot: np.sin(payload) for slot, payload in enumerate(encoding.payloads)}
    for task in range(10):
        wrong = {encoding.raw.index(task): np.full((1, 2), np.nan)}
        estimate = encoding.decode(right | wrong)
        lost = np.isnan(estimate.values).any(axis=2)
        assert np.isinf(estimate.stderr[lost]).all()


def test_large_whole_numbers_are_not_rounded_beside_an_estimate():
    """They were exact, and off by one."""
    encoding = cm.KernelCode(3, 4, 1, spread=0.0).encode(np.arange(3.0)[:, None, None])
    answers = {0: np.array([2**53 + 1]), 1: np.array([5])}
    with pytest.raises(cm.NotEnoughAnswers, match=r"above 2\*\*53 cannot stand beside an estimate"):
        encoding.decode(answers)
    assert encoding.salvage(answers).values[:, 0].tolist() == [2**53 + 1, 5, None]
    assert encoding.decode({0: np.array([2**53]), 1: np.array([5])}).values[0, 0] == 2.0**53


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_estimates_are_no_larger_than_the_largest_number_of_their_dtype(dtype):
    inputs = np.arange(10.0)[:, None, None]
    encoding = cm.KernelCode(10, 10, 0, spread=0.0).encode(inputs)
    largest = np.finfo(dtype).max
    answers = {k: (inputs[k] / 7.0 * largest).astype(dtype) for k in range(8)}
    estimate = encoding.decode(answers)
    assert estimate.values.dtype == dtype
    assert np.isfinite(estimate.values).all()
    assert estimate.values[9] > 0.9 * largest
    assert (estimate.stderr[8:] > 0).all()


@pytest.mark.parametrize("wrong", first(1, [1, 2, 3]))
def test_copies_of_the_largest_number_are_rejected(wrong):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        encoding = cm.KernelCode(30, 60, 28, spread=0.0).encode(rng.uniform(size=(30, 5, 1)))
        slots = rng.permutation(60)[:40].tolist()
        answers = {slot: np.sin(3 * encoding.payload(slot)) for slot in slots}
        for slot in slots[:wrong]:
            answers[slot] = np.full((5, 1), 1e308)
        assert encoding.decode(answers).rejected == tuple(sorted(slots[:wrong]))


def test_answers_to_equal_inputs_that_differ_by_chance_are_estimated_from_their_spread():
    code = cm.KernelCode(2, 4, 0, spread=0.0)

    def fn(batch, rng):
        return np.array([own.random() for own in rng])

    options = {"seed": 0, "stop": cm.Quorum(2), "hedge": None}
    with Scripted(4, {0: never(), 2: never()}) as engine:
        result = cm.map(fn, np.ones((40, 2)), code=code, engine=engine, **options)
    lost = result.status == cm.Status.ESTIMATED
    assert lost.any()
    assert ((result.stderr[lost] > 0.1) & (result.stderr[lost] < 1.0)).all()
