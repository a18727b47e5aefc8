"""A progress bar on a terminal; elsewhere nothing is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..contracts.stopping import Progress

__all__ = ["ProgressDisplay", "progress_bar", "row_progress_bar"]

ProgressDisplay = AbstractContextManager[Callable[[Progress], None]]
"""A context manager that gives a function to call with each `Progress` of a wave."""


@contextmanager
def progress_bar(wanted: bool) -> Iterator[Callable[[Progress], None]]:
    """A `ProgressDisplay` that draws on the error stream if that is a terminal."""
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
) -> Iterator[tuple[Callable[[Progress], None], Callable[[int, str], None]]]:
    """Functions to call with each `Progress` of a wave, and with the rows done and a note on them."""
    label = (
        "{task.completed:,.0f} rows"
        if total is None
        else "{task.completed:,.0f}/{task.total:,.0f} rows"
    )
    with _bar(wanted, label, total, remaining=total is not None) as update:
        note = ""

        def show(seen: Progress) -> None:
            now = f"{len(seen.answered)}/{len(seen.asked)} answered"
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
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, rest="")
        yield lambda **changes: bar.update(task, **changes)
