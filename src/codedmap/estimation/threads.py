"""BLAS with one thread while anything is estimated."""

from __future__ import annotations

import threading

from threadpoolctl import threadpool_limits


class _OneThread:
    """A block in which BLAS has one thread; as many as before when all threads have left it.

    The number is the process's. Blocks of threadpoolctl that two threads leave in the order in which they came would each
    restore what it was then, and BLAS would keep one thread for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limits = threadpool_limits(1, user_api="blas")
            self._inside += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._limits is not None:
                self._limits.restore_original_limits()


one_thread = _OneThread()
