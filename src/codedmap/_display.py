"""A progress bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ._rules import Progress

__all__ = ["shown"]


@contextmanager
def shown(wanted: bool, workers: int) -> Iterator[Callable[[Progress], None]]:
    """A function to call with each `Progress`; draws on the error stream if that is a terminal."""
    if not wanted:
        yield lambda seen: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.completed:.0f}/{task.total:.0f} answered"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[rest]}"),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=workers, rest="")

        def show(seen: Progress) -> None:
            rest = f"{len(seen.running)} running"
            if seen.failed:
                rest += f", {len(seen.failed)} failed"
            bar.update(task, completed=len(seen.answered), total=len(seen.asked), rest=rest)

        yield show
