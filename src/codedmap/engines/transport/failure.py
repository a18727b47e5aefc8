"""Exceptions on their way from a worker to the caller."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from dataclasses import dataclass
from typing import Any

import cloudpickle

from ...errors import EngineError


class WorkerTraceback(Exception):
    """The traceback of an exception raised in a worker, as text: the cause of that exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception on its way back."""

    error: bytes | None
    description: str
    traceback: str
    setup: str = ""
    """The function that raised it while it set up the worker."""

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Pickle the exception, or describe it if it cannot be pickled and unpickled."""
        description = "".join(traceback.format_exception_only(error)).strip()
        pickled = _pickled(error, error)
        if pickled is None:
            pickled = _pickled(_Parts.of(error), error)
        return cls(pickled, description, "".join(traceback.format_exception(error)))

    def to_exception(self) -> BaseException:
        """The exception, or a RuntimeError that describes it if it cannot be unpickled."""
        error: BaseException = RuntimeError(self.description)
        if self.error is not None:
            with contextlib.suppress(Exception):  # what it needs may exist in the worker only
                error = _rebuilt_exception(pickle.loads(self.error))
        error.__cause__ = WorkerTraceback(self.traceback)
        if not self.setup:
            return error
        failed = EngineError(
            f"a worker could not be set up, because {self.setup} raised {self.description}: correct it, and give it "
            "to the setup of a new engine"
        )
        failed.__cause__ = error
        return failed


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an exception is made of, where its constructor does not take its ``args``."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]

    @classmethod
    def of(cls, error: BaseException) -> _Parts:
        return cls(type(error), error.args, {**vars(error)})

    def rebuild(self) -> BaseException:
        error = self.kind.__new__(self.kind, *self.args)
        error.args = self.args
        vars(error).update(self.state)
        return error


def _pickled(value: BaseException | _Parts, error: BaseException) -> bytes | None:
    """Pickled so that unpickling gives an error with the same message, or None if that is impossible."""
    try:
        pickled: bytes = cloudpickle.dumps(value)
        # A constructor called with its own formatted message may format it again: "no no such key".
        return pickled if str(_rebuilt_exception(pickle.loads(pickled))) == str(error) else None
    except Exception:
        return None


def _rebuilt_exception(made: BaseException | _Parts) -> BaseException:
    return made.rebuild() if isinstance(made, _Parts) else made
