"""The command line: in this process on a scripted engine, and as a program on real workers."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import time
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import codedmap as cm
from codedmap.cli import cli
from codedmap.cli.engines import ENGINES
from codedmap.cli.names import CODES, RULES, codes_in, in_python, summary_of
from codedmap.cli.options import duration
from codedmap.testing import Scripted, crash, fail, never

from ..processes import started
from ..repeats import first

LENET = Path(__file__).parents[2] / "examples" / "lenet5" / "lenet5-mnist.onnx"

JOBS = """
import os, threading, time
import numpy as np

def square(batch):
    return batch ** 2

def upper(batch):
    return np.char.upper(batch)

def missing(batch):
    raise ValueError("the weights\\nare missing")

def total(batch):
    return float(batch.sum())

def first_sleeps(batch):
    try:
        os.close(os.open("asleep", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return batch ** 2
    time.sleep(600)

def hang(batch):
    open(f"begun-{os.getpid()}", "w").close()
    time.sleep(600)

class Locked:
    lock = threading.Lock()
    def __init__(self):
        self.own = self.lock
    def predict(self, batch):
        return batch

locked = Locked()
THREE = 3
"""

X = np.linspace(-1, 1, 60).reshape(20, 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a module of functions and inputs of every kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "cli_jobs", raising=False)
    Path("cli_jobs.py").write_text(JOBS)
    np.save("x.npy", X)
    np.savez("two.npz", first=X, second=X + 1)
    yield tmp_path
    sys.modules.pop("cli_jobs", None)


def code_of(name, workers, stragglers):
    """A code for so many workers, of which so many may be slow or lost, as it is written on the command line."""
    tasks = workers - stragglers
    return {
        "Uncoded": f"Uncoded({workers})",
        "Replication": f"Replication({workers // (stragglers + 1)}, {workers})",
        "LagrangeCode": f"LagrangeCode({tasks}, {workers}, {stragglers}, 1)",
    }.get(name, f"{name}({tasks}, {workers}, {stragglers})")


def words(model="cli_jobs:square", inputs="x.npy", code="SplineCode", workers=6, stragglers=2):
    """``code``: the name of one, or how it is written."""
    if code in CODES:
        code = code_of(code, workers, stragglers)
    return ["run", model, inputs, "--code", code, "--out", "out.npz"]


def ran(*line):
    """What a run in this process prints, errors too, and the arrays it wrote."""
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    with np.load("out.npz") as archive:
        return result.output, dict(archive)


def refused(*line, exit_code=2):
    """The one line that a run in this process gives as its error; asserts that it leaves no files."""
    before = files()
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == exit_code, result.output
    assert result.output.startswith("codedmap: error: ")
    assert result.output.count("\n") == 1
    assert files() == before
    return result.output


def files():
    return sorted(path for path in Path().iterdir() if path.name != "__pycache__")


def program(*line, errors=subprocess.PIPE):
    command = [sys.executable, "-m", "codedmap", *line]
    return subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=100
    )


# What is written and printed


def test_the_output_holds_the_answers_and_the_state_of_the_workers(folder, scripted, monkeypatch):
    script = {1: never(), 4: crash()}
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, script))
    printed, arrays = ran(*words(code="Replication", workers=6, stragglers=2))
    assert np.array_equal(arrays["values"], X**2)
    assert arrays["exact"].all()
    assert (arrays["stderr"] == 0).all()
    assert arrays["answered"].tolist() == [0, 2, 3, 5]
    assert arrays["abandoned"].tolist() == [1]
    assert arrays["failed"].tolist() == [4]
    assert arrays["failures"].tolist() == ["WorkerCrashed: worker 4 crashed, as its script says"]
    assert arrays["rejected"].tolist() == []
    assert str(arrays["outcome"]) == cm.Outcome.QUORUM.value
    assert arrays["seconds"] >= 0
    assert str(arrays["code"]) == repr(cm.Replication(2, 6))
    assert str(arrays["version"]) == cm.__version__
    assert "4 of 6 workers answered" in printed
    assert "out.npz" in printed


def test_a_code_without_standard_errors_writes_none(folder, scripted):
    assert "stderr" not in ran(*words())[1]


def test_quiet_prints_nothing(folder, scripted):
    assert ran(*words(), "--quiet")[0] == ""


def test_what_is_warned_of_is_a_note(folder, scripted):
    line = [*words(), "--workers", "5"]
    assert "codedmap: note: the code has 6 workers and the engine 5: " in ran(*line)[0]
    assert ran(*line, "--quiet", "--force")[0] == ""


@pytest.mark.parametrize(
    "code",
    [
        "Uncoded(6)",
        "Uncoded(6, 'mean')",
        "Replication(5, 7, fill='mean')",
        "BerrutCode(5, 7, 2, order='path')",
        "SplineCode(3, 7, 2, 'uniform', 1e-3, decoder_smoothing='gcv', clip=(-1.0, 1.0))",
        "LagrangeCode(4, 9, 2, degree=2)",
        " KernelCode(4, 9, 2, spread=0)",
    ],
)
def test_a_code_is_written_as_in_python(folder, scripted, code):
    _, arrays = ran(*words(code=code))
    names = {name: getattr(cm.codes, name) for name in cm.codes.__all__}
    assert str(arrays["code"]) == repr(eval(code.strip(), names))
    assert arrays["values"].shape == X.shape
    assert scripted[0].workers == eval(code.strip(), names).workers


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        ("--code", "spline", "spline is not a call of one of BerrutCode, KernelCode"),
        ("--code", "SplineCode(4, 6", "'(' was never closed"),
        ("--code", "SplineCode(4)", "missing 2 required positional arguments: 'workers' and"),
        ("--code", "SplineCode(4, 6, 1, spread=0.5)", "unexpected keyword argument 'spread'"),
        ("--code", "SplineCode(*(4, 6), **{})", "is not a call of one of"),
        ("--code", "SplineCode(4, 6, print(1))", "print(1) is not a call of one of"),
        ("--code", "SplineCode.encode(4)", "SplineCode.encode(4) is not a call of one of"),
        ("--code", "MDSCode(3, 6)", "MDSCode(3, 6) is not a call of one of"),
        ("--code", "KernelCode(6, 6, 6)", "6 stragglers of 6 workers"),
        ("--code", "KernelCode(4, 6, 1, spread=1.1)", "spread=1.1"),
        ("--code", "KernelCode(5, 4, 0)", "4 workers cannot hold the raw input of each of 5 tasks"),
        ("--stop", "Quorum(4) + Deadline(2)", "is not a call of one of Deadline, Decodable"),
        ("--stop", "Quorum(5) | 3", "cannot be made"),
        ("--stop", "Quorum(7)", "would not stop even when all 6 workers have answered"),
        ("--stop", "7", "is not a stopping rule"),
        ("--hedge", "Hedge('soon')", "must be at least 0 seconds, or a stopping rule"),
        ("--hedge", "Quorum(3)", "must be a codedmap.Hedge"),
    ],
)  # fmt: skip
def test_what_is_not_written_so_is_refused(folder, scripted, option, text, says):
    line = words(code=text) if option == "--code" else [*words(), option, text]
    assert says in refused(*line)
    assert not any(engine.calls for engine in scripted)


def test_every_code_of_map_is_offered_and_none_of_sums_and_matrices():
    assert set(CODES) >= {"BerrutCode", "KernelCode", "LagrangeCode", "Replication", "SplineCode", "Uncoded"}  # fmt: skip
    assert not {"MDSCode", "PolarCode", "CyclicGradientCode", "LinearCode"} & set(CODES)


def test_a_new_code_is_offered():
    class NewCode(cm.BerrutCode):
        """A new code."""

    names = {"NewCode": NewCode, "LinearCode": cm.codes.LinearCode, "MDSCode": cm.codes.MDSCode}
    codes = codes_in(SimpleNamespace(__all__=list(names), **names))
    assert codes == {"NewCode": NewCode}
    made = in_python("--code", "NewCode(4, 5, 1, order='path')", codes, "")
    assert made == NewCode(4, 5, 1, order="path")
    assert summary_of("BerrutCode").startswith("Berrut approximated coded computing")


@pytest.mark.parametrize("text", ["Quorum(5) & Deadline(2)", "Quorum(5) | Deadline(2)"])
def test_rules_are_combined_as_in_python(text):
    assert in_python("--stop", text, RULES, "") == eval(text, {}, RULES)


def test_the_kernel_code_writes_error_bars_and_what_is_exact(folder, monkeypatch):
    script = {0: never(), 3: never()}
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, script))
    output, arrays = ran(*words(code="KernelCode(4, 9, 2)"))
    exact = arrays["exact"]
    assert f"{exact.sum()} of 20 exact, {20 - exact.sum()} estimated" in output
    assert 0 < (~exact).sum() <= 10
    assert arrays["stderr"].shape == arrays["values"].shape
    np.testing.assert_array_equal((arrays["stderr"] == 0).all(axis=1), exact)
    np.testing.assert_array_equal(arrays["values"][exact], (X**2)[exact])
    assert np.abs(arrays["values"] - X**2).max() < 0.1


def test_without_a_code_every_row_is_exact_beside_a_worker_that_hangs(folder, monkeypatch):
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, {0: never()}))
    line = ["run", "cli_jobs:square", "x.npy", "--workers", "3", "--out", "out.npz"]
    output, arrays = ran(*line)
    assert "20 exact; every row was exact" in output
    np.testing.assert_array_equal(arrays["values"], X**2)
    for option, says in (
        (["--stop", "Quorum(2)"], "counts the answers of a code's workers, and there is no code"),
        (["--hedge", "Hedge(after=1)"], "without a code calls are late when they take longer"),
    ):
        assert says in refused(*line, *option, "--force")


def test_rows_that_run_too_long_are_estimated(folder, monkeypatch):
    class Hanging(Scripted):
        def submit(self, worker, fn, payload):
            self._acts = {worker: repeat(never())} if X[5] in payload.parts[0] else {}
            return super().submit(worker, fn, payload)

    monkeypatch.setitem(ENGINES, "local", Hanging)
    line = ["run", "cli_jobs:square", "x.npy", "--workers", "3", "--out", "out.npz", "--chunk", "1"]
    late = ["--timeout", "0.5"]
    assert "still running after" in refused(*line, *late, exit_code=1)
    output, arrays = ran(*line, *late, "--on-timeout", "estimate")
    assert "19 exact, 1 estimated" in output
    assert "timed out  1; the first, row" in output
    assert arrays["exact"].sum() == 19
    assert (arrays["stderr"][~arrays["exact"]] > 0.0).all()
    says = refused(*line, "--on-timeout", "estimate", "--force")
    assert "--timeout, which is not given" in says


def test_with_partial_a_run_whose_rows_all_raise_stops(folder, scripted):
    line = ["run", "cli_jobs:missing", "x.npy", "--workers", "3", "--out", "out.npz", "--partial"]
    assert "go on with --max-failures none" in refused(*line, exit_code=1)
    result = CliRunner().invoke(cli, [*line, "--max-failures", "none"], catch_exceptions=False)
    assert "20 failed" in result.output
    assert result.exit_code == 1


def test_a_rule_is_waited_for_instead_of_all_but_the_stragglers(folder, scripted):
    _, arrays = ran(*words(), "--stop", "Quorum(6)")
    assert len(arrays["answered"]) == 6


def test_a_deadline_ends_the_wait_for_workers_that_hang(folder, monkeypatch):
    script = {0: never(), 1: never(), 2: never()}
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, script))
    output, arrays = ran(*words(), "--deadline", "0.2", "--hedge", "Hedge(9)")
    assert str(arrays["outcome"]) == cm.Outcome.DEADLINE.value
    assert arrays["abandoned"].tolist() == [0, 1, 2]
    assert "only 3 of the 4 answers" in output


def test_a_tolerance_is_waited_for(folder, monkeypatch):
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, {0: never()}))
    copies = [*words(code="Replication(6, 6, 'mean')"), "--hedge", "Hedge(after=100)"]
    _, arrays = ran(*copies, "--tolerance", "1", "--deadline", "60")
    assert str(arrays["outcome"]) == cm.Outcome.TOLERANCE.value
    assert 0 < arrays["stderr"].max() <= 1
    _, arrays = ran(*copies, "--stop", "Quorum(5) & Tolerance(1)", "--force")
    assert str(arrays["outcome"]) == cm.Outcome.QUORUM.value
    _, arrays = ran(*copies, "--stop", "Tolerance(0)", "--deadline", "0.2", "--force")
    assert str(arrays["outcome"]) == cm.Outcome.DEADLINE.value


@pytest.mark.parametrize("hedge", ["Hedge(0.1)", "Hedge(after=Quorum(5))"])
def test_late_tasks_are_hedged(folder, monkeypatch, hedge):
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, {2: never()}))
    output, arrays = ran(*words(code="Uncoded(6)"), "--hedge", hedge)
    assert "hedges     1" in output
    assert arrays["exact"].all()
    assert arrays["hedges"] == 1
    assert 2 in arrays["answered"]
    np.testing.assert_array_equal(arrays["values"], X**2)


def test_a_tolerance_that_is_not_reached_when_all_have_answered(folder, monkeypatch):
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, {0: fail(OSError(0))}))
    copies = [*words(code="Replication(6, 6, 'mean')"), "--stop", "Tolerance(0)"]
    result = CliRunner().invoke(cli, copies, catch_exceptions=False)
    assert result.exit_code == 1
    assert "the stopping rule would have waited for more" in result.output
    with np.load("out.npz") as arrays:
        assert np.isfinite(arrays["values"]).all()


@pytest.mark.parametrize("code", ["SplineCode", "BerrutCode", "LagrangeCode"])
def test_a_tolerance_is_refused_with_a_code_without_standard_errors(folder, scripted, code):
    assert "asks for standard errors" in refused(*words(code=code), "--tolerance", "0.1")


def test_text_is_mapped_by_codes_that_copy(folder, scripted):
    np.save("text.npy", np.array(["a", "b", "c"]))
    _, arrays = ran(*words("cli_jobs:upper", "text.npy", "Replication"))
    assert arrays["values"].tolist() == ["A", "B", "C"]


def test_an_array_of_an_archive(folder, scripted):
    np.savez("one.npz", only=X)
    assert np.array_equal(ran(*words(inputs="one.npz", code="Replication"))[1]["values"], X**2)
    line = words(inputs="two.npz", code="Replication")
    _, arrays = ran(*line, "--force", "--key", "second")
    assert np.array_equal(arrays["values"], (X + 1) ** 2)


def test_force_replaces_the_output(folder, scripted):
    Path("out.npz").write_text("old")
    assert "values" in ran(*words(), "--force")[1]


def test_inputs_and_model_are_not_replaced_by_the_output(folder, scripted):
    np.savez("in.npz", only=X)
    np.save("in.npy", X)
    Path("link.npz").symlink_to("in.npz")
    Path("net.onnx").write_text("precious")
    Path("net.npz").hardlink_to("net.onnx")
    for given, output in (("in.npz", "in.npz"), ("in.npz", "link.npz"), ("in.npy", "in.npy")):
        for more in ((), ("--force",)):
            message = refused(*words(inputs=given)[:-1], output, *more)
            assert "which would be lost: give the output a name of its own" in message
            assert "remove" not in message
    assert "read as net.onnx" in refused(*words("net.onnx")[:-1], "net.npz", "--force")
    assert np.array_equal(np.load("in.npy"), X)
    assert np.array_equal(np.load("in.npz")["only"], X)
    assert Path("net.npz").read_text() == "precious"
    assert not scripted


def test_partial_writes_what_there_is(folder, monkeypatch):
    script = dict.fromkeys(
        (0, 1, 2, 3, 4), fail(OSError(0))
    )  # two of three tasks have lost both copies
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(workers, script))
    line = words(code="Replication", workers=6, stragglers=1)
    message = refused(*line, exit_code=1)
    assert "--partial" in message
    assert "throw=False" not in message
    assert "on_error" not in message
    result = CliRunner().invoke(cli, [*line, "--partial"], catch_exceptions=False)
    assert result.exit_code == 1
    with np.load("out.npz") as archive:
        known = archive["exact"]
        assert 0 < known.sum() < len(X)
        assert np.array_equal(archive["values"][known], X[known] ** 2)
        assert np.isnan(archive["values"][~known]).all()


def test_partial_changes_nothing_where_the_answers_suffice(folder, scripted):
    assert np.isfinite(ran(*words(), "--partial")[1]["values"]).all()


# Bad input


def test_usage_errors_name_the_help(folder, scripted):
    for line, message in [
        (words()[:3], "Missing option"),
        (["run"], "Missing argument 'MODEL'"),
        ([*words(), "--workers", "0"], "0 is not in the range"),
        ([*words(), "--workers", "many"], "'many' is not a valid integer"),
        ([*words(), "--deadline", "0"], "'0' is not a time above 0"),
        ([*words(), "--tolerance", "-1"], "-1.0 is not in the range"),
        (["plan", "cli_jobs:square", "x.npy"], "Missing option '--workers'"),
        (["sweep", "cli_jobs:square", "x.csv"], "Missing option '--out'"),
        (["fill", "x.csv", "--inputs", "a"], "Missing option '--out'"),
        (["fill", "x.csv", "--out", "y.csv"], "Missing option '--inputs'"),
    ]:
        printed = CliRunner().invoke(cli, line, prog_name="codedmap").output
        assert message in printed
        assert f"(see 'codedmap {line[0]} --help')" in printed


def test_inputs_that_cannot_be_read(folder, scripted):
    Path("text.npy").write_text("1 2 3")
    np.save("objects.npy", np.array([[1], [1, 2]], dtype=object))
    np.savez("objects.npz", a=np.array([[1], [1, 2]], dtype=object))
    np.savez("empty.npz")
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:-8])
    Path("cut.npz").write_bytes(Path("two.npz").read_bytes()[:-8])
    for inputs, message in [
        ("nowhere.npy", "nowhere.npy: No such file or directory: give another path"),
        (".", "Is a directory"),
        ("text.npy", "neither a .npy nor a .npz file: write it with numpy.save"),
        ("objects.npy", "Python objects, and unpickling those could run any code: save"),
        ("objects.npz", "Python objects, and unpickling those could run any code: save"),
        ("empty.npz", "holds 0 arrays"),
        ("two.npz", r"holds 2 arrays \(first, second\): choose one of these with --key"),
        ("cut.npy", r"cannot be read \(ValueError.*: write it again with numpy.save"),
        ("cut.npz", r"cannot be read \(BadZipFile.*: write it again with numpy.save"),
    ]:
        assert_matches(message, refused(*words(inputs=inputs)))
    message = refused(*words(inputs="two.npz"), "--key", "third")
    assert "holds 2 arrays (first, second): choose one of these" in message
    np.savez("one.npz", first=np.ones(3))
    assert "holds 1 array (first): choose" in refused(*words(inputs="one.npz"), "--key", "third")
    assert "--key is for .npz files" in refused(*words(), "--key", "first")
    assert not scripted


def assert_matches(pattern, text):
    assert re.search(pattern, text), text


def test_inputs_that_cannot_be_mapped(folder, scripted):
    np.save("whole.npy", np.ones((8, 3), int))
    assert "int64 cannot be mixed" in refused(*words(inputs="whole.npy"))
    assert not scripted
    np.save("nan.npy", np.array([[1.0], [np.nan]]))
    assert "1 of 2 input rows hold NaN" in refused(*words(inputs="nan.npy"))
    np.save("none.npy", np.ones((0, 3)))
    assert "empty" in refused(*words(inputs="none.npy"))


def test_models_that_cannot_be_used(folder, scripted):
    Path("bad_import.py").write_text("import no_such_thing\n")
    Path("bad_exit.py").write_text("raise SystemExit(7)\n")
    for model, message in [
        ("model", "names no function: write file.py:function"),
        (":square", "names no function: write file.py:function"),
        ("nowhere:f", "No module named 'nowhere'; write file.py:function"),
        ("no_jobs.py:square", "there is no file"),
        ("no_jobs:square", "write file.py:function"),
        ("bad_import:f", "importing 'bad_import'.*: .*'no_such_thing'; --traceback shows"),
        ("bad_exit:f", "importing 'bad_exit'.*SystemExit: 7; --traceback shows where"),
        ("cli_jobs:cube", r"module 'cli_jobs' \(.*cli_jobs.py\) has no 'cube'"),
        ("cli_jobs:THREE", "fn=3 cannot be called: give a function"),
    ]:
        assert_matches(message, refused(*words(model)))
    assert not scripted


def test_outputs_that_cannot_be_written(folder, scripted):
    Path("there.npz").write_text("precious")
    Path("folder.npz").mkdir()
    line = words()[:-1]
    assert "exists" in refused(*line, "there.npz")
    assert Path("there.npz").read_text() == "precious"
    assert "is a directory: choose another name" in refused(*line, "folder.npz", "--force")
    assert "no directory nowhere, create it" in refused(*line, "nowhere/out.npz")
    assert "name ending in .npz and leave out --resume, or one in .npy" in refused(*line, "out.txt")
    assert not scripted


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a directory root cannot write")
def test_an_output_directory_that_is_not_writable(folder, scripted):
    assert "cannot be written" in refused(*words()[:-1], "/proc/out.npz")
    assert not scripted


def test_a_function_that_fails(folder, scripted):
    message = refused(*words("cli_jobs:missing"), exit_code=1)
    assert "ValueError: the weights are missing" in message
    assert "single number" in refused(*words("cli_jobs:total"), exit_code=1)


def test_an_engine_that_does_not_start(folder, monkeypatch):
    def broken(workers):
        raise cm.EngineError("no memory left")

    monkeypatch.setitem(ENGINES, "local", broken)
    assert "no memory left" in refused(*words(), exit_code=3)


# ONNX models


def test_a_model_file_that_is_no_model(folder, scripted):
    pytest.importorskip("onnxruntime")
    Path("text.onnx").write_text("hello")
    assert "there is no model file 'nowhere.onnx'" in refused(*words("nowhere.onnx"))
    assert "text.onnx cannot be opened as an ONNX model" in refused(*words("text.onnx"))
    with pytest.raises(cm.InvalidArgument, match="has no output 'scores'; it has "):
        cm.OnnxModel(LENET, output="scores").check((1, 1, 28, 28), np.float32)
    assert not scripted


def test_inputs_that_the_model_refuses(folder, scripted):
    pytest.importorskip("onnxruntime")
    np.save("flat.npy", np.zeros((8, 784), np.float32))
    np.save("bytes.npy", np.zeros((8, 1, 28, 28), np.uint8))
    message = refused(*words(str(LENET), "flat.npy"))
    assert "takes inputs of shape (any, 1, 28, 28), but these are (8, 784)" in message
    assert "takes float32, but these inputs are uint8" in refused(*words(str(LENET), "bytes.npy"))
    assert not scripted


def test_floating_inputs_are_cast_to_what_the_model_takes(folder, scripted):
    pytest.importorskip("onnxruntime")
    images = np.random.default_rng(0).random((6, 1, 28, 28))
    np.save("double.npy", images)
    printed, arrays = ran(*words(str(LENET), "double.npy", "Replication"))
    assert "codedmap: note: inputs are float64 and lenet5-mnist.onnx takes float32" in printed
    expected = cm.OnnxModel(LENET)(images.astype(np.float32))
    assert np.allclose(arrays["values"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("1.5s", 1.5), (".5m", 30.0), ("2h", 7200.0)]
)
def test_a_time_is_in_seconds_minutes_or_hours(text, seconds):
    assert duration(text) == seconds


# As a program


def test_the_help_names_exit_codes_and_codes():
    for line in (["--help"], [], ["run", "--help"]):
        result = CliRunner().invoke(cli, line)
        assert result.exit_code == 0
    assert "Exit codes:" in result.output
    assert re.search(r"\[default:\s+local\]", result.output)
    for code in CODES:
        assert code in result.output


@pytest.mark.parametrize("command", [[], *([name] for name in cli.commands)])
def test_help_is_plain_text(command):
    text = CliRunner().invoke(cli, [*command, "--help"], prog_name="codedmap").output
    assert text.startswith("Usage: codedmap")
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("command", "function"),
    [("run", cm.map), ("plan", cm.plan), ("sweep", cm.sweep), ("fill", cm.fill)],
)
def test_options_have_the_defaults_of_the_functions(command, function):
    parameters = inspect.signature(function).parameters
    for one in cli.commands[command].params:
        flag = isinstance(one.default, bool)  # as click 8.1 has it
        if isinstance(one.default, int | float) and not flag and one.name in parameters:
            assert one.default == parameters[one.name].default, one.name


def test_the_version_is_the_packages():
    assert CliRunner().invoke(cli, ["--version"]).output == f"codedmap, version {cm.__version__}\n"


def test_a_model_on_worker_processes_into_a_pipe(folder):
    pytest.importorskip("onnxruntime")
    images = np.random.default_rng(0).random((10, 1, 28, 28), np.float32)
    np.save("images.npy", images)
    run = program(*words(str(LENET), "images.npy", "Replication", 4, 1))
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "\x1b" not in run.stdout
    assert "10 of 10 exact" in run.stdout
    with np.load("out.npz") as archive:
        assert np.allclose(archive["values"], cm.OnnxModel(LENET)(images), atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_straggler_is_not_waited_for_and_a_terminal_shows_progress(folder):
    import pty

    reader, writer = pty.openpty()
    run = program(*words("cli_jobs:first_sleeps", workers=5, stragglers=1), errors=writer)
    os.close(writer)
    drawn = os.read(reader, 100_000)
    os.close(reader)
    assert run.returncode == 0
    assert b"answers" in drawn
    assert b"\x1b[" in drawn
    assert "\x1b" not in run.stdout
    with np.load("out.npz") as archive:
        assert len(archive["abandoned"]) == 1
        assert archive["seconds"] < 60  # it sleeps for 600
        assert np.abs(archive["values"] - X**2).max() < 0.5


def test_a_worker_exception_in_full(folder):
    run = program(*words("cli_jobs:missing", workers=4, stragglers=1), "--traceback")
    assert run.returncode == 1
    assert ", in missing" in run.stderr
    assert "codedmap.errors.RowFailed: row " in run.stderr
    assert run.stderr.splitlines()[-1].startswith("codedmap: error: ")
    assert not Path("out.npz").exists()


def test_a_function_that_cannot_be_sent(folder):
    run = program(*words("cli_jobs:locked.predict", workers=4, stragglers=1))
    assert run.returncode == 3
    assert run.stderr.startswith("codedmap: error: the function Locked.predict cannot be sent")
    assert run.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", first(1, [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]))
def test_an_interrupted_run_leaves_nothing(folder, number):
    line = words("cli_jobs:hang", workers=4, stragglers=1)
    with started(*line) as run:
        wait_until(lambda: len(list(folder.glob("begun-*"))) == 4)
        assert list(folder.glob(".codedmap.*"))
        if number != signal.SIGTERM:
            os.killpg(run.pid, number)  # as a terminal does
        else:
            run.send_signal(number)
        printed, errors = run.communicate(timeout=60)  # they would sleep for 600
    assert run.returncode == 128 + number
    assert printed == ""
    assert errors == "codedmap: interrupted\n"
    wait_until(lambda: not processes_of(run.pid))
    assert not list(Path("/dev/shm").glob(f"codedmap-{run.pid}-*"))
    assert not list(folder.glob("*out.npz*")) + list(folder.glob(".codedmap.*"))


def wait_until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def processes_of(session):
    """Processes of a session that are still alive, zombies not counted."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, *fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[2]) == session and state != "Z":
            found.append(path)
    return found
