"""What results and errors of all doors say of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._errors import EngineError, MissingMainGuard
from ._rules import Outcome, Progress

__all__ = ["broken", "facts", "heading", "listed", "workers_lines"]


def heading(
    answered: Sequence[int],
    abandoned: Sequence[int],
    failed: Mapping[int, BaseException],
    seconds: float,
    outcome: Outcome,
) -> str:
    """The first line of a result."""
    workers = len(answered) + len(abandoned) + len(failed)
    return f"{len(answered)} of {workers} workers answered in {seconds:.2f} s: {outcome.value}"


def workers_lines(
    groups: Mapping[str, Sequence[int]], failed: Mapping[int, BaseException]
) -> list[str]:
    """A line for each group of workers by name that is not empty, and one for those that failed."""
    lines = [
        f"  {name:<10} {len(those)}: {listed(those)}" for name, those in groups.items() if those
    ]
    if failed:
        first, error = next(iter(failed.items()))
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        lines.append(
            f"  failed     {len(failed)}: {listed(tuple(failed))}; the first, {first}, with {reason}"
        )
    return lines


def listed(slots: Sequence[int]) -> str:
    """At most twelve of them, in words."""
    shown = ", ".join(map(str, slots[:12]))
    return f"worker{'s' if len(slots) > 1 else ''} {shown}" + (", …" if len(slots) > 12 else "")


def broken(seen: Progress, failures: Mapping[int, BaseException]) -> EngineError | None:
    """The engine's own error, if nothing else came of a call that has to raise."""
    errors = [error for error in failures.values() if isinstance(error, EngineError)]
    if seen.answered or not errors or len(errors) < len(failures):
        return None
    kind = MissingMainGuard if isinstance(errors[0], MissingMainGuard) else EngineError
    error = kind(str(errors[0]))
    error.__cause__ = errors[0]
    return error


def facts(seen: Progress, failures: Mapping[int, BaseException], *more: str) -> str:
    """How far a call came that has to raise, for its message."""
    counts = [f"{len(seen.answered)} of {len(seen.asked)} workers answered", *more]
    if seen.running:
        counts.append(f"{len(seen.running)} still running")
    if failures:
        worker, first = next(iter(failures.items()))
        counts.append(
            f"{len(failures)} failed, worker {worker} first with {type(first).__name__}: {first}"
        )
    return ", ".join(counts)
