"""What is known of a row."""

from __future__ import annotations

import enum


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
