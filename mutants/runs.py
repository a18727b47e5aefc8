"""Tests on a copy of the project, with a fault or without."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .faults import Fault
from .rooms import ROOT

_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "_build", "dist")
_PYTEST = """
import resource, threading, pytest
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # a fault may fill any memory
threading.stack_size(2 << 20)  # of which a test has a thousand
raise SystemExit(pytest.main())
"""
_OPTIONS = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=0")
_ENDS = ("FAILED tests", "ERROR tests")


@dataclass(frozen=True, slots=True)
class Run:
    """How tests ended: ``failed`` is the first that did, ``None`` if all passed."""

    failed: str | None
    seconds: float

    def __str__(self) -> str:
        return f"{self.failed or 'all passed'}, {self.seconds:.0f} s"


class Copy:
    """A copy of the project in a folder of its own: the user's files are never changed."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "project"
        shutil.copytree(ROOT, self._root, ignore=_LEFT_OUT)

    def run(self, tests: str, limit: float, fault: Fault | None = None) -> Run:
        """Run these tests until the first fails; what takes longer than the limit has failed."""
        if fault is None:
            return self._run(tests, limit)
        path = self._root / fault.path
        right = path.read_text()
        try:
            self._write(path, fault.source)
            return self._run(tests, limit)
        finally:
            self._write(path, right)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # Python would not compile a file again that has the same size and second as before.
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)

    def _run(self, tests: str, limit: float) -> Run:
        begun = time.monotonic()
        process = subprocess.Popen(
            [
                sys.executable,
                *("-c", _PYTEST),
                *_OPTIONS,
                f"--timeout={limit:.0f}",
                *(f"tests/{test}" for test in tests.split()),
            ],
            cwd=self._root,
            env={**os.environ, "PYTHONPATH": str(self._root / "src"), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return Run("out of time", limit)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        seconds = time.monotonic() - begun
        if process.returncode == 0:
            return Run(None, seconds)
        ends = [line.split()[1] for line in output.splitlines() if line.startswith(_ENDS)]
        return Run(ends[0] if ends else f"exit code {process.returncode}", seconds)
