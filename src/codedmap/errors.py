"""The exceptions of the library.

::

    CodedmapError
    ├── InvalidArgument (ValueError)      an argument that cannot work; nothing was computed
    ├── Unreachable (ValueError)          no selection of a cluster's nodes meets the targets
    ├── InvalidAnswer (ValueError)        what fn returned is not one array with a row per payload row
    ├── CommandFailed (RuntimeError)      a program could not be started, or ended by a signal or exit code
    ├── NotEnoughAnswers (RuntimeError)   fewer answers than the code or the stopping rule needs
    │   └── RowFailed                     a row raised, ended its workers or ran too long
    ├── NotEnoughMemory (MemoryError)     the payloads do not fit into the free memory
    ├── OutputError (RuntimeError)        ``out`` could not be written, as on a full disk
    ├── CannotSend (TypeError)            a function or value that cannot be sent to a worker
    ├── EngineError (RuntimeError)        the engine could not start, or was closed before the call
    │   └── MissingMainGuard              a module that workers import starts workers
    └── WorkerLost (RuntimeError)         one call gave no answer, see ``MapResult.failed``
        ├── WorkerCrashed                 the process died during the call
        ├── Abandoned                     the call was ended because its answer was no longer needed
        ├── NotStarted                    its worker ended before the call began
        ├── CallTimeout (TimeoutError)    it ran longer than ``call_timeout``
        └── KeptLost                      the value kept on a worker was lost with that worker

Each message says what happened, with numbers, and ends with the next step. A step that may not apply
to the whole call, such as to wait longer, is an argument of its own, so that `map` can leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

WAIT = "wait longer"
"""The step that helps only while a call is still running."""


def either(steps: Sequence[str], comma: str = ",") -> str:
    """Steps as alternatives in one clause, such as "wait, or add workers"."""
    return ", or ".join(filter(None, [f"{comma} ".join(steps[:-1]), *steps[-1:]]))


def many(count: int, noun: str) -> str:
    """A number of things, such as "1 row" or "2 entries"."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1]}ies" if noun.endswith("y") else f"{count:,} {noun}s"


class CodedmapError(Exception):
    """Base of all errors that codedmap raises on purpose.

    Parameters
    ----------
    problem : str
        What happened, with numbers.
    *steps : str
        What can be done about it, if ``problem`` does not say so; one suffices.
    """

    def __init__(self, problem: str = "", *steps: str) -> None:
        super().__init__(f"{problem}: {either(steps)}" if steps else problem)
        self.problem, self.steps = problem, steps


class InvalidArgument(CodedmapError, ValueError):
    """An argument that cannot work; raised before anything is computed."""


class Unreachable(CodedmapError, ValueError):
    """`plan_cluster` found no selection of a cluster's nodes that meets the targets.

    Attributes
    ----------
    error : float
        The smallest error found within the time target. If the error target cannot be reached in
        any time, a lower bound of the error. Infinite if there is no time for one iteration.
    seconds : float
        The least time found in which the error target is reached; infinite if it never is.
    """

    def __init__(
        self, message: str, *, error: float = float("inf"), seconds: float = float("inf")
    ) -> None:
        super().__init__(message)
        self.error = error
        self.seconds = seconds


class InvalidAnswer(CodedmapError, ValueError):
    """What ``fn`` returned is not one array with one row per row of its payload."""


class CommandFailed(CodedmapError, RuntimeError):
    """A program could not be started, or a signal or an exit code other than 0 ended it."""

    def __init__(self, problem: str = "", *steps: str, returncode: int | None = None) -> None:
        super().__init__(problem, *steps)
        self.returncode = returncode
        """The exit code, or minus the number of the signal; None if the program was not started."""


class NotEnoughAnswers(CodedmapError, RuntimeError):
    """Fewer answers than the code needs to decode, or than the stopping rule asked for.

    If calls failed, the first failure is the cause (``__cause__``).
    """


class RowFailed(NotEnoughAnswers):
    """A row has no answer, because ``fn`` raised, ended its workers or ran too long.

    What ``fn`` raised is the cause (``__cause__``), with the worker's traceback.
    """

    def __init__(self, problem: str = "", *steps: str, row: int = -1) -> None:
        super().__init__(problem, *steps)
        self.row = row
        """The number of the row among the inputs."""


class NotEnoughMemory(CodedmapError, MemoryError):
    """The payloads, or what a code computes for them, do not fit into the free memory."""


class OutputError(CodedmapError, RuntimeError):
    """What `map` has computed could not be written to ``out``; what was written before is kept."""


class CannotSend(CodedmapError, TypeError):
    """A function or value that cannot be pickled, not even by cloudpickle, or cannot be unpickled on the worker."""


class EngineError(CodedmapError, RuntimeError):
    """The engine could not start, or was used after it had been closed."""


class MissingMainGuard(EngineError):
    """A module started worker processes while it was itself being imported by one."""


class WorkerLost(CodedmapError, RuntimeError):
    """One call gave no answer because of its worker, not because of ``fn``."""


class WorkerCrashed(WorkerLost):
    """The worker process died during the call."""


class Abandoned(WorkerLost):
    """The call was ended, or never begun, because its answer was no longer needed."""


class NotStarted(WorkerLost):
    """The worker ended before the call began."""


class CallTimeout(WorkerLost, TimeoutError):
    """A row ran longer than ``call_timeout``."""

    def __new__(cls, *arguments: object) -> Self:
        # By that of RuntimeError it could not be unpickled where Dask is imported.
        return TimeoutError.__new__(cls)


class KeptLost(WorkerLost):
    """The value kept on a worker was lost with that worker: keep it again."""


__all__ = [
    name
    for name, it in list(globals().items())
    if isinstance(it, type) and it.__module__ == __name__
]
