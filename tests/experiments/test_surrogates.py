"""The surrogates experiment: simulators, rivals, scores and the command, on tiny problems."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from experiments.simulators import SIMULATORS, Simulator, Unavailable, design, table
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from experiments import data, held_out, program, rivals, surrogates, surrogates_report

DESIGNED = [one for one in SIMULATORS.values() if one.given is None]


def _tiny(x: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(x[:, 0]) + x[:, 1], x[:, 0] * x[:, 1]], axis=1)


def tiny() -> Simulator:
    return Simulator("tiny", "tiny", _tiny, (0.0, 0.0), (3.0, 1.0), ("sum", "product"))


@pytest.mark.parametrize(
    "simulator",
    [*DESIGNED, *held_out.SIMULATORS.values(), *held_out.LATER.values()],
    ids=lambda s: s.name,
)
def test_simulators_answer_row_by_row(simulator: Simulator) -> None:
    if simulator.lacking():
        pytest.skip(f"needs {simulator.lacking()}")
    X = design(simulator, 12)
    assert (np.array(simulator.low) <= X).all()
    assert (np.array(simulator.high) >= X).all()
    y = simulator.call(X).reshape(12, -1)
    assert y.shape == (12, len(simulator.outputs))
    assert np.isfinite(y).all()
    assert (y.std(axis=0) > 0).any()
    np.testing.assert_allclose(simulator.call(X[5:7]).reshape(2, -1), y[5:7], rtol=1e-6, atol=1e-9)


def test_simulators_are_those_of_the_literature() -> None:
    def at(name: str, *x: float) -> np.ndarray:
        return np.ravel(SIMULATORS[name].call(np.array([x])))

    assert at("ishigami", np.pi / 2, np.pi / 2, 0.0) == pytest.approx([8.0])
    # Hairer and Wanner, II, IV.10: y(40) = 0.7158, 9.185e-6, 0.2842.
    end = at("robertson", np.log10(0.04), np.log10(3e7), 4.0)
    assert end == pytest.approx([0.7158271, np.log10(9.1855e-6)], rel=1e-4)
    assert at("arm", *[0.0] * 4, 0.1, 0.2, 0.3, 0.4) == pytest.approx([1.0])
    # The final size of an epidemic: log(s_end / s_start) = -R0 (ever infected).
    contacts, period, share, immune = 0.5, 8.0, 1e-3, 0.2
    size = at("sir", contacts, period, share, immune)[2]
    start = 1 - share - immune
    assert np.log((1 - immune - size) / start) == pytest.approx(-contacts * period * size, rel=1e-3)
    assert SIMULATORS["g20"].call(
        np.random.default_rng(0).random((200_000, 20))
    ).mean() == pytest.approx(1, abs=0.01)


def test_the_watershed_model_explains_the_flow_at_banff() -> None:
    if data.find("hbv-banff.npz") is None:
        pytest.skip("needs hbv-banff.npz")
    y = SIMULATORS["hbv"].call(design(SIMULATORS["hbv"], 400))
    assert 0.6 < y[:, 0].max() < 1.0
    # With less rain no parameters give more water.
    X = design(SIMULATORS["hbv"], 20)
    X[:, -1] = 0.5
    low = SIMULATORS["hbv"].call(X)[:, 1]
    X[:, -1] = 2.0
    assert (SIMULATORS["hbv"].call(X)[:, 1] > low).all()


def test_designs_are_those_of_their_names() -> None:
    salted = design(SIMULATORS["hbv-saltelli"], 28).reshape(2, 14, 12)
    away = (salted != salted[:, :1]).sum(axis=2)
    assert away.tolist() == [[0, *[1] * 12, 12]] * 2
    grid = design(SIMULATORS["ishigami-grid"], 1_000)
    assert len(np.unique(grid, axis=0)) == 1_000
    assert [len(np.unique(column)) for column in grid.T] == [10, 10, 10]
    sobol = design(SIMULATORS["borehole"], 1_000)
    np.testing.assert_array_equal(design(SIMULATORS["borehole"], 600), sobol[:600])


@pytest.mark.parametrize("name", SIMULATORS)
def test_simulators_travel_to_other_processes(name: str) -> None:
    assert pickle.loads(pickle.dumps(SIMULATORS[name])).title == SIMULATORS[name].title


def test_answers_are_computed_once(tmp_path: Path) -> None:
    first = table(tiny(), 30, tmp_path)
    broken = Simulator(**{**vars_of(tiny()), "call": lambda x: 1 / 0})
    again = table(broken, 30, tmp_path)
    np.testing.assert_array_equal(first[1], again[1])
    with pytest.raises(ZeroDivisionError):
        table(broken, 31, tmp_path)


def vars_of(simulator: Simulator) -> dict:
    return {name: getattr(simulator, name) for name in simulator.__dataclass_fields__}


def test_what_a_simulator_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEDMAP_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lacking = Simulator(
        **{**vars_of(tiny()), "needs": ("no_such_module", "hbv-banff.npz", "numpy")}
    )
    with pytest.raises(
        Unavailable, match=r"tiny needs no_such_module, hbv-banff.npz, .*pip install"
    ):
        table(lacking, 30, tmp_path)


def test_answers_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    wrong = Simulator(**{**vars_of(tiny()), "call": lambda x: np.full((len(x), 2), np.nan)})
    with pytest.raises(ValueError, match="60 of them not finite"):
        table(wrong, 30, tmp_path)


def test_the_likelihood_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((40, 3)), rng.standard_normal(40)
    kernel = ConstantKernel(2.0) * Matern([0.3, 0.5, 2.0], nu=2.5) + WhiteKernel(0.05)
    theirs = GaussianProcessRegressor(kernel, optimizer=None).fit(X, y)
    value, slope = theirs.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    loss, gradient = rivals._loss(kernel.theta, X, y)
    assert loss == pytest.approx(-value, rel=1e-9)
    np.testing.assert_allclose(gradient, -slope, rtol=1e-7)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_gaussian_process_is_fitted_as_well_as_by_scikit_learn() -> None:
    X, y = table_of(tiny(), 60)
    ours = rivals.gaussian_process(X, y[:, 0], 0)
    kernel = ConstantKernel(1.0, (1e-3, 1e4)) * Matern(
        [0.5, 0.5], (1e-2, 1e2), nu=2.5
    ) + WhiteKernel(1e-4, (1e-10, 1.0))
    theirs = GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=3, random_state=0
    )
    theirs.fit(X, y[:, 0])
    reached = ours.log_marginal_likelihood(ours.kernel_.theta)
    assert reached > theirs.log_marginal_likelihood_value_ - 0.01


def test_the_gaussian_process_takes_rows_that_are_nearly_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X = np.repeat(np.linspace(0, 1, 200)[:, None], 2, axis=0) + 1e-14 * np.arange(400)[:, None]
    monkeypatch.setattr(rivals, "_fitted", lambda *_: np.log([1e7, 50.0, 1e-10]))
    y = np.sin(3 * X[:, 0])
    process = rivals.gaussian_process(X, y, 0)
    assert process.alpha > 1e-10
    assert process.predict([[0.5025]]) == pytest.approx(np.sin(3 * 0.5025), abs=1e-3)


def table_of(simulator: Simulator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    X = design(simulator, rows)
    return rivals.unit_cube(X), simulator.call(X)


def test_predictions_are_kept_until_what_they_are_made_of_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = table_of(tiny(), 60)
    lost = np.arange(60) % 5 == 0
    monkeypatch.setattr(rivals, "RIVALS", {"nearest": rivals._nearest, "mean": rivals._mean})
    first, seconds = rivals.predictions(X, y, lost, "tiny", tmp_path)
    assert first.shape == (2, 12, 2)
    assert len(seconds) == 2
    monkeypatch.setattr(rivals, "RIVALS", {"zero": lambda X, y, wanted: np.zeros((len(wanted), 2))})
    again, _ = rivals.predictions(X, y, lost, "tiny", tmp_path)
    np.testing.assert_array_equal(first, again)
    anew, _ = rivals.predictions(X, y + 1, lost, "tiny", tmp_path)
    assert (anew == 0).all()


def test_rivals_see_no_lost_answer() -> None:
    X, y = table_of(tiny(), 80)
    lost = np.arange(80) % 4 == 0
    for name, rival in rivals.RIVALS.items():
        values = rival(X[~lost], y[~lost], X[lost])
        error = np.sqrt(((values - y[lost]) ** 2).mean(axis=0)) / y.std(axis=0)
        assert values.shape == y[lost].shape
        assert (error > 1e-6).all()
        assert (
            error < {"GP": 0.01, "RBF": 0.2, "boosting": 0.9, "nearest": 0.5, "mean": 1.5}[name]
        ).all()


def test_splines_take_constant_columns_and_more_columns_than_neighbours() -> None:
    rng = np.random.default_rng(0)
    X = np.hstack([rng.random((200, 60)), np.zeros((200, 2))])
    y = X[:, :1] + X[:, 1:2]
    values = rivals._basis(X[:150], y[:150], X[150:])
    assert np.sqrt(((values - y[150:]) ** 2).mean()) < 0.1 * y.std()


@pytest.mark.parametrize("kind", ["random", "block", "strided"])
@pytest.mark.parametrize("loss", [0.05, 0.17, 0.40])
def test_losses_are_of_their_kind(kind: str, loss: float) -> None:
    lost = surrogates.lost_rows(1_200, loss, kind, np.random.default_rng(0))
    assert abs(lost.mean() - loss) < 0.021
    if kind == "block":
        assert np.isin(lost.reshape(24, 50).sum(axis=1), (0, 50)).all()
    if kind == "strided":
        assert np.isin(lost.reshape(50, 24).sum(axis=0), (0, 50)).all()
    if kind == "random":
        assert len(np.unique(np.diff(np.flatnonzero(lost)))) > 3


def scored(factor: float, stated: float = 1.0, rows: int = 2_000) -> dict:
    """Scores of an estimator whose errors are `factor` times those of a rival, in both outputs the same."""
    rng = np.random.default_rng(0)
    y = 10.0 * rng.standard_normal((2 * rows, 1))
    lost = np.arange(2 * rows) < rows
    off = rng.standard_normal((rows, 1))
    others = np.stack([y[lost] + shift * off for shift in (1.0, 2.0, 3.0, 4.0, 5.0)])
    mine = y[lost] + factor * rng.permutation(off)
    found = surrogates.scores(y, lost, mine, np.full_like(mine, stated), others, rng)
    return next(found)


def test_ratios_are_beside_the_best_rival() -> None:
    row = scored(1.0)
    assert row["best"] == "GP"
    assert row["ratio"] == pytest.approx(1.0, abs=1e-6)
    assert row["low"] < 1.0 < row["high"] < 1.1
    assert row["p"] > 0.99
    assert row["GP"] == pytest.approx(0.1, abs=0.01)
    assert row["mean"] == pytest.approx(5 * row["GP"])
    worse = scored(1.3)
    assert worse["ratio"] == pytest.approx(1.3, abs=0.01)
    assert worse["p"] < 1e-6


@pytest.mark.slow
def test_a_ratio_at_the_limit_is_significant_as_rarely_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        y = np.zeros((300, 1))
        y[150:] = 10.0 * rng.standard_normal((150, 1))
        lost = np.arange(300) < 150
        own, other = rng.standard_normal((2, 150, 1))
        others = np.repeat(other[None], 5, axis=0)
        # Half of the error is common to both, as it is where a function is hard to estimate.
        mine = 1.1 * (other + own) / np.sqrt(2)
        row = next(surrogates.scores(y, lost, mine, np.ones((150, 1)), others, rng))
        found.append(row["p"])
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.1


def test_the_aside_forgives_errors_below_a_thousandth() -> None:
    y = np.random.default_rng(0).standard_normal((400, 1))
    lost = np.arange(400) < 200
    others = np.repeat((y[lost] + 1e-6)[None], 5, axis=0)
    row = next(
        surrogates.scores(
            y, lost, y[lost] + 5e-5, np.ones((200, 1)), others, np.random.default_rng(0)
        )
    )
    assert row["ratio"] < 1.06


def test_correct_standard_errors_are_distinguished_from_small_ones() -> None:
    right, small = scored(1.0), scored(1.0, 0.25)
    assert right["calibration"] == pytest.approx(1.0, abs=0.05)
    assert right["within"] == pytest.approx(0.954, abs=0.015)
    assert small["calibration"] == pytest.approx(4.0, abs=0.2)
    assert small["within"] < 0.5


def test_the_spread_is_that_of_the_errors_scale() -> None:
    rng = np.random.default_rng(0)
    alike = rng.standard_normal(4_000)
    scale = 10.0 ** rng.uniform(-1, 1, 4_000)
    same = surrogates._calibrated(alike, np.ones(4_000), rng)
    varied = surrogates._calibrated(scale * alike, scale, rng)
    assert same["spread"] < 3.0
    assert same["rank"] == 0.0
    assert same["quantile_ratio"] == pytest.approx(1.645 / 0.1257, rel=0.1)
    assert 20.0 < varied["spread"] < 80.0
    assert varied["rank"] == pytest.approx(varied["rank_at_best"], abs=0.05)
    assert surrogates._calibrated(scale * alike, rng.permutation(scale), rng)["rank"] < 0.1


def test_what_is_no_estimate_is_a_problem() -> None:
    y = np.random.default_rng(0).standard_normal((40, 3))
    lost = np.arange(40) < 20
    values, stderr = y[lost].copy(), np.ones((20, 3))
    values[3, 0], stderr[4, 1], stderr[5, 1] = np.nan, 0.0, np.inf
    rows = list(
        surrogates.scores(y, lost, values, stderr, np.ones((5, 20, 3)), np.random.default_rng(0))
    )
    assert rows[0]["problem"] == "1 of 20 values not finite"
    assert rows[0]["ratio"] == np.inf
    assert rows[1]["problem"] == "2 of 20 standard errors not finite or not above 0"
    assert rows[2]["problem"] == ""


def test_holm_stops_at_the_first_that_does_not_pass() -> None:
    found = surrogates_report.significant(pd.DataFrame({"p": [0.9, 0.0024, 0.02, 0.0033, 0.0034]}))
    # 0.0024 > 0.01 / 5: none passes, though 0.0034 < 0.01 / 2.
    assert not found.any()
    found = surrogates_report.significant(pd.DataFrame({"p": [0.9, 0.0019, 0.02, 0.0024, 0.0034]}))
    assert found.tolist() == [False, True, False, True, False]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command on the tiny simulator, with cheap rivals and an estimator that is wrong by a known error."""
    monkeypatch.setattr(surrogates, "SIMULATORS", {"tiny": tiny()})
    monkeypatch.setattr(rivals, "FITTED", 40)

    def shifted(cell, X, y, lost, rng):
        return y[lost] + 0.1 * y.std(axis=0), np.full_like(y[lost], 0.1) * y.std(axis=0)

    monkeypatch.setitem(surrogates.ESTIMATORS, "other", shifted)

    def run(*line: str) -> pd.DataFrame:
        folders = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]
        assert surrogates.main(["--estimator", "other", *folders, *line]) == 0
        return pd.read_csv(tmp_path / "results" / "quick" / "surrogates-other.csv")

    return run


@pytest.mark.slow
def test_the_command_writes_table_and_page(command, tmp_path: Path, capsys) -> None:
    sys.modules.pop("experiments.held_out", None)
    table = command("--only", "tiny", "--rows", "200")
    assert "experiments.held_out" not in sys.modules
    assert table["output"].tolist() == ["sum", "product"] * 2
    assert table["calibration"].to_numpy() == pytest.approx(np.ones(4))
    assert table["rmse"].to_numpy() == pytest.approx(0.1 * np.ones(4), rel=1e-4)
    page = (tmp_path / "results" / "quick" / "surrogates-other.md").read_text()
    assert "| tiny | product | 0.1 |" in page
    assert "no cell has lost 150 rows" in page
    assert "nan" not in page.split("## By simulator")[1]
    assert "{" not in page
    assert page in capsys.readouterr().out


@pytest.mark.slow
def test_held_out_simulators_are_run_only_when_asked_for(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not set(held_out.LATER) & {*SIMULATORS, *held_out.SIMULATORS}
    other = Simulator(**{**vars_of(tiny()), "name": "other", "title": "other"})
    monkeypatch.setattr("experiments.held_out.LATER", {"other": other})
    assert set(command("--rows", "200")["simulator"]) == {"tiny"}
    command("--rows", "200", "--held-out")
    table = pd.read_csv(tmp_path / "results" / "quick" / "surrogates-other-held-out.csv")
    assert set(table["simulator"]) == {"other"}


@pytest.mark.slow
def test_processes_give_the_same_table(command) -> None:
    one = command("--rows", "200")
    two = command("--rows", "200", "--jobs", "2")
    unequal = ["seconds", "GP_seconds"]
    pd.testing.assert_frame_equal(one.drop(columns=unequal), two.drop(columns=unequal))


def test_simulators_that_cannot_run_are_named_on_the_page(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = Simulator(
        **{**vars_of(tiny()), "name": "other", "title": "other one", "needs": ("no_such_module",)}
    )
    page = tmp_path / "results" / "quick" / "surrogates-other.md"
    command("--rows", "200")
    assert "Not run" not in page.read_text()
    monkeypatch.setattr(surrogates, "SIMULATORS", {"tiny": tiny(), "other": lacking})
    assert set(command("--rows", "200")["simulator"]) == {"tiny"}
    assert "because what they need was not here: other one." in page.read_text()


def test_fill_may_not_change_what_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table_of(tiny(), 20)
    lost, cell = np.arange(20) < 4, surrogates.Cell(tiny(), 20, 0.2, "random")

    def filling(error: float, stated: float):
        def fill(X, given, known, seed):
            assert (np.isnan(given) == lost[:, None]).all()
            values, stderr = np.nan_to_num(given), np.ones((20, 2)) * lost[:, None]
            values[7, 1] += error
            stderr[8, 0] += stated
            return SimpleNamespace(values=values, stderr=stderr)

        monkeypatch.setattr(surrogates.cm, "fill", fill, raising=False)
        return surrogates.ESTIMATORS["fill"](cell, X, y, lost, np.random.default_rng(0))

    values, stderr = filling(0.0, 0.0)
    assert (values == 0).all()
    assert (stderr == 1).all()
    with pytest.raises(ValueError, match="2 of 16 answered rows are no longer exact"):
        filling(1e-9, 1e-9)


@pytest.mark.slow
def test_copies_and_mixtures_have_a_fifth_more_calls(tmp_path: Path) -> None:
    calls = []

    def counted(x):
        calls.append(len(x))
        return tiny().call(x)

    cell = surrogates.Cell(Simulator(**{**vars_of(tiny()), "call": counted}), 400, 0.25, "random")
    X, y = table_of(tiny(), 400)
    lost = np.arange(400) % 4 == 0
    values, stderr = surrogates.ESTIMATORS["copies"](cell, X, y, lost, np.random.default_rng(0))
    assert not calls
    exact = (stderr == 0).all(axis=1)
    assert 5 < exact.sum() < 25  # 15 expected
    np.testing.assert_array_equal(values[exact], y[lost][exact])
    values, stderr = surrogates.ESTIMATORS["mixtures"](cell, X, y, lost, np.random.default_rng(0))
    assert 40 < sum(calls) < 80  # 60 expected
    assert (stderr > 0).all()
    assert (((values - y[lost]) ** 2).mean(axis=0) < 0.1 * y.var(axis=0)).all()


def test_outputs_are_lost_one_at_a_time_beside_surrogates_that_have_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(simulator: Simulator) -> list[dict]:
        cell = surrogates.Cell(simulator, 60, 0.25, "random")
        return surrogates.measure(cell, "outputs", 0, tmp_path)

    def fill(X, given, seed):
        lost = np.isnan(given)
        assert (lost.any(axis=0).sum(), lost.sum()) == (1, 15)
        return SimpleNamespace(values=np.nan_to_num(given), stderr=lost.astype(float))

    monkeypatch.setattr(rivals, "FITTED", 40)
    monkeypatch.setattr(surrogates.cm, "fill", fill)

    def one_in_the_other(x: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(9 * x[:, 0]), 2 * np.sin(9 * x[:, 0]) + x[:, 1]], axis=1)

    rows = measured(Simulator(**{**vars_of(tiny()), "call": one_in_the_other}))
    assert [row["output"] for row in rows] == ["sum", "product"]
    for row in rows:
        assert row["GP with outputs"] < 0.01 < row["nearest"]
        assert row["best"].endswith("with outputs")
        assert row["rmse"] > 0.5
    table = pd.DataFrame(rows)
    alone = table[list(rivals.RIVALS)].min(axis=1)
    ratio = ((table["rmse"] + 1e-3) / (alone + 1e-3)).median()
    assert f"inputs alone, median |  | {ratio:.3f} |" in surrogates_report.summary(table)
    single = Simulator("single", "single", lambda x: x[:, :1], (0.0, 0.0), (3.0, 1.0))
    monkeypatch.setattr(surrogates, "SIMULATORS", {"single": single})
    with pytest.raises(SystemExit):
        surrogates.main(["--estimator", "outputs", "--only", "single"])


def test_an_estimator_that_raises_is_a_problem_of_its_cells(
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(cell, X, y, lost, rng):
        raise RuntimeError("no")

    monkeypatch.setitem(surrogates.ESTIMATORS, "other", broken)
    table = command("--rows", "200", "--kind", "random")
    assert (table["problem"] == "RuntimeError: no").all()
    assert np.isinf(table["ratio"]).all()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            ["--only", "brohole"],
            "no simulator is called brohole: choose from hbv, hbv-saltelli, borehole",
        ),
        (["--rows", "300"], "no cell is left"),
    ],
)
def test_a_selection_of_nothing_is_an_error(line: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit):
        surrogates.main(line)
    assert said in capsys.readouterr().err


def test_a_run_without_any_simulator_says_so(
    command, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    lacking = Simulator(**{**vars_of(tiny()), "needs": ("no_such_module",)})
    monkeypatch.setattr(surrogates, "SIMULATORS", {"tiny": lacking})
    with pytest.raises(AssertionError, match="2 == 0"):
        command()
    said = capsys.readouterr().err
    assert said.count("skipped: tiny needs no_such_module") == 1
    assert "no simulator could run here" in said


def test_the_program_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list = []
    monkeypatch.setattr(surrogates, "main", lambda line: seen.append(line) or 3)
    monkeypatch.setattr(sys, "argv", ["experiments", "surrogates", "--rows", "200"])
    assert program.run_named() == 3
    assert seen == [["--rows", "200"]]
