"""Optimisers on sums: properties of the sketch, the formula of AMSGrad, and results that no code may change."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codedmap as cm
from codedmap.testing import Scripted, corrupt, crash, never
from codedmap.training import AMSGrad, CountSketch, SketchedAMSGrad

from ..repeats import first

CODES = (
    cm.codes.FractionalRepetition(12, 2),
    cm.codes.CyclicGradientCode(12, 2),
    cm.codes.PolynomialGradientCode(12, 2, 3),
    cm.codes.GroupedGradientCode(12, 4, 2),
)
every = pytest.mark.parametrize("code", CODES, ids=repr)
D = 300
RNG = np.random.default_rng(0)
PARTS = list(RNG.standard_normal((12, D)) + np.linspace(-2, 2, D))
START = np.zeros(D)
FEW = {"columns": 20, "k": 40}


def gradient(part, weights):
    return weights - part


def trained(make, code, *, steps=3, script=None, parts=PARTS, fn=gradient):
    """The optimiser after a few steps, and the steps."""
    with Scripted(code.workers, script or {}) as engine:
        shards = cm.CodedParts(parts, code=code, engine=engine)
        optimizer = make()
        return optimizer, [optimizer.step(fn, shards) for _ in range(steps)]


def sketched(weights=START, rate=0.05, **more):
    return SketchedAMSGrad(weights, rate, **(FEW | more))


# The sketch.

sizes = st.tuples(st.integers(1, 200), st.integers(1, 40), st.integers(1, 6), st.integers(0, 9))


@given(sizes, st.integers(0, 1000))
@settings(max_examples=50)
def test_a_sketch_is_linear(sizes, seed):
    sketch = CountSketch(*sizes)
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, sketch.size))
    both = sketch(2.5 * a - b)
    assert both.shape == (sketch.rows, sketch.columns)
    assert np.allclose(both, 2.5 * sketch(a) - sketch(b), atol=1e-12)


@given(sizes)
@settings(max_examples=50)
def test_a_lone_entry_comes_back_as_it_is(sizes):
    sketch = CountSketch(*sizes)
    vector = np.zeros(sketch.size)
    vector[sketch.size // 2] = -3.25
    assert sketch.estimate(sketch(vector))[sketch.size // 2] == -3.25


@pytest.mark.parametrize("rows", first(1, [4, 1, 5]))
def test_estimates_are_right_on_average(rows):
    vector = RNG.standard_normal(60)
    drawn = np.array(
        [
            sketch.estimate(sketch(vector))
            for sketch in (CountSketch(60, 15, rows, seed) for seed in range(1500))
        ]
    )
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    # Of 60 means of 1500, none is farther off than five standard errors.
    assert (np.abs(drawn.mean(axis=0) - vector) < 5 * error).all()
    # And no estimate of one row has a larger spread than is said.
    if rows == 1:
        assert (drawn.std(axis=0) < 1.15 * np.linalg.norm(vector) / np.sqrt(15)).all()


def test_large_entries_are_found_among_many_small_ones():
    # A small entry is taken for a large one where it shares its columns with these in 5 of 9 rows:
    # 126 (10 / 150)⁵ / 16 of 5000, 0.05 of a vector. With 5 rows it would be 4 of each.
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        vector = rng.standard_normal(5000) * 0.1
        heavy = rng.choice(5000, 10, replace=False)
        vector[heavy] = rng.choice([-10.0, 10.0], 10)
        sketch = CountSketch(5000, 150, rows=9, seed=seed)
        guess = np.abs(sketch.estimate(sketch(vector))).argsort()[-10:]
        found += len(set(guess) & set(heavy))
    assert found >= 0.99 * 200


def test_the_same_seed_gives_the_same_sketch_and_another_another():
    vector = RNG.standard_normal(100)
    one, other = CountSketch(100, 10), CountSketch(100, 10, seed=1)
    assert np.array_equal(one(vector), pickle.loads(pickle.dumps(one))(vector))
    assert not np.allclose(one(vector), other(vector))
    # What a seed gives is part of what was trained with it: pinned.
    assert CountSketch(6, 3, rows=2)(np.arange(6.0)).tolist() == [[-2.0, 0.0, 1.0], [9.0, 1.0, 5.0]]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("float16", "float32"), ("float32", "float32"), ("float64", "float64"), ("int32", "float64")],
)
def test_a_sketch_keeps_the_precision(given, kept):
    sketch = CountSketch(50, 10)
    table = sketch(np.ones(50, given))
    assert table.dtype == kept
    assert sketch.estimate(table).dtype == kept


@pytest.mark.parametrize(
    "make",
    [
        lambda: CountSketch(0, 5),
        lambda: CountSketch(10, 0),
        lambda: CountSketch(10, 5, rows=0),
        lambda: CountSketch(10, 5, seed=-1),
        lambda: CountSketch(10, 5, seed=(0, 0.5)),
        lambda: CountSketch(10, 5)(np.ones(9)),
        lambda: CountSketch(10, 5)(np.ones((10, 1))),
        lambda: CountSketch(10, 5)(np.ones(10, complex)),
        lambda: CountSketch(10, 5).estimate(np.ones((4, 5))),
    ],
)
def test_a_sketch_refuses_what_it_cannot_take(make):
    with pytest.raises(cm.InvalidArgument):
        make()


# AMSGrad.


def test_amsgrad_is_the_formula():
    optimizer, steps = trained(lambda: AMSGrad(START, 0.05, epsilon=1e-4), CODES[0], steps=5)
    weights, m, v, largest = START, 0.0, 1e-4, 1e-4
    for _ in range(5):
        g = weights - np.mean(PARTS, axis=0)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        largest = np.maximum(largest, v)
        weights = weights - 0.05 * m / np.sqrt(largest)
    assert np.allclose(optimizer.weights, weights, atol=1e-12)
    assert optimizer.steps == steps[-1].number == 5
    assert steps[-1].sum.exact


def test_update_takes_a_gradient_from_another_source():
    by_sum, _ = trained(lambda: AMSGrad(START, 0.05), CODES[0], steps=1)
    by_hand = AMSGrad(START, 0.05)
    by_hand.update(START - np.mean(PARTS, axis=0))
    assert np.allclose(by_hand.weights, by_sum.weights, atol=1e-12)


# SketchedAMSGrad.


@every
def test_no_code_and_no_straggler_changes_the_result(code):
    plain, steps = trained(sketched, cm.codes.FractionalRepetition(12, 0))
    script = {3: never(), 7: crash()}
    coded, coded_steps = trained(sketched, code, script=script)
    assert np.allclose(coded.weights, plain.weights, atol=1e-9)
    assert not np.allclose(plain.weights, START)
    for one, other in zip(steps, coded_steps, strict=True):
        assert np.array_equal(one.changed, other.changed)
        assert other.sum.exact


def test_only_the_sketch_is_sent():
    _, steps = trained(sketched, cm.codes.FractionalRepetition(12, 0))
    assert [step.sum.received for step in steps] == [12 * 8 * 5 * 20] * 3
    _, steps = trained(sketched, cm.codes.GroupedGradientCode(12, 4, 2))
    # From as many answers as had come, half of the sketch each.
    first = steps[0].sum
    assert first.received == len(first.answered) * 8 * 50


@given(st.integers(0, 100), st.sampled_from([1, 7, 40, D]), st.booleans())
@settings(max_examples=20)
def test_error_feedback_loses_nothing(seed, k, falling):
    """Σ α_s √v̂_s Δ_s + α_t e_t = Σ α_s m_s, from what can be seen from outside."""
    rate = (lambda t: 0.1 / np.sqrt(t)) if falling else 0.1
    optimizer = SketchedAMSGrad(START, rate, columns=20, k=k, seed=seed)
    code = cm.codes.FractionalRepetition(12, 0)
    m, second, largest = np.zeros(D), np.full(D, 1e-8), np.full(D, 1e-8)
    applied, owed = np.zeros(D), np.zeros(D)
    with Scripted(12) as engine:
        shards = cm.CodedParts(PARTS, code=code, engine=engine)
        for number in range(1, 6):
            before, sketch = optimizer.weights, optimizer.sketch
            estimate = sketch.estimate(sketch(before - np.mean(PARTS, axis=0)))
            step = optimizer.step(gradient, shards)
            m = 0.9 * m + 0.1 * estimate
            second = 0.999 * second + 0.001 * estimate**2
            largest = np.maximum(largest, second)
            alpha = rate(number) if falling else rate
            applied += (before - optimizer.weights) * np.sqrt(largest)
            owed += alpha * m
            assert np.allclose(applied + alpha * optimizer.error, owed, atol=1e-9)
            assert np.isin(np.flatnonzero(before - optimizer.weights), step.changed).all()
            assert len(step.changed) == k
            assert np.count_nonzero(optimizer.error) <= D - k


def test_a_sketched_step_is_the_formula():
    def largest(values, count):
        return np.abs(values).argsort()[-count:]

    weights, error, m, v, v_max = START, 0.0, 0.0, 1e-8, 1e-8
    for number in range(1, 6):
        sketch = CountSketch(D, 20, seed=(7, number))
        true = weights - np.mean(PARTS, axis=0)
        estimate = sketch.estimate(sketch(true))
        m, v = 0.9 * m + 0.1 * estimate, 0.999 * v + 0.001 * estimate**2
        v_max = np.maximum(v_max, v)
        carried = m + error
        changed = largest(carried / np.sqrt(v_max), 40)
        error = carried.copy()
        error[changed] = 0.0
        weights = weights - 0.05 * (carried - error) / np.sqrt(v_max)
    optimizer, _ = trained(lambda: sketched(seed=7), CODES[0], steps=5)
    assert np.allclose(optimizer.weights, weights, atol=1e-9)
    assert np.allclose(optimizer.error, error, atol=1e-9)


def test_it_trains():
    mean = np.mean(PARTS, axis=0)
    optimizer, _ = trained(lambda: sketched(rate=0.04), CODES[0], steps=150)
    assert np.linalg.norm(optimizer.weights - mean) < 0.1 * np.linalg.norm(mean)


def test_a_step_describes_itself():
    for make in (sketched, lambda: AMSGrad(START, 0.1)):
        _, steps = trained(make, CODES[0])
        assert [step.number for step in steps] == [1, 2, 3]
    _, steps = trained(sketched, cm.codes.IgnoreStragglers(12, 2), script={0: never()})
    assert not steps[0].sum.exact
    message = str(steps[1])
    assert message.startswith("step 2: ")
    assert "sum not exact" in message
    assert message.endswith("40 weights changed")


def test_every_step_has_hashes_of_its_own_and_seeds_are_reproducible():
    one, _ = trained(sketched, CODES[0])
    same, _ = trained(sketched, CODES[0])
    other, _ = trained(lambda: sketched(seed=1), CODES[0])
    assert np.array_equal(one.weights, same.weights)
    assert not np.array_equal(one.weights, other.weights)
    assert one.sketch.seed == (0, 4)


@pytest.mark.parametrize("make", [sketched, lambda w: AMSGrad(w, 0.05)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_and_shape_are_kept(make, dtype):
    start = START.astype(dtype).reshape(3, 100)
    parts = [part.reshape(3, 100) for part in PARTS]
    optimizer, steps = trained(lambda: make(start), CODES[0], parts=parts)
    assert optimizer.weights.dtype == dtype
    assert optimizer.weights.shape == (3, 100)
    assert steps[0].sum.value.dtype in ("float64", dtype)
    with pytest.raises(ValueError, match="read-only"):
        optimizer.weights[0] = 1


def test_the_start_is_copied():
    start = START.copy()
    optimizer, _ = trained(lambda: sketched(start), CODES[0])
    assert not start.any()
    assert optimizer.weights.any()


def test_float32_gradients_travel_as_float32():
    _, steps = trained(
        lambda: sketched(START.astype("float32")),
        cm.codes.FractionalRepetition(12, 0),
        parts=[part.astype("float32") for part in PARTS],
    )
    assert steps[0].sum.received == 12 * 4 * 100


def test_a_pickled_optimizer_continues_alike():
    code = CODES[0]
    with Scripted(12) as engine:
        shards = cm.CodedParts(PARTS, code=code, engine=engine)
        one = sketched()
        one.step(gradient, shards)
        other = pickle.loads(pickle.dumps(one))
        for optimizer in (one, other):
            optimizer.step(gradient, shards)
    assert np.array_equal(one.weights, other.weights)


# What is refused.


@every
@pytest.mark.parametrize("make", [sketched, lambda: AMSGrad(START, 0.1)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_refused_with_the_part(code, make, bad):
    parts = [part.copy() for part in PARTS]
    parts[5][17] = bad
    optimizer = make()
    with Scripted(12) as engine:
        shards = cm.CodedParts(parts, code=code, engine=engine)
        with pytest.raises(cm.NotEnoughAnswers) as error:
            optimizer.step(gradient, shards)
    assert isinstance(error.value.__cause__, cm.InvalidAnswer)
    assert "for part 5" in str(error.value.__cause__)
    assert optimizer.steps == 0
    assert not optimizer.weights.any()


def test_a_failed_step_can_be_repeated():
    optimizer, again = sketched(), sketched()
    acts = [cm.testing.fail(OSError("gone"))]
    with Scripted(12, {0: acts, 4: acts, 8: acts}) as engine:
        shards = cm.CodedParts(PARTS, code=CODES[0], engine=engine)
        with pytest.raises(cm.NotEnoughAnswers):
            optimizer.step(gradient, shards)
        assert optimizer.steps == 0
        optimizer.step(gradient, shards)
        again.step(gradient, shards)
    assert np.array_equal(optimizer.weights, again.weights)


def test_a_wrong_answer_is_found_in_a_sketch_as_in_a_gradient():
    from dataclasses import replace

    double = corrupt(lambda piece: replace(piece, values=2 * piece.values))
    with Scripted(12, {4: double}) as engine:
        shards = cm.CodedParts(PARTS, code=CODES[0], engine=engine)
        step = sketched().step(gradient, shards, stop=cm.Everyone())
    assert set(step.sum.rejected) == {4}


@pytest.mark.parametrize("make", [sketched, lambda: AMSGrad(START, 0.1)])
@pytest.mark.parametrize(
    "wrong", [lambda part, weights: weights[:-1], lambda part, weights: weights.astype(complex)]
)
def test_a_gradient_of_another_shape_is_refused(make, wrong):
    optimizer = make()
    with pytest.raises((cm.NotEnoughAnswers, cm.InvalidAnswer)) as error:
        trained(lambda: optimizer, CODES[0], fn=wrong)
    message = str(error.value.__cause__ or error.value)
    assert "does not fit weights of shape (300,)" in message
    assert optimizer.steps == 0


def test_a_step_to_infinity_is_refused_and_not_made():
    optimizer = AMSGrad(np.zeros(3), 1e308)
    with pytest.raises(cm.InvalidAnswer, match="step 1 would make 3 of 3 weights infinite"):
        optimizer.update(np.ones(3))
    assert optimizer.steps == 0
    assert not optimizer.weights.any()
    optimizer = sketched(rate=1e308)
    with pytest.raises(cm.InvalidAnswer, match="learning rate of less than"):
        trained(lambda: optimizer, CODES[0])
    assert np.isfinite(optimizer.weights).all()


def stepped(**more):
    with Scripted(12) as engine:
        sketched().step(gradient, cm.CodedParts(PARTS, code=CODES[0], engine=engine), **more)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AMSGrad(np.arange(3), 0.1), "int64"),
        (lambda: AMSGrad(np.zeros(0), 0.1), "at least one number"),
        (lambda: AMSGrad(np.array([1.0, np.nan]), 0.1), "1 of 2 weights"),
        (lambda: AMSGrad(START, 0.0), "learning_rate=0.0 must"),
        (lambda: AMSGrad(START, 0.1, betas=(0.9, 1.0)), "betas"),
        (lambda: AMSGrad(START, 0.1, betas=0.9), "betas"),
        (lambda: AMSGrad(START, 0.1, epsilon=0), "epsilon"),
        (lambda: sketched(k=0), "k=0"),
        (lambda: sketched(k=D + 1), "more than the 300 weights"),
        (lambda: sketched(columns=60), "no fewer than the 300"),
        (lambda: sketched(seed=-1), "seed"),
        (lambda: AMSGrad([[1.0], [2.0, 3.0]], 0.1), "cannot be made an array"),
        (lambda: trained(sketched, CODES[0], fn="loss"), "gradient='loss' must be a function"),
        (lambda: trained(lambda: AMSGrad(START, 0.1), CODES[0], fn=None), "must be a function"),
        (lambda: stepped(args=3), "args is of type int, and must be a tuple"),
        (lambda: sketched().step(gradient, PARTS), "CodedParts"),
        (lambda: AMSGrad(START, 0.1).step(gradient, PARTS), "CodedParts"),
    ],
)
def test_arguments_that_cannot_work_are_refused(make, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        make()


def test_a_schedule_of_learning_rates_is_followed_and_checked():
    steady, _ = trained(lambda: AMSGrad(START, 0.05), CODES[0], steps=1)
    halved, _ = trained(lambda: AMSGrad(START, lambda t: 0.025 * t), CODES[0], steps=1)
    assert np.allclose(2 * halved.weights, steady.weights)
    with pytest.raises(cm.InvalidArgument, match="step 3"):
        trained(lambda: AMSGrad(START, lambda t: 0.1 * (3 - t)), CODES[0])


def test_the_repr_says_what_is_sent():
    assert repr(sketched()) == (
        "<SketchedAMSGrad: 300 weights in float64, 0 steps made; 100 numbers are sent, 40 weights "
        "change at a step>"
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_whose_square_is_infinite_freezes_no_weight(dtype):
    large = float(np.finfo(dtype).max) ** 0.6
    optimizer = AMSGrad(np.zeros(2, dtype), 0.1)
    with pytest.raises(cm.InvalidAnswer, match="squares of 1 of 2 numbers of the gradient"):
        optimizer.update(np.array([large, 1.0]))
    assert optimizer.steps == 0
    for _ in range(3):
        optimizer.update(np.ones(2))
    assert (optimizer.weights < -0.1).all()
    start = np.zeros(300, dtype)
    sketches = SketchedAMSGrad(start, 0.1, columns=20)
    with pytest.raises(cm.InvalidAnswer, match="squares of"):
        trained(lambda: sketches, CODES[0], fn=lambda part, weights: np.full(300, large))
    assert sketches.steps == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"epsilon": 1e-50}, "epsilon=1e-50 is 0 in float32"),
        ({"epsilon": 1e50}, "epsilon=1e\\+50 is inf in float32"),
        ({"betas": (0.9, 1 - 1e-9)}, "are 1 in float32"),
    ],
)
def test_parameters_that_single_precision_rounds_away_are_refused(more, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        AMSGrad(np.zeros(2, np.float32), 0.1, **more)
    AMSGrad(np.zeros(2), 0.1, **more)
