"""Packages that are needed for some sources and outputs only."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import InvalidArgument

__all__ = ["extra"]


def extra(name: str, what: str) -> Any:
    """A package, imported; raises `InvalidArgument` if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InvalidArgument(
            f"{what} needs {name.partition('.')[0]}, which is not installed: pip install 'codedmap[storage]'"
        ) from error
