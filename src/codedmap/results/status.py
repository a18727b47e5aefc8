"""What is known of a row."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import numpy as np

from ..errors import NotEnoughAnswers


class Status(enum.IntEnum):
    """Of each row of a result."""

    EXACT = 0
    """Answered on its own input, and not rejected."""
    ESTIMATED = 1
    """Estimated from other answers, with a standard error."""
    FAILED = 2
    """It raised, ended its workers, or ran beyond ``call_timeout``: see `MapResult.failures`."""
    MISSING = 3
    """No answer, and no estimate."""


def counts_in_words(status: np.ndarray) -> str:
    """How many rows there are of each `Status`, of those that there are."""
    counts = ((one.name.lower(), int((status == one).sum())) for one in Status)
    return ", ".join(f"{count:,} {name}" for name, count in counts if count)


def check_known(status: np.ndarray, failures: Mapping[int, BaseException]) -> None:
    """Raise `NotEnoughAnswers` if a row is FAILED or MISSING."""
    failed, missing = (int((status == one).sum()) for one in (Status.FAILED, Status.MISSING))
    if failed or missing:
        first = int(np.argmax(status >= Status.FAILED))
        error = NotEnoughAnswers(
            f"{failed} of {len(status)} rows failed and {missing} are missing (the first is row {first}): "
            "see failures and status, or allow more time"
        )
        error.__cause__ = next(iter(failures.values()), None)
        raise error
