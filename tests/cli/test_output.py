"""The command line where what it writes to is closed, full, or of a name that is too long."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import codedmap
from codedmap.cli import cli
from codedmap.cli.shell import _OPTIONS, with_options

from ..processes import started
from ..repeats import first
from .test_commands import processes_of, refused, wait_until, words

JOBS = """
import os, sys, time
from pathlib import Path
import numpy as np

def square(batch):
    return batch ** 2

def objects(batch):
    answers = np.empty(len(batch), object)
    answers[:] = [{1: 2}] * len(batch)
    return answers

def records(batch):
    return np.zeros(len(batch), [("a", "f8"), ("b", "O")])

def dicts(batch):
    for row in batch:
        (Path(__file__).parent / "calls" / str(row[0])).touch()
    time.sleep(0.1 * len(batch))
    return {"a": batch[:, 0]}

def leaves(batch):
    sys.exit(4)
"""
X = np.linspace(-1, 1, 60).reshape(20, 3)
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("output_jobs.py").write_text(JOBS)
    np.save("x.npy", X)
    yield tmp_path
    sys.modules.pop("output_jobs", None)


def line(fn="square", output="out.npz"):
    return [*words(f"output_jobs:{fn}", code="Replication", stragglers=1)[:-1], output]


def program(*line, out, errors=subprocess.PIPE, **extra):
    """Run with this standard output: "full", or "closed", a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    target = writer if out == "closed" else os.open("/dev/full", os.O_WRONLY)
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONUNBUFFERED"}
    run = subprocess.run(
        [sys.executable, "-m", "codedmap", *line],
        check=False,
        stdout=target,
        stderr=target if errors is None else errors,
        text=True,
        timeout=100,
        env=environment,
        **extra,
    )
    for file in {writer, target}:
        os.close(file)
    return run


# Output that cannot be printed


@FULL
@pytest.mark.parametrize(
    ("out", "message", "output"),
    first(1, [("closed", "", "out.npz"), ("full", "No space left on device", "out.npy")]),
)
def test_a_summary_that_cannot_be_printed_changes_nothing(out, message, output):
    run = program(*line(output=output), out=out)
    assert run.returncode == 0, run.stderr
    assert message in run.stderr
    assert run.stderr.count("\n") == bool(message)
    loaded = np.load(output)
    assert np.array_equal(loaded if output.endswith("y") else loaded["values"], X**2)


@pytest.mark.slow
@FULL
def test_errors_that_cannot_be_printed_keep_their_exit_code():
    assert program(*line(), out="full", errors=None).returncode == 0
    for out in ("closed", "full"):
        assert program(*line("nothing"), out=out, errors=None).returncode == 2


@pytest.mark.slow
@FULL
def test_what_a_model_has_printed_does_not_change_the_exit_code():
    Path("output_jobs.py").write_text(f"print('loud')\n{JOBS}")
    assert program(*line(), "--quiet", out="closed").returncode == 0
    run = program(*line(), "--quiet", "--force", out="full")
    assert (run.returncode, run.stderr.count("\n")) == (0, 1)
    assert program(*line("nothing"), out="full").returncode == 2


@FULL
@pytest.mark.parametrize("asked", first(1, [["--help"], ["--version"], []]))
def test_help_may_be_cut_off(asked):
    run = program(*asked, out="closed")
    assert (run.returncode, run.stderr) == (0, "")


@FULL
@pytest.mark.parametrize("asked", first(1, [["run", "--help"], ["--version"], []]))
def test_help_may_not_be_lost(asked):
    run = program(*asked, out="full")
    assert run.returncode == 2
    assert run.stderr.startswith(
        "codedmap: error: standard output cannot be written (No space left"
    )
    assert run.stderr.count("\n") == 1


@pytest.mark.slow
@FULL
def test_a_plan_that_cannot_be_printed_is_lost():
    asked = "plan output_jobs:square x.npy --workers 4 --stragglers 1 --tasks 3".split()
    assert program(*asked, out="closed").returncode == 0
    for model in ("", 'print("imported")\n'):  # which a worker's start tries to print
        Path("output_jobs.py").write_text(model + JOBS)
        run = program(*asked, out="full")
        assert run.returncode == 2
        assert "No space left" in run.stderr


# Names


@pytest.mark.parametrize("folders", ["", "there/" * 900, "b" * 300 + "/"])
def test_a_name_that_is_too_long_is_refused_before_anything_starts(scripted, folders):
    message = refused(*line(output=folders + "a" * (1 if folders else 296) + ".npz"))
    assert "cannot be written (File name too long)" in message
    assert not scripted


@pytest.mark.parametrize("letter", ["a", "ä"])
@pytest.mark.parametrize("size", [140, 200, 249, 255])
def test_names_that_the_file_system_takes_are_no_problem(scripted, letter, size):
    name = letter * ((size - 4) // len(letter.encode())) + ".npz"
    assert CliRunner().invoke(cli, line(output=name)).exit_code == 0
    assert np.array_equal(np.load(name)["values"], X**2)
    assert sorted(p.name for p in Path().iterdir() if p.suffix == ".npz") == [name]


def test_what_a_killed_run_has_left_is_in_no_later_run_s_way(scripted, monkeypatch):
    """In a container each run has the same number, and the temporary file of the first was called by it."""
    kept = []
    monkeypatch.setattr(Path, "unlink", lambda path, **_: kept.append(path))
    assert CliRunner().invoke(cli, line("leaves")).exit_code != 0
    assert [path.suffix for path in kept if path.exists()] == [".part"]
    assert CliRunner().invoke(cli, line()).exit_code == 0


def test_a_name_is_too_long_if_that_of_its_journal_is(scripted):
    message = refused(*line(output="a" * 244 + ".npy"))
    assert ".npy.journal cannot be written (File name too long)" in message
    result = CliRunner().invoke(cli, line(output="a" * 243 + ".npy"))
    assert result.exit_code == 0, result.output


def test_inputs_and_models_of_such_names_are_refused(scripted):
    assert "File name too long" in refused(*words("output_jobs:square", "a" * 300 + ".npy"))
    pytest.importorskip("onnxruntime")
    assert "File name too long" in refused(*words("a" * 300 + ".onnx", "x.npy"))


# Disks that are full


def test_a_disk_that_is_full_ends_a_run():
    np.save("many.npy", np.ones((1000, 3)))
    asked = [*line(output="out.npy"), "--chunk", "50"]
    asked[2] = "many.npy"

    def fill_up():  # each file may have so many bytes, which is refused as a full disk is
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    run = subprocess.run(
        [sys.executable, "-m", "codedmap", *asked, "--quiet"],
        check=False, capture_output=True, text=True, timeout=100, preexec_fn=fill_up,
    )  # fmt: skip
    assert run.returncode == 2
    [message] = run.stderr.splitlines()
    assert message.startswith("codedmap: error: ")
    assert "File too large): make room" in message
    assert "resume=True" not in run.stderr
    assert not list(Path().glob("out.*"))


# Answers that no file can hold


@pytest.mark.parametrize("fn", ["objects", "records"])
@pytest.mark.parametrize("output", ["out.npz", "out.npy"])
def test_python_objects_are_refused(scripted, fn, output):
    message = refused(*line(fn, output), exit_code=1)
    assert "answers are Python objects, which" in message
    assert {
        "out.npz": "return numbers or text in one array",
        "out.npy": "64 bits), or give a path ending in .parquet",
    }[output] in message


def test_answers_that_no_archive_holds_end_the_run_when_the_first_have_come():
    Path("calls").mkdir()
    message = refused(
        "run", "output_jobs:dicts", "x.npy", "--workers", "1", "--out", "out.npz", exit_code=1
    )
    assert "or have several parts: return numbers or text in one array" in message
    assert len(list(Path("calls").iterdir())) < len(X)


def test_a_model_that_exits_is_an_error_of_plan():
    asked = "plan output_jobs:leaves x.npy --workers 4 --stragglers 1 --tasks 3".split()
    assert "row 4 failed on worker 0 with SystemExit: 4" in refused(*asked, exit_code=1)


# Ctrl-C


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_ctrl_c_while_workers_are_started_is_reported_once(folder):
    with started(*line()) as run:
        wait_until(
            lambda: any(
                b"multiprocessing.forkserver" in path.with_name("cmdline").read_bytes()
                for path in processes_of(run.pid)
            )
        )
        os.killpg(run.pid, signal.SIGINT)
        printed, errors = run.communicate(timeout=60)
    assert (run.returncode, printed, errors) == (130, "", "codedmap: interrupted\n")
    wait_until(lambda: not processes_of(run.pid))
    assert not list(folder.glob("*out.npz*"))


INTERRUPTED = """
import os, signal, time, weakref
from codedmap.cli.shell import run_as_program

def send(number):
    os.kill(os.getpid(), number)
    sum(range(1000))  # Python looks for it between two steps

class Field:
    def __set_name__(self, owner, name):
        send(signal.SIGTERM)

def imports(prog_name):
    class Model:
        field = Field()

def calls_back(prog_name):
    def field(): pass
    reference = weakref.ref(field, lambda _: send(signal.SIGTERM))
    del field
    time.sleep(60)

def cleans_up(prog_name):
    try:
        send(signal.SIGHUP)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            send(number)
        print("clean")

def ignores(prog_name):
    class Model:
        def __del__(self):
            raise ValueError("ignored")
    Model()

run_as_program({})
"""


@pytest.mark.parametrize(
    ("command", "code", "printed", "says"),
    [
        ("imports", 143, "", "^codedmap: interrupted\n$"),
        ("calls_back", 143, "", "^codedmap: interrupted\n$"),
        ("cleans_up", 129, "clean\n", "^codedmap: interrupted\n$"),
        ("ignores", 0, "", "ValueError: ignored\n$"),
    ],
)
def test_a_signal_ends_the_program_wherever_it_comes_and_once(command, code, printed, says):
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(command)],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        preexec_fn=lambda: [
            signal.signal(n, signal.SIG_DFL) for n in (signal.SIGHUP, signal.SIGTERM)
        ],
    )
    assert (run.returncode, run.stdout) == (code, printed)
    assert re.search(says, run.stderr)


def test_a_working_directory_that_has_been_removed_is_said(folder):
    Path("x.csv").write_text("a\n1\n")
    job, design = (str(folder / name) for name in ("output_jobs.py:square", "x.csv"))
    Path("gone").mkdir()
    source = (
        "import os; os.chdir('gone'); os.rmdir(os.getcwd()); from codedmap.cli import cli; "
        f"cli(['sweep', {job!r}, {design!r}, '--out', 'out.csv'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", source], check=False, capture_output=True, text=True
    )
    said = "codedmap: error: the working directory: No such file or directory: give another path\n"
    assert (run.returncode, run.stderr) == (2, said)


def test_messages_name_options_and_every_text_that_they_replace_is_one_of_the_library():
    rooms = [p for p in Path(codedmap.__file__).parent.rglob("*.py") if p.parent.name != "cli"]
    lines = "".join(path.read_text("utf-8") for path in rooms)
    library = re.sub(r'"\s+f?"', "", lines)  # texts of several lines
    for said, option in _OPTIONS:
        assert said in library
        assert with_options(f"a {said} b") == f"a {option} b"
