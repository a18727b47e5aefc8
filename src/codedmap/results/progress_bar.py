"""Progress on the error stream: one line, drawn again and again, on a terminal, elsewhere a line every 10 s."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

_OFTEN = 0.1  # seconds between two drawings of the line on a terminal
_SELDOM = 10.0  # seconds between two lines where there is no terminal
_STARTING = "starting workers"  # until the first answer: they import what the function needs
_WIDTH = 20  # characters of the bar
_ERASED = "\r\x1b[K"


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
    drawn = _is_shown()
    if wanted is False or not (wanted or drawn):
        yield lambda job: None
        return
    pause = _OFTEN if drawn else _SELDOM
    due = time.monotonic() + (0.0 if drawn else _SELDOM)

    def show(job: RunningJob) -> None:
        nonlocal due
        now = time.monotonic()
        if now >= due:
            due = now + pause
            bar, text = _line(job, total, unit)
            if drawn:
                _draw(f"{bar} {text}" if bar else text)
            else:
                print(f"codedmap: {text}", file=sys.stderr, flush=True)

    if drawn:
        _draw(_STARTING)
    try:
        yield show
    finally:
        if drawn:
            _draw("")


def _is_shown() -> bool:
    """Whether the error stream is a terminal or a notebook's."""
    return "ipykernel" in sys.modules or bool(sys.stderr and sys.stderr.isatty())


def _draw(text: str) -> None:
    width = shutil.get_terminal_size().columns - 1  # a longer line could not be erased
    print(f"{_ERASED}{text[:width]}", end="", file=sys.stderr, flush=True)


def _line(job: RunningJob, total: int | None, unit: str) -> tuple[str, str]:
    """A bar, empty if it is not known how many there are, and what is known in words."""
    done, failed, running, hedged = job.counts
    ended = done + failed
    of = "" if total is None else f" of {total:,}"
    parts = [f"{done:,}{of} {unit} after {job.seconds:.0f} s"]
    if not ended:
        return "", f"{parts[0]}, {_STARTING}"
    parts.append(f"{running:,} running")
    parts += [
        f"{count:,} {what}" for count, what in ((failed, "failed"), (hedged, "hedged")) if count
    ]
    if total is None:
        return "", ", ".join(parts)
    parts.append(f"about {job.seconds * max(0, total - ended) / ended:.0f} s left")
    return f"[{'#' * (_WIDTH * ended // total):-<{_WIDTH}}]", ", ".join(parts)
