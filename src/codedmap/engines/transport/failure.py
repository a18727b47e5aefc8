"""Exceptions on their way from a worker to the caller."""

from __future__ import annotations

import contextlib
import pickle
import re
import traceback
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cloudpickle

from ...errors import EngineError


class WorkerTraceback(Exception):
    """The traceback of an exception raised in a worker, as text: the cause of that exception."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception on its way back to the caller."""

    error: bytes | None
    """Pickled; None if it cannot be."""
    description: str
    traceback: str
    """As text; from the caller's function on, if the exception was raised in it."""
    setup: str = ""
    """The name of the setup function that raised it, if one did."""
    host: str = ""
    """The host of the worker that was set up."""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Pickle the exception, or describe it if it cannot be pickled and unpickled."""
        description = "".join(traceback.format_exception_only(error)).strip()
        text = "".join(traceback.format_exception(type(error), error, frames_of_fn(error)))
        return cls(_pickled(error), description, text)

    def to_exception(self, worker: int | None = None) -> BaseException:
        """The exception, or a RuntimeError that describes it; if a setup raised it, an EngineError that names the ``worker``."""
        error: BaseException = RuntimeError(self.description)
        if self.error is not None:
            with contextlib.suppress(Exception):  # its module may exist in the worker only
                error = _rebuilt_exception(pickle.loads(self.error))
        # The cause has the traceback as text. Dask would pickle the traceback itself, and its frames refer to the call.
        error.__traceback__ = error.__context__ = None
        error.__cause__ = WorkerTraceback(self.traceback)
        if not self.setup:
            return error
        failed = EngineError(
            f"worker {worker}, on {self.host}, could not be set up, because {self.setup} raised {self.description}: correct it, and give it "
            "to the setup of a new engine"
        )
        failed.__cause__ = error
        return failed


def frames_of_fn(error: BaseException) -> TracebackType | None:
    """The traceback of an error from the caller's function on; the whole of it if the error was not raised there."""
    frame = error.__traceback__
    while frame is not None and not _is_ours(frame):  # those of an executor
        frame = frame.tb_next
    while frame is not None and _is_ours(frame):
        frame = frame.tb_next
    return frame or error.__traceback__


def _is_ours(frame: TracebackType) -> bool:
    return str(frame.tb_frame.f_globals.get("__name__")).startswith("codedmap.")


def _pickled(error: BaseException) -> bytes | None:
    """The pickled error, if unpickling gives one with the same message; else None."""
    # A constructor may not take the error's ``args``, or may format a message again that is formatted already.
    for value in (error, (type(error), error.args, {**vars(error)})):
        with contextlib.suppress(Exception):
            pickled: bytes = cloudpickle.dumps(value)
            if _message(_rebuilt_exception(pickle.loads(pickled))) == _message(error):
                return pickled
    return None


def _message(error: BaseException) -> str:
    """The message without addresses of objects, which change when they are unpickled."""
    return re.sub(r"\b0x[0-9a-f]+", "", str(error))


def _rebuilt_exception(made: Any) -> BaseException:
    """The exception that is given, or that is made of a given type, ``args`` and state."""
    if isinstance(made, BaseException):
        return made
    kind, args, state = made
    error: BaseException = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error
