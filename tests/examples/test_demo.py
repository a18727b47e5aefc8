from __future__ import annotations

import csv
import os
import signal
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

import pytest
from examples.demo import __main__ as start
from examples.demo.workers import Latency

ROOT = Path(__file__).parents[2]
SCHEMES = ["Wait for everyone", "Hedged", "Replication x2", "BACC", "LeTCC", "KernelCode"]
EXACT = SCHEMES[:3]

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")


class Demo:
    """The demo in a process of its own; whatever it starts carries a token in its environment."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.token = f"DEMO_{uuid.uuid4().hex}"
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        # Where the tests run in the background, Ctrl-C may be ignored, and that is inherited.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "examples.demo", *arguments],
            cwd=folder,
            env={**os.environ, self.token: "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)

    def alive(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.token in path.read_text(errors="replace"):
                    found.append(int(path.parent.name))
            except OSError:  # ended, a zombie, or somebody else's
                continue
        return found

    def segments(self) -> list[Path]:
        return list(Path("/dev/shm").glob(f"codedmap-{self.process.pid}-*"))

    def leaves_nothing(self) -> bool:
        # multiprocessing's own servants end a moment after the program that they serve.
        return eventually(lambda: not self.alive()) and not self.segments()


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[Demo]:
    running = Demo(folder, *arguments)
    try:
        yield running
    finally:
        for pid in running.alive():
            os.kill(pid, signal.SIGKILL)
        running.process.communicate()


def eventually(predicate, seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """A short run: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    arguments = ("--waves", "1", "--rows", "20", "--picture", "copy.png")
    with demo(folder, *arguments) as running:
        out, err = running.process.communicate(timeout=150)
        assert running.process.returncode == 0, err
        assert "Traceback" not in err
        assert running.leaves_nothing(), (running.alive(), running.segments())
    return folder, out


def test_it_prints_one_table_of_all_schemes_that_fits_a_terminal(finished):
    lines = finished[1].splitlines()
    assert max(map(len, lines)) <= 80
    rule = next(at for at, line in enumerate(lines) if set(line) == {"-"})
    assert lines[rule - 1].startswith("scheme ")
    for column in ("seconds (min - max)", "calls", "RMSE", "RMSE/sd", "exact", "same label"):
        assert column in lines[rule - 1]
    rows = lines[rule + 1 : rule + 7]
    assert [row[:17].strip() for row in rows] == SCHEMES
    assert len({len(row) for row in rows}) == 1


def test_it_prints_the_setting_and_the_latency_model(finished):
    said = " ".join(finished[1].split())
    assert "K = 10 tasks for N = 20 worker processes" in said
    assert str(Latency()) in said
    assert "SIGKILL" in said
    assert all(f"{scheme}: " in said for scheme in SCHEMES)
    assert "At the same 20 calls plain copies are exact" in said


def test_copies_and_repeated_calls_are_exact_and_the_codes_are_not(finished):
    with (finished[0] / "demo-output" / "demo.csv").open(newline="") as file:
        rows = {row.pop("scheme"): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}  # fmt: skip
    assert list(rows) == SCHEMES
    for scheme, row in rows.items():
        assert row["seconds_min"] <= row["seconds_median"] <= row["seconds_max"]
        assert (row["rmse"] == 0) == (row["rmse_over_sd"] == 0) == (scheme in EXACT)
        assert (row["exact"] == 1) == (scheme in EXACT)
        assert row["same_label"] == 1 if scheme in EXACT else 0.5 < row["same_label"] <= 1
    assert rows["Wait for everyone"]["calls"] == 11
    assert rows["Hedged"]["calls"] >= 11
    assert all(rows[scheme]["calls"] == 20 for scheme in SCHEMES[2:])


def test_the_picture_is_a_png_of_1600_by_900(finished):
    content = (finished[0] / "demo-output" / "demo.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1600, 900)
    assert (finished[0] / "copy.png").read_bytes() == content


def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path):
    with demo(tmp_path, "--waves", "50") as running:
        assert eventually(lambda: len(running.alive()) > 20, 60)
        os.killpg(running.process.pid, signal.SIGINT)
        _, err = running.process.communicate(timeout=60)
        assert running.process.returncode == 130
        assert err.splitlines()[-1] == "interrupted"
        assert running.leaves_nothing(), (running.alive(), running.segments())


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(start, "EXTRA", ("numpy", "no_such_module", "no_other_module"))
    assert start.main() == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the demo needs no_such_module, no_other_module: run `make demo`" in said


@pytest.mark.parametrize(
    "arguments",
    [["--waves", "0"], ["--rows", "15"], ["--rows", "0"], ["--seed", "-1"], ["--picture", "no/p.png"]],
)  # fmt: skip
def test_options_that_cannot_work_are_refused_before_anything_runs(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo", *arguments])
    with pytest.raises(SystemExit) as end:
        start.main()
    assert end.value.code == 2
    assert arguments[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_worker_has_the_same_outcome_in_a_narrow_and_in_a_wide_wave():
    latency = Latency()
    for wave in range(20):
        narrow = latency.outcomes((0, wave, 0), 10, crash=True)
        wide = latency.outcomes((0, wave, 0), 20, crash=True)
        assert (
            sum(outcome.crash for outcome in narrow) == sum(outcome.crash for outcome in wide) == 1
        )
        for one, other in zip(narrow, wide, strict=False):
            assert one == other or one.crash or other.crash


def test_the_latency_model_is_what_is_stated():
    latency = Latency(base=0.1, spread=0.02, slow_share=0.05, slow_factor=10)
    drawn = sorted(outcome.seconds for outcome in latency.outcomes((1,), 20_000, crash=False))
    assert drawn[0] >= 0.1
    assert mean(drawn) == pytest.approx(0.12 * (0.95 + 0.05 * 10), rel=0.02)
    for share in (0.5, 0.9, 0.99):
        assert latency.quantile(share) == pytest.approx(drawn[int(share * len(drawn))], rel=0.03)
