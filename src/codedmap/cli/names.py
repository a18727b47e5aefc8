"""Codes, stopping rules, hedges and functions as they are written on the command line."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

import codedmap as cm

from ..api.map import check_fn


def codes_in(module: Any) -> dict[str, Any]:
    """The codes of `map` in a module's ``__all__``, by name."""
    codes = {name: getattr(module, name) for name in module.__all__}
    return {
        name: code
        for name, code in codes.items()
        if hasattr(code, "encode") and not inspect.isabstract(code)
    }


CODES = codes_in(cm.codes)
RULES = {
    name: getattr(cm, name)
    for name in ("Deadline", "Decodable", "Everyone", "Quorum", "Share", "Slower", "Tolerance")
}
HEDGES = {"Hedge": cm.Hedge, **RULES}


def summary_of(name: str) -> str:
    """A sentence on a code for the help."""
    return (inspect.getdoc(CODES[name]) or "").partition("\n")[0].replace("`", "")


def in_python(option: str, text: str, names: Mapping[str, Any], example: str) -> Any:
    """The value of calls of these ``names`` with numbers, texts and tuples, joined by | and &; evaluates nothing else."""

    def evaluated(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.UnaryOp(ast.USub(), operand):
                return -evaluated(operand)
            case ast.Tuple(parts):
                return tuple(map(evaluated, parts))
            case ast.BinOp(left, ast.BitOr(), right):
                return evaluated(left) | evaluated(right)
            case ast.BinOp(left, ast.BitAnd(), right):
                return evaluated(left) & evaluated(right)
            case ast.Call(ast.Name(name), given, named) if name in names:
                return names[name](
                    *map(evaluated, given), **{str(one.arg): evaluated(one.value) for one in named}
                )
        raise TypeError(f"{ast.unparse(node)} is not a call of one of {', '.join(names)}")

    try:
        return evaluated(ast.parse(text.strip(), mode="eval").body)
    except cm.InvalidArgument:
        raise
    except (SyntaxError, TypeError, ValueError, RecursionError) as error:
        raise cm.InvalidArgument(
            f"{option} {text!r} cannot be made ({error}): write it as in Python, such as {example!r}"
        ) from error


def model_named(
    name: str, rows: np.ndarray, note: Callable[[str], None], *, remote: bool = False
) -> tuple[Callable[[Any], Any], np.ndarray]:
    """A function from batch to batch, and the rows as it takes them.

    An ONNX model is opened once here, so that errors of the model or the rows show before any worker is
    started; floating-point rows are cast to its dtype. For remote workers, on machines that may not have
    the file, its content is sent.
    """
    if name.endswith(".onnx"):
        model = cm.OnnxModel(name)
        if rows.dtype.kind == "f" and rows.dtype != model.dtype:
            note(f"inputs are {rows.dtype} and {Path(name).name} takes {model.dtype}: cast them")
            with np.errstate(over="ignore"):  # `map` reports rows that became infinite
                rows = rows.astype(model.dtype)
        model.check(rows.shape, rows.dtype)
        # A new object: this process needs no copy of the weights.
        return cm.OnnxModel(Path(name).read_bytes() if remote else name), rows
    return function_named(name), rows


def function_named(name: str) -> Callable[..., Any]:
    """The function that file.py:function or module:function names."""
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise cm.InvalidArgument(
            f"MODEL {name!r} names no function: write file.py:function or module:function, such as model.py:simulate; "
            "run and plan take a file ending in .onnx as well, and sweep a program by --command"
        )
    path = Path(module)
    if path.suffix != ".py":
        return _imported(name, module, attribute)
    if not path.is_file():
        raise cm.InvalidArgument(f"there is no file {path.absolute()} for MODEL: check the path")
    sys.path.insert(0, str(path.parent.resolve()))  # workers are started with this process's path
    fn = _imported(name, path.stem, attribute)
    found = Path(getattr(sys.modules[path.stem], "__file__", None) or "")
    if found.resolve() != path.resolve():
        raise cm.InvalidArgument(
            f"another module is named {path.stem!r} ({found}): give {path} another name"
        )
    return fn


def _imported(name: str, module: str, attribute: str) -> Callable[[Any], Any]:
    here = str(Path.cwd())
    if here not in sys.path:  # workers are started with this process's path
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        absent = isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name))
        step = (
            "write file.py:function or package.module:function"
            if absent
            else "--traceback shows where"
        )
        raise cm.InvalidArgument(
            f"importing {module!r} for MODEL {name!r} from {here} or Python's path raised {type(error).__name__}: {error}; "
            f"{step}"
        ) from error
    try:
        fn = attrgetter(attribute)(found)
    except AttributeError as error:
        raise cm.InvalidArgument(
            f"module {module!r} ({getattr(found, '__file__', 'built in')}) has no {attribute!r}: "
            "correct the name"
        ) from error
    check_fn(fn)
    return fn  # type: ignore[no-any-return]  # callable(): more cannot be known of it
