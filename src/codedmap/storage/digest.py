"""Short names for what arrays hold and functions do, to tell later whether they are the same."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["digest", "fingerprint"]

_CHANGING = np.random.Generator, np.random.BitGenerator, np.random.RandomState
"""What is not the same any more once it was used."""
_PYTHON = Path(os.__file__).resolve().parent
"""Where Python's own modules are."""
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

    Functions: their byte code, and the constants, defaults, closures and variables of the user's modules that
    they use. Objects: their class with its methods, and their state. Arrays and plain values count in full.
    Of what is installed, as opposed to the user's own modules: functions by their byte code alone, and
    objects by the arrays and plain values in them, not by what they hold of yet another library.
    """
    made = hashlib.blake2b(digest_size=16)
    for part in _parts(value, _DEEP, {}, ""):
        made.update(part.encode())
        made.update(b"\0")
    return made.hexdigest()


def _parts(value: Any, deep: int, seen: dict[int, Any], library: str) -> Iterator[str]:
    """Words that say what a value is; ``seen`` keeps those alive whose id it remembers.

    ``library`` is the one of an object that holds it, if that is none of the user's own.
    """
    kind = type(value)
    yield kind.__qualname__
    if value is None or isinstance(value, (bool, int, complex, str, bytes, np.generic, Path)):
        yield repr(value)
    elif isinstance(value, float):
        yield "nan" if math.isnan(value) else value.hex()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {digest(value)}"
    elif isinstance(value, types.ModuleType):
        yield value.__name__
    elif isinstance(value, logging.Logger):
        yield value.name
    elif isinstance(value, _CHANGING) or deep == 0 or id(value) in seen:
        yield "..."
    else:
        seen[id(value)] = value
        if kind.__module__ != "builtins":
            package = kind.__module__.partition(".")[0] if _installed(kind.__module__) else ""
            if library and package not in ("", library):
                return
            library = package
        for name, inner in _inside(value):
            yield name
            yield from _parts(inner, deep - 1, seen, library)


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
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield "method", value.__func__
        yield "of", value.__self__
    elif isinstance(value, functools.partial):
        yield "partial", (value.func, value.args, value.keywords)
    elif isinstance(value, (type, types.BuiltinFunctionType, np.ufunc)):
        yield str(getattr(value, "__module__", "")), getattr(value, "__name__", "")
        yield "methods", _methods(value) if isinstance(value, type) else ()
    else:
        yield type(value).__module__, vars(type(value)).get("__call__")
        yield "methods", _methods(type(value))
        yield "state", _state(value)


def _of_function(value: types.FunctionType) -> Iterator[tuple[str, Any]]:
    yield value.__qualname__, value.__code__
    yield "defaults", (value.__defaults__, value.__kwdefaults__)
    for cell in value.__closure__ or ():
        yield "closure", _content(cell)
    if _installed(value.__globals__.get("__name__", "")):
        return
    names = _names(value.__code__)
    for name in names:
        if name in value.__globals__:
            yield name, (used := value.__globals__[name])
            if isinstance(used, types.ModuleType) and not _installed(used.__name__):
                yield from ((inner, vars(used)[inner]) for inner in names if inner in vars(used))


def _names(code: types.CodeType) -> list[str]:
    """Names that a function or a function within it looks up."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return sorted({*code.co_names, *(name for c in inner for name in _names(c))})


def _methods(kind: type) -> list[Any]:
    """Functions that classes of the user's own define for an object of this one."""
    own = [one for one in kind.__mro__ if not _installed(one.__module__)]
    found = []
    for one in own:
        for value in vars(one).values():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            if isinstance(function, types.FunctionType):
                found.append(function)
    return sorted(found, key=lambda function: function.__qualname__)


def _installed(module: str) -> bool:
    """Whether a module comes with Python, a library or this one, and is none of the user's own."""
    if module.partition(".")[0] == __package__.partition(".")[0]:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:  # built in, or typed in
        return module != "__main__"
    return Path(file).resolve().is_relative_to(_PYTHON) or any(
        part in ("site-packages", "dist-packages") for part in Path(file).parts
    )


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
