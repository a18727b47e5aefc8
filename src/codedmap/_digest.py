"""Short names for what arrays hold and functions do, to tell later whether they are the same."""

from __future__ import annotations

import functools
import hashlib
import math
import pickle
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["digest", "fingerprint"]

_DEEP = 8
"""How far values that hold other values are looked into."""


def digest(array: np.ndarray) -> str:
    """A hash of an array's entries, in their order."""
    made = hashlib.blake2b(digest_size=16)
    if array.dtype.hasobject:
        made.update(pickle.dumps(array.tolist(), protocol=4))
    elif array.size:
        made.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return made.hexdigest()


def fingerprint(value: Any) -> str:
    """A hash of what a function or a code is made of, the same in another process.

    Functions: their byte code, and the constants, defaults, closures and module variables it uses.
    Objects: their class and state. Arrays and plain values count in full; anything else that is
    found inside by the name of its class only.
    """
    made = hashlib.blake2b(digest_size=16)
    for part in _parts(value, _DEEP, {}):
        made.update(part.encode())
        made.update(b"\0")
    return made.hexdigest()


def _parts(value: Any, deep: int, seen: dict[int, Any]) -> Iterator[str]:
    """Words that say what a value is; ``seen`` keeps those alive whose id it remembers."""
    yield type(value).__qualname__
    if value is None or isinstance(value, (bool, int, complex, str, bytes, np.generic, Path)):
        yield repr(value)
    elif isinstance(value, float):
        yield "nan" if math.isnan(value) else value.hex()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {digest(value)}"
    elif isinstance(value, types.ModuleType):
        yield value.__name__
    elif deep == 0 or id(value) in seen:
        yield "..."
    else:
        seen[id(value)] = value
        for name, inner in _inside(value):
            yield name
            yield from _parts(inner, deep - 1, seen)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, by name and in an order that does not vary."""
    if isinstance(value, (tuple, list)):
        yield from (("", item) for item in value)
    elif isinstance(value, (set, frozenset)):
        yield from (("", item) for item in sorted(value, key=repr))
    elif isinstance(value, dict):
        yield from ((repr(key), item) for key, item in value.items())
    elif isinstance(value, types.CodeType):
        yield "code", value.co_code
        yield "constants", value.co_consts
        yield "names", value.co_names
    elif isinstance(value, types.FunctionType):
        yield value.__qualname__, value.__code__
        yield "defaults", (value.__defaults__, value.__kwdefaults__)
        for cell in value.__closure__ or ():
            yield "closure", _content(cell)
        for name in _names(value.__code__):
            if name in value.__globals__:
                yield name, value.__globals__[name]
    elif isinstance(value, types.MethodType):
        yield "method", value.__func__
        yield "of", value.__self__
    elif isinstance(value, functools.partial):
        yield "partial", (value.func, value.args, value.keywords)
    elif isinstance(value, (type, types.BuiltinFunctionType, np.ufunc)):
        yield str(getattr(value, "__module__", "")), getattr(value, "__name__", "")
    else:
        yield type(value).__module__, vars(type(value)).get("__call__")
        yield "state", _state(value)


def _names(code: types.CodeType) -> list[str]:
    """Names that a function or a function within it looks up."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return sorted({*code.co_names, *(name for c in inner for name in _names(c))})


def _state(value: Any) -> Any:
    try:
        return value.__getstate__()
    except Exception:  # a lock, a file, a session of some library
        return None


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
