"""Why rows and payloads have failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engines.transport.failure import Failure
from ..errors import WorkerLost, many


class Failures(dict[int, BaseException]):
    """Exceptions by row or slot; pickled as workers send them, because Python cannot unpickle every exception."""

    def __reduce__(self) -> Any:
        return _unpacked, ({number: Failure.of(error) for number, error in self.items()},)


def _unpacked(failures: Mapping[int, Failure]) -> Failures:
    return Failures({number: failure.to_exception() for number, failure in failures.items()})


class FirstErrors:
    """Whether the first rows of a job that end, ``most`` or all, raise exceptions of one type; ``most``: None for never."""

    def __init__(self, most: int | None) -> None:
        self._most, self._kind = most, ""
        self._rows = 0  # that have raised
        self.last: tuple[int, BaseException] | None = None
        """The last row that has raised, and what."""

    def add(self, row: int, error: BaseException) -> None:
        """Note what a row raised, while none has an answer."""
        # A class of the caller's may be another object on its way back from each worker.
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        if isinstance(error, WorkerLost) or kind != (self._kind or kind):
            self.stop()
        self._kind, self.last = kind, (row, error)
        self._rows += 1

    def stop(self) -> None:
        """Note that a row has ended otherwise."""
        self._most = None

    def enough(self, of: int | None) -> str:
        """What has happened, in words, if it is enough; else nothing. ``of``: how many rows there are, if that is known."""
        if (
            self._most is None
            or self.last is None
            or self._rows < min(self._most, of or self._most)
        ):
            return ""
        which = "all" if self._rows == of else "the first"
        named = "the only row" if of == 1 else f"{which} {many(self._rows, 'row')}"
        return f"{named} raised {type(self.last[1]).__name__}, and none has an answer: "
