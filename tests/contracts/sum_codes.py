"""The table of sum codes. A code of `codedmap.codes` that only needs N and S is tested without a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import codedmap as cm

from .codes import unlisted


@dataclass(frozen=True)
class Row:
    """One code, in sizes whose sets of stragglers are all tried, and in large ones."""

    name: str
    make: Callable[..., Any]
    small: tuple[tuple[int, ...], ...]
    """Arguments, N at most 12."""
    large: tuple[tuple[int, ...], ...]
    """Arguments, N up to 60, or 200 where the code is meant for it."""
    exact: bool = True


ROWS: tuple[Row, ...] = (
    Row(
        "fractional repetition",
        cm.codes.FractionalRepetition,
        ((1, 0), (5, 0), (6, 2), (7, 6), (12, 1), (12, 3), (12, 5)),
        ((60, 9), (200, 3), (200, 19)),
    ),
    Row(
        "cyclic",
        cm.codes.CyclicGradientCode,
        ((1, 0), (4, 3), (5, 0), (7, 2), (9, 2), (10, 3), (11, 4), (12, 5), (12, 4), (12, 7)),
        ((25, 4), (41, 7), (60, 7), (60, 9), (60, 15), (200, 9), (200, 10)),
    ),
    Row(
        "polynomial",
        cm.codes.PolynomialGradientCode,
        ((1, 0, 1), (5, 0, 5), (6, 2, 1), (8, 2, 3), (10, 2, 2), (11, 3, 2), (12, 4, 4)),
        ((24, 4, 4), (30, 5, 4), (40, 6, 6), (60, 5, 3), (60, 10, 4)),
    ),
    Row(
        "polynomial, of the paper",
        lambda *sizes: cm.codes.PolynomialGradientCode(*sizes, matrix="vandermonde"),
        ((1, 0, 1), (5, 2, 3), (6, 2, 1), (8, 2, 3), (9, 3, 2), (10, 2, 2)),
        (),
    ),
    Row(
        "grouped",
        cm.codes.GroupedGradientCode,
        ((1, 1, 1), (5, 5, 5), (6, 3, 2), (8, 4, 2), (10, 5, 3), (12, 6, 3), (12, 12, 6)),
        ((60, 12, 6), (60, 20, 10), (200, 5, 3), (200, 20, 10)),
    ),
    Row(
        "ignoring stragglers",
        cm.codes.IgnoreStragglers,
        ((1, 0), (5, 0), (7, 2), (12, 5)),
        ((60, 9), (200, 19)),
        exact=False,
    ),
)
ROWS += tuple(
    Row(name, make, ((1, 0), (5, 0), (12, 1)), ((60, 3),))
    for name, make in unlisted(
        "held", ["workers", "stragglers"], [row.make(*row.small[0]) for row in ROWS]
    )
)
