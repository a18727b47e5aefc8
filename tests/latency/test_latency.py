from __future__ import annotations

import math
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import codedmap as cm
from codedmap.latency import (
    Bimodal,
    Empirical,
    LatencyModel,
    Pareto,
    ShiftedExponential,
)

FAMILIES = [
    ShiftedExponential(),
    ShiftedExponential(0.0, 2.0),
    Pareto(),
    Pareto(0.1, 2.0, 0.8),
    Bimodal(),
    Bimodal(Pareto(0.2, 0.1, 3.0), 0.3, 4.0),
]
CALLS = 200_000
SHARES = (0.01, 0.3, 0.5, 0.9, 0.99, 0.999)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(share: float, count: int) -> float:
    """Five standard errors of a share that was counted."""
    return 5 * math.sqrt(share * (1 - share) / count)


# ---- families -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("model", FAMILIES, ids=repr)
def test_the_share_of_calls_within_a_quantile_is_the_one_asked_for(model, dtype):
    drawn = model.sample(rng(), CALLS // 8, 8, dtype=dtype)
    assert drawn.shape == (CALLS // 8, 8)
    assert drawn.dtype == dtype
    for share in SHARES:
        back = np.mean(drawn <= model.quantile(share))
        assert abs(back - share) < noise(share, CALLS), share


@pytest.mark.parametrize("model", FAMILIES, ids=repr)
@given(share=st.floats(0.001, 0.999))
def test_survival_undoes_the_quantile(model, share):
    assert model.survival(model.quantile(share)) == pytest.approx(1 - share, rel=1e-6)


@pytest.mark.parametrize("model", FAMILIES, ids=repr)
def test_quantiles_of_no_calls_and_of_all_calls(model):
    shortest = model.quantile(0)
    assert model.sample(rng(), 1000, 2).min() >= shortest
    assert model.survival(shortest) == 1.0
    assert model.survival(shortest - 0.01) == 1.0
    assert model.quantile(1) == math.inf


def test_textbook_moments():
    drawn = ShiftedExponential(2.0, 0.5).sample(rng(), CALLS, 1)
    assert drawn.mean() == pytest.approx(2.5, abs=5 * 0.5 / math.sqrt(CALLS))
    assert drawn.std() == pytest.approx(0.5, rel=0.02)
    drawn = Pareto(1.0, 2.0, 5.0).sample(rng(), CALLS, 1)
    deviation = 2.0 * math.sqrt(5 / 3) / 4  # of a Lomax distribution
    assert drawn.mean() == pytest.approx(1.5, abs=5 * deviation / math.sqrt(CALLS))
    drawn = Bimodal(ShiftedExponential(1.0, 0.0), 0.25, 3.0).sample(rng(), CALLS, 1)
    assert set(np.unique(drawn)) == {1.0, 3.0}
    assert abs(np.mean(drawn == 3.0) - 0.25) < noise(0.25, CALLS)


def test_a_quantile_at_a_gap_is_beyond_it():
    model = Bimodal(ShiftedExponential(1.0, 0.1), 0.05, 10.0)
    assert model.quantile(0.94) < 2
    assert model.quantile(0.95) == pytest.approx(10, abs=1e-3)
    certain = Bimodal(ShiftedExponential(1.0, 0.0), 0.05, 10.0)
    assert certain.quantile(0.9) == 1.0
    assert certain.quantile(0.97) == pytest.approx(10.0)
    assert Bimodal(ShiftedExponential(1.0, 0.5), 0.0).quantile(0.5) == pytest.approx(
        ShiftedExponential(1.0, 0.5).quantile(0.5)
    )
    assert Bimodal(ShiftedExponential(1.0, 0.0), 0.0).quantile(1) == 1.0
    always = Bimodal(ShiftedExponential(1.0, 0.5), 1.0, 10.0)
    assert always.quantile(0) == 10.0
    assert always.quantile(1e-9) == pytest.approx(10.0)


def test_a_tail_too_heavy_for_numbers_takes_forever():
    drawn = Pareto(1.0, 1.0, 0.002).sample(rng(), 100, 10)
    assert not np.isnan(drawn).any()
    assert np.isinf(drawn).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Pareto(1.0, 1.0, 0.002).quantile(0.99) == math.inf


@pytest.mark.parametrize("model", [*FAMILIES, Empirical([[1.0, 2.0], [3.0, np.nan]])], ids=repr)
def test_models_pickle_compare_and_hash_by_content(model):
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert hash(again) == hash(model)
    assert (again.calls(rng(), 9, 2, 2) == model.calls(rng(), 9, 2, 2)).all()
    assert isinstance(model, LatencyModel)
    assert len(repr(model)) < 120


@given(waves=st.integers(1, 50), workers=st.integers(1, 12), each=st.integers(1, 3))
def test_shapes(waves, workers, each):
    measured = Empirical(np.ones((7, 5)), session=4, reuse=True)
    for model in (ShiftedExponential(), Bimodal(), Pareto(), measured):
        drawn = model.calls(rng(), waves, workers, each)
        assert drawn.shape == (each, waves, workers)
        assert drawn.dtype == np.float64
        first = model.sample(rng(), waves, workers)
        assert (first == model.calls(rng(), waves, workers, 1)[0]).all()


def test_a_model_of_ones_own_needs_two_methods():
    class Fixed(LatencyModel):
        def sample(self, rng, waves, workers):
            return np.full((waves, workers), 2.0)

        def quantile(self, share):
            return 2.0

    assert isinstance(Fixed(), LatencyModel)
    assert Fixed().calls(rng(), 3, 4, 2).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ShiftedExponential(-1.0), r"shift=-1.0 must be a finite number of at least 0"),
        (lambda: ShiftedExponential(1.0, np.nan), "mean=nan must be"),
        (lambda: ShiftedExponential(1.0, "slow"), "mean='slow' must be"),
        (lambda: Pareto(exponent=0), "exponent=0 must be a finite number above 0"),
        (lambda: Pareto(scale=math.inf), "scale=inf must be"),
        (lambda: Bimodal(share=1.5), "share=1.5 must be between 0 and 1"),
        (lambda: Bimodal(factor=0.5), "factor=0.5 must be a finite number of at least 1"),
        (lambda: Bimodal(3.0), "base=3.0 has no distribution: give ShiftedExponential"),
        (lambda: Pareto().quantile(99), "share=99 must be between 0 and 1, such as 0.99 for"),
        (lambda: Pareto().quantile(np.nan), "share=nan"),
        (lambda: Pareto().sample(0, 1, 1), r"rng=0 is not a .*Generator: give for example numpy.random.default_rng"),
        (lambda: Pareto().sample(rng(), 0, 1), "waves=0 must be a whole number of at least 1"),
        (lambda: Pareto().calls(rng(), 1, 1, 0), "each=0"),
        (lambda: Pareto().sample(rng(), 1, 1, dtype=int), "choose float64 or float32"),
        (lambda: Empirical([[1.0]]).sample(rng(), 3, 0), "workers=0"),
        (lambda: Empirical([1.0, 2.0]), r"shape \(2,\) .* rounds as rows and workers as columns"),
        (lambda: Empirical(np.ones((0, 3))), r"shape \(0, 3\)"),
        (lambda: Empirical([["a"]]), "dtype <U1"),
        (lambda: Empirical([[1.0], [1.0, 2.0]]), "rows of different lengths"),
        (lambda: Empirical([[1.0, 2.0], [3.0, -4.0]]), "1 of 4 .* -4, of worker 1 in round 1"),
        (lambda: Empirical([[np.nan, np.inf]]), "none of the 2 calls was answered"),
        (lambda: Empirical([[1.0]], session=0), "session=0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(make, match):
    with pytest.raises(cm.InvalidArgument, match=match):
        make()


# ---- measured times -----------------------------------------------------------------------------


def named(rounds: int, workers: int) -> np.ndarray:
    """Times from which round and worker can be read: 1000 times the round, plus the worker."""
    return 1000.0 * np.arange(rounds)[:, None] + np.arange(workers)


def split(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (drawn // 1000).astype(int), (drawn % 1000).astype(int)


def slow_workers(rounds: int = 40, workers: int = 32) -> np.ndarray:
    """A trace in which some workers are slow throughout."""
    random = rng(1)
    return random.lognormal(0.0, 1.0, workers) + random.exponential(0.3, (rounds, workers))


def lag_one(times: np.ndarray) -> float:
    """Correlation of a worker's time with its time in the next round."""
    return float(np.corrcoef(times[:-1].ravel(), times[1:].ravel())[0, 1])


def test_a_wave_is_one_round_and_a_session_the_same_workers_in_consecutive_rounds():
    drawn = Empirical(named(7, 9), session=5).sample(rng(), 20, 6)
    rounds, workers = split(drawn)
    assert (rounds == rounds[:, :1]).all()
    for begin in range(0, 20, 5):
        own = workers[begin : begin + 5]
        assert (own == own[0]).all()
        assert len(set(own[0])) == 6
        assert (np.diff(rounds[begin : begin + 5, 0]) % 7 == 1).all()
    assert len({tuple(row) for row in workers}) == 4


def test_the_next_call_of_a_worker_is_that_of_the_next_round():
    first, second, third = Empirical(named(7, 9)).calls(rng(), 30, 4, 3)
    rounds, workers = split(first)
    for later, drawn in ((1, second), (2, third)):
        assert (split(drawn)[0] == (rounds + later) % 7).all()
        assert (split(drawn)[1] == workers).all()


def test_all_rounds_and_workers_are_drawn_equally_often():
    drawn = Empirical(named(6, 8), session=4).sample(rng(), 12_000, 2)
    for numbers, count in zip(split(drawn), (6, 8), strict=True):
        shares = np.bincount(numbers.ravel(), minlength=count) / numbers.size
        # Waves of a session are no independent ones: a fourth of them counts.
        assert np.abs(shares - 1 / count).max() < noise(1 / count, 3000)


@pytest.mark.parametrize("workers", [8, 32])
def test_the_correlation_of_a_worker_with_itself_is_kept(workers):
    trace = slow_workers()
    measured = lag_one(trace)
    assert measured > 0.8
    drawn = Empirical(trace).sample(rng(), 4000, workers).reshape(200, 20, workers)
    before, after = drawn[:, :-1].ravel(), drawn[:, 1:].ravel()
    assert np.corrcoef(before, after)[0, 1] == pytest.approx(measured, abs=0.05)
    first, second = Empirical(trace).calls(rng(), 4000, workers, 2)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(measured, abs=0.05)
    alone = Empirical(trace, session=1).sample(rng(), 4000, workers)
    assert abs(lag_one(alone)) < 0.1


def test_more_workers_than_were_measured_are_refused_unless_they_may_be_reused():
    with pytest.raises(
        cm.InvalidArgument, match=r"12 workers cannot .* only 5 were measured.*reuse=True"
    ):
        Empirical(named(40, 5)).sample(rng(), 3, 12)
    drawn = Empirical(named(40, 5), reuse=True).sample(rng(), 400, 12)
    rounds, workers = split(drawn)
    for begin in (0, 5, 10):
        crew = workers[:, begin : begin + 5]
        assert all(len(set(row)) == crew.shape[1] for row in crew)
        assert (rounds[:, begin : begin + 5] == rounds[:, begin : begin + 1]).all()
    assert np.mean(rounds[:, 0] == rounds[:, 5]) < 0.2


def test_calls_without_an_answer_take_forever():
    model = Empirical([[1.0, np.nan], [2.0, np.inf], [3.0, 4.0]])
    drawn = model.sample(rng(), 300, 2)
    assert set(np.unique(drawn)) == {1.0, 2.0, 3.0, 4.0, np.inf}
    assert model.quantile(0.5) == 3.0
    assert model.quantile(4 / 6) == 4.0
    assert model.quantile(0.7) == np.inf
    assert "p99 never, 2 of 6 calls not answered" in repr(model)
    masked = np.ma.masked_greater([[1.0, 60.0], [2.0, 60.0], [3.0, 4.0]], 50.0)
    assert Empirical(masked) == model


def test_quantiles_are_measured_times():
    model = Empirical(np.arange(1.0, 101.0).reshape(10, 10))
    assert [model.quantile(share) for share in (0, 0.07, 0.5, 0.99, 1)] == [1, 7, 50, 99, 100]


def test_measured_times_are_copied_and_read_only():
    given = np.ones((2, 2))
    model = Empirical(given)
    given[0, 0] = 5.0
    assert model == Empirical(np.ones((2, 2)))
    assert model != Empirical(np.ones((2, 2)), session=3)
    assert model != ShiftedExponential()
    with pytest.raises(ValueError, match="read-only"):
        pickle.loads(pickle.dumps(model)).times[0, 0] = 5.0


@pytest.mark.parametrize(
    "text",
    [
        "0.5,1.5\n2,\n",
        "a,b\n0.5,1.5\n2,nan\n",
        "\ufeffround,a,b\n0,0.5,1.5\n1,2,NA\n",
        ",0,1\n0,0.5,1.5\n1,2.0,\n",
        "0,1\n0.5,1.5\n2,inf\n",
        " 0.5 , 1.5 \r\n\r\n2,never\r\n",
    ],
)
def test_csv_files_with_and_without_header(text, tmp_path):
    path = tmp_path / "times.csv"
    path.write_bytes(text.encode())
    assert Empirical.from_csv(path) == Empirical([[0.5, 1.5], [2.0, np.nan]])
    assert Empirical.from_csv(str(path), session=1, reuse=True).reuse


def test_a_round_without_answers_is_a_round(tmp_path):
    (tmp_path / "times.csv").write_text("1,2\n,\n3,4\n")
    assert Empirical.from_csv(tmp_path / "times.csv").rounds == 3


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a,b\n1,2\n3\n", r"row 3 of .*times.csv has 1 cells where the first row has 2"),
        ("a,b,c\n1,2\n", "row 2 of .* has 2 cells where the first row has 3"),
        ("1,2\n3,x\n", "row 2, column 2 of .* says 'x': write seconds"),
        ("1,oops\n3,4\n", "row 1, column 2 of .* says 'oops'"),
        ("a,b\n1,-2\n", "row 2, column 2 of .* says '-2'"),
        ("1;2\n3;4\n", "row 2, column 1 of .* says '3;4'.*commas"),
        ("", "has no times: give it a row for each round"),
        ("a,b\n", "has no times"),
        ("round\n1\n", "has no times"),
    ],
)
def test_csv_files_that_cannot_be_read(text, match, tmp_path):
    path = tmp_path / "times.csv"
    path.write_text(text)
    with pytest.raises(cm.InvalidArgument, match=match):
        Empirical.from_csv(path)


def test_a_file_that_is_no_text_is_no_csv(tmp_path):
    (tmp_path / "times.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(cm.InvalidArgument, match="is not a CSV file"):
        Empirical.from_csv(tmp_path / "times.csv")
    with pytest.raises(FileNotFoundError):
        Empirical.from_csv(tmp_path / "other.csv")
