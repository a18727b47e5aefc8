"""Estimates in the time there is, in virtual time: only likelihoods, and solutions, take time, by their points."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from codedmap.estimation import (
    candidates,
    components,
    conditioning,
    gaussian,
    one_kernel,
    one_output,
    surrogate,
    worst_first,
)
from codedmap.estimation.candidates import Candidate, by_plane
from codedmap.estimation.gaussian import Kernel
from codedmap.estimation.models import Model
from codedmap.estimation.models import models as models_of
from codedmap.estimation.points import Points
from codedmap.estimation.surrogate import (
    Estimates,
    estimates,
    mean_of,
    seconds_to_be_thorough,
    seconds_to_do_better,
)
from codedmap.estimation.transforms import NONE

from ..repeats import first
from .conftest import put

CUBED = 2e-9
"""Seconds of a likelihood over the cube of its points: 54 ms for 300."""


class Clock:
    """Counts what estimates take; ``slower`` than was measured, as beside other programs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slower: float = 1.0) -> None:
        self.left = 0.0
        self.kinds: dict[tuple[str, bool], float] = defaultdict(float)
        clock = self

        class Deviance(gaussian.Deviance):
            def __call__(self, place):
                clock.spent(slower * CUBED * len(self.points) ** 3, self)
                return super().__call__(place)

        class Fitted(gaussian.Fitted):
            def __init__(self, points, answers, kernel):
                clock.spent(slower * CUBED * len(points) ** 3 / 6)
                super().__init__(points, answers, kernel)

            def predict(self, wanted):
                clock.spent(slower * CUBED * len(self.points) ** 2 * len(wanted) / 6)
                return super().predict(wanted)

        monkeypatch.setattr(gaussian, "Deviance", Deviance)
        put(monkeypatch, "Fitted", Fitted)
        monkeypatch.setattr(Points, "_timed", lambda _: CUBED)

    def spent(self, seconds: float, search: gaussian.Deviance | None = None) -> None:
        self.left -= seconds
        if search is not None:
            self.kinds[search.smoothness, search.linear] += seconds

    def estimated(self, seconds: float, rows: int, outputs: int, **options) -> float:
        """The error of what is estimated in so many seconds, as a share of the deviation."""
        self.left, self.kinds = seconds, defaultdict(float)
        rng = np.random.default_rng(0)
        points = rng.uniform(size=(rows + 100, 4))
        answers = np.sin(points @ rng.normal(size=(4, outputs)) * 3)
        found = estimates(
            points[:rows], answers[:rows], points[rows:], time_left=lambda: self.left, **options
        )
        off = found.values - answers[rows:]
        ratio = np.sqrt(((off / found.stderr) ** 2).mean())
        assert 0.3 < ratio < 2.5
        return float(np.sqrt((off**2).mean()) / answers.std())


@pytest.mark.parametrize(
    ("rows", "outputs", "seconds", "error"),
    first(
        6,
        [
            (400, 1, 0.1, 0.03),
            (400, 1, 0.3, 0.015),
            (400, 1, 1.0, 0.007),
            (400, 3, 0.1, 0.15),
            (400, 3, 0.3, 0.04),
            (400, 12, 0.1, 0.2),
            (400, 1, 10.0, 0.006),
            (1500, 1, 3.0, 0.001),
            (400, 3, 3.0, 0.01),
            (400, 12, 3.0, 0.1),
        ],
    ),
)
def test_more_time_is_used_for_smaller_errors_but_no_more_than_there_is(
    rows, outputs, seconds, error, monkeypatch
):
    clock = Clock(monkeypatch)
    assert clock.estimated(seconds, rows, outputs) < error
    assert clock.left > 0.0
    assert clock.left < 0.7 * seconds


@pytest.mark.parametrize("outputs", [1, 3])
def test_what_takes_longer_than_was_measured_still_ends_in_time(outputs, monkeypatch):
    clock = Clock(monkeypatch, slower=3.0)
    assert clock.estimated(3.0, 400, outputs) < 0.1
    assert clock.left > 0.0


def test_each_kind_has_its_turn_and_the_first_two(monkeypatch):
    """In 24 s three kinds are searched for in 9.6, and one step of them takes 0.27."""
    clock = Clock(monkeypatch, slower=5.0)
    clock.estimated(24.0, 2000, 1)
    kinds = [*clock.kinds.values()]
    assert len(kinds) == 3
    assert 3.0 < kinds[0] < 2 * 0.4 * 24 / 4 + 0.3
    assert sum(kinds) < 0.4 * 24 + 0.25 * 24 + 0.6
    assert min(kinds) > 0.5


def test_a_quick_search_leaves_three_fifths_of_the_time(monkeypatch):
    clock = Clock(monkeypatch)
    for seconds in (0.2, 0.06, 0.03):
        assert clock.estimated(seconds, 400, 2, thorough=False) < 1.0
        assert sum(clock.kinds.values()) <= 0.4 * seconds + 0.002
        assert bool(clock.kinds) == (seconds > 0.04)
        assert clock.left > 0.0


OUTPUTS = (
    lambda x: np.sin(3 * x[0]) * x[1],
    lambda x: x[2] ** 2,
    lambda x: np.exp(x[3]),
    lambda x: x[4] * x[5],
    lambda x: np.cos(2 * x[0] + x[5]),
    lambda x: x[1] * x[2] * x[3],
    lambda x: np.tanh(3 * x[4] - 1),
    lambda x: np.sqrt(1 + x[0]) * x[2],
    lambda x: np.sin(4 * x[1]) + x[3] ** 3,
    lambda x: np.exp(-4 * (x[2] - 0.2) ** 2) * x[0],
    lambda x: x.sum(axis=0) ** 2,
    lambda x: 1 / (2 + x[5]) + x[4],
)


@pytest.mark.parametrize("outputs", [2, 4, 8, 12])
def test_several_outputs_are_each_near_in_little_time(outputs, monkeypatch):
    """In 0.2 s, in which a likelihood of 100 answers takes 0.2 ms, one kernel for all is far from most."""
    monkeypatch.setattr(sys.modules[__name__], "CUBED", 2e-10)
    clock = Clock(monkeypatch)
    clock.left = 0.2
    points = np.random.default_rng(0).uniform(-1, 1, size=(1000, 6))
    answers = np.stack([fn(points.T) for fn in OUTPUTS[:outputs]], axis=1)
    found = estimates(points[:900], answers[:900], points[900:], time_left=lambda: clock.left)
    off = found.values - answers[900:]
    assert (np.sqrt((off**2).mean(axis=0)) < 0.05 * answers.std(axis=0)).all()
    assert (np.sqrt(((off / found.stderr) ** 2).mean(axis=0)) < 2.0).all()
    assert clock.left > 0.0


@pytest.mark.parametrize(
    ("seconds", "searched"),
    [
        (100.0, [0, 1, 2, 1, 1, 1, 0, 0, 2]),  # in the end none has a further kind
        (9.5, [0, 1, 2, 1, 1, 1, 0]),  # of which 5.7 s are for searches
        (5.5, [0, 1, 2, 1]),
        (4.5, [0, 1, 2]),
    ],
)
def test_the_output_that_is_furthest_off_is_searched_for_next(seconds, searched, monkeypatch):
    known, left, asked = points_of(), [seconds], []
    known._time_left = lambda: left[0]
    errors = [[0.5, 0.4], [0.9, 0.8, 0.7], [0.3]]
    of_all = Kernel(np.ones(3), 0.99, "matern52", linear=False)
    scaled = np.stack([np.full(40, float(output)) for output in range(3)], axis=1)

    def kernels(known, answers, go_on, near=None):
        if answers.shape[1] > 1:
            yield 0.99, of_all
        assert near is of_all
        output = int(answers[0, 0])
        for error in [*errors[output], None]:
            asked.append(output)
            if error is None:
                return
            left[0] -= 1.0
            yield error, Kernel(np.ones(3), error, "matern52", linear=False)

    def conditioned(known, answers, kernel, seconds):
        means = np.zeros((45, 1))
        return Candidate((f"{kernel.noise}",), np.ones(3), means, means + 1.0)

    put(monkeypatch, "kernels", kernels)
    put(monkeypatch, "conditioned", conditioned)
    found = worst_first.alone(known, scaled)
    assert asked == searched
    last = [
        errors[output][min(asked.count(output), len(errors[output])) - 1] for output in range(3)
    ]
    assert [part.names for part in found] == [(f"{error}",) for error in last]


def points_of(rows: int = 40, columns: int = 3, left: float = math.inf, **options) -> Points:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(rows, columns))
    options = {"thorough": True, "each": map} | options
    return Points(points, points[:5] + 0.1, 0, lambda: left, **options)


def test_how_many_points_a_likelihood_can_have():
    known = points_of(left=5.0)
    known.cubed = 1e-6
    for size in (10, 100, 449):
        assert known.affordable(1.0001e-6 * size**3) == size
        assert known.affordable(0.9999e-6 * size**3) == size - 1
    assert known.affordable(1e9) == 450
    assert known.affordable(1e9, 1250) == 1250
    assert known.affordable(-1.0) == 0
    known.cubed = 0.0  # where time is no matter
    assert known.affordable(1e-9) == 450
    # To solve for some points, and for estimates of 45 from them, is a sixth of that.
    known.cubed = 6e-6
    assert known.solving(10) == pytest.approx(1e-6 * 100 * (10 + 45))


def test_time_within_which_something_is_to_end():
    left = [10.0]
    known = Points(np.eye(3), np.eye(3), 0, lambda: left[0], thorough=True, each=map)
    go_on = known.within(4.0)
    for now, goes in ((10.0, True), (6.1, True), (5.9, False), (-1.0, False)):
        left[0] = now
        assert go_on() == goes
    endless = points_of()
    assert endless.within(1.0)()
    assert endless.within(math.inf)()


def test_likelihoods_are_timed_where_there_is_not_all_time(monkeypatch):
    left = [100.0]

    class Deviance:
        def __init__(self, points, *given, **options):
            self.size = len(points)

        def __call__(self, place):
            left[0] -= 1e-7 * self.size**3

    monkeypatch.setattr("codedmap.estimation.points.Deviance", Deviance)
    rng = np.random.default_rng(0)
    for rows in (50, 1000):
        known = Points(
            rng.normal(size=(rows, 2)), np.eye(2), 0, lambda: left[0], thorough=True, each=map
        )
        assert known.cubed == pytest.approx(1e-7, rel=0.01)
    before = left[0]
    assert points_of().cubed == 0.0
    assert left[0] == before


def test_in_a_hurry_fewer_are_left_out_and_not_by_means_of_neighbours():
    for rows, columns, left, hurried in (
        (900, 3, 0.0, True),  # 905 means take 0.027 s, and 0.02 s are always there
        (900, 3, 0.03, False),
        (659, 3, 0.0, True),  # 30 µs each, and 0.2 µs for each output
        (657, 3, 0.0, False),
        (600, 3, 0.0, False),
        (600, 12, 0.0, True),  # a tree does not help in more than ten dimensions
        (600, 10, 0.0, False),
    ):
        known = points_of(rows, columns, left)
        assert known.hurried == hurried
        assert len(known.sample) == (50 if hurried else min(rows, 1000))
        assert (np.diff(known.sample) > 0).all()
        ways = candidates.averages(known, np.ones((rows, 1)), np.ones(columns))
        assert [way.names[0] for way in ways] == (["mean"] if hurried else ["neighbours", "mean"])


@pytest.mark.parametrize(
    ("wanted", "left", "sample"),
    [
        (20_000, 0.05, 138),  # a tenth of the time, at 0.6 ns for each of 60,000 numbers
        (20_000, 0.5, 1000),
        (20_000, -1.0, 50),
        (20_000, 0.0181, 50),
        (5000, 0.1, 500),  # a tenth of as many as are wanted
        (450, 0.015, 50),
    ],
)
def test_in_a_hurry_so_many_are_left_out_as_are_soon_looked_for(wanted, left, sample):
    rng = np.random.default_rng(0)
    points, others = rng.normal(size=(1500, 3)), rng.normal(size=(wanted, 3))
    known = Points(points, others, 0, lambda: left, thorough=True, each=map)
    assert known.hurried
    # They have not chosen the kernels.
    np.testing.assert_array_equal(known.sample, np.sort(known.order[-sample:]))


def test_what_raises_ends_the_others_too():
    def each(fn, *given):
        return [fn(*arguments) for arguments in zip(*given, strict=True)]

    known = points_of(each=each)
    assert known.each(lambda a, b: a + b, [1, 2], [3, 4]) == [4, 6]
    with pytest.raises(ZeroDivisionError):
        known.each(lambda a: 1 // a, [1, 0])
    with pytest.raises(KeyboardInterrupt):
        known.time_left()


def test_points_that_choose_are_drawn_by_the_seed():
    known = points_of(1300)
    assert sorted(known.order) == [*range(1300)]
    np.testing.assert_array_equal(known.first, known.order[:300])
    np.testing.assert_array_equal(known.second, known.order[:450])
    np.testing.assert_array_equal(known.last, known.order[:800])
    assert [len(points_of(rows).last) for rows in (700, 4000, 9000)] == [700, 1000, 1250]
    np.testing.assert_array_equal(known.sample, np.sort(known.order[:1000]))


def test_inputs_that_never_varied_are_unseen_where_they_are_others():
    points = np.random.default_rng(0).normal(size=(20, 4))
    points[:, 2], points[:, 3] = 5.0, 0.0
    wanted = points[:6] + np.array([1.0, -1.0, 0.0, 0.0])
    wanted[1, 2] = 5.1
    wanted[2, 2] = 5.0 + 1e-13
    wanted[3, 3] = 1e-300
    known = Points(points, wanted, 0, lambda: math.inf, thorough=True, each=map)
    assert known.unseen.tolist() == [False, True, False, True, False, False]
    assert known.inputs is None
    wide = np.random.default_rng(0).normal(size=(20, 40))
    wide[:, 7] = 0.0
    other = wide[:2].copy()
    other[1, 7] = 1.0
    known = Points(wide, other, 0, lambda: math.inf, thorough=True, each=map)
    assert known.inputs is not None
    assert not known.unseen.any()  # one column of many that is mostly 0 matters little


@pytest.mark.parametrize(
    ("answers", "wanted", "outputs"),
    [(100, 50, 1), (1800, 500, 3), (100, 50, 20), (4000, 500, 1), (9000, 50, 20)],
)
def test_more_of_anything_takes_more_time_to_be_thorough(answers, wanted, outputs):
    def each(answers, wanted, outputs):
        return seconds_to_be_thorough(answers, wanted, outputs)

    seconds = each(answers, wanted, outputs)
    assert seconds >= min(outputs, 9)
    assert each(2 * answers, wanted, outputs) >= seconds
    assert each(answers, 10 * wanted, outputs) > seconds
    assert each(answers, wanted, 2 * outputs) == seconds * min(2 * outputs, 9) / min(outputs, 9)
    # What is solved for at once, at 3e9 operations a second, or each estimate from the nearest.
    left_out = min(answers, 1000)
    exactly = answers**2 * (answers + wanted + left_out) / 3e9 if answers <= 5000 else math.inf
    both = min(exactly, 5e-4 * (wanted + left_out))
    assert seconds == pytest.approx(min(outputs, 9) * (1.0 + 2.0 * both))
    better = seconds_to_do_better(answers, wanted, outputs)
    assert better == pytest.approx(seconds if answers > 2000 else 0.12 * min(outputs, 9))


def test_errors_are_widened_by_the_ends_where_there_is_time_and_something_is_far(monkeypatch):
    """Eight processes of 60 answers are to take less than a fourth of the time."""
    known = points_of(60)
    known.cubed = 1e-6
    needed = 32 * known.solving(60, 2)
    answers = np.sin(2 * known.points[:, :2])
    kernel = Kernel(np.full(3, 0.3), 1e-4, "matern52", linear=False)
    fitted = gaussian.Fitted(known.points, answers, kernel)
    near = known.points[:5] + 0.1
    for wanted, seconds, wider in (
        (near + 20.0, 1.01 * needed, True),
        (near + 20.0, 0.99 * needed, False),
        (near, 1.01 * needed, False),
    ):
        known.wanted = wanted
        found = conditioning.conditioned(known, answers, kernel, seconds).variances
        off, sharp = fitted.left_out()
        wide = fitted.predict(wanted)[1]
        spread = np.maximum((off**2 / sharp[:, None]).mean(axis=0), fitted.variance)
        expected = np.outer(wide, spread)
        if wider:
            away, squares = conditioning._ends(
                known.points[known.first], answers[known.first], kernel
            )
            logs = (np.log(one / sharp.max()) for one in (wide, away))
            expected *= conditioning._widened(*logs, squares / np.outer(away, spread))
            assert (expected[:, 0] > 1.2 * wide * spread[0]).all()
        np.testing.assert_allclose(found[60:], expected)


@pytest.mark.parametrize(("thorough", "left"), [(True, 1e-3), (False, 1e9), (True, 1e9)])
def test_a_plane_is_fitted_to_as_many_answers_as_there_is_time_for(thorough, left):
    """To n answers of 400 inputs, n below 400, in 4 n² 400 operations, at 3e9 a second."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 400))
    known = Points(points, points, 0, lambda: 1e9, thorough=thorough, each=map)
    known._time_left = lambda: left
    answers = points.mean(axis=1, keepdims=True) + 0.01 * rng.normal(size=(500, 1))
    found = by_plane(known, answers, *known.inputs)
    before, values = np.split(found.means, [500])
    fitted = int((~np.isclose(before, values, rtol=1e-9)).sum())
    seconds = 0.1 * left if thorough else 0.1

    def takes(size):
        return 4 * min(size, 400) ** 2 * max(size, 400) / 3e9

    assert takes(fitted) <= seconds or fitted <= 5
    assert fitted == 500 or takes(fitted / 0.79) > seconds


def test_an_input_that_varies_only_where_there_is_no_time_to_look_has_no_slope():
    """In a tenth of a millisecond 38 of 60 answers of 40 inputs are looked at."""
    rng = np.random.default_rng(0)
    points, last = rng.normal(size=(60, 40)), points_of(60).order[-1]
    answers = points[:, :1].copy()
    points[:, 7] = 5.0
    points[last, 7] = 6.0
    known = Points(points, points, 0, lambda: 1e-3, thorough=True, each=map)
    found = by_plane(known, answers, *known.inputs)
    assert np.isfinite(found.means).all()
    points[last, 7] = 9.0
    others = Points(points, points, 0, lambda: 1e-3, thorough=True, each=map)
    same = by_plane(others, answers, *others.inputs)
    np.testing.assert_allclose(found.means, same.means, atol=1e-9)


def test_of_ways_that_are_nearly_as_good_two_are_used_where_there_is_time(monkeypatch):
    known = points_of(left=10.0)
    scaled = np.sin(known.points[:, 0])
    kernel = Kernel(np.ones(3), 1e-4, "matern52", linear=False)
    models = [
        Model(error, 40, NONE, Kernel(np.ones(3), 1e-4, kind, linear), known)
        for error, kind, linear in (
            (0.11, "matern52", True),
            (0.10, "matern52", False),
            (0.14, "gaussian", False),
            (0.12, "gaussian", True),
        )
    ]
    put(monkeypatch, "models", lambda *_: iter(models))
    used, off = [], 0.1

    def process(scaled, model, seconds, drawn):
        np.testing.assert_array_equal(drawn, known.second if used else known.last)
        used.append((model, seconds))
        means = np.append(scaled[known.sample] + off, np.zeros(5))
        return Candidate(("p",), np.ones(3), means, np.ones(45), kernel=kernel)

    put(monkeypatch, "_process", process)
    # The second may have what the first has left.
    for seconds, expected in (
        (4.0, [(models[1], 2.0), (models[3], 4.0)]),
        (1.0, [(models[1], 1.0)]),
    ):
        used.clear()
        known._time_left = lambda seconds=seconds: seconds
        one_output._ways(known, scaled, math.nan, 1)
        assert used == expected
    known._time_left = lambda: 4.0
    models[2:] = [replace(model, error=0.151) for model in models[2:]]
    # Others are half as far off again, unless all answers show that the first is further off than it seemed.
    for off, count in ((0.1, 1), (0.1005, 1), (0.11, 2)):  # noqa: B007  process reads it
        used.clear()
        one_output._ways(known, scaled, math.nan, 1)
        assert [one for one, _ in used] == [models[1], models[2]][:count]


@pytest.mark.parametrize("seconds", [math.inf, 0.1])
@pytest.mark.parametrize("rows", [12, 13])
def test_as_many_answers_as_a_process_has_numbers_are_no_obstacle(rows, seconds, monkeypatch):
    Clock(monkeypatch)
    points = np.random.default_rng(0).normal(size=(rows + 3, 9))
    answers = np.sin(points[:rows, :2])
    found = estimates(points[:rows], answers, points[rows:], time_left=lambda: seconds)
    assert np.isfinite(found.values).all()
    assert (found.stderr > 0).all()


@pytest.mark.parametrize(
    ("rows", "thorough", "several"), [(39, False, 1), (40, False, 3), (11, True, 1), (12, True, 2)]
)
def test_kinds_are_compared_from_some_answers_on_in_a_hurry_too(
    rows, thorough, several, monkeypatch
):
    clock = Clock(monkeypatch)
    points = np.random.default_rng(0).normal(size=(rows + 3, 3))
    answers = np.sin(points[:rows, :2])
    estimates(points[:rows], answers, points[rows:], thorough=thorough, time_left=lambda: 0.1)
    assert len(clock.kinds) == several


@pytest.mark.parametrize(("better", "free"), [(1.1, False), (0.9, True)])
def test_free_length_scales_are_to_be_better_by_the_numbers_that_they_have_chosen(
    better, free, monkeypatch
):
    """Of 60 answers of 25 inputs 28 have chosen a process: its squares count for 60 / 32 times as much."""
    used = []

    class Fitted:
        def __init__(self, points, answers, kernel):
            share = better * 32 / 60 if np.ptp(kernel.scales) > 0.0 else 1.0
            self.off = np.full((60, 1), math.sqrt(share))

        def left_out(self):
            return self.off, None

    put(monkeypatch, "Fitted", Fitted)
    put(monkeypatch, "conditioned", lambda *given: used.append(given[2]))
    known = points_of(60, 25, thorough=False)
    one_kernel.jointly(known, np.sin(2 * known.points[:, :1]))
    assert (np.ptp(used[0].scales) > 0.0) == free


@pytest.mark.parametrize(
    ("outputs", "seconds", "thorough", "way"),
    [
        (3, 0.17, True, "each_alone"),  # 0.055 s an output
        (3, 0.16, True, "jointly"),
        (3, 9.0, False, "jointly"),
        (8, 0.45, True, "each_alone"),
        (9, 2.71, True, "by_components"),  # 0.3 s a component, and for what they leave
        (9, 2.69, True, "jointly"),
        (30, 2.71, True, "by_components"),
    ],
)
def test_which_outputs_share_a_kernel(outputs, seconds, thorough, way, monkeypatch):
    class Chosen(Exception):
        pass

    def chosen(name):
        def raised(known, scaled, *given):
            assert scaled.shape == (40, outputs)
            raise Chosen(name)

        return raised

    for name in ("each_alone", "by_components", "jointly"):
        put(monkeypatch, name, chosen(name))
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 2))
    answers = np.hstack([rng.normal(size=(40, outputs)), np.ones((40, 2))])  # and constant ones
    with pytest.raises(Chosen, match=f"^{way}$"):
        estimates(points, answers, points, time_left=lambda: seconds, thorough=thorough)


@pytest.mark.parametrize(
    ("rows", "noise", "seconds", "tried"),
    [
        (80, 0.1, math.inf, True),
        (79, 0.1, math.inf, False),
        (80, 1e-5, math.inf, False),  # what is estimated well needs no others
        (
            80,
            0.1,
            2.14,
            True,
        ),  # 2 s, 1.5 ms for each of 85 estimates, and 5 µs for each of 240 numbers
        (80, 0.1, 2.12, False),
        (80, 0.1, 1.9, False),
    ],
)
def test_trees_and_splines_are_tried_where_others_do_poorly(
    rows, noise, seconds, tried, monkeypatch
):
    asked = []

    def others(known, scaled, scales, most):
        asked.append((scales, most))
        return iter([])

    put(monkeypatch, "by_others", others)
    monkeypatch.setattr(Points, "_timed", lambda _: 1e-12)
    known = points_of(rows, left=seconds)
    wave = np.sin(known.points[:, 0]) + noise * np.random.default_rng(1).normal(size=rows)
    [found] = one_output.each_alone(known, ((wave - wave.mean()) / wave.std())[:, None], 1)
    assert bool(asked) == tried
    if tried:
        left = found.error((wave - wave.mean()) / wave.std())
        assert asked[0][1] == pytest.approx(2.0 * left, rel=0.1)
        assert asked[0][0].shape == (3,)


@pytest.mark.parametrize(("seconds", "took"), [(10.0, 0.5), (10.0, 2.5), (1.5, 0.1)])
@pytest.mark.parametrize("most", [9, 4, 2])
def test_each_kind_has_an_equal_share_of_what_is_left_of_two_fifths(
    seconds, took, most, monkeypatch
):
    """The first has two; and the last, with free length scales, all that is left."""
    known, left = points_of(14, left=1e9), [20.0 + seconds]
    known.cubed = 1e-12
    given, searched = [], []

    def search(points, answers, starts, *, steps, begin, tied, go_on):
        left[0] -= took
        searched.append((len(starts), steps, begin, tied))
        return starts[0]

    monkeypatch.setattr(known, "_time_left", lambda: left[0])
    monkeypatch.setattr(known, "within", lambda share: given.append(share) or (lambda: len(searched) < most))  # fmt: skip
    put(monkeypatch, "likeliest", search)
    answers = np.exp(2.0 * known.points[:, 0])
    models = [*models_of(known, answers, -1.0, seconds)]
    hasty = seconds < 2.0
    # A Gaussian process, two scales; and where there is no hurry another Gaussian one, and free length scales.
    kinds = ["none", *["none"] * (2 - hasty), "logarithm", "asinh", *["none"] * (1 - hasty)][:most]
    others = 3 if hasty else 4
    assert [model.transform.name for model in models[: 1 + others]] == kinds[: 1 + others]
    each = 5 if hasty else 15
    expected = [(3, 50, each, True), *[(1, 30, each, True)] * others, (1, 50, each, False)]
    assert searched == expected[: len(kinds)]
    whole = 0.4 * seconds
    shares = [2.0 * whole / (2 + others)]
    shares += [(whole - (1 + number) * took) / (others - number) for number in range(others)]
    shares += [whole - (1 + others) * took]
    assert given == pytest.approx(shares[: min(most + 1, 2 + others)])


@pytest.mark.parametrize(
    ("outputs", "rows", "seconds", "alone"),
    [
        (9, 40, 6.1, 3),  # 2 s for each that is off by much, which three are
        (9, 40, 5.9, 2),  # or the worst of them
        (9, 40, 1.9, 0),
        (24, 2000, math.inf, 3),
        (25, 40, math.inf, 0),
        (9, 2001, math.inf, 0),
    ],
)
def test_outputs_that_components_estimate_poorly_are_also_estimated_alone(
    outputs, rows, seconds, alone, monkeypatch
):
    known = points_of(rows, left=seconds)
    scaled = np.random.default_rng(0).normal(size=(rows, outputs))
    off = np.full(outputs, 0.02)
    off[1:4] = 0.04, 0.05, 0.06
    given = []

    def each(known, poor, shares, zeros):
        given.append((poor, shares, zeros))
        some = (0.01, 0.03, 0.05)[: poor.shape[1]]
        return [candidate(*one) for one in zip(poor.T, some, strict=True)]

    def candidate(columns, off):
        means = np.concatenate([columns[known.sample] + off, np.zeros((5, *columns.shape[1:]))])
        names = (f"off by {off}",) * (outputs if columns.ndim > 1 else 1)
        return Candidate(names, np.ones(known.points.shape[1]), means, np.ones(means.shape))

    put(monkeypatch, "each_alone", each)
    zeros = np.arange(outputs)
    found = components.poor_alone(known, scaled, zeros, candidate(scaled, off), 2.0)
    assert bool(given) == bool(alone)
    if alone:
        [(poor, shares, some)] = given
        worst = [3, 2, 1][:alone]
        np.testing.assert_array_equal(poor, scaled[:, worst])
        assert (shares, list(some)) == (alone, worst)
        off[[3, 2]] = 0.01, 0.03
        assert (found.names[3], found.names[2]) == ("off by 0.01", "off by 0.03")
        assert found.names[1] == found.names[0]
    targets = scaled[known.sample]
    np.testing.assert_allclose(np.sqrt(found.squares(targets)), off)


def test_components_and_what_they_leave_share_the_time(monkeypatch):
    """Eight components have what the rest leaves, in which one more has at least as much as each."""

    class Shared(Exception):
        pass

    def each(known, components, shares, *given):
        assert components.shape == (40, 8)
        raise Shared(shares)

    put(monkeypatch, "each_alone", each)
    scaled = np.random.default_rng(0).normal(size=(40, 12))
    for needed, shares in (
        (0.0, 9),
        (0.1, 9),
        (1.0, 9),
        (1.01, 10),
        (3.0, 12),
        (4.4, 16),
        (20.0, 16),
    ):
        put(monkeypatch, "seconds_for_rest", lambda *_, now=needed: now)
        with pytest.raises(Shared, match=f"^{shares}$"):
            components.by_components(points_of(left=9.0), scaled)


@pytest.mark.parametrize(("seconds", "again"), [(2.01 * 8, True), (1.99 * 8, False)])
def test_outputs_are_estimated_by_themselves_if_two_seconds_a_component_are_left(
    seconds, again, monkeypatch
):
    known = points_of(left=1e9)
    known._time_left = lambda: seconds
    known.cubed = 1e-12
    asked = []
    put(monkeypatch, "_by_themselves", lambda *given: asked.append(given[2]) or given[3])
    kernel = Kernel(np.ones(3), 1e-4, "matern52", linear=False)
    part = Candidate(("p",), np.ones(3), np.zeros(45), np.ones(45), kernel=kernel)
    scaled = np.random.default_rng(0).normal(size=(40, 12))
    for kinds in (8, 3, 0):
        asked.clear()
        parts = [part] * kinds + [replace(part, kernel=None)] * (8 - kinds)
        put(monkeypatch, "each_alone", lambda *_, parts=parts: parts)
        components.by_components(known, scaled)
        assert asked == ([[kernel] * kinds] if again and kinds else [])


def test_seconds_from_which_outputs_do_not_share_a_kernel():
    known = points_of(2100, left=1e9)
    known.cubed = 0.0
    for outputs, seconds in ((1, 0.055), (8, 0.44), (9, 2.7), (500, 2.7)):
        assert surrogate._least(known, outputs) == pytest.approx(seconds)
    known.cubed = 1e-9
    # Or four times what is needed for what components leave, by 2,000 of the answers.
    rest = 2.0 * known.solving(2000, 500)
    assert components.seconds_for_rest(known, 500) == pytest.approx(rest)
    assert surrogate._least(known, 500) == pytest.approx(4.0 * rest)
    few = points_of(40, left=1e9)
    assert components.seconds_for_rest(few, 500) == pytest.approx(2.0 * few.solving(40, 500))


@pytest.mark.parametrize("columns", [2, 40])
@pytest.mark.parametrize(
    ("share", "thorough", "looks"),
    [(2.01, True, 2), (1.99, True, 1), (2.01, False, 1), (math.inf, True, 2)],
)
def test_inputs_are_looked_at_in_two_spaces_if_half_of_the_time_is_enough(
    columns, share, thorough, looks, monkeypatch
):
    """The first look has half of the time, and the second all that is left."""
    points = 10.0 ** np.random.default_rng(0).uniform(0, 3, size=(65, columns))
    seconds = share * seconds_to_be_thorough(60, 5, 1)
    left, seen, compared = [seconds], [], []

    def look(known, answers):
        seen.append((known.time_left(), bool(known.space.logarithms.any())))
        left[0] -= 0.3
        return len(seen)

    put(monkeypatch, "_estimates", look)
    put(monkeypatch, "mean_of", lambda *given: compared.append(given) or "mean")
    found = estimates(
        points[:60], points[:60, :1], points[60:], thorough=thorough, time_left=lambda: left[0]
    )
    if looks == 1:
        assert (found, seen) == (1, [(seconds, True)])
    else:
        half = seconds if seconds == math.inf else seconds / 2.0
        assert seen == [(pytest.approx(half), True), (pytest.approx(seconds - 0.3), False)]
        assert (found, compared) == ("mean", [(1, 2, 60)])


def joined(apart: float, stderr: float = 1.0, left_out: float = 1.0) -> Estimates:
    """The mean of an estimate of 0 with a standard error and an error of 1 and another one, from another unit and origin."""
    unit, zero = 3.0, 15.0
    one = Estimates(np.full((1, 1), zero), np.full((1, 1), unit), np.full(1, unit), ("inputs",))
    values, errors = np.full((1, 1), zero + unit * apart), np.full((1, 1), unit * stderr)
    found = mean_of(one, Estimates(values, errors, np.full(1, unit * left_out), ("outputs",)), 99)
    values, errors = (found.values - zero) / unit, found.stderr / unit
    return Estimates(values, errors, found.left_out / unit, found.methods)


def test_weights_of_two_estimates_go_by_their_errors():
    much_better = joined(0.5, 1e-9, 1e-9)
    assert much_better.methods == ("outputs",)
    np.testing.assert_allclose(much_better.values, 0.5, rtol=1e-12)
    np.testing.assert_allclose(much_better.stderr, 1e-9, rtol=1e-6)
    assert joined(0.5, 0.9, 0.9).methods == ("outputs",)
    worse = joined(0.5, 2.0, 2.0)
    assert worse.methods == ("inputs",)
    np.testing.assert_allclose(worse.values, 0.5 / 17.0)
    np.testing.assert_allclose(worse.left_out, np.sqrt((4.0 + 16.0) / 17.0))
    # That a much worse one differs says nothing.
    np.testing.assert_allclose(joined(500.0, 300.0, 300.0).stderr, 1.0, atol=1e-4)


def test_a_mean_of_two_is_nearer_than_either_unless_they_contradict_each_other():
    np.testing.assert_allclose(joined(0.0).stderr, 1.0)
    # The mean of one difference, as large a share of the variances as 1.5² / 4, and four that are 0.
    np.testing.assert_allclose(joined(1.5).stderr, np.sqrt(1.0 - 1.5**2 / 4.0 / 5.0))
    np.testing.assert_allclose(joined(1.0, 2.0).stderr, np.sqrt(2.5 - 1.0 / 4.0 / 5.0))
    np.testing.assert_allclose(joined(2.5).stderr, np.sqrt(1.0 - 1.0 / 5.0))
    np.testing.assert_allclose(joined(4.0).stderr, np.sqrt(1.0 + 4.0**2 / 4.0))
    np.testing.assert_allclose(joined(4.0).values, 2.0)
    # However certain it is, one in so many may be wrong.
    np.testing.assert_allclose(joined(4.0, 1e-9, 1e-9).stderr, 4.0 / 10.0)
    most = np.finfo(float).max
    ends = (
        Estimates(np.full((1, 1), sign * most), np.full((1, 1), most), np.ones(1), ("any",))
        for sign in (-1.0, 1.0)
    )
    far = mean_of(*ends, 99)
    assert (far.values, far.stderr) == (0.0, most)


@pytest.mark.parametrize(("seconds", "planes"), [(2.01, True), (1.99, False)])
def test_outputs_have_equal_shares_of_the_time_and_a_plane_if_there_are_two_seconds(
    seconds, planes, monkeypatch
):
    known, asked = points_of(60, 40, left=5 * seconds), []
    one = Candidate(("plane",) * 3, np.ones(3), np.zeros((65, 3)), np.ones((65, 3)))
    put(monkeypatch, "by_plane", lambda *given: asked.append(given) or one)
    put(monkeypatch, "_ways", lambda *given: (list(given[2:]), None))
    put(monkeypatch, "_best", lambda known, scaled, ways, left: (*ways[0], left))
    scaled = known.points[:, :3]
    found = one_output.each_alone(known, scaled, 5, [7.0, 8.0, 9.0])
    assert [(zero, left, again) for zero, left, _, again in found] == [
        (7.0, 5, 5),
        (8.0, 4, 4),
        (9.0, 3, 3),
    ]
    assert [plane is not None for *_, plane, _ in found] == [planes] * 3
    assert bool(asked) == planes
    assert [left for _, left, *_ in one_output.each_alone(known, scaled, 3)] == [3, 2, 1]
    assert all(plane is None for *_, plane, _ in one_output.each_alone(points_of(), scaled, 3))


@pytest.mark.parametrize("columns", [3, 40])
@pytest.mark.parametrize(
    ("left", "later", "searches", "plane"),
    [
        (10.0, 6.1, True, True),
        (10.0, 5.9, True, False),
        (0.051, 0.051, True, True),
        (0.049, 0.049, False, False),
    ],
)
@pytest.mark.parametrize("outputs", [2, 50, 51])
def test_quick_ways_are_those_that_there_is_time_for(
    columns, left, later, searches, plane, outputs, monkeypatch
):
    """A process; a plane of many inputs, if three fifths of the time are left; and means. Many outputs have one way."""
    known, now = points_of(12, columns, left=1e9, thorough=False), [left]
    known._time_left = lambda: now[0]
    scaled = np.random.default_rng(0).normal(size=(12, outputs))
    plane &= columns == 40

    def way(name, off):
        means = np.concatenate([scaled[known.sample] + off, np.zeros((5, outputs))])
        return Candidate((name,) * outputs, np.ones(12), means, np.ones((17, outputs)))

    asked, searched = [], []

    def conditioned(known, given, kernel, seconds):
        assert (given is scaled, seconds) == (True, left)
        now[0] = later
        return way("process", 3.0)

    def mixed(ways, targets):
        asked.append([one.names[0] for one in ways])
        return ways[-1]

    put(
        monkeypatch,
        "likeliest",
        lambda points, answers, starts, **_: searched.append(len(points)) or starts[0],
    )
    put(monkeypatch, "conditioned", conditioned)
    put(monkeypatch, "by_plane", lambda *_: way("plane", 2.0))
    put(monkeypatch, "averages", lambda *_: [way("neighbours", 1.0), way("mean", 4.0)])
    put(monkeypatch, "combined", mixed)
    found = one_kernel.jointly(known, scaled)
    assert searched == [12] * searches
    ways = ["process"] * searches + ["plane"] * (searches and plane) + ["neighbours", "mean"]
    if outputs <= 50:
        assert asked == [ways] * outputs
        assert found.names == ("mean",) * outputs
    else:
        assert asked == []
        assert found.names[0] == ("process" if searches else "neighbours")
    put(monkeypatch, "conditioned", lambda *_: None)
    put(monkeypatch, "averages", lambda *_: [way("mean", 4.0)])
    now[0] = left
    assert one_kernel.jointly(known, scaled).names == ("mean",) * outputs
