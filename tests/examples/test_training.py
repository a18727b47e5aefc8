"""The training example: its parts, models, schemes and tables; one short run on real processes."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from examples.training import missing, sketched
from examples.training.models import Logistic, Network
from examples.training.parts import digits, minibatch
from examples.training.picture import draw
from examples.training.program import RESULTS, run_named
from examples.training.report import page
from examples.training.run import Look, train
from examples.training.schemes import EACH, SCHEMES, PartGradient, Setting
from examples.training.table import Run, markdown, read, reading, write
from examples.training.workers import WORKERS, Timed

import codedmap as cm

EXACT = [scheme for scheme in SCHEMES if scheme.kind == "exact"]
NAMED = {scheme.name: scheme for scheme in SCHEMES}


@pytest.fixture(scope="module")
def data():
    return digits(WORKERS)


@pytest.fixture(params=["logistic", "network"])
def model(request):
    if request.param == "network":
        pytest.importorskip("torch")
        return Network()
    return Logistic()


def test_parts_hold_every_digit_once_and_as_many_of_each_class(data):
    assert sum(len(part.images) for part in data.parts) == len(data.images) == 4000
    assert sum(part.images.sum(dtype=float) for part in data.parts) == pytest.approx(
        data.images.sum(dtype=float)
    )
    counts = np.array([part.labels.sum(axis=0) for part in data.parts])
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_a_minibatch_follows_from_seed_step_and_part(data):
    part, other = data.parts[:2]
    images, labels = minibatch(part, 0, 5, EACH)
    again, _ = minibatch(part, 0, 5, EACH)
    assert np.array_equal(images, again)
    assert np.array_equal(labels.argmax(axis=1), np.repeat(np.arange(10), EACH))
    for changed in (minibatch(part, 1, 5, EACH), minibatch(part, 0, 6, EACH)):
        assert not np.array_equal(images, changed[0])
    assert not np.array_equal(images, minibatch(other, 0, 5, EACH)[0])
    shuffled, kinds = minibatch(part, 0, 5, EACH, aligned=False)
    assert not np.array_equal(kinds, labels)
    assert shuffled.sum() == pytest.approx(images.sum())


def test_parts_by_class_hold_every_digit_once_and_a_minibatch_of_what_they_have():
    data = digits(WORKERS, by_class=True)
    assert sum(len(part.images) for part in data.parts) == 4000
    assert max(np.count_nonzero(part.labels.sum(axis=0)) for part in data.parts) == 2
    images, labels = minibatch(data.parts[0], 0, 5, EACH)
    assert len(np.unique(images, axis=0)) == len(images) == 10 * EACH
    assert (np.diff(labels.argmax(axis=1)) >= 0).all()


def test_gradients_are_those_of_the_cross_entropy(model, data):
    rng = np.random.default_rng(0)
    images, labels = minibatch(data.parts[0], 0, 0, 1)
    # Labels as mixtures have them, which need not be shares.
    labels = (labels + 0.2 * rng.standard_normal(labels.shape)).astype(np.float32)
    weights = (model.start(3) + 0.05 * rng.standard_normal(model.start(3).size)).astype(np.float32)

    def loss(at):
        scores = model.scores(at.astype(np.float32), images).astype(float)
        scores -= scores.max(axis=1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return -(labels * logs).sum(axis=1).mean()

    gradient = model.gradient(weights, images, labels)
    assert gradient.dtype == np.float32
    # Ways that are half downhill and half anywhere, so that the slope is far from 0.
    size = float(np.linalg.norm(gradient))
    for _ in range(3):
        way = rng.standard_normal(weights.size)
        way = gradient / size + way / np.linalg.norm(way)
        slope = (loss(weights + 0.005 * way) - loss(weights - 0.005 * way)) / 0.01
        assert float(gradient @ way) == pytest.approx(slope, rel=0.02)
        assert slope > 0.5 * size


def mean_gradient(setting, weights, step):
    whole = PartGradient(setting.model, setting.seed)
    return np.mean([whole(part, weights, step) for part in setting.parts], axis=0)


@pytest.mark.parametrize("scheme", EXACT, ids=lambda scheme: scheme.name)
def test_exact_schemes_give_the_mean_over_all_parts(scheme, data):
    setting = Setting(Logistic(), data.parts, 0, 0.0)
    weights = np.linspace(-0.1, 0.1, 7850).astype(np.float32)
    late = {2: cm.testing.never()} if scheme.load > 1 or scheme.name == "hedged" else {}
    with cm.testing.Scripted(WORKERS, late) as engine:
        found = scheme.gradient(setting, engine)(weights, 7)
    assert np.allclose(found, mean_gradient(setting, weights, 7), atol=1e-5)


@pytest.mark.parametrize(
    "scheme", [s for s in SCHEMES if s.kind != "exact"], ids=lambda scheme: scheme.name
)
def test_the_other_schemes_reduce_the_loss_without_three_workers(scheme, data):
    setting = Setting(Logistic(), data.parts, 0, 0.0)
    weights = np.zeros(7850, np.float32)
    true = mean_gradient(setting, weights, 0)
    for late in list(combinations(range(WORKERS), 3))[::60]:
        with cm.testing.Scripted(WORKERS, dict.fromkeys(late, cm.testing.never())) as engine:
            found = scheme.gradient(setting, engine)(weights, 0)
        assert found.shape == true.shape
        assert found @ true > 0.3 * np.linalg.norm(found) * np.linalg.norm(true)


def test_calls_sleep_as_long_as_drawn_and_cost_it():
    seconds = np.zeros((2, 2, 3))
    seconds[0, 1, 2], seconds[1, 1, 2] = 0.2, 0.1
    with cm.testing.Scripted(3) as engine:
        timed = Timed(engine, seconds, load=2)
        for step, slots in ((0, (0, 1, 2)), (1, (2, 2))):
            timed.begin(step)
            for slot in slots:
                began = time.perf_counter()
                assert timed.submit(slot, abs, -3).result() == 3
                took = time.perf_counter() - began
        assert took >= 0.2
        cost, parts = timed.cost(2)
    assert cost.tolist() == pytest.approx([0.0, 0.6])
    assert parts.tolist() == [6.0, 4.0]


def test_it_trains_on_real_processes(data):
    with cm.engines.Local(WORKERS, grace=3600.0) as engine:
        looks = train(NAMED["repetition, S = 2"], Logistic(), data, engine, seed=0, steps=4)
    assert [look.step for look in looks] == [0, 3, 4]
    assert looks[-1].loss < 0.5 * looks[0].loss
    assert looks[-1].seconds > 4 * 3 * 0.04
    # Nine of twelve calls at least are made in each step, and sleep for three parts.
    assert looks[-1].worker_seconds > 4 * 4 * 3 * 0.04


@pytest.fixture
def runs():
    looks = [Look(0, 0.0, 0.0, 0.0, 2.3, 0.1), Look(3, 1.5, 9.0, 36.0, 0.25, 0.9)]
    slow = [Look(0, 0.0, 0.0, 0.0, 2.3, 0.1), Look(3, 2.5, 8.0, 36.0, 0.25, 0.9)]
    lost = [Look(0, 0.0, 0.0, 0.0, 2.3, 0.1), Look(3, 1.5, 9.0, 36.0, 0.4, 0.8)]
    return [
        Run("logistic", "local", name, seed, own)
        for name, own in (("wait for all", slow), ("hedged", looks), ("LeTCC", lost))
        for seed in range(2)
    ]


def test_tables_and_pictures_are_made_from_the_file(runs, tmp_path):
    write(tmp_path / "logistic.csv", runs)
    assert read(tmp_path / "logistic.csv") == runs
    table = markdown(runs, "logistic", "local")
    assert "| hedged | exact | 0.500 ± 0.000 | 3.00 ± 0.00 | 12.0 |" in table
    assert table.splitlines()[-1].endswith("| not reached | not reached |")
    text = reading(runs, "logistic", "local")
    assert "| least time | hedged, 1.5 s | wait for all, 2.5 s |" in text
    assert "| least cost | wait for all, 8.0 worker seconds | hedged, 9.0 worker seconds |" in text
    draw(tmp_path / "logistic.png", runs, "title")
    assert (tmp_path / "logistic.png").read_bytes().startswith(b"\x89PNG")
    assert "| hedged |" in page(tmp_path)


def test_the_page_of_results_is_made_from_its_tables():
    assert page(RESULTS) == (RESULTS / "README.md").read_text()


def test_sketches_are_compared_with_equal_draws(tmp_path):
    results = list(sketched.compare(1, 3, (0.01,)))
    assert [one.variant for one in results] == [variant.name for variant in sketched.VARIANTS]
    assert results[0].sent == 4 * 7850
    assert results[2].sent == 4 * 1000
    assert all(one.sent < results[0].sent / 3 for one in results[1:])
    sketched.write(tmp_path / "sketched.csv", results)
    kept = sketched.read(tmp_path / "sketched.csv")
    for one, other in zip(kept, results, strict=True):
        assert (one.variant, one.rate, one.seed, one.sent) == (
            other.variant, other.rate, other.seed, other.sent
        )  # fmt: skip
        for name in ("reached", "loss", "accuracy"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4, nan_ok=True)
    assert len(sketched.markdown(kept).splitlines()) == 2 + len(results)


@pytest.mark.slow
def test_workers_that_never_answer_are_missed_where_parts_differ(tmp_path):
    results = list(missing.compare(1, 5))
    missing.write(tmp_path / "missing.csv", results)
    kept = missing.read(tmp_path / "missing.csv")
    assert [(one.parts, one.scheme) for one in kept] == [(o.parts, o.scheme) for o in results]
    found = {(one.parts, one.scheme): one for one in kept}
    assert found["parts by class", "ignore stragglers"].worst == 0
    assert found["parts by class", "repetition, S = 2"].worst > 0.1
    assert "## Three workers that never answer" in page(tmp_path)


def test_a_run_that_diverged_is_reported():
    results = [
        sketched.Result("one", rate, 0, 10, 400.0, loss, 0.5)
        for rate, loss in ((0.1, np.nan), (0.01, 0.25))
    ]
    assert sketched.markdown(results).splitlines()[-1] == (
        "| one | 10 | 0.01 | 0.250 | 50.0 % | 400 | 4 | 1 of 2 |"
    )
    assert "diverged" in sketched.markdown(results[:1]).splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--quick", "nothing"], ["--slow"]])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        run_named(arguments)
    assert error.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_pictures_and_page_are_made_anew_from_tables(runs, tmp_path, capsys):
    # Of one engine, the one that is there, whichever it is.
    write(tmp_path / "logistic.csv", [replace(run, engine="dask") for run in runs])
    assert run_named(["report", "--output", str(tmp_path)]) == 0
    assert {path.name for path in Path(tmp_path).iterdir()} == {
        "logistic.csv",
        "logistic.png",
        "README.md",
    }
    assert "written" in capsys.readouterr().out
