"""A plugin of pytest: joblib's tests of backends also have one that is called codedmap."""

from __future__ import annotations

from functools import cache
from typing import Any

import joblib

import codedmap as cm


@cache
def engine() -> cm.engines.Local:
    return cm.engines.Local(4)


class Named:
    def __new__(cls, **given: Any) -> cm.JoblibBackend:
        return cm.JoblibBackend(engine(), nesting_level=given.get("nesting_level"))


joblib.register_parallel_backend("codedmap", Named)
