"""Whether worker processes can be started here at all: each of them imports the main script first."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import stat
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

from ..errors import EngineError, MissingMainGuard
from .transport.serve import serve

__all__ = ["check_importable", "refuse_inside_import", "start_failure"]

_IMPORTS = "<frozen importlib._bootstrap"  # where Python's own import statement runs


def refuse_inside_import() -> None:
    """Start no workers while a worker imports what starts workers: that would never end.

    Raises
    ------
    MissingMainGuard
        If a worker is importing the module of the function that it has been sent. In one that imports the
        main script the process ends, and the caller raises it.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A traceback here would only be printed beside the caller's message.
        _marker().touch()
        os._exit(1)
    # A module may have its engine started by another thread, and wait for that one.
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    for frame in (sys._getframe(), main):
        module = _imported_for_call(frame)
        if module is not None:
            raise MissingMainGuard(
                f"importing the module {module} starts worker processes, and each of them imports it again "
                "to find the function that it shall call: start them in a function, or under "
                '`if __name__ == "__main__":`'
            )


def check_importable() -> None:
    """Check that workers can import the main script, if they would import one.

    Raises
    ------
    EngineError
        If it came from standard input or a pipe, or has been deleted.
    """
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    named = getattr(getattr(main, "__spec__", None), "name", None) is not None
    if (
        file is None or named or getattr(sys, "frozen", False)
    ):  # imported by its name, or not at all
        return
    if Path(file).stem == "ipython":  # multiprocessing does not import it either
        return
    path = Path(getattr(multiprocessing.process, "ORIGINAL_DIR", None) or "", file)
    try:
        read_once = stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        read_once = True
    if read_once:
        raise EngineError(
            f"each worker process begins by importing the main script, and {file} is no file that it "
            'could read: put the script into a file, its code under `if __name__ == "__main__":`, and run that'
        )


def start_failure(error: Exception) -> EngineError:
    """What to raise after a worker did not start."""
    if _marker().exists():
        _marker().unlink()
        return MissingMainGuard(
            "this script starts worker processes, and each of them begins by importing the script: "
            'put its code under `if __name__ == "__main__":`'
        )
    return EngineError(
        f"a worker process ended while it was starting ({error}); what it printed stands above: "
        "does the main script import without error, and is there memory left?"
    )


def _imported_for_call(frame: FrameType | None) -> str | None:
    """The module that a worker is importing, at this frame, in order to serve a call."""
    module, importing = None, False
    while frame is not None:
        code = frame.f_code
        if code is serve.__code__:
            return (module or "of the function") if importing else None
        if code.co_name == "<module>":
            module = module or frame.f_globals.get("__name__")
        importing = importing or code.co_filename.startswith(_IMPORTS)
        frame = frame.f_back
    return None


def _marker() -> Path:
    # A name that only the caller and its workers know: multiprocessing passes its key to each new process.
    key = hashlib.sha256(bytes(multiprocessing.current_process().authkey)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"codedmap-{key}-no-main-guard"
