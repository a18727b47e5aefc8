"""``codedmap run --engine``: values of the option, and real clusters."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
from click.testing import CliRunner

from codedmap.cli import cli

from ..repeats import first

pytestmark = pytest.mark.timeout(120)

MODEL = """
import halves

def half(batch):
    return halves.HALF * batch
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "halves.py").write_text("HALF = 0.5\n")
    np.save("x.npy", np.arange(24.0).reshape(12, 2))
    return tmp_path


def words(engine, output="out.npz"):
    return [
        "run",
        "model:half",
        "x.npy",
        "--code",
        "Replication(2, 4)",
        "--engine",
        engine,
        "--out",
        output,
    ]


@pytest.mark.parametrize(
    ("engine", "message", "code"),
    [
        ("mpi", "--engine mpi must be local, dask:ADDRESS of a scheduler, such as dask:tcp://", 2),
        ("local:4", "--engine local:4 must be local", 2),
        (
            "dask",
            "--engine dask must be local, dask:ADDRESS of a scheduler, such as dask:tcp://",
            2,
        ),
        ("ray:ray://10.0.0.1:10001", "must be ray:HOST:PORT, such as ray:10.0.0.1:6379", 2),
        ("ray:somewhere", "must be ray:HOST:PORT", 2),
    ],
)
def test_an_engine_that_does_not_exist_is_refused(folder, monkeypatch, engine, message, code):
    monkeypatch.syspath_prepend(folder)
    done = CliRunner().invoke(cli, words(engine))
    assert done.exit_code == code
    assert message in done.output
    assert not (folder / "out.npz").exists()


@pytest.mark.parametrize(
    ("late", "says"),
    [
        ("side_effect", "no Dask scheduler answers at tcp://x:1 (late): is it running?"),
        (
            "return_value.wait_for_workers.side_effect",
            "the Dask cluster at tcp://x:1 has no workers: start some with dask worker tcp://x:1",
        ),
    ],
)
def test_a_dask_cluster_that_does_not_answer_is_an_error(folder, monkeypatch, late, says):
    monkeypatch.syspath_prepend(folder)
    client = MagicMock(**{"return_value.__exit__.return_value": False, late: TimeoutError("late")})
    monkeypatch.setattr(pytest.importorskip("distributed"), "Client", client)
    done = CliRunner().invoke(cli, words("dask:tcp://x:1"))
    assert done.exit_code == 3
    assert says in done.output


def test_that_ray_cannot_be_started_is_an_error(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    start = MagicMock(side_effect=RuntimeError("full"))
    monkeypatch.setattr(pytest.importorskip("ray"), "init", start)
    done = CliRunner().invoke(cli, words("ray"))
    assert done.exit_code == 3
    assert "Ray cannot be used here: full" in done.output
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_ray_cluster_that_does_not_answer_is_an_error_at_once(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = CliRunner().invoke(cli, words(f"ray:{address}"))
    assert done.exit_code == 3
    assert f"no Ray cluster answers at {address}" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("engine", first(1, ["dask", "ray"]))
def test_the_model_and_modules_beside_it_are_sent_to_a_cluster(folder, request, engine):
    request.getfixturevalue({"dask": "dask_client", "ray": "ray_cluster"}[engine])
    address = os.environ[f"CODEDMAP_TEST_{engine.upper()}"]
    done = subprocess.run(
        [sys.executable, "-m", "codedmap", *words(f"{engine}:{address}")],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    with np.load("out.npz") as out:
        assert np.array_equal(out["values"], np.load("x.npy") / 2)
    assert "of 4 workers answered" in done.stdout
    assert "12 of 12 exact" in done.stdout
