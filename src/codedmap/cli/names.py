"""Codes, stopping rules, hedges and functions by their names on the command line."""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Collection, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

import codedmap as cm

from ..contracts.code import check_budget

CODE_OPTIONS = (
    "fill",
    "spread",
    "degree",
    "points",
    "encoder_smoothing",
    "decoder_smoothing",
    "order",
)
"""Parameters of codes that are options of the command line."""


_DEFAULT_TASKS: dict[str, Callable[[int, int, Mapping[str, Any]], int]] = {
    "uncoded": lambda n, s, options: n,
    "replication": lambda n, s, options: n // (s + 1),
    "lagrange": lambda n, s, options: (n - s - 1) // options.get("degree", 1) + 1,
}
"""From workers, stragglers and options, for codes whose default is not N - S."""


def codes_in(module: Any) -> dict[str, Any]:
    """The codes of `map` in a module's ``__all__``, by their class names in lower case without "code"."""
    codes = {name.removesuffix("Code").lower(): getattr(module, name) for name in module.__all__}
    return {
        name: code
        for name, code in codes.items()
        if hasattr(code, "encode") and not inspect.isabstract(code)
    }


CODES = codes_in(cm.codes)
NAMES = ["auto", *CODES]


def options_of(name: str) -> list[str]:
    """Those of `CODE_OPTIONS` that a code has."""
    taken = inspect.signature(CODES[name]).parameters if name in CODES else ()
    return [option for option in CODE_OPTIONS if option in taken]


def summary_of(name: str) -> str:
    """A sentence on a code for the help."""
    if name == "auto":
        return "Plans by the first answers whether to wait for all rows, estimate the last, or use a code."
    return (inspect.getdoc(CODES[name]) or "").partition("\n")[0].replace("`", "")


def check_options(name: str, workers: int, stragglers: int, options: Collection[str]) -> None:
    """Raise `InvalidArgument` for a code that has no such option, or numbers that fit none."""
    check_budget(1, workers, stragglers)
    for option in options:
        if option not in options_of(name):
            users = " and ".join(user for user in CODES if option in options_of(user))
            raise cm.InvalidArgument(
                f"--{option.replace('_', '-')} is an option of {users}: leave it out for {name}"
            )


def code_named(
    name: str, workers: int, stragglers: int, tasks: int | None, options: Mapping[str, Any]
) -> cm.contracts.Code:
    """The code of this name, with a default for tasks; raises `InvalidArgument` if a value does not fit."""
    own = _DEFAULT_TASKS.get(name)
    default = workers - stragglers if own is None else own(workers, stragglers, options)
    tasks = default if tasks is None else tasks
    given = {"tasks": tasks, "workers": workers, "stragglers": stragglers, **options}
    taken = inspect.signature(CODES[name]).parameters
    for one in taken.values():
        if one.default is one.empty and one.name not in given:
            raise cm.InvalidArgument(
                f"{name} has no default for the {one.name}: say with --{one.name} what it is, or choose another code"
            )
    code: cm.contracts.Code = CODES[name](
        **{one: value for one, value in given.items() if one in taken}
    )
    if code.workers != workers:
        raise cm.InvalidArgument(
            f"{name} gives {tasks} tasks {code.workers} workers, not {workers}: leave --tasks out, or choose another code"
        )
    if code.stragglers < stragglers and "fill" not in options:
        others = f"--tasks {default} or fewer, --workers {tasks * (stragglers + 1)} or more, "
        raise cm.InvalidArgument(
            f"by {name} {tasks} tasks on {workers} workers can do without {code.stragglers} answers, whichever they are, "
            f"and not without {stragglers}: use --stragglers {code.stragglers}, {others if default < tasks else ''}"
            "--fill mean to estimate lost answers by the mean, or another code"
        )
    return code


def rule_named(
    code: cm.contracts.Code,
    stragglers: int,
    quorum: int | None,
    tolerance: float | None,
    deadline: float | None,
) -> cm.contracts.StoppingRule:
    """Wait for a quorum that can be decoded, or until every standard error is small enough, or a deadline."""
    workers = code.workers
    if quorum is not None and quorum > workers:
        raise cm.InvalidArgument(f"--quorum {quorum} is more than the {workers} workers can give")
    rule: cm.contracts.StoppingRule
    if tolerance is None:
        rule = cm.Quorum(quorum or workers - stragglers) & cm.Decodable()
    elif not getattr(code, "has_stderr", True):
        raise cm.InvalidArgument(
            f"--tolerance is for standard errors, and {type(code).__name__} has none: use "
            "--code kernel or --code replication --fill mean, or wait by --quorum and --deadline"
        )
    else:
        rule = cm.Tolerance(tolerance)
        rule = rule if quorum is None else cm.Quorum(quorum) & rule
    return rule if deadline is None else rule | cm.Deadline(deadline)


def hedge_named(code: cm.contracts.Code, when: str | None) -> cm.Hedge | None:
    """After some seconds, such as 0.5, or once a share of the workers has answered, such as 90%."""
    if when is None:
        return None
    try:
        number = float(when.removesuffix("%"))
    except ValueError:
        number = math.nan
    if when.endswith("%") and 0 < number < 100:
        answers = math.ceil(number * code.workers / 100 - 1e-9)
        return cm.Hedge(cm.Quorum(max(1, min(answers, code.workers - 1))))  # one is still late
    if when.endswith("%") or not 0 <= number < math.inf:
        raise cm.InvalidArgument(
            f"--hedge-after {when} must be seconds, such as 0.5, or a share of the workers, such as 90%"
        )
    return cm.Hedge(number)


def model_named(
    name: str, rows: np.ndarray, note: Callable[[str], None], *, remote: bool = False
) -> tuple[Callable[[Any], Any], np.ndarray]:
    """A function from batch to batch, and the rows as it takes them.

    An ONNX model is opened once here, so that errors of the model or the rows show before any worker is
    started; floating-point rows are cast to its dtype. For remote workers, on machines that may not have
    the file, its content is sent.
    """
    if name.endswith(".onnx"):
        try:
            model = cm.OnnxModel(name)
        except OSError as error:
            raise cm.InvalidArgument(
                f"model {name} cannot be read ({error.strerror or error}): check the path"
            ) from error
        if rows.dtype.kind == "f" and rows.dtype != model.dtype:
            note(f"inputs are {rows.dtype} and {Path(name).name} takes {model.dtype}: cast them")
            with np.errstate(over="ignore"):  # `map` reports rows that became infinite
                rows = rows.astype(model.dtype)
        model.check(rows.shape, rows.dtype)
        # A new object: this process needs no copy of the weights.
        return cm.OnnxModel(Path(name).read_bytes() if remote else name), rows
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise cm.InvalidArgument(
            f"MODEL {name!r} is neither a file ending in .onnx nor module:function, such as "
            "model.onnx or my_module:predict"
        )
    return _imported(name, module, attribute), rows


def _imported(name: str, module: str, attribute: str) -> Callable[[Any], Any]:
    here = str(Path.cwd())
    if here not in sys.path:  # workers are started with this process's path
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{module}.".startswith(f"{absent}."):
            raise cm.InvalidArgument(
                f"there is no module {absent!r} for MODEL {name!r} in {here} or on Python's path: "
                "write package.module:function, without .py"
            ) from error
        raise cm.InvalidArgument(
            f"importing {module!r} for MODEL {name!r} raised {type(error).__name__}: {error}"
        ) from error
    try:
        fn = attrgetter(attribute)(found)
    except AttributeError as error:
        raise cm.InvalidArgument(
            f"module {module!r} ({getattr(found, '__file__', 'built in')}) has no {attribute!r}"
        ) from error
    if not callable(fn):
        raise cm.InvalidArgument(f"{name} is a {type(fn).__name__}, which cannot be called")
    return fn  # type: ignore[no-any-return]  # callable(): more cannot be known of it
