from __future__ import annotations

import os
import pickle
import signal
import tempfile
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import xarray

import codedmap as cm
from codedmap.api import command as program
from codedmap.api.command import WHY, Program
from codedmap.errors import CallTimeout, CommandFailed

from .. import processes
from ..processes import alive, descriptors, eventually, kill


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(template, reads="stdout.json", *, timeout=None, runs="runs", keep=False):
    return Program(template, reads, timeout=timeout, retries=0, runs=Path(runs), keep=keep)


def sh(script, **given):
    return made(f"sh -c '{script}'", "stdout", **given)


def test_a_value_is_part_of_one_word_and_no_shell_sees_it():
    command = made("echo --a={a} '{b c}'")
    values = {"a": "x y; $(rm -rf /) '\"", "b c": "*"}
    assert command.line(values) == ["echo", "--a=x y; $(rm -rf /) '\"", "*"]
    assert command.names == ("a", "b c")


def test_floats_are_written_so_that_they_are_read_back_the_same():
    command = made("echo {a} {b} {c:.2f} {{{d}}}")
    values = {"a": np.float32(0.1), "b": 1 / 3, "c": 2, "d": np.int64(3)}
    _, a, b, c, d = command.line(values)
    assert float(a) == float(np.float32(0.1))
    assert float(b) == 1 / 3
    assert (c, d) == ("2.00", "{3}")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "the command is empty"),
        ("echo 'x", "cannot be split into words"),
        ("echo {", "write {{ and }} for braces"),
        ("echo {my name}", "quote a name with spaces, as in '{my name}'"),
        ("echo {}", "name a column"),
        ("echo {a!r}", "name a column"),
        ("echo '{\"a\": {a}}'", "write {{ and }} for braces"),
        ("no-such-program {a}", "no program 'no-such-program', or it may not be executed"),
        ("./no-such-program {a}", "install or build it"),
        (f"{__file__} {{a}}", "chmod"),
    ],
)
def test_a_malformed_command_is_refused_when_it_is_made(template, says):
    with pytest.raises(cm.InvalidArgument) as error:
        made(template)
    assert says in str(error.value)


@pytest.mark.parametrize("read", ["out.npy", "/x.json"])
def test_what_cannot_be_read_is_refused(read):
    with pytest.raises(cm.InvalidArgument, match="read"):
        made("echo", read)


def test_a_value_that_no_command_line_can_hold_is_an_error_before_anything_runs(tmp_path):
    command = made("touch {a} {b}", "stdout", runs=tmp_path)
    with pytest.raises(cm.InvalidArgument, match="NUL"):
        command.run({"a": "x", "b": "\0"}, "0")
    assert not list(tmp_path.iterdir())


def test_a_relative_program_is_that_of_the_directory_where_the_command_is_made(
    tmp_path, monkeypatch
):
    program = tmp_path / "model"
    program.write_text("#!/bin/sh\necho $1; pwd > place.txt; test $PWD = $(pwd) || exit 4\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    command = made("./model {a}", "stdout", runs="runs", keep=True)
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(command)).run({"a": 0.1}, "7") == 0.1
    place = tmp_path / "runs" / "7"
    assert (place / "place.txt").read_text().strip() == str(place)
    assert (place / "stdout").read_text() == "0.1\n"
    assert command.run({"a": 2}, "7") == 2.0  # by another worker, at the same time perhaps
    assert (tmp_path / "runs" / "7.2").is_dir()


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        ("stdout.json", '{"y": 1, "name": "x", "ok": true, "none": null, "v": [1, 2.5]}',
         {"y": 1, "name": "x", "ok": True, "none": np.nan, "v": np.array([1, 2.5])}),
        ("stdout.json", "1e-3\n", 0.001),
        ("stdout_2.json", "1e-3\n", 0.001),
        ("stdout.json", "[1, 2]", np.array([1, 2])),
        ("stdout", " 1.5\n", 1.5),
        ("stdout", "1 2\n3", np.array([1.0, 2.0, 3.0])),
        ("stdout", "y = 2\n\nname=a=b\n", {"y": 2.0, "name": "a=b"}),
        ("stdout", "n=9007199254740993", {"n": 9007199254740993}),
        ("stdout", "0.5 9007199254740993", np.array([0.5, 9007199254740993], dtype=object)),
        ("stdout", "y=1e400", {"y": "1e400"}),
        ("stdout.json", "[0.5, 9007199254740993]", np.array([0.5, 9007199254740993], dtype=object)),
        ("stdout.json", f"[1, {2**65 + 1}]", np.array([1, 2**65 + 1], dtype=object)),
        ("out.txt", "inf", np.inf),
        ("out.json", '{"y": 2}', {"y": 2}),
        ("out.csv", "y,name\n2,a\n", {"y": 2.0, "name": "a"}),
        ("out.csv", "t,y\n0,2\n1,3\n", {"t": np.array([0.0, 1.0]), "y": np.array([2.0, 3.0])}),
        ("out.csv", "9007199254740993\n", 9007199254740993),
        ("out.csv", "1,2\n", np.array([1.0, 2.0])),
        ("out.csv", "1,2\n3,4\n", np.array([[1.0, 2.0], [3.0, 4.0]])),
    ],
)  # fmt: skip
def test_what_is_read(tmp_path, read, text, value):
    (tmp_path / "text").write_text(text)
    into = "" if read in ("stdout", "stdout.json") else f" > {read}"
    command = made(f"sh -c 'cat {tmp_path / 'text'}{into}'", read)
    np.testing.assert_equal(command.run({}, "0"), value)


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        ("stdout.json", "Segmentation faul", "not JSON .*it begins 'Segmentation faul'"),
        ("stdout.json", "", "it is empty"),
        ("stdout.json", "{}", "no values"),
        ("stdout.json", '{"y": {"z": 1}}', "y is neither a number"),
        ("stdout.json", '{"y": ["a"]}', "y is neither a number"),
        ("stdout.json", '{"y": [[1], [1, 2]]}', "inhomogeneous"),
        ("stdout.json", "[" * 100_000, "cannot be read"),
        ("stdout", "x" * 1000, r"is not a number; it begins 'x{60}\.\.\.'"),
        ("stdout", "x" * 60, "is not a number; it begins 'x{60}'"),
        ("stdout", "1_000", "is not a number"),
        ("out.csv", "1_000\n", "neither numbers nor names"),
        ("stdout", "y=1\ny=2", "'y=2' is not a line name=value with a name of its own"),
        ("stdout", "banner\ny=2", "'banner' is not a line name=value with a name of its own"),
        ("out.json", "", "out.json cannot be read .No such file"),
        ("out.csv", "a,b\n1\n", "differ in the number"),
        ("out.csv", "a;b\n1,5;2,5\n", "its first line has semicolons, and no commas"),
        ("out.csv", "a\tb\n1\t2\n", "its first line has tabs, and no commas"),
        ("out.csv", "a,b\n", "neither numbers nor names"),
        ("stdout.json", '{"z": 1, "y": 2, "y": 3}', "two values are named 'y'"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_shows_how_it_begins(tmp_path, read, text, says):
    (tmp_path / "text").write_text(text)
    into = "" if read in ("stdout", "stdout.json", "out.json") else f" > {read}"
    command = made(f"sh -c 'cat {tmp_path / 'text'}{into}'", read, runs=tmp_path)
    with pytest.raises(cm.InvalidAnswer, match=says):
        command.run({}, "0")


@pytest.mark.parametrize("makes", ["mkfifo out.txt", "ln -s /dev/zero out.txt", "mkdir out.txt"])
def test_what_is_no_file_is_not_read(tmp_path, makes):
    """A pipe was waited for without end, and a device filled the memory."""
    with pytest.raises(cm.InvalidAnswer, match=r"out\.txt cannot be read .it is not a file.; see"):
        made(f"sh -c '{makes}'", "out.txt", runs=tmp_path).run({}, "0")


def test_a_program_that_fails_leaves_its_directory_and_says_why(tmp_path):
    command = sh("echo one >&2; echo bad {a} >&2; exit 3", runs=tmp_path)
    with pytest.raises(CommandFailed) as error:
        command.run({"a": 5}, "1")
    place = tmp_path / "1"
    assert str(error.value) == f"exit code 3: one\nbad 5; see {place}"
    assert error.value.returncode == 3
    assert (place / WHY).read_text().startswith("exit code 3")
    assert (place / "stderr").read_text() == "one\nbad 5\n"
    sh("echo {a}", runs=tmp_path).run({"a": 5}, "2")
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize("value", [b"x", {"u": 1}, [1, 2]])
def test_a_value_that_is_no_text_is_not_written_as_python_would(tmp_path, value):
    with pytest.raises(
        cm.InvalidArgument, match=r"cannot be written in 'echo \{a\}': .* is of type"
    ):
        made("echo {a}", runs=tmp_path).line({"a": value})


def test_a_signal_is_named(tmp_path):
    with pytest.raises(CommandFailed, match=r"^ended by SIGSEGV; see ") as error:
        sh("kill -SEGV $$", runs=tmp_path).run({}, "0")
    assert error.value.returncode == -11
    with pytest.raises(CommandFailed, match=r"^exit code 139, which is SIGSEGV of a child"):
        sh("exit 139", runs=tmp_path).run({}, "0")


def test_a_file_that_is_no_program_is_an_error_of_the_run(tmp_path):
    program = tmp_path / "model"
    program.write_bytes(b"\x7fELF nothing")
    program.chmod(0o755)
    with pytest.raises(CommandFailed, match=r"cannot be started .Exec format error"):
        made(str(program), runs=tmp_path).run({}, "0")


@pytest.mark.parametrize("first", ["echo {a}", "#!/bin/sh\r", "#!/no/such/shell"])
def test_a_script_whose_first_line_names_no_program_is_told_apart_from_no_file(tmp_path, first):
    script = tmp_path / "model"
    script.write_text(f"{first}\necho 1\n")
    script.chmod(0o755)
    with pytest.raises(
        CommandFailed, match=r"cannot be started .*; a script begins with a line such as"
    ):
        made(f"{script} 1", runs=tmp_path).run({}, "0")
    with pytest.raises(
        CommandFailed, match=r"cannot be started .No such file or directory.: 7; see"
    ):
        made("{a}", runs=tmp_path).run({"a": 7}, "1")


# It starts a child in its session, and one in a session of its own without the mark of its worker.
FAMILY = (
    'sleep 61 & echo $! > pids; env -i setsid sh -c "sleep 62 & echo \\$! > own; wait" & '
    "while ! test -s own; do sleep 0.01; done; cat own >> pids; echo $$ >> pids; mv pids {path}; sleep 63"
)


@pytest.mark.parametrize(
    ("error", "says"),
    [(CallTimeout, "^ran longer than 1 s and was ended; see "), (KeyboardInterrupt, None)],
)
def test_a_program_that_is_ended_ends_with_all_that_it_has_started(
    tmp_path, monkeypatch, error, says
):
    def interrupted(process, timeout):
        assert eventually((tmp_path / "pids").exists)
        raise KeyboardInterrupt

    if error is KeyboardInterrupt:
        monkeypatch.setattr(program, "_has_ended", interrupted)
    command = sh(FAMILY, timeout=1.0, runs=tmp_path)
    with pytest.raises(error, match=says):
        command.run({"path": tmp_path / "pids"}, "0")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    assert eventually(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("timeout", [3.6e6, 1e300])
def test_a_run_may_take_months(timeout):
    assert sh("sleep 0.01; echo 1", timeout=timeout).run({}, "0") == 1.0


def test_a_wait_longer_than_the_system_allows_is_cut_in_parts(monkeypatch):
    monkeypatch.setattr(program, "_LONGEST", 0.01)
    opened = descriptors()
    assert sh("sleep 0.1; echo 1", timeout=60).run({}, "0") == 1.0
    with pytest.raises(CallTimeout, match=r"^ran longer than 0.1 s"):
        sh("sleep 61", timeout=0.1).run({}, "0")
    assert descriptors() == opened
    monkeypatch.delattr(os, "pidfd_open", raising=False)  # as on other systems
    assert sh("sleep 0.1; echo 1", timeout=60).run({}, "0") == 1.0
    with pytest.raises(CallTimeout, match=r"^ran longer than 0.1 s"):
        sh("sleep 61", timeout=0.1).run({}, "0")


def test_what_a_program_leaves_in_a_session_of_its_own_ends_only_if_it_fails(tmp_path):
    own = 'setsid sh -c "echo \\$$ > {path}; exec sleep 61" > /dev/null 2>&1 &'
    ends = "while ! test -s {path}; do sleep 0.01; done; echo 1; exit {code}"
    command = sh(f"{own} {ends}", runs=tmp_path)
    assert command.run({"path": tmp_path / "service", "code": 0}, "0") == 1
    with pytest.raises(CommandFailed, match="exit code 3"):
        command.run({"path": tmp_path / "pid", "code": 3}, "0")
    assert eventually(lambda: not alive(int((tmp_path / "pid").read_text())))
    service = int((tmp_path / "service").read_text())
    assert alive(service)
    kill(service)


def test_what_a_program_leaves_in_its_session_ends_with_it(tmp_path):
    command = sh("sleep 61 > /dev/null 2>&1 & echo $!")
    pid = int(command.run({}, "0"))
    assert eventually(lambda: not alive(pid))


def test_a_program_and_its_children_end_with_the_worker(tmp_path):
    command = sh(FAMILY, runs=tmp_path)
    with cm.engines.Local(1) as engine:
        engine.submit(0, lambda path: command.run({"path": path}, "0"), tmp_path / "pids")
        assert eventually((tmp_path / "pids").exists, 20.0)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    assert eventually(lambda: not any(map(alive, pids)))


def test_a_row_that_fails_is_recorded_with_the_reason(tmp_path):
    command = sh("test {a} -ne 2 || exit 3; echo {a}", runs=tmp_path)

    with ThreadPoolExecutor(2) as pool:
        result = cm.map(
            cm.itemwise(lambda a: command.run({"a": int(a)}, "0")),
            np.arange(4),
            engine=pool,
            on_error="record",
        )
    assert result.status.tolist() == [0, 0, 2, 0]
    assert str(result.failures[2]).startswith("exit code 3; see ")
    assert pickle.loads(pickle.dumps(result.failures[2])).returncode == 3


# As a function


@pytest.fixture
def left(monkeypatch):
    """What is left of runs among the temporary files of this process and its workers."""
    with tempfile.TemporaryDirectory() as folder:  # a short path, as sockets need
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield lambda: list(Path(folder).glob("codedmap-*"))


def script(text, name="model"):
    """An executable script in the working directory."""
    path = Path(name)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"./{name}"


def test_a_program_is_a_function_for_sweep(left):
    text = 'test $1 -eq 2 && { echo "no convergence" >&2; exit 3; }; echo "y=$(($1 * $2))"; pwd > x'
    model = cm.command(f"{script(text)} {{a}} {{b}}", reads="stdout")
    assert model(a=3, b=4) == {"y": 12.0}
    with cm.engines.Local(2) as engine:
        rows = [{"a": a, "b": 10} for a in range(5)]
        result = cm.sweep(model, rows, engine=engine)
    assert result.table["status"].tolist() == ["EXACT"] * 2 + ["FAILED"] + ["EXACT"] * 2
    assert result.table["y"][[0, 1, 3, 4]].tolist() == [0, 10, 30, 40]
    assert str(result.failures[2]) == "exit code 3: no convergence"
    assert result.failures[2].returncode == 3
    assert not left()


def test_it_says_its_arguments_and_equals_its_copy():
    model = cm.command("echo {a:.2f} {b} '{my name}' {lambda}")
    assert str(signature(model)) == "(*, a, b, **others)"
    assert str(signature(cm.command("echo {b} {a}"))) == "(*, b, a)"
    assert pickle.loads(pickle.dumps(model)) == model


@pytest.mark.parametrize(
    ("template", "design", "says"),
    [
        ("touch ran {a} {c}", {"a": [1]}, "fn takes 'a', 'c', and by name it is given 'a'"),
        ("touch ran {a}", {"a": [1], "b": [2]}, "unexpected keyword argument 'b'"),
        ("touch ran '{my name}'", {"a": [1]}, "command takes 'my name', .* is given 'a'"),
        ("touch ran {a:.2f}", {"a": ["x"]}, "a value cannot be written in 'touch ran"),
    ],
)
def test_what_does_not_fit_the_template_is_refused_before_anything_runs(template, design, says):
    model = cm.command(template)
    with ThreadPoolExecutor(1) as pool, pytest.raises(cm.InvalidArgument, match=says):
        cm.sweep(model, design, engine=pool)
    with pytest.raises(cm.InvalidArgument):
        model(**{name: value for name, [value] in design.items()})
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reads": "json"}, "reads= must be stdout.json, stdout, .* and is 'json'"),
        ({"timeout": 0}, "timeout=0 must be a finite number above 0"),
        ({"retries": -1}, "retries=-1 must be a whole number of at least 0"),
    ],
)
def test_options_that_cannot_work_are_refused(options, says):
    with pytest.raises(cm.InvalidArgument, match=says):
        cm.command("echo", **options)


@pytest.mark.parametrize("value", [(1, 2), np.arange(2)])
def test_several_values_are_none_that_a_command_line_holds(value):
    with pytest.raises(cm.InvalidArgument, match="no number or text"):
        cm.command("echo {a}")(a=value)


def test_times_are_written_as_dates():
    """Of nanoseconds the number was."""
    day = np.datetime64("2024-02-03T04:05:06", "ns")
    assert made("echo {a}").line({"a": day})[1] == "2024-02-03T04:05:06.000000000"


def test_what_no_shell_will_do_is_warned_about():
    with pytest.warns(UserWarning, match="gets '|' as an argument") as warned:
        cm.command("echo {a} | cat")
    assert warned[0].filename == __file__
    Path("model.py").touch()
    with pytest.warns(UserWarning, match=f"give its path, {Path.cwd()}/model.py"):
        cm.command("echo model.py")


def test_a_run_that_a_signal_ends_is_made_again_in_a_new_directory(tmp_path):
    text = f"echo x >> {tmp_path}/runs; test -e here && exit 9; touch here; kill -9 $$"
    model = cm.command(script(text), reads="stdout")
    with pytest.raises(CommandFailed, match=r"^ended by SIGKILL$"):
        model()
    assert len(Path("runs").read_text().split()) == 3
    once = f"echo x >> {tmp_path}/all; test $(wc -l < {tmp_path}/all) -gt 1 || kill -9 $$; echo 7"
    assert cm.command(script(once), reads="stdout", retries=1)() == 7


def test_directories_that_are_kept_are_named_by_their_values(tmp_path):
    fails = script("test $1 = x/y && exit 2; echo 1")
    model = cm.command(f"{fails} {{a}} {{b}}", keep_runs="all")
    assert [model(a=0.5, b=3), model(a=0.5, b=3)] == [1, 1]
    with pytest.raises(CommandFailed, match=f"exit code 2; see {tmp_path}/all/a=x_y,b=_1"):
        model(a="x/y", b="é1")
    assert model(a="z" * 300, b=1) == 1
    names = sorted(path.name for path in Path("all").iterdir())
    assert names == ["a=0.5,b=3", "a=0.5,b=3.2", "a=x_y,b=_1", "a=" + "z" * 98]
    assert Path("all/a=x_y,b=_1", WHY).read_text().startswith("exit code 2")


def test_of_a_dataset_it_takes_the_coordinates_that_the_template_names():
    grid = xarray.Dataset({"a": ("n", [1, 2])}, {"n": [10, 20]})
    with ThreadPoolExecutor(1) as pool:
        result = cm.sweep(cm.command("echo {a}{n}"), grid, engine=pool)
    assert result.table["y"].values.tolist() == [110, 220]


def test_a_sweep_goes_on_with_another_time_limit_but_not_with_another_program():
    text = "test $1 = 2 && sleep 61; echo $1"
    program, design = script(text), {"a": [1, 2, 3]}
    with ThreadPoolExecutor(1) as pool:
        for status, timeout in (("FAILED", 0.5), ("FAILED", 0.6)):
            model = cm.command(f"{program} {{a}}", timeout=timeout)
            result = cm.sweep(model, design, engine=pool, out="runs.parquet", resume=timeout > 0.5)
            assert result.table["status"][1] == status
        script(text.replace("= 2", "= 3"))
        with pytest.raises(cm.InvalidArgument, match="which is not the same now"):
            cm.sweep(model, design, engine=pool, out="runs.parquet", resume=True)


def test_a_call_that_is_ended_leaves_neither_processes_nor_files(tmp_path, left):
    model = cm.command(f"sh -c '{FAMILY}'")
    with cm.engines.Local(2) as engine:
        rows = [{"path": tmp_path / "pids"}]
        result = cm.sweep(model, rows, engine=engine, call_timeout=1.0, hedge=None)
        assert isinstance(result.failures[0], CallTimeout)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 3
        assert eventually(lambda: not any(map(alive, pids)))
        assert eventually(lambda: not left())


def test_nothing_is_left_of_a_sweep_that_ctrl_c_ends(tmp_path, left):
    source = """
    # main
    model = cm.command("sh -c 'echo > {place}/{a}; sleep 61'")
    cm.sweep(model, [{"a": 1}, {"a": 2}], kwargs={"place": os.getcwd()}, engine=cm.engines.Local(2))
    """
    with processes.script(tmp_path, source) as running:
        assert eventually(lambda: Path("1").exists() and Path("2").exists(), 20.0)
        assert len(left()) == 2
        running.process.send_signal(signal.SIGINT)
        running.finish()
        assert "KeyboardInterrupt" in running.err
        assert running.nothing_is_left()
    assert eventually(lambda: not left())
