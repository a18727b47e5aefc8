"""The command line with outputs that are written as answers come, interrupted and resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import codedmap as cm
from codedmap.cli import cli
from codedmap.cli.engines import ENGINES
from codedmap.cli.names import CODES
from codedmap.testing import Scripted, never

from ..processes import started
from ..repeats import first
from .test_commands import LENET, code_of, processes_of, program, refused, wait_until

JOBS = """
import os, time
import numpy as np

FACTOR = 2.0

def double(batch):
    return FACTOR * batch

def slow(batch):
    with open("rows", "a") as file:
        file.write("".join(f"{x:.0f}\\n" for x in batch[:, 0]))
    if os.path.exists("hang"):
        if batch[:, 0].max() >= 48:
            open(f"begun-{os.getpid()}", "w").close()
            time.sleep(600)
    return 2.0 * batch

def fails(batch):
    raise ValueError("the weights are missing")

def late_fails(batch):
    if batch[:, 0].max() >= 48:
        raise ValueError("the weights are missing")
    return batch
"""

X = np.arange(240.0).reshape(120, 2)  # the first column of row 24 is 48
FILES = ("out.npy", "out.status.npy")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "stored_jobs", raising=False)
    Path("stored_jobs.py").write_text(JOBS)
    np.save("x.npy", X)
    yield tmp_path
    sys.modules.pop("stored_jobs", None)


def words(fn="double", code="Replication", workers=6, stragglers=1, inputs="x.npy", model=None):
    if code in CODES:
        code = code_of(code, workers, stragglers)
    line = ["run", model or f"stored_jobs:{fn}", inputs, "--code", code]
    return [*line, "--out", "out.npy", "--chunk", "4"]


def ran(*line, exit_code=0):
    """What a run in this process prints."""
    result = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.output


def contents():
    return {name: Path(name).read_bytes() for name in FILES}


# What is written and printed


@pytest.mark.parametrize("output", ["out.npy", "out.zarr", "out.parquet"])
def test_answers_are_written_beside_a_journal(scripted, output):
    line = words()
    line[line.index("out.npy")] = output
    printed = ran(*line)
    assert "120 of 120 exact" in printed
    assert f"output     {output}" in printed
    if output == "out.npy":
        np.testing.assert_array_equal(np.load("out.npy"), 2 * X)
        assert (np.load("out.status.npy") == 0).all()
    journal = Path(f"{output}.journal").read_text().splitlines()
    lines = [json.loads(line[9:]) for line in journal]
    rows = [end - begin for line in lines for begin, end in line.get("rows", ())]
    assert sum(rows) == 120
    assert set(rows) == {12}, "3 tasks in each of 4 groups"


def test_quiet_prints_nothing(scripted):
    assert ran(*words(), "--quiet") == ""


def test_chunks_have_a_default(scripted):
    ran(*words()[:-2])
    assert Path("out.npy.journal").read_text().count('"rows":[[') == 1


def test_outputs_take_the_options_of_map(monkeypatch):
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, {2: never()}))
    options = ["--stop", "Quorum(6)", "--hedge", "Hedge(0.05)"]
    printed = ran(*words(code="Uncoded")[:-2], *options)
    assert "hedges     1" in printed
    np.testing.assert_array_equal(np.load("out.npy"), 2 * X)


@pytest.mark.parametrize("code", CODES)
def test_outputs_and_archives_have_the_same_code(scripted, code):
    line = words(code=code, stragglers=0)[:-2]  # one chunk, for the same groups of rows
    ran(*line)
    begun = json.loads(Path("out.npy.journal").read_text().splitlines()[0][9:])["codedmap"]
    line[line.index("out.npy")] = "out.npz"
    ran(*line)
    with np.load("out.npz") as archive:
        assert begun["code"][0] == str(archive["code"])
        np.testing.assert_allclose(np.load("out.npy"), archive["values"], atol=1e-6)


def test_an_array_of_an_archive(scripted):
    np.savez("two.npz", first=X, second=X + 1)
    assert "choose one of these with --key NAME" in refused(*words(inputs="two.npz"))
    ran(*words(inputs="two.npz"), "--key", "second")
    np.testing.assert_array_equal(np.load("out.npy"), 2 * (X + 1))


def test_inputs_are_mapped_and_cast_a_chunk_at_a_time(scripted, monkeypatch):
    pytest.importorskip("onnxruntime")
    images = np.random.default_rng(0).random((30, 1, 28, 28))
    np.save("double.npy", images)
    seen, load = [], np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: seen.append(load(*a, **k)) or seen[-1])
    printed = ran(*words(model=str(LENET), inputs="double.npy"))
    assert "inputs are float64 and lenet5-mnist.onnx takes float32: cast them" in printed
    assert type(seen[0]) is np.memmap
    expected = cm.OnnxModel(LENET)(images.astype(np.float32))
    np.testing.assert_allclose(load("out.npy"), expected, atol=1e-5)


def test_another_model_of_the_same_name_does_not_go_on(scripted):
    pytest.importorskip("onnxruntime")
    np.save("images.npy", np.zeros((30, 1, 28, 28), np.float32))
    model = LENET.read_bytes()
    Path("net.onnx").write_bytes(model)
    ran(*words(model="net.onnx", inputs="images.npy"))
    line = [*words(model="net.onnx", inputs="images.npy"), "--resume"]
    ran(*line)
    Path("net.onnx").write_bytes(model[:20_000] + bytes(100_000) + model[120_000:])
    assert "is not the same now" in refused(*line)


def test_fewer_answers_than_promised_and_no_error_bars(monkeypatch):
    script = dict.fromkeys(range(3), never())
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, script))
    printed = ran(*words(code="SplineCode")[:-2], "--deadline", "0.2", "--hedge", "Hedge(9)")
    assert "only 3 of the 5 answers that SplineCode(tasks=5, workers=6, stragglers=1" in printed
    assert not Path("out.stderr.npy").exists()


# Refused before anything is computed


def test_resuming_is_refused_where_nothing_is_kept(scripted):
    line = [*words()[:-3], "out.npz"]
    assert "leave out --resume, or one in .npy, .zarr or .parquet" in refused(*line, "--resume")
    assert not scripted


@pytest.mark.parametrize("name", [*FILES, "out.stderr.npy", "out.npy.journal"])
def test_existing_files_are_refused(scripted, name):
    Path(name).write_text("precious\n")
    message = refused(*words())
    assert name in message
    assert "remove" in message
    assert not scripted
    if name == "out.npy.journal":
        Path("out.status.npy").write_text("of the same job\n")
        assert "remove out.npy.journal, out.status.npy to begin anew" in refused(*words())
    if name != "out.npy.journal":
        assert "no journal out.npy.journal" in refused(*words(), "--resume")
        assert "--force is for .npz outputs" in refused(*words(), "--force")
        assert not scripted
    assert Path(name).read_text() == "precious\n"


def test_a_file_that_is_no_journal(scripted):
    Path("out.npy.journal").write_text("precious\n")
    assert "out.npy.journal is damaged" in refused(*words(), "--resume")
    assert Path("out.npy.journal").read_text() == "precious\n"


def test_a_run_that_is_finished(scripted):
    ran(*words())
    assert (
        "go on with it by --resume, or remove out.npy.journal, out.npy, out.status.npy"
        in refused(*words())
    )
    before = contents()
    assert (
        "120 exact; every row was exact\n  calls      no calls: every row was there already"
        in ran(*words(), "--resume")
    )
    assert contents() == before


def test_invalid_inputs_and_outputs_are_refused(scripted):
    np.save("objects.npy", np.array([[1], [1, 2]], dtype=object))
    np.save("none.npy", np.ones((0, 3)))
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:-8])
    assert "unpickling those could run any code" in refused(*words(inputs="objects.npy"))
    assert "cannot be read (ValueError" in refused(*words(inputs="cut.npy"))
    assert "there is no folder nowhere" in refused(*words()[:-3], "nowhere/out.npy")
    assert not scripted
    assert "empty" in refused(*words(inputs="none.npy"))


# Runs that end early


def test_a_run_without_answers_leaves_no_files(scripted):
    assert "the weights are missing" in refused(*words("fails"), exit_code=1)
    assert not list(Path().glob("out.*"))


def test_a_run_that_fails_says_how_to_go_on(scripted):
    output = ran(*words("late_fails"), exit_code=1)
    assert "/out.npy: the same command with --resume goes on" in output
    assert "codedmap: error: " in output
    done = np.load("out.status.npy") == 0
    assert done[:12].all()
    assert not done[24:].any()
    np.testing.assert_array_equal(np.load("out.npy")[done], X[done])


@pytest.mark.parametrize("change", ["source", "code", "name", "FACTOR = 2.0", "FACTOR * batch"])
def test_another_run_is_not_resumed(scripted, change):
    ran(*words())
    before, line = contents(), words()
    if change == "source":
        np.save("x.npy", X + 1)
        message = "the inputs of rows 0 to 11 are not those"
    elif change == "code":
        line = words(code="Replication(2, 6)")
        message = "a job with code=Replication"
    elif change == "name":
        line = words("slow")
        message = "a job with the function double, and this one has the function slow"
    else:  # the constant it uses, or its own code
        assert change in JOBS
        Path("stored_jobs.py").write_text(JOBS.replace(change, f"{change} + 1"))
        shutil.rmtree("__pycache__", ignore_errors=True)
        del sys.modules["stored_jobs"]
        message = "which is not the same now"
    result = CliRunner().invoke(cli, [*line, "--resume"])
    assert result.exit_code == 2
    assert message in result.output
    assert "to begin anew" in result.output
    assert contents() == before


def test_nothing_to_resume_is_a_note(scripted):
    assert "there is no journal out.npy.journal, so there is nothing to resume" in ran(
        *words(), "--resume"
    )


def test_rows_that_are_missing_are_computed_again_on_resuming(monkeypatch):
    script = dict.fromkeys((0, 1, 2, 3, 4), never())  # two of three tasks have lost both copies
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, script))
    line = [*words()[:-2], "--hedge", "Hedge(40)"]
    assert "error: " not in ran(*line, "--partial", "--deadline", "0.3", exit_code=1)
    known = np.load("out.status.npy") == 0
    assert 0 < known.sum() < len(X)
    assert np.isnan(np.load("out.npy")[~known]).all()
    monkeypatch.setitem(ENGINES, "local", Scripted)
    ran(*line, "--partial", "--deadline", "30", "--resume")
    np.testing.assert_array_equal(np.load("out.npy"), 2 * X)


# As a program


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_how_many_rows_are_done():
    import pty

    reader, writer = pty.openpty()
    run = program(*words(workers=4, stragglers=0), errors=writer)
    os.close(writer)
    drawn = os.read(reader, 100_000)
    os.close(reader)
    assert run.returncode == 0
    assert b"/120 answers" in drawn
    assert "\x1b" not in run.stdout


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", first(1, [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
def test_a_run_that_was_ended_resumes(folder, number):
    line = [*words("slow", workers=4, stragglers=0)[:-1], "3"]  # 12 rows a chunk
    Path("hang").touch()
    with started(*line) as run:
        wait_until(lambda: len(list(folder.glob("begun-*"))) == 4)
        # What was answered before is not yet on disk for sure.
        wait_until(lambda: Path("out.npy.journal").read_text().count('"rows":[[') == 2)
        if number in (signal.SIGHUP, signal.SIGINT):
            os.killpg(run.pid, number)  # as a terminal does
        else:
            run.send_signal(number)
        printed, errors = run.communicate(timeout=60)  # they would sleep for 600
    assert printed == ""
    if number == signal.SIGKILL:
        assert run.returncode == -number
    else:
        assert run.returncode == 128 + number
        assert errors.splitlines() == [
            f"codedmap: 24 rows are exact and in {folder}/out.npy: the same command with --resume goes on from there",
            "codedmap: interrupted",
        ]
    wait_until(lambda: not processes_of(run.pid))
    np.testing.assert_array_equal(np.load("out.npy")[:24], 2 * X[:24])
    Path("hang").unlink()
    Path("rows").unlink()
    refused = program(*line)
    assert refused.returncode == 2
    assert "go on with it by --resume" in refused.stderr
    assert not Path("rows").exists()
    resumed = program(*line, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "120 of 120 exact" in resumed.stdout
    np.testing.assert_array_equal(np.load("out.npy"), 2 * X)
    assert (
        min(map(int, Path("rows").read_text().split())) == 48
    )  # no row that was done is computed again


def test_an_automatic_choice_of_the_code_is_for_archives(scripted):
    message = ran(*words(code="auto"), "--workers", "8", exit_code=2)
    assert "let codedmap.plan find from some of the rows how to run it" in message
    assert not Path("out.npy").exists()
