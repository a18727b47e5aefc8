"""The contract tests of every engine, replayed over a table of engines: to add an engine, add a row."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.engine import what_is_said
from codedmap.errors import KeptLost, NotStarted
from codedmap.testing import Act, Faulty, Scripted, ScriptedCluster, crash, fail, late

from ..clusters import standing
from ..processes import (
    ANSWER,
    children,
    eventually,
    nap,
    run_script,
    same,
    shm_names,
    threads,
    who,
)
from ..repeats import first
from . import executors
from .calls import (
    STRAGGLER,
    Counting,
    EndsFirst,
    Held,
    Logging,
    Opened,
    SetUp,
    Unlucky,
    bump,
    raise_unlucky,
    told_to_end,
    who_is_there,
)

pytestmark = pytest.mark.timeout(90)

SOON = STRAGGLER / 5
"""Seconds within which all that does not wait for a straggler is done, on a machine however slow."""

MPI = "CODEDMAP_TEST_MPI"
"""Set where these tests run under mpiexec."""
Script = Mapping[int, "Act | list[Act]"]


@dataclass(frozen=True)
class Row:
    """An engine, and what it is excused from."""

    name: str
    start: Callable[[int, Script, float, Path], AbstractContextManager[cm.engines.Engine]]
    """Given workers, script, grace and a folder for its own use."""
    engine: type
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Law to reason, which is a quotation from the engine's docstring."""
    prefetch: int = 0
    """So many calls count as begun though all workers are busy."""
    source: str = ""
    """Makes it in a script: an ``engine`` of two workers, whose first straggles."""
    needs: str = ""
    """The fixture of a cluster or executor that must stand."""
    replace: Callable[[Any], Any] = lambda engine: None
    """Has a worker join in place of one that has died, if the cluster does not."""
    package: str = ""
    """It takes seconds, and is of this package, which need not be installed."""
    folder: Path = Path()

    @property
    def members(self) -> bool:
        """Whether its workers join and leave, so that one that dies is not replaced by another of its number."""
        return hasattr(self.engine, "members")

    @property
    def setup(self) -> bool:
        """Whether its workers can be set up."""
        return hasattr(self.engine, "setup")

    def lives(self, workers: int, *lives: list[Act]) -> Script:
        """What worker 0 of so many does until it ends, and then those that take its place."""
        script: dict[int, list[Act]] = {}
        worker, numbers = 0, itertools.count(workers)
        for life in lives:
            script.setdefault(worker, []).extend(life)
            # Workers that are scripted do not end because a call was abandoned.
            if self.members and (life[-1].crash or self.engine is not ScriptedCluster):
                worker = next(numbers)
        return script

    def successor(self, engine: Any, worker: int, numbers: Iterator[int]) -> int:
        """The worker that takes the place of one that has ended; numbers: those not used yet."""
        if not self.members or worker in engine.members():
            return worker
        self.replace(engine)
        number = next(numbers)
        assert eventually(lambda: number in engine.members(), ANSWER), engine.members()
        return number

    def __call__(
        self, workers: int, script: Script | None = None, *, grace: float = 0.5
    ) -> AbstractContextManager[cm.engines.Engine]:
        return self.start(workers, script or {}, grace, self.folder)

    @contextmanager
    def calm(self, workers: int, script: Script | None = None) -> Iterator[cm.engines.Engine]:
        """For a law that ends no worker. Those of Ray take a second each to start, so all such laws share three."""
        if self.name == "Ray":
            yield Faulty(standing("calm", lambda: cm.engines.Ray(3, grace=0.5)), script or {})
        else:
            with self(workers, script) as engine:
                yield engine


@contextmanager
def local(workers: int, script: Script, grace: float, _: Path) -> Iterator[cm.engines.Engine]:
    with cm.engines.Local(workers, grace=grace) as engine:
        yield Faulty(engine, script)


@contextmanager
def scripted(workers: int, script: Script, _: float, __: Path) -> Iterator[cm.engines.Engine]:
    with Scripted(workers, script) as engine:
        yield engine


@contextmanager
def scripted_cluster(
    workers: int, script: Script, _: float, __: Path
) -> Iterator[cm.engines.Engine]:
    with ScriptedCluster([None] * workers, script) as engine:
        yield engine


def of(
    start: Callable[[int, Path], AbstractContextManager[Executor]],
) -> Callable[[int, Script, float, Path], AbstractContextManager[cm.engines.Engine]]:
    """An engine of an executor, whose workers do not crash."""

    @contextmanager
    def started(
        workers: int, script: Script, _: float, folder: Path
    ) -> Iterator[cm.engines.Engine]:
        lists = (acts if isinstance(acts, list) else [acts] for acts in script.values())
        assert not any(act.crash for acts in lists for act in acts), "this may end the tests"
        with start(workers, folder) as executor, let_go(folder) as path:
            yield LetGo(cm.engines.FromExecutor(executor, workers), script, path)

    return started


@pytest.fixture
def loky_pool(tmp_path_factory) -> Executor:
    return standing("loky", lambda: executors.loky(3, tmp_path_factory.mktemp("loky")))


@pytest.fixture
def parsl_pool(tmp_path_factory) -> Executor:
    return standing("parsl", lambda: executors.parsl(3, tmp_path_factory.mktemp("parsl")))


def that_stands(name: str) -> Callable[[int, Path], AbstractContextManager[Executor]]:
    """One for all laws, because it takes seconds to start."""
    return lambda workers, folder: nullcontext(standing(name, nullcontext))


@contextmanager
def dask(workers: int, script: Script, grace: float, _: Path) -> Iterator[cm.engines.Engine]:
    client = distributed.default_client()
    client.wait_for_workers(4, ANSWER)
    with cm.engines.Dask(client, workers=workers, grace=grace) as engine:
        yield Faulty(engine, script)


@contextmanager
def ray(workers: int, script: Script, grace: float, _: Path) -> Iterator[cm.engines.Engine]:
    with cm.engines.Ray(workers, grace=grace) as engine:
        yield Faulty(engine, script)


@contextmanager
def let_go(folder: Path) -> Iterator[Path]:
    """A path that exists at the end, because leaving an executor waits for all stragglers."""
    try:
        yield folder / "let go"
    finally:
        (folder / "let go").touch()


class LetGo(Faulty):
    """Stragglers that stop straggling when a file appears."""

    def __init__(self, engine: cm.engines.Engine, script: Script, path: Path) -> None:
        super().__init__(engine, script)
        self._path = path

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        act = next(self._acts.get(worker, iter(())), Act())
        if act.seconds >= STRAGGLER:
            return self._engine.submit(worker, Held(fn, self._path), payload)
        return Faulty(self._engine, {worker: act}).submit(worker, fn, payload)


NOT_PINNED = 'Calls are not pinned to workers: a value "kept" is sent along with each call.'
HOLDS = "A straggler goes on and holds its worker."
JOINS = "Executors wait for stragglers when the program ends."
BREAKS = "One crash in a ``ProcessPoolExecutor``, loky's too, breaks the pool and costs every answer that is still pending."
THEIRS = "What crashes in Parsl and executorlib fails with an exception of theirs, and is not sent again."
NO_TRACEBACK = "executorlib drops the traceback of an exception."
ENDS_ALL = "A crash in mpi4py ends all processes of MPI, the caller's too."
CANCELS = "Calls that have not begun are cancelled on the standard library's pools only"
NO_QUEUE = "Calls run in the caller's thread when they are submitted"
LIKE_SCRIPTED = "A `Scripted` engine whose workers join and leave."
ENDS = "A thread that ends its process ends the caller's."
POOL = {
    "a_number_is_the_same_worker_while_it_lives": NOT_PINNED,
    "calls_of_one_worker_run_one_at_a_time_in_order": NOT_PINNED,
    "healthy_workers_survive_what_happens_to_others": NOT_PINNED,
    "abandoning_kills_no_worker_before_grace": NOT_PINNED,
    "abandoned_stragglers_do_not_hold_their_workers": HOLDS,
    "stragglers_do_not_delay_leaving_the_block": HOLDS,
    "stragglers_do_not_delay_the_end_of_the_program": JOINS,
    "nothing_is_left_of_stragglers_when_they_are_abandoned": HOLDS,
}
SENT = {"what_is_kept_stays_on_its_worker": NOT_PINNED}
NO_CANCEL = {"what_is_abandoned_before_it_begins_never_runs": CANCELS}
CRASHES = (
    "one_crash_costs_one_answer",
    "a_worker_is_replaced_after_each_crash",
    "calls_that_wait_behind_a_crash_do_not_crash",
    "a_worker_that_is_told_to_end_costs_one_answer",
    "what_was_kept_is_lost_in_a_crash_and_can_be_kept_again",
    "nothing_is_left_of_crashes",
)
ROWS = [
    Row(
        "Local",
        local,
        cm.engines.Local,
        source="owner = cm.engines.Local(2); engine = cm.testing.Faulty(owner, {0: cm.testing.late(150)})",
    ),
    Row(
        "Scripted",
        scripted,
        Scripted,
        dict.fromkeys(
            (
                "a_worker_that_is_told_to_end_costs_one_answer",
                "what_is_abandoned_before_it_begins_never_runs",
            ),
            NO_QUEUE,
        ),
        source="engine = cm.testing.Scripted(2, {0: cm.testing.late(150)})",
    ),
    Row(
        "ScriptedCluster",
        scripted_cluster,
        ScriptedCluster,
        {
            "a_worker_that_is_told_to_end_costs_one_answer": LIKE_SCRIPTED,
            "what_is_abandoned_before_it_begins_never_runs": LIKE_SCRIPTED,
            "calls_that_wait_behind_a_crash_do_not_crash": LIKE_SCRIPTED,
            "a_call_that_waits_for_a_worker_that_dies_has_not_started": LIKE_SCRIPTED,
        },
        source="engine = cm.testing.ScriptedCluster(['a', 'b'], {0: cm.testing.late(150)})",
        replace=ScriptedCluster.join,
    ),
    Row(
        "threads",
        of(executors.threads),
        cm.engines.FromExecutor,
        POOL | dict.fromkeys(CRASHES, ENDS),
    ),
    Row(
        "processes",
        of(executors.processes),
        cm.engines.FromExecutor,
        POOL | SENT | dict.fromkeys(CRASHES, BREAKS),
        prefetch=3,
    ),
    Row(
        "loky",
        of(that_stands("loky")),
        cm.engines.FromExecutor,
        POOL | SENT | NO_CANCEL | dict.fromkeys(CRASHES, BREAKS),
        needs="loky_pool",
    ),
    Row(
        "mpi4py",
        of(executors.mpi4py),
        cm.engines.FromExecutor,
        POOL | SENT | NO_CANCEL | dict.fromkeys(CRASHES, ENDS_ALL),
        package="mpi4py",
    ),
    Row(
        "Parsl",
        of(that_stands("parsl")),
        cm.engines.FromExecutor,
        POOL | SENT | NO_CANCEL | dict.fromkeys(CRASHES, THEIRS),
        package="parsl",
        needs="parsl_pool",
    ),
    Row(
        "executorlib",
        of(executors.executorlib),
        cm.engines.FromExecutor,
        POOL
        | SENT
        | NO_CANCEL
        | dict.fromkeys(CRASHES, THEIRS)
        | {"exceptions_keep_their_type_and_the_text_of_their_traceback": NO_TRACEBACK},
        package="executorlib",
    ),
    Row(
        "Dask",
        dask,
        cm.engines.Dask,
        source=(
            "import distributed; client = distributed.Client(os.environ['CODEDMAP_TEST_DASK']);"
            "client.wait_for_workers(4);"
            "owner = cm.engines.Dask(client, workers=2, grace=0.5);"
            "engine = cm.testing.Faulty(owner, {0: cm.testing.late(150)})"
        ),
        needs="dask_client",
    ),
    Row(
        "Ray",
        ray,
        cm.engines.Ray,
        source=(
            "import ray; ray.init(os.environ['CODEDMAP_TEST_RAY'], logging_level='ERROR');"
            "owner = cm.engines.Ray(workers=2, grace=0.5);"
            "engine = cm.testing.Faulty(owner, {0: cm.testing.late(150)})"
        ),
        needs="ray_cluster",
    ),
]

SHARED = (
    "a_worker_is_replaced_after_each_crash",
    "what_was_kept_is_lost_in_a_crash_and_can_be_kept_again",
    "healthy_workers_survive_what_happens_to_others",
    "a_late_answer_of_an_earlier_wave_is_not_used_in_a_later_one",
    "numbers_are_never_used_again_and_who_watches_is_called",
    "who_watches_knows_of_a_death_before_the_calls_fail",
    "a_call_that_waits_for_a_worker_that_dies_has_not_started",
    "calls_to_a_worker_that_has_gone_fail_without_having_started",
    "a_setup_that_ends_its_worker_costs_one_call_each_time",
    "a_setup_that_no_worker_survives_ends_the_job",
)
"""Laws that `Dask` and `Ray` keep by what they share. Each of them starts a worker of Ray, which takes seconds."""
LAWS: list[str] = []


def law(
    test: Callable[..., None], which: Callable[[Row], bool] = lambda row: True
) -> Callable[..., None]:
    """Replay a test over the table, or some rows of it; a row that is excused says why."""
    name = test.__name__.removeprefix("test_")
    LAWS.append(name)
    skipped = {row.name: [pytest.mark.skip(row.cannot[name])] for row in ROWS if name in row.cannot}
    slow = {row.name: [pytest.mark.slow] for row in ROWS if row.package}
    if name in SHARED:
        slow["Ray"] = [pytest.mark.slow]
    rows = [
        pytest.param(row, id=row.name, marks=skipped.get(row.name, slow.get(row.name, [])))
        for row in ROWS
        if which(row)
    ]
    return pytest.mark.parametrize("row", rows, indirect=True)(test)


def law_of_members(test: Callable[..., None]) -> Callable[..., None]:
    """A law of engines whose workers join and leave."""
    return law(test, lambda row: row.members)


def law_of_setups(test: Callable[..., None]) -> Callable[..., None]:
    """A law of engines whose workers can be set up."""
    return law(test, lambda row: row.setup)


@pytest.fixture
def row(request, tmp_path):
    folder = tmp_path / "engine"
    folder.mkdir()
    if request.param.package:
        pytest.importorskip(request.param.package)
    if request.param.name == "mpi4py" and MPI not in os.environ:
        pytest.skip(f"is run under mpiexec, by {test_mpi4py_keeps_the_laws.__name__}")
    if request.param.needs:
        request.getfixturevalue(request.param.needs)
    return Row(**{**vars(request.param), "folder": folder})


# Crashes.


@law
def test_one_crash_costs_one_answer(row):
    with row(3, {0: late(0.5), 1: crash(0.1), 2: late(0.5)}) as engine:
        futures = [engine.submit(worker, same, worker) for worker in range(3)]
        assert isinstance(futures[1].exception(ANSWER), cm.WorkerCrashed)
        assert [futures[0].result(ANSWER), futures[2].result(ANSWER)] == [0, 2]


@law
def test_a_worker_is_replaced_after_each_crash(row):
    with row(2, row.lives(2, [crash()], [Act(), crash()], [crash()], [Act()])) as engine:
        answers, worker, numbers = [], 0, itertools.count(2)
        for _ in range(5):
            error = engine.submit(worker, same, "answer").exception(ANSWER)
            answers.append(type(error) if error else "answer")
            worker = row.successor(engine, worker, numbers)
    lost = cm.WorkerCrashed
    assert answers == [lost, "answer", lost, lost, "answer"]


@law
def test_calls_that_wait_behind_a_crash_do_not_crash(row):
    with row(2, row.lives(2, [crash(0.2)], [Act(), crash(0.2)], [Act()])) as engine:
        futures = [engine.submit(0, same, k) for k in range(4)]
        found = [future.exception(ANSWER) for future in futures]
        assert isinstance(found[0], cm.WorkerCrashed)
        if row.members:
            assert all(isinstance(error, NotStarted | cm.WorkerCrashed) for error in found[1:])
        else:
            assert isinstance(found[2], cm.WorkerCrashed)
            assert [futures[1].result(), futures[3].result()] == [1, 3]


@law
def test_a_worker_that_is_told_to_end_costs_one_answer(row):
    with row(2) as engine:
        futures = [engine.submit(0, told_to_end, None), engine.submit(0, same, 0)]
        futures.append(engine.submit(1, same, 1))
        assert isinstance(futures[0].exception(ANSWER), cm.WorkerCrashed)
        behind = futures[1].exception(ANSWER)
        assert isinstance(behind, NotStarted) if row.members else futures[1].result() == 0
        assert futures[2].result(ANSWER) == 1


# What fn raises.


@law
def test_exceptions_keep_their_type_and_the_text_of_their_traceback(row):
    with row.calm(2) as engine:
        error = engine.submit(1, raise_unlucky, 13).exception(ANSWER)
        after = engine.submit(1, same, "well").result(ANSWER)
    assert type(error) is Unlucky
    assert error.number == 13
    text = "".join(traceback.format_exception(error))
    assert "in raise_unlucky" in text
    assert 'raise Unlucky(number, "a bug in fn")' in text
    assert after == "well"


@law
def test_an_exception_costs_no_other_answer(row):
    with row.calm(3, {1: fail(LookupError("here"))}) as engine:
        futures = [engine.submit(worker, same, worker) for worker in range(3)]
        assert isinstance(futures[1].exception(ANSWER), LookupError)
        assert [futures[0].result(ANSWER), futures[2].result(ANSWER)] == [0, 2]


# Identity.


@law
def test_the_same_call_twice_runs_twice(row, tmp_path):
    count = Counting(tmp_path / "count")
    with row.calm(2) as engine:
        futures = [engine.submit(worker, count, "same") for worker in (0, 0, 1, 1)]
        assert [future.result(ANSWER) for future in futures] == ["same"] * 4
    assert count.calls == 4


@law
def test_a_number_is_the_same_worker_while_it_lives(row):
    with row.calm(3) as engine:
        first = [engine.submit(worker, who, None).result(ANSWER) for worker in range(3)]
        for _ in range(3):
            futures = [engine.submit(worker, who, None) for worker in (2, 0, 1)]
            assert [future.result(ANSWER) for future in futures] == [first[2], first[0], first[1]]


@law
def test_calls_of_one_worker_run_one_at_a_time_in_order(row, tmp_path):
    with row.calm(2) as engine:
        futures = [engine.submit(0, Logging(tmp_path / "log"), k) for k in range(6)]
        wait(futures, ANSWER)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [f"{word} {k}" for k in range(6) for word in ("begin", "end")]


# Stragglers.


@law
def test_a_straggler_does_not_delay_other_workers(row):
    with row(2, {0: late(STRAGGLER)}) as engine:
        straggler = engine.submit(0, same, 0)
        began = time.monotonic()
        for abandoned in (False, True):
            if abandoned:
                engine.abandon([straggler])
            futures = [engine.submit(1, same, k) for k in range(3)]
            assert [future.result(ANSWER) for future in futures] == [0, 1, 2]
        assert time.monotonic() - began < SOON
        assert abandoned


@law
def test_neither_submitting_nor_abandoning_waits_for_a_straggler(row):
    with row(2, dict.fromkeys((0, 1), late(STRAGGLER)), grace=STRAGGLER) as engine:
        began = time.monotonic()
        futures = [engine.submit(worker, same, k) for k in range(20) for worker in (0, 1)]
        engine.abandon(futures[:10])
        engine.abandon(futures[5:])
        engine.abandon(futures)
        assert time.monotonic() - began < SOON


@law
def test_abandoned_stragglers_do_not_hold_their_workers(row):
    script = row.lives(1, [late(STRAGGLER)], [Act(), late(STRAGGLER)], [Act()])
    with row(1, script, grace=0.3) as engine:
        worker, numbers = 0, itertools.count(1)
        for _ in range(2):
            straggler = engine.submit(worker, same, "late")
            began = time.monotonic()
            engine.abandon([straggler])
            assert isinstance(straggler.exception(ANSWER), cm.errors.Abandoned)
            worker = row.successor(engine, worker, numbers)
            assert engine.submit(worker, same, "answer").result(ANSWER) == "answer"
            assert time.monotonic() - began < SOON


@law
def test_stragglers_do_not_delay_leaving_the_block(row):
    with row(2, dict.fromkeys(range(2), late(STRAGGLER)), grace=STRAGGLER) as engine:
        stragglers = [engine.submit(worker, same, 0) for worker in range(2)]
        engine.abandon(stragglers[:1])
        began = time.monotonic()
    assert time.monotonic() - began < SOON


@law
@pytest.mark.parametrize("left", first(1, ["abandoned", "running"]))
def test_stragglers_do_not_delay_the_end_of_the_program(row, left, tmp_path):
    ended = run_script(
        tmp_path,
        f"""
        # main
        {row.source}
        straggler = engine.submit(0, abs, -1)
        print(engine.submit(1, abs, -1).result())
        if {left == "abandoned"}:
            engine.abandon([straggler])
        """,
    )
    assert ended.out == "1\n"
    assert (ended.err, ended.process.returncode) == ("", 0)
    assert ended.seconds < SOON


@law
def test_every_future_is_done_when_the_block_has_been_left(row):
    with row(2, {0: [Act(), late(STRAGGLER)]}) as engine:
        futures = [engine.submit(0, same, k) for k in range(4)]
        assert futures[0].result(ANSWER) == 0
    _, pending = wait(futures, ANSWER)
    assert not pending


# Abandoning.


@law
def test_abandoning_kills_no_worker_before_grace(row):
    with row(2, {0: [Act(), late(0.5)]}, grace=STRAGGLER) as engine:
        before = [engine.submit(worker, who, None).result(ANSWER) for worker in (0, 1)]
        kept = [engine.keep(worker, [worker]) for worker in (0, 1)]
        engine.abandon([engine.submit(0, same, "late")])
        assert [engine.submit(worker, who, None).result(ANSWER) for worker in (0, 1)] == before
        assert [engine.submit(worker, same, kept[worker]).result(ANSWER) for worker in (0, 1)] == [
            [0],
            [1],
        ]
        assert not any(value.lost for value in kept)


@law
def test_healthy_workers_survive_what_happens_to_others(row):
    script = row.lives(
        3,
        [Act(), late(STRAGGLER)],
        [Act(), crash()],
        [Act(), late(STRAGGLER)],
        [Act()],
    )
    with row(3, script, grace=0.3) as engine:
        before = [engine.submit(worker, who, None).result(ANSWER) for worker in range(3)]
        kept = engine.keep(2, [7])
        worker, numbers = 0, itertools.count(3)
        for _ in range(3):
            trouble = engine.submit(worker, same, "trouble")
            healthy = engine.submit(1, nap, 0.05)
            engine.abandon([trouble, healthy])
            assert isinstance(trouble.exception(ANSWER), cm.errors.WorkerLost)
            worker = row.successor(engine, worker, numbers)
            assert engine.submit(worker, same, "well").result(ANSWER) == "well"
        after = [engine.submit(worker, who, None).result(ANSWER) for worker in (1, 2)]
        assert after == before[1:]
        assert engine.submit(2, same, kept).result(ANSWER) == [7]


@law
def test_what_is_abandoned_before_it_begins_never_runs(row, tmp_path):
    count = Counting(tmp_path / "count")
    with row(
        2, {worker: [late(0.4)] + 5 * [Act()] for worker in (0, 1)}, grace=STRAGGLER
    ) as engine:
        first = [engine.submit(worker, same, 0) for worker in (0, 1)]
        queued = [engine.submit(worker, count, 0) for _ in range(5) for worker in (0, 1)]
        engine.abandon(queued[4:])
        wait(first + queued[:4], ANSWER)
        last = [engine.submit(worker, same, 1).result(ANSWER) for worker in (0, 1)]
    assert last == [1, 1]
    assert 4 <= count.calls <= 4 + row.prefetch


@law
def test_abandoning_what_is_over_changes_nothing(row):
    with row.calm(2, {1: fail(ValueError("over"))}) as engine:
        over = [engine.submit(worker, same, worker) for worker in (0, 1)]
        wait(over, ANSWER)
        engine.abandon(over)
        engine.abandon(over)
        engine.abandon([])
        engine.abandon([Future()])
        assert over[0].result() == 0
        assert isinstance(over[1].exception(), ValueError)
        assert engine.submit(0, same, 5).result(ANSWER) == 5


@law
def test_a_late_answer_of_an_earlier_wave_is_not_used_in_a_later_one(row):
    code = cm.Replication(2, 4)
    with row(4, {0: [late(0.5)], 1: [Act(), late(0.8), Act()]}, grace=STRAGGLER) as engine:
        for wave in range(3):
            stop = cm.Quorum(3) if wave < 2 else cm.Everyone()
            inputs = np.full((6, 2), 10.0 * wave)
            result = cm.map(np.negative, inputs, code=code, engine=engine, stop=stop, hedge=None)
            assert np.array_equal(result.values, -inputs)
            assert len(result.answered) >= 3
        assert result.answered == (0, 1, 2, 3)


# Keeping.


@law
def test_what_is_kept_stays_on_its_worker(row, tmp_path):
    count = Counting(tmp_path / "opened")
    with row.calm(2) as engine:
        counter, opened = engine.keep(0, []), engine.keep(0, Opened(count))
        assert [engine.submit(0, bump, counter).result(ANSWER) for _ in range(3)] == [1, 2, 3]
        assert [engine.submit(0, opened, k).result(ANSWER) for k in range(3)] == [1, 2, 3]
        assert count.calls <= 1


@law
def test_what_is_kept_stands_for_the_function_or_the_payload_or_both(row):
    with row.calm(2) as engine:
        fn, payload = engine.keep(1, np.negative), engine.keep(1, np.arange(20_000.0))
        calls = [(fn, np.arange(20_000.0)), (np.negative, payload), (fn, payload)]
        futures = [engine.submit(1, *call) for call in calls]
        for future in futures:
            assert np.array_equal(future.result(ANSWER), -np.arange(20_000.0))


@law
def test_what_was_kept_is_lost_in_a_crash_and_can_be_kept_again(row):
    with row(2, row.lives(2, [crash()], [Act(), Act()])) as engine:
        lost, elsewhere = engine.keep(0, [0]), engine.keep(1, [1])
        assert isinstance(engine.submit(0, same, None).exception(ANSWER), cm.WorkerCrashed)
        assert lost.lost
        gone = NotStarted if row.members else KeptLost
        assert isinstance(engine.submit(0, same, lost).exception(ANSWER), gone)
        assert not elsewhere.lost
        assert engine.submit(1, same, elsewhere).result(ANSWER) == [1]
        worker = row.successor(engine, 0, itertools.count(2))
        assert engine.submit(worker, same, engine.keep(worker, [2])).result(ANSWER) == [2]


# What is left.


@pytest.fixture
def left():
    """What there is of processes, threads and segments beyond what there was before."""
    before = children(), threads()

    def now() -> list[Any]:
        processes = [p for p in children().items() if p[0] not in before[0]]
        return [*processes, *(t for t in threads() - before[1] if t.is_alive()), *shm_names()]

    return now


def megabyte(k: int) -> np.ndarray:
    return np.full(1 << 17, float(k))


@law
def test_nothing_is_left_after_normal_use(row, left):
    with row(2) as engine:
        kept = engine.keep(0, megabyte(2))
        futures = [engine.submit(worker, np.negative, megabyte(worker)) for worker in range(2)]
        futures.append(engine.submit(0, np.negative, kept))
        for k, future in enumerate(futures):
            assert np.array_equal(future.result(ANSWER), -megabyte(k))
        assert shm_names() == []
    assert eventually(lambda: not left()), left()


@law
def test_nothing_is_left_of_crashes(row, left):
    with row(3, {0: crash(0.1), 1: [crash(0.1), crash(), Act()]}) as engine:
        engine.keep(0, megabyte(0))
        futures = [engine.submit(s, np.negative, megabyte(s)) for s in (0, 0, 1, 1, 1, 2, 2)]
        wait(futures, ANSWER)
        answered = [future.exception() is None for future in futures]
        assert answered == [*4 * [False], not row.members, True, True]
        assert eventually(lambda: shm_names() == [])
    assert eventually(lambda: not left()), left()


@law
def test_nothing_is_left_of_stragglers_when_they_are_abandoned(row, left):
    with row(3, dict.fromkeys((0, 1), late(STRAGGLER)), grace=0.2) as engine:
        futures = [engine.submit(s, np.negative, megabyte(s)) for s in (0, 0, 1, 1, 2)]
        engine.abandon(futures[:2])
        assert np.array_equal(futures[4].result(ANSWER), -megabyte(2))
        wait(futures[:2], ANSWER)
        assert all(future.done() for future in futures[:2])
        futures.append(engine.submit(0, np.negative, megabyte(0)))
    assert eventually(lambda: not left()), left()
    assert all(future.done() for future in futures)


# Workers that join and leave.


@law_of_members
def test_numbers_are_never_used_again_and_who_watches_is_called(row):
    with row(2, {**row.lives(2, [crash()], [crash()]), 1: crash()}) as engine:
        seen: list[set[int]] = []

        def look() -> None:
            seen.append(set(engine.members()))

        engine.watch(look)
        assert set(engine.members()) == {0, 1}
        worker, numbers = 0, itertools.count(2)
        for number in (2, 3):
            assert isinstance(engine.submit(worker, same, None).exception(ANSWER), cm.WorkerCrashed)
            worker = row.successor(engine, worker, numbers)
            assert worker == number
            assert eventually(lambda n=number: seen and seen[-1] == {1, n}), seen
            assert engine.workers == 2
        assert {1} in seen or {1, 2} in seen  # a spare worker takes the place at once
        engine.unwatch(look)
        seen.clear()
        assert isinstance(engine.submit(1, same, None).exception(ANSWER), cm.WorkerCrashed)
        assert seen == []


@law_of_members
def test_who_watches_knows_of_a_death_before_the_calls_fail(row):
    with row(2, {0: [crash(0.2)]}) as engine:
        living = []
        for call in (engine.submit(0, same, 0), engine.submit(0, same, 1)):
            call.add_done_callback(lambda _: living.append(0 in engine.members()))
            call.exception(ANSWER)
        assert eventually(lambda: len(living) == 2)
        assert not living[0]


@law_of_members
def test_a_call_that_waits_for_a_worker_that_dies_has_not_started(row):
    with row(2, {0: [crash(0.3)]}) as engine:
        running, waiting = engine.submit(0, same, 0), engine.submit(0, same, 1)
        kept = engine.keep(0, "behind them")
        assert isinstance(running.exception(ANSWER), cm.WorkerCrashed)
        assert isinstance(waiting.exception(ANSWER), NotStarted)
        assert eventually(lambda: kept.lost)


@law_of_members
def test_calls_to_a_worker_that_has_gone_fail_without_having_started(row):
    with row(2, {0: [crash()]}) as engine:
        assert isinstance(engine.submit(0, same, 0).exception(ANSWER), cm.WorkerCrashed)
        assert isinstance(engine.submit(0, same, 0).exception(ANSWER), NotStarted)
        assert engine.keep(0, "lost").lost
        with pytest.raises(cm.InvalidArgument, match="worker=99 does not exist"):
            engine.submit(99, same, 0)


@law
def test_a_future_runs_when_its_worker_has_been_sent_the_call_and_not_before(row):
    with row.calm(1, {0: [late(0.5)]}) as engine:
        first, second = engine.submit(0, same, 1), engine.submit(0, same, 2)
        if what_is_said(second).begun is None:
            pytest.skip("its futures do not say when they began")
        assert eventually(lambda: first.begun)
        assert first.running()
        assert not second.begun
        assert not second.running()
        assert [first.result(ANSWER), second.result(ANSWER)] == [1, 2]
        assert second.begun[-1] - first.begun[-1] >= 0.1


# Setting up workers.


@law_of_setups
def test_each_worker_is_set_up_once_before_its_first_call_and_later_ones_too(row, tmp_path):
    setup = SetUp(tmp_path / "set up")
    with row(2, row.lives(2, [Act(), Act(), crash()], [Act()])) as engine:
        engine.setup(setup)
        workers = []
        for worker in (0, 1, 0, 1):
            workers.append(str(engine.submit(worker, who, None).result(ANSWER)))
            assert setup.done() == list(dict.fromkeys(workers))
        assert isinstance(engine.submit(0, same, None).exception(ANSWER), cm.WorkerCrashed)
        worker = row.successor(engine, 0, itertools.count(2))
        workers.append(str(engine.submit(worker, who, None).result(ANSWER)))
        assert setup.done() == list(dict.fromkeys(workers))
        assert len(setup.done()) == 3


@law_of_setups
def test_where_a_setup_raises_calls_fail_with_what_it_raised_as_the_cause(row, tmp_path):
    setup = SetUp(tmp_path / "set up", Unlucky(7, "no licence"))
    with row(1) as engine:
        engine.setup(SetUp(tmp_path / "before"))
        engine.setup(setup)
        engine.setup(SetUp(tmp_path / "after"))
        for _ in range(2):
            error = engine.submit(0, same, None).exception(ANSWER)
            assert type(error) is cm.EngineError
            where = (
                f"worker 0, on {socket.gethostname()}, could not be set up, because SetUp raised"
            )
            assert str(error).startswith(where)
            assert type(error.__cause__) is Unlucky
        assert [len(SetUp(tmp_path / name).done()) for name in ("before", "set up", "after")] == [
            1,
            1,
            0,
        ]


@law_of_setups
def test_a_setup_that_ends_its_worker_costs_one_call_each_time(row):
    with row(2) as engine:
        engine.setup(EndsFirst(row.folder / "ended"))
        assert isinstance(engine.submit(0, same, 0).exception(ANSWER), cm.WorkerCrashed)
        worker = row.successor(engine, 0, itertools.count(2))
        assert engine.submit(worker, same, 1).result(ANSWER) == 1


@law_of_setups
def test_a_setup_that_no_worker_survives_ends_the_job(row):
    with row(2) as engine:
        engine.setup(lambda: os._exit(3))
        message = "workers have died during their setup and none has survived it, the last with"
        with pytest.raises(cm.EngineError, match=message):
            cm.map(np.sin, np.arange(40.0), engine=engine, on_error="record")


@law_of_setups
def test_a_setup_that_cannot_be_sent_or_called_is_refused_at_once(row):
    with row(1) as engine:
        lock = threading.Lock()
        with pytest.raises(cm.errors.CannotSend, match="cannot be sent to another process"):
            engine.setup(lambda: lock)
        with pytest.raises(cm.InvalidArgument, match="give a function without arguments"):
            engine.setup(3)
        assert engine.submit(0, same, "well").result(ANSWER) == "well"
    with pytest.raises(cm.EngineError):
        engine.setup(who_is_there)


# The table itself.


def test_each_excuse_is_of_a_law_and_quotes_the_docstring_of_the_engine():
    for entry in ROWS:
        text = " ".join(entry.engine.__doc__.split())
        for name, reason in entry.cannot.items():
            assert name in LAWS, f"{entry.name} is excused from {name}, which is no law"
            assert reason in text, f"{entry.name}'s docstring does not say: {reason}"


def test_each_law_is_kept_by_the_engine_that_comes_with_the_library():
    assert next(entry for entry in ROWS if entry.name == "Local").cannot == {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mpi4py_keeps_the_laws():
    pytest.importorskip("mpi4py")
    if shutil.which("mpiexec") is None:
        pytest.skip("mpiexec is not there: install an MPI, such as Debian's mpich")
    words = ["mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures", "-m", "pytest", __file__]
    run = subprocess.run(
        [*words, "-k", "mpi4py and not laws", "-m", "slow", "-p", "no:cacheprovider"],
        env={**os.environ, MPI: "1"}, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


def test_each_engine_of_the_package_has_a_row():
    engines = {
        value
        for module in (cm.engines, cm.testing)
        for value in (getattr(module, name) for name in module.__all__)
        if isinstance(value, type) and hasattr(value, "abandon") and value is not cm.engines.Engine
    }
    assert engines - {Faulty} == {entry.engine for entry in ROWS}


@law
def test_it_is_an_engine_and_says_how_many_workers_it_has(row):
    with row.calm(3) as engine:
        assert isinstance(engine, cm.engines.Engine)
        assert engine.workers == 3
