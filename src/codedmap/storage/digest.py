"""Checksums of rows, and of what a function is made of."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import logging
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..engines import Resident
from ..execution.task import Itemwise

_PLAIN = bool, int, float, complex, str, bytes, type(None), type(...)
_COUNTED = (*_PLAIN, tuple, np.ndarray, np.generic)
"""Types of the variables that count."""
_LOOKS_UP = "LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"


class RowsDigest:
    """A checksum of rows that may come a few at a time."""

    def __init__(self) -> None:
        self._made: list[Any] = []  # for each part or column

    def add(self, parts: Iterable[Any]) -> RowsDigest:
        """Take the next rows: arrays, lists or data frames of the same length."""
        columns = [column for part in parts for column in _columns(part)]
        self._made += [hashlib.blake2b(digest_size=8) for _ in columns[len(self._made) :]]
        for made, column in zip(self._made, columns, strict=True):
            if isinstance(column, np.ndarray) and not column.dtype.hasobject:
                made.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
            else:
                for row in column:
                    _feed(made, row, {})
        return self

    def hex(self) -> str:
        whole = b"".join(made.digest() for made in self._made)
        return hashlib.blake2b(whole, digest_size=8).hexdigest()


def checksum(parts: Iterable[Any]) -> str:
    """The checksum of rows."""
    return RowsDigest().add(parts).hex()


def _columns(part: Any) -> Iterable[Any]:
    """Arrays and lists whose kind does not depend on which rows are taken together."""
    if not hasattr(part, "columns"):
        yield part
        return
    for column in (part[name] for name in part.columns):
        if isinstance(column.dtype, np.dtype):
            yield np.asarray(column)
        elif hasattr(column, "fill_null") and (
            column.dtype.is_integer() or column.dtype.is_float()
        ):
            yield column.is_null().to_numpy()  # integers would be floats beside a null
            yield column.fill_null(0).to_numpy()
        else:
            yield column.to_list()


def fingerprint(*values: Any) -> str:
    """A checksum of what values are made of, the same in another process.

    Of a function: its byte code, constants, names and arguments, defaults and closure, the plain values that it uses by their
    names, and the functions of its own module that it uses. Of another object: the methods of its class, and what it
    is pickled from.
    """
    made = hashlib.blake2b(digest_size=16)
    seen: dict[int, Any] = {}
    for value in values:
        _feed(made, value, seen)
    return made.hexdigest()


def _feed(made: Any, value: Any, seen: dict[int, Any]) -> None:
    made.update(f"({type(value).__qualname__} ".encode())
    if isinstance(value, _PLAIN):
        made.update(repr(value).encode())
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        made.update(f"{value.dtype.str} {value.shape} ".encode())
        made.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif isinstance(value, tuple | types.CodeType) or id(value) not in seen:
        seen[id(value)] = value  # and alive, so that no other gets its id
        for part in _parts(value):
            _feed(made, part, seen)
    made.update(b")")


def _parts(value: Any) -> Iterable[Any]:  # noqa: PLR0911, PLR0912  a case for each kind
    """What a value is made of, in an order that does not vary."""
    match value:
        case tuple() | list():
            return value
        case set() | frozenset():
            return sorted(map(fingerprint, value))
        case dict():
            return [part for item in value.items() for part in item]
        case np.ndarray():
            return [value.shape, value.tolist()]
        case types.ModuleType():
            return [value.__name__]
        case types.CodeType():
            arguments = value.co_varnames[: value.co_argcount + value.co_kwonlyargcount]
            return [value.co_code, value.co_consts, value.co_names, arguments]
        case types.FunctionType():
            return _of_function(value)
        case types.MethodType():
            return [value.__func__, value.__self__]
        case functools.partial():
            return [value.func, value.args, value.keywords]
        case Itemwise() | Resident():
            return [value.fn]
        case logging.Logger():  # which knows when the program began
            return [value.name]
        case np.random.RandomState() if value is np.random.mtrand._rand:
            return []  # NumPy's own, which each program seeds in another way
        case type():
            return [value.__module__, value.__qualname__, *_methods(value)]
    wrapped = getattr(value, "__wrapped__", None)  # as of functools.cache
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        state: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
    except Exception:  # a lock, a file, a session of some library
        state = None
    if isinstance(state, tuple):
        state = [list(part) if isinstance(part, Iterator) else part for part in state]
    return [wrapped, *_methods(type(value)), state]


def _of_function(function: types.FunctionType) -> Iterable[Any]:
    code = function.__code__
    yield from (function.__qualname__, code, function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            yield None
    for name in _names(code):
        value = function.__globals__.get(name)
        same = getattr(value, "__module__", None) == function.__module__
        if isinstance(value, _COUNTED) or (same and isinstance(value, types.FunctionType | type)):
            yield value


def _names(code: types.CodeType) -> list[str]:
    """Names that a function, or a function within it, looks up in its module."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    own = {one.argval for one in dis.get_instructions(code) if one.opname in _LOOKS_UP}
    return sorted(own.union(*map(_names, inner)))


def _methods(kind: type) -> list[Any]:
    """Functions, and plain values with their names, that a class and those that it derives from define."""
    found: list[Any] = []
    for name, value in (item for one in kind.__mro__ for item in vars(one).items()):
        match value:
            case types.FunctionType():
                found.append(value)
            case staticmethod() | classmethod():
                found.append(value.__func__)
            case property():
                found.append(value.fget)
            case functools.cached_property():
                found.append(value.func)
            case _ if isinstance(value, _COUNTED) and not name.startswith("__"):
                found += [name, value]
    return found
