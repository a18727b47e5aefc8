"""What runs inside a worker process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import cloudpickle
import pebble  # noqa: F401  preloaded with this module, so that workers start with it
import threadpoolctl

from .._errors import CannotSend, KeptLost
from ._parcel import Parcel, discard_all, pack, unpack

__all__ = ["Failure", "KeptKey", "Request", "hello", "serve", "start"]

# The one place of state in a worker process: what `Engine.keep` left here, by key.
_kept: dict[int, Any] = {}


@dataclass(frozen=True, slots=True)
class KeptKey:
    """Stands in a request for a value that this worker keeps."""

    key: int


@dataclass(frozen=True, slots=True)
class Request:
    """A call, or with ``keep`` a value to leave here."""

    content: Parcel
    answer: str
    """Name for the answer's shared segment."""
    keep: int | None = None
    forget: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception on its way back."""

    error: bytes | None
    name: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Pickle the exception, or if it cannot make the journey and back, describe it."""
        try:
            pickled = cloudpickle.dumps(error)
            pickle.loads(pickled)
        except Exception:
            pickled = None
        text = "".join(traceback.format_exception(error))
        return cls(pickled, type(error).__qualname__, str(error), text)


def start(run: str) -> None:
    """Prepare a new worker: called once, before its first request."""
    # A straggler deep in C code never gets to a Python signal handler: let the signal end it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # N workers with a thread per core each would fight for the cores.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    threadpoolctl.threadpool_limits(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_outlive, args=(parent.sentinel, run), daemon=True).start()


def hello() -> None:
    """Answer, to show that this worker has started."""


def serve(request: Request) -> Parcel | Failure:
    """Compute one call and pack its answer, or whatever it raised."""
    for key in request.forget:
        _kept.pop(key, None)
    try:
        if request.keep is not None:
            _kept[request.keep] = _Unopened(request.content)
            return pack(None, request.answer)
        fn, payload = unpack(request.content)
        answer = _resolved(fn)(_resolved(payload))
        try:
            return pack(answer, request.answer)
        except CannotSend as error:
            raise CannotSend(f"the answer, a {type(answer).__name__}, {error}") from error
    except BaseException as error:  # also SystemExit: fn must not end the worker
        return Failure.of(error)


@dataclass(frozen=True, slots=True)
class _Unopened:
    """A kept value before its first use, so that what opening it raises reaches a caller."""

    content: Parcel


def _resolved(value: Any) -> Any:
    if not isinstance(value, KeptKey):
        return value
    try:
        kept = _kept[value.key]
    except KeyError:
        raise KeptLost(
            "the value kept on this worker died with an earlier process: keep it again"
        ) from None
    if isinstance(kept, _Unopened):
        kept = _kept[value.key] = unpack(kept.content)
    return kept


def _outlive(sentinel: int, run: str) -> None:
    # The caller may be killed without a chance to end its workers: then they end themselves, and
    # leave no segment behind.
    wait([sentinel])
    discard_all(run)
    os._exit(1)
