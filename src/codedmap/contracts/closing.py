"""The base of context managers that have a ``close``."""

from __future__ import annotations

import abc
from typing import Self


class Closing(abc.ABC):
    """A context manager that calls `close` when its ``with`` block is left."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release what is held: processes, connections, files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            self.close()
        except Exception:
            raise
        except BaseException:  # Ctrl-C, perhaps before anything was closed
            self.close()
            raise
