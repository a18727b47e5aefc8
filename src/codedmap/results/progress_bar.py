"""A progress bar on a terminal; elsewhere nothing is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

_OFTEN = 0.1  # seconds between two changes of a bar
_STARTING = "starting workers"  # until the first answer: they import what the function needs
_SELDOM = 10.0  # seconds between two lines where there is no terminal


class RunningJob(Protocol):
    """What is shown; see `LiveJob`."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Done, failed, running, and hedges in flight."""
        ...

    @property
    def seconds(self) -> float:
        """Since it began."""
        ...


@contextmanager
def job_progress(
    wanted: bool | None, total: int | None, unit: str = "rows"
) -> Iterator[Callable[[RunningJob], None]]:
    """A function that shows a job on the error stream: a bar on a terminal, elsewhere a line every 10 s.

    By default (None is ``wanted``) on a terminal and in a notebook only. ``total`` is of what `RunningJob.counts` counts,
    in ``unit``; None: it is not known.
    """
    if wanted is False or not (wanted or _is_shown()):
        yield lambda job: None
    elif _is_shown():
        of = "" if total is None else f"/{total:,}"
        with _bar(f"{{task.completed:,.0f}}{of} {unit}", total) as update:
            update(rest=_STARTING)
            often = _Seldom(_OFTEN, at_once=True)

            def show(job: RunningJob) -> None:
                if often.due():
                    done, failed, _, _ = job.counts
                    update(completed=done + failed, rest=_described(job))

            yield show
    else:
        seldom = _Seldom(_SELDOM)

        def tell(job: RunningJob) -> None:
            if seldom.due():
                print(_line(job, total, unit), file=sys.stderr, flush=True)

        yield tell


class _Seldom:
    """Says whether so many seconds have passed since it last said so."""

    def __init__(self, seconds: float, *, at_once: bool = False) -> None:
        self._seconds = seconds
        self._due = 0.0 if at_once else time.monotonic() + seconds

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + self._seconds
        return True


def _is_shown() -> bool:
    """Whether the error stream is a terminal or a notebook's."""
    return "ipykernel" in sys.modules or bool(sys.stderr and sys.stderr.isatty())


def _line(job: RunningJob, total: int | None, unit: str) -> str:
    done, failed, _, _ = job.counts
    left = ""
    if total is None:
        return f"codedmap: {done:,} {unit} after {job.seconds:.0f} s, {_described(job)}"
    if done + failed:
        seconds = job.seconds * (total - done - failed) / (done + failed)
        left = f", about {seconds:.0f} s left"
    return (
        f"codedmap: {done:,} of {total:,} {unit} after {job.seconds:.0f} s, {_described(job)}{left}"
    )


def _described(job: RunningJob) -> str:
    done, failed, running, hedged = job.counts
    if not done + failed:
        return _STARTING
    parts = [f"{running:,} running"]
    if failed:
        parts.append(f"{failed:,} failed")
    if hedged:
        parts.append(f"{hedged:,} hedged")
    return ", ".join(parts)


@contextmanager
def _bar(label: str, total: int | None) -> Iterator[Callable[..., Any]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        TextColumn(label),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[rest]}"),
        TimeElapsedColumn(),
        *((TimeRemainingColumn(),) if total is not None else ()),
    )
    shown = console.is_terminal or console.is_jupyter
    with Bar(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=total, rest="")
        yield lambda **changes: bar.update(task, **changes)
