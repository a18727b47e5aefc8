"""Faults that `make mutants` puts into the package: small, of code that compiles, reproducible."""

from __future__ import annotations

import ast
from argparse import Namespace
from pathlib import Path

import pytest
from mutants.__main__ import drawn_faults, equivalent, report
from mutants.faults import Fault, faults
from mutants.rooms import ROOT, ROWS, every_fault, every_file
from mutants.runs import Copy, Run

FILE = Path("a.py")


@pytest.mark.parametrize(
    ("line", "faulty"),
    [
        ("return a < b", {"return a <= b", "return a >= b"}),
        ("return (λ) or (b)", {"return (λ) and (b)"}),
        ("return a not in b", {"return a in b"}),
        ("return a < b != c", {"return a <= b != c", "return a >= b != c", "return a < b == c"}),
        ("return not a", {"return a"}),
        ("return -a", {"return a"}),
        ("return -1", {"return 1"}),
        ("return a - (b)", {"return a + (b)"}),
        ("return 'λ', 2", {"return 'λ', 3", "return 'λ', 1"}),
        ("return 0, True", {"return 1, True", "return 0, False"}),
        ("return 0.5, 0.0", {"return 1.0, 0.0", "return 0.5, 1.0"}),
        ("a += b", {"a -= b", "pass"}),
        ("a.add(b)", {"pass"}),
        ("a[b] = c", {"pass"}),
        ("a = b", set()),
        ("while a: break", {"while a: continue"}),
        ("'''Of 1 < 2 and 3.'''", set()),
        ("raise ValueError(f'{a + 1} is less than {b}', 1)", set()),
        ("a = f'{b + 1}' + (f', {c}' if b else '')", set()),
        ("a: int | None = b", set()),
        ("assert a < 1", set()),
        ("return zip(a, b, strict=True)", set()),
        ("return a.sum(axis=1), a.shape[2:]", set()),
    ],
)
def test_what_can_be_wrong_in_a_line(line, faulty):
    assert {fault.after for fault in faults(FILE, f"def f():\n    {line}\n")} == faulty


def test_named_constants_of_a_module_are_settings():
    assert not list(faults(FILE, "_FAR = 4.0\n__all__ = ['f', 'g'][:1]\n"))


def test_all_other_lines_stay_where_they_are():
    text = "def f():\n    a.add(\n        b,\n    )\n    return (\n        λ  # or not\n        and b\n    )\n"
    dropped, turned = faults(FILE, text)
    assert dropped.source == text.replace("a.add(\n        b,\n    )", "pass\n\n")
    assert turned.source == text.replace("and", "or")
    assert (turned.line, turned.before, turned.after) == (7, "and b", "or b")


@pytest.fixture(scope="module")
def every():
    """Room, tests and fault, for all of the package."""
    return [*every_fault()]


@pytest.mark.slow
def test_faults_of_the_package_compile(every):
    assert len(every) == len(set(every)) > 5_000
    for _, _, fault in every[::100]:
        assert ast.dump(ast.parse(fault.source)) != ast.dump(
            ast.parse((ROOT / fault.path).read_text())
        )


def test_a_sample_stays_the_same_while_its_lines_do():
    text = "def f(a):\n    return a < 1\n\n\ndef g(a):\n    return a < 1\n"
    moved = "import b\n\n\n" + text.replace("g(a):\n    return a < 1", "g(a):\n    return a or 1")
    draws, others = ([fault.draw(7) for fault in faults(FILE, t)] for t in (text, moved))
    assert len(set(draws)) == 8
    assert others[:4] == draws[:4]
    assert not set(draws) & {fault.draw(8) for fault in faults(FILE, text)}


def test_faults_are_spread_over_the_rooms_and_equivalent_ones_are_not_drawn(every, monkeypatch):
    monkeypatch.setattr("mutants.__main__.every_fault", lambda: iter(every))
    options = Namespace(faults=5, seed=0, at=None)
    first = drawn_faults(["latency", "codes"], options, {})
    assert [room for room, _, _ in first] == ["latency"] * 2 + ["codes"] * 3
    key = first[0][2].key
    assert key not in [
        one[2].key for one in drawn_faults(["latency", "codes"], options, {key: "why"})
    ]


@pytest.mark.parametrize(("wanted", "code"), [(0.5, 0), (0.6, 1)])
@pytest.mark.parametrize("room", ["all", "codes"])
def test_it_fails_where_fewer_are_found_than_wanted(wanted, code, room, capsys):
    lines = [Fault(FILE, n, f"{n}", f"{n + 1}", "", 0) for n in range(3)]
    drawn = [("codes", "tests", fault) for fault in lines]
    runs = [Run("test_a", 1.0), Run(None, 1.0), Run(None, 1.0)]
    known = equivalent("# a comment\n\na.py\n- 2\n+ 3\nOf no\nconsequence.\n")
    assert report(drawn, runs, {room: wanted}, known) == code
    shown = capsys.readouterr().out
    assert "codes: a.py:1\n- 1\n+ 2\n" in shown
    assert "equivalent: Of no consequence." in shown
    assert shown.splitlines()[-1].split()[:5] == ["all", "2", "1", "1", "50%"]


def test_what_the_tables_name_is_there(every):
    for _, tests in ROWS:
        assert [t for t in tests.split() if not (ROOT / "tests" / t).exists()] == []
    known = equivalent((ROOT / "mutants" / "equivalent.txt").read_text())
    assert all(known.values())
    stale = set(known) - {fault.key for _, _, fault in every}
    assert not stale, "these lines have changed: judge them again in mutants/equivalent.txt"


def test_every_file_stands_in_one_row_but_some_engines():
    package = ROOT / "src" / "codedmap"
    listed = [path for path, _ in every_file()]
    assert len(listed) == len(set(listed))
    for path in set(package.rglob("*.py")) - set(listed):
        first = path.relative_to(package).parts[0]
        assert first in ("engines", "__main__.py") or not list(faults(path, path.read_text()))


@pytest.mark.slow
def test_tests_run_in_a_copy_until_one_fails(tmp_path):
    path = "src/codedmap/codes/lagrange.py"
    text = (ROOT / path).read_text()
    source = text.replace(
        "- self.stragglers < self.threshold", "- self.stragglers <= self.threshold"
    )
    fault = Fault(Path(path), 1, "", "", source, 0)
    copy = Copy(tmp_path)
    tests = "codes/test_lagrange.py"
    assert "workers_as_answers_are_needed" in copy.run(tests, 60.0, fault).failed
    assert copy.run(tests, 60.0).failed is None
    assert copy.run(tests, 0.1).failed == "out of time"
    assert copy.run("codes/test_nothing.py", 60.0).failed == "exit code 4"
