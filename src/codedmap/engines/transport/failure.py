"""Exceptions on their way from a worker to the caller."""

from __future__ import annotations

import contextlib
import pickle
import traceback
from dataclasses import dataclass
from typing import Any

import cloudpickle

__all__ = ["Failure", "WorkerTraceback"]


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

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Pickle the exception, or if it cannot make the journey and back, describe it."""
        description = "".join(traceback.format_exception_only(error)).strip()
        pickled = _pickled(error, error)
        if pickled is None:
            pickled = _pickled(_Parts.of(error), error)
        return cls(pickled, description, "".join(traceback.format_exception(error)))

    def revived(self) -> BaseException:
        """The exception, or one that describes it where it cannot be had."""
        error: BaseException = RuntimeError(self.description)
        if self.error is not None:
            with contextlib.suppress(Exception):  # what it needs may exist in the worker only
                error = _whole(pickle.loads(self.error))
        error.__cause__ = WorkerTraceback(self.traceback)
        return error


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an exception is made of, where its constructor does not take its ``args``."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]

    @classmethod
    def of(cls, error: BaseException) -> _Parts:
        return cls(type(error), error.args, {**vars(error)})

    def whole(self) -> BaseException:
        error = self.kind.__new__(self.kind, *self.args)
        error.args = self.args
        vars(error).update(self.state)
        return error


def _pickled(value: BaseException | _Parts, error: BaseException) -> bytes | None:
    """As bytes from which this error can be made again, saying the same; or None."""
    try:
        pickled: bytes = cloudpickle.dumps(value)
        # A constructor that is called with what it made of its arguments may say "no no such key".
        return pickled if str(_whole(pickle.loads(pickled))) == str(error) else None
    except Exception:
        return None


def _whole(made: BaseException | _Parts) -> BaseException:
    return made.whole() if isinstance(made, _Parts) else made
