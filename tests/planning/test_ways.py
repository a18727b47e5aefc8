"""Plans from what is known of some rows: no engine, no clock but that of planning."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import codedmap as cm
from codedmap.execution.events import Job
from codedmap.execution.inputs import InputRows
from codedmap.execution.virtual import Ending, run_virtually
from codedmap.planning import ways
from codedmap.planning.errors import Errors
from codedmap.planning.pilot import Pilot, Timed
from codedmap.planning.replays import Exact, every_set, exact_share, run_exact
from codedmap.planning.times import Measured
from codedmap.planning.ways import Question, planned

from ..repeats import first

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (400, 3))
SMOOTH = np.tanh(X @ RNG.normal(size=(3, 2)))[:, :1]
WAVY = np.sin(9 * X[:, :1]) * np.abs(X[:, 1:2]) + X[:, 2:]
NOISE = RNG.normal(size=(400, 1))
TEXT = [str(row) for row in range(400)]
"""Inputs from which nothing is estimated: to look at errors is what most of the time goes to."""


@pytest.fixture(autouse=True)
def fewer(monkeypatch):
    """Replays of a plan: 200 take half a second."""
    monkeypatch.setattr(ways, "_MOST", 60)


def pilot(rows=200, answers=SMOOTH, seconds=None, inputs=X):
    exact = np.zeros(len(inputs), dtype=bool)
    exact[RNG.permutation(len(inputs))[:rows]] = True
    seconds = RNG.exponential(0.2, rows) + 1.0 if seconds is None else seconds
    timed = [Timed(number % 8, 1, float(s)) for number, s in enumerate(seconds)]
    return Pilot.of(
        InputRows(inputs), exact, answers, timed, overhead=0.0, remarks=(), batches=False
    )


def plan(known, *, budget=4.0, spent=lambda: 0.0, **ask):
    question = Question(**{"rows": 400, "workers": 8, "error": 0.05, **ask})
    return planned(question, known, budget=budget, spent=spent)


def way(found, scheme):
    [row] = [row for row in found.rows if row.scheme == scheme]
    return row


def test_every_way_is_compared_and_the_fastest_that_is_exact_enough_comes_first():
    found = plan(pilot())
    assert {row.scheme for row in found.rows} == {
        "exact with hedging", "estimates at a deadline", "copies", "KernelCode", "SplineCode", "BerrutCode",
    }  # fmt: skip
    best = found.rows[0]
    assert best.scheme == "estimates at a deadline"
    assert best.error < 0.05
    assert best.seconds < 0.9 * way(found, "exact with hedging").seconds
    assert found.options == {"deadline": best.deadline}
    times = [row.seconds for row in found.rows[1:]]
    assert times == sorted(times)


def test_where_nothing_can_be_estimated_every_row_is_computed():
    found = plan(pilot(answers=NOISE))
    assert found.rows[0].scheme == "exact with hedging"
    assert found.advice.endswith("More than the 5 % allowed. Not worth it.")
    assert way(found, "estimates at a deadline").error == pytest.approx(
        0.3, abs=0.06
    )  # of one in eleven


def test_an_error_of_0_asks_for_exact_rows():
    found = plan(pilot(), error=0.0, codes=[])
    assert found.rows[0].exact == 1.0


def test_a_tolerance_is_of_estimated_rows_in_their_unit():
    deviation = np.sqrt((SMOOTH.std(axis=0) ** 2).mean())
    known = pilot()
    loose, tight = (plan(known, tolerance=share * deviation, codes=[]) for share in (0.2, 1e-9))
    assert loose.rows[0].scheme == "estimates at a deadline"
    assert loose.asked == pytest.approx(0.2, rel=0.1)
    assert loose.advice.endswith("Worth it.")
    assert tight.rows[0].exact == 1.0
    assert plan(pilot(inputs=TEXT), tolerance=0.2, codes=[], spent=lambda: 4.0).asked == 0.05


def test_within_a_deadline_the_error_is_as_small_as_there_is_time_for():
    exact = way(plan(pilot(inputs=TEXT), codes=[]), "exact with hedging")
    found = plan(pilot(), deadline=0.6 * exact.seconds, codes=[])
    assert found.options == {"deadline": 0.6 * exact.seconds}
    assert found.rows[0].exact == pytest.approx(0.54, abs=0.08)
    early = plan(pilot(), deadline=0.5, codes=[])  # when no row has an answer
    assert [row.scheme for row in early.rows] == ["exact with hedging"]
    assert "too few rows are answered within 0.5 s" in str(early)
    text = plan(pilot(inputs=TEXT), deadline=0.5 * exact.seconds, codes=[], spent=lambda: 4.0)
    for known, in_time in ((found, True), (early, False), (text, False)):
        assert ("no way of known error ends within" in str(known)) != in_time


@pytest.mark.slow
def test_within_a_deadline_that_is_late_enough_every_row_is_computed():
    exact = way(plan(pilot(inputs=TEXT), codes=[]), "exact with hedging")
    late = plan(pilot(), deadline=2 * exact.p99, codes=[])
    assert late.rows[0].scheme == "exact with hedging"
    at_deadline = way(late, "estimates at a deadline")  # when all rows have an answer
    assert (at_deadline.exact, at_deadline.error, at_deadline.errors) == (1.0, 0.0, None)
    assert "no way of known error ends within" not in str(late)
    few = way(plan(pilot(30), codes=[]), "exact with hedging")
    doubtful = plan(pilot(30), deadline=1.1 * few.seconds, codes=[])
    assert few.p99 < 1.1 * few.seconds < few.range[1]
    assert doubtful.options == {"deadline": 1.1 * few.seconds}  # exact if all is well


def test_times_are_those_of_the_scheduler_with_these_calls():
    found = way(
        plan(pilot(400, seconds=np.full(400, 2.0), inputs=TEXT), codes=[]), "exact with hedging"
    )
    assert found.seconds == pytest.approx(100.0)  # 50 rounds
    assert found.p99 == pytest.approx(100.0)
    assert found.range is None


def test_copies_are_waited_for_with_workers_that_never_answer():
    found = way(plan(pilot(400, inputs=TEXT), stragglers=2), "copies")
    assert found.exact == 1.0
    assert math.isfinite(found.seconds)


@pytest.mark.parametrize("workers", [1, 2])
def test_two_workers_are_enough_for_copies(workers):
    found = plan(pilot(40, inputs=TEXT), rows=40, workers=workers, budget=0.01)
    assert ("copies" in {row.scheme for row in found.rows}) is (workers == 2)


@pytest.mark.parametrize(("workers", "late"), [(8, 2), (12, 3)])
def test_all_straggler_sets_are_looked_at(workers, late):
    code = cm.KernelCode(workers - late, workers, late, spread=0.0)
    sets, total = every_set(workers, late, seed=0)
    assert total == len(sets) == math.comb(workers, late)
    own = {slot: slot % code.tasks for slot in range(workers)}
    expected = np.mean(
        [
            len({own[slot] for slot in range(workers) if slot not in gone}) / code.tasks
            for gone in itertools.combinations(range(workers), late)
        ]
    )
    assert exact_share(own, code.tasks, sets) == pytest.approx(expected)
    found = plan(pilot(inputs=TEXT), workers=workers, stragglers=late, codes=[("mine", code)])
    assert way(found, "mine").exact == pytest.approx(expected)


def test_of_more_sets_some_are_drawn_and_that_is_said():
    sets, total = every_set(24, 4, seed=0)
    assert (len(sets), total) == (10_000, 10_626)
    code = cm.KernelCode(20, 24, 4)
    ask = {"rows": 40, "workers": 24, "codes": [("mine", code)]}
    remark = "of 10,626 straggler sets 10,000 were drawn"
    assert remark in plan(pilot(inputs=TEXT), stragglers=4, **ask).remarks
    assert remark not in plan(pilot(inputs=TEXT), **ask).remarks


@pytest.mark.slow
def test_codes_with_estimates_of_their_own_are_decoded_from_many_sets():
    found = plan(pilot(rows=400, answers=SMOOTH), codes=[("spline", cm.SplineCode(6, 8, 2))])
    squares = []
    deviation = SMOOTH.std(axis=0)
    weights = np.linalg.lstsq(X, np.arctanh(SMOOTH), rcond=None)[0]
    for late in itertools.islice(itertools.combinations(range(8), 2), 0, 28, 4):
        engine = cm.testing.Scripted(8, dict.fromkeys(late, cm.testing.never()))
        result = cm.map(
            lambda b: np.tanh(b @ weights), X, code=cm.SplineCode(6, 8, 2), engine=engine
        )
        squares.append((((result.values - SMOOTH) / deviation) ** 2).mean())
    actual = np.sqrt(np.mean(squares))
    assert actual / 2 < way(found, "spline").error < 2 * actual


def test_a_budget_that_is_spent_is_named_with_what_was_not_looked_at():
    found = plan(pilot(answers=NOISE), budget=0.2, spent=lambda: 0.3)
    [remark] = [text for text in found.remarks if "not looked at" in text]
    for name in ("copies", "KernelCode", "SplineCode", "BerrutCode"):
        assert name in remark


def test_few_timed_calls_give_a_range_that_has_room_for_slower_ones():
    found = plan(pilot(rows=20), codes=[])
    exact = way(found, "exact with hedging")
    low, high = exact.range
    assert low <= exact.seconds < high
    assert any("200 are needed" in text for text in found.remarks)


def test_where_times_are_ranges_another_way_has_to_be_faster_at_the_worse_ends():
    seconds = np.r_[np.full(7, 1e-3), 60.0]  # of which one says what the others do not
    found = plan(pilot(rows=8, seconds=seconds), error=10.0)
    exact = way(found, "exact with hedging")
    best = found.rows[0]
    assert best is exact or (best.range or (0.0, best.seconds))[1] * 1.1 <= exact.range[0]


@pytest.mark.parametrize("rows", first(2, [0, 2, 1, 4]))
def test_too_few_answers_say_nothing_of_errors(rows):
    timed = [Timed(0, 1, 1.0)]
    found = plan(replace(pilot(rows=rows), timed=timed, mixed=False))
    assert found.rows[0].exact == 1.0
    assert any("too few rows to say anything of errors" in text for text in found.remarks)


def test_a_constant_has_no_error():
    found = plan(pilot(answers=np.full((400, 1), 7.0)))
    assert found.rows[0].error == 0.0


def test_where_some_answers_are_not_finite_only_exact_ways_are_recommended():
    answers = SMOOTH.copy()
    answers[X[:, 0] > 0.8] = np.nan  # as would be those that are estimated there
    found = plan(pilot(rows=400, answers=answers), codes=[])
    assert any("answers are not finite" in text for text in found.remarks)
    assert [row.scheme for row in found.rows] == ["exact with hedging"]


@pytest.mark.parametrize("where", ["inputs", "answers"])
def test_where_nothing_is_finite_only_exact_ways_are_left(where):
    nothing = {where: np.full_like(X if where == "inputs" else SMOOTH, np.nan)}
    found = plan(pilot(**nothing))
    assert {row.scheme for row in found.rows if not math.isnan(row.error)} <= {
        "exact with hedging", "copies",
    }  # fmt: skip
    if where == "inputs":  # which a code refuses
        assert {row.scheme for row in found.rows} == {"exact with hedging"}


@pytest.mark.parametrize("answers", first(1, [(SMOOTH, SMOOTH), {"a": SMOOTH}, np.zeros((400, 0))]))
def test_codes_are_none_of_the_ways_where_they_take_no_such_answers(answers):
    assert all(row.code is None for row in plan(pilot(answers=answers)).rows)


def test_text_is_copied_and_nothing_is_estimated():
    words = ["a" * (1 + number % 7) for number in range(400)]
    lengths = np.array([float(len(word)) for word in words])
    found = plan(pilot(inputs=words, answers=lengths))
    assert {row.scheme for row in found.rows} == {"exact with hedging", "copies"}
    assert any("not arrays of finite numbers" in text for text in found.remarks)


def test_a_latency_model_takes_the_place_of_what_was_timed():
    model = cm.latency.ShiftedExponential(3.0, 0.0)
    found = plan(pilot(400, inputs=TEXT), latency=model, codes=[])
    assert way(found, "exact with hedging").seconds == pytest.approx(150.0)


def test_a_worker_that_is_slower_is_slow_in_virtual_time_too():
    timed = [
        Timed(n % 4, 1, (5.0 if n % 4 == 0 else 1.0) * (1 + 0.01 * (n // 4))) for n in range(80)
    ]
    times = Measured(timed, 4, 0, 0, 0.0)
    assert sorted(times._speeds)[-1] == pytest.approx(5.0, rel=0.05)
    even = Measured(
        [Timed(n % 4, 1, float(1 + RNG.exponential())) for n in range(40)], 4, 0, 0, 0.0
    )
    assert max(even._speeds) < 1.5  # what chance does


def test_a_call_that_has_not_ended_counts_if_it_runs_longer_than_usual():
    timed = [Timed(n, 1, 1.0) for n in range(10)]
    still = Measured([*timed, Timed(10, 1, 0.5, False)], 4, 0, 0, 0.0)
    hangs = Measured([*timed, Timed(10, 1, 20.0, False)], 4, 0, 0, 0.0)
    assert still.mean == 1.0
    assert hangs.mean == pytest.approx(50 / 11)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:rows are not lost at random")  # as they may seem by chance
@pytest.mark.parametrize("answers", first(1, [WAVY, NOISE]))
def test_errors_are_those_of_estimates_from_as_many_answers(answers):
    inputs, answers = X[:200], answers[:200]
    errors = Errors(pilot(200, answers, inputs=inputs), 0, 100.0, lambda: 100.0)
    rng = np.random.default_rng(0)
    for share in (0.4, 0.7):
        squares = []
        for _ in range(3):  # one draw may be twice as far off as another
            lost = rng.permutation(200)[int(share * 200) :]
            given = answers.copy()
            given[lost] = np.nan
            off = (cm.fill(inputs, given).values - answers)[lost] / answers.std(axis=0)
            squares.append((off**2).mean())
        actual = max(1e-3, np.sqrt(np.mean(squares)))
        assert actual / 2 < max(1e-3, errors.of(share * 200).error) < 2 * actual


def test_errors_are_those_of_estimates_in_the_time_that_the_job_has():
    class FiveTimesBetter(Errors):
        def _squared_errors(self, kept, seconds):
            return np.full(10, 0.04 if seconds > 20.0 else 1.0)

    errors = FiveTimesBetter(pilot(rows=400), 0, 1000.0, lambda: 100.0)
    assert errors.of(300).error == pytest.approx(0.2)


def test_without_time_errors_are_unknown_and_that_is_said():
    errors = Errors(pilot(), 0, 100.0, lambda: 0.0)
    assert errors.no_time
    assert math.isnan(errors.of(100).error)
    found = plan(pilot(), budget=0.2, spent=lambda: 0.3)
    assert any("no time to look at errors within 0.2 s" in text for text in found.remarks)


def test_errors_at_a_deadline_are_of_estimates_that_have_a_tenth_of_it():
    long, short = (Errors(pilot(), 0, seconds, lambda: 100.0).of(150) for seconds in (100.0, 0.01))
    assert long.high < 0.01
    assert short.error > 0.05


@pytest.mark.parametrize(("rows", "estimated"), first(1, [(1_000_000, False), (10_000, True)]))
def test_a_deadline_is_not_recommended_if_it_is_too_short_to_estimate_so_many_rows(rows, estimated):
    found = plan(pilot(seconds=np.full(200, 0.01)), rows=rows, deadline=5.0, codes=[])
    assert ("estimates at a deadline" in {row.scheme for row in found.rows}) is estimated
    assert (
        any("too many are left to be estimated" in text for text in found.remarks) is not estimated
    )


@pytest.mark.parametrize("answers", first(1, [WAVY, SMOOTH]))
def test_errors_from_more_answers_have_a_range_up_to_what_was_measured(answers):
    errors = Errors(pilot(rows=100, answers=answers), 0, math.inf, lambda: 100.0)
    measured = errors.of(75)
    before = measured.error
    for more in (100, 200, 400):
        error, low, high = errors.of(more)
        assert low < error < before < high == measured.high
        before = error


@pytest.mark.slow
def test_a_way_has_a_range_of_errors_if_its_ends_are_far_apart():
    few = way(plan(pilot(rows=40, answers=WAVY), rows=4000, codes=[]), "estimates at a deadline")
    low, high = few.errors
    assert low < few.error < high
    known = pilot(rows=400, answers=NOISE)
    many = way(plan(known, codes=[], budget=20.0), "estimates at a deadline")
    assert many.errors is None


def test_rows_that_run_have_not_been_answered():
    """Eight workers, rows of a second: after two of them there are 16 answers, and after three 24."""
    timed = [Timed(n % 8, 1, 1.0) for n in range(400)]
    jobs = Exact(400, running=4.0)
    run_exact(jobs, Measured(timed, 8, 0, 0, 0.0), 0)
    assert 2.0 <= jobs.answered(0.04)[0] < 3.0
    assert jobs.answered(1.0)[0] == pytest.approx(50.0)


def test_as_many_calls_are_replayed_where_a_call_has_many_rows():
    replayed = {}
    for seconds in (0.05, 0.0005):
        jobs = Exact(100_000)
        run_exact(jobs, Measured([Timed(0, 1, seconds)] * 8, 8, 0, 0, 0.0), 0)
        replayed[seconds] = len(jobs.ends[0])
    assert replayed[0.0005] == 100 * replayed[0.05]


@pytest.mark.parametrize(("call", "row"), first(2, [(0.3, 0.0), (0.3, 1e-3), (0.02, 2e-3)]))
def test_calls_of_batches_that_take_a_time_of_their_own(call, row):
    """A model's predict takes about as long for 100 rows as for one."""

    def seconds(rows):
        return call + row * rows

    rng = np.random.default_rng(0)
    sizes = np.repeat([1, 1, 2, 4, 8], 16)
    timed = [Timed(n % 8, r, seconds(r) * rng.uniform(0.95, 1.05)) for n, r in enumerate(sizes)]
    times = Measured(timed, 8, 0, 0, 0.0, batches=True)
    assert times.batches
    jobs = Exact(4000)
    for number in range(20):
        run_exact(jobs, times, number)
    job = run_virtually(Job(4000, batches=True), 8, lambda c, now: Ending(seconds(c.groups)))
    assert np.median(jobs.seconds) == pytest.approx(job.seconds, rel=0.15)
    assert np.mean(jobs.calls) < 1.1
    assert jobs.answered(0.5).max() < min(jobs.seconds)
    # Calls of a few rows leave open what hundreds take.
    larger = Exact(20_000)
    for number in range(12):
        run_exact(larger, times, number)
    job = run_virtually(Job(20_000, batches=True), 8, lambda c, now: Ending(seconds(c.groups)))
    assert 0.9 * min(larger.seconds) < job.seconds < 1.1 * max(larger.seconds)


def test_calls_in_proportion_to_their_rows_take_no_time_of_their_own():
    rng = np.random.default_rng(0)
    sizes = np.repeat([1, 2, 4, 8], 40)
    timed = [Timed(n % 8, r, 0.1 * rng.lognormal(0, 0.3, r).sum()) for n, r in enumerate(sizes)]
    times, plain = (Measured(timed, 8, 0, 0, 0.0, batches=batches) for batches in (True, False))
    assert not times.batches
    assert times.mean == plain.mean


def test_there_is_room_for_slow_rows_of_which_none_was_timed():
    rng = np.random.default_rng(0)
    found = plan(pilot(rows=60, seconds=rng.uniform(0.9, 1.1, 60)), codes=[])
    slow = 1.0 + 0.03 * 10.0  # 3 in 100 are ten times slower; of 60 none is with a chance of 0.16
    assert way(found, "exact with hedging").range[1] > slow * 400 / 8


def test_the_more_rows_were_timed_the_less_room_there_is_for_slow_ones():
    room = [Measured([Timed(0, 1, 1.0)] * n, 1, 0, 0, 0.0).unseen for n in (1, 3, 30)]
    assert 10.0 > room[0] > room[1] > room[2] > 0.0


@pytest.mark.parametrize(("shortest", "estimated"), first(1, [(2.0, False), (0.5, True)]))
def test_short_jobs_have_no_time_for_estimates(shortest, estimated):
    """400 rows of 30 ms on eight workers take 1.5 s."""
    found = plan(pilot(seconds=np.full(200, 0.03)), shortest=shortest, codes=[])
    assert ("estimates at a deadline" in {row.scheme for row in found.rows}) is estimated
