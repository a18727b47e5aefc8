"""Every exception the library raises on purpose, drawn once.

::

    CodedmapError
    ├── InvalidArgument (ValueError)      an argument that cannot work; nothing was computed
    ├── Unreachable (ValueError)          no selection of a cluster's nodes meets the targets
    ├── InvalidAnswer (ValueError)        what fn returned is not one array with a row per payload row
    ├── NotEnoughAnswers (RuntimeError)   fewer answers than the code or the stop rule needs
    ├── NotEnoughMemory (MemoryError)     the payloads would not fit into the memory that is free
    ├── CannotSend (TypeError)            a function or value that cannot travel to a worker
    ├── EngineError (RuntimeError)        the engine could not start or was used after its end
    │   └── MissingMainGuard              a script without ``if __name__ == "__main__":``
    └── WorkerLost (RuntimeError)         what one call cost us, kept in ``MapResult.failed``
        ├── WorkerCrashed                 the process died during the call
        ├── Abandoned                     the call was ended because nobody wanted its answer any more
        └── KeptLost                      the value kept on a worker died with that worker

Each message says what happened, with numbers, and ends with the next step.
"""

from __future__ import annotations

__all__ = [
    "Abandoned",
    "CannotSend",
    "CodedmapError",
    "EngineError",
    "InvalidAnswer",
    "InvalidArgument",
    "KeptLost",
    "MissingMainGuard",
    "NotEnoughAnswers",
    "NotEnoughMemory",
    "Unreachable",
    "WorkerCrashed",
    "WorkerLost",
]


class CodedmapError(Exception):
    """Base of all errors that codedmap raises on purpose."""


class InvalidArgument(CodedmapError, ValueError):
    """An argument that cannot work; raised before anything is computed."""


class Unreachable(CodedmapError, ValueError):
    """No selection of a cluster's nodes meets the targets, as far as `plan_cluster` has found.

    Attributes
    ----------
    error : float
        The smallest error found within the time target; where the error target alone cannot be
        reached, what the error stays above. Infinite if there is no time for one iteration.
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


class NotEnoughAnswers(CodedmapError, RuntimeError):
    """Fewer answers than the code needs to decode, or than the stop rule asked for.

    If calls failed, the first worker's exception is the cause (``__cause__``).
    """


class NotEnoughMemory(CodedmapError, MemoryError):
    """The payloads would not fit into the memory that is free."""


class CannotSend(CodedmapError, TypeError):
    """A function or value that cannot be pickled, not even by cloudpickle."""


class EngineError(CodedmapError, RuntimeError):
    """The engine could not start, or was used after it had been closed."""


class MissingMainGuard(EngineError):
    """A script started worker processes while it was itself being imported by one."""


class WorkerLost(CodedmapError, RuntimeError):
    """One call gave no answer because of its worker, not because of ``fn``."""


class WorkerCrashed(WorkerLost):
    """The worker process died during the call."""


class Abandoned(WorkerLost):
    """The call was ended, or never begun, because nobody wanted its answer any more."""


class KeptLost(WorkerLost):
    """The value kept on a worker died with that worker: keep it again."""
