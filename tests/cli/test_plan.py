"""``codedmap plan``, and ``codedmap run --code auto``: in this process, and as programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import codedmap as cm
from codedmap.cli.commands import cli
from codedmap.cli.engines import ENGINES
from codedmap.planning import replays, sampling, schemes
from codedmap.testing import Scripted, never

from .test_commands import refused

JOBS = """
import os
import time
import numpy as np

def ends(batch):
    os._exit(3)

def leaves(batch):
    raise SystemExit(3)

def ends_for_mixtures(batch):
    rows = np.load("x.npy")
    if not (batch[:, None] == rows[None]).all(axis=2).any(axis=1).all():
        os._exit(3)
    return np.tanh(batch)

def smooth(batch):
    return np.tanh(batch)

def labels(batch):
    return batch.argmax(axis=1)

def missing(batch):
    raise ValueError("the weights\\nare missing")

def hang(batch):
    open("begun", "w").close()
    time.sleep(600)
"""

X = np.random.default_rng(0).uniform(-1, 1, (60, 3))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with functions and inputs, and plans of few waves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sampling, "_WAVES", 12)
    monkeypatch.setattr(replays, "_REPLAYED", 12)
    monkeypatch.setattr(replays, "_OF_A_KIND", 2)
    monkeypatch.setattr(schemes, "_SCREENED", 6)
    Path("plan_jobs.py").write_text(JOBS)
    np.save("x.npy", X)
    times = np.random.default_rng(1).exponential(0.1, (30, 8)) + 0.1
    np.savetxt("times.csv", times, delimiter=",")
    yield tmp_path
    sys.modules.pop("plan_jobs", None)


def words(model="plan_jobs:smooth", sample="x.npy", workers=8, stragglers: int | None = 2):
    late = [] if stragglers is None else ["--stragglers", str(stragglers)]
    return ["plan", model, sample, "--workers", str(workers), *late]


def printed(*line, env=None):
    result = CliRunner(env=env).invoke(cli, line)
    assert result.exit_code == 0, result.output
    return result.output


def without_time(text):
    return [
        line.rpartition("; ")[0] if "fn computed" in line else line for line in text.splitlines()
    ]


def test_the_table_is_that_of_the_plan():
    plan = cm.plan(np.tanh, X, workers=8, stragglers=2, tasks=6, seed=3)
    text = printed(*words(), "--tasks", "6", "--seed", "3")
    assert without_time(text) == without_time(str(plan))


def test_the_number_of_tasks_is_chosen_within_the_budget():
    text = printed(*words(), "--budget", "1.5")
    assert " 6  1.33 " in text
    assert " 4  2.00 " not in text


def test_late_workers_and_seconds_come_from_measured_times():
    text = printed(*words(stragglers=None), "--tasks", "6", "--latency-csv", "times.csv")
    assert "p99 s" in text
    assert "wait for all" in text
    both = printed(*words(stragglers=1), "--tasks", "6", "--latency-csv", "times.csv")
    assert "8 workers, 1 straggler:" in both


def test_fewer_measured_workers_are_used_several_times():
    text = printed(*words(workers=12), "--tasks", "10", "--latency-csv", "times.csv")
    assert "times.csv has the times of 8 workers: each is used for several of 12" in text


def test_a_plot_is_drawn_and_replaced_only_by_force():
    pytest.importorskip("matplotlib")
    line = [*words(), "--tasks", "6", "--plot", "plan.png"]
    printed(*line)
    assert Path("plan.png").read_bytes().startswith(b"\x89PNG")
    assert "plan.png exists" in refused(*line)
    printed(*line, "--force")
    printed(*words(), "--tasks", "6", "--plot", "plan.svg")
    assert "<svg" in Path("plan.svg").read_text()


def test_a_narrow_terminal():
    text = printed(*words(), "--tasks", "6", env={"COLUMNS": "40"})
    assert max(map(len, text.splitlines())) <= 40
    help_text = printed("plan", "--help", env={"COLUMNS": "40"})
    assert max(map(len, help_text.splitlines())) <= 40


@pytest.mark.parametrize(
    ("line", "why", "exit_code"),
    [
        (words(stragglers=None), "Give --stragglers S, or --latency-csv", 2),
        (words(stragglers=8), "leave no worker to answer", 2),
        (words(sample="no.npy"), "cannot be read", 2),
        (words("plan_jobs:no"), "has no 'no'", 2),
        (words("plan_jobs:labels"), "int64", 1),
        (words("plan_jobs:missing"), "raised ValueError for rows of x.npy: the weights are", 1),
        (words("plan_jobs:leaves"), "raised SystemExit for rows of x.npy: 3", 1),
        (words("plan_jobs:ends"), "plan_jobs:ends ended its process for rows of x.npy", 1),
        ([*words(), "--tasks", "61"], "less than one group", 2),
        ([*words(), "--tasks", "2", "--budget", "3"], "4 calls a task", 2),
        ([*words(), "--latency-csv", "no.csv"], "times no.csv cannot be read", 2),
        ([*words(), "--latency-csv", "plan_jobs.py"], "write seconds", 2),
        ([*words(), "--plot", "plan.txt"], "name ending in .png", 2),
        ([*words(), "--plot", "no/plan.png"], "no directory no", 2),
        ([*words(), "--plot", "."], "name ending in", 2),
    ],
)
def test_errors_are_one_line(line, why, exit_code):
    assert why in refused(*line, exit_code=exit_code)


def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_computed():
    assert "no directory" in refused(*words("plan_jobs:hang"), "--plot", "no/plan.png")


def test_a_model_that_ends_its_process_for_mixtures_is_only_copied():
    text = printed(*words("plan_jobs:ends_for_mixtures"), "--tasks", "6")
    assert "copies, kernel fill" in text
    assert text.count("left out: ") == 1
    assert "the worker that computed its mixtures died" in text


def test_errors_in_full():
    result = CliRunner().invoke(cli, [*words("plan_jobs:missing"), "--traceback"])
    assert result.exit_code == 1
    assert ", in missing" in result.output


def test_run_chooses_a_code(monkeypatch):
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, {1: never()}))
    line = ["run", "plan_jobs:smooth", "x.npy", "--code", "auto", "--workers", "8"]
    text = printed(*line, "--stragglers", "2", "--output", "out.npz")
    assert "code       " in text
    assert "2 stragglers" in text
    with np.load("out.npz") as archive:
        assert np.sqrt(np.mean((archive["values"] - np.tanh(X)) ** 2)) < 0.1
        assert "workers=8" in str(archive["code"])
    line += ["--stragglers", "1", "--tasks", "4", "--tolerance", "1", "--output", "two.npz"]
    assert "4 tasks, 1 straggler" in printed(*line)


def test_run_refuses_options_that_auto_does_not_have(monkeypatch):
    monkeypatch.setitem(ENGINES, "local", Scripted)
    line = ["run", "plan_jobs:smooth", "x.npy", "--code", "auto", "--workers", "8"]
    line += ["--stragglers", "2", "--output", "out.npz"]
    assert "leave it out for auto" in refused(*line, "--fill", "mean")
    line[1] = "plan_jobs:labels"
    assert "int64" in refused(*line, exit_code=1)


def test_run_with_a_kernel_code(monkeypatch):
    monkeypatch.setitem(ENGINES, "local", Scripted)
    line = ["run", "plan_jobs:smooth", "x.npy", "--code", "kernel", "--workers", "8"]
    printed(*line, "--stragglers", "2", "--spread", "0.5", "--output", "out.npz")
    with np.load("out.npz") as archive:
        assert str(archive["code"]) == repr(cm.KernelCode(6, 8, 2, 0.5))


# As a program


def program(*line, **extra):
    command = [sys.executable, "-m", "codedmap", *line]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **extra
    )


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_ends_it_and_leaves_nothing():
    pytest.importorskip("matplotlib")
    with program(*words("plan_jobs:hang"), "--plot", "plan.png", start_new_session=True) as running:
        end = time.monotonic() + 60
        while not Path("begun").exists():
            assert time.monotonic() < end
            assert running.poll() is None, running.communicate()
            time.sleep(0.02)
        assert list(Path().glob(".plan.png.*"))
        os.kill(running.pid, signal.SIGINT)
        out, errors = running.communicate(timeout=60)  # it would sleep for 600
    assert (running.returncode, out, errors) == (130, "", "codedmap: interrupted\n")
    assert not list(Path().glob("*plan.png*"))


def test_into_a_pipe_the_table_is_whole():
    with program(*words(), "--tasks", "6") as running:
        out, errors = running.communicate(timeout=100)
    assert (running.returncode, errors) == (0, "")
    assert out.splitlines()[1].split()[:6] == ["scheme", "K", "cost", "RMSE", "RMSE/sd", "p95"]
    assert "\x1b" not in out
