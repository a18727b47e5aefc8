"""The codes as their papers have them: two interpolations, and nobody looks for liars.

The library's codes suspect an answer that is off the curve through the others. No worker lies in the
experiments that use these, which ask how good the estimates of honest answers are; and with
hundreds of workers the search takes dozens of times as long as all the rest of decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import codedmap as cm

__all__ = ["BACC", "LCC", "LeTCC"]


@dataclass(frozen=True)
class LeTCC(cm.SplineCode):
    """`codedmap.SplineCode` without the search."""

    def precision(self, answered: tuple[int, ...]) -> None:
        """Nobody is suspected."""


@dataclass(frozen=True)
class BACC(cm.BerrutCode):
    """`codedmap.BerrutCode` without the search."""

    def precision(self, answered: tuple[int, ...]) -> None:
        """Nobody is suspected."""


@dataclass(frozen=True)
class LCC(cm.LagrangeCode):
    """`codedmap.LagrangeCode` without the search."""

    def precision(self, answered: tuple[int, ...]) -> None:
        """Nobody is suspected."""
