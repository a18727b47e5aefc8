"""Byzantine workers of a KernelCode: which are found, and which cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import codedmap as cm
from codedmap.codes import kernel
from codedmap.testing import Scripted, corrupt

from ..repeats import first

Function = Callable[[np.ndarray], np.ndarray]


def network(rng: np.random.Generator, columns: int = 5, outputs: int = 10) -> Function:
    one = rng.standard_normal((columns, 24)) / np.sqrt(columns)
    two, shift = rng.standard_normal((24, outputs)), rng.standard_normal(24)
    return lambda x: np.tanh(x @ one + shift) @ two


def waves(rng: np.random.Generator) -> Function:
    slopes = rng.standard_normal((3, 8))
    return lambda x: np.sin(x @ slopes)


def quadratic(rng: np.random.Generator) -> Function:
    one, two = rng.standard_normal((4, 6)), 0.3 * rng.standard_normal((4, 6))
    return lambda x: x @ one + (x @ two) ** 2


def pendulum(rng: np.random.Generator) -> Function:
    times = np.linspace(0.2, 3.0, 12)

    def damped(x: np.ndarray) -> np.ndarray:
        turn, damping, height = (np.tanh(x[..., i : i + 1]) for i in range(3))
        return (
            (1 + 0.5 * height) * np.exp(-0.3 * times) * np.cos((2 + 0.6 * turn + damping) * times)
        )

    return damped


def single(rng: np.random.Generator) -> Function:
    one, two = rng.standard_normal((2, 6)) / 1.4, rng.standard_normal((6, 1))
    return lambda x: np.tanh(x @ one) @ two


FUNCTIONS: dict[str, tuple[int, Callable[[np.random.Generator], Function]]] = {
    "network": (5, network),
    "wide network": (30, lambda rng: network(rng, 30, 100)),
    "waves": (3, waves),
    "quadratic": (4, quadratic),
    "pendulum": (3, pendulum),
    "single output": (2, single),
}
SEVERAL = [name for name in FUNCTIONS if name != "single output"]
FEW = ["single output", "waves", "wide network"]
"""The least outputs, the roughest function and the most columns."""
NOISE = np.random.default_rng(1).standard_normal((20, 1))
"""Of a worker, in each group."""


@dataclass
class Wave:
    """One call in which some workers are wrong."""

    encoding: object
    answers: dict[int, np.ndarray]
    truth: np.ndarray
    elsewhere: Callable[[int], np.ndarray]
    """Answers (B, *y) to other inputs."""
    byzantine: list[int]

    @property
    def deviation(self) -> np.ndarray:
        return self.truth.reshape(-1, self.truth.shape[-1]).std(axis=0)


def wave(name, seed, wrong_workers=6, workers=60, groups=1, apart=False, **options) -> Wave:
    """``apart``: no two Byzantine workers in the cell of one task."""
    rng = np.random.default_rng([seed, sorted(FUNCTIONS).index(name)])
    columns, make = FUNCTIONS[name]
    fn = make(rng)
    inputs = rng.standard_normal((20, groups, columns))
    encoding = cm.KernelCode(20, workers, 0, **options).encode(inputs)
    answers = {n: fn(encoding.payloads[n]) for n in range(workers)}
    byzantine = rng.permutation(workers)[:wrong_workers].tolist()
    if apart:
        homes = encoding.cells.home[:, 0]
        tasks = rng.permutation(20)[:wrong_workers]
        byzantine = [int(rng.choice(np.flatnonzero(homes == task))) for task in tasks]

    def elsewhere(seed: int) -> np.ndarray:
        other = np.random.default_rng(seed).standard_normal((groups, columns))
        return fn(other)

    return Wave(encoding, answers, fn(inputs), elsewhere, byzantine)


def gross(one: Wave) -> None:
    """Off by 5 to 15 deviations in every output."""
    rng = np.random.default_rng(one.byzantine)
    for n in one.byzantine:
        size = rng.uniform(5, 15, one.answers[n].shape) * rng.choice([-1, 1], one.answers[n].shape)
        one.answers[n] = one.answers[n] + size * one.deviation


def constant(one: Wave) -> None:
    """All Byzantine workers answer the same, three deviations from the mean in every output."""
    rng = np.random.default_rng(one.byzantine)
    sides = rng.choice([-1, 1], one.truth.shape[-1])
    said = one.truth.mean(axis=(0, 1)) + 3 * sides * one.deviation
    for n in one.byzantine:
        one.answers[n] = np.broadcast_to(said, one.answers[n].shape).copy()


def zeros(one: Wave) -> None:
    for n in one.byzantine:
        one.answers[n] = np.zeros_like(one.answers[n])


def flipped(one: Wave) -> None:
    for n in one.byzantine:
        one.answers[n] = -one.answers[n]


def swapped(one: Wave) -> None:
    """Byzantine workers have each other's answers."""
    before = [one.answers[n] for n in one.byzantine]
    for n, other in zip(one.byzantine, before[1:] + before[:1], strict=True):
        one.answers[n] = other


def stale(one: Wave) -> None:
    """Answers to other inputs."""
    for n in one.byzantine:
        one.answers[n] = one.elsewhere(n)


@dataclass
class Tally:
    """Rates over some calls."""

    caught: float
    accused: float
    """Correct workers rejected per call."""
    error: float
    """Root mean square, in deviations."""
    missed: list[float]
    """Sizes of wrong answers not found, root mean square in deviations."""


def tally(name, kind, count=2, **options) -> Tally:
    found, accused, squares, missed = 0, 0, [], []
    for seed in range(count):
        one = wave(name, seed, **options)
        honest = dict(one.answers)
        kind(one)
        estimate = one.encoding.decode(one.answers)
        found += len(set(one.byzantine) & set(estimate.rejected))
        accused += len(set(estimate.rejected) - set(one.byzantine))
        squares.append((((estimate.values - one.truth) / one.deviation) ** 2).mean())
        for n in set(one.byzantine) - set(estimate.rejected):
            off = (one.answers[n] - honest[n]) / one.deviation
            missed.append(float(np.sqrt((off**2).mean())))
    total = count * len(one.byzantine)
    error = float(np.sqrt(np.mean(squares)))
    return Tally(found / total if total else 1.0, accused / count, error, missed)


@pytest.mark.parametrize(
    ("name", "groups"), [*((name, 6) for name in FUNCTIONS), *((name, 1) for name in FEW)]
)
def test_correct_workers_are_not_rejected(name, groups):
    scores = tally(name, lambda one: None, wrong_workers=0, groups=groups)
    assert scores.accused == 0
    assert scores.error == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    first(
        1,
        [
            ("network", gross),
            ("quadratic", constant),
            ("pendulum", gross),
            ("waves", gross),
            ("waves", constant),
            ("wide network", constant),
        ],
    ),
)
def test_six_gross_or_colluding_byzantine_workers_of_sixty_are_found(name, kind):
    scores = tally(name, kind, groups=6)
    assert scores.caught >= 0.99
    assert scores.accused < 0.3
    assert scores.error < 0.1


@pytest.mark.parametrize("name", first(1, ["pendulum", "single output", "waves"]))
def test_six_who_answer_zero_which_is_near_many_right_answers_are_nearly_all_found(name):
    scores = tally(name, zeros, groups=6)
    large = [size for size in scores.missed if size > 0.5]
    assert len(large) <= 0.05 * 2 * 6
    assert scores.accused < 0.3
    assert scores.error < 0.1


def test_with_a_single_output_gross_byzantine_workers_are_found():
    scores = tally("single output", gross, groups=6)
    assert scores.caught >= 0.99
    assert scores.accused < 0.3
    assert scores.error < 0.1


@pytest.mark.parametrize(
    ("name", "kind"),
    first(
        2,
        [
            ("network", flipped),
            ("pendulum", swapped),
            ("quadratic", stale),
            ("single output", flipped),
            ("waves", flipped),
            ("waves", swapped),
            ("wide network", swapped),
            ("single output", stale),
            ("wide network", stale),
        ],
    ),
)
def test_plausible_answers_in_different_cells_are_found_unless_they_are_nearly_right(name, kind):
    scores = tally(name, kind, apart=True, groups=6)
    large = [size for size in scores.missed if size > 0.5]
    assert len(large) == 0
    assert scores.accused < 0.3
    assert scores.error < 0.1


@pytest.mark.parametrize("name", first(1, FEW))
def test_with_a_quarter_more_workers_than_tasks_three_gross_byzantine_workers_of_four_are_found(
    name,
):
    scores = tally(name, gross, count=4, wrong_workers=1, workers=25, groups=6)
    assert scores.caught >= 0.75
    assert scores.accused < 0.3


def test_a_gross_error_in_one_answer_is_found_where_a_function_is_so_smooth_that_all_near_are_off():
    """Others were off by a millionth of it, which is more than most, and so did not contradict it."""
    for seed in range(4):
        inputs = np.random.default_rng(seed).uniform(0, 1.5, (20, 5, 2))
        encoding = cm.KernelCode(20, 60, 0).encode(inputs)
        answers = dict(enumerate(np.exp(-encoding.payloads.sum(axis=-1, keepdims=True))))
        answers[7][2] += 50.0
        assert encoding.decode(answers).rejected == (7,)


@pytest.mark.parametrize(
    "odd", first(2, [np.zeros(3), np.zeros((6, 2)), np.full((6, 6), "x"), None])
)
def test_answers_of_another_shape_or_kind_are_always_found(odd):
    one = wave("quadratic", 0, groups=6)
    estimate = one.encoding.decode(one.answers | dict.fromkeys(one.byzantine, odd))
    assert set(estimate.rejected) == set(one.byzantine)
    assert np.abs(estimate.values - one.truth).max() < 0.1 * one.deviation.max()


@pytest.mark.parametrize("name", FEW)
def test_infinity_is_wrong_of_a_mixture_and_an_answer_to_a_raw_input(name):
    for seed in range(2):
        one = wave(name, seed, groups=3)
        for n in one.byzantine:
            one.answers[n] = np.full_like(one.answers[n], np.inf)
        estimate = one.encoding.decode(one.answers)
        raw = [n for n in one.byzantine if n < 20]
        assert set(estimate.rejected) == set(one.byzantine) - set(raw)
        np.testing.assert_array_equal(estimate.values[raw], np.inf)
        assert estimate.exact.all()


@pytest.mark.parametrize("name", first(1, FEW))
def test_nan_is_wrong_wherever_a_mixture_of_that_input_is_finite(name):
    for seed in range(2):
        one = wave(name, seed, groups=3)
        for n in one.byzantine:
            one.answers[n][..., -1] = np.nan
        estimate = one.encoding.decode(one.answers)
        assert set(estimate.rejected) == set(one.byzantine)
        raw = [n for n in one.byzantine if n < 20]
        assert not estimate.exact[raw].any()
        error = np.sqrt((((estimate.values - one.truth) / one.deviation) ** 2).mean())
        assert error < 0.1
        for n in range(20, 60):  # nothing contradicts the raw answers any more
            one.answers.pop(n)
        alone = one.encoding.decode(one.answers)
        assert np.isnan(alone.values[raw]).any(axis=-1).all()
        assert alone.exact[raw].all()


@pytest.mark.parametrize("always", first(1, [True, False]))
def test_nan_is_wrong_of_a_worker_that_few_mixtures_are_near_to_but_all_contradict(always):
    encoding = cm.KernelCode(20, 24, 0).encode(np.random.default_rng(0).normal(size=(20, 30, 2)))
    near = (encoding.cells.home[20:, :, None] == np.arange(20)).any(axis=0)
    slot = int(np.flatnonzero(near.sum(axis=0) == 3)[0])
    answers = dict(enumerate(np.sin(encoding.payloads)))
    contradicted = np.flatnonzero(near[:, slot])[: 3 if always else 1]
    nan = np.ones(30, dtype=bool) if always else ~near[:, slot]
    nan[contradicted] = True
    answers[slot][nan] = np.nan
    estimate = encoding.decode(answers)
    assert estimate.rejected == (slot,)
    assert (np.isfinite(estimate.values[slot, nan]).all(axis=1) == ~estimate.exact[slot, nan]).all()
    assert (~estimate.exact[slot, nan]).sum() == (30 if always else 1)


@pytest.mark.parametrize("name", first(1, FEW))
def test_with_confirm_what_is_not_finite_is_estimated_instead(name):
    for seed in range(2):
        one = wave(name, seed, groups=3, confirm=2)
        for n in one.byzantine:
            one.answers[n] = one.answers[n] * np.nan
        estimate = one.encoding.decode(one.answers)
        assert set(one.byzantine) <= set(estimate.rejected)
        error = np.sqrt((((estimate.values - one.truth) / one.deviation) ** 2).mean())
        assert error < 0.1


def test_nothing_but_nan_is_passed_on_even_with_confirm():
    one = wave("waves", 0, confirm=2)
    estimate = one.encoding.decode({n: np.full((1, 8), np.nan) for n in range(20)})
    assert np.isnan(estimate.values).all()
    assert not estimate.exact.any()
    assert np.isinf(estimate.stderr).all()
    assert estimate.rejected == ()


def test_a_call_reports_byzantine_workers():
    fn = FUNCTIONS["network"][1](np.random.default_rng(1))
    X = np.random.default_rng(2).standard_normal((200, 5))
    script = {
        2: corrupt(lambda answer: -answer),
        31: corrupt(lambda answer: answer[::-1]),
        44: corrupt(lambda answer: answer * np.nan),
        58: corrupt(lambda answer: answer[:-1]),
    }
    with Scripted(60, script) as engine:
        result = cm.map(fn, X, code=cm.KernelCode(20, 60, 0), engine=engine)
    assert result.rejected == (2, 31, 44, 58)
    assert np.sqrt(((result.values - fn(X)) ** 2).mean()) < 0.05 * fn(X).std()
    assert (result.stderr[~result.exact] > 0).all()


# What cannot be found, and what is said of it


@pytest.mark.parametrize("name", first(2, SEVERAL))
def test_a_small_bias_spoils_no_more_than_itself(name):
    def biased(one: Wave) -> None:
        for n in one.byzantine:
            one.answers[n] = one.answers[n] + 0.1 * one.deviation

    scores = tally(name, biased)
    assert scores.error < 0.1
    assert all(size < 0.11 for size in scores.missed)


@pytest.mark.parametrize("name", first(1, ["network", "pendulum", "wide network"]))
def test_two_workers_wrong_alike_in_one_cell_are_found_by_other_cells(name):
    # They confirm each other, and contradict the correct third one, in every group.
    right = 0
    for seed in range(3):
        one = wave(name, seed, groups=5)
        for n in (5, 25):
            one.answers[n] = -one.answers[n]
        rejected = set(one.encoding.decode(one.answers).rejected)
        right += {5, 25} <= rejected and 45 not in rejected
    assert right == 3


def test_a_wrong_answer_to_an_isolated_input_is_not_found_and_confirm_states_no_certainty():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20, 1, 3))
    inputs[7] += 1000.0
    fn = FUNCTIONS["waves"][1](rng)
    for confirm in (1, 2):
        # 20 workers: no other worker computes anything near it.
        encoding = cm.KernelCode(20, 20, 0, confirm=confirm).encode(inputs)
        answers = {n: fn(encoding.payloads[n]) for n in range(20)}
        answers[7] = -answers[7]
        estimate = encoding.decode(answers)
        assert estimate.rejected == ()
        off = np.sqrt(((estimate.values[7] - fn(inputs[7])) ** 2).mean())
        assert off > 0.5
        if confirm == 1:
            assert estimate.exact.all()
        else:
            assert not estimate.exact.any()
            assert np.sqrt((estimate.stderr[7, 0] ** 2).mean()) > 0.3 * off


def test_where_outputs_take_a_few_values_no_answer_is_rejected_and_confirm_states_no_certainty():
    inputs = np.random.default_rng(0).standard_normal((20, 1, 3))
    for confirm in (1, 2):
        encoding = cm.KernelCode(20, 60, 0, confirm=confirm).encode(inputs)
        answers = {n: np.sign(encoding.payloads[n]) for n in range(60)}
        answers[3] = answers[3] * -1
        estimate = encoding.decode(answers)
        assert estimate.rejected == ()
        np.testing.assert_array_equal(estimate.values[3], answers[3])
        assert estimate.exact[3, 0] == (confirm == 1)
        assert ((estimate.stderr[3, 0] > 0.1) == (confirm == 2)).all()


@pytest.mark.parametrize("name", first(1, SEVERAL))
def test_with_confirm_correct_raw_answers_lie_within_their_stated_errors(name):
    ratios = []
    for seed in range(5):
        one = wave(name, seed, wrong_workers=0, confirm=2)
        estimate = one.encoding.decode(one.answers)
        assert not estimate.exact.any()
        np.testing.assert_array_equal(estimate.values, one.truth)
        assert (estimate.stderr > 0).all()
        ratios.append(estimate.stderr / one.truth.std())
    assert np.median(ratios) < 0.3


@pytest.mark.parametrize("workers", first(1, [23, 25]))
@pytest.mark.parametrize(
    "wrong", first(1, [lambda a: -a, np.zeros_like, lambda a: a + 10.0 * NOISE])
)
@pytest.mark.parametrize("kind", first(1, ["network", "waves", "pendulum"]))
def test_a_byzantine_worker_among_few_that_compute_mixtures_is_found(workers, wrong, kind):
    """Of 23 workers three compute mixtures, which were not judged: estimates were off five times as much."""
    columns, make = FUNCTIONS[kind]
    rng = np.random.default_rng(0)
    call = make(rng)
    code = cm.KernelCode(20, workers, 0)
    for byzantine in range(20, workers):
        encoding = code.encode(rng.standard_normal((20, 20, columns)) / 2.0)
        answers = np.stack([call(encoding.payloads[slot]) for slot in range(workers)])
        answers[byzantine] = wrong(answers[byzantine].copy())
        assert encoding.judge(dict(enumerate(answers))).rejected == (byzantine,)


def test_in_little_time_workers_are_judged_by_some_groups(monkeypatch):
    judged_groups = []
    judge = kernel.judged

    def noted(points_of, slots, answers, *rest, **more):
        judged_groups.append(answers.shape[1])
        return judge(points_of, slots, answers, *rest, **more)

    monkeypatch.setattr(kernel, "judged", noted)
    inputs = np.random.default_rng(0).normal(size=(10, 200, 3))
    encoding = cm.KernelCode(10, 14, 2).encode(inputs)
    answers = dict(enumerate(np.tanh(encoding.payloads)))
    wrong = next(slot for slot in answers if encoding.raw[slot] == 4)
    answers[wrong] = -answers[wrong]
    estimate = encoding.judge(answers, seconds=0.1)
    assert judged_groups[0] < 100
    assert estimate.rejected == (wrong,)
    assert not estimate.exact[4].any()
    assert encoding.judge(answers).rejected == (wrong,)
    assert judged_groups[-1] == 200
