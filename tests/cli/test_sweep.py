"""The command ``sweep``: in this process on a scripted engine, and as a program on real workers."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import codedmap as cm
from codedmap.api.command import WHY
from codedmap.cli import cli, tables
from codedmap.cli.engines import ENGINES
from codedmap.cli.tables import read_table, table_writer
from codedmap.errors import CommandFailed
from codedmap.execution.missing import estimate_missing
from codedmap.testing import Scripted, crash, late, never

from ..processes import alive, eventually, started

MODEL = """
import time
from dataclasses import dataclass
import numpy as np

class Odd(Exception):
    pass

def simulate(a, b=0):
    if a == 3:
        raise Odd(f"row with a={a}\\nis odd")
    return {"y": a * a + b, "v": [a, b], "name": f"n{a}"}

def many_ways(a):
    raise Odd("abbcccddddeeeeef"[a])

def varies(a):
    return {"y": a, **({"note": "far"} if a == 1 else {})} if a != 2 else {"note": "no y"}

def slow(a, b):
    time.sleep(0.05)
    return {"y": a + 2.0 * b, "text": "x"}

def wide(a, b):
    return {"y": slow(a, b)["y"] if int(60 * a) % 4 else "***"}

def same(**row):
    return row

def like_columns(a, b):
    return {"y": a + b, "y_stderr": 7.0, "status": 8, "a": 9}

def twice(a):
    return {"y": [a], "y_0": 1}

def nothing(a):
    return object()

@dataclass
class Made:
    p: float

class Series:
    def to_dict(self):
        return {"q": (1, 2)}

def kinds(a):
    return {"made": Made(a), "series": Series(), "small": np.float32(0.5)}

def square(a):
    return a * a

async def later(a):
    return a

def by_place(a, /):
    return a

def forgot(a):
    a + 1

def unknown(a, b):
    return {"y": None if a == 1 else a}
"""

# Rows of its kinds: answers, hangs, ends by a signal, by an exit code, prints garbage. Each starts a child in a session
# of its own, which writes down its number.
PROGRAM = """#!/bin/sh
setsid sh -c 'echo $$ >> "$1"; touch ready; exec sleep 100' sh "{pids}" > /dev/null 2>&1 &
echo $$ >> "{pids}"
while ! test -e ready; do sleep 0.01; done
case $(($1 % 8)) in
    1) sleep 100 ;;
    3) kill -SEGV $$ ;;
    5) echo "no convergence" >&2; exit 3 ;;
    7) echo garbage; exit ;;
esac
echo "{{\\"y\\": $1, \\"z\\": $2}}"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with functions, a program and a design of 16 rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "sweep_model", raising=False)
    Path("sweep_model.py").write_text(MODEL)
    Path("program").write_text(PROGRAM.format(pids=tmp_path / "pids"))
    Path("program").chmod(0o755)
    Path("design.csv").write_text(
        "a,b\n" + "".join(f"{a},{a / 10}\n" for a in range(16)), encoding="utf-8"
    )
    yield tmp_path
    sys.modules.pop("sweep_model", None)


def words(model="sweep_model.py:simulate", design="design.csv", out="runs.csv"):
    return ["sweep", *([model] if model else []), design, "--out", out, "--workers", "3"]


def echo(text, **given):
    """A command whose runs print this."""
    return [*words(model=None, **given), "--command", f"echo '{text}'"]


def ran(*line, exit_code=0):
    result = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.output


def refused(*line):
    before = files()
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 2, result.output
    assert result.output.startswith("codedmap: error: ")
    assert result.output.count("\n") == 1
    assert files() == before
    return result.output


def files():
    return [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts]


def table(path="runs.csv"):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def column(name, path="runs.csv"):
    return [row[name] for row in table(path)]


# What is written and printed


def test_the_output_has_the_design_the_outputs_and_what_is_known_of_each_row(folder, scripted):
    printed = ran(*words(), exit_code=1)
    rows = table()
    assert list(rows[0]) == ["a", "b", "y", "v_0", "v_1", "name", "status", "error"]
    assert rows[2] == {
        "a": "2", "b": "0.2", "y": "4.2", "v_0": "2", "v_1": "0.2", "name": "n2", "status": "EXACT", "error": "",
    }  # fmt: skip
    assert rows[3]["status"] == "FAILED"
    assert rows[3]["y"] == ""
    assert rows[3]["error"] == "Odd: row with a=3 is odd"
    assert column("status").count("EXACT") == 15
    assert "16 rows in " in printed
    assert "15 exact, 1 failed" in printed
    assert "failed     1: Odd: row with a=3 (row 3)" in printed
    assert "calls      " in printed
    assert "output     runs.csv" in printed


def test_the_most_frequent_reasons_are_listed(folder, scripted):
    going_on = "--max-failures", "none"
    printed = ran(*words("sweep_model.py:many_ways"), *going_on, exit_code=1)
    listed = ["5: Odd: e (row 10, ...)", "4: Odd: d (row 6, ...)", "3: Odd: c (row 3, ...)"]
    listed += ["2: Odd: b (row 1, ...)", "1: Odd: a (row 0)", "1 for 1 other reason"]
    assert "  failed     " + f"\n{' ' * 13}".join(listed) in printed
    Path("x.csv").write_text("".join(Path("design.csv").read_text().splitlines(True)[:16]))
    printed = ran(*words("sweep_model.py:many_ways", "x.csv"), "--force", *going_on, exit_code=1)
    assert listed[4] in printed
    assert "other" not in printed


def test_rows_that_failed_are_run_again_on_resuming_and_no_others(folder, scripted):
    ran(*words(), exit_code=1)
    printed = ran(*words(), "--resume", exit_code=1)
    assert "(15 of them before)" in printed
    numbers = [row for engine in scripted[1:] for _, sent in engine.calls for row in sent.parts[0]]
    assert set(numbers) == {"3"}


def test_all_three_kinds_of_tables_hold_the_same(folder, scripted):
    pytest.importorskip("pyarrow")
    Path("a.jsonl").write_text(
        '{"n": 1, "x": 0.1, "t": "é, \\"x\\""}\n\n{"n": 2, "x": 1e300, "t": "007"}\n'
    )
    ran(*words("sweep_model.py:same", "a.jsonl", "b.csv"), "--quiet")
    for old, new in [("b.csv", "c.parquet"), ("c.parquet", "d.jsonl")]:
        rows = ["--command", "echo 1", "--read", "stdout"]
        renamed = Path(f"design{Path(old).suffix}")
        _without(old, renamed)
        ran(*words(None, str(renamed), new), *rows, "--quiet")
    found = [json.loads(line) for line in Path("d.jsonl").read_text().splitlines()]
    assert found == [
        {"n": 1, "x": 0.1, "t": 'é, "x"', "y": 1.0, "status": "EXACT", "error": None},
        {"n": 2, "x": 1e300, "t": "007", "y": 1.0, "status": "EXACT", "error": None},
    ]


def test_infinite_numbers_are_in_json_lines_as_text_and_are_read_as_numbers(folder):
    given = {"x": [math.inf, -math.inf, math.nan, 1.5], "t": ["inf", None, ["a"], True]}
    with Path("x.jsonl").open("wb") as file:
        table_writer(Path("x.jsonl"), given)(file)

    def refuse(name):
        raise AssertionError(name)

    lines = Path("x.jsonl").read_text().splitlines()
    found = [json.loads(line, parse_constant=refuse)["x"] for line in lines]
    assert found == ["Infinity", "-Infinity", None, 1.5]
    assert read_table("", Path("x.jsonl")) == given | {"x": [math.inf, -math.inf, None, 1.5]}


def _without(old, new):
    """The three columns of the design alone."""
    kept = {name: cells for name, cells in read_table("", Path(old)).items() if name in "nxt"}
    with new.open("wb") as file:
        table_writer(new, kept)(file)


def test_outputs_named_like_a_column_of_the_design_do_not_replace_it(folder, scripted):
    ran(*words("sweep_model.py:same"))
    assert column("a_out") == column("a") == [str(a) for a in range(16)]


def test_no_output_replaces_a_column_that_the_sweep_adds(folder, scripted):
    ran(*words("sweep_model.py:like_columns"), "--deadline", "1m")
    assert column("status") == ["EXACT"] * 16
    assert column("y_stderr") == ["0.0"] * 16
    assert column("y_stderr_out") == ["7.0"] * 16
    assert column("status_out") == ["8"] * 16
    assert column("a_out") == ["9"] * 16
    ran(*words("sweep_model.py:like_columns"), "--force")
    assert column("y_stderr_out") == ["7.0"] * 16  # not what fill would take for that of y
    assert "y_stderr" not in read_table("", Path("runs.csv"))
    Path("x.csv").write_text("a,b,y_stderr\n1,2,3\n4,5,6\n")
    ran(*words("sweep_model.py:like_columns", design="x.csv"), "--force", "--deadline", "1m")
    assert column("y_stderr") == ["3", "6"]
    assert column("y_out_stderr") == ["0.0"] * 2
    ran(*words("sweep_model.py:twice"), "--force", "--max-failures", "none", exit_code=1)
    assert set(column("error")) == {"InvalidAnswer: two outputs are named y_0: rename one"}


def test_a_function_without_an_answer_has_failed_and_an_output_without_one_is_nan(folder, scripted):
    Path("x.csv").write_text("a,b\n1,2\n")
    line = [*words("sweep_model.py:forgot", design="x.csv"), "--max-failures", "none"]
    printed = ran(*line, exit_code=1)
    assert printed.startswith("1 row in ")
    assert "the function returned None" in column("error")[0]
    ran(*words("sweep_model.py:unknown"), "--force")
    assert column("y")[:3] == ["0", "nan", "2"]


def test_the_end_of_what_a_program_says_and_where_its_files_are_are_in_the_table(folder, scripted):
    Path("long").write_text(
        "#!/bin/sh\necho $0 | sed 's/.*/&&&&&&&&&&&&&&&&&&&&& why/' >&2\nexit 1\n"
    )
    Path("long").chmod(0o755)
    ran(*words(None), "--command", "./long {a}", "--max-failures", "none", exit_code=1)
    assert all(" why; see /" in error and "more" not in error for error in column("error"))


def test_numbers_that_begin_with_0_are_names(folder, scripted):
    Path("x.csv").write_text("a,b\n007,0\n012,0.5\n")
    ran(*words(None, design="x.csv"), "--command", "echo {a}", "--read", "stdout")
    assert column("a") == ["007", "012"]
    assert column("b") == ["0.0", "0.5"]


def test_large_whole_numbers_are_not_rounded_beside_others(folder, scripted):
    pq = pytest.importorskip("pyarrow.parquet")
    text = "a,b\n9007199254740993,0\n0.5,18446744073709551615\n"
    Path("x.csv").write_text(text)
    ran(*words("sweep_model.py:same", design="x.csv"))
    assert column("a_out") == column("a") == ["9007199254740993", "0.5"]
    resumed = [*words("sweep_model.py:same", design="x.csv"), "--resume"]
    assert "2 exact (2 of them before)" in ran(*resumed)
    Path("x.csv").write_text(text.replace("615", "616"))
    assert "has row 1 with other values" in refused(*resumed)
    Path("x.csv").write_text(text)
    Path("z.csv").write_text("a,b\n1e400,٣\n0.5,2\n")  # beyond floats; a digit to Python only
    ran(*words("sweep_model.py:same", design="z.csv", out="z.jsonl"))
    assert '"a_out": "1e400", "b_out": "\\u0663"' in Path("z.jsonl").read_text()
    ran(*words("sweep_model.py:same", design="x.csv", out="x.parquet"))
    found = pq.read_table("x.parquet").to_pydict()
    assert found["a"] == found["a_out"] == ["9007199254740993", "0.5"]
    assert found["b"] == found["b_out"] == [0, 18446744073709551615]
    Path("y.jsonl").write_text('{"a": 1180591620717411303424}\n{"a": 0.5}')
    ran(*words("sweep_model.py:same", design="y.jsonl", out="y.parquet"))
    assert pq.read_table("y.parquet")["a"].to_pylist() == [2.0**70, 0.5]


def test_times_and_decimals_of_parquet_stay_what_they_are(folder, scripted):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("pandas")  # for nanoseconds
    given = {
        "a": pa.array([1, 2]),
        "d": pa.array([Decimal("1.10"), Decimal("2.50")]),
        "fine": pa.array([1, 10**18 + 1], pa.timestamp("ns")),
        "coarse": pa.array([0, 10**18], pa.timestamp("ns")),
    }
    pq.write_table(pa.table(given), "x.parquet")
    for out in ("y.jsonl", "y.csv", "y.parquet"):
        ran(*words("sweep_model.py:square", design="x.parquet", out=out))
    found = pq.read_table("y.parquet").to_pydict()
    fine = ["1970-01-01 00:00:00.000000001", "2001-09-09 01:46:40.000000001"]
    assert found["fine"] == fine == column("fine", "y.csv")
    assert found["coarse"] == given["coarse"].to_pylist()
    assert found["d"] == given["d"].to_pylist()
    lines = [json.loads(line) for line in Path("y.jsonl").read_text().splitlines()]
    assert [line["d"] for line in lines] == column("d", "y.csv") == ["1.10", "2.50"]
    assert [line["fine"] for line in lines] == fine


def test_lists_and_objects_that_parquet_cannot_hold_are_text(folder, scripted):
    """After all rows were computed, the table could not be written."""
    pq = pytest.importorskip("pyarrow.parquet")
    cells = {"list": ([1], [2, "x"]), "empty": ({}, {}), "whole": ([1], [2, 3])}
    rows = [{"a": a} | {name: pair[a] for name, pair in cells.items()} for a in (0, 1)]
    Path("x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ran(*words("sweep_model.py:square", design="x.jsonl", out="y.parquet"))
    found = pq.read_table("y.parquet").to_pydict()
    assert found["list"] == ["[1]", "[2, 'x']"]
    assert found["empty"] == ["{}", "{}"]
    assert found["whole"] == [[1], [2, 3]]


def test_columns_of_one_name_in_parquet_are_refused(folder, scripted):
    pa = pytest.importorskip("pyarrow")
    pa.parquet = pytest.importorskip("pyarrow.parquet")
    pa.parquet.write_table(pa.table([[1, 2], [3, 4]], names=["a", "a"]), "x.parquet")
    assert "two columns are named a" in refused(*words(design="x.parquet"))


def test_runs_that_are_ended_at_a_deadline_have_not_failed(folder, monkeypatch):
    """They may have a reason all the same: the program is ended before its worker."""
    script = {n: [late(0.0), *[never()] * 20] for n in range(3)}
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(3, script))
    ended = "for row in $(seq 0 15); do mkdir -p ../$row; touch ../$row/error.txt; done; echo {a}"
    line = [*words(model=None), "--command", f"sh -c '{ended}'", "--read", "stdout"]
    assert " estimated" in ran(*line, "--deadline", "1s")
    assert not Path("runs.csv.runs").exists()


def test_parts_of_a_library_are_not_imported_in_the_time_for_estimates(
    folder, scripted, monkeypatch
):
    """They took half a second, of the 0.6 that a deadline of 6 s leaves for estimates: these were the mean."""
    given = []

    def noted(*args, called=cm.map, **more):
        given.append(more["deadline"])
        return called(*args, **more)

    monkeypatch.setattr(cm, "map", noted)
    module = sys.modules["codedmap.cli.sweep"]
    monkeypatch.setattr(module, "import_what_is_used", lambda: time.sleep(1.0))
    ran(*words("sweep_model.py:square"), "--deadline", "60s")
    assert 30.0 < given[0] <= 53.0
    ran(*words("sweep_model.py:square", out="again.csv"))
    assert given[1] is None


def test_a_directory_that_no_run_was_made_in_is_left(folder, scripted):
    own = Path("runs.csv.runs/2020/results.txt")
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    (own.parent.parent / "3").mkdir()
    ran(*echo("{a}"))
    assert own.read_text() == "mine"
    assert [path.name for path in own.parent.parent.iterdir()] == ["2020"]


def test_where_no_directory_of_a_run_can_be_made_nothing_runs(folder, scripted):
    said = refused(*echo("{a}"), "--keep-runs", "design.csv/runs")
    assert "design.csv/runs: Not a directory: give another path" in said
    assert not scripted


def test_rows_that_are_equal_are_noted(folder, scripted):
    Path("x.csv").write_text("a,b\n1,2\n1,2\n1,3\n")
    assert "rows whose a, b equal those of an earlier row: 1" in ran(*words(design="x.csv"))


def test_files_of_this_directory_that_a_program_may_not_find_are_noted(folder, scripted):
    Path("sh").touch()
    printed = ran(*words(None), "--command", "sh -c 'echo 1' sweep_model.py {a}")
    assert f"give its path, {folder / 'sweep_model.py'}" in printed
    assert printed.count("give its path") == 1


def test_a_pipe_in_the_command_is_noted(folder, scripted):
    Path("x.csv").write_text("a,b\n1,2\n")
    command = ["--command", "echo {a} > result.txt", "--read", "stdout"]
    printed = ran(*words(None, "x.csv"), *command, exit_code=1)
    assert "the program gets '>' as an argument, because no shell is used" in printed


def test_a_row_without_an_output_that_most_have_has_failed(folder, scripted):
    ran(*words("sweep_model.py:varies"), exit_code=1)
    rows = table()
    assert rows[1]["note"] == "far"
    assert rows[1]["status"] == rows[4]["status"] == "EXACT"
    assert rows[2]["status"] == "FAILED"
    assert rows[2]["error"].startswith("InvalidAnswer: there is no output y")
    assert rows[2]["y"] == ""
    Path("x.csv").write_text("a\n0\n1\n")
    ran(*words("sweep_model.py:varies", "x.csv", "x_runs.csv"))  # half of the rows are not most


def test_outputs_of_all_kinds_have_names(folder, scripted):
    ran(*words("sweep_model.py:kinds"))
    assert list(table()[2].values())[2:-1] == ["2", "1", "2", "0.5", "EXACT"]
    assert list(table()[2])[2:-1] == ["made_p", "series_q_0", "series_q_1", "small", "status"]


def test_an_answer_that_is_no_output_fails_its_row(folder, scripted):
    ran(*words("sweep_model.py:nothing"), "--max-failures", "none", exit_code=1)
    assert set(column("error")) == {
        "InvalidAnswer: an output is of type object: return numbers and text, alone or in dicts and lists"
    }


def test_with_a_deadline_rows_that_are_missing_are_estimated(folder, scripted):
    Path("many.csv").write_text(
        "a,b\n" + "".join(f"{k / 60},{k * k % 7}\n" for k in range(60)), encoding="utf-8"
    )
    printed = ran(*words("sweep_model.py:slow", "many.csv"), "--deadline", "1s")
    rows = table()
    assert {row["status"] for row in rows} == {"EXACT", "ESTIMATED"}
    for row in rows:
        exact = float(row["a"]) + 2.0 * float(row["b"])
        if row["status"] == "EXACT":
            assert float(row["y"]) == exact
            assert float(row["y_stderr"]) == 0.0
        else:
            assert float(row["y_stderr"]) > 0.0
            assert row["text"] == ""
            assert abs(float(row["y"]) - exact) < 5.0
    assert "--resume" in printed
    assert "text cannot be estimated, and is empty" in printed
    ran(*words("sweep_model.py:slow", "many.csv"), "--resume")
    assert set(column("status")) == {"EXACT"}
    assert "y_stderr" not in table()[0]


def test_rows_that_are_not_missing_at_random_are_noted(folder, scripted, monkeypatch):
    def late(run, left, **_):
        for row in left[:40]:
            run.fn(row)
        return SimpleNamespace(failures={}, calls="40 calls: 40 answered")

    def timed(*given, made=estimate_missing, **more):
        assert 0.0 <= given[-1]() < 60.0
        return made(*given, **more)

    monkeypatch.setattr(cm, "map", late)
    monkeypatch.setattr(sys.modules["codedmap.cli.sweep"], "estimate_missing", timed)
    Path("x.csv").write_text("a\n" + "".join(f"{k}\n" for k in range(60)))
    printed = ran(*words("sweep_model.py:square", "x.csv"), "--deadline", "1m")
    assert "40 exact, 20 estimated" in printed
    assert "codedmap: note: rows are not missing at random: " in printed


def test_why_nothing_is_estimated_is_said(folder, scripted):
    """An output that is text in a few rows left all others missing, without a word."""
    lines = "".join(f"{k / 60 + 0.001},{k * k % 7}\n" for k in range(60))
    Path("many.csv").write_text("a,b\n" + lines, encoding="utf-8")
    printed = ran(*words("sweep_model.py:wide", "many.csv"), "--deadline", "1s", exit_code=1)
    assert set(column("status")) == {"EXACT", "MISSING"}
    assert "y cannot be estimated, and is empty in rows without an answer" in printed
    assert re.search(r"  text       y in \d+ rows? \(the first is \d+\), and a number in", printed)


def test_a_run_that_took_too_long_is_estimated(folder, scripted):
    Path("many.csv").write_text("a,b\n" + "".join(f"{k},{k * k % 7}\n" for k in range(12)))
    program = "sh -c 'test {a} = 5 && sleep 60; echo {a}'"
    line = [*words(None, "many.csv"), "--command", program, "--timeout", "2"]
    printed = ran(*line, "--on-timeout", "estimate")
    assert "11 exact, 1 estimated" in printed
    assert "1 row ran too long: allow more with --timeout and --resume" in printed
    assert "  failed " not in printed
    assert "make the rest exact" not in printed
    row = table()[5]
    assert row["status"] == "ESTIMATED"
    assert "CallTimeout" in row["error"]
    assert abs(float(row["y"]) - 5.0) < 1.0
    assert float(row["y_stderr"]) > 0.0
    assert [table()[3][name] for name in ("status", "y_stderr")] == ["EXACT", "0.0"]
    ran(*line, "--resume", exit_code=1)  # it runs again, and fails
    assert table()[5]["status"] == "FAILED"
    assert "y_stderr" not in table()[5]


def test_a_function_that_took_too_long_is_estimated_or_its_row_says_why_not(folder):
    Path("late_model.py").write_text(
        "import time\n"
        "def number(a):\n    return a if a != 5 else time.sleep(60)\n"
        "def text(a):\n    return str(number(a))\n"
        "def most(a):\n    return a if a == 5 else time.sleep(60)\n"
    )
    Path("few.csv").write_text("a\n" + "".join(f"{k}\n" for k in range(4, 8)))
    given = ["--timeout", "1", "--on-timeout", "estimate", "--force"]
    ran(*words("late_model.py:number", "few.csv"), *given)
    assert column("status") == ["EXACT", "ESTIMATED", "EXACT", "EXACT"]
    ran(*words("late_model.py:text", "few.csv"), *given, exit_code=1)
    assert column("status")[1] == "FAILED"
    assert "not estimated, because no output is a number" in column("error")[1]
    ran(*words("late_model.py:most", "few.csv"), *given, exit_code=1)
    assert column("status") == ["FAILED", "EXACT", "FAILED", "FAILED"]
    assert "fewer than 2 rows have an answer" in column("error")[0]


def test_estimating_what_took_too_long_needs_a_timeout_and_numbers(folder, scripted):
    assert "--timeout, which is not given" in refused(*words(), "--on-timeout", "estimate")
    Path("x.csv").write_text("a,b\n1,x\n2,y\n")
    given = "--timeout", "1", "--on-timeout", "estimate"
    assert "leave out --on-timeout" in refused(
        *words(None, "x.csv"), "--command", "echo {b}", *given
    )


def test_a_sweep_whose_rows_all_fail_stops(folder, scripted):
    Path("x.csv").write_text("a\n" + "".join(f"{k}\n" for k in range(60)))
    result = CliRunner().invoke(
        cli, [*words(None, "x.csv"), "--command", "sh -c 'echo no {a} >&2; exit 3'"]
    )
    assert result.exit_code == 1
    assert "the first 20 rows raised CommandFailed, and none has an answer: row" in result.output
    assert "exit code 3: no " in result.output
    assert "go on with --max-failures none" in result.output
    assert sum(len(engine.calls) for engine in scripted) < 60
    for wrong in ("0", "x", "-1"):
        result = CliRunner().invoke(cli, [*words(), "--max-failures", wrong])
        assert result.exit_code == 2
        assert "neither a number above 0 nor none" in result.output


def test_rows_done_before_count_as_answers(folder, scripted):
    ran(*words(), exit_code=1)
    printed = ran(*words(), "--resume", "--max-failures", "1", exit_code=1)
    assert "15 exact, 1 failed" in printed


def test_a_run_that_a_signal_ended_is_made_again_and_one_with_an_exit_code_is_not(folder, scripted):
    count = f"echo {{a}} >> {folder}/count; if test {{a}} = 1; then kill -9 $$; fi; exit 1"
    line = [
        *words(None),
        "--command",
        f"sh -c '{count}'",
        "--retries",
        "1",
        "--max-failures",
        "none",
    ]
    ran(*line, exit_code=1)
    counts = Path("count").read_text().split()
    assert counts.count("1") == 2
    assert counts.count("2") == 1
    assert "ended by SIGKILL" in column("error")[1]
    assert sorted(path.name for path in Path("runs.csv.runs").glob("1*") if path.name[:2] in ("1", "1.")) == ["1", "1.2"]  # fmt: skip


def test_there_are_no_more_workers_than_rows(folder, monkeypatch):
    """All 3,000 processes were started for three rows."""
    started = []
    monkeypatch.setitem(ENGINES, "local", lambda workers: Scripted(started.append(workers) or 3))
    Path("few.csv").write_text("a\n1\n2\n4\n")
    ran(*words(design="few.csv"), "--workers", "3000")
    ran(*words(), "--force", "--workers", "4", exit_code=1)
    assert started == [3, 4]


def test_a_row_that_crashes_its_worker_says_so(folder, monkeypatch):
    monkeypatch.setitem(
        ENGINES, "local", lambda workers: Scripted(3, {n: [crash()] * 9 for n in range(3)})
    )
    printed = ran(*words(), "--retries", "0", exit_code=1)
    assert "ended its worker" in printed


def test_a_row_whose_worker_was_lost_when_it_was_written_is_exact(folder, scripted, monkeypatch):
    def lost(run, left, **_):
        for row in left:
            run.fn(row)
        failures = {3: cm.errors.WorkerCrashed("lost")}
        return SimpleNamespace(failures=failures, calls="16 calls: 15 answered, 1 failed")

    monkeypatch.setattr(cm, "map", lost)
    assert "16 exact\n" in ran(*words("sweep_model.py:square"))
    assert set(column("error")) == {""}


def test_directories_of_runs_are_kept_if_they_failed_or_are_wanted(folder, scripted):
    fails = "if test {a} = 1; then exit 3; fi; echo 1"
    line = [*words(None), "--command", f"sh -c '{fails}'", "--read", "stdout"]
    printed = ran(*line, exit_code=1)
    assert {path.stem for path in Path("runs.csv.runs").iterdir()} == {"1"}  # 1.2 if it is hedged
    assert "runs.csv.runs/ has the files of the runs that failed" in printed
    ran(*line, "--force", "--keep-runs", "all", exit_code=1)
    assert {path.stem for path in Path("all").iterdir()} == set(map(str, range(16)))
    assert "  runs " not in ran(*echo("{a}"), "--force")
    assert not Path("runs.csv.runs").exists()


def test_directories_of_runs_that_an_interruption_ended_are_removed(folder, monkeypatch):
    runs = Path("runs.csv.runs")

    @contextmanager
    def ending(workers):
        try:
            yield None
        finally:  # a worker may note that its run was ended
            (runs / "3" / WHY).touch()

    def interrupted(run, left, **_):
        for row in ("0", "1"):
            with suppress(CommandFailed):
                run.fn(row)
        (runs / "2").mkdir()
        (runs / "2" / WHY).touch()
        run.fn("2")  # again, and with success
        (runs / "3").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setitem(ENGINES, "local", ending)
    monkeypatch.setattr("codedmap.map", interrupted)
    fails = "if test {a} = 1; then exit 3; fi; echo 1"
    line = [*words(None), "--command", f"sh -c '{fails}'", "--read", "stdout"]
    assert CliRunner().invoke(cli, line).exit_code != 0
    assert [path.name for path in runs.iterdir()] == ["1"]


# What is refused


@pytest.mark.parametrize(
    ("design", "says"),
    [
        (None, "No such file"),
        ("", "has no rows"),
        ("a,b\n", "has no rows"),
        (
            "b\n1\n",
            "by name it is given 'b': missing a required .*: 'a'. Add, rename or leave out columns, or ",
        ),
        ("a,b\n1,2\n1\n", "line 3 has 1 entry, and the first 2"),
        ("a,b\n1,2\n,2\n", "column 'a' of the design has no value in 1 of 2 rows .* row 1"),
        ("a,b\n1,nan\n1,2\n", "column 'b' of the design has no value in 1 of 2 rows .* row 0"),
        ("a,b\n1,2\n1,3 mm\n", "column 'b' of the design has 1 number, and '3 mm' in row 1"),
        ("a,a\n1,2\n", "two columns are named a"),
        ("a;b\n1,5;2\n", "its first line has semicolons, and no commas: put commas between"),
        ('\n"a";"b"\n"1,5";"2"\n', "its first line has semicolons, and no commas"),
        ("a\tb\n1\t2\n", "its first line has tabs, and no commas"),
        ("a,\n1,2\n", "column 2 has no name"),
        ("a,status\n1,2\n", "columns of the design are called 'status'"),
        ('a,b\n1,"2\n', "line 2: unexpected end of data"),
    ],
)
def test_a_design_that_cannot_be_used_is_refused(folder, scripted, design, says):
    if design is not None:
        Path("x.csv").write_text(design)
    assert re.search(says, refused(*words(design="x.csv")))
    assert not scripted


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("", "x.jsonl has no rows: give the names of columns, and a row for each run"),
        ('{"a": 1}\n{"a": 1, "b": 2, "a": 3}\n', "line 2: two values are named 'a'"),
        ('{"": 1}\n', "column 1 has no name"),
        ("[1]\n", "line 1 is not a JSON object"),
        ('{"a": 1},\n', "line 1, column 9: Extra data"),
        (b'{"\xfc": 1}\n', "save it as UTF-8"),
    ],
)
def test_lines_of_json_that_cannot_be_used_are_refused(folder, scripted, lines, says):
    Path("x.jsonl").write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    assert says in refused(*words(design="x.jsonl"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (words(design="design.txt"), "must end in .csv, .jsonl, .parquet"),
        (words(out="runs.npy"), "must end in .csv, .jsonl, .parquet"),
        (words(out="no/runs.csv"), "there is no directory no"),
        (words(out="design.csv"), "is the file that is read"),
        (words(out="r" * 300 + ".csv"), "File name too long): choose another name"),
        (words("m" * 300 + ".py:f"), "File name too long: give another path"),
        ([*echo("{a}"), "--keep-runs", "design.csv"], "design.csv: File exists: give another path"),
        (words(None), "without it there are two"),
        (["sweep", "--out", "runs.csv"], "MODEL and DESIGN: 0 given"),
        ([*words(), "--command", "echo"], "with --command there is one"),
        ([*words(), "--read", "stdout"], "--read is for programs"),
        ([*words(), "--resume", "--force"], "leave out one"),
        ([*words(), "--deadline", "soon"], "'soon' is not a time above 0"),
        ([*words(), "--timeout", "0"], "'0' is not a time above 0"),
        (words("sweep_model"), "file.py:function"),
        (words("no.py:f"), "there is no file"),
        (words("sweep_model.py:f"), "has no 'f': correct the name"),
        (words("sweep_model.py:by_place"), "by name it is given"),
        (words("sweep_model.py:later"), "fn is async"),
        (echo("{c}"), "no column 'c'; it has a, b"),
        (echo("{"), "write {{ and }} for braces"),
        (echo("{a:.2q}"), "a value cannot be written in"),
        ([*words(None), "--command", ""], "the command is empty"),
        ([*words(None), "--command", "./none {a}"], "there is no program"),
        ([*echo("{a}"), "--read", "x.npy"], "--read must be stdout.json"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(folder, scripted, line, says):
    assert says in refused(*line)
    assert not scripted


def test_a_table_in_a_format_that_needs_what_is_not_installed_is_refused(
    folder, scripted, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "output runs.parquet needs pyarrow" in refused(*words(out="runs.parquet"))
    assert not scripted


def test_a_column_of_text_cannot_be_estimated_from(folder, scripted):
    Path("x.csv").write_text("a,b\nx,1\ny,1\nz,1\n")
    assert "'a' of design x.csv has others" in refused(*words(design="x.csv"), "--deadline", "1m")


def test_an_output_that_exists_and_a_journal_are_not_replaced(folder, scripted):
    Path("runs.csv").write_text("mine")
    assert "exists" in refused(*words())
    assert "no journal" in refused(*words(), "--resume")
    ran(*words(), "--force", exit_code=1)
    assert "go on with it by --resume, or begin anew with --force" in refused(*words())


def test_another_sweep_that_still_runs_is_not_forgotten(folder, scripted):
    """Its workers wrote answers of another command into the new journal, which took them as its own."""
    ran(*echo("{a}"))
    with Path("runs.csv.journal").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "is being written by another job" in refused(*echo("{b}"), "--force")
    ran(*echo("{b}"), "--force")
    assert column("y")[:2] == column("b")[:2]


def test_a_journal_that_has_taken_the_place_of_another_is_not_written_to(folder, scripted):
    """Of a sweep whose outputs were removed while it ran, and of another command, begun in its place."""
    Path("swapped.py").write_text(
        """
from pathlib import Path

def swaps(a):
    if a == 1:
        Path("runs.csv.journal").unlink()
        Path("runs.csv.journal").write_text("another")
    return a
"""
    )
    result = CliRunner().invoke(cli, words("swapped.py:swaps"))
    assert result.exit_code == 2
    assert "was removed while this job ran" in result.output
    assert "--resume" not in result.output
    assert Path("runs.csv.journal").read_text() == "another"
    assert not Path("runs.csv").exists()


@pytest.mark.parametrize("out", ["runs.csv", "runs.jsonl", "runs.parquet"])
def test_text_that_has_no_bytes_is_written(folder, scripted, out):
    """As that of a file name that is no UTF-8; all was computed, and then there was a UnicodeEncodeError."""
    Path("x.jsonl").write_text('{"a": "\\udcff", "b": 1}\n{"a": "p", "b": 2}\n')
    ran(*words("sweep_model.py:same", design="x.jsonl", out=out))
    text = read_table("", Path(out))["a_out"]
    assert [cell.encode(errors="backslashreplace") for cell in text] == [rb"\udcff", b"p"]


def test_a_table_that_cannot_be_written_is_written_on_resuming(folder, scripted, monkeypatch):
    """Its content was said to be lost, and it was in the journal."""

    def full(file, table):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setitem(tables._KINDS, ".csv", (tables._read_csv, full))
        result = CliRunner().invoke(cli, words("sweep_model.py:square"))
    assert result.exit_code == 2
    assert "16 rows are done" in result.output
    assert "could not be written (No space left on device): make room" in result.output
    assert "lost" not in result.output
    assert "(16 of them before)" in ran(*words("sweep_model.py:square"), "--resume")


def test_a_sweep_of_other_inputs_or_another_program_is_not_resumed(folder, scripted):
    ran(*echo("{a}"))
    assert "is of a job with the function echo" in refused(*echo("{b}"), "--resume")
    with Path("design.csv").open("a") as file:
        file.write("16,1.6\n")
    assert "17 exact (16 of them before)" in ran(*echo("{a}"), "--resume")
    text = Path("design.csv").read_text()
    Path("design.csv").write_text("".join(text.splitlines(keepends=True)[:3]))
    assert "which has 2 rows now" in refused(*echo("{a}"), "--resume")
    text = text.replace("3,0.3", "3.5,0.3")
    Path("design.csv").write_text(text)
    assert "has row 3 with other values" in refused(*echo("{a}"), "--resume")


def test_a_row_that_makes_floats_of_a_column_may_be_added(folder, scripted):
    """Refused if one was a whole number beyond 2**53 that a float holds."""
    Path("x.csv").write_text(f"a,b\n1,2\n4,5\n{2**60},0\n")
    ran(*words("sweep_model.py:same", design="x.csv"))
    with Path("x.csv").open("a") as file:
        file.write("0.5,7\n")
    line = [*words("sweep_model.py:same", design="x.csv"), "--resume"]
    assert "4 exact (3 of them before)" in ran(*line)
    assert column("a_out") == ["1", "4", str(2**60), "0.5"]


def test_a_program_that_is_changed_is_another(folder, scripted):
    Path("p").write_text("#!/bin/sh\necho 1\n")
    Path("p").chmod(0o755)
    line = [*words(None), "--command", "./p {a}"]
    ran(*line)
    Path("p").write_text("#!/bin/sh\necho 2\n")
    assert "which is not the same now" in refused(*line, "--resume")


# As a program on real workers


def left(folder):
    """What is alive of all processes that have written down their numbers."""
    return [pid for pid in map(int, (folder / "pids").read_text().split()) if alive(pid)]


def test_every_row_is_accounted_for_and_nothing_is_left_running(folder):
    line = [*words(None), "--command", "./program {a} {b}", "--timeout", "1", "--retries", "0"]
    with started(*line) as sweep:
        printed, errors = sweep.communicate(timeout=60)
    assert sweep.returncode == 1, errors
    says = [None, "ran longer than 1 s", None, "ended by SIGSEGV", None, "exit code 3: no convergence", None, "begins 'garbage"]  # fmt: skip
    for number, row in enumerate(table()):
        reason = says[number % 8]
        if reason is None:
            assert row["status"] == "EXACT"
            assert (float(row["y"]), float(row["z"])) == (number, number / 10)
        else:
            assert row["status"] == "FAILED"
            assert reason in row["error"]
            assert row["y"] == ""
    assert "8 exact, 8 failed" in printed
    assert "2: exit code 3 (row 5, ...)" in printed
    assert len((folder / "pids").read_text().split()) >= 32
    assert eventually(lambda: not left(folder))


def test_a_sweep_that_is_ended_goes_on_where_it_was(folder):
    program = folder / "waits"
    program.write_text(
        f"#!/bin/sh\necho $$ >> {folder}/pids\n"
        f"test $1 -lt 5 -o $1 -lt 8 -a -e {folder}/8 -o -e {folder}/16 || sleep 100\necho $1\n"
    )
    program.chmod(0o755)
    line = [*words(None), "--command", "./waits {a}", "--quiet"]
    journal = folder / "runs.csv.journal"

    def ended(number, rows, *more):
        with started(*line, *more) as sweep:
            assert eventually(
                lambda: (
                    journal.exists()
                    and len(re.findall(rb'"row": ?\d', journal.read_bytes())) >= rows
                ),
                30.0,
            )
            os.kill(sweep.pid, number)
            errors = sweep.communicate(timeout=30)[1]
        assert eventually(lambda: not left(folder))
        return sweep.returncode, errors

    code, errors = ended(signal.SIGINT, 5)
    assert code == 130
    assert "5 rows are done and in runs.csv.journal" in errors
    (folder / "8").touch()
    assert ended(signal.SIGKILL, 8, "--resume")[0] == -9
    assert not (folder / "runs.csv").exists()
    with journal.open("ab") as file:
        file.write(b"00000000 {half a li")  # as a machine that fails leaves it
    (folder / "16").touch()
    with started(*line[:-1], "--resume") as sweep:
        printed, _ = sweep.communicate(timeout=60)
    assert "16 exact (8 of them before)" in printed
    assert column("y") == [str(a) for a in range(16)]


PROGRAM_IN_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words) {
    int k = atoi(words[1]);
    FILE *runs = fopen(words[2], "a");
    fprintf(runs, "%d %d\n", k, getpid());
    fclose(runs);
    usleep(20000);
    if (k % 50 == 7) {  /* hangs, and so does its child */
        if (fork() == 0) setsid();
        for (;;) sleep(1000);
    }
    if (k % 50 == 13) abort();
    printf("{\"square\": %d}\n", k * k);
    return 0;
}
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_thousand_runs_of_which_some_hang_and_crash_while_the_caller_is_killed(folder):
    Path("model.c").write_text(PROGRAM_IN_C)
    subprocess.run(["cc", "-o", "model", "model.c"], check=True)
    Path("k.csv").write_text("k\n" + "".join(f"{k}\n" for k in range(1000)))
    runs = folder / "runs"
    runs.touch()
    line = ["sweep", "--command", f"./model {{k}} {runs}", "k.csv", "--out", "runs.csv"]
    line += ["--timeout", "2", "--retries", "0", "--workers", "8", "--quiet"]

    def begun():
        return [tuple(map(int, one.split())) for one in runs.read_text().splitlines()]

    def processes():
        return [pid for _, pid in begun() if alive(pid)]

    for many in (100, 300, 500, 700):
        resume = ["--resume"] if Path("runs.csv.journal").exists() else []
        with started(*line, *resume) as sweep:
            assert eventually(lambda many=many: len(begun()) >= many, 100.0)
            sweep.kill()
            sweep.wait()
        assert eventually(lambda: not processes())
    with started(*line, "--resume") as sweep:
        sweep.communicate(timeout=300)
    assert sweep.returncode == 1
    assert eventually(lambda: not processes())
    for k, row in enumerate(table()):
        reason = {7: "ran longer than 2 s", 13: "ended by SIGABRT"}.get(k % 50, "")
        assert (row["status"], row["square"]) == (
            ("FAILED", "") if reason else ("EXACT", str(k * k))
        )
        assert reason in row["error"]
    counts = Counter(k for k, _ in begun())
    again = [k for k, count in counts.items() if count > 1 and k % 50 not in (7, 13)]
    assert len(again) <= 4 * 16, "but for the calls in flight"
