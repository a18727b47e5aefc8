"""A job of `map` or `stream`: it runs, and makes results."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import cast

from ..results.map_result import MapResult
from .budget import Budget
from .live import LiveJob

__all__ = ["MapJob"]

_SHOWING = 0.1  # the share of the time that results before the last may take


class MapJob:
    """A job of `map`.

    Parameters
    ----------
    live : LiveJob
    show : callable
        Called with the `LiveJob` after each event.
    """

    def __init__(self, live: LiveJob, show: Callable[[LiveJob], None]) -> None:
        self.live = live
        self._show = show

    def so_far(self) -> MapResult | None:
        """What is known while the job goes on, or None if that is nothing."""
        raise NotImplementedError

    def result(self) -> MapResult:
        """What the job came to."""
        raise NotImplementedError

    def run(self) -> MapResult:
        """Run the job to its end."""
        for _ in self.live.run(self._show):
            pass
        return self.result()

    def stream(self, stack: ExitStack) -> Generator[MapResult, None, None]:
        """Results while the job runs, and the last one; the stack is closed at the end."""
        results = self._results(stack)
        next(results)  # starts the job; from then on closing it abandons
        return cast("Generator[MapResult, None, None]", results)

    def _results(self, stack: ExitStack) -> Generator[MapResult | None, None, None]:
        live = self.live
        with stack:
            budget, shown = Budget(live, _SHOWING), 0
            steps = live.run(self._show)
            yield next(steps)
            for _ in steps:
                ended = live.scheduler.outcome is not None
                if ended or live.busy or live.answers == shown or not budget.allows():
                    continue
                shown = live.answers
                with budget:
                    result = self.so_far()
                if result is not None:
                    yield result
            yield self.result()
