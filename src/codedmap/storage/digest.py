"""Checksums of rows, and of functions."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import logging
import types
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np

from ..engines import Resident
from ..execution.task import Itemwise

_PLAIN = bool, int, float, complex, str, bytes, type(None), type(...)
_COUNTED = (*_PLAIN, tuple, np.ndarray, np.generic)
"""Types of variables of a module or class whose values count."""
_LOOKS_UP = "LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"


class RowsDigest:
    """A checksum of rows that are added a few at a time."""

    def __init__(self) -> None:
        self._hashes: list[Any] = []  # for each part or column

    def add(self, parts: Iterable[Any]) -> RowsDigest:
        """Add the next rows: arrays, lists or data frames of the same length."""
        columns = [column for part in parts for column in _columns(part)]
        self._hashes += [hashlib.blake2b(digest_size=8) for _ in columns[len(self._hashes) :]]
        for hashed, column in zip(self._hashes, columns, strict=True):
            if isinstance(column, np.ndarray) and not column.dtype.hasobject:
                hashed.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
            else:
                for row in column:
                    _feed(hashed, row, {})
        return self

    def hex(self) -> str:
        whole = b"".join(hashed.digest() for hashed in self._hashes)
        return hashlib.blake2b(whole, digest_size=8).hexdigest()


def checksum(parts: Iterable[Any]) -> str:
    """The checksum of rows."""
    return RowsDigest().add(parts).hex()


def _columns(part: Any) -> Iterable[Any]:
    """The columns of rows as arrays and lists, whose types do not depend on how rows are grouped."""
    if not hasattr(part, "columns"):
        yield part
        return
    for column in (part[name] for name in part.columns):
        if isinstance(column.dtype, np.dtype):
            yield np.asarray(column)
        elif hasattr(column, "fill_null") and (
            column.dtype.is_integer() or column.dtype.is_float()
        ):
            yield column.is_null().to_numpy()  # with a null integers would become floats
            yield column.fill_null(0).to_numpy()
        else:
            yield column.to_list()


def fingerprint(*values: Any) -> str:
    """A checksum of values, the same in another process.

    Of a function it covers the byte code, constants, names and arguments, defaults and closure, the plain values of
    its module that it uses, and the functions of its module that it uses. Of another object it covers the methods of
    its class, and its state as it is pickled.
    """
    hashed = hashlib.blake2b(digest_size=16)
    seen: dict[int, Any] = {}
    for value in values:
        _feed(hashed, value, seen)
    return hashed.hexdigest()


def _feed(hashed: Any, value: Any, seen: dict[int, Any]) -> None:
    hashed.update(f"({type(value).__qualname__} ".encode())
    if isinstance(value, _PLAIN):
        hashed.update(repr(value).encode())
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        hashed.update(f"{value.dtype.str} {value.shape} ".encode())
        hashed.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    elif isinstance(value, tuple | types.CodeType) or id(value) not in seen:
        seen[id(value)] = value  # kept alive, so that no other value gets its id
        for part in _parts(value):
            _feed(hashed, part, seen)
    hashed.update(b")")


def _parts(value: Any) -> Iterable[Any]:  # noqa: PLR0911, PLR0912  a case for each kind
    """The parts of a value, in a fixed order."""
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
        case logging.Logger():  # its state holds when the program began
            return [value.name]
        case np.random.RandomState() if value is np.random.mtrand._rand:
            return []  # NumPy's global one, whose seed is another in each program
        case type():
            return [value.__module__, value.__qualname__, *_methods(value)]
        case _ if hasattr(type(value), "__fingerprint__"):  # a program of `command`
            return cast("list[Any]", value.__fingerprint__())
    wrapped = getattr(value, "__wrapped__", None)  # the function in a functools.cache
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
    own = {op.argval for op in dis.get_instructions(code) if op.opname in _LOOKS_UP}
    return sorted(own.union(*map(_names, inner)))


def _methods(kind: type) -> list[Any]:
    """The functions of a class and its base classes, and their plain values with names."""
    found: list[Any] = []
    for name, value in (item for base in kind.__mro__ for item in vars(base).items()):
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
