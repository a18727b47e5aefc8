"""The codes as their papers define them: without the search for outliers.

The library's codes reject answers that do not fit the others. The experiments that use these classes
measure estimates from correct answers only, and with hundreds of workers the search would dominate
the decoding time.
"""

from __future__ import annotations

from dataclasses import dataclass

import codedmap as cm

__all__ = ["BACC", "LCC", "LeTCC"]


@dataclass(frozen=True)
class LeTCC(cm.SplineCode):
    """`codedmap.SplineCode` without the search for outliers."""

    def precision(self, answered: tuple[int, ...]) -> None:
        """No answer is rejected."""


@dataclass(frozen=True)
class BACC(cm.BerrutCode):
    """`codedmap.BerrutCode` without the search for outliers."""

    def precision(self, answered: tuple[int, ...]) -> None:
        """No answer is rejected."""


@dataclass(frozen=True)
class LCC(cm.LagrangeCode):
    """`codedmap.LagrangeCode` without the search for outliers."""

    def precision(self, answered: tuple[int, ...]) -> None:
        """No answer is rejected."""
