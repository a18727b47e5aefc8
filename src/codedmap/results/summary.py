"""What the results and errors of all entry points say of workers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

import numpy as np

from ..contracts.arguments import is_real
from ..contracts.extremes import extremes
from ..contracts.stopping import Outcome, Progress
from ..errors import (
    WAIT,
    Abandoned,
    CodedmapError,
    EngineError,
    NotStarted,
    WorkerCrashed,
    either,
    many,
)
from .status import Status

_LONG = 500  # characters of an exception that are repeated, at most
_LINE = 160  # characters of an exception in a line of a summary, at most
_LISTED = 6  # outputs in a line of a summary, at most
_SMALL = 0.1  # the smallest error that is shown as a number, in % of the deviation


def heading(result: Any) -> str:
    """The first line of a result."""
    answered = len(result.answered)
    workers = answered + len(result.abandoned) + len(result.failed)
    return f"{answered:,} of {many(workers, 'worker')} answered in {result.seconds:.2f} s: {result.outcome.value}"


def workers_lines(
    groups: Mapping[str, Sequence[int]], failed: Mapping[int, BaseException]
) -> list[str]:
    """A line for each group of workers by name that is not empty, and one for those that failed."""
    lines = [
        f"  {name:<10} {len(those)}: {listed(those)}" for name, those in groups.items() if those
    ]
    if failed:
        first, error = next(iter(failed.items()))
        lines.append(
            f"  failed     {len(failed)}: {listed(tuple(failed))}; the first, {first}, with {first_line(error)}"
        )
    return lines


def failures_lines(failures: Mapping[int, BaseException], status: np.ndarray) -> list[str]:
    """A line about the rows that failed, and one about those that ran too long and have not, if there are any."""
    failed = {row: error for row, error in failures.items() if status[row] == Status.FAILED}
    late = {row: error for row, error in failures.items() if row not in failed}
    return [
        f"  {name:<10} {len(group):,}; the first, row {row}, with {first_line(error)}"
        for name, group in (("failed", failed), ("timed out", late))
        for row, error in list(group.items())[:1]
    ]


def outputs_lines(
    values: Mapping[str, np.ndarray], stderr: Mapping[str, np.ndarray], status: np.ndarray
) -> list[str]:
    """How exact estimates are, and which outputs (m,) have values that are not finite, or text beside numbers."""
    exact, estimated = status == Status.EXACT, status == Status.ESTIMATED
    errors, nonfinite, mixed = [], [], []
    for name, column in values.items():
        if column.dtype.kind == "O":
            texts = np.array([isinstance(value, str | bytes) for value in column]) & exact
            others = sum(is_real(value) and value == value for value in column[exact])  # noqa: PLR0124
            if texts.any() and others:
                first = f"{many(int(texts.sum()), 'row')} (the first is {texts.argmax()})"
                mixed.append(f"{name} in {first}, and a number in {others:,}")
        if column.dtype.kind not in "biuf":
            continue
        numbers = column.astype(np.float64)
        finite = np.isfinite(numbers)
        if estimated.any() and name in stderr:
            known = numbers[exact & finite]
            spread = np.std(known[extremes(known[:, None]) < 0])
            if spread > 0.0:  # it is 0 if all answers are equal
                share = 100.0 * float(stderr[name][estimated].max()) / spread
                shown = f"{name} {share:.2g} %" if share >= _SMALL else f"{name} < {_SMALL} %"
                errors.append((share, shown))
        bad = exact & ~finite
        if bad.any():
            rows = f"{many(int(bad.sum()), 'row')} (the first is {bad.argmax()})"
            nonfinite.append(f"{name} in {rows}")
    largest = [shown for _, shown in sorted(errors, key=lambda error: -error[0])]
    if largest:
        largest[0] = f"largest standard errors over the deviation: {largest[0]}"
    found = {"estimates": largest, "not finite": nonfinite, "text": mixed}
    return [
        f"  {title:<10} {', '.join(parts[:_LISTED])}{', ...' * (len(parts) > _LISTED)}"
        for title, parts in found.items()
        if parts
    ]


def listed(slots: Sequence[int]) -> str:
    """Workers in words, the first twelve if they are more."""
    shown = ", ".join(map(str, slots[:12]))
    return f"worker{'s' if len(slots) > 1 else ''} {shown}" + (", …" if len(slots) > 12 else "")


def undecoded(
    reason: CodedmapError,
    seen: Progress,
    outcome: Outcome,
    failures: Mapping[int, BaseException],
    *more: str,
    unusable: Sequence[str] = (),
    raised: str = "correct fn, which raised",
    given: str = "",
) -> CodedmapError:
    """The error of a call that cannot be decoded: the engine's own, or else of the type of ``reason``.

    It has the steps of ``reason`` that apply to the call as it has ended, the steps ``more`` if any worker has answered,
    and the step ``raised`` if calls raised; ``given``: see `given_as`. The first failure is the cause.
    """
    engine_error = _engine_error(seen, failures)
    if engine_error is not None:
        return engine_error
    raised += batches_made_from(given, failures.values())
    steps = [step for error in failures.values() if (step := _remedy(error, raised))]
    problem = reason.problem.removeprefix(  # `_facts` says this too
        f"{len(seen.answered)} of {len(seen.asked)} workers gave a usable answer, and "
    )
    if seen.running and outcome is not Outcome.UNSATISFIABLE and WAIT not in problem:
        steps.append(WAIT)
    if seen.answered:
        own = [step for step in reason.steps if step != WAIT]
        # Not where all that failed are answers that cannot be used: other workers give the same.
        steps += own or ["take a code that allows more stragglers"] * bool(seen.running or steps)
        steps += more
    text = either(list(dict.fromkeys(steps)), ";")
    made = type(reason)(
        f"stopped after {seen.seconds:.2f} s because {outcome.value}: {_facts(seen, failures, *unusable)}; {problem}"
        + (f". {text[:1].upper()}{text[1:]}" if text else "")
    )
    made.__cause__ = next(iter(failures.values()), None)
    return made


def batches_made_from(given: str, errors: Iterable[BaseException]) -> str:
    """A hint that ``fn`` gets arrays, if it raised an error of a missing attribute or key; ``given``: see `given_as`."""
    if given and any(isinstance(error, AttributeError | LookupError) for error in errors):
        return f" (its batches are NumPy arrays, made from the {given} that was given)"
    return ""


def _engine_error(seen: Progress, failures: Mapping[int, BaseException]) -> EngineError | None:
    """The engine's own error, if the call had no other answer or failure."""
    # Only the owner of the engine or of the futures abandons calls whose answers are still awaited.
    ours = all(isinstance(error, EngineError | Abandoned) for error in failures.values())
    first = next(iter(failures.values()), None)
    if seen.answered or first is None or not ours:
        return None
    if isinstance(first, EngineError):
        return first
    error = EngineError(f"{_facts(seen, failures)}; {_remedy(first, '')}")
    error.__cause__ = first
    return error


def _remedy(error: BaseException, raised: str) -> str:
    """What to do about the failure of a call; empty if its own message says so."""
    if isinstance(error, BrokenExecutor):
        return (
            "see whether fn ends its own process or memory runs out, which breaks a whole "
            "ProcessPoolExecutor, and create a new one, or use codedmap.engines.Local, where it costs "
            "one answer"
        )
    if isinstance(error, Abandoned):
        return "leave the engine open, and its calls uncancelled, until all are done"
    if isinstance(error, WorkerCrashed | NotStarted):
        return "see why workers ended (memory, preemption, a crash in fn)"
    return "" if isinstance(error, CodedmapError) else raised


def given_as(inputs: Any) -> str:
    """The type of inputs with attributes that an array made from them lacks, such as a data frame; else empty."""
    kind = type(inputs)
    package = kind.__module__.partition(".")[0]
    return "" if package in ("builtins", "numpy") else f"{package} {kind.__name__}"


def _facts(seen: Progress, failures: Mapping[int, BaseException], *more: str) -> str:
    """How many workers answered, how many still run, and how many failed."""
    counts = [f"{len(seen.answered):,} of {many(len(seen.asked), 'worker')} answered", *more]
    running = seen.running - failures.keys()  # those that crashed wait for a second call
    if running:
        counts.append(f"{len(running)} still running")
    if failures:
        worker, first = next(iter(failures.items()))
        counts.append(f"{len(failures)} failed, worker {worker} first with {short(first)}")
    return ", ".join(counts)


def encodable(value: Any) -> Any:
    """A value; of text, the halves of pairs that UTF-8 has no bytes for are escaped."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def short(error: BaseException) -> str:
    """The type of an error and its text, shortened if it is long."""
    try:
        text = encodable(str(error))
    except Exception:
        return f"{type(error).__name__}, whose text raises an exception itself"
    left = len(text) - _LONG
    if left > 0:  # the cause holds all of it
        text = f"{text[:_LONG]} ... and {left:,} characters more"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_line(error: BaseException) -> str:
    """The beginning of `short`, for a line of a summary; of its text the first line with a word."""
    name, _, text = short(error).partition(": ")
    words = re.search(r".*\w.*", text)
    line = f"{name}: {words[0].strip()}" if words else name
    return line if len(line) <= _LINE else f"{line[:_LINE]} ..."
