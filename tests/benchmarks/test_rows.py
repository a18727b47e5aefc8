from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("distributed")
pytest.importorskip("ray")
pytest.importorskip("joblib")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
RIVALS = {"ProcessPoolExecutor", "joblib", "Dask", "Ray"}
SLEEPING = {
    "healthy, 24 rows": 24,
    "1 of 24 rows 0.3 s slow, at random": 24,
    "1 of 24 rows 0.3 s slow, bunched": 24,
    "one worker ten times slower": 24,
    "one worker stopped during the job": 24,
    "5 % of the calls kill their worker": 24,
    "20 rows, 3 raise, 1 segfaults": 20,
}
COMPUTING = {
    "healthy, 12 rows": 12,
    "1 of 12 rows 0.3 s slow, at random": 12,
    "1 of 12 rows 0.3 s slow, bunched": 12,
    "one worker ten times slower": 12,
    "5 % of the calls kill their worker": 12,
}
SHORT = {"1000 rows of 1 ms": 1000, "10000 rows of 10 µs": 10_000}
JOBS = {"3 jobs of 8 rows, 5 % of the calls 0.3 s late: slowest job": 24}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> list[dict[str, str]]:
    return table_of("rows", tmp_path_factory.mktemp("benchmarks"))


def table_of(name: str, folder: Path) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--output", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"## {name}" in (folder / "README.md").read_text()
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def lines(table, workers: str, case: str) -> dict[str, dict[str, str]]:
    found = [row for row in table if row["workers"] == workers and row["case"] == case]
    assert all(count == 1 for count in Counter(row["call"] for row in found).values())
    return {row["call"]: row for row in found}


def cases() -> list[tuple[str, str, int, set[str]]]:
    mine = {"codedmap"}
    every = [("3 sleeping", case, rows, mine | RIVALS) for case, rows in SLEEPING.items()]
    every += [("2 computing", case, rows, mine | RIVALS) for case, rows in COMPUTING.items()]
    every += [
        ("2 computing", case, rows, mine | {"ProcessPoolExecutor"}) for case, rows in SHORT.items()
    ]
    more = {"codedmap, hedge=None", "two copies"}
    return every + [("3 sleeping", case, rows, mine | RIVALS | more) for case, rows in JOBS.items()]


def test_every_case_has_a_line_of_each_library(table):
    for workers, case, _, libraries in cases():
        assert set(lines(table, workers, case)) == libraries, case
    assert set(lines(table, "3", "cold start")) == {"codedmap"} | RIVALS
    assert len(lines(table, "2", "round trip of one call")) == 3
    assert len(lines(table, "1000 virtual", "10000 calls")) == 2
    known = {(workers, case) for workers, case, _, _ in cases()}
    known |= {
        ("3", "cold start"),
        ("2", "round trip of one call"),
        ("1000 virtual", "10000 calls"),
    }
    assert {(row["workers"], row["case"]) for row in table} == known


def test_codedmap_has_every_row_that_has_an_answer(table):
    for workers, case, rows, libraries in cases():
        for name in libraries:
            row = lines(table, workers, case)[name]
            if name.startswith("codedmap"):
                failing = 4 if "segfaults" in case else 0
                assert int(row["exact"]) == rows - failing, (case, row)
                assert row["failed"] == (str(failing) if failing else ""), (case, row)
                assert row["missing"] == row["never ends"] == "", (case, row)
                # Where no rival ends there is none to compare with.
                assert float(row["ratio"] or 0) > 0 or row["best rival"] == "", (case, row)


def test_rows_that_fail_are_those_that_raise_or_end_their_worker(table):
    row = lines(table, "3 sleeping", "20 rows, 3 raise, 1 segfaults")["codedmap"]
    assert row["lost rows"] == "2 6 9 16"
    assert set(row["raised"].split()) == {"ValueError", "WorkerCrashed"}


def test_every_figure_is_positive(table):
    for row in table:
        assert row["never ends"] or float(row["ms"]) > 0, row


def test_on_clusters_every_row_is_exact(tmp_path):
    table = table_of("cluster_rows", tmp_path)
    for name in ("Dask", "Ray"):
        for case, rows in list(SLEEPING.items())[:6]:
            row = lines(table, f"3 of {name}", case)[f"codedmap on {name}"]
            assert int(row["exact"]) == rows, (case, row)
    assert len(table) == 24
