"""Warnings, at the line of the caller's own code."""

from __future__ import annotations

import sys
import warnings


def warn_caller(text: str) -> None:
    """Warn at the line where the user has called this package."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("codedmap."):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(text, stacklevel=depth + 1)
