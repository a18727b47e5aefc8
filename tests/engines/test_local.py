"""What `Local` does beyond the contract tests of engines: real processes and their faults."""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib.util
import mmap
import multiprocessing
import operator
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import types
from collections import deque
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import codedmap as cm
from codedmap.engines import Local, Resident, local, local_worker

from ..processes import (
    ANSWER,
    alive,
    children,
    descriptors,
    eventually,
    hold,
    kill,
    kill_and_wait,
    nap,
    pid,
    run_script,
    same,
    script,
    shm_names,
    straggle,
    threads,
)
from ..repeats import first

pytestmark = pytest.mark.timeout(90)

SOON = 12.0
"""A fifth of what a straggler takes."""


@pytest.fixture(scope="module")
def shared():
    """Two workers for tests that leave them as they were; none may end them."""
    with Local(2) as engine:
        before = [engine.submit(slot, pid, None).result(ANSWER) for slot in (0, 1)]
        yield engine
        assert [engine.submit(slot, pid, None).result(ANSWER) for slot in (0, 1)] == before
        assert shm_names() == []


# Death.


def test_a_busy_worker_that_is_killed_costs_its_answer_only(tmp_path):
    with Local(2) as engine:
        victim = engine.submit(0, pid, None).result(ANSWER)
        calls = [
            engine.submit(0, straggle, tmp_path / "begun"),
            engine.submit(0, same, 1),
            engine.submit(1, nap, 0.3),
        ]
        assert eventually((tmp_path / "begun").exists)
        os.kill(victim, signal.SIGKILL)
        error = calls[0].exception(ANSWER)
        assert isinstance(error, cm.WorkerCrashed)
        assert f"worker 0 (process {victim}) died during the call, by signal 9 (SIGKILL)" in str(
            error
        )
        assert [calls[1].result(ANSWER), calls[2].result(ANSWER)] == [1, 0.3]


def test_an_idle_worker_that_was_killed_costs_no_answer():
    with Local(1) as engine:
        victim = engine.submit(0, pid, None).result(ANSWER)
        kept = engine.keep(0, "value")
        assert engine.submit(0, same, kept).result(ANSWER) == "value"
        kill_and_wait(victim)
        assert engine.submit(0, pid, None).result(ANSWER) != victim
        lost = engine.submit(0, same, kept).exception(ANSWER)
        assert isinstance(lost, cm.errors.KeptLost)
        assert str(lost) == "<Kept on worker 0, lost> died with its worker: keep it again"


def test_a_worker_that_is_killed_just_before_its_call_costs_at_most_that():
    with Local(1) as engine:
        for _ in range(5):
            os.kill(engine.submit(0, pid, None).result(ANSWER), signal.SIGKILL)
            calls = [engine.submit(0, same, k) for k in range(3)]
            assert isinstance(calls[0].exception(ANSWER), (cm.WorkerCrashed, type(None)))
            assert [calls[1].result(ANSWER), calls[2].result(ANSWER)] == [1, 2]


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("leave", [os._exit, lambda code: ctypes.CDLL(None).exit(code)])
def test_a_function_that_leaves_its_process_costs_one_answer(leave, code):
    with Local(1) as engine:
        victim = engine.submit(0, pid, None).result(ANSWER)
        error = engine.submit(0, leave, code).exception(ANSWER)
        assert isinstance(error, cm.WorkerCrashed)
        assert f"process {victim}) died during the call, with exit code {code}" in str(error)
        assert engine.submit(0, pid, None).result(ANSWER) != victim


def fork_and_come_out_later(pid):
    if not os.fork():
        time.sleep(0.1)
        raise ValueError("of a child")
    return pid


def test_a_process_that_a_function_has_forked_off_does_not_answer_the_next_call(shared):
    here = shared.submit(0, pid, None).result(ANSWER)
    calls = [(fork_and_come_out_later, here), (nap, 0.3), (same, 1)]
    answers = [shared.submit(0, fn, payload) for fn, payload in calls]
    assert [answer.result(ANSWER) for answer in answers] == [here, 0.3, 1]


def write_to_sockets(data):
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if path.is_socket():
                os.write(int(path.name), data)


def test_what_a_function_writes_to_the_pipe_of_its_worker_is_no_answer():
    with Local(1) as engine:
        for data in b"\n", b"Warning: one licence left\n", b"\xff" * 64:
            call = engine.submit(0, write_to_sockets, data)
            assert isinstance(call.exception(ANSWER), cm.WorkerCrashed)
            assert engine.submit(0, same, 1).result(ANSWER) == 1


def leave_later(code):
    threading.Timer(0.05, os._exit, (code,)).start()


@pytest.mark.parametrize("code", [0, 3])
def test_a_worker_that_leaves_while_idle_is_replaced_and_what_it_kept_is_lost(code):
    with Local(1) as engine:
        victim = engine.submit(0, pid, None).result(ANSWER)
        kept = engine.keep(0, "value")
        engine.submit(0, leave_later, code).result(ANSWER)
        assert eventually(lambda: not Path(f"/proc/{victim}").exists())
        time.sleep(0.1)
        assert isinstance(engine.submit(0, same, kept).exception(ANSWER), cm.errors.KeptLost)
        assert kept.lost
        assert engine.submit(0, same, 1).result(ANSWER) == 1


def test_a_resident_function_is_sent_again_to_a_worker_that_was_lost():
    with Local(2) as engine:
        resident = cm.engines.Resident(np.negative, engine)
        code = cm.Replication(2, 2)
        for _ in range(2):
            result = cm.map(resident, np.ones((4, 3)), code=code, engine=engine)
            assert np.array_equal(result.values, -np.ones((4, 3)))
            kept = resident.on(0)
            kill_and_wait(engine.submit(0, pid, None).result(ANSWER))
            assert isinstance(engine.submit(0, kept, 1).exception(ANSWER), cm.errors.KeptLost)


def test_a_value_that_waits_to_be_kept_is_not_lost_with_the_worker_before_it(tmp_path):
    with Local(1, grace=0.1) as engine:
        straggler = engine.submit(0, straggle, tmp_path / "begun")
        kept = engine.keep(0, "value")
        call = engine.submit(0, same, kept)
        assert eventually((tmp_path / "begun").exists)
        engine.abandon([straggler])
        assert call.result(ANSWER) == "value"
        assert not kept.lost


def test_workers_end_by_themselves_when_the_caller_is_killed(tmp_path):
    source = """
        import subprocess
        import numpy as np

        def in_sleep(x): time.sleep(60)
        def in_python(x):
            while True: pass
        def in_c(x): np.linalg.eigvals(np.random.default_rng(0).random((4000, 4000)))
        def in_child(x): subprocess.run(["sleep", "60"])
        # main
        engine = cm.engines.Local(5)
        large = np.ones(1 << 20)
        for slot, fn in enumerate([in_sleep, in_python, in_c, in_child]):
            engine.submit(slot, fn, large)
            engine.submit(slot, fn, large)
        engine.keep(4, large)
        print(engine.submit(4, abs, -1).result())
        time.sleep(60)
        """
    with script(tmp_path, source) as running:
        assert running.line() == "1"
        assert eventually(lambda: any("sleep 60" in c for c in running.processes().values()))
        assert len(running.shm_names()) >= 4
        running.process.kill()
        assert running.nothing_is_left(), (running.processes(), running.shm_names())


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system has no handles of processes")
def test_workers_end_with_the_caller_though_one_that_it_has_forked_off_goes_on(tmp_path):
    source = """
        # main
        engine = cm.engines.Local(1)
        worker = engine.submit(0, lambda _: os.getpid(), None).result()
        if not os.fork():
            time.sleep(60)
        print(worker)
        time.sleep(60)
        """
    with script(tmp_path, source) as running:
        worker = int(running.line())
        running.process.kill()
        assert eventually(lambda: not alive(worker))


def test_workers_that_are_stopped_end_when_the_caller_is_killed(tmp_path):
    source = """
        import numpy as np

        def stop(x): os.kill(os.getpid(), signal.SIGSTOP)
        # main
        engine = cm.engines.Local(3)
        for slot in range(2):
            engine.submit(slot, stop, np.ones(1 << 20))
        print(engine.submit(2, abs, -1).result())
        time.sleep(60)
        """
    with script(tmp_path, source) as running:
        assert running.line() == "1"
        assert eventually(lambda: sum(stopped(pid) for pid in running.processes()) == 2)
        running.process.kill()
        assert running.nothing_is_left(), (running.processes(), running.shm_names())


def test_a_program_that_is_stopped_and_goes_on_blames_no_row_for_it(tmp_path):
    source = """
        import numpy as np

        def slow(x):
            time.sleep(0.3)
            return x
        # main
        with cm.engines.Local(1) as engine:
            print("ready")
            print(cm.map(cm.itemwise(slow), np.ones(3), engine=engine, call_timeout=2.0).exact.sum())
        """
    with script(tmp_path, source) as running:
        assert running.line() == "ready"
        time.sleep(0.4)
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        running.process.send_signal(signal.SIGCONT)
        assert running.finish().out == "3\n", running.err


def stopped(number: int) -> bool:
    """Whether a process is stopped by a signal."""
    try:
        return Path(f"/proc/{number}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_workers_end_when_the_caller_is_terminated(tmp_path, number):
    source = """
        # main
        engine = cm.engines.Local(2)
        engine.submit(0, time.sleep, 60)
        print(engine.submit(1, abs, -1).result())
        time.sleep(60)
        """
    with script(tmp_path, source) as running:
        assert running.line() == "1"
        running.process.send_signal(number)
        assert running.nothing_is_left(), (running.processes(), running.shm_names())


def test_a_caller_that_can_start_no_more_threads_needs_none_to_replace_a_worker(
    monkeypatch, tmp_path
):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    before, running = children(), threads()
    with Local(1) as engine:
        victim = engine.submit(0, pid, None).result(ANSWER)
        call = engine.submit(0, straggle, tmp_path / "begun")
        assert eventually((tmp_path / "begun").exists)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            os.kill(victim, signal.SIGKILL)
            assert isinstance(call.exception(ANSWER), cm.WorkerCrashed)
            assert engine.submit(0, same, 1).result(ANSWER) == 1
            with pytest.raises(cm.EngineError, match="thread of the engine cannot be started"):
                Local(1)
    assert eventually(lambda: children() == before and threads() <= running)


def test_killing_the_fork_server_costs_what_is_running_and_no_more(tmp_path):
    ended = run_script(
        tmp_path,
        """
        import multiprocessing.forkserver
        # main
        with cm.engines.Local(3) as engine:
            running = [engine.submit(slot, time.sleep, 60) for slot in range(2)]
            print(engine.submit(2, abs, -1).result())
            os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, signal.SIGKILL)
            print({type(call.exception(20)).__name__ for call in running})
            for slot in range(3):
                while engine.submit(slot, abs, -1).exception(20):
                    time.sleep(0.1)
            print([engine.submit(slot, abs, -1).result(20) for slot in range(3)])
        """,
    )
    assert ended.out.splitlines() == ["1", "{'WorkerCrashed'}", "[1, 1, 1]"], ended.err


# Stragglers that are hard to end.

STUBBORN = """
    import subprocess
    import numpy as np

    def begin(path): open(path, "w").close()
    def in_lapack(path):
        begin(path)
        np.linalg.eigvals(np.random.default_rng(0).random((4000, 4000)))
    def in_c_with_the_interpreter_locked(path):
        begin(path)
        sum(range(10**11))
    def deaf(path):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        begin(path)
        time.sleep(60)
    def in_child(path):
        begin(path)
        subprocess.run(["sleep", "60"])

    def start(engine):
        calls = []
        for slot, fn in enumerate([in_lapack, in_c_with_the_interpreter_locked, deaf, in_child]):
            calls.append(engine.submit(slot, fn, fn.__name__))
        while not all(os.path.exists(fn) for fn in ("in_lapack", "deaf", "in_child",
                                                    "in_c_with_the_interpreter_locked")):
            time.sleep(0.02)
        return calls
    """


@pytest.mark.parametrize("end", first(2, ["program", "block", "close", "error"]))
def test_no_kind_of_straggler_delays_the_end_of_the_program_or_outlives_it(tmp_path, end):
    body = {
        "program": "engine = cm.engines.Local(4)\nstart(engine)",
        "block": "with cm.engines.Local(4) as engine:\n    start(engine)",
        "close": "engine = cm.engines.Local(4)\nstart(engine)\nengine.close()",
        "error": "with cm.engines.Local(4) as engine:\n    start(engine)\n    raise KeyError('mine')",
    }[end]
    source = f"{textwrap.dedent(STUBBORN)}\n# main\n{body}\nprint('end')\n"
    ended = run_script(tmp_path, source)
    assert ended.seconds < SOON
    if end == "error":
        assert ended.process.returncode == 1
        assert ended.err.count("Traceback") == 1
        assert ended.err.endswith("KeyError: 'mine'\n")
    else:
        assert (ended.out, ended.err, ended.process.returncode) == ("end\n", "", 0)


def test_every_kind_of_straggler_is_ended_after_grace(tmp_path):
    body = """
engine = cm.engines.Local(4, grace=0.2)
calls = start(engine)
began = time.monotonic()
engine.abandon(calls)
print([engine.submit(slot, abs, -slot).result() for slot in range(4)])
print(time.monotonic() - began < 12)
print({type(call.exception()).__name__ for call in calls})
time.sleep(0.5)
print(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.count(token))
"""
    token = f"sleep 60.{random.randrange(10**6):06d}"
    source = textwrap.dedent(STUBBORN).replace('["sleep", "60"]', repr(token.split()))
    ended = run_script(tmp_path, f"{source}\ntoken = {token!r}\n# main\n{body}")
    assert ended.out.splitlines() == ["[0, 1, 2, 3]", "True", "{'Abandoned'}", "0"], ended.err


def test_nothing_is_left_in_shared_memory_by_a_program_that_does_not_close_its_engine(tmp_path):
    ended = run_script(
        tmp_path,
        """
        import numpy as np
        # main
        engine = cm.engines.Local(2)
        large = np.ones(1 << 20)
        for slot in (0, 0, 0, 1, 1):
            engine.submit(slot, time.sleep, 60)
            engine.submit(slot, abs, large)
        engine.keep(1, large)
        """,
    )
    assert (ended.err, ended.process.returncode) == ("", 0)
    assert ended.seconds < SOON


# What travels.

ARRAYS = {
    "32 MB": np.arange(4 << 20, dtype=np.float64),
    "32 MB of float32 in two dimensions": np.ones((2048, 4096), np.float32),
    "small": np.arange(6.0).reshape(2, 3),
    "just below what goes through shared memory": np.zeros((64 << 10) - 1, np.uint8),
    "just what goes through shared memory": np.ones(64 << 10, np.uint8),
    "not contiguous": np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024)[::2, 1::3],
    "reversed": np.arange(1 << 18)[::-1],
    "Fortran order": np.asfortranarray(np.arange(1 << 18, dtype=np.float64).reshape(512, 512)),
    "broadcast": np.broadcast_to(np.arange(3.0), (40_000, 3)),
    "big endian": np.arange(1 << 16, dtype=">i4"),
    "complex": np.full((300, 300), 1 - 2j, np.complex64),
    "bool": np.ones(100_000, bool),
    "dates": np.arange(1 << 15).astype("M8[s]"),
    "records": np.zeros(10_000, [("a", "f8"), ("b", "U3")]),
    "no dimension": np.array(3.5),
    "no rows": np.zeros((0, 7), np.float32),
    "no columns": np.zeros((7, 0)),
    "objects": np.array([None, "text", 3, {"a": 1}], dtype=object),
    "strings": np.array(["a", "bcd", "ü"]),
    "bytes": np.array([b"a", b"bcd"]),
}


def spoil(array):
    """Write zeros over a whole array, and answer with it."""
    array[...] = np.zeros((), array.dtype)
    return array


def in_shared_memory(array) -> bool:
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)


def look(array):
    return array.flags.writeable, in_shared_memory(array)


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_as_they_were_and_can_be_written_to_on_both_sides(name, shared):
    array = ARRAYS[name]
    before = array.copy()
    back = shared.submit(0, same, array).result(ANSWER)
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    assert np.array_equal(back, before)
    assert back.flags.writeable
    assert back.flags.f_contiguous or not array.flags.f_contiguous
    spoiled = shared.submit(1, spoil, array).result(ANSWER)
    assert np.array_equal(spoiled, np.zeros(array.shape, array.dtype))
    spoil(back)
    assert np.array_equal(array, before)


@pytest.mark.parametrize(("name", "large"), [("32 MB", True), ("Fortran order", True), ("small", False),
    ("just what goes through shared memory", True),
    ("just below what goes through shared memory", False)])  # fmt: skip
def test_large_arrays_lie_in_shared_memory_on_both_sides_without_a_copy(name, large, shared):
    array = ARRAYS[name]
    assert shared.submit(0, look, array).result(ANSWER) == (True, large)
    assert in_shared_memory(shared.submit(0, same, array).result(ANSWER)) == large


def test_several_arrays_in_one_value_are_aligned_and_none_overlaps(shared):
    value = {k: np.full(20_001 + k, k, np.uint8) for k in range(7)} | {"x": np.ones((9, 999))}
    back = shared.submit(0, same, value).result(ANSWER)
    assert all(np.array_equal(back[key], value[key]) for key in value)
    assert {array.ctypes.data % 64 for array in back.values()} == {0}


def fill_up(_=None):
    """No file may become larger than 1 MB from now on: what is written beyond is refused, like by a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    return before


def test_what_finds_no_room_in_shared_memory_goes_through_the_pipe():
    array = ARRAYS["32 MB"]
    with Local(1) as engine:
        assert engine.submit(0, look, array).result(ANSWER) == (True, True)
        engine.submit(0, fill_up, None).result(ANSWER)
        before = fill_up()
        try:
            assert engine.submit(0, look, array).result(ANSWER) == (True, False)
            back = engine.submit(0, same, array).result(ANSWER)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert np.array_equal(back, array)
        assert back.flags.writeable
        assert not in_shared_memory(back)
        assert shm_names() == []


def _can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="may not mount a small file system on /dev/shm")
def test_a_shared_memory_smaller_than_the_arrays_kills_no_worker(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "import os, numpy as np, codedmap as cm\n"
        "def double(x): return x * 2\n"
        "if __name__ == '__main__':\n"
        "    with cm.engines.Local(2) as engine:\n"
        "        for size in (1 << 22, 1 << 16, 1 << 22):\n"
        "            futures = [engine.submit(s, double, np.ones(size)) for s in (0, 1, 0)]\n"
        "            print([bool(f.result().sum() == 2 * size) for f in futures])\n"
        "        print([n for n in os.listdir('/dev/shm') if n.startswith('codedmap')])\n"
    )
    mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} && exec {sys.executable} {path}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == 3 * "[True, True, True]\n" + "[]\n", ended.stderr
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_functions_of_every_kind_travel(shared):
    offset = 3

    class Adder:
        def __init__(self, by):
            self.by = by

        def __call__(self, x):
            return x + self.by

        def method(self, x):
            return x - self.by

    def closure(x):
        return x + offset

    functions = [
        lambda x: x + 1,
        closure,
        Adder(5),
        Adder(5).method,
        functools.partial(pow, 2),
        np.negative,
        abs,
        cm.itemwise(lambda x: x * 10)([7]).item().__add__,
    ]
    expected = [8, 10, 12, 2, 128, -7, 7, 77]
    assert [shared.submit(0, fn, 7).result(ANSWER) for fn in functions] == expected


def test_functions_of_a_script_travel_without_its_body_being_run_again(tmp_path):
    ended = run_script(
        tmp_path,
        """
        print("top", __name__)
        scale = 3
        def scaled(x): return scale * x
        class Model:
            def __init__(self, by): self.by = by
            def __call__(self, x): return x * self.by
        class Odd(ValueError): pass
        def odd(x): raise Odd(x)
        # main
        with cm.engines.Local(2) as engine:
            print(engine.submit(0, scaled, 2).result(), engine.submit(1, Model(5), 2).result())
            print(engine.submit(0, lambda x: Model(x).by, 4).result())
            print(type(engine.submit(0, odd, 1).exception()) is Odd)
        """,
    )
    lines = ended.out.splitlines()
    assert lines.count("top __main__") == 1
    assert lines[-3:] == ["6 10", "4", "True"], ended.err
    assert ended.err == ""


def test_functions_of_a_script_that_keep_what_they_have_computed_travel(tmp_path):
    ended = run_script(
        tmp_path,
        """
        import functools, os
        @functools.cache
        def model(): return os.getpid()
        def loaded(x): return model()
        @functools.lru_cache(maxsize=7)
        def product(n): return n * product(n - 1) if n else 1
        class Model:
            @functools.cached_property
            def by(self): return 3
            @functools.lru_cache
            def __call__(self, x): return x * self.by
        # main
        def closure():
            @functools.cache
            def cached(x): return x + 1
            return cached
        with cm.engines.Local(1) as engine:
            pids = [engine.submit(0, loaded, x).result() for x in (0, 0)]
            print(pids[0] == pids[1] != os.getpid())
            print([engine.submit(0, fn, 5).result() for fn in (product, Model(), closure())])
            print(engine.submit(0, lambda _: product.cache_parameters(), 5).result())
        """,
    )
    assert ended.out.splitlines()[-3:] == [
        "True",
        "[120, 15, 6]",
        "{'maxsize': 7, 'typed': False}",
    ], ended.err
    assert ended.err == ""


def test_objects_with_slots_of_a_script_come_back(tmp_path):
    ended = run_script(
        tmp_path,
        """
        import dataclasses, typing
        @dataclasses.dataclass(slots=True)
        class Run: flow: float
        class Point(typing.NamedTuple): x: float
        # main
        with cm.engines.Local(1) as engine:
            print([engine.submit(0, kind, 2).result() for kind in (Run, Point)])
        """,
    )
    assert ended.out.splitlines()[-1:] == ["[Run(flow=2), Point(x=2)]"], ended.err
    assert ended.err == ""


def test_a_cached_function_of_a_module_is_the_one_of_the_module_in_a_worker(shared):
    assert shared.submit(0, functools.partial(is_that_of_its_module, cached), None).result(ANSWER)


@pytest.mark.parametrize("kind", ["engine", "pool"])
def test_a_module_that_is_reloaded_between_jobs_is_warned_of_once(kind, tmp_path, monkeypatch):
    file = tmp_path / "edited_between_jobs.py"
    file.write_text("def scaled(x): return 2 * x")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(sys.modules, file.stem, importlib.import_module(file.stem))
    with Local(1) as engine, cm.Pool(engine) as pool:

        def scaled():
            fn = sys.modules[file.stem].scaled
            if kind == "pool":
                return pool.map(fn, [1])[0]
            return cm.map(fn, [1], engine=engine).values[0]

        assert scaled() == scaled() == 2
        file.write_text("def scaled(x): return 30 * x")
        importlib.reload(sys.modules[file.stem])
        with pytest.warns(UserWarning, match=f"the module {file.stem} was reloaded, and workers"):
            scaled()
        scaled()
    with Local(1) as new:
        assert cm.map(sys.modules[file.stem].scaled, [1], engine=new).values[0] == 30


def test_a_module_that_ipython_has_edited_in_place_is_warned_of_once(tmp_path, monkeypatch):
    """As ``%autoreload 2`` does before a cell: functions get new code, and the module keeps its spec."""
    file = tmp_path / "edited_in_place.py"
    file.write_text("def scaled(x): return 2 * x")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module(file.stem)
    monkeypatch.setitem(sys.modules, file.stem, module)
    with Local(1) as engine:
        cm.map(module.scaled, [1], engine=engine)
        os.utime(file, (1, 1))
        cm.map(module.scaled, [1], engine=engine)
        monkeypatch.setitem(sys.modules, "IPython.extensions.autoreload", sys)
        with pytest.warns(UserWarning, match=f"the module {file.stem} was reloaded, and workers"):
            cm.map(module.scaled, [1], engine=engine)
        cm.map(module.scaled, [1], engine=engine)


def test_what_is_loaded_at_its_first_use_is_not_loaded_by_a_map(monkeypatch, shared):
    class Lazy(types.ModuleType):
        def __getattribute__(self, name):
            raise ImportError("not now")

    monkeypatch.setitem(sys.modules, "codedmap_lazy", Lazy("codedmap_lazy"))
    assert cm.map(np.negative, [1.0], engine=shared).values[0] == -1


def test_a_module_in_a_folder_that_workers_do_not_know_yet_is_said(tmp_path, monkeypatch, shared):
    (tmp_path / "found_later.py").write_text("def scaled(x): return 2 * x")
    monkeypatch.syspath_prepend(tmp_path)
    fn = importlib.import_module("found_later").scaled
    with pytest.raises(cm.EngineError, match=r"found_later.*make a new engine if sys\.path was"):
        cm.map(fn, [1], engine=shared)
    with Local(1) as new:
        assert cm.map(fn, [1], engine=new).values[0] == 2


def test_a_module_that_is_found_by_its_file_only_can_travel_by_value(tmp_path, monkeypatch, shared):
    (tmp_path / "by_file.py").write_text("def scaled(x): return 2 * x")
    spec = importlib.util.spec_from_file_location("by_file", tmp_path / "by_file.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "by_file", module)
    spec.loader.exec_module(module)
    with pytest.raises(cm.EngineError, match=r"by_file.*cloudpickle.register_pickle_by_value"):
        cm.map(module.scaled, [1], engine=shared)
    cloudpickle.register_pickle_by_value(module)
    try:
        assert cm.map(module.scaled, [1], engine=shared).values[0] == 2
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@functools.cache
def cached(x):
    return x


def is_that_of_its_module(fn, _):
    return fn is sys.modules[__name__].cached


# What cannot travel.


class Unsendable:
    def __reduce__(self):
        raise TypeError("not this one")


def test_a_function_that_cannot_be_sent_is_named_at_the_call(shared):
    lock = threading.Lock()

    def under_lock(x):
        with lock:
            return x

    with pytest.raises(
        cm.errors.CannotSend, match=r"the function .*under_lock cannot be sent to another"
    ):
        shared.submit(0, under_lock, 1)
    with pytest.raises(cm.errors.CannotSend, match=r"the function .*Unsendable cannot be sent"):
        shared.submit(0, Unsendable(), 1)
    with pytest.raises(
        cm.errors.CannotSend, match="the payload, of type Unsendable, cannot be sent"
    ):
        shared.submit(0, same, Unsendable())
    with pytest.raises(cm.errors.CannotSend, match="the value to keep cannot be sent"):
        shared.keep(0, (np.ones(1 << 18), Unsendable()))
    with pytest.raises(cm.errors.CannotSend, match="a map inside of a call computes there without"):
        shared.submit(0, lambda x: cm.map(np.sin, [x], engine=shared), 1.0)
    library = ctypes.CDLL(None)
    with pytest.raises(cm.errors.CannotSend, match=r"cannot pickle <CDLL .*inside the function"):
        shared.submit(0, lambda x: library.abs(x) + 1, -1)
    assert shared.submit(0, same, 1).result(ANSWER) == 1
    assert shm_names() == []


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (lambda _: threading.Lock(), "lock"),
        (lambda _: (k for k in range(3)), "generator"),
        (lambda _: [np.ones(1 << 18), sys._getframe()], "frame"),
    ],
)
def test_an_answer_that_cannot_be_sent_is_the_failure_of_its_call(fn, kind, shared):
    error = shared.submit(0, fn, None).exception(ANSWER)
    assert isinstance(error, cm.errors.CannotSend)
    assert re.search(f"the answer cannot be sent .*cannot pickle '.*{kind}' object", str(error))
    assert str(error).endswith("such as a list in place of a generator")
    assert shared.submit(0, same, 1).result(ANSWER) == 1
    assert shm_names() == []


def test_an_answer_that_the_caller_cannot_open_is_the_failure_of_its_call(shared, tmp_path):
    (tmp_path / "only_there.py").write_text("class Answer:\n    pass\n")

    def fn(_):
        sys.path.append(str(tmp_path))
        import only_there

        sys.path.pop()
        return only_there.Answer()

    error = shared.submit(0, fn, None).exception(ANSWER)
    assert isinstance(error, cm.errors.CannotSend)
    assert str(error).startswith("the answer cannot be opened by the caller (ModuleNotFoundError: ")


def explode(error):
    raise error


def open_elsewhere(error, caller):
    if os.getpid() == caller:
        raise error
    return ExplodesHere(error, caller)


class ExplodesHere(Exception):
    """Can be pickled and unpickled in the worker, but not by the caller."""

    def __reduce__(self):
        return open_elsewhere, self.args


@pytest.mark.parametrize("error", [ValueError("absent"), SystemExit(1), KeyboardInterrupt()])
def test_an_answer_that_cannot_be_opened_is_the_failure_of_its_call(error, shared):
    fn = functools.partial(ExplodesHere, error)
    raised = shared.submit(0, fn, os.getpid()).exception(ANSWER)
    assert type(raised) is type(error)
    assert shared.submit(0, same, 1).result(ANSWER) == 1


def raise_what_cannot_be_pickled(_):
    class Held(Exception):
        def __init__(self):
            super().__init__("with a lock")
            self.lock = threading.Lock()

    raise Held


class Two(Exception):
    """Pickle makes it again by a constructor that wants more than its message."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first


class Missing(KeyError):
    """Pickle makes it again with a message of a message."""

    def __init__(self, key):
        super().__init__(f"no {key}")


class Addressed:
    """Shown by its address."""

    number = 3


def raise_two(_):
    raise Two("one", "two")


def raise_missing(_):
    raise Missing("such key")


def raise_what_the_caller_cannot_unpickle(caller):
    raise ExplodesHere(ImportError("absent"), caller)


def raise_what_has_no_text(_):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no text")

        def __reduce__(self):
            raise RuntimeError("no pickle")

    raise Mute


@pytest.mark.parametrize(
    ("fn", "text"),
    [
        (raise_what_cannot_be_pickled, "Held: with a lock"),
        (raise_what_the_caller_cannot_unpickle, "ExplodesHere: (ImportError('absent')"),
        (raise_what_has_no_text, "Mute"),
    ],
)
def test_an_exception_that_cannot_travel_is_described(fn, text, shared):
    error = shared.submit(0, fn, os.getpid()).exception(ANSWER)
    assert type(error) is RuntimeError
    assert text in str(error)
    assert f"in {fn.__name__}" in "".join(traceback.format_exception(error))
    assert shared.submit(0, same, 1).result(ANSWER) == 1


@pytest.mark.parametrize(
    ("fn", "kind", "args"),
    [(raise_two, Two, ("one and two",)), (raise_missing, Missing, ("no such key",))],
)
def test_an_exception_keeps_type_and_text_whatever_its_constructor_takes(fn, kind, args, shared):
    error = shared.submit(0, fn, None).exception(ANSWER)
    assert type(error) is kind
    assert error.args == args
    assert getattr(error, "first", "one") == "one"
    assert f"in {fn.__name__}" in "".join(traceback.format_exception(error))


def test_an_exception_of_objects_that_are_shown_by_their_address_keeps_its_type(shared):
    """The address is another in the worker and here, so that its text counted as lost."""
    error = shared.submit(0, explode, LookupError("odd", Addressed())).exception(ANSWER)
    assert type(error) is LookupError
    assert error.args[1].number == 3


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_function_that_asks_to_end_the_program_fails_alone(error, shared):
    before = shared.submit(0, pid, None).result(ANSWER)
    raised = shared.submit(0, explode, error).exception(ANSWER)
    assert type(raised) is type(error)
    assert raised.args == error.args
    assert shared.submit(0, pid, None).result(ANSWER) == before


def test_a_function_that_is_no_function_fails_with_what_python_says(shared):
    assert isinstance(shared.submit(0, 3, None).exception(ANSWER), TypeError)


# Scripts.


def test_ctrl_c_ends_a_map_and_leaves_nothing(tmp_path):
    source = """
        import numpy as np
        def slow(batch):
            open(f"begun {os.getpid()}", "w").close()
            time.sleep(60)
            return batch
        # main
        with cm.engines.Local(4) as engine:
            cm.map(slow, np.ones((400, 1000)), code=cm.Replication(2, 4), engine=engine)
        """
    with script(tmp_path, source) as running:
        assert eventually(lambda: len(list(tmp_path.glob("begun *"))) == 4)
        began = time.monotonic()
        os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does
        running.finish()
        assert time.monotonic() - began < SOON
        assert running.nothing_is_left(), (running.processes(), running.shm_names())
    assert running.process.returncode == -signal.SIGINT
    assert running.err.count("Traceback") == 1
    assert running.err.rstrip().endswith("KeyboardInterrupt")


def test_workers_ignore_ctrl_c(shared):
    before = shared.submit(0, pid, None).result(ANSWER)
    call = shared.submit(0, nap, 0.3)
    time.sleep(0.1)
    os.kill(before, signal.SIGINT)
    assert call.result(ANSWER) == 0.3
    os.kill(before, signal.SIGINT)
    assert shared.submit(0, pid, None).result(ANSWER) == before


def test_programs_that_a_function_starts_have_no_terminal(tmp_path):
    """They were stopped when they read from it or set it, as ffmpeg and ssh do."""
    run = run_script(
        tmp_path,
        """
        import pty, subprocess
        def succeeds(line): return subprocess.call(line, shell=True, stderr=subprocess.DEVNULL) == 0
        # main
        child, terminal = pty.fork()
        if child == 0:
            lines = "head -c 1", "stty sane", "cat < /dev/tty"
            with cm.engines.Local(1) as engine:
                print([engine.submit(0, succeeds, line).result(20) for line in lines])
        else:
            print(os.read(terminal, 1000).decode())
            os.waitpid(child, 0)
        """,
    )
    assert run.out.strip() == "[True, False, False]", run.err


@pytest.mark.parametrize(
    ("given", "threads"), first(2, [(None, 1), ("2,1", 2), ("0", 1), ("many", 1)])
)
def test_each_worker_computes_with_one_thread_unless_told_otherwise(tmp_path, given, threads):
    ended = run_script(
        tmp_path,
        """
        import numpy as np, threadpoolctl
        def counts(_):
            np.ones((10, 10)) @ np.ones((10, 10))
            return sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()}), os.environ["OPENBLAS_NUM_THREADS"]
        # main
        with cm.engines.Local(1) as engine:
            print(engine.submit(0, counts, None).result())
        """,
        OMP_NUM_THREADS=given,
        OPENBLAS_NUM_THREADS=None,
        MKL_NUM_THREADS=None,
    )
    assert ended.out == f"([{threads}], '{threads}')\n", ended.err


# The engine itself.


def test_without_grace_an_abandoned_call_is_ended_at_once(tmp_path):
    with Local(1, grace=0) as engine:
        victim = engine.submit(0, pid, None).result(ANSWER)
        straggler = engine.submit(0, straggle, tmp_path / "begun")
        assert eventually((tmp_path / "begun").exists)
        engine.abandon([straggler])
        assert isinstance(straggler.exception(SOON), cm.errors.Abandoned)
        assert engine.submit(0, pid, None).result(SOON) != victim


def test_a_call_that_ran_too_long_has_no_grace():
    with Local(2, grace=600.0) as engine:
        stuck = engine.submit(0, nap, 60.0)
        engine.end([stuck])
        assert isinstance(stuck.exception(SOON), cm.errors.Abandoned)
        rows = [0, 60, 0, 60, 60, 0]
        result = cm.map(cm.itemwise(nap), rows, engine=engine, call_timeout=1.0, on_error="record")
        assert sorted(result.failures) == [1, 3, 4]
        assert result.seconds < 60.0  # and not 600


class Opens:
    """True, once there is a file ``go on``."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return hold, (self.folder,)


def test_an_abandoned_call_ends_no_worker_that_opens_what_others_use(tmp_path):
    """While jobs with deadlines came, a function that took 4 s to open was never opened."""
    with Local(1, grace=0.1) as engine:
        before = engine.submit(0, pid, None).result(ANSWER)
        call = engine.submit(0, pid, engine.keep(0, Opens(tmp_path)))
        other = engine.submit(0, same, None)
        assert eventually(lambda: engine.load(0) == 2)  # a call, and what it waits for, is one
        engine.abandon([other])
        time.sleep(0.5)
        (tmp_path / "go on").touch()
        assert call.result(ANSWER) == before


def test_a_worker_that_opens_what_an_abandoned_call_needs_goes_on(tmp_path):
    """In a row of jobs with short deadlines no worker came to the end of what a function imports."""
    with Local(1, grace=0.1) as engine:
        before = engine.submit(0, pid, None).result(ANSWER)
        call = engine.submit(0, pid, engine.keep(0, Opens(tmp_path)))
        assert eventually(lambda: any(tmp_path.iterdir()))
        engine.abandon([call])
        assert isinstance(call.exception(ANSWER), cm.errors.Abandoned)
        time.sleep(0.5)
        (tmp_path / "go on").touch()
        assert engine.submit(0, pid, None).result(ANSWER) == before


def test_with_endless_grace_an_abandoned_call_is_never_ended():
    with Local(1, grace=float("inf")) as engine:
        slow = engine.submit(0, nap, 0.3)
        engine.abandon([slow])
        assert slow.result(ANSWER) == 0.3


@pytest.mark.parametrize("grace", [-1, float("nan")])
def test_a_grace_below_zero_is_refused(grace):
    with pytest.raises(cm.InvalidArgument, match="must be at least 0 seconds"):
        Local(1, grace=grace)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(cm.InvalidArgument, match="must be a whole number of at least 1"):
        Local(workers)


def test_closing_twice_is_closing_once():
    before = children()
    engine = Local(2)
    assert len(children()) == len(before) + 2
    engine.close()
    engine.close()
    with engine:
        pass
    assert eventually(lambda: children() == before)


DROPPED = {
    "idle": lambda engine, _: engine.submit(0, same, 1).result(ANSWER),
    "its map": lambda engine, _: cm.map(same, [1.0, 2.0], engine=engine),
    "its estimates": lambda engine, _: cm.map(same, [[1.0], [2.0]], engine=engine, deadline=ANSWER),
    "its error": lambda engine, _: engine.submit(0, operator.truediv, 1).exception(ANSWER),
    "its straggler": lambda engine, folder: engine.abandon([engine.submit(0, straggle, folder / "begun")]),
}  # fmt: skip


@pytest.mark.parametrize("use", DROPPED.values(), ids=DROPPED)
def test_workers_end_with_the_last_reference_to_their_engine(use, tmp_path):
    """A notebook whose cell was run again had the workers of all times before."""
    before, running = children(), threads()
    engine = [Local(2, grace=0.1)]
    held = use(engine[0], tmp_path)
    assert len(children()) == len(before) + 2

    def ended():
        engine.clear()
        gc.collect()
        return children() == before and threads() <= running

    with pytest.warns(ResourceWarning, match="an engine of 2 workers was dropped"):
        assert eventually(ended, SOON)
    del held


def waiting_call(engine, folder):
    return engine.submit(0, hold, folder).result


def resident(engine, _):
    fn = Resident(same, engine)
    return lambda _: cm.map(fn, [True]).values[0]


def unread(engine, _):
    results = cm.stream(same, [True], engine=engine)
    return lambda _: list(results)[-1].values[0]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("use", [waiting_call, resident, unread])
def test_what_needs_a_dropped_engine_keeps_it(use, tmp_path):
    before = children()
    needs = use(Local(1), tmp_path)
    gc.collect()
    assert len(children()) == len(before) + 1
    (tmp_path / "go on").touch()
    assert needs(ANSWER)
    del needs
    gc.collect()
    assert eventually(lambda: children() == before, SOON)


@pytest.mark.parametrize("then", first(1, ["", "engine.close()"]))
def test_an_engine_whose_files_the_program_closes_ends_with_an_error(then, tmp_path):
    """Closing it hung, and so did the end of the program."""
    source = f"""
        # main
        engine = cm.engines.Local(2)
        engine.submit(0, abs, -1).result()
        call = engine.submit(0, time.sleep, 600)
        time.sleep(0.5)
        os.closerange(3, 1000)
        print(call.exception(60))
        {then}
        """
    ran = run_script(tmp_path, source)
    assert "the program has closed files of the engine" in ran.out
    assert (ran.err, ran.process.returncode) == ("", 0)


def test_a_closed_engine_holds_no_files():
    with Local(1):
        pass  # multiprocessing's own processes stay
    before = descriptors()
    engine = Local(3)
    assert descriptors() > before
    engine.close()
    assert eventually(lambda: descriptors() == before)


def deaf(begun):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    straggle(begun)


@pytest.mark.parametrize("way", first(1, ["abandoned", "closed"]))
def test_many_workers_that_ignore_all_signals_end_as_fast_as_one(way, tmp_path):
    """Waiting three seconds for each to heed SIGTERM would be too long."""
    engine = Local(6, grace=0.1)
    calls = [engine.submit(slot, deaf, tmp_path / str(slot)) for slot in range(6)]
    assert eventually(lambda: len(list(tmp_path.iterdir())) == 6, 60.0)  # they import this file
    began = time.monotonic()
    if way == "abandoned":
        engine.abandon(calls)
        wait(calls, ANSWER)
    engine.close()
    assert time.monotonic() - began < SOON


def test_a_closed_engine_says_that_it_is_closed():
    with Local(1) as engine:
        pending = engine.submit(0, nap, 60)
    for use in (engine.submit, engine.keep):
        with pytest.raises(cm.EngineError, match="has been closed"):
            use(*(0, same, np.ones(1 << 18))[: 3 if use == engine.submit else 2])
    engine.abandon([pending])
    assert isinstance(pending.exception(ANSWER), cm.errors.Abandoned)
    assert shm_names() == []


def test_two_engines_at_once_do_not_know_of_each_other(shared):
    with Local(1) as other:
        pids = {engine.submit(0, pid, None).result(ANSWER) for engine in (shared, other)}
        kept = other.keep(0, "value")
        own = shared.keep(0, "own")
        with pytest.raises(cm.EngineError, match="an engine where it is not"):
            shared.submit(0, same, kept)
        assert other.submit(0, same, kept).result(ANSWER) == "value"
        assert shared.submit(0, same, own).result(ANSWER) == "own"
        running = shared.submit(0, nap, 0.3)
    assert len(pids) == 2
    assert running.result(ANSWER) == 0.3


def test_what_is_kept_elsewhere_is_refused(shared):
    kept = shared.keep(1, "value")
    with pytest.raises(
        cm.EngineError, match="worker 1> was given to worker 0 of an engine where it is not"
    ):
        shared.submit(0, same, kept)
    with pytest.raises(
        cm.EngineError, match="worker 1> was given to worker 0 of an engine where it is not"
    ):
        shared.submit(0, kept, 1)
    assert shared.submit(1, same, kept).result(ANSWER) == "value"


def size_of_what_is_kept(_):
    from codedmap.engines.transport import serve

    return len(serve._kept)


def test_what_is_kept_is_forgotten_with_what_stands_for_it(shared):
    kept = [shared.keep(0, np.ones(1 << 18)) for _ in range(3)]
    assert shared.submit(0, np.sum, kept[0]).result(ANSWER) == 1 << 18
    assert shared.submit(0, size_of_what_is_kept, None).result(ANSWER) >= 3
    assert shm_names() == []
    kept.clear()
    gc.collect()
    assert shared.submit(0, size_of_what_is_kept, None).result(ANSWER) == 0


def test_much_that_is_kept_is_released_though_its_worker_has_no_further_call():
    """It stayed in memory until the worker's next call, which may never come."""

    def held():
        return [Path(f"/proc/{worker}/maps").read_text().count("(deleted)") for worker in pids]

    with Local(2) as engine:
        pids = [engine.submit(worker, pid, None).result(ANSWER) for worker in range(2)]
        before, much = held(), np.ones(1 << 18)
        cm.map(cm.itemwise(lambda x: x * much[0]), np.ones(8), engine=engine, chunk=1)
        assert eventually(lambda: held() == before)
        kept, busy = engine.keep(0, much), engine.submit(1, nap, 0.3)
        other = engine.keep(1, much)
        assert engine.submit(0, np.sum, kept).result(ANSWER) == 1 << 18
        assert held() > before
        del kept, other
        assert eventually(lambda: held() == before)
        assert busy.result(ANSWER) == 0.3


class OpensWith:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return explode, (self.error,)


def test_what_cannot_be_opened_where_it_is_kept_fails_when_it_is_used(shared):
    kept = shared.keep(0, OpensWith(LookupError("no such model")))
    for _ in range(2):
        error = shared.submit(0, kept, 1).exception(ANSWER)
        assert isinstance(error, cm.EngineError)
        assert "(LookupError: no such model)" in str(error)
    assert not kept.lost


def test_a_call_can_be_cancelled_before_it_begins_and_not_after():
    with Local(1) as engine:
        running = engine.submit(0, nap, 0.3)
        waiting = [engine.submit(0, same, np.ones(1 << 18)) for _ in range(2)]
        assert eventually(running.running)
        assert not running.cancel()
        assert waiting[0].cancel()
        assert running.result(ANSWER) == 0.3
        assert waiting[1].result(ANSWER).sum() == 1 << 18
        assert waiting[0].cancelled()
        engine.abandon([waiting[0]])
        assert shm_names() == []


def test_what_is_attached_to_an_answer_may_use_the_engine_and_fail():
    """Each failure on one slot sends a call to the other, on both at once: no lock may be held."""
    answers = []
    with Local(2) as engine:

        def again(slot, left):
            def then(done):
                if left:
                    again(1 - slot, left - 1)
                else:
                    answers.append(slot)
                raise RuntimeError("what is attached may fail")

            engine.submit(slot, os._exit if left % 2 else abs, 1).add_done_callback(then)

        import logging

        logging.disable(logging.CRITICAL)  # concurrent.futures reports the failures
        try:
            for slot in (0, 1):
                again(slot, 4)
            assert eventually(lambda: len(answers) == 2, ANSWER)
        finally:
            logging.disable(logging.NOTSET)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_is_attached_to_an_answer_may_ask_to_end_the_program(error, monkeypatch):
    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: printed.append(hook.exc_type))

    def then(done):
        raise error

    with Local(1) as engine:
        # Attached to an answer that is there it would run here.
        engine.submit(0, nap, 1).add_done_callback(then)
        assert engine.submit(0, same, 2).result(ANSWER) == 2
        engine.submit(0, nap, 60).add_done_callback(then)
        waiting = engine.submit(0, same, 3)
    assert isinstance(waiting.exception(ANSWER), cm.errors.Abandoned)
    assert printed == [error, error]


def test_what_is_attached_to_an_answer_may_close_the_engine():
    before, running = children(), threads()
    engine = Local(2)
    calls = [engine.submit(1, nap, 60), engine.submit(0, same, 1)]
    calls[1].add_done_callback(lambda done: engine.close())
    assert isinstance(calls[0].exception(ANSWER), cm.errors.Abandoned)
    assert eventually(lambda: children() == before and threads() <= running)
    engine.close()


def square_in_a_process_pool(x):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, range(x))


def test_a_function_may_use_processes_itself(shared):
    assert shared.submit(0, square_in_a_process_pool, 5).result(ANSWER) == [0, 1, 2, 3, 4]


def exhaust(limit):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, resource.RLIM_INFINITY))
    try:
        return np.ones(1 << 28)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_worker_that_runs_out_of_memory_fails_that_call_only(shared):
    before = shared.submit(0, pid, None).result(ANSWER)
    calls = [shared.submit(0, exhaust, 64 << 20), shared.submit(0, pid, None)]
    assert isinstance(calls[0].exception(ANSWER), MemoryError)
    assert calls[1].result(ANSWER) == before


def test_a_caller_that_can_open_no_more_files_loses_calls_and_recovers(tmp_path):
    ended = run_script(
        tmp_path,
        """
        import resource
        # main
        with cm.engines.Local(1) as engine:
            pid = engine.submit(0, lambda _: os.getpid(), None).result()
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), limit[1]))
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)
            errors = [engine.submit(0, abs, -1).exception(timeout=20) for _ in range(3)]
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            print([type(error).__name__ for error in errors])
            while engine.submit(0, abs, -1).exception(timeout=20):  # until the fork server is back
                time.sleep(0.1)
            print(engine.submit(0, abs, -1).result(timeout=20))
        """,
    )
    assert ended.out.splitlines() == [str(3 * ["EngineError"]), "1"], ended.err
    assert "Too many open files" not in ended.err


@pytest.mark.parametrize(
    ("fn", "where", "message"),
    [
        (np.array, (mmap, "mmap"), "has sent cannot be opened"),
        (
            lambda _: os._exit(3),
            (local_worker, "_start"),
            "no process can be started for worker 0",
        ),
    ],
    ids=["open", "start"],
)
def test_a_caller_that_can_open_no_more_files_fails_no_row(fn, where, message, monkeypatch):
    def full(*_, **__):
        raise OSError(24, "Too many open files")

    with Local(1) as engine:
        engine.submit(0, abs, -1).result(ANSWER)
        monkeypatch.setattr(*where, full)
        with pytest.raises(cm.EngineError, match=f"{message}.*Too many open files"):
            cm.map(cm.itemwise(fn), np.ones((3, 10_000)), engine=engine, on_error="record")


def test_a_caller_that_cannot_clean_up_after_a_worker_still_hears_of_its_end(monkeypatch):
    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: printed.append(hook.exc_type))

    def full(*_, **__):
        raise MemoryError

    with Local(1) as engine:
        engine.submit(0, abs, -1).result(ANSWER)
        with monkeypatch.context() as none_left:
            none_left.setattr(local, "discard_of", full)
            died = engine.submit(0, os._exit, 3)
            assert isinstance(died.exception(ANSWER), cm.WorkerCrashed)
        assert engine.submit(0, abs, -1).result(ANSWER) == 1
        monkeypatch.setattr(local, "end_descendants", full)
    assert printed == [MemoryError] * 3


# Races, and growth.


def race(engine, rounds, seed):
    """Calls that answer just when they are ended; each later call must be answered."""
    rng = random.Random(seed)
    ends = 0
    for k in range(rounds):
        slots = range(engine.workers)
        calls = [engine.submit(slot, nap, rng.uniform(0, 0.004)) for slot in slots]
        time.sleep(rng.uniform(0, 0.003))
        engine.abandon(calls)
        if k % 3 == 0:
            calls[0].cancel()  # which may come before it is abandoned
        checks = [engine.submit(slot, same, np.full(9000, k)) for slot in slots]
        for check in checks:
            assert check.result(ANSWER)[0] == k
        wait(calls, ANSWER)
        for call in calls:
            assert call.done()
            error = None if call.cancelled() else call.exception()
            assert isinstance(error, (cm.errors.Abandoned, type(None)))
            ends += error is not None
    return ends


@pytest.mark.parametrize("grace", first(1, [0.0015, 0]))
def test_a_call_may_be_ended_just_when_it_answers(grace):
    with Local(2, grace=grace) as engine:
        assert 0 < race(engine, 40, seed=1) < 80


def stop(engine, slot):
    """Stop the worker of a slot; its number."""
    victim = engine.submit(slot, pid, None).result(ANSWER)
    os.kill(victim, signal.SIGSTOP)
    return victim


def test_a_call_that_its_worker_has_not_received_goes_to_the_next_one():
    with Local(1) as engine:
        for value in 1, np.ones(1 << 18):
            victim = stop(engine, 0)
            call = engine.submit(0, np.sum, value)
            assert eventually(call.running)
            os.kill(victim, signal.SIGKILL)
            assert call.result(ANSWER) == np.sum(value)
        victim = stop(engine, 0)
        kept = engine.keep(0, "value")
        call = engine.submit(0, same, kept)
        os.kill(victim, signal.SIGKILL)
        assert call.result(ANSWER) == "value"
        assert shm_names() == []


def test_a_call_to_a_worker_that_never_receives_one_fails(monkeypatch):
    with Local(1) as engine:
        kept = engine.keep(0, 1)
        victim = engine.submit(0, pid, None).result(ANSWER)
        monkeypatch.setattr(local_worker, "work", leave)
        kill_and_wait(victim)
        error = engine.submit(0, same, 1).exception(ANSWER)
        assert isinstance(error, cm.WorkerCrashed)
        assert "worker 0 ends whenever it is started" in str(error)
        assert isinstance(engine.submit(0, same, kept).exception(ANSWER), cm.errors.KeptLost)
        with pytest.raises(cm.EngineError, match="ended while it was starting"):
            Local(2)
        monkeypatch.undo()
        assert engine.submit(0, same, 1).result(ANSWER) == 1


def leave(*_):
    os._exit(3)


@pytest.mark.parametrize("abandoned", [False, True])
def test_a_stopped_worker_that_is_sent_more_than_its_pipe_holds_delays_no_other(abandoned):
    large = bytes(32 << 20)
    with Local(2, grace=0.1) as engine:
        victim = stop(engine, 0)
        call = engine.submit(0, len, large)
        assert [engine.submit(1, same, k).result(ANSWER) for k in range(3)] == [0, 1, 2]
        assert call.running()
        if abandoned:
            engine.abandon([call])
            assert isinstance(call.exception(ANSWER), cm.errors.Abandoned)
        else:
            os.kill(victim, signal.SIGCONT)
            assert call.result(ANSWER) == len(large)
        assert engine.submit(0, same, 1).result(ANSWER) == 1
        stop(engine, 0)
        call = engine.submit(0, len, large)
    assert isinstance(call.exception(ANSWER), cm.errors.Abandoned)


def close_all_files(_):
    os.closerange(3, 1000)
    time.sleep(60)


def test_a_function_that_closes_the_pipe_of_its_worker_costs_one_answer():
    with Local(1) as engine:
        error = engine.submit(0, close_all_files, None).exception(ANSWER)
        assert isinstance(error, cm.WorkerCrashed)
        assert engine.submit(0, same, 1).result(ANSWER) == 1


def test_a_worker_whose_pipe_another_process_holds_is_still_missed():
    with Local(1) as engine:

        def fork_and_leave(_):
            if os.fork() == 0:
                time.sleep(60)
            os._exit(3)

        error = engine.submit(0, fork_and_leave, None).exception(ANSWER)
        assert isinstance(error, cm.WorkerCrashed)
        assert "with exit code 3" in str(error)
        assert engine.submit(0, same, 1).result(ANSWER) == 1


def test_a_call_whose_engine_is_closed_while_it_is_packed_is_refused():
    engine = Local(1)

    class Closing:
        def __reduce__(self):
            engine.close()
            return same, (np.ones(1 << 18),)

    with pytest.raises(cm.EngineError, match="has been closed"):
        engine.submit(0, same, Closing())
    assert shm_names() == []


def test_an_engine_may_be_closed_while_calls_are_submitted():
    for _ in range(5):
        engine, futures, refused = Local(1, grace=0.01), [], threading.Event()

        def submit(engine=engine, futures=futures, refused=refused):
            try:
                while True:
                    futures.append(engine.submit(0, same, np.ones(1 << 14)))
                    engine.abandon(futures[-1:])
            except cm.EngineError:
                refused.set()

        submitting = [threading.Thread(target=submit) for _ in range(2)]
        for thread in submitting:
            thread.start()
        time.sleep(0.05)
        engine.close()
        for thread in submitting:
            thread.join(ANSWER)
        assert refused.is_set()
        assert not wait(futures, ANSWER).not_done
        assert shm_names() == []


def test_what_a_cancelled_call_would_send_does_not_wait_for_a_straggler():
    """Each job beside it left the payload of a call that it had withdrawn, until shared memory was full."""
    with Local(1) as engine:
        straggler = engine.submit(0, time.sleep, 60)
        assert eventually(straggler.running)
        calls = [engine.submit(0, len, np.ones(1 << 14)) for _ in range(3)]
        assert [call.cancel() for call in calls] == [True] * 3
        assert eventually(lambda: not shm_names())
        assert engine.load(0) == 1
        assert not straggler.cancel()
        assert straggler.running()


def test_nor_does_a_value_that_nothing_refers_to_any_more(tmp_path):
    """Each job beside a straggler left its function, with all its data, in the queue of the worker."""
    with Local(1) as engine:
        straggler = engine.submit(0, hold, tmp_path)
        assert eventually(straggler.running)
        number = engine.keep(0, -3)
        for _ in range(4):
            values = engine.keep(0, np.ones(1 << 14))
            assert engine.submit(0, len, values).cancel()
            assert eventually(lambda: engine.load(0) <= 3)
            del values
        assert eventually(lambda: len(shm_names()) <= 2)
        (tmp_path / "go on").touch()
        assert engine.submit(0, abs, number).result(ANSWER) == 3
        assert shm_names() == []


def test_a_call_may_be_submitted_while_another_is_abandoned():
    class Waiting(deque):
        """Calls that wait: whenever they are looked through, another thread submits one."""

        def __iter__(self):
            for number, call in enumerate(super().__iter__()):
                if number == 0:
                    submitting.append(
                        threading.Thread(target=lambda: more.append(engine.submit(0, same, 1)))
                    )
                    submitting[-1].start()
                    submitting[-1].join(0.2)
                yield call

    submitting, more = [], []
    with Local(1) as engine:
        first, *waiting = [
            engine.submit(0, time.sleep, 0.5),
            *(engine.submit(0, same, i) for i in range(3)),
        ]
        while not first.running():
            time.sleep(0.01)
        waiting[0].queue._waiting = Waiting(waiting[0].queue._waiting)
        engine.abandon(waiting[2:])
        assert not wait([*waiting, first], ANSWER).not_done
        for thread in submitting:
            thread.join(ANSWER)
        assert [isinstance(future.exception(), cm.errors.Abandoned) for future in waiting] == [
            False,
            False,
            True,
        ]
        assert submitting
        assert [future.result(ANSWER) for future in more] == [1] * len(submitting)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_waves_with_random_kills_neither_hang_nor_grow():
    rng, before = random.Random(0), set(children())
    code = cm.Replication(2, 4)
    inputs = np.random.default_rng(0).standard_normal((40, 5000))

    def workers():
        return sorted(set(children()) - before)

    def counts():
        gc.collect()
        return descriptors(), len(threads()), len(workers()), len(shm_names())

    def settled():
        before = counts()
        time.sleep(1)
        return before if counts() == before else None

    def works(slot):
        return engine.submit(slot, same, slot).exception(ANSWER) is None

    with Local(4, grace=0.05) as engine:
        first = None
        for wave in range(100):
            victim = rng.choice(workers())
            timer = threading.Timer(rng.uniform(0, 0.05), kill, (victim,))
            timer.start()
            result = cm.map(np.negative, inputs, code=code, engine=engine, on_error="record")
            timer.join()
            assert (np.isnan(result.values) | (result.values == -inputs)).all()
            assert len(result.answered) + len(result.failed) + len(result.abandoned) == 4
            if wave % 5 == 0:
                engine.abandon([engine.submit(rng.randrange(4), nap, 60)])
            if wave % 10 == 9:
                assert all(eventually(lambda slot=slot: works(slot)) for slot in range(4))
                first = first or eventually(lambda: len(workers()) == 4 and settled())
                assert eventually(lambda first=first: counts() == first), (first, counts())
    assert eventually(lambda: not workers())
    assert shm_names() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_calls_may_be_ended_just_when_they_answer():
    before = threads()
    with Local(3, grace=0.001) as engine:
        assert race(engine, 400, seed=2) > 0
    assert eventually(lambda: not threads() - before)


def test_threads_that_close_it_at_the_same_time_wait_for_its_end():
    for _ in range(5):
        engine, errors = Local(4), []
        start = threading.Barrier(4)

        def close(engine=engine, errors=errors, start=start):
            start.wait(ANSWER)
            try:
                engine.close()
                assert not any(queue.pids for queue in engine._queues.values())
            except BaseException as error:
                errors.append(error)

        closing = [threading.Thread(target=close) for _ in range(4)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(ANSWER)
        assert errors == []


def test_a_child_that_was_forked_off_can_neither_use_nor_end_it(tmp_path):
    ended = run_script(
        tmp_path,
        """
        import warnings
        def who(_): return os.getpid()
        # main
        warnings.simplefilter("ignore")  # since Python 3.12 of a fork beside threads
        with cm.engines.Local(2) as engine:
            before = [engine.submit(slot, who, 0).result() for slot in (0, 1)]
            child = os.fork()
            if child == 0:
                for use in (lambda: engine.submit(0, abs, -1), lambda: engine.keep(0, 1)):
                    try: use()
                    except cm.EngineError as error: print(error)
            else:
                os.waitpid(child, 0)
                time.sleep(0.2)
                print([engine.submit(slot, who, 0).result() for slot in (0, 1)] == before)
        if child == 0:
            sys.stdout.flush()
            os._exit(0)
        """,
    )
    *child, parent = ended.out.splitlines()
    assert len(child) == 2
    assert all("from which this one was forked" in line for line in child)
    assert parent == "True"
    assert ended.err == ""


def test_without_a_number_there_is_a_worker_for_each_core():
    with Local() as engine:
        assert engine.workers == len(os.sched_getaffinity(0))


def test_a_worker_that_dies_while_it_is_set_up_says_so():
    with Local(1) as engine:
        engine.setup(lambda: os._exit(3))
        error = engine.submit(0, len, "abc").exception(ANSWER)
    assert "died during its setup, with exit code 3" in str(error)


def test_what_a_setup_raised_is_the_cause_also_with_a_code():
    def unlicensed():
        raise OSError("no licence")

    parts = np.arange(4.0)
    jobs = [
        lambda: cm.map(np.sqrt, parts, code=cm.Replication(1, 2), engine=engine),
        lambda: cm.sum(np.sum, parts, code=cm.codes.FractionalRepetition(2, 1), engine=engine),
    ]
    with Local(2) as engine:
        engine.setup(unlicensed)
        for job in jobs:
            with pytest.raises(cm.EngineError, match="unlicensed raised OSError") as raised:
                job()
            assert isinstance(raised.value.__cause__, OSError)
