"""Work in threads of its own. Executors take none any more once the main thread has ended; other threads may go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(make: Callable[[], T], *, name: str = "codedmap", daemon: bool = False) -> Future[T]:
    """What ``make`` returns, made in a thread, for which the end of the program waits unless it is a ``daemon``."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    threading.Thread(target=_make, args=(future, make), name=name, daemon=daemon).start()
    return future


def _make(future: Future[T], make: Callable[[], T]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:
        future.set_exception(error)
    finally:
        del future, make  # the traceback of an error refers to this frame
