"""A progress bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..contracts.stopping import Progress

__all__ = ["Showing", "shown", "shown_rows"]

Showing = AbstractContextManager[Callable[[Progress], None]]
"""Entered, a function to call with each `Progress` of a wave."""


@contextmanager
def shown(wanted: bool) -> Iterator[Callable[[Progress], None]]:
    """A function to call with each `Progress`; draws on the error stream if that is a terminal."""
    with _bar(wanted, "{task.completed:,.0f}/{task.total:,.0f} answered", 0) as update:

        def show(seen: Progress) -> None:
            rest = f"{len(seen.running)} running"
            if seen.failed:
                rest += f", {len(seen.failed)} failed"
            update(completed=len(seen.answered), total=len(seen.asked), rest=rest)

        yield show


@contextmanager
def shown_rows(
    wanted: bool, total: int | None
) -> Iterator[tuple[Callable[[Progress], None], Callable[[int, str], None]]]:
    """Functions to call with each `Progress` of a wave, and with rows done and a word on them."""
    label = (
        "{task.completed:,.0f} rows"
        if total is None
        else "{task.completed:,.0f}/{task.total:,.0f} rows"
    )
    with _bar(wanted, label, total, remaining=total is not None) as update:
        so_far = ""

        def show(seen: Progress) -> None:
            now = f"{len(seen.answered)}/{len(seen.asked)} answered"
            update(rest=f"{now}; {so_far}" if so_far else now)

        def tell(rows: int, word: str) -> None:
            nonlocal so_far
            so_far = word
            update(completed=rows, rest=word)

        yield show, tell


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
