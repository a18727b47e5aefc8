"""What plans are put together from, each part against its definition."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import codedmap as cm
from codedmap.execution.inputs import InputRows
from codedmap.execution.virtual import Ending
from codedmap.planning import errors as errors_module
from codedmap.planning import ways as ways_module
from codedmap.planning.errors import Errors, Expected
from codedmap.planning.pilot import Pilot, Timed, first_and_later
from codedmap.planning.replays import Coded, Exact, run_coded, run_exact
from codedmap.planning.times import Drawn, Measured, _fitted, _running, _speeds
from codedmap.planning.ways import Question, _range, _Ways, budget_of
from codedmap.results import PlanRow

RNG = np.random.default_rng(0)
CALL = Timed(0, 1, 1.0)
PLAIN = {"overhead": 0.0, "remarks": (), "batches": False}


def pilot(rows: int = 400, timed=(CALL,)) -> Pilot:
    """Rows whose inputs are their number and another one, and whose answer is that."""
    points = np.stack([np.arange(rows), RNG.permutation(rows)], axis=1).astype(float)
    return Pilot(rows, timed, points, points[:, 1:], (2,), True, True, **PLAIN)


# Errors of estimates.


def test_the_deviation_of_the_answers_is_known_without_errors_of_estimates():
    known = pilot(1)
    assert Errors(known, 0, math.inf, lambda: 100.0).deviation == 0.0
    known = replace(known, points=np.zeros((0, 0)), answers=np.zeros((0, 0)))
    errors = Errors(known, 0, math.inf, lambda: 100.0)
    assert math.isnan(errors.deviation)
    assert not errors.known


def told(off, size=400, seconds=math.inf, time_left=lambda: 100.0) -> tuple[Errors, list]:
    """Errors whose replays are off by what is told, by their answers and seconds; and these."""
    asked = []

    class Told(Errors):
        def _squared_errors(self, kept, seconds):
            asked.append((kept, seconds))
            return np.full(10, off(int(kept.sum()), seconds) ** 2)

    return Told(pilot(size), 0, seconds, time_left), asked


@pytest.mark.parametrize("power", [-0.5, 0.0, 0.3, 1.0, 1.5, 4.0])
def test_errors_continue_the_power_by_which_they_fell_damped(power):
    """Four fifths of it, which is 1.2 at most, and 0.05; the low end 1.2 times that, and 8 over the root of the answers."""
    errors, _ = told(lambda count, _: 0.5 * (count / 100) ** -power)
    for count in (100, 150, 230, 300):
        assert errors.of(count).error == pytest.approx(0.5 * (count / 100) ** -power)
    assert errors.of(1) == errors.of(2)
    assert errors.of(2).error == pytest.approx(1.0)
    # From two answers, of which the mean is known, to the first that were measured.
    assert errors.of(math.sqrt(200.0)).error == pytest.approx(math.sqrt(0.5))
    doubt = math.exp(2.0 * math.sqrt(0.5 / 400) + 0.05)
    damped = 0.8 * min(max(power, 0.0), 1.2) + 0.05
    steep = 1.2 * damped + 8.0 / math.sqrt(400)
    for count in (300, 600, 3000):
        error, low, high = errors.of(count)
        assert error == pytest.approx(0.5 * 3.0**-power * (count / 300) ** -damped)
        assert low == pytest.approx(0.5 * 3.0**-power * (count / 300) ** -steep / doubt)
        assert high == pytest.approx(0.5 * 3.0**-power * doubt)


def test_the_power_is_that_over_all_that_was_measured_and_lately():
    for measured in ([0.5, 0.4, 0.3], [0.5, 0.2, 0.19]):
        errors, _ = told(lambda count, _, off=measured: off[count // 100 - 1])
        whole = math.log(measured[0] / measured[2]) / math.log(3.0)
        late = math.log(measured[1] / measured[2]) / math.log(1.5)
        power = 0.8 * (whole + late) / 2.0 + 0.05
        assert errors.of(600).error == pytest.approx(measured[2] * 2.0**-power)
    # Of one number of answers, from the mean of two on.
    errors, _ = told(lambda *_: 0.4, size=8)
    power = 0.8 * math.log(2.5) / math.log(3.0) + 0.05
    assert errors.of(12).error == pytest.approx(0.4 * 2.0**-power)


def test_what_the_replays_differ_by_is_doubt():
    class Told(Errors):
        def _squared_errors(self, kept, seconds):
            return np.array([0.01, 0.09])

    errors = Told(pilot(), 0, math.inf, lambda: 100.0)
    error, low, high = errors.of(300)
    assert error == pytest.approx(math.sqrt(0.05))
    # Of 8 squares, 0.05 ± 0.04: of their root half as much, as a share.
    own = 0.04 / 0.05 / 2.0 / math.sqrt(8)
    doubt = math.exp(2.0 * math.hypot(own, math.sqrt(0.5 / 400)) + 0.05)
    assert (high, low) == pytest.approx((error * doubt, error / doubt))


def test_each_answer_is_left_out_as_often_as_others():
    _, asked = told(lambda *_: 1.0)
    by_share = {}
    for kept, _ in asked:
        by_share.setdefault(kept.mean(), []).append(kept)
    assert {share: len(every) for share, every in by_share.items()} == {0.75: 4, 0.25: 4, 0.5: 2}
    for share, every in by_share.items():
        np.testing.assert_array_equal(np.sum(every, axis=0), share * len(every))
    assert [kept.mean() for kept, _ in asked[:3]] == [0.75, 0.25, 0.5]


@pytest.mark.parametrize(
    ("size", "fewest"), [(4, 0), (6, 0), (7, 5.25), (9, 6.75), (10, 5), (19, 9.5), (20, 5)]
)
def test_errors_are_measured_from_five_answers_on(size, fewest):
    errors, asked = told(lambda *_: 0.5, size)
    assert errors.fewest == fewest
    assert errors.known == bool(asked) == (fewest > 0)
    assert not errors.no_time


@pytest.mark.parametrize(
    ("left", "took", "seconds"),
    [
        (0.019, 0.0, []),
        (0.021, 0.0, [0.021]),
        (0.5, 0.25, [0.1, 0.1]),
        (3.0, 1.5, [0.3, 0.15]),
        (3.0, 2.95, [0.3]),
    ],
)
def test_a_replay_has_a_tenth_of_the_time_or_of_a_second(left, took, seconds):
    now = [left]
    asked: list = []

    class Told(Errors):
        def _squared_errors(self, kept, given):
            asked.append(given)
            now[0] -= took
            return np.array([0.25])

    errors = Told(pilot(), 0, math.inf, lambda: now[0])
    assert asked[: len(seconds)] == pytest.approx(seconds)
    assert took == 0.0 or len(asked) == len(seconds)
    assert errors.no_time == (not seconds)
    assert errors.known == bool(seconds)


@pytest.mark.parametrize(
    ("seconds", "thorough", "better"),
    [(290.0, None, 1.0), (310.0, 31.0, 1.0), (1000.0, 40.0, 1.0), (2000.0, 40.0, 2.5)],
)
@pytest.mark.parametrize(("again", "ratio"), [(0.5, 0.5), (0.01, 0.16), (1.1, 1.1), (3.0, 1.2)])
def test_one_replay_is_as_thorough_as_the_job_if_that_takes_three_times_as_long(
    seconds, thorough, better, again, ratio
):
    """A job has a tenth of its seconds for that, and a replay two fifths of those that are left, which are 100."""
    errors, asked = told(lambda _, given: 2.0 * (again if given > 10.0 else 1.0), seconds=seconds)
    assert [given for _, given in asked if given != 10.0] == ([] if thorough is None else [pytest.approx(thorough)])  # fmt: skip
    error, low, high = errors.of(300)
    assert error == pytest.approx(2.0 if thorough is None else 2.0 * ratio)
    assert high / low == pytest.approx(better * math.exp(2.0 * (2.0 * math.sqrt(0.5 / 400) + 0.05)))


def test_a_replay_has_no_more_time_than_the_job():
    assert {round(given, 9) for _, given in told(lambda *_: 1.0, seconds=5.0)[1]} == {0.5}


@pytest.mark.parametrize(("takes", "cut"), [(0.01, False), (20.0, True)])
@pytest.mark.parametrize(("left", "short"), [(100.0, False), (0.09, True)])
def test_where_replays_are_cut_short_longer_ones_may_be_better_by_a_cube(
    takes, cut, left, short, monkeypatch
):
    now = [0.0]

    def estimate(points, answers, wanted, *, seed, time_left):
        assert answers.shape == (len(points), 2)
        np.testing.assert_array_equal(answers[:, 0], points[:, 1])
        given.append(time_left())
        now[0] += takes
        time_left()
        off = [0.3, -0.4] * answers_of.std(axis=0)[::2]
        return SimpleNamespace(values=answers_of[wanted[:, 0].astype(int)][:, ::2] + off)

    given: list = []
    known = pilot()
    answers_of = np.stack(
        [known.points[:, 1], np.full(400, 7.0), 1e-3 * known.points[:, 0]], axis=1
    )
    known = replace(known, answers=answers_of)
    monkeypatch.setattr(errors_module, "estimates", estimate)
    monkeypatch.setattr(errors_module.time, "thread_time", lambda: now[0])
    errors = Errors(known, 0, math.inf, lambda: left)
    assert given[0] == pytest.approx(min(10.0, left))
    error, low, high = errors.of(300)
    assert error == pytest.approx(math.sqrt((0.3**2 + 0.4**2) / 2.0))
    better = 2.5**3 if cut or short else 1.0
    assert high / low == pytest.approx(better * math.exp(2.0 * (2.0 * math.sqrt(0.5 / 400) + 0.05)))
    spread = answers_of.std(axis=0)
    assert errors.deviation == pytest.approx(math.sqrt((spread**2).mean()))


def test_a_code_is_decoded_as_by_map_from_estimates_of_what_its_payloads_give(monkeypatch):
    """Of 24 rows that are spread over all, in four groups."""
    points = np.random.default_rng(0).uniform(-1.0, 1.0, (400, 2))

    def fn(rows):
        return np.tanh(rows @ [[2.0, 30.0], [-1.0, 5.0]]) * [1.0, 100.0]

    def estimate(known, answers, wanted, *, thorough, time_left):
        assert not thorough
        np.testing.assert_array_equal(answers, fn(known))
        halves = np.repeat([[0.0], [2.0 * unsure]], len(wanted) // 2, axis=0)
        return SimpleNamespace(values=fn(wanted), stderr=halves * fn(points).std(axis=0))

    class Told(Errors):
        def _squared_errors(self, kept, seconds):
            return np.full(10, poor**2)

    monkeypatch.setattr(errors_module, "estimates", estimate)
    code, late = cm.SplineCode(6, 8, 2), [(0, 1), (3, 5), (6, 7)]
    sets = np.array([[slot for slot in range(8) if slot not in gone] for gone in late])
    rows = points[np.linspace(0, 399, 24).astype(int)]
    squares = []
    for gone in late:
        with cm.testing.Scripted(8, dict.fromkeys(gone, cm.testing.never())) as engine:
            found = cm.map(fn, rows, code=code, engine=engine).values
        squares.append((((found - fn(rows)) / fn(points).std(axis=0)) ** 2).mean())
    known = replace(pilot(), points=points, answers=fn(points))
    # An error of 0.2 is too much for rows, and a standard error of 0.2 (root mean square) for payloads.
    cases = (0.1, 0.1, True, 3), (0.1, 0.1, False, 1), (0.3, 0.1, True, 0), (0.1, 0.15, True, 0)
    for poor, unsure, goes_on, looked in cases:  # noqa: B007
        errors = Told(known, 0, math.inf, lambda: 100.0)
        error, count = errors.decoded(code, (2,), sets, lambda goes_on=goes_on: goes_on)
        assert count == looked
        expected = math.sqrt(np.mean(squares[:looked])) if looked else math.nan
        assert error == pytest.approx(expected, nan_ok=True)
    poor = 0.1
    errors = Told(known, 0, math.inf, lambda: 100.0)
    few = errors.decoded(cm.SplineCode(401, 402, 0), (2,), np.arange(402)[None], lambda: True)
    assert few == (pytest.approx(math.nan, nan_ok=True), 0)


# Times.


def test_what_calls_take_and_how_sure_it_is_does_not_depend_on_the_unit():
    for unit in (1.0, 1e-3, 60.0):
        seconds = unit * np.tile([1.0, 3.0], 25)
        times = Measured([Timed(0, 1, s) for s in seconds], 8, 2, 0, 0.0)
        assert times.mean == pytest.approx(2.0 * unit)
        assert times.doubt == pytest.approx(2.0 * 0.5 / math.sqrt(50))
        # Three rows ten times as slow as nine in ten are, beside the 50.
        assert times.unseen == pytest.approx(3.0 * 10.0 * 1.5 / 53)
        assert times.rate(1) == pytest.approx(6 / (2.0 * unit))


def test_calls_of_batches_are_started_at_the_rate_of_their_rows():
    sizes = np.repeat([1, 1, 2, 4, 8], 16)
    timed = [Timed(n % 8, int(r), 0.3 + 0.02 * r) for n, r in enumerate(sizes)]
    times = Measured(timed, 8, 0, 0, 0.0, batches=True)
    assert not Measured(timed, 8, 0, 0, 0.0).batches
    assert times.mean == pytest.approx(0.02)
    for rows in (1, 10, 100):
        assert times.rate(rows) == pytest.approx(8 * rows / (0.3 + 0.02 * rows))


def test_each_worker_has_four_calls_of_a_twentieth_of_a_second_in_virtual_time():
    for seconds, replayed in ((1.0, 32), (0.05, 32), (0.01, 160), (0.0005, 3200)):
        jobs = Exact(100_000)
        run_exact(jobs, Measured([Timed(0, 1, seconds)] * 8, 8, 0, 0, 0.0), 0)
        assert len(jobs.ends[0]) == replayed
        assert jobs.rate == pytest.approx(8 / seconds)
        assert jobs.seconds[0] == pytest.approx(100_000 / 8 * seconds)
        assert jobs.calls[0] == 1.0
        assert jobs.ends[0][-1] == jobs.seconds[0]


def test_the_first_call_of_each_worker_is_left_out():
    calls = [
        Timed(worker, rows, 1.0)
        for worker, rows in ((0, 1), (1, 2), (0, 3), (2, 4), (1, 5), (0, 6))
    ]
    first, later = first_and_later(calls)
    assert [[call.rows for call in some] for some in (first, later)] == [[1, 2, 4], [3, 5, 6]]


@pytest.mark.parametrize(("call", "fits"), [(0.5, True), (0.09, False)])
def test_calls_take_a_time_of_their_own_if_it_is_a_tenth_of_a_rows_for_sure(call, fits):
    calls = [Timed(0, rows, call + 1.0 * rows) for rows in [1, 2, 4, 8] * 40]
    assert _fitted(calls, 0.0) == pytest.approx((call, 1.0) if fits else (0.0, 1.0))
    noise = np.random.default_rng(0).normal(size=len(calls))
    noisy = [Timed(0, one.rows, one.rows * (4.0 + y)) for one, y in zip(calls, noise, strict=True)]
    assert _fitted(noisy, 2.0) == (0.0, 1.0)
    assert _fitted([Timed(0, 3, 1.0)] * 9, 0.0) == (0.0, 1.0)


def test_rows_of_calls_that_have_not_ended_are_slow_if_they_take_longer_than_usual():
    """A call of eight rows, that usually take 1 s each, has one that takes as long as others that took longer did."""
    ended = [
        Timed(2, 1, 1.0),
        Timed(3, 1, 1.0),
        Timed(4, 8, 8.0),
        Timed(5, 8, 11.0),
        Timed(6, 1, 6.0),
    ]
    each = np.array([1.0, 1.0, 1.0, 1.375, 6.0])
    for seconds, slow in ((8.0, None), (8.1, 5.0), (12.0, 6.0), (20.0, 26.0)):
        found = [*_running([*ended, Timed(1, 8, seconds, False)], each, float)]
        assert found == ([] if slow is None else [(1, 1, pytest.approx(slow), True)])
    assert [*_running([Timed(1, 1, 0.5, False)], each[:0], float)] == [(1, 1, 1.0, True)]


@pytest.mark.parametrize("seed", range(4))
def test_slow_rows_count_as_often_as_they_are_however_early_one_looks(seed):
    """One row in ten takes 20 s and not 1 s, and after 40 s many of those still run."""
    rng = np.random.default_rng(seed)
    running = [
        (0.0, 0.0, worker) for worker in range(40)
    ]  # when a call ends, when it began, and where
    ended = []
    while len(ended) < 640:
        now, began, worker = heapq.heappop(running)
        ended.append(Timed(worker, 1, now - began))
        heapq.heappush(running, (now + (20.0 if rng.random() < 0.1 else 1.0), now, worker))
    ended = ended[40:]  # the first take no time
    assert np.mean([call.seconds for call in ended]) < 0.8 * 2.9
    still = [Timed(worker, 1, now - began, False) for _, began, worker in running]
    assert Measured([*ended, *still], 40, 0, 0, 0.0).mean == pytest.approx(2.9, rel=0.12)


def test_workers_differ_in_speed_by_what_is_more_than_chance():
    rng = np.random.default_rng(0)
    workers = np.repeat([3, 7, 5, 9], [4, 9, 25, 12])
    logs = np.log([1.0, 2.0, 0.7, 1.2])[
        np.unique(workers, return_inverse=True)[1]
    ] + 0.3 * rng.normal(size=50)
    speeds, own = _speeds(workers.tolist(), np.exp(logs))
    middles = {one: np.median(logs[workers == one]) for one in (3, 7, 5, 9)}
    deviation = 1.4826 * np.median(
        [abs(y - middles[one]) for one, y in zip(workers, logs, strict=True)]
    )
    off = np.array([*middles.values()]) - np.median(logs)
    # A median of n is uncertain by π/2 times the variance of a mean.
    chance = math.pi / 2.0 * deviation**2 / np.array([4, 9, 25, 12])
    between = (off**2 - chance).mean()
    np.testing.assert_allclose(speeds, np.exp(off * between / (between + chance)))
    np.testing.assert_allclose(own, np.repeat(speeds, [4, 9, 25, 12]))
    alone = _speeds([1, 1, 2], np.array([1.0, 1.0, 50.0]))
    assert (alone[0] == 1.0).all()


def replayed(times, number: int, groups: int) -> list[float]:
    """Seconds of one call of each worker in a job."""
    ending = times.replay(number)
    calls = (
        SimpleNamespace(worker=worker, groups=groups, limit=math.inf, step=1)
        for worker in range(times.workers)
    )
    return [ending(call, 0.0).seconds for call in calls]


def test_in_virtual_time_each_worker_has_the_speed_of_one_and_so_many_never_answer():
    timed = [Timed(n % 4, 1, 2.0 ** (n % 4)) for n in range(80)]
    speeds = 2.0 ** np.arange(4)
    times = Measured(timed, 4, 0, 0, 0.0)
    assert times.rate(1) == pytest.approx((1.0 / speeds).sum())
    found = sorted(replayed(times, 0, 3))
    np.testing.assert_allclose(found, 3.0 * speeds)
    lost = sorted(replayed(Measured(timed, 4, 1, 0, 0.0), 0, 3))
    assert lost[3] == math.inf
    assert {*np.round(lost[:3], 6)} < {3.0, 6.0, 12.0, 24.0}
    more = replayed(Measured(timed, 40, 0, 0, 0.0), 0, 1)
    assert {*np.round(more, 6)} == {1.0, 2.0, 4.0, 8.0}


def test_rows_are_as_slow_as_those_of_some_call_which_count_by_their_number():
    timed = [Timed(n, 9, 9.0) if n % 2 else Timed(n, 1, 10.0) for n in range(200)]
    times = Measured(timed, 1, 0, 0, 0.0)
    assert times.mean == pytest.approx((9 * 1.0 + 1 * 10.0) / 10)
    sums = [replayed(times, number, 1000)[0] for number in range(20)]
    assert np.mean(sums) == pytest.approx(1900.0, rel=0.1)
    assert len({*sums}) > 10
    assert replayed(times, 3, 1000) == replayed(times, 3, 1000)


def test_calls_of_batches_are_drawn_as_a_whole():
    sizes = np.repeat([1, 1, 2, 4, 8], 16)
    timed = [Timed(n % 8, int(r), 0.3 + 0.02 * r) for n, r in enumerate(sizes)]
    times = Measured(timed, 8, 0, 0, 0.0, batches=True)
    for groups in (1, 7, 50):
        np.testing.assert_allclose(replayed(times, 0, groups), 0.3 + 0.02 * groups)


def test_a_call_of_a_batch_that_has_not_ended_has_a_slow_row():
    timed = [Timed(n % 8, r, 0.3 + 0.02 * r) for n, r in enumerate([1, 1, 2, 4, 8] * 16)]
    times = Measured([*timed, Timed(8, 8, 100.0, False)], 8, 0, 0, 0.0, batches=True)
    slow = 2.0 * (100.0 - 7 * 0.02) / 0.32
    assert times.mean == pytest.approx(0.02 * (80 + slow) / 81)


def test_each_job_has_a_fit_of_its_own_by_which_calls_of_some_rows_take_what_they_did():
    rng = np.random.default_rng(0)
    timed = [Timed(0, 1, 9.0)]
    timed += [Timed(0, rows, (1.0 + 0.1 * rows) * rng.uniform(0.8, 1.2)) for rows in range(1, 25)]
    times = Measured(timed, 1, 0, 0, 0.0, batches=True)
    for call in timed[1::6]:
        found = []
        for number in range(10):
            ending = times.replay(number)
            again = SimpleNamespace(worker=0, groups=call.rows, limit=math.inf, step=1)
            found += [ending(again, 0.0).seconds for _ in range(100)]
        assert np.isclose(found, call.seconds).any()


def test_times_of_a_model_are_certain_and_those_of_each_job_its_own():
    times = Drawn(cm.latency.ShiftedExponential(1.0, 0.5), 6, 0, 5)
    assert (times.doubt, times.unseen, times.overhead, times.batches) == (0.0, 0.0, 0.0, False)
    assert times.mean == pytest.approx(1.5, rel=0.1)
    assert times.rate(7) == pytest.approx(6 / times.mean)
    jobs = [tuple(replayed(times, number, 2)) for number in range(6)]
    assert len({*jobs}) == 5
    assert jobs[0] == jobs[5]


# Jobs in virtual time.


def test_a_share_is_answered_when_as_many_rows_are():
    """Of 100 rows the last four have their own times; before, two a second are answered and six run."""
    jobs = Exact(100, rate=2.0, running=6.0, ends=[np.array([50.0, 51.0, 53.0, 60.0])])
    for rows, seconds in (
        (10, 8.0),
        (60, 33.0),
        (94, 50.0),
        (96, 50.0),
        (97, 50.0),
        (98, 51.0),
        (100, 60.0),
    ):
        assert jobs.answered(rows / 100)[0] == pytest.approx(seconds)
    assert jobs.answered(0.965)[0] == 50.0  # of 97
    assert jobs.answered(0.9701)[0] == 51.0


def test_a_job_whose_workers_never_answer_does_not_end():
    times = SimpleNamespace(workers=4, mean=1.0, overhead=0.0, batches=False)
    times.rate = lambda rows: 4.0
    times.replay = lambda number: lambda call, now: Ending(math.inf)
    exact, coded = Exact(40), Coded()
    run_exact(exact, times, 0)
    run_coded(coded, cm.Replication(2, 4), 40, times, 0)
    assert exact.seconds == coded.seconds == [math.inf]
    assert np.isinf(exact.ends[0]).all()


def test_what_is_told_of_a_job_with_a_code():
    """Of two tasks, copied twice, on four workers of which one never answers: 20 groups."""
    timed = [Timed(n % 4, 1, 1.0) for n in range(40)]
    found = Coded()
    run_coded(found, cm.Replication(2, 4), 40, Measured(timed, 4, 1, 0, 0.0), 0)
    assert found.own == {0: 0, 1: 1, 2: 0, 3: 1}
    assert found.decodable(frozenset({0, 3}))
    assert not found.decodable(frozenset({0, 2}))
    assert (found.exact, found.mixtures) == ([1.0], [0])
    assert found.calls[0] >= 1.5  # 20 groups of three payloads or four, over 40 rows
    assert 1.0 <= found.seconds[0] < math.inf
    spline = Coded()
    run_coded(spline, cm.SplineCode(2, 4, 1), 40, Measured(timed, 4, 1, 0, 0.0), 0)
    assert spline.exact == [0.0]
    assert spline.mixtures == [3 * 20]


# Pilots.


@pytest.mark.parametrize(
    ("inputs", "values", "copied", "mixed"),
    [
        (np.ones((5, 2)), np.ones(5), True, True),
        (np.ones((5, 2), int), np.ones(5), True, False),
        (np.ones((5, 2)), np.ones(5, int), True, False),
        (np.ones((5, 2)), (np.ones(5), np.ones(5)), False, False),
        (np.ones((5, 2)), {"a": np.ones(5)}, False, True),
        ((np.ones((5, 2)), np.ones(5)), np.ones(5), False, False),
        (["a"] * 5, np.ones(5), True, False),
        (np.ones((5, 2)), np.zeros((5, 0)), False, True),
        (np.full((5, 2), np.nan), np.ones(5), False, False),
        (np.ones((5, 2)), np.full(5, np.inf), True, False),
    ],
)
def test_which_codes_suit_inputs_and_answers(inputs, values, copied, mixed):
    none, *some = (
        Pilot.of(InputRows(inputs), np.arange(5) < rows, values, [CALL], **PLAIN)
        for rows in (0, 1, 3)
    )
    found = [(known.answered, known.copied, known.mixed) for known in some]
    assert found == [(1, copied, mixed), (3, copied, mixed)]
    assert none.copied >= copied
    assert not none.mixed


@pytest.mark.parametrize(
    ("cold", "row", "left"), [(3.0, 0.05, 12), (0.25, 0.05, 16), (0.04, 0.001, 16)]
)
def test_first_calls_that_compile_something_are_left_out_and_it_is_said(cold, row, left):
    first = [Timed(worker, 2, 2 * row + cold) for worker in range(4)]
    others = [Timed(number % 4, 1, row) for number in range(10)]
    running = [Timed(number, 1, 0.02, False) for number in range(2)]
    inputs = np.arange(20.0)[:, None]
    exact = np.arange(20) < 18
    known = Pilot.of(InputRows(inputs), exact, inputs, [*first, *others, *running], **PLAIN)
    assert len(known.timed) == left
    text = "the first call of each worker took 3 s more than others, which is left out"
    assert known.remarks == ((text,) if left == 12 else ())


def test_a_thousand_rows_with_an_answer_are_looked_at():
    inputs = np.arange(2500.0)[:, None]
    values = np.stack([inputs[:, 0] ** 2, -inputs[:, 0]], axis=1)[:, :, None]
    exact = np.arange(2500) % 2 == 0
    known = Pilot.of(InputRows(inputs), exact, values, [CALL], **PLAIN)
    assert (known.answered, len(known.points), known.shape) == (1250, 1000, (1,))
    assert (np.diff(known.points[:, 0]) > 0.0).all()
    assert (known.points % 2 == 0).all()
    np.testing.assert_array_equal(known.answers, np.hstack([known.points**2, -known.points]))


# Ways.


def ways(*, few=False, errors=None, **ask) -> _Ways:
    timed = [Timed(n % 8, 1, 1.0) for n in range(20 if few else 400)]
    question = Question(**{"rows": 1000, "workers": 8, "error": 0.05, **ask})
    found = _Ways(question, pilot(timed=timed), 10.0, lambda: 0.0)
    found.errors = SimpleNamespace(deviation=4.0, known=True) if errors is None else errors
    assert found.few == few
    return found


def row(seconds=1.0, error=0.0, calls=1.0, *, name="way", exact=0.9, **others) -> PlanRow:
    return PlanRow(name, None, None, seconds, seconds, calls, exact, error, **others)


@pytest.mark.parametrize(
    ("error", "errors", "exact", "allowed"),
    [
        (0.0, None, 1.0, True),
        (0.05, None, 1.0, True),
        (0.051, None, 1.0, False),
        (0.05 / 2**0.4 * 0.99, None, 0.9, True),  # an error may be twice as large, of which 0.4
        (0.05 / 2**0.4 * 1.01, None, 0.9, False),
        (0.01, (0.001, 0.07), 0.9, True),  # 0.2 and 0.8 of the way to the upper end: 0.047
        (0.01, (0.001, 0.08), 0.9, False),  # 0.053
        (math.nan, None, 0.9, False),
    ],
)
def test_errors_are_allowed_with_some_caution(error, errors, exact, allowed):
    assert ways()._allowed(row(error=error, errors=errors, exact=exact)) is allowed
    # The same as a tolerance of what is estimated, in the unit of outputs whose deviation is 4.
    each = math.sqrt(1.0 - exact) if exact < 1.0 else 1.0
    asked = ways(tolerance=0.05 / each * 4.0 * (1.0 + 1e-9))
    if exact < 1.0 or error == 0.0 or math.isnan(error):
        assert asked._allowed(row(error=error, errors=errors, exact=exact)) is allowed


def test_the_fastest_way_is_used_if_it_is_faster_by_a_tenth_and_a_twentieth_of_a_second():
    for seconds, least, best in (
        (10.0, 9.0, 1),
        (10.0, 9.1, 0),  # times 1.1 is 10.01
        (0.2, 0.149, 1),
        (0.2, 0.151, 0),
    ):
        rows = [row(seconds, name="exact with hedging", exact=1.0), row(least)]
        assert ways()._best(rows) is rows[best]
    slow = row(10.0, exact=1.0)
    for others, best in (
        ([row(5.0, error=0.2), row(6.0)], 2),  # the first is too far off
        ([row(5.0, calls=1.2), row(5.2, calls=1.1)], 2),  # as fast but for a twentieth
        ([row(5.0, calls=1.2), row(5.3, calls=1.1)], 1),
        ([row(5.0, error=0.02), row(5.2, error=0.01)], 2),
        ([row(math.inf)], 0),
        ([], 0),
    ):
        assert ways()._best([slow, *others]) is [slow, *others][best]
    # Where times are ranges, the worse end of the other beside the better one of this.
    slow = row(10.0, exact=1.0, range=(8.0, 12.0))
    for ends, best in (((3.0, 7.2), 1), ((3.0, 7.3), 0)):
        rows = [slow, row(5.0, range=ends)]
        assert ways()._best(rows) is rows[best]


def test_within_a_deadline_the_most_exact_way_of_the_fewest_calls_is_used():
    asked = ways(deadline=5.0)
    slow = row(6.0, exact=1.0)
    for others, best in (
        ([row(4.0, 0.02), row(4.9, 0.01), row(5.1)], 2),
        ([row(4.0, 0.01, 1.2), row(4.9, 0.01, 1.1)], 2),
        ([row(5.0, 0.3)], 1),
        ([row(4.0, math.nan)], 0),
        ([row(4.0, 0.01, range=(3.0, 5.1))], 0),
    ):
        assert asked._best([slow, *others]) is [slow, *others][best]
    exact = row(4.5, calls=1.05, exact=1.0)
    assert asked._best([exact, row(5.0, exact=1.0), row(4.0, exact=1.0, calls=2.0)]) is exact


def test_what_a_way_comes_to_is_told_by_its_jobs():
    seconds, calls = RNG.permutation(200) + 1.0, RNG.uniform(1.0, 1.1, 200)
    found = ways()._row("way", seconds, calls, 0.9, Expected(0.02, 0.01, 0.03))
    assert (found.seconds, found.p99, found.range) == (100.0, 198.0, None)
    assert found.calls == pytest.approx(calls.mean())
    assert (found.exact, found.error, found.errors) == (0.9, 0.02, (0.01, 0.03))
    few = ways(few=True)
    few.times.doubt = 0.25
    low, high = few._row("way", seconds, calls).range
    assert low == pytest.approx(5.0 / 1.25)
    assert high == pytest.approx(195.0 * (1.25 + few.times.unseen))


def test_errors_are_a_range_if_the_upper_end_is_more_than_twice_the_lower():
    for low, high, wide in ((0.1, 0.19, False), (0.1, 0.21, True), (1e-9, 1.9e-3, False), (1e-9, 2.1e-3, True)):  # fmt: skip
        assert _range(Expected(0.1, low, high)) == ((low, high) if wide else None)


@pytest.mark.parametrize("few", [False, True])
def test_errors_of_a_share_have_the_range_of_what_is_answered_if_calls_take_another_time(few):
    class Answers:
        def of(self, answers):
            return Expected(*(factor / answers for factor in (1.0, 0.5, 2.0)))

    found = ways(few=few, errors=Answers())
    found.times.doubt, found.times.unseen = 0.25, 0.5
    error, low, high = found._of_share(0.6)
    most, least = 0.75, 0.6 / (1.75 if few else 1.25)
    assert error == pytest.approx(math.sqrt(0.4) / 600)
    assert low == pytest.approx(math.sqrt(1.0 - most) * 0.5 / (1000 * most))
    assert high == pytest.approx(math.sqrt(1.0 - least) * 2.0 / (1000 * least))
    assert found._of_share(0.9).low == 0.0  # all rows may be


@pytest.mark.parametrize(
    ("rows", "answered", "seconds", "budget"),
    [(1000, 50, 2.0, 4.0), (1000, 1, 1.0, 100.0), (1000, 0, 1.0, 100.0), (10, 10, 1.0, 0.15)],
)
def test_a_tenth_of_the_job_may_go_to_its_plan(rows, answered, seconds, budget):
    assert budget_of(rows, answered, seconds) == pytest.approx(budget)


@pytest.mark.parametrize(("workers", "late"), [(1, 0), (2, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_one_worker_in_five_may_be_late(workers, late):
    assert ways(workers=workers).late == late
    assert ways(workers=workers, stragglers=0).late == 0


def test_times_are_ranges_where_few_calls_were_timed_or_they_differ():
    even, uneven = ([Timed(0, 1, s) for s in some] for some in (np.ones(200), RNG.exponential(1.0, 200)))  # fmt: skip
    question = Question(rows=10, workers=2, error=0.1)
    for timed, few in (
        (even, False),
        (even[:199], True),
        ([*even[:199], Timed(1, 1, 0.5, False)], True),
        (uneven, True),
    ):
        assert _Ways(question, pilot(timed=timed), 1.0, lambda: 0.0).few is few
    model = cm.latency.ShiftedExponential(1.0, 0.0)
    known = pilot(timed=even[:3])
    asked = Question(rows=10, workers=2, error=0.1, latency=model)
    assert not _Ways(asked, known, 1.0, lambda: 0.0).few


SHARES = 1.1 ** -np.arange(1.0, 60.0)


@pytest.mark.parametrize(
    ("rows", "fewest", "ask", "off"),
    [
        (1000, 0.0, {}, 20.0),
        (1000, 0.0, {}, 0.5),  # down to two answers
        (20, 0.0, {}, 0.1),
        (1000, 600.0, {}, 0.5),  # or as many as errors were measured from
        (1000, 0.0, {}, 200.0),  # too far off at once
        (1000, 0.0, {"shortest": 60.0}, 0.5),
        (1000, 0.0, {"shortest": 120.0}, 0.5),
        (1_000_000, 0.0, {}, 0.5),  # in a tenth of 100 s estimates of 500,000 can be made
        (1000, 0.0, {"deadline": 70.0}, 200.0),
        (1000, 700.0, {"deadline": 70.0}, 0.5),
        (1_000_000, 0.0, {"deadline": 70.0}, 0.5),
        (1_000_000, 0.0, {"deadline": 500.0}, 0.5),
    ],
)
def test_as_few_rows_are_awaited_as_are_enough_for_the_error_or_as_many_as_a_deadline_leaves(
    rows, fewest, ask, off
):
    """Rows are answered at an even rate, in 100 s; errors are one over the number of answers."""

    def error(share):
        return off / (share * rows) * math.sqrt(1.0 - share)

    class Answers:
        known, deviation = True, 1.0

        def of(self, answers):
            return Expected(*[off / answers] * 3)

    Answers.fewest = fewest
    found = ways(errors=Answers(), rows=rows, **ask)
    found.jobs = SimpleNamespace(answered=lambda share: np.array([90.0, 90.0, 1e9]) * share)
    taken, deadline = None, ask.get("deadline")
    shares = SHARES if deadline is None else np.append(1.0, SHARES)  # then it may be all of them
    for share in shares[shares * rows >= max(2.0, fewest)]:
        seconds = deadline or 100.0 * share
        slow = (1.0 - share) * rows * 2e-5 > 0.1 * seconds
        if deadline is not None:
            if 100.0 * share <= deadline and not slow:
                taken = share
                break
        elif slow or seconds < ask.get("shortest", 2.0) or (
            taken is not None and error(share) * 2.0**0.4 > 0.05
        ):  # fmt: skip
            break
        else:
            taken = share
    made = [*found._estimated()]
    if taken is None:
        assert made == []
        assert len(found.remarks) == (deadline is not None)
        return
    [row] = made
    assert row.exact == pytest.approx(taken)
    assert row.error == pytest.approx(error(taken))
    at = deadline or 100.0 * taken
    assert (row.deadline, row.seconds, row.p99) == pytest.approx((at, at, at))
    assert row.calls == pytest.approx(min(1.0, taken + 8 / rows))
    assert (row.code, row.range, row.errors) == (None, None, None)


def test_without_errors_nothing_is_estimated():
    found = ways(errors=SimpleNamespace(known=False), deadline=5.0)
    assert [*found._estimated()] == found.remarks == []


@pytest.mark.parametrize(
    ("ask", "known", "names", "tasks"),
    [
        ({"workers": 10}, {}, {"copies", "KernelCode", "SplineCode", "BerrutCode"}, {5, 8}),
        (
            {"workers": 10, "tasks": 4},
            {},
            {"copies", "KernelCode", "SplineCode", "BerrutCode"},
            {4},
        ),
        ({"workers": 10, "tasks": 6}, {}, {"KernelCode", "SplineCode", "BerrutCode"}, {6}),
        ({"workers": 10, "rows": 3}, {}, {"copies", "KernelCode", "SplineCode", "BerrutCode"}, {3}),
        ({"workers": 10, "stragglers": 0}, {}, {"copies"}, {5}),
        ({"workers": 10}, {"mixed": False}, {"copies"}, {5}),
        ({"workers": 10}, {"copied": False}, set(), set()),
        ({"workers": 10, "coded": False}, {}, set(), set()),
        ({"workers": 10, "rows": 1}, {}, set(), set()),
        ({"workers": 1}, {}, set(), set()),
    ],
)
def test_codes_are_of_as_many_tasks_as_workers_are_surely_in_time(ask, known, names, tasks):
    question = Question(**{"rows": 1000, "error": 0.05} | ask)
    found = [*_Ways(question, replace(pilot(), **known), 1.0, lambda: 0.0)._codes()]
    assert {name for name, _ in found} == names
    assert {code.tasks for _, code in found} == tasks
    assert {code.workers for _, code in found} <= {ask["workers"]}
    late = ask.get("stragglers", 2)
    assert {code.stragglers for name, code in found if name != "copies"} <= {late}


def test_codes_share_the_time_that_is_left():
    found, now, asked = ways(), [0.0], []
    found.spent = lambda: now[0]

    def of_code(name, code, until):
        asked.append((name, until))
        now[0] += {"a": 4.0, "b": 1.0, "c": 5.0}[name]
        if name == "b":
            raise cm.InvalidArgument("it is none for so many: take another")
        return name

    found._of_code = of_code
    code = cm.Replication(2, 4)
    assert [*found._coded([(name, code) for name in "abcde"])] == ["a", "c"]
    # Of 10 s a fifth is for the first, of the 6 s that are left then a fourth for the next, and so on.
    assert asked == [("a", 8.0), ("b", pytest.approx(4.5)), ("c", pytest.approx(10.0 / 3.0))]
    assert found.skipped == ["d", "e"]
    assert found.remarks == ["b cannot be used: it is none for so many"]


@pytest.mark.parametrize(
    ("code", "stragglers", "exact", "error"),
    [
        (cm.KernelCode(2, 4, 1, spread=0.0), None, 0.9, math.sqrt(0.1) / (900 + 50)),
        (cm.KernelCode(2, 4, 1, spread=0.0), 1, 1.0, 0.0),  # a copy of each task is left
        (cm.SplineCode(2, 4, 1), None, 0.0, 0.3),
    ],
)
def test_what_a_code_comes_to(code, stragglers, exact, error, monkeypatch):
    class Answers:
        known = True

        def of(self, answers):
            return Expected(*[1.0 / answers] * 3)

        def decoded(self, code, shape, sets, goes_on):
            assert (shape, sets.shape) == ((2,), (4, 3))
            assert not goes_on()
            return 0.3, 1

    def run(found, code, rows, times, number):
        assert rows == 1000
        now[0] += 1.0
        found.seconds.append(10.0 + number)
        found.calls.append(1.5)
        found.exact.append([0.8, 1.0][number % 2])
        found.mixtures.append([0, 100][number % 2])
        found.own, found.decodable = {0: 0, 1: 1, 2: 0, 3: 1}, lambda slots: len(slots) > 1

    now = [0.0]
    monkeypatch.setattr(ways_module, "run_coded", run)
    found = ways(errors=Answers(), stragglers=stragglers)
    found.spent = lambda: now[0]
    row = found._of_code("mine", code, 6.0)
    assert now == [4.0]  # as long as more than 6 s of 10 are left
    assert (row.scheme, row.code, row.seconds, row.calls) == ("mine", code, 11.0, 1.5)
    assert (row.exact, row.error) == pytest.approx((exact, error))
    spline = isinstance(code, cm.SplineCode)
    assert row.errors == (pytest.approx((0.3 / 2.5, 0.3 * 2.5)) if spline else None)
    assert found.skipped == ["3 of 4 straggler sets of mine"] * spline
    if not spline:
        found.spent = lambda: 0.0
        found._of_code("mine", code, 6.0)
        assert now == [4.0 + 8.0]  # and at most eight times


@pytest.mark.parametrize(("seconds", "running"), [(1.0, 4.0), (0.01, 20.0)])
def test_half_of_a_call_of_each_worker_has_been_computed(seconds, running):
    known = pilot(timed=[Timed(0, 1, seconds)])
    for lost in (None, 0, 2):
        question = Question(rows=10, workers=8, error=0.1, stragglers=lost)
        found = _Ways(question, known, 1.0, lambda: 0.0)
        assert found.jobs.running == pytest.approx(running)
        assert found.times.rate(1) == pytest.approx((8 - (lost or 0)) / seconds)


@pytest.mark.parametrize(
    ("ask", "jobs", "seconds"),
    [
        ({"deadline": 7.0}, [30.0], 7.0),
        ({}, [30.0, 1.0, 50.0], 30.0),
        ({}, [1.9], math.inf),
        ({"shortest": 0.5}, [1.9], 2.0),
        ({"shortest": 0.5}, [0.4], math.inf),
    ],
)
def test_errors_are_looked_at_in_seven_tenths_of_the_time_and_are_those_of_the_job(
    ask, jobs, seconds, monkeypatch
):
    monkeypatch.setattr(ways_module, "Errors", lambda *given: given)
    now = [2.0]
    found = _Ways(Question(rows=10, workers=8, error=0.1, **ask), pilot(), 10.0, lambda: now[0])
    found.jobs.seconds.extend(jobs)
    _, _, asked, time_left = found.errors
    assert asked == seconds
    assert time_left() == pytest.approx(0.7 * 8.0)
    now[0] = 5.0
    assert time_left() == pytest.approx(0.7 * 8.0 - 3.0)


@pytest.mark.parametrize(
    ("each", "first", "in_all"),
    [
        (0.01, 10, 200),
        (0.5, 6, 18),  # while more than 7 of 10 s are left, and twice what one takes in the end
        (3.0, 3, 3),  # three while more than 2 s are left
        (4.5, 2, 2),
        (11.0, 1, 1),
    ],
)
def test_jobs_are_replayed_while_there_is_time_and_codes_looked_at_in_between(
    each, first, in_all, monkeypatch
):
    now, looked = [0.0], []

    def run(jobs, times, number):
        assert number == len(jobs.seconds)
        now[0] += each
        jobs.seconds.append(10.0)
        jobs.calls.append(1.0)

    monkeypatch.setattr(ways_module, "run_exact", run)
    monkeypatch.setattr(ways_module.time, "perf_counter", lambda: 100.0 + now[0])
    codes = [
        ("spline", cm.SplineCode(6, 8, 2)),
        ("kernel", cm.KernelCode(6, 8, 2)),
        ("copies", cm.Replication(4, 8)),
    ]
    found = ways(codes=codes)
    found.spent = lambda: now[0]

    def coded(some):
        looked.append(([name for name, _ in some], len(found.jobs.seconds)))
        yield from (row(8.0, 0.01, name=name) for name, _ in some)

    found._coded = coded
    found._estimated = lambda: iter([row(9.5, 0.01, name="estimates"), row(7.0, 1.0, name="poor")])
    plan = found.plan()
    assert looked == [(["copies"], first), (["kernel", "spline"], first)]
    assert len(found.jobs.seconds) == in_all
    # The best first, and then by time.
    names = ["copies", "poor", "kernel", "spline", "estimates", "exact with hedging"]
    assert [way.scheme for way in plan.rows] == names
    assert (plan.tasks, plan.workers, plan.stragglers, plan.deviation) == (1000, 8, 2, 4.0)
    assert (plan.asked, plan.computed, plan.timed, plan.seconds) == (0.05, 400, 400, now[0])
