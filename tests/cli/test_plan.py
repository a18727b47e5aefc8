"""``codedmap plan``, and ``codedmap run --code auto``: in this process, and as programs."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from codedmap.cli import cli
from codedmap.cli.engines import ENGINES
from codedmap.planning import ways
from codedmap.testing import Scripted, never

from ..processes import started
from .test_commands import refused

JOBS = """
import os
import time
import numpy as np

def ends(batch):
    os._exit(3)

def leaves(batch):
    raise SystemExit(3)

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
    monkeypatch.setattr(ways, "_MOST", 20)
    Path("plan_jobs.py").write_text(JOBS)
    np.save("x.npy", X)
    times = np.random.default_rng(1).exponential(0.1, (30, 8)) + 0.1
    np.savetxt("times.csv", times, delimiter=",")
    Path("bad.csv").write_text("0.1,0.2\n0.1,x\n")
    yield tmp_path
    sys.modules.pop("plan_jobs", None)


def words(model="plan_jobs:smooth", sample="x.npy", workers=8):
    return ["plan", model, sample, "--workers", str(workers)]


def printed(*line, env=None):
    result = CliRunner(env=env).invoke(cli, line)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_ways_are_compared_in_a_table():
    text = printed(*words(), "--budget", "10", "--stragglers", "2", "--rows", "5000")
    assert text.startswith("Exact with hedging: ")
    for name in ("exact with hedging", "copies", "KernelCode", "SplineCode"):
        assert f"  {name} " in text
    assert "5,000 rows on 8 workers" in text


@pytest.mark.slow
def test_tasks_and_errors_that_are_allowed():
    text = printed(*words(), "--budget", "10", "--tasks", "4", "--error", "0")
    line = next(line for line in text.splitlines() if line.startswith("  KernelCode "))
    head = next(line for line in text.splitlines() if " calls" in line and " error" in line)
    calls = float(line[: head.index(" calls") + len(" calls")].split()[-1])
    assert 2.0 <= calls < 2.5, line  # two a row, and the hedges that the measured times call for


def test_seconds_come_from_measured_times():
    text = printed(*words(), "--latency-csv", "times.csv", "--rows", "800")
    assert re.search(r"exact with hedging +2\d\.\d s", text), text
    assert "each is used for several" not in text


def test_fewer_measured_workers_are_used_several_times():
    text = printed(*words(workers=12), "--latency-csv", "times.csv")
    assert "times.csv has the times of 8 workers: each is used for several of 12" in text


def test_a_plot_is_drawn_and_replaced_only_by_force():
    pytest.importorskip("matplotlib")
    line = [*words(), "--plot", "plan.png"]
    printed(*line)
    assert Path("plan.png").read_bytes().startswith(b"\x89PNG")
    assert "plan.png exists" in refused(*line)
    printed(*line, "--force")
    printed(*words(), "--budget", "0.1", "--plot", "plan.svg")
    assert "<svg" in Path("plan.svg").read_text()


@pytest.mark.parametrize(
    ("line", "why", "exit_code"),
    [
        ([*words(), "--stragglers", "8"], "leave no worker to answer", 2),
        (words(sample="no.npy"), "no.npy: No such file or directory: give another path", 2),
        (words("plan_jobs:no"), "has no 'no'", 2),
        (words("plan_jobs:missing"), "with ValueError: the weights are", 1),
        (words("plan_jobs:leaves"), "failed on worker 0", 1),
        (words("plan_jobs:ends"), "failed on worker 0 with WorkerCrashed", 1),
        ([*words(), "--budget", "0"], "--budget", 2),
        ([*words(), "--latency-csv", "bad.csv"], "row 2, column 2 of bad.csv says 'x'", 2),
        (
            [*words(), "--latency-csv", "no.csv"],
            "no.csv: No such file or directory: give another path",
            2,
        ),
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


def test_errors_in_full():
    result = CliRunner().invoke(cli, [*words("plan_jobs:missing"), "--traceback"])
    assert result.exit_code == 1
    assert ", in missing" in result.output


def test_run_plans(monkeypatch):
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, {1: never()}))
    line = ["run", "plan_jobs:smooth", "x.npy", "--code", "auto", "--workers", "8"]
    text = printed(*line, "--out", "out.npz")
    assert "plan       " in text
    with np.load("out.npz") as archive:
        assert np.sqrt(np.mean((archive["values"] - np.tanh(X)) ** 2)) < 0.1
    printed(*line, "--tolerance", "1", "--out", "two.npz")
    line[1] = "plan_jobs:labels"
    printed(*line, "--out", "labels.npz")


# As a program


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_ends_it_and_leaves_nothing():
    pytest.importorskip("matplotlib")
    with started(*words("plan_jobs:hang"), "--plot", "plan.png") as running:
        end = time.monotonic() + 60
        while not Path("begun").exists():
            assert time.monotonic() < end
            assert running.poll() is None, running.communicate()
            time.sleep(0.02)
        assert list(Path().glob(".codedmap.*"))
        os.kill(running.pid, signal.SIGINT)
        out, errors = running.communicate(timeout=60)  # it would sleep for 600
    assert (running.returncode, out, errors) == (130, "", "codedmap: interrupted\n")
    assert not list(Path().glob("*plan.png*"))


def test_into_a_pipe_the_table_is_whole():
    with started(*words()) as running:
        out, errors = running.communicate(timeout=100)
    assert (running.returncode, errors) == (0, "")
    assert out.splitlines()[1].split() == ["way", "time", "p99", "calls", "exact", "error"]
    assert "\x1b" not in out
