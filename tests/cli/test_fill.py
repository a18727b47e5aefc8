"""The command ``fill``."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import codedmap as cm
from codedmap.cli import cli

# Of 40 rows: row 3 failed, row 5 is missing, row 7 was estimated badly.
STATUS = {3: "FAILED", 5: "MISSING", 7: "ESTIMATED"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Path("runs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "b", "k", "y", "y_stderr", "note", "status", "error"])
        for k in range(40):
            a, b = k / 40, k * 7 % 40 / 40
            y, stderr = {3: ("", ""), 5: ("", ""), 7: (99.0, 5.0)}.get(k, (a + 2 * b, 0.0))
            error = "exit code 3" if k == 3 else ""
            rows.writerow([a, b, k, y, stderr, "n", STATUS.get(k, "EXACT"), error])
    return tmp_path


def filled(*line, exit_code=0):
    result = CliRunner().invoke(
        cli, ["fill", "runs.csv", "--out", "filled.csv", *line], catch_exceptions=False
    )
    assert result.exit_code == exit_code, result.output
    if exit_code == 2:
        assert result.output.startswith("codedmap: error: ")
        assert not Path("filled.csv").exists()
        return result.output, []
    with Path("filled.csv").open(newline="") as file:
        return result.output, list(csv.DictReader(file))


def test_what_is_missing_or_was_estimated_is_estimated_and_all_else_kept(folder):
    printed, rows = filled("--inputs", "a,b", exit_code=1)
    assert "37 exact, 2 estimated, 1 failed" in printed
    with Path("runs.csv").open(newline="") as file:
        for k, (old, new) in enumerate(zip(csv.DictReader(file), rows, strict=True)):
            assert list(new) == list(old)
            if k in (5, 7):
                assert new["status"] == "ESTIMATED"
                assert abs(float(new["y"]) - (float(new["a"]) + 2 * float(new["b"]))) < 0.2
                assert float(new["y_stderr"]) > 0
                assert new["k"] == old["k"]
            elif k == 3:
                assert new == old
            else:
                assert {**new, "y": float(new["y"])} == {**old, "y": float(old["y"])}


def test_the_file_that_sweep_has_written_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fn(a, b):
        return {"y": a + 2 * b if a < 0.9 else 1 / 0}

    a = np.linspace(0, 1, 40)
    with ThreadPoolExecutor(2) as pool:
        cm.sweep(fn, {"a": a, "b": a**2}, engine=pool, out="runs.parquet", hedge=None)
    taken = CliRunner().invoke(
        cli, ["fill", "runs.parquet", "--inputs", "a,b", "--out", "all.csv", "--failed"]
    )
    assert taken.exit_code == 0, taken.output
    assert "36 exact, 4 estimated" in taken.output


def test_a_text_of_few_kinds_is_an_input_and_its_losses_are_named_by_it(folder):
    with Path("runs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["a", "kind", "y"])
        for k in range(120):
            kind = "pqr"[k % 3]
            lost = k % 10 == 0 or (kind == "q" and k > 12)
            rows.writerow([k / 120, kind, "" if lost else k / 120 + (kind == "q")])
    assert "text of at most 20 kinds" in filled("--inputs", "a,y", exit_code=2)[0]
    printed, rows = filled("--inputs", "a,kind")
    assert "kind = q 100% are lost" in printed
    off = [float(r["y"]) - float(r["a"]) - (r["kind"] == "q") for r in rows]
    assert max(map(abs, off)) < 0.1


def test_a_note_says_what_to_change_in_the_table(folder):
    runs = Path("runs.csv").read_text()
    Path("runs.csv").write_text(runs.replace(",,,n,", ",-9999,0,n,"))
    note = filled("--inputs", "a,b", "--outputs", "y")[0]
    assert "leave them empty, with the status FAILED" in note
    assert "failed=" not in note


def test_columns_are_filled_one_after_another(folder):
    lost = {3: "FAILED", 5: "MISSING", 9: "MISSING"}
    with Path("runs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["a", "y", "z", "status"])
        for k in range(40):
            y, z = ("" if k in (3, 5) else k**2 / 1000), ("" if k in lost else -k)
            table.writerow([k, y, z, lost.get(k, "EXACT")])
    _, rows = filled("--inputs", "a", "--outputs", "y", exit_code=1)
    assert [rows[k]["status"] for k in (3, 5, 9, 11)] == ["FAILED", "MISSING", "MISSING", "EXACT"]
    Path("filled.csv").replace("runs.csv")
    _, rows = filled("--inputs", "a", "--outputs", "z", exit_code=1)
    assert [rows[k]["status"] for k in (3, 5, 9, 11)] == ["FAILED", *["ESTIMATED"] * 2, "EXACT"]


@pytest.mark.slow
def test_a_table_may_have_very_many_columns(folder):
    """Each name was counted among all: 100,000 took minutes."""
    names = [f"v_{k}" for k in range(100_000)]
    Path("runs.csv").write_text(",".join(["a", *names]) + "\n" + ",".join(["1"] * 100_001) + "\n")
    assert "no number is missing" in filled("--inputs", "a", exit_code=2)[0]


def test_a_name_that_has_a_comma_is_quoted_as_in_the_table(folder):
    text = Path("runs.csv").read_text()
    Path("runs.csv").write_text(
        text.replace("y,", '"y, m",', 1).replace("y_stderr", '"y, m_stderr"', 1)
    )
    _, rows = filled("--inputs", 'b, "a"', "--outputs", '"y, m"', exit_code=1)
    assert any(float(row["y, m_stderr"] or 0.0) > 0.0 for row in rows)


def test_a_row_that_failed_keeps_the_answers_that_it_has(folder):
    lines = Path("runs.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    for row, z in enumerate(["z", *range(40)]):
        cells[row].insert(2, str(z))
    Path("runs.csv").write_text("\n".join(map(",".join, cells)))
    _, rows = filled("--inputs", "a,b", "--outputs", "y,z", exit_code=1)
    assert (rows[3]["y"], rows[3]["z"], rows[3]["status"]) == ("", "3", "FAILED")
    assert rows[5]["status"] == "ESTIMATED"


def test_rows_that_failed_are_filled_on_request(folder):
    _, rows = filled("--inputs", "a,b", "--failed")
    assert rows[3]["status"] == "ESTIMATED"
    assert rows[3]["error"] == "exit code 3"
    assert float(rows[3]["y_stderr"]) > 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("--inputs", "a,c"), "has no column 'c'"),
        (("--inputs", "a,,b"), "must be names of different columns"),
        (("--inputs", ""), "must be names of different columns"),
        (("--inputs", "a,b,a"), "must be names of different columns"),
        (("--inputs", "a,b", "--outputs", "y,y"), "must be names of different columns"),
        (("--inputs", "a,error"), "row 0 of table runs.csv (counted from 0) has None as 'error'"),
        (("--inputs", "b,y"), "has None as 'y'"),
        (
            ("--inputs", "a", "--outputs", "note"),
            "row 0 of table runs.csv (counted from 0) has 'n' as 'note'",
        ),
        (("--inputs", "a", "--outputs", "a"), "is an input"),
        (("--inputs", "a", "--out", "runs.csv"), "which would be lost"),
    ],
)
def test_what_cannot_be_filled_is_refused(folder, line, says):
    assert says in filled(*line, exit_code=2)[0]


def test_rows_whose_estimated_entries_are_not_known_are_refused(folder):
    for table in (
        "a,y,status\n1,2,EXACT\n2,5,ESTIMATED\n3,,MISSING\n",
        "a,y,status,z,z_stderr\n1,2,EXACT,0,0\n2,5,ESTIMATED,0,0\n3,,MISSING,0,0\n",
    ):
        Path("runs.csv").write_text(table)
        assert "no column y_stderr that says which" in filled("--inputs", "a", exit_code=2)[0]


def test_a_table_without_holes_has_nothing_to_fill(folder):
    Path("runs.csv").write_text("a,y\n1,2\n3,4\n")
    assert "no number is missing: name" in filled("--inputs", "a", exit_code=2)[0]
    Path("runs.csv").write_text("a,y\n1,2\n3,NA\n")
    assert "(counted from 0) has 'NA' as 'y': " in filled("--inputs", "a", exit_code=2)[0]


def test_integers_of_more_than_64_bits_are_inputs(folder):
    """That an entry was no number could not be said: NumPy has no isfinite of such."""
    Path("runs.csv").write_text(f"a,y\n{2**70},2\n2,\n3,4\n4,5\n")
    printed, rows = filled("--inputs", "a")
    assert "3 exact, 1 estimated" in printed
    assert [row["a"] for row in rows] == [str(2**70), "2", "3", "4"]
    Path("runs.csv").write_text(f"a,y\n{10**400},2\n2,\n3,4\n4,5\n")
    Path("filled.csv").unlink()
    assert "inputs must be finite numbers" in filled("--inputs", "a", exit_code=2)[0]
    Path("runs.csv").write_text("a,y\n2,2\ninf,\n3,4\n4,5\n")
    assert (
        "row 1 of table runs.csv (counted from 0) has inf as 'a'"
        in filled("--inputs", "a", exit_code=2)[0]
    )


def test_an_input_is_not_taken_for_a_standard_error(folder):
    Path("runs.csv").write_text("a,y_stderr,y\n1,2,3\n2,3,\n4,5,6\n")
    message, _ = filled("--inputs", "a,y_stderr", exit_code=2)
    assert "'y_stderr' is an input, and the name of the standard errors of 'y'" in message


@pytest.mark.parametrize("rest", ["4,5", "4,5.5"])
def test_a_column_with_integers_beyond_floats_is_not_filled(folder, rest):
    """It ended in an OverflowError."""
    Path("runs.csv").write_text(f"a,y\n1,{10**400}\n2,\n3,4\n{rest}\n")
    printed, _ = filled("--inputs", "a", exit_code=2)
    assert "(counted from 0) has 1000" in printed
    assert len(printed) < 300
    Path("runs.csv").write_text(f"a,y,z\n1,{10**400},3\n2,,\n3,4,1\n{rest},2\n")
    for out in ("filled.csv", "filled.parquet"):
        assert "1 estimated" in filled("--inputs", "a", "--out", out)[0]


def test_a_number_whose_standard_error_is_empty_is_known_and_one_of_text_is_refused(folder):
    """All rows counted as estimated before, and lost their answers."""
    Path("runs.csv").write_text(
        "a,y,y_stderr,status\n1,2,0,EXACT\n2,3,,EXACT\n3,9,1,ESTIMATED\n4,5,0,EXACT\n"
    )
    printed, rows = filled("--inputs", "a")
    assert "3 exact, 1 estimated" in printed
    assert rows[1]["y"] == "3"
    Path("runs.csv").write_text("a,y,y_stderr\n1,2,0\n2,3,?\n3,9,1\n4,5,0\n")
    Path("filled.csv").unlink()
    printed, _ = filled("--inputs", "a", exit_code=2)
    assert "row 1 of table runs.csv (counted from 0) has '?' as 'y_stderr'" in printed


def test_bytes_of_many_kinds_are_no_input(folder):
    """They ended in an IndexError."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"a": [b"p", b"q", b"r"], "y": [1.0, None, 2.0]})
    parquet.write_table(table, "runs.parquet")
    result = CliRunner().invoke(cli, ["fill", "runs.parquet", "--inputs", "a", "--out", "f.csv"])
    assert "row 0 of table runs.parquet (counted from 0) has b'p' as 'a'" in result.output


def test_standard_errors_of_a_table_need_no_status(folder):
    Path("runs.csv").write_text("a,y,z,z_stderr\n1,2,5,0\n2,,6,0.5\n3,4,7,0\n4,5,8,0\n")
    _, rows = filled("--inputs", "a", "--outputs", "y")
    assert [row["status"] for row in rows] == ["EXACT", "ESTIMATED", "EXACT", "EXACT"]
