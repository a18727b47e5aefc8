"""joblib's own tests of its backends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


def test_the_tests_of_joblib(tmp_path):
    pytest.importorskip("joblib.test")  # test_parallel has marks that are unknown here
    # As the backend of a nested call it is asked for by a name that workers have not registered.
    chosen = "codedmap and not test_nested_loop"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "-p",
        "tests.peers.joblib_backend",
    ]
    command += ["--pyargs", "joblib.test.test_parallel", "-k", chosen]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    passed = [word for word in done.stdout.split() if word.isdigit()]
    assert " passed" in done.stdout
    assert int(passed[-2] if "deselected" in done.stdout else passed[-1]) > 0
