"""Progress of a job: a bar on a terminal and in a notebook, or lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import find_spec
from typing import Any

_OFTEN = 0.1  # seconds between two changes of a bar
_STARTING = "starting workers"  # shown until a call runs: workers import what fn needs first
_BEGUN = 1.0  # seconds that the first calls must have run to be shown as running
_SELDOM = 10.0  # seconds between two lines where there is no terminal
_TIME = len("0:00:00")  # columns of a time
_NOTEBOOK = 80  # columns of a bar in a notebook
_UNWRITABLE = OSError, ValueError  # raised by a stream that is closed, or whose terminal is gone


@contextmanager
def job_progress(
    wanted: bool | None, total: int | None, unit: str = "rows"
) -> Iterator[Callable[[Any], None]]:
    """A function that shows a job on the error stream: a bar on a terminal, elsewhere a line every 10 s.

    Rich draws bars in a notebook by ipywidgets; without it there are lines. If ``wanted`` is None, only on a terminal and
    in a notebook. ``total`` is the number of ``unit`` that `LiveJob.counts` counts to; None: it is not known.
    """
    shown = wanted is not False and _is_shown()
    if not (wanted or shown):
        yield lambda job: None
        return
    drawn = shown and ("ipykernel" not in sys.modules or find_spec("ipywidgets") is not None)
    seconds, due = (_OFTEN, 0.0) if drawn else (_SELDOM, time.monotonic() + _SELDOM)

    def show(job: Any) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + seconds
            with suppress(*_UNWRITABLE):
                print_or_draw(job)

    with _bar(total, unit) if drawn else nullcontext(_printed(total, unit)) as print_or_draw:
        yield show


def show_line(line: str) -> None:
    """Print a line of a worker; what the output stream cannot show is escaped or left out, so that no job fails by it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with suppress(*_UNWRITABLE):
        print(line.encode(encoding, "backslashreplace").decode(encoding))


def _is_shown() -> bool:
    """Whether the error stream is a terminal or a notebook's."""
    with suppress(*_UNWRITABLE):
        # A program may have replaced it by an object that can only be written to.
        return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", bool)())
    return False


def _printed(total: int | None, unit: str) -> Callable[[Any], None]:
    """A function that prints a line about a job."""

    def show(job: Any) -> None:
        ended = sum(job.counts[:2])
        of = "" if total is None else f" of {total:,}"
        left = ""
        if total is not None and ended:
            left = f", about {job.seconds * (total - ended) / ended:.0f} s left"
        line = f"codedmap: {job.counts[0]:,}{of} {unit} after {job.seconds:.0f} s, {_described(job)}{left}"
        print(line, file=sys.stderr, flush=hasattr(sys.stderr, "flush"))

    return show


def _described(job: Any) -> str:
    done, failed, running, hedged = job.counts
    longest, seconds = job.longest
    if not done + failed + job.crashed and seconds < _BEGUN:
        return _STARTING
    parts = [f"{running:,} running{f' ({longest} for {seconds:.0f} s)' * (seconds >= _SELDOM)}"]
    if failed:
        parts.append(f"{failed:,} failed")
    if hedged:
        parts.append(f"{hedged:,} hedged")
    if job.crashed:
        parts.append(f"{job.crashed:,} crashed")
    return ", ".join(parts)


@contextmanager
def _bar(total: int | None, unit: str) -> Iterator[Callable[[Any], None]]:
    """A function that draws a job as a bar."""
    from rich import progress
    from rich.console import Console
    from rich.table import Column

    console = Console(stderr=True)
    if console.is_jupyter and "JUPYTER_COLUMNS" not in os.environ:
        console.width = _NOTEBOOK  # rich's 115 are more than a cell shows, and the times come last
    clock = Column(no_wrap=True, min_width=_TIME)  # in a narrow terminal the bar is shorter
    of = "" if total is None else f"/{total:,}"
    columns = (
        progress.TextColumn(f"{{task.completed:,.0f}}{of} {unit}"),
        progress.BarColumn(bar_width=None),
        progress.TextColumn("{task.fields[rest]}"),
        progress.TimeElapsedColumn(clock),
        *([progress.TimeRemainingColumn(table_column=clock.copy())] if total is not None else []),
    )
    shown = console.is_terminal or console.is_jupyter
    redirected = not console.is_jupyter  # a notebook shows what workers print beside the bar
    bar = progress.Progress(
        *columns,
        console=console,
        transient=True,
        disable=not shown,
        redirect_stdout=redirected,
        redirect_stderr=redirected,
    )
    task = bar.add_task("", total=total, rest=_STARTING)
    try:
        with suppress(*_UNWRITABLE):
            bar.start()
        yield lambda job: bar.update(task, completed=sum(job.counts[:2]), rest=_described(job))
    finally:
        with suppress(*_UNWRITABLE):
            bar.stop()
