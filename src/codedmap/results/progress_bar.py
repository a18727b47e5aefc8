"""A progress bar on a terminal; elsewhere nothing is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol

from ..contracts.stopping import Progress

__all__ = ["JobProgress", "ProgressDisplay", "progress_bar", "row_progress_bar"]

_OFTEN = 0.1  # seconds between two changes of a bar
_STARTING = "starting workers"  # until the first answer: they import what the function needs
_SELDOM = 10.0  # seconds between two lines where there is no terminal

ProgressDisplay = AbstractContextManager[Callable[[Progress], None]]
"""A context manager that gives a function to call with each `Progress` of a wave."""


@contextmanager
def progress_bar(wanted: bool | None) -> Iterator[Callable[[Progress], None]]:
    """A `ProgressDisplay` that draws on the error stream if that is a terminal or a notebook's."""
    if wanted is None:
        wanted = "ipykernel" in sys.modules or bool(sys.stderr and sys.stderr.isatty())
    with _bar(wanted, "{task.completed:,.0f}/{task.total:,.0f} answered", 0) as update:

        def show(seen: Progress) -> None:
            rest = f"{len(seen.running)} running"
            if seen.failed:
                rest += f", {len(seen.failed)} failed"
            update(completed=len(seen.answered), total=len(seen.asked), rest=rest)

        yield show


@contextmanager
def row_progress_bar(
    wanted: bool, total: int | None
) -> Iterator[tuple[Callable[[_RunningJob], None], Callable[[int, str], None]]]:
    """Functions to call with the job of a wave, and with the rows done and a note on them."""
    label = (
        "{task.completed:,.0f} rows"
        if total is None
        else "{task.completed:,.0f}/{task.total:,.0f} rows"
    )
    with _bar(wanted, label, total, remaining=total is not None) as update:
        note = ""

        def show(job: _RunningJob) -> None:
            now = _described(job)
            update(rest=f"{now}; {note}" if note else now)

        def show_rows(rows: int, new_note: str) -> None:
            nonlocal note
            note = new_note
            update(completed=rows, rest=note)

        yield show, show_rows


@contextmanager
def _bar(
    wanted: bool, label: str, total: int | None = None, *, remaining: bool = False
) -> Iterator[Callable[..., Any]]:
    if not wanted:
        yield lambda **changes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        TextColumn(label),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[rest]}"),
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if remaining else ()),
    )
    shown = console.is_terminal or console.is_jupyter
    with Bar(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=total, rest="")
        yield lambda **changes: bar.update(task, **changes)


class _RunningJob(Protocol):
    """What `JobProgress` shows; see `LiveJob`."""

    @property
    def counts(self) -> tuple[int, int, int, int]: ...

    @property
    def seconds(self) -> float: ...


class JobProgress:
    """The progress of a job on the error stream: a bar on a terminal, elsewhere a line every 10 s.

    Parameters
    ----------
    wanted : bool or None
        None: on a terminal and in a notebook only.
    total : int
        Of what `LiveJob.counts` counts.
    unit : str
        What that is, in the plural.
    """

    def __init__(self, wanted: bool | None, total: int, unit: str = "rows") -> None:
        self._wanted, self._total, self._unit = wanted, total, unit
        self._bar: Any = None
        self._task: Any = None
        self._due = 0.0

    def __enter__(self) -> Callable[[_RunningJob], None]:
        if self._wanted is False:
            return lambda job: None
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_terminal or console.is_jupyter:
            self._open(console)
            return self._show
        if self._wanted:
            self._due = time.monotonic() + _SELDOM
            return self._print
        return lambda job: None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _open(self, console: Any) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn(f"{{task.completed:,.0f}}/{{task.total:,.0f}} {self._unit}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rest]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=self._total, rest=_STARTING)
        self._bar.start()

    def _show(self, job: _RunningJob) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _OFTEN
            exact, failed, _, _ = job.counts
            self._bar.update(self._task, completed=exact + failed, rest=_described(job))

    def _print(self, job: _RunningJob) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _SELDOM
            exact, failed, _, _ = job.counts
            left = ""
            if exact + failed:
                seconds = job.seconds * (self._total - exact - failed) / (exact + failed)
                left = f", about {seconds:.0f} s left"
            print(
                f"codedmap: {exact:,} of {self._total:,} {self._unit} after {job.seconds:.0f} s, "
                f"{_described(job)}{left}",
                file=sys.stderr,
                flush=True,
            )


def _described(job: _RunningJob) -> str:
    exact, failed, running, hedged = job.counts
    if not exact + failed:
        return _STARTING
    parts = [f"{running:,} running"]
    if failed:
        parts.append(f"{failed:,} failed")
    if hedged:
        parts.append(f"{hedged:,} hedged")
    return ", ".join(parts)
