"""Why rows and payloads have failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engines.transport.failure import Failure


class Failures(dict[int, BaseException]):
    """Exceptions by row or slot; pickled as workers send them, because Python cannot unpickle every exception."""

    def __reduce__(self) -> Any:
        return _unpacked, ({number: Failure.of(error) for number, error in self.items()},)


def _unpacked(failures: Mapping[int, Failure]) -> Failures:
    return Failures({number: failure.to_exception() for number, failure in failures.items()})
