"""Executors of other packages, for the contract tests of engines."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

from ..clusters import ROOT


@contextmanager
def threads(workers: int, _: Path) -> Iterator[Executor]:
    with ThreadPoolExecutor(workers) as executor:
        yield executor


@contextmanager
def processes(workers: int, _: Path) -> Iterator[Executor]:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        yield executor


@contextmanager
def loky(workers: int, _: Path) -> Iterator[Executor]:
    from loky import ProcessPoolExecutor as Loky

    with Loky(workers) as executor:
        yield executor


@contextmanager
def mpi4py(workers: int, _: Path) -> Iterator[Executor]:
    """On the processes of mpiexec, however many."""
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor(workers) as executor:
        yield executor


@contextmanager
def parsl(workers: int, folder: Path) -> Iterator[Executor]:
    from parsl import Config, HighThroughputExecutor
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider

    provider = LocalProvider(init_blocks=1, max_blocks=1)
    pool = HighThroughputExecutor(
        max_workers_per_node=workers, provider=provider, address="127.0.0.1", encrypted=False
    )
    config = Config([pool], run_dir=str(folder), strategy="none", initialize_logging=False)
    with _environment(), ParslPoolExecutor(config) as executor:
        yield executor


@contextmanager
def executorlib(workers: int, _: Path) -> Iterator[Executor]:
    from executorlib import SingleNodeExecutor

    with _environment(), SingleNodeExecutor(max_workers=workers) as executor:
        yield executor


def _environment() -> AbstractContextManager[object]:
    """That in which processes find the programs of their package, and these tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    modules = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return mock.patch.dict(os.environ, PATH=path, PYTHONPATH=modules)
