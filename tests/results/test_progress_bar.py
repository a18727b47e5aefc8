"""Progress of a job, as it stands on a terminal, in a notebook and in a file."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace

import pytest

from codedmap.results import progress_bar
from codedmap.results.progress_bar import job_progress, show_line


class Terminal(io.StringIO):
    """A terminal, of which ``lines`` are what stands on it."""

    encoding = "utf-8"

    def isatty(self):
        return True

    @property
    def lines(self):
        lines, row, column = [""], 0, 0
        for code, char in re.findall(r"\x1b\[\??([\d;]*[A-Za-z])|([^\x1b])", self.getvalue()):
            if code == "2K":  # clear the line
                lines[row] = ""
            elif code.endswith("A"):  # up
                row -= int(code[:-1])
            elif char == "\r":
                column = 0
            elif char == "\n":
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            elif char:
                lines[row] = lines[row].ljust(column)[:column] + char + lines[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines if line.strip()]


def on_terminal(monkeypatch, terminal=None):
    """A terminal in place of the streams, from now on: pytest has streams of its own for fixtures."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal() if terminal is None else terminal
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    return terminal


@pytest.fixture
def clock(monkeypatch):
    """The time, which goes on only if it is told to."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def job(done=0, failed=0, running=0, hedged=0, *, crashed=0, seconds=8.0, longest=("row 7", 3.0)):
    return SimpleNamespace(
        counts=(done, failed, running, hedged), crashed=crashed, seconds=seconds, longest=longest
    )


SAID = [
    (job(running=2, longest=("", 0.9)), 20, "0 of 20 rows after 8 s, starting workers"),
    (job(running=2, longest=("row 7", 1.0)), 20, "0 of 20 rows after 8 s, 2 running"),
    (job(4, running=2), 20, "4 of 20 rows after 8 s, 2 running, about 32 s left"),
    (job(4, running=2), None, "4 rows after 8 s, 2 running"),
    (job(3, 1, 2), 20, "3 of 20 rows after 8 s, 2 running, 1 failed, about 32 s left"),
    (job(0, 2, 1), 4, "0 of 4 rows after 8 s, 1 running, 2 failed, about 8 s left"),
    (job(2, 2, 1), 8, "2 of 8 rows after 8 s, 1 running, 2 failed, about 8 s left"),
    (job(1, 0, 1, crashed=1), 2, "1 of 2 rows after 8 s, 1 running, 1 crashed, about 8 s left"),
    (job(running=1, crashed=2), 9, "0 of 9 rows after 8 s, 1 running, 2 crashed"),
    (job(2, 2, 1, crashed=4), 4, "2 of 4 rows after 8 s, 1 running, 2 failed, 4 crashed, about 0 s left"),
    (
        job(1500, running=1200, hedged=3, longest=("row 7", 9.9)), 3000,
        "1,500 of 3,000 rows after 8 s, 1,200 running, 3 hedged, about 8 s left",
    ),
    (
        job(1, running=1, longest=("row 7", 10.0)), 2,
        "1 of 2 rows after 8 s, 1 running (row 7 for 10 s), about 8 s left",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "total", "said"), SAID)
def test_a_line_says_how_the_job_stands(seen, total, said, clock, capsys):
    with job_progress(True, total) as show:
        clock.now = 10.0
        show(seen)
    assert capsys.readouterr().err == f"codedmap: {said}\n"


def test_a_line_comes_every_ten_seconds(clock, capsys):
    with job_progress(True, 100) as show:
        for second in range(36):
            clock.now = float(second)
            show(job(second, running=1, seconds=clock.now))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        f"codedmap: {n} of 100 rows after {n} s" for n in (10, 20, 30)
    ]


def test_a_line_is_written_at_once_where_the_stream_is_a_file(clock, monkeypatch, tmp_path):
    path = tmp_path / "log"
    with path.open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        with job_progress(True, 100) as show:
            clock.now = 10.0
            show(job(5, running=1))
            assert "5 of 100 rows" in path.read_text()


@pytest.mark.parametrize(("seen", "total", "said"), SAID)
def test_a_bar_says_the_same(seen, total, said, monkeypatch):
    terminal = on_terminal(monkeypatch)
    with job_progress(None, total) as show:
        show(seen)
    # It is drawn a last time before it is wiped out.
    line = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", terminal.getvalue()).split()
    line = " ".join(line[len(line) - line[::-1].index("rows") - 2 :])
    ended = sum(seen.counts[:2])
    of = "" if total is None else f"/{total:,}"
    rest = re.escape(said.partition(" s, ")[2].partition(", about")[0])
    times = r"\d:\d\d:\d\d" + r" [-\d]:[-\d]{2}:[-\d]{2}" * (total is not None)  # so far, and left
    assert re.fullmatch(rf"{ended:,}{of} rows [╺╸━]+( [╺╸━]+)? {rest} {times}", line)


def test_a_bar_in_a_narrow_terminal_has_its_times(monkeypatch):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "40")
    with job_progress(None, 29) as show:
        show(job(17, running=2))
    assert re.search(r"17/29 rows .*2 running .*0:00:00.*-:--:--", terminal.getvalue())


@pytest.mark.parametrize("file", ["stdout", "stderr"])
def test_what_is_printed_meanwhile_stays_and_the_bar_does_not(file, monkeypatch):
    terminal = on_terminal(monkeypatch)
    with job_progress(None, 20) as show:
        assert terminal.lines[-1].startswith("0/20 rows")
        for done in range(4):
            print(f"line {done}", file=getattr(sys, file))
            show(job(done, running=2))
        assert terminal.lines[-1].startswith(("0/20 rows", "3/20 rows"))
    assert terminal.lines == [f"line {done}" for done in range(4)]


@pytest.mark.parametrize(
    ("wanted", "tty", "notebook", "widgets", "shown"),
    [
        (None, False, False, False, "nothing"),
        (None, True, False, False, "a bar"),
        (True, False, False, True, "lines"),
        (True, True, False, False, "a bar"),
        (False, True, False, False, "nothing"),
        (False, True, True, True, "nothing"),
        (None, False, True, False, "lines"),
        (None, True, True, True, "a bar"),
        (True, True, True, False, "lines"),
    ],
)
def test_where_there_is_a_bar_and_where_there_are_lines(
    wanted, tty, notebook, widgets, shown, clock, monkeypatch
):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(Terminal, "isatty", lambda self: tty)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(progress_bar, "find_spec", lambda name: sys if widgets else None)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with job_progress(wanted, 20) as show:
        clock.now = 10.0
        show(job(4, running=2))
        last = terminal.lines[-1:]
    assert sys.stdout.getvalue() == ""
    kinds = {"codedmap:": "lines", "0/20": "a bar", "4/20": "a bar"}
    assert [kinds[line.split()[0]] for line in last] == [shown] * (shown != "nothing")


class Output:
    """In place of that of ipywidgets."""

    def __enter__(self):
        pass

    def __exit__(self, *raised):
        pass

    def clear_output(self, wait):
        pass

    def close(self):
        pass


def test_a_bar_in_a_notebook_is_no_wider_than_a_cell(clock, monkeypatch):
    on_terminal(monkeypatch)
    monkeypatch.delenv("COLUMNS")
    monkeypatch.delenv("JUPYTER_COLUMNS", raising=False)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setitem(sys.modules, "ipywidgets", SimpleNamespace(Output=Output))
    ipython = SimpleNamespace(display=lambda shown: None)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=ipython))
    monkeypatch.setattr(progress_bar, "find_spec", lambda name: sys)
    texts: list[str] = []
    monkeypatch.setattr("rich.jupyter.display", lambda segments, text: texts.append(text))
    with job_progress(None, 20):
        pass
    # rich 13.0 begins with what hides the cursor.
    line = re.sub(r"\x1b\[[\d;?]*[a-z]", "", "".join(texts)).splitlines()[0]
    assert line.startswith("0/20 rows")
    assert line.rstrip().endswith("0:00:00 -:--:--")
    assert len(line) == 80


@pytest.mark.parametrize("stream", [None, "closed"])
@pytest.mark.parametrize("wanted", [None, True])
def test_no_job_ends_because_its_progress_cannot_be_shown(stream, wanted, clock, monkeypatch):
    if stream == "closed":
        stream = Terminal()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    with job_progress(wanted, 20) as show:
        clock.now = 10.0
        show(job(4, running=2))
    show_line("what a worker has printed")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "caf\\xe9"), ("utf-8", "café")])
def test_lines_of_workers_are_shown_as_far_as_they_can_be(encoding, shown, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    show_line("café")
    sys.stdout.seek(0)
    assert sys.stdout.read() == f"{shown}\n"


def test_lines_are_shown_by_a_stream_of_no_encoding(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    show_line("café")
    assert sys.stdout.getvalue() == "café\n"


@pytest.mark.parametrize("wanted", [None, True])
def test_a_stream_that_a_program_has_replaced_need_only_be_written_to(wanted, clock, monkeypatch):
    written: list[str] = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=written.append))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=written.append))
    with job_progress(wanted, 20) as show:
        clock.now = 10.0
        show(job(4, running=2))
    show_line("of a worker")
    assert ("4 of 20 rows" in "".join(written)) == bool(wanted)
    assert "of a worker" in written
