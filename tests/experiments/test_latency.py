from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from experiments.data import MissingData
from experiments.latency_schemes import (
    SCHEMES,
    Scheme,
    answering,
    copies,
    hedged,
    quantile_intervals,
    quantile_range,
    quorum,
    simulated,
)
from scipy import stats

import codedmap as cm
from experiments import harness, latency, latency_live, services

from ..processes import children, eventually, shm_names
from ..repeats import first

WAVES = 20_000
NO_LIVE = latency_live.Config({}, tasks=2, crews=1)
TINY = latency.Config(True, (20,), 400, 20, 2, 2, NO_LIVE)


def test_waits_are_those_of_a_loop_over_answers():
    rng = np.random.default_rng(0)
    first, second = rng.choice([0.5, 1.0, 1.5, 2.0, 3.0, 7.0, np.inf], (2, 50, 6))
    for tasks in range(1, 7):
        counted, replicated = quorum(first, tasks), copies(first, tasks)
        for wave, row in enumerate(first):
            assert counted.seconds[wave] == sorted(row)[tasks - 1]
            assert replicated.seconds[wave] == max(min(row[task::tasks]) for task in range(tasks))
    for after in (0.0, 1.0, 2.5, np.inf):
        got = hedged(first, second, after)
        for wave in range(50):
            pairs = zip(first[wave], second[wave], strict=True)
            ends = [min(a, after + b) if a > after else a for a, b in pairs]
            assert got.seconds[wave] == max(ends)
            assert got.calls[wave] == 6 + sum(a > after for a in first[wave])


@pytest.fixture
def without_data(monkeypatch, tmp_path):
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def within(scheme: Scheme, model: services.Independent, K: int, t: float) -> float:
    """The probability, by theory, that a wave takes at most t."""
    late = model.model.survival(t)
    if scheme.waits_for is not None:
        return float(stats.binom.sf(scheme.quorum(K) - 1, scheme.workers(K), 1 - late))
    if scheme.hedged is not None:
        after = model.model.quantile(scheme.hedged)
        return (1 - late * model.model.survival(t - after)) ** K
    return (1 - late ** (scheme.workers(K) // K)) ** K


@pytest.mark.parametrize("K", first(2, [4, 20, 400]))
@pytest.mark.parametrize("name", services.INDEPENDENT)
def test_simulated_quantiles_are_those_of_theory(name, K):
    model = services.INDEPENDENT[name]
    waves, _ = simulated(model, SCHEMES, K, WAVES, np.random.default_rng(K))
    for scheme, own in zip(SCHEMES, waves, strict=True):
        for share in (0.1, 0.5, 0.9, 0.99):
            expected = within(scheme, model, K, float(np.quantile(own.times, share)))
            noise = np.sqrt(share * (1 - share) / WAVES)
            assert abs(expected - share) < 5 * noise, (scheme.name, share)


def test_the_slowest_of_exponentials_has_the_textbook_quantile():
    wait = SCHEMES[:1]
    waves, _ = simulated(
        services.INDEPENDENT["exponential"], wait, 10, 100_000, np.random.default_rng(0)
    )
    textbook = 1 - 0.5 * np.log(1 - 0.99 ** (1 / 10))
    [p99] = quantile_intervals(waves[0].times, [0.99])
    assert p99.low < textbook < p99.high
    assert p99.high - p99.low < 0.1


def test_costs_are_calls_sent():
    K = 20
    waves, _ = simulated(
        services.INDEPENDENT["pareto"], SCHEMES, K, WAVES, np.random.default_rng(1)
    )
    cost = {s.name: own.calls.mean() / K for s, own in zip(SCHEMES, waves, strict=True)}
    assert cost["wait for all"] == 1
    assert cost["copies x2"] == 2
    assert cost["first K of 1.25K"] == 1.25
    assert cost["hedge p90"] == pytest.approx(1.10, abs=0.005)
    assert cost["hedge p95"] == pytest.approx(1.05, abs=0.005)


def test_all_schemes_meet_the_same_luck_and_no_exact_one_is_slower_than_waiting():
    waves, _ = simulated(services.INDEPENDENT["pareto"], SCHEMES, 8, 500, np.random.default_rng(2))
    times = {s.name: own.times for s, own in zip(SCHEMES, waves, strict=True)}
    for name in ("copies x2", "hedge p90", "hedge p95"):
        assert (times[name] <= times["wait for all"]).all()
    assert (times["first 1.25K of 2K"] <= times["first 1.5K of 2K"]).all()


def test_answering_slots_are_the_fastest_ones():
    scheme = Scheme("some", 1.25, 1.0)
    seconds = np.random.default_rng(3).random((50, 8))
    for wave, slots in zip(seconds, answering(scheme, seconds, 4), strict=True):
        assert len(slots) == 4
        assert (np.diff(slots) > 0).all()
        assert wave[slots].max() < np.delete(wave[:5], slots).min()


def test_order_statistics_cover_the_quantile():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        [interval] = quantile_intervals(rng.random(1000), [0.99])
        covered += interval.low <= 0.99 <= interval.high
    assert covered >= 0.92 * 300


def test_range_of_a_smaller_sample():
    low, high = quantile_range(np.linspace(0, 1, 100_001), 0.99, 10_000)
    assert 0.987 < low < 0.989
    assert 0.991 < high < 0.993


def traces(rounds: int = 3, workers: int = 16) -> services.Traces:
    values = np.random.default_rng(5).random((2, rounds, workers)).astype(np.float32)
    return services.Traces("aws", "traces", tuple(values))


def test_a_measured_wave_is_of_one_round_and_different_workers():
    model = traces()
    drawn = model.waves(np.random.default_rng(6), 200, 16)
    rounds = np.concatenate(model.arrays)
    assert set(drawn.round) == set(range(6))
    assert (drawn.array == drawn.round // 3).all()
    assert (np.sort(drawn.seconds, axis=1) == np.sort(rounds[drawn.round], axis=1)).all()


def test_measured_waves_have_the_exact_quantile_of_the_slowest():
    model = traces(rounds=40, workers=64)
    one = services.Traces("aws-worst", "one", model.arrays[:1])
    waves, drawn = simulated(one, SCHEMES[:1], 8, WAVES, np.random.default_rng(7))
    for share in (0.05, 0.2, 0.5):
        exact = services.slowest_quantile(model.arrays[0], 8, share)
        assert float(np.quantile(waves[0].times, share)) == pytest.approx(exact, abs=0.01)
    rng = np.random.default_rng(8)
    [by_rounds] = quantile_intervals(waves[0].times, [0.05], drawn, rng)
    [by_waves] = quantile_intervals(waves[0].times, [0.05])
    assert by_rounds.low <= by_rounds.value <= by_rounds.high
    assert by_rounds.high - by_rounds.low > by_waves.high - by_waves.low


def test_the_worst_array_is_the_one_with_the_longest_wait():
    calm, wild = np.ones((4, 32)), np.ones((4, 32))
    wild[0, :8] = 50.0
    assert services.worst_array({"calm": 100 * calm, "wild": wild}, 8) == "wild"


def test_missing_traces_are_left_out_when_quick_and_an_error_else(without_data):
    assert {cell["service"] for cell in latency.cells(TINY)} == set(services.INDEPENDENT)
    with pytest.raises(MissingData, match="aws-lambda"):
        harness.check([latency.EXPERIMENT], quick=False)


@pytest.fixture
def tiny(without_data):
    return dataclasses.replace(
        latency.EXPERIMENT,
        configure=lambda quick: TINY,
        cells=lambda config: [
            cell
            for cell in latency.cells(config)
            if cell["part"] != "accuracy" or cell["judge"] == "curve"
        ],
        plot=lambda table, path: None,
    )


def test_the_same_seed_gives_the_same_table(tiny, tmp_path):
    tables = [
        harness.run(tiny, quick=True, seed=seed, root=tmp_path / place)
        for seed, place in ((0, "a"), (0, "b"), (1, "c"))
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0]["p99"].equals(tables[2]["p99"])


def test_an_interrupted_run_goes_on_where_it_was(tiny, tmp_path):
    done = []

    def interrupted(config, cell, rng):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(cell)
        return tiny.compute(config, cell, rng)

    def resumed(config, cell, rng):
        assert cell not in done
        return tiny.compute(config, cell, rng)

    stopped = dataclasses.replace(tiny, compute=interrupted)
    with pytest.raises(KeyboardInterrupt):
        harness.run(stopped, quick=True, seed=0, root=tmp_path / "a")
    table = harness.run(
        dataclasses.replace(tiny, compute=resumed), quick=True, seed=0, root=tmp_path / "a"
    )
    whole = harness.run(tiny, quick=True, seed=0, root=tmp_path / "b")
    pd.testing.assert_frame_equal(table, whole)


def test_a_call_that_is_made_again_takes_the_second_time_of_its_task():
    rows = np.arange(8.0).reshape(2, 4)
    late = [0.3, 0.0, 0.02, 0.5]
    with cm.testing.Scripted(4) as engine:
        timed = latency_live.Timed(engine, 2, np.array(late), np.array(late[2:]), rows)
        took = []
        for slot, row in ((0, 0), (1, 1), (3, 0), (1, 1)):
            began = time.monotonic()  # a scripted engine computes at once, sleep and all
            batch = SimpleNamespace(parts=(rows[row : row + 1],))
            timed.submit(slot, lambda sent: np.tanh(*sent.parts), batch).result()
            took.append(time.monotonic() - began)
    assert [slot for slot, _ in engine.calls] == [0, 1, 3, 1]
    assert all(passed >= wanted for passed, wanted in zip(took, late, strict=True))
    assert took[1] < 0.3
    assert took[2] < 0.3


@pytest.mark.slow
def test_a_whole_run_with_real_workers_leaves_nothing_behind(without_data, tmp_path):
    live = latency_live.Config({"exponential": (0.03, 3)}, tasks=4, crews=2)
    config = dataclasses.replace(TINY, live=live)
    experiment = dataclasses.replace(latency.EXPERIMENT, configure=lambda quick: config)
    table = harness.run(experiment, quick=True, seed=0, root=tmp_path)
    own = table[table["part"] == "live"]
    assert len(own) == len(latency_live.PLAYED)
    # Workers cannot answer before their time, and the calls are those that the simulation sends;
    # on a busy machine a hedge may send a few more.
    assert (own["ratio_mean"] > 1.0).all()
    hedged = own["scheme"] == "hedge p90"
    assert (own["cost"] >= own["simulated_cost"]).all()
    assert (own["cost"] == own["simulated_cost"])[~hedged].all()
    assert eventually(lambda: not children()), children()
    assert shm_names() == []
    assert (tmp_path / "quick" / "latency.png").stat().st_size > 10_000
    text = experiment.report(table)
    assert "AWS traces were not available" in text
    assert "nan" not in text
