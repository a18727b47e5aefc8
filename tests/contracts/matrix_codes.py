"""The table of matrix codes. A code of `codedmap.codes` that only needs K and N is tested without a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import codedmap as cm

from .codes import unlisted


@dataclass(frozen=True)
class Row:
    """One code, and what it states of itself."""

    name: str
    make: Callable[[int, int], Any]
    """K and N >= 2K, a power of two, to a code."""
    anytime: bool = False
    """Has an estimate before it can be decoded."""


ROWS: tuple[Row, ...] = (
    Row("uncoded", lambda k, n: cm.Uncoded(k)),
    Row("replication", cm.Replication),
    Row("replication, confirmed", lambda k, n: cm.Replication(k, n, confirm=2)),
    Row("mds", cm.codes.MDSCode),
    Row("mds, another seed", lambda k, n: cm.codes.MDSCode(k, n, seed=7)),
    Row("mds, no stragglers", lambda k, n: cm.codes.MDSCode(k, k)),
    Row("polar", cm.codes.PolarCode, anytime=True),
    Row("polar, high rate", lambda k, n: cm.codes.PolarCode(min(2 * k, n), n), anytime=True),
)
ROWS += tuple(
    Row(name, make)
    for name, make in unlisted("decode", ["tasks", "workers"], [row.make(2, 8) for row in ROWS])
)
