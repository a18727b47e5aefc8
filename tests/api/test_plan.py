"""Plans: what they measure is true, what they recommend can be used, and what cannot work says so."""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import numpy as np
import pytest

import codedmap as cm
from codedmap.planning import replays, sampling, schemes, verdict
from codedmap.planning.replays import Outcomes, Part, prepared, replayed
from codedmap.testing import Scripted, crash, never

RNG = np.random.default_rng(7)
WEIGHTS = RNG.normal(size=(3, 2))
X = RNG.uniform(-1, 1, (60, 3))
SMALL = {"workers": 8, "tasks": 6, "stragglers": 2}


def smooth(batch):
    return np.tanh(batch @ WEIGHTS)


def rough(batch):
    return np.floor(1e4 * batch.sum(axis=1, keepdims=True)) % 7.0


def whole(batch):
    """Whether these are rows of the sample, not mixtures."""
    return (batch[:, None] == X[None]).all(axis=2).any(axis=1)


@pytest.fixture(autouse=True)
def few_waves(monkeypatch):
    """Plans that take a fifth of the time."""
    monkeypatch.setattr(sampling, "_WAVES", 12)
    monkeypatch.setattr(replays, "_REPLAYED", 12)
    monkeypatch.setattr(replays, "_OF_A_KIND", 2)
    monkeypatch.setattr(schemes, "_SCREENED", 6)
    monkeypatch.setattr(sampling, "_TIMED", 2_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def named(plan, scheme):
    [row] = [row for row in plan.rows if row.scheme == scheme]
    return row


def schemes_of(plan):
    return {row.scheme for row in plan.rows}


KERNELS = {f"kernel, spread {spread:g}" for spread in (0.1, 0.2, 0.5, 1)}
COPIES = {"copies, kernel fill", "copies, mean fill", "uncoded, mean fill"}
CURVES = {"spline (LeTCC)", "spline, ordered", "Berrut (BACC)"}


# What is measured


def test_a_plan_of_a_smooth_function_tries_every_scheme_and_its_code_is_ready():
    plan = cm.plan(smooth, X, **SMALL)
    assert schemes_of(plan) == KERNELS | COPIES | CURVES
    best = plan.rows[0]
    assert plan.code is best.code
    assert (best.code.tasks, best.code.workers, best.code.stragglers) == (6, 8, 2)
    assert best.rmse < 0.3 * named(plan, "copies, mean fill").rmse
    assert best.agreement > 0.9
    assert best.p50 is best.p99 is None
    result = cm.map(smooth, X, code=plan.code, engine=Scripted(8, {1: never(), 5: never()}))
    assert np.sqrt(np.mean((result.values - smooth(X)) ** 2)) < 2 * best.rmse_p95
    assert result.code is plan.code
    assert result.plan is None


def test_on_noise_it_says_copy_and_no_kernel_fill_is_worse_than_the_mean():
    plan = cm.plan(rough, X, **SMALL)
    assert plan.rows[0].scheme == "copies, kernel fill"
    assert plan.advice.startswith("Do not code, copy")
    assert plan.rows[0].rmse <= 1.1 * named(plan, "copies, mean fill").rmse


def test_what_is_measured_is_what_map_makes_of_the_same_rows_and_stragglers():
    """A wave of `map` on an engine that follows a script, and the replay of the same wave."""
    late = (1, 4)
    arrivals = np.array([[0, 2, 3, 5, 6, 7, *late]])
    for code in (
        cm.KernelCode(6, 8, 2, 0.5),
        cm.SplineCode(6, 8, 2, order="path"),
        cm.BerrutCode(6, 8, 2),
        cm.Replication(6, 8, "mean"),
    ):
        trial = prepared(code, Part(X, smooth(X)))
        trial = trial.told(smooth(trial.payloads)) if len(trial.payloads) else trial
        outcomes = replayed([trial], arrivals, 2, 1.0)
        engine = Scripted(8, dict.fromkeys(late, never()))
        result = cm.map(smooth, X, code=code, engine=engine, stop=cm.Quorum(6))
        errors = ((result.values - smooth(X)) ** 2).mean(axis=1)
        if getattr(code, "job_estimates", False):  # which see more answers than one group's
            assert np.sqrt(errors.mean()) <= outcomes.rmse
        else:
            np.testing.assert_allclose(outcomes.by_row, errors, atol=1e-20)
            assert outcomes.rmse == pytest.approx(np.sqrt(errors.mean()))
        assert outcomes.exact == pytest.approx(result.exact.mean())


@pytest.fixture
def usual_waves(monkeypatch, few_waves):
    monkeypatch.setattr(replays, "_REPLAYED", 60)
    monkeypatch.setattr(replays, "_OF_A_KIND", 8)


@pytest.mark.parametrize("seed", range(8))
def test_the_one_straggler_set_that_loses_rows_is_not_missed(seed, usual_waves):
    """Of 28 sets one holds both copies of the third task; 60 random draws miss it one time in nine."""
    code = cm.Replication(3, 8, "mean")
    plan = cm.plan(smooth, X, workers=8, stragglers=2, codes=code, seed=seed)
    assert plan.waves == 28
    assert "all 28 straggler sets" in str(plan)
    assert plan.rows[0].exact == pytest.approx(1 - 1 / (28 * 3))
    assert plan.rows[0].rmse > 0


def lost_by_copies(tasks, workers, late, confirm=1):
    """Over all straggler sets: the mean share of tasks with fewer than ``confirm`` copies left."""
    shares = []
    for gone in itertools.combinations(range(workers), late):
        left = [slot % tasks for slot in range(workers) if slot not in gone]
        shares.append(np.mean(np.bincount(left, minlength=tasks) < confirm))
    return np.array(shares)


@pytest.mark.parametrize("confirm", [1, 2])
def test_exact_rows_are_counted_over_thousands_of_straggler_sets(confirm, usual_waves):
    code = cm.Replication(8, 20, "mean", confirm=confirm)
    plan = cm.plan(smooth, X, workers=20, stragglers=4, codes=code)
    assert plan.waves == 4845
    assert plan.rows[0].exact == pytest.approx(1 - lost_by_copies(8, 20, 4, confirm).mean())


def test_sets_that_stand_for_others_give_the_errors_of_all(monkeypatch, usual_waves):
    trial = prepared(cm.Replication(8, 16, "mean"), Part(X[:56], smooth(X[:56])))
    sets = schemes.all_sets(16, 4, 0)
    assert len({frozenset(row[12:]) for row in sets.tolist()}) == len(sets) == 1820
    some = replayed([trial], sets, 4, 1.0)
    monkeypatch.setattr(replays, "_REPLAYED", 2000)
    every = replayed([trial], sets, 4, 1.0)
    assert some.exact == pytest.approx(every.exact, rel=1e-12)
    assert some.rmse == pytest.approx(every.rmse, rel=0.1)
    assert some.rmse_p95 == pytest.approx(every.rmse_p95, rel=0.25)
    assert some.by_row.mean() == pytest.approx(some.squares.mean())
    assert some.agreement == pytest.approx(every.agreement, abs=0.01)
    assert np.count_nonzero(every.squares) == np.count_nonzero(some.squares)


def test_waits_are_counted_over_all_straggler_sets(usual_waves):
    codes = {"copies": cm.Replication(5, 13), "fewer": cm.Replication(5, 10)}
    plan = cm.plan(smooth, X, workers=13, stragglers=4, codes=codes)
    waits = np.mean(lost_by_copies(5, 13, 4) > 0)
    assert named(plan, "copies").waiting == pytest.approx(waits)
    assert named(plan, "fewer").waiting == pytest.approx(np.mean(lost_by_copies(5, 10, 4) > 0))


def test_a_code_of_fewer_workers_gets_all_of_its_straggler_sets(usual_waves):
    codes = {"none": cm.Uncoded(5, "mean"), "copies": cm.Replication(5, 9, "mean")}
    plan = cm.plan(smooth, X, workers=10, stragglers=2, codes=codes)
    assert named(plan, "none").exact == pytest.approx(4 / 5)
    assert named(plan, "copies").exact == pytest.approx(1 - lost_by_copies(5, 9, 2).mean())


def test_under_a_latency_model_exact_rows_are_counted_over_all_its_waves(usual_waves):
    model = cm.latency.Pareto(0.1, 0.03)
    code = cm.Replication(3, 8, "mean")
    plan = cm.plan(smooth, X, workers=8, stragglers=2, codes=code, latency=model)
    drawn = sampling.drawn(model, 8, 0)[0]
    lost = (np.sort(drawn.argsort(axis=1)[:, -2:], axis=1) == [2, 5]).all(axis=1)
    assert plan.waves == len(drawn) == 2000
    assert lost.any()
    assert plan.rows[0].exact == pytest.approx(1 - lost.mean() / 3)


def test_a_share_that_is_not_whole_is_not_shown_as_whole():
    code = cm.Replication(3, 8)
    row = cm.results.PlanRow("copies", code, 3, 8 / 3, 0.1, 0.1, None, 0.99999, None, None)
    plan = cm.Plan((row,), 8, 2, 1.0, 10, 28, "")
    assert "99.9%" in str(plan)
    assert "100.0%" not in str(plan)


def test_rows_are_cut_as_map_does_so_a_sweep_in_order_suits_the_plain_spline():
    line = np.linspace(-1, 1, 60)[:, None]

    def curve(batch):
        return np.sin(3 * batch)

    ordered, shuffled = (
        cm.plan(curve, sample, workers=8, stragglers=2, codes={"spline": cm.SplineCode(6, 8, 2)})
        for sample in (line, RNG.permutation(line))
    )
    assert ordered.rows[0].rmse < 0.3 * shuffled.rows[0].rmse


def test_a_row_that_is_judged_is_not_among_the_answers_leant_on():
    seen = []
    original = schemes.Known.__init__

    def spied(self, inputs, answers):
        seen.append(np.asarray(inputs))
        original(self, inputs, answers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemes.Known, "__init__", spied)
        plan = cm.plan(smooth, X, **SMALL)
    assert plan.code.known is not None
    sizes = {len(rows) for rows in seen}
    assert sizes == {30, 60}  # the halves for judging, the whole for the recommended code
    ground, _ = sampling.ground(Part(X, smooth(X)), 6, 10, np.array([np.arange(8)]), late=2, seed=0)
    for part, other in zip(ground.parts, ground.others, strict=True):
        assert not (part.rows[:, None] == other.rows[None]).all(axis=2).any()


def test_parts_keep_the_order_of_the_sample_and_spread_over_it():
    line = np.arange(60.0)[:, None]
    ground, groups = sampling.ground(Part(line, line), 6, 9, np.zeros((1, 8), int), late=0, seed=0)
    assert groups == 9
    assert [len(part.rows) for part in ground.parts] == [30, 24]
    for part in ground.parts:
        assert (np.diff(part.rows[:, 0]) > 0).all()
        assert part.rows[0] < 6
        assert part.rows[-1] > 53


def test_the_same_seed_gives_the_same_plan_and_another_one_another():
    rows = np.random.default_rng(0).uniform(-1, 1, (90, 3))  # of which 60 are tried
    one, same, other = (
        cm.plan(smooth, rows, codes=[cm.BerrutCode(6, 8, 2)], workers=8, stragglers=2, seed=seed)
        for seed in (3, 3, 4)
    )
    assert one.rows[0].rmse == same.rows[0].rmse != other.rows[0].rmse


def test_error_bars_are_calibrated_on_the_sample():
    plan = cm.plan(smooth, X, **SMALL)
    fresh = RNG.uniform(-1, 1, (600, 3))
    ratios = []
    for late in ((0, 1), (2, 5), (3, 4)):
        engine = Scripted(8, dict.fromkeys(late, never()))
        result = cm.map(smooth, fresh, code=plan.code, engine=engine)
        error = np.sqrt(((result.values - smooth(fresh)) ** 2).mean(axis=1))
        ratios.append(error[~result.exact] / result.row_stderr()[~result.exact])
    assert 0.2 < np.sqrt(np.mean(np.concatenate(ratios) ** 2)) < 3


def test_honest_outliers_are_not_thought_lies():
    """An exponential has answers that look like lies; codes that come out look less closely."""

    def wild(batch):
        return np.exp(4 * batch.sum(axis=1, keepdims=True))

    found = [row for row in cm.plan(wild, X, **SMALL).rows if isinstance(row.code, cm.KernelCode)]
    wary = [row for row in found if row.code.suspicion > 5]
    assert wary
    assert all("liars" in row.note or "suspicion" in row.note for row in wary)
    calm = cm.plan(smooth, X, **SMALL)
    assert all(row.code.suspicion == 5 for row in calm.rows if row.scheme in KERNELS)


def test_functions_computed_are_counted_and_bounded():
    calls = []

    def counting(batch):
        calls.append(len(batch))
        return smooth(batch)

    many = RNG.uniform(-1, 1, (3_000, 3))
    plan = cm.plan(counting, many, **SMALL)
    assert plan.computed == sum(calls)
    assert len(calls) == 2  # the sample, then everything else in one go
    assert plan.computed <= 10 * 6 + 256 + 10 * (7 * 8 - 4 * 6)
    assert f"fn computed {plan.computed} rows" in str(plan)
    assert plan.seconds > 0


# Which code, and how many tasks


def outcomes(by_row, exact=0.5):
    rows = np.asarray(by_row, float)
    return Outcomes(rows[:1], rows, None, exact, None, 0.0, False)


def row_of(scheme, code, it):
    rmse = float(np.sqrt(it.by_row.mean()))
    it = Outcomes(np.array([rmse**2]), it.by_row, None, it.exact, None, 0.0, False)
    cost = code.workers / code.tasks
    row = cm.results.PlanRow(scheme, code, code.tasks, cost, rmse, rmse, None, it.exact, None, None)
    return row, it


@pytest.mark.parametrize(
    ("other", "chosen"),
    [
        (1.01, "copies"),  # a tie: the more exact one
        (1.5, "kernel"),  # clearly worse
    ],
)
def test_of_equally_good_schemes_the_one_with_more_exact_rows(other, chosen):
    rows = [
        row_of("kernel", cm.KernelCode(6, 8, 2), outcomes(np.ones(50), 0.8)),
        row_of("copies", cm.KernelCode(6, 8, 2, 0.0), outcomes(np.full(50, other**2), 0.9)),
    ]
    assert verdict.recommended(rows, 8, 2, 10.0).scheme == chosen


def test_of_equally_good_schemes_the_one_with_error_bars_and_the_cheaper_one():
    spline = row_of("spline", cm.SplineCode(6, 8, 2), outcomes(np.full(50, 0.99)))
    kernel = row_of("kernel", cm.KernelCode(6, 8, 2), outcomes(np.ones(50)))
    assert verdict.recommended([spline, kernel], 8, 2, 10.0).scheme == "kernel"
    exact = outcomes(np.zeros(50), 1.0)
    copies = row_of("copies", cm.KernelCode(6, 8, 0, 0.0), exact)
    uncoded = row_of("uncoded", cm.Uncoded(6), exact)
    assert verdict.recommended([copies, uncoded], 8, 0, 10.0).scheme == "uncoded"


def test_a_lead_that_rests_on_a_few_rows_is_none():
    errors = np.full(50, 1e-3)
    worse = errors.copy()
    worse[:3] = 5.0
    kernel = row_of("kernel", cm.KernelCode(6, 8, 2), outcomes(errors, 0.8))
    copies = row_of("copies", cm.KernelCode(6, 8, 2, 0.0), outcomes(worse, 0.9))
    assert verdict.recommended([kernel, copies], 8, 2, 1.0).scheme == "copies"
    worse[:30] = 5.0
    copies = row_of("copies", cm.KernelCode(6, 8, 2, 0.0), outcomes(worse, 0.9))
    assert verdict.recommended([kernel, copies], 8, 2, 1.0).scheme == "kernel"


@pytest.mark.parametrize(
    ("workers", "late", "budget", "rows", "tasks"),
    [
        (24, 4, 3.0, 1000, [20, 16, 12, 8]),
        (24, 4, 1.5, 1000, [20, 16]),
        (24, 4, 1.0, 1000, [24]),
        (24, 4, 2.5, 1000, [20, 16, 12, 10]),
        (24, 4, 3.0, 10, [10, 8]),
        (24, 20, 3.0, 1000, [8]),
        (1, 0, 3.0, 1000, [1]),
    ],
)
def test_numbers_of_tasks(workers, late, budget, rows, tasks):
    assert sampling.numbers_of_tasks(workers, late, budget, rows) == tasks


def test_the_largest_number_of_tasks_that_is_good_enough_is_chosen():
    easy = cm.plan(lambda batch: batch @ WEIGHTS, X, workers=12, stragglers=2)
    assert easy.rows[0].tasks == 10
    assert {row.tasks for row in easy.rows} == {10}  # no other was tried
    hard = cm.plan(rough, X, workers=12, stragglers=2)
    assert {row.tasks for row in hard.rows[:4]} == {10, 8, 6, 4}
    assert hard.rows[0].rmse == min(row.rmse for row in hard.rows[:4])


def test_the_budget_is_kept():
    plan = cm.plan(rough, X, workers=12, stragglers=2, budget=1.5)
    assert max(row.cost for row in plan.rows) <= 1.5


# Functions that refuse mixtures, and samples of all kinds


def raising(batch):
    if not whole(batch).all():
        raise RuntimeError("no\nsuch row")
    return smooth(batch)


def missing(batch):
    return np.where(whole(batch)[:, None], smooth(batch), np.nan)


def reshaping(batch):
    return smooth(batch) if whole(batch).all() else np.ones((len(batch), 5))


def imaginary(batch):
    return smooth(batch) if whole(batch).all() else smooth(batch) * 1j


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (raising, "RuntimeError: no such row"),
        (missing, "not finite"),
        (reshaping, r"rows of shape \(5,\)"),
        (imaginary, "dtype complex128"),
    ],
)
def test_a_function_that_refuses_mixtures(fn, why, monkeypatch):
    monkeypatch.setattr(schemes, "_SCREENED", 15)  # of 28 sets, six lose some rows never
    plan = cm.plan(fn, X, **SMALL)
    assert plan.rows[0].scheme == "copies, kernel fill"
    assert plan.rows[0].rmse < 0.5 * named(plan, "copies, mean fill").rmse
    for scheme in CURVES:
        row = named(plan, scheme)
        assert row.code is None
        assert np.isnan(row.rmse)
        assert_matches(why, row.note)
    assert "left out" in str(plan)


def assert_matches(pattern, text):
    import re

    assert re.search(pattern, text), text


def test_one_scheme_that_is_refused_does_not_cost_the_others(monkeypatch):
    def narrow(batch):
        if np.abs(batch).max() > np.abs(X).max():
            raise ValueError("out of range")
        return smooth(batch)

    plan = cm.plan(narrow, X, **SMALL)
    assert named(plan, "kernel, spread 1").code is not None  # never leaves the inputs' range
    assert "out of range" in named(plan, "spline (LeTCC)").note


def test_inputs_that_cannot_be_mixed_are_only_copied():
    texts = np.array(["a" * n for n in range(1, 61)])
    for sample, fn in [
        (np.arange(60).reshape(-1, 1), lambda batch: np.sin(batch / 9.0)),
        (texts, lambda batch: np.array([float(len(text)) for text in batch])),
    ]:
        plan = cm.plan(fn, sample, **SMALL)
        assert schemes_of(plan) == COPIES
        assert plan.remarks == (
            f"inputs of {sample.dtype} cannot be mixed: only copies were tried",
        )
        assert plan.remarks[0] in str(plan)
        result = cm.map(fn, sample, code=plan.code, engine=Scripted(8, {0: never()}))
        assert result.values.shape == fn(sample).shape


@pytest.mark.parametrize("rows", [6, 7, 11, 13])
def test_tiny_samples(rows):
    plan = cm.plan(smooth, X[:rows], **SMALL)
    assert plan.groups == rows // 6
    assert f"on {plan.groups} group" in str(plan)
    assert np.isfinite(plan.rows[0].rmse)


@pytest.mark.parametrize(
    ("workers", "tasks", "stragglers"), [(4, 1, 2), (1, 1, 0), (6, 6, 1), (5, 6, 1), (8, 6, 0)]
)
def test_budgets_at_the_edge(workers, tasks, stragglers):
    plan = cm.plan(smooth, X, workers=workers, tasks=tasks, stragglers=stragglers)
    code = plan.code
    if workers < tasks:
        assert schemes_of(plan) == CURVES
    elif stragglers == 0:
        assert isinstance(code, cm.Uncoded) or tasks == workers
        assert plan.rows[0].rmse == 0
        assert "no error worth mentioning" in plan.advice
    script = {slot: never() for slot in range(stragglers)}
    result = cm.map(smooth, X, code=code, engine=Scripted(workers, script))
    assert len(result.values) == len(X)


@pytest.mark.parametrize(
    ("fn", "sample"),
    [
        (lambda batch: np.full((len(batch), 2), 3.3), X),
        (lambda batch: np.zeros(len(batch)), X),
        (smooth, np.ones((60, 3))),
    ],
    ids=["constant", "zero", "identical"],
)
def test_what_never_varies_has_no_deviation(fn, sample):
    plan = cm.plan(fn, sample, **SMALL)
    assert plan.deviation == 0
    assert plan.rows[0].rmse < 1e-12
    assert plan.advice == (
        "Do not code, copy: no mixture is clearly better than copies, kernel fill here (no error worth "
        "mentioning)."
    )
    assert "RMSE/sd" not in str(plan)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_precisions(dtype):
    plan = cm.plan(lambda batch: smooth(batch).astype(dtype), X.astype(dtype), **SMALL)
    assert plan.rows[0].rmse < 0.3 * named(plan, "copies, mean fill").rmse


def test_complex_inputs_and_answers_have_no_largest_output():
    plan = cm.plan(lambda batch: np.exp(1j * batch), X + 1j * X[::-1], **SMALL)
    assert plan.rows[0].rmse < 0.5 * named(plan, "copies, mean fill").rmse
    assert all(row.agreement is None for row in plan.rows)


def test_a_sample_of_equal_rows_is_a_constant():
    plan = cm.plan(smooth, np.tile(X[:1], (60, 1)), **SMALL)
    assert plan.rows[0].rmse == 0.0
    assert plan.deviation == 0.0


def test_rows_that_repeat_others_are_told():
    plan = cm.plan(smooth, np.tile(X[:30], (2, 1)), **SMALL)
    assert plan.remarks[0].startswith("30 of 60 sample rows repeat others")
    assert cm.plan(smooth, X, **SMALL).remarks == ()


def test_a_single_output_has_no_labels():
    plan = cm.plan(lambda batch: smooth(batch)[:, 0], X, **SMALL)
    assert plan.rows[0].agreement is None
    assert "labels" not in str(plan)


def test_rows_where_the_function_is_not_finite_are_left_out_and_counted():
    def some(batch):
        answers = smooth(batch)
        answers[batch[:, 0] > 0.8] = -np.inf
        return answers

    plan = cm.plan(some, X, **SMALL)
    count = int((X[:, 0] > 0.8).sum())
    assert count > 0
    assert f"{count} of 60 sample rows were left out" in plan.remarks[0]


# Latency models

TIMES = 0.1 + np.random.default_rng(1).exponential(0.05, (40, 10))


class Even(cm.latency.LatencyModel):
    """A model of a user's own."""

    def sample(self, rng, waves, workers, /):
        return rng.uniform(1, 2, (waves, workers))

    def quantile(self, share, /):
        return 1 + share


@pytest.mark.parametrize(
    "model",
    [
        cm.latency.ShiftedExponential(0.1, 0.05),
        cm.latency.Pareto(0.1, 0.03),
        cm.latency.Bimodal(),
        cm.latency.Empirical(TIMES),
        Even(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_under_a_latency_model_times_are_told_and_what_is_exact_stands_beside(model):
    codes = {"curve": cm.BerrutCode(4, 8, 2), "copies": cm.Replication(4, 8, "mean")}
    plan = cm.plan(smooth, X, workers=8, codes=codes, latency=model)
    assert {"wait for all", "wait for a copy"} <= schemes_of(plan)
    assert 0 < plan.stragglers < 8
    for row in plan.rows:
        assert 0 < row.p50 <= row.p99
    waited = named(plan, "wait for all")
    assert (waited.rmse, waited.exact, waited.cost) == (0, 1, 1)
    assert waited.p99 > named(plan, "curve").p99
    [hedge] = [row for row in plan.rows if row.scheme.startswith("hedge after p")]
    assert 1 < hedge.cost < 1.6
    assert hedge.code == cm.Uncoded(4)
    share = float(hedge.scheme.removeprefix("hedge after p")) / 100
    assert f"hedge=Hedge({model.quantile(share):.3g})" in hedge.note
    assert "p99 s" in str(plan)


def test_stragglers_given_as_well_are_what_is_gone_without():
    codes = [cm.BerrutCode(4, 8, 2)]
    model = cm.latency.Pareto(0.1, 0.03)
    few, many = (
        cm.plan(smooth, X, workers=8, codes=codes, latency=model, stragglers=late)
        for late in (1, 4)
    )
    assert (few.stragglers, many.stragglers) == (1, 4)
    assert few.rows[0].p99 > many.rows[0].p99
    assert few.rows[0].rmse < many.rows[0].rmse


def test_who_is_late_is_drawn_from_the_model():
    times = TIMES.copy()
    times[:, 3] += 10  # the same worker, always
    drawn = sampling.drawn(cm.latency.Empirical(times), 10, 0)
    order = sampling.arrivals(10, 2, drawn, 0)
    assert order.shape == (2000, 10)  # every wave of the model
    waves = drawn[0].argsort(axis=1)  # here in the order of the model
    assert sorted(order.tolist()) == sorted(waves.tolist())


def test_workers_that_never_answer():
    rng = np.random.default_rng(0)
    times = np.where(rng.random((50, 8)) < 0.1, np.nan, 1.0)
    plan = cm.plan(
        smooth, X, workers=8, codes=[cm.BerrutCode(4, 8, 2)], latency=cm.latency.Empirical(times)
    )
    assert np.isfinite(plan.rows[0].p99)
    assert np.isinf(named(plan, "wait for all").p99)
    assert "never" in str(plan)
    dead = np.where(rng.random((50, 8)) < 0.9, np.nan, 1.0)
    with pytest.raises(cm.InvalidArgument, match="no answer at all"):
        cm.plan(smooth, X, workers=8, tasks=6, latency=cm.latency.Empirical(dead))


def test_equal_times_put_nobody_first():
    """Times from a coarse clock, say: who is late is a matter of chance, not of the number of the slot."""
    same = cm.latency.ShiftedExponential(1.0, 0.0)
    codes = [cm.Uncoded(8, "mean")]
    plan = cm.plan(smooth, X, workers=8, stragglers=2, codes=codes, latency=same)
    assert plan.rows[0].exact == 0.75
    rounds = np.round(np.random.default_rng(0).exponential(1.0, (50, 8)))
    waves = sampling.arrivals(8, 2, np.stack([rounds[:1]] * 2), 0)
    assert (np.diff(np.take_along_axis(rounds[:1], waves, axis=1)) >= 0).all()
    counts = np.bincount(
        np.concatenate([
            sampling.arrivals(8, 2, np.ones((2, 50, 8)), seed)[:, -2:].ravel() for seed in range(100)
        ])
    )  # fmt: skip
    assert len(counts) == 8
    assert np.ptp(counts) < 6 * np.sqrt(counts.mean())


def test_waves_that_never_end_are_told_and_nothing_is_as_fast_as_them():
    rng = np.random.default_rng(0)
    times = np.where(rng.random((50, 8)) < 0.4, np.nan, 1.0 + rng.random((50, 8)))
    model = cm.latency.Empirical(times)
    plan = cm.plan(
        smooth, X, workers=8, stragglers=1, codes=[cm.BerrutCode(6, 8, 1)], latency=model
    )
    seconds = sampling.drawn(model, 8, 0)[0]
    share = (np.isfinite(seconds).sum(axis=1) < 7).mean()
    [remark] = plan.remarks
    assert remark.startswith(f"in {share:.1%} of the waves fewer than 7 of 8 workers ever answer")
    assert remark in str(plan)
    assert "inf" not in plan.advice
    assert "But" not in plan.advice  # what waits for everybody never ends either
    able = cm.plan(smooth, X, workers=8, stragglers=1, codes=[cm.BerrutCode(6, 8, 1)])
    assert able.remarks == ()


def test_to_hedge_is_advised_where_a_code_never_ends():
    few = np.full((200, 8), 1.0)
    few[np.arange(200), np.arange(200) % 8] = np.nan  # one in each round is silent
    codes = [cm.BerrutCode(6, 8, 0)]
    model = cm.latency.Empirical(few)
    plan = cm.plan(smooth, X, workers=8, stragglers=0, codes=codes, latency=model)
    assert np.isinf(plan.rows[0].p99)
    hedge = verdict.PlanRow("hedge", None, 6, 1.1, 0.0, 0.0, 1.0, 1.0, 1.0, 2.0)
    told = verdict.advice(plan.rows[0], [hedge], plan.deviation)
    assert "But to hedge is exact, faster (p99 2 s, not never)" in told


@pytest.mark.parametrize(
    ("draw", "why"),
    [
        (lambda n: np.full(n, np.nan), "32000 times of 32000 that are negative or NaN"),
        (lambda n: np.full(n, -1.0), "32000 times of 32000 that are negative or NaN"),
        (lambda n: np.ones(n[::-1]), r"of shape \(2, 8, 2000\) and dtype float64 for two calls"),
        (lambda n: np.full(n, "1"), "dtype <U1"),
        (lambda n: None, r"of shape \(2,\) and dtype object"),
    ],
)
def test_models_that_draw_no_times_are_refused(draw, why):
    class Mine(cm.latency.LatencyModel):
        def sample(self, rng, waves, workers):
            return draw((waves, workers))

        def quantile(self, share):
            return 1.0

    with pytest.raises(cm.InvalidArgument, match=why):
        cm.plan(smooth, X, **SMALL, latency=Mine())


@pytest.mark.parametrize("scale", [1e170, 1e300])
def test_errors_of_huge_answers_are_those_of_small_ones(scale):
    codes = [cm.SplineCode(6, 8, 2), cm.BerrutCode(6, 8, 2)]
    one = cm.plan(smooth, X, **SMALL, codes=codes)
    huge = cm.plan(lambda batch: smooth(batch) * scale, X, **SMALL, codes=codes)
    for small, large in zip(one.rows, huge.rows, strict=True):
        assert large.scheme == small.scheme
        assert large.rmse / huge.deviation == pytest.approx(small.rmse / one.deviation)
        assert large.rmse_p95 / huge.deviation == pytest.approx(small.rmse_p95 / one.deviation)


@pytest.mark.parametrize("scale", [1e-170, 1e-300])
def test_tiny_answers_are_told_apart_as_others_are(scale):
    one = cm.plan(smooth, X, **SMALL)
    tiny = cm.plan(lambda batch: smooth(batch) * scale, X, **SMALL)
    assert [row.scheme for row in tiny.rows] == [row.scheme for row in one.rows]
    for small, row in zip(tiny.rows, one.rows, strict=True):
        assert small.rmse / scale == pytest.approx(row.rmse, rel=1e-3)


def test_a_kernel_code_whose_estimates_are_not_finite_is_left_out(monkeypatch):
    original = schemes.replayed

    def spoilt(trials, *arguments):
        outcomes = original(trials, *arguments)
        if getattr(trials[0].code, "spread", None) == 0.5:
            return dataclasses.replace(outcomes, squares=outcomes.squares * np.nan)
        return outcomes

    monkeypatch.setattr(schemes, "replayed", spoilt)
    plan = cm.plan(smooth, X, **SMALL)
    row = named(plan, "kernel, spread 0.5")
    assert row.code is None
    assert row.note == "left out: some of its estimates are not finite"
    assert plan.rows[0].rmse < 0.1


def test_a_function_may_write_on_its_batch_and_use_its_answer_again():
    kept = np.empty((10_000, 2))

    def careless(batch):
        batch *= 2.0
        return np.matmul(batch, WEIGHTS, out=kept[: len(batch)])

    sample = X.copy()
    plan, expected = (
        cm.plan(fn, sample, workers=8, stragglers=2)
        for fn in (careless, lambda batch: 2.0 * batch @ WEIGHTS)
    )
    np.testing.assert_array_equal(sample, X)
    assert [row.scheme for row in plan.rows] == [row.scheme for row in expected.rows]
    np.testing.assert_allclose(
        [row.rmse for row in plan.rows], [row.rmse for row in expected.rows], rtol=1e-6, atol=1e-12
    )


def test_hedges_come_when_they_help():
    """After the cheapest percentile with which slow waves take about as long as with any."""
    base = cm.latency.ShiftedExponential(1.0, 0.0)
    silent = np.ones((100, 16))
    silent.flat[::17] = np.nan
    cases = [
        (cm.latency.Bimodal(base, 0.02, 9.0), "p95", 2.0),
        (cm.latency.Bimodal(base, 0.055, 9.0), "p90", 2.0),  # the 95th percentile is a slow one
        (cm.latency.Empirical(silent), "p90", 2.0),  # or never answers
    ]
    there, _ = sampling.ground(Part(X, smooth(X)), 2, 10, np.array([np.arange(16)]), late=2, seed=0)
    for model, name, p99 in cases:
        rows = verdict.exact_ones(2, there, sampling.drawn(model, 16, 0), model)
        assert (rows[-1].scheme, rows[-1].p99) == (f"hedge after {name}", p99)


def test_the_95th_percentile_of_waves_is_above_95_in_100_others():
    """On average over many samples of 60 waves."""
    rng = np.random.default_rng(0)
    above = [
        np.mean(rng.exponential(size=1000) < Outcomes(
            rng.exponential(size=60) ** 2, np.zeros(1), None, 1.0, None, 0.0, False
        ).rmse_p95)
        for _ in range(2000)
    ]  # fmt: skip
    assert abs(np.mean(above) - 0.95) < 4 * np.std(above) / np.sqrt(2000)


def test_hedging_that_is_as_fast_is_recommended_instead():
    few_late = cm.latency.Bimodal(cm.latency.ShiftedExponential(1.0, 0.05), 0.02, 3.0)
    plan = cm.plan(smooth, X, workers=8, tasks=6, stragglers=0, latency=few_late)
    assert plan.rows[0].exact == 1  # nothing to gain then
    assert "But" not in plan.advice
    plan = cm.plan(
        smooth, X, workers=8, codes=[cm.BerrutCode(6, 8, 1)], stragglers=1, latency=few_late
    )
    [hedge] = [row for row in plan.rows if row.scheme.startswith("hedge after p")]
    as_fast = hedge.p99 <= 1.1 * plan.rows[0].p99
    assert ("But to" in plan.advice) == as_fast


# Codes of one's own


def test_codes_of_ones_own_wait_until_they_can_be_decoded():
    codes = {
        "copies": cm.Replication(4, 8),
        "lagrange": cm.LagrangeCode(4, 8, 1, 1),
        "fewer": cm.Replication(4, 4),
        "spline": cm.SplineCode(4, 8, 3),
    }
    plan = cm.plan(smooth, X, workers=8, stragglers=3, codes=codes)
    assert schemes_of(plan) == set(codes)
    assert plan.rows[0].scheme in ("lagrange", "spline")  # the only ones that need not wait
    copies = named(plan, "copies")
    assert copies.waiting > 0
    assert copies.rmse == 0
    assert "waits for more than 5 answers" in copies.note
    assert named(plan, "fewer").waiting == 1
    alone = cm.plan(smooth, X, workers=8, stragglers=3, codes=cm.Replication(4, 8))
    assert alone.code == cm.Replication(4, 8)
    assert "waits" in str(alone)


def test_a_code_that_waits_is_timed_to_the_answer_that_it_waits_for():
    model = cm.latency.Pareto(0.1, 0.03)
    plan = cm.plan(smooth, X, workers=8, stragglers=3, latency=model, codes=[cm.Replication(4, 8)])
    seconds = sampling.drawn(model, 8, 0)[0][: verdict._WAITED]
    waited = np.maximum(
        cm.latency.copies(seconds, 4).seconds, cm.latency.quorum(seconds, 5).seconds
    )
    assert plan.rows[0].p50 == pytest.approx(np.quantile(waited, 0.5, method="higher"), rel=0.01)


# What cannot work


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"sample": X[:0]}, "empty"),
        ({"sample": X[:5]}, "5 rows is less than one group of 6 tasks: give 6"),
        ({"sample": np.where(X > 0.9, np.nan, X)}, "of 60 sample rows hold NaN"),
        ({"sample": 3.0}, "single float"),
        ({"fn": 3}, "fn=3 cannot be called"),
        ({"workers": 0}, "workers=0"),
        ({"workers": 2.5}, "workers=2.5"),
        ({"tasks": 0}, "tasks=0"),
        ({"stragglers": 8}, "leave no worker to answer"),
        ({"stragglers": None}, "how many workers will be late"),
        ({"latency": 0.3}, "latency=0.3 is no latency model"),
        ({"latency": cm.latency.Pareto}, "latency=<class .*Pareto.* is no latency model"),
        ({"seed": -1}, "seed=-1"),
        ({"budget": 0.5}, "budget=0.5"),
        ({"budget": np.nan}, "budget=nan"),
        ({"budget": 1.2}, "1.33 calls a task, more than budget=1.2"),
        ({"tasks": None, "budget": 1.1, "sample": X[:5]}, "groups have 8 tasks or more"),
        ({"codes": []}, "empty"),
        ({"codes": "kernel"}, "codes='kernel'"),
        ({"codes": [3]}, "codes=3 is no code"),
        ({"codes": [cm.BerrutCode(4, 8, 2)]}, "4 tasks, but the plan is for 6"),
        ({"codes": {"big": cm.BerrutCode(6, 9, 2)}}, "big has 9 workers, but the plan is for 8"),
        ({"engine": 3}, "engine=3 is no engine"),
        ({"latency": cm.latency.Empirical(TIMES[:, :4])}, "only 4 were measured"),
        ({"sample": np.arange(60), "tasks": 9}, "use 8 tasks at most"),
    ],
)
def test_arguments_that_cannot_work(change, why):
    arguments = {"fn": lambda batch: batch * 1.0, "sample": X, **SMALL, **change}
    with pytest.raises(cm.InvalidArgument, match=why):
        cm.plan(arguments.pop("fn"), arguments.pop("sample"), **arguments)


@pytest.mark.parametrize(
    ("fn", "why"),
    [
        (lambda batch: batch[:3], r"shape \(3, 3\) for 60 rows"),
        (lambda batch: 1.0, "itemwise"),
        (lambda batch: smooth(batch) * np.nan, "not finite on any of 60"),
        (
            lambda batch: smooth(batch).argmax(axis=1),
            r"int64.*Replication\(2, 8\) has every answer",
        ),
        (lambda batch: smooth(batch)[:, :0], "shape"),
        (lambda batch: np.ma.masked_less(smooth(batch), 0.0), r"\d+ of 120 numbers are masked"),
        (lambda batch: {"scores": smooth(batch)}, "returned a dict for 60 rows"),
        (lambda batch: (smooth(batch), 0), "returned a tuple for 60 rows"),
        (
            lambda batch: [list(range(1 + n % 2)) for n in range(len(batch))],
            "returned a list for 60",
        ),
        (lambda batch: None, "returned a NoneType for 60 rows"),
    ],
)
def test_answers_that_cannot_be_used(fn, why):
    with pytest.raises(cm.InvalidAnswer, match=why):
        cm.plan(fn, X, **SMALL)


def test_a_bug_in_the_function_looks_like_one():
    with pytest.raises(ZeroDivisionError):
        cm.plan(lambda batch: 1 // 0, X, **SMALL)


def test_no_scheme_at_all():
    with pytest.raises(cm.InvalidAnswer, match=r"no scheme could be tried: spline.*no such row"):
        cm.plan(raising, X, workers=5, tasks=6, stragglers=1)


# On an engine


def test_on_an_engine_a_lost_worker_costs_nothing():
    engine = Scripted(4, {1: never(), 2: crash()})
    codes = [cm.BerrutCode(6, 8, 2)]
    there = cm.plan(smooth, X, workers=8, stragglers=2, codes=codes, engine=engine)
    here = cm.plan(smooth, X, workers=8, stragglers=2, codes=codes)
    assert there.rows[0].rmse == pytest.approx(here.rows[0].rmse)
    assert there.computed == here.computed


def test_a_resident_function_needs_its_engine():
    with Scripted(4) as engine:
        fn = cm.engines.Resident(smooth, engine)
        codes = [cm.BerrutCode(6, 8, 2)]
        arguments = {"workers": 8, "stragglers": 2, "codes": codes}
        assert cm.plan(fn, X, engine=engine, **arguments).computed > 60
        with pytest.raises(cm.InvalidArgument, match="resident"):
            cm.plan(fn, X, **arguments)


def test_what_workers_raise_for_mixtures_is_told_as_theirs():
    plan = cm.plan(raising, X, engine=Scripted(4), **SMALL)
    assert "RuntimeError: no such row" in named(plan, "spline (LeTCC)").note
    with pytest.raises(cm.NotEnoughAnswers, match="ZeroDivisionError"):
        cm.plan(lambda batch: 1 // 0, X, engine=Scripted(4), **SMALL)


def test_an_engine_that_breaks_down_is_no_reason_to_copy():
    class Broken(Scripted):
        def submit(self, slot, fn, payload):
            if len(self.calls) >= 4:  # the sample is computed by then
                raise cm.EngineError("the scheduler has died")
            return super().submit(slot, fn, payload)

    with pytest.raises(cm.EngineError, match="has died"):
        cm.plan(smooth, X, engine=Broken(4), **SMALL)


def test_a_function_left_to_chance_is_told_as_that_where_two_workers_disagree():
    noise = np.random.default_rng(0)
    with pytest.raises(
        cm.InvalidAnswer, match=r"none of 60 .* the same on two workers: take chance out"
    ):
        cm.plan(
            lambda b: smooth(b) + noise.normal(size=(len(b), 2)), X, engine=Scripted(4), **SMALL
        )
    lying = Scripted(4, {0: cm.testing.corrupt(lambda answer: answer + 1.0)})
    plan = cm.plan(smooth, X, engine=lying, codes=cm.BerrutCode(6, 8, 2), workers=8, stragglers=2)
    assert (
        "30 of 60 sample rows were left out, since fn is not finite, or not the same on two"
        in (plan.remarks[0])
    )
    alone = Scripted(1, {0: cm.testing.corrupt(lambda answer: answer * np.nan)})
    with pytest.raises(cm.InvalidAnswer, match="fn is not finite on any of 60 sample rows"):
        cm.plan(smooth, X, engine=alone, **SMALL)


# For reading


@pytest.fixture(scope="module")
def timed():
    codes = {
        "curve": cm.BerrutCode(4, 8, 2),
        "copies": cm.Replication(4, 8, "mean"),
        "none": cm.LagrangeCode(4, 8, 1, 2),
    }
    return cm.plan(raising, X, workers=8, codes={**codes}, latency=cm.latency.Pareto(0.1, 0.03))


@pytest.mark.parametrize("width", [100, 80, 60, 50, 40])
def test_a_narrow_terminal_gets_fewer_columns_and_longer_notes(timed, width):
    text = timed.text(width)
    assert max(map(len, text.splitlines())) <= width
    assert "scheme" in text
    assert "RMSE" in text
    assert " ".join(timed.advice.split()[:4]) in " ".join(text.split())


def test_a_wide_one_gets_them_all(timed):
    head = str(timed).splitlines()[1].split()
    assert head == "scheme K cost RMSE RMSE/sd p95 exact labels p50 s p99 s".split()
    assert timed.text(200) == str(timed)


def test_equal_notes_are_told_once(timed):
    assert str(timed).count("no such row") == 1


def test_a_plot_shows_every_scheme_that_was_tried(timed):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    axes = timed.plot()
    names = [label.get_text() for label in axes.get_yticklabels()]
    shown = [row.scheme for row in timed.rows if np.isfinite(row.rmse)]
    assert sorted(names) == sorted(shown)
    assert axes is timed.plot(axes)
    matplotlib.pyplot.close("all")
