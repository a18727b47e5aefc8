"""Wrong answers to codes that mix: which are found, which cannot be, and that no other is rejected."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm
from codedmap.coding.precision import MOST_TOGETHER, Precision, curve_precision, windows
from codedmap.detection.outliers import find_outliers

from ..repeats import crossed, first

LENET = Path(__file__).parents[2] / "examples" / "lenet5"
K, N, S = 20, 60, 20
COEFFICIENTS = np.random.default_rng(0).standard_normal((2, 4, 6))


def smooth(x: np.ndarray) -> np.ndarray:
    """(..., 4) to (..., 6)."""
    return np.sin(x @ COEFFICIENTS[0]) + 0.3 * (x @ COEFFICIENTS[1])


def quadratic(x: np.ndarray) -> np.ndarray:
    """A polynomial of degree 2, (..., 4) to (..., 6)."""
    return (x @ COEFFICIENTS[0]) * (x @ COEFFICIENTS[1]) + x @ COEFFICIENTS[0]


CASES = {
    "spline": (cm.SplineCode(K, N, S), smooth),
    "spline, smooth": (cm.SplineCode(K, N, S, decoder_smoothing=1e-9), smooth),
    "spline, gcv": (cm.SplineCode(K, N, S, decoder_smoothing="gcv"), smooth),
    "spline, uniform": (cm.SplineCode(K, N, S, points="uniform"), smooth),
    "berrut": (cm.BerrutCode(K, N, S), smooth),
    "lagrange": (cm.LagrangeCode(10, N, S, 2), quadratic),
}
every = pytest.mark.parametrize("case", CASES)


def sweep(tasks: int, groups: int, shift: float = 0.0) -> np.ndarray:
    """Inputs along a path, (K, B, 4)."""
    t = np.linspace(0, 1, tasks)[:, None, None] + shift
    return np.stack([t, t**2, np.cos(3 * t), 1 - t], axis=3)[:, 0] * np.linspace(
        1, 1.5, groups
    ).reshape(1, groups, 1)


def answered(case: str, groups: int = 1, seed: int = 0, shift: float = 0.0):
    """An encoding, N - S of its answers, and the right estimates."""
    code, fn = CASES[case]
    inputs = sweep(code.tasks, groups, shift)
    encoding = code.encode(inputs)
    slots = np.random.default_rng(seed).permutation(N)[: N - S].tolist()
    return encoding, {n: fn(encoding.payloads[n]) for n in slots}, fn(inputs)


def gross(right, stale, rng):
    return right + 10 * rng.standard_normal(right.shape)


WRONG_ANSWERS = {
    "gross noise": gross,
    "huge": lambda right, stale, rng: right + 1e200,
    "sign flip": lambda right, stale, rng: -right,
    "stale": lambda right, stale, rng: stale,
    "constant": lambda right, stale, rng: np.full_like(right, 0.7),
    "zeros": lambda right, stale, rng: np.zeros_like(right),
    "small bias": lambda right, stale, rng: right + 0.3,
    "one output": lambda right, stale, rng: right + 3 * np.eye(6)[2],
}


@every
@pytest.mark.parametrize(("kind", "groups"), crossed(WRONG_ANSWERS, [1, 3]))
def test_a_wrong_answer_is_found_and_not_used(case, kind, groups):
    encoding, answers, _ = answered(case, groups)
    _, stale, _ = answered(case, groups, shift=0.6)
    rng = np.random.default_rng(1)
    for byzantine_worker in sorted(answers)[5:-5:6]:
        wrong_answers = {
            **answers,
            byzantine_worker: WRONG_ANSWERS[kind](
                answers[byzantine_worker], stale[byzantine_worker], rng
            ),
        }
        estimate = encoding.decode(wrong_answers)
        without = encoding.decode({n: a for n, a in answers.items() if n != byzantine_worker})
        assert estimate.rejected == (byzantine_worker,)
        np.testing.assert_allclose(estimate.values, without.values, atol=1e-9)


@every
def test_two_workers_that_swap_their_answers_are_found(case):
    encoding, answers, _ = answered(case)
    one, other = sorted(answers)[8], sorted(answers)[25]
    without = encoding.decode({n: a for n, a in answers.items() if n not in (one, other)})
    answers[one], answers[other] = answers[other], answers[one]
    estimate = encoding.decode(answers)
    assert estimate.rejected == (one, other)
    np.testing.assert_allclose(estimate.values, without.values, atol=1e-9)


@every
@pytest.mark.parametrize("count", [2, 4, 6])
def test_some_who_collude_on_one_constant_are_found(case, count):
    encoding, answers, _ = answered(case)
    byzantine = sorted(
        np.random.default_rng(2).choice(sorted(answers), count, replace=False).tolist()
    )
    without = encoding.decode({n: a for n, a in answers.items() if n not in byzantine})
    for byzantine_worker in byzantine:
        answers[byzantine_worker] = np.full((1, 6), 5.0)
    estimate = encoding.decode(answers)
    assert estimate.rejected == tuple(byzantine)
    np.testing.assert_allclose(estimate.values, without.values, atol=1e-9)


@every
def test_one_nan_and_another_shape_do_not_hide_a_byzantine_worker(case):
    encoding, answers, _ = answered(case, 3)
    mixed = [n for n in sorted(answers) if encoding.raw[n] is None]
    broken, odd, byzantine_worker = mixed[3], mixed[15], mixed[25]
    answers[broken][1, 2] = np.nan
    answers[odd] = np.zeros((3, 7))
    answers[byzantine_worker] = -answers[byzantine_worker]
    estimate = encoding.decode(answers)
    assert estimate.rejected == tuple(sorted((broken, odd, byzantine_worker)))
    assert np.isfinite(estimate.values).all()


@every
def test_a_wrong_answer_in_one_group_is_left_out_of_that_group_only(case):
    encoding, answers, _ = answered(case, 5)
    byzantine_worker = sorted(answers)[20]
    right = encoding.decode(answers)
    without = encoding.decode({n: a for n, a in answers.items() if n != byzantine_worker})
    answers[byzantine_worker][3] += 4.0
    estimate = encoding.decode(answers)
    assert estimate.rejected == (byzantine_worker,)
    if case == "spline, gcv":
        return  # its smoothing depends on all groups
    others = [0, 1, 2, 4]
    np.testing.assert_allclose(estimate.values[:, others], right.values[:, others], atol=1e-12)
    np.testing.assert_allclose(estimate.values[:, 3], without.values[:, 3], atol=1e-12)


@every
def test_a_byzantine_worker_in_over_half_of_the_groups_is_left_out_of_all(case):
    encoding, answers, _ = answered(case, 5)
    byzantine_worker = sorted(answers)[20]
    without = encoding.decode({n: a for n, a in answers.items() if n != byzantine_worker})
    answers[byzantine_worker][:3] += 4.0
    estimate = encoding.decode(answers)
    assert estimate.rejected == (byzantine_worker,)
    np.testing.assert_allclose(estimate.values, without.values, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
@every
def test_a_byzantine_worker_is_found_in_every_dtype(case, dtype):
    encoding, answers, _ = answered(case)
    if case == "lagrange" and dtype != np.complex128:
        pytest.skip("in single precision its decoder would amplify rounding too much")
    factor = 1 + 1j if np.issubdtype(dtype, np.complexfloating) else 1
    answers = {n: (factor * a).astype(dtype) for n, a in answers.items()}
    byzantine_worker = sorted(answers)[20]
    answers[byzantine_worker] = -answers[byzantine_worker]
    assert encoding.decode(answers).rejected == (byzantine_worker,)


@pytest.mark.parametrize("unit", [1e-200, 1e-25, 1e25, 1e200])
@every
def test_the_unit_of_the_answers_hides_no_wrong_one(case, unit):
    encoding, answers, _ = answered(case)
    answers = {n: unit * a for n, a in answers.items()}
    byzantine_worker = sorted(answers)[20]
    answers[byzantine_worker] = -answers[byzantine_worker]
    assert encoding.decode(answers).rejected == (byzantine_worker,)


@every
def test_of_many_outputs_those_that_are_looked_at_suffice(case):
    encoding, answers, _ = answered(case)
    answers = {n: np.repeat(a, 500, axis=1) for n, a in answers.items()}
    byzantine_worker = sorted(answers)[20]
    assert encoding.decode(answers).rejected == ()
    answers[byzantine_worker] = answers[byzantine_worker][:, ::-1]
    assert encoding.decode(answers).rejected == (byzantine_worker,)


@every
def test_on_smooth_functions_hardly_any_correct_answer_is_rejected(case):
    """Of 17,000 such jobs 5 lose one or two of their answers."""
    code, _ = CASES[case]
    curve = np.square if case == "lagrange" else np.sin
    rng, rejected = np.random.default_rng(0), 0
    for at in range(40):
        outputs, groups = rng.integers(1, 7), rng.integers(1, 9)
        A = rng.uniform(0.2, 3.0) * rng.standard_normal((4, outputs))
        phase = rng.uniform(0, 6, outputs)
        inputs = rng.standard_normal((code.tasks, groups, 4))
        encoding = code.encode(np.sort(inputs, axis=0) if at % 2 else inputs)
        slots = rng.permutation(N)[: N - S].tolist()
        answers = {n: curve(encoding.payloads[n] @ A + phase) for n in slots}
        rejected += len(encoding.decode(answers).rejected)
    assert rejected <= 1


@pytest.mark.parametrize("fn", first(1, [np.exp, np.square]))
@pytest.mark.parametrize("draws", first(1, [80, 300]))
@pytest.mark.parametrize("budget", [(36, 42, 9), (32, 66, 22)], ids=str)
def test_on_a_smooth_function_along_a_line_no_correct_answer_is_rejected(budget, fn, draws):
    code = cm.SplineCode(*budget)
    encoding = code.encode(np.linspace(-1, 1, code.tasks)[:, None, None])
    rng = np.random.default_rng(0)
    for _ in range(draws):
        some = rng.permutation(code.workers)[code.stragglers :].tolist()
        answers = {n: fn(encoding.payloads[n]) for n in some}
        assert encoding.decode(answers).rejected == ()


@every
@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 6))
def test_on_noise_alone_no_answer_is_rejected(case, seed, outputs):
    encoding, answers, _ = answered(case, seed=seed)
    rng = np.random.default_rng(seed)
    noise = {n: rng.standard_normal((1, outputs)) for n in answers}
    assert encoding.decode(noise).rejected == ()


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """The thousand digits that the network has not seen, (1000, 1, 28, 28)."""
    sys.path.insert(0, str(LENET))
    try:
        from digits import split
    finally:
        sys.path.remove(str(LENET))
    return split()[2]


@pytest.mark.parametrize(
    ("budget", "make"),
    crossed(
        [(25, 20, 3), (100, 20, 60), (60, 20, 20), (20, 8, 3), (12, 8, 2)],
        [cm.SplineCode, cm.BerrutCode],
    ),
)
def test_on_a_network_along_unrelated_digits_no_correct_answer_is_rejected(make, budget, digits):
    workers, tasks, stragglers = budget
    lenet = cm.OnnxModel(LENET / "lenet5-mnist.onnx")
    rng = np.random.default_rng(0)
    images = digits[rng.permutation(1000)][: 20 * tasks].reshape(tasks, 20, 1, 28, 28)
    encoding = make(tasks, workers, stragglers).encode(images)
    flat = encoding.payloads.reshape(-1, 1, 28, 28)
    outputs = lenet(flat).reshape(workers, 20, 10)
    for _ in range(10):
        slots = rng.permutation(workers)[: workers - stragglers]
        assert encoding.decode({int(n): outputs[n] for n in slots}).rejected == ()
    byzantine = rng.choice(slots, 2, replace=False).tolist()
    outputs[byzantine] += 1e3
    found = encoding.decode({int(n): outputs[n] for n in slots}).rejected
    assert found == tuple(sorted(byzantine))


def test_wrong_answers_on_neighbouring_rounding_errors_of_a_constant_are_none():
    code = cm.SplineCode(5, 30, 5)
    encoding = code.encode(np.ones((5, 4, 2)))
    rng = np.random.default_rng(0)
    answers = {n: 1 + 1e-15 * rng.standard_normal((4, 2)) for n in range(30)}
    answers[7] = answers[7] + 1e-12  # other hardware rounds otherwise
    assert encoding.decode(answers).rejected == ()
    answers[7] = answers[7] + 1e-3
    assert encoding.decode(answers).rejected == (7,)


def test_a_raw_answer_that_the_others_contradict_is_a_wrong_answer_and_its_task_an_estimate():
    code = cm.SplineCode(5, 31, 5)  # both have a point in the middle
    encoding = code.encode(sweep(5, 2))
    task, slot = next((t, n) for n, t in enumerate(encoding.raw) if t is not None)
    answers = {n: smooth(encoding.payloads[n]) for n in range(31)}
    assert encoding.decode(answers).exact[task].all()
    answers[slot] = answers[slot] + 2.0
    estimate = encoding.decode(answers)
    assert estimate.rejected == (slot,)
    assert not estimate.exact[task].any()
    assert np.abs(estimate.values[task] - smooth(sweep(5, 2)[task])).max() < 0.05


def test_a_polynomial_finds_as_many_byzantine_workers_as_it_has_pairs_of_spare_answers():
    code = cm.LagrangeCode(3, 14, 0, 2)  # 5 answers determine it
    inputs = sweep(3, 1)
    encoding = code.encode(inputs)
    answers = {n: quadratic(encoding.payloads[n]) for n in range(14)}
    for byzantine_worker in (2, 6, 11):
        answers[byzantine_worker] = answers[byzantine_worker] + byzantine_worker
    estimate = encoding.decode(answers)
    assert estimate.rejected == (2, 6, 11)
    np.testing.assert_allclose(estimate.values, quadratic(inputs), atol=1e-9)


def test_when_a_byzantine_worker_is_found_but_too_few_are_left_it_says_so():
    code = cm.LagrangeCode(8, 20, 0, 2)  # 15 answers determine it
    everyone = tuple(range(20))

    def growth(slots):
        return np.linalg.norm(code.decoder(slots, np.empty((0, 0))), 2)

    byzantine_worker = max(everyone, key=lambda n: growth(everyone[:n] + everyone[n + 1 :]))
    between = np.sqrt(
        growth(everyone) * growth(everyone[:byzantine_worker] + everyone[byzantine_worker + 1 :])
    )
    code = cm.LagrangeCode(8, 20, 0, 2, tolerance=float(between * 2**-52))
    encoding = code.encode(sweep(8, 1))
    answers = {n: quadratic(encoding.payloads[n]) for n in everyone}
    encoding.decode(answers)
    answers[byzantine_worker] = answers[byzantine_worker] + 5.0
    with pytest.raises(cm.NotEnoughAnswers, match="1 left out because they contradict the others"):
        encoding.decode(answers)


def test_a_byzantine_worker_among_few_answers_or_on_a_rough_function_cannot_be_found():
    rng = np.random.default_rng(0)
    code = cm.SplineCode(4, 6, 2)
    encoding = code.encode(sweep(4, 1))
    answers = {n: smooth(encoding.payloads[n]) for n in range(6)}
    assert encoding.decode({**answers, 2: -answers[2]}).rejected == ()
    rough = {n: rng.standard_normal((1, 6)) for n in range(N)}
    encoding = cm.SplineCode(K, N, S).encode(sweep(K, 1))
    assert encoding.decode({**rough, 2: -rough[2]}).rejected == ()


def test_a_code_without_a_precision_rejects_no_answer():
    class Silent(cm.BerrutCode):
        def precision(self, answered):
            return None

    encoding = Silent(5, 30, 5).encode(sweep(5, 1))
    answers = {n: smooth(encoding.payloads[n]) for n in range(30)}
    assert encoding.decode({**answers, 9: answers[9] + 1e6}).rejected == ()


def test_a_precision_may_be_one_plain_matrix():
    class Differences(cm.BerrutCode):
        def precision(self, answered):
            second = np.diff(np.eye(len(answered)), 2, axis=0)
            return second.T @ second

    encoding = Differences(5, 30, 0).encode(sweep(5, 1))
    answers = {n: smooth(encoding.payloads[n]) for n in range(30)}
    assert encoding.decode(answers).rejected == ()
    assert encoding.decode({**answers, 9: -answers[9]}).rejected == (9,)


@pytest.mark.parametrize("answers", [129, 150, 700])
def test_windows_judge_every_answer_once_and_hold_its_neighbours(answers):
    judged_by = np.zeros(answers, dtype=int)
    for held, core in windows(answers):
        rows = np.arange(answers)[held]
        judged_by[rows[core]] += 1
        assert len(rows) <= MOST_TOGETHER
        for row in rows[core][[0, -1]]:
            near = np.arange(max(0, row - 8), min(answers, row + 9))
            assert set(near) <= set(rows)
    assert (judged_by == 1).all()


def test_wrong_answers_among_many_hundreds_are_found_and_no_others():
    encoding = cm.SplineCode(100, 700, 100).encode(sweep(100, 3))
    rng = np.random.default_rng(0)
    for _ in range(3):
        slots = rng.permutation(700)[:600].tolist()
        answers = {n: smooth(encoding.payloads[n]) for n in slots}
        assert encoding.decode(answers).rejected == ()
        byzantine = sorted(rng.choice(slots, 20, replace=False).tolist())
        wrong_answers = {n: answers[n] + 5 * rng.normal(size=answers[n].shape) for n in byzantine}
        assert encoding.decode({**answers, **wrong_answers}).rejected == tuple(byzantine)


def test_of_three_answers_or_of_very_many_none_is_rejected():
    assert curve_precision(np.arange(3.0)) is None
    wrong = np.zeros((2001, 1, 1))
    wrong[7] = 1.0
    code = cm.SplineCode(2, 2001, 0)
    assert code.outliers(tuple(range(2001)), wrong) is None
    assert code.outliers(tuple(range(2000)), wrong[:2000]).nonzero()[0].tolist() == [7]


@pytest.mark.parametrize("n", [5, 12, 40])
def test_residuals_are_those_of_leaving_one_out(n):
    rng = np.random.default_rng(n)
    at = np.sort(rng.choice(100, n, replace=False)).astype(float)
    precision = curve_precision(at)
    y = rng.standard_normal(n)
    from scipy.interpolate import CubicSpline

    for i in range(1, n - 1):
        others = np.delete(np.arange(n), i)
        predicted = CubicSpline(at[others], y[others], bc_type="natural")(at[i])
        matrix = precision.matrices[0]
        assert (matrix[i] @ y) / matrix[i, i] == pytest.approx(y[i] - predicted)
    gone = np.zeros(n, dtype=bool)
    gone[[1, 3]] = True
    alone, part = curve_precision(at[~gone]), precision.without(gone)
    if alone is not None:
        np.testing.assert_allclose(part.matrices, alone.matrices, atol=1e-12)
        apart = np.diff(part.logdets) - np.diff(alone.logdets)
        np.testing.assert_allclose(apart, 0, atol=1e-7)


def test_a_precision_without_freedom_rejects_no_answer():
    answers = np.random.default_rng(0).standard_normal((5, 1, 2))
    assert find_outliers(answers, Precision(np.zeros((1, 5, 5)), np.zeros(1), 5)) is None
