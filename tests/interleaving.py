"""Two threads at once: what one does is done between any two instructions of the other."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .processes import ANSWER

_BLOCKED = 0.02  # seconds after which the other thread counts as waiting for a lock


def interleaved(
    n: int, of: Callable[..., Any], job: Callable[[], object], other: Callable[[], object]
) -> bool:
    """Do a job, and another one in another thread just before the n-th instruction of a function; whether there is one."""
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(other())
        except BaseException as error:
            done.set_exception(error)

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal n
        if frame.f_code is not of.__code__:
            return None
        frame.f_trace_opcodes = True
        n -= event == "opcode"
        if n == 0:
            sys.settrace(None)
            thread.start()
            thread.join(_BLOCKED)
            return None
        return trace

    thread, before = threading.Thread(target=run), sys.gettrace()
    sys.settrace(trace)
    try:
        job()
    finally:
        sys.settrace(before)
    if n:
        return False
    done.result(ANSWER)
    thread.join(ANSWER)
    return True
