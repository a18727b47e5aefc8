"""What a function has started ends with its worker, also in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

import codedmap as cm
from codedmap.engines import Local, local, local_worker
from codedmap.engines.transport import descendants
from codedmap.engines.transport.descendants import SHARED

from ..processes import ANSWER, alive, eventually, kill, nap, same, script, shm_names

pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.skipif(sys.platform != "linux", reason="found by /proc"),
]


def in_session():
    return subprocess.Popen(["sleep", "60"], start_new_session=True).pid


def in_session_with_another_environment():
    return subprocess.Popen(["sleep", "60"], start_new_session=True, env={}).pid


def in_session_without_exec():
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    return pid


def below_one_in_session():
    command = ["sh", "-c", "setsid sleep 60 & echo $!; wait"]
    shell = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
    return int(shell.stdout.readline())


def daemon():
    """Its parent has ended."""
    return int(subprocess.check_output(["sh", "-c", "setsid sleep 60 >&2 & echo $!"]))


def with_joblib(_):
    import joblib

    joblib.Parallel(n_jobs=2)(joblib.delayed(np.sum)(np.ones(300_000)) for _ in range(2))
    return os.getpid()


WAYS = (
    in_session,
    in_session_with_another_environment,
    in_session_without_exec,
    below_one_in_session,
    daemon,
)
MARKED = (in_session, below_one_in_session, daemon)


def start(ways, folder, then):
    """Start processes, write down their numbers, and then end in some way."""
    started = [way() for way in ways]
    (Path(folder) / "writing").write_text(" ".join(map(str, started)))
    (Path(folder) / "writing").rename(Path(folder) / "started")
    then()


def forever():
    time.sleep(60)


def crash():
    os.kill(os.getpid(), signal.SIGKILL)


def pids(folder):
    """The numbers, once they have been written."""
    path = Path(folder) / "started"
    assert eventually(path.exists, ANSWER)
    return [int(pid) for pid in path.read_text().split()]


def ended(started):
    """Whether they all end soon; those that do not are killed."""
    try:
        return eventually(lambda: not any(alive(pid) for pid in started))
    finally:
        for pid in started:
            kill(pid)


def starting(ways, folder, then):
    return lambda _: start(ways, folder, then)


@pytest.mark.parametrize("then", [forever, int])
def test_when_the_engine_is_closed(then, tmp_path):
    """Whether the function still runs or has returned."""
    with Local(2) as engine:
        call = engine.submit(0, starting(WAYS, tmp_path, then), None)
        started = pids(tmp_path)
        if then is int:
            call.result(ANSWER)
        engine.submit(1, same, 1).result(ANSWER)
        assert all(alive(pid) for pid in started)
    assert ended(started)


def test_when_the_call_is_abandoned(tmp_path):
    (tmp_path / "other").mkdir()
    with Local(2, grace=0) as engine:
        call = engine.submit(0, starting(WAYS, tmp_path, forever), None)
        engine.submit(1, starting([in_session], tmp_path / "other", forever), None)
        started, others = pids(tmp_path), pids(tmp_path / "other")
        engine.abandon([call])
        assert isinstance(call.exception(ANSWER), cm.errors.Abandoned)
        assert ended(started)
        assert all(alive(pid) for pid in others)
    assert ended(others)


def test_when_the_worker_crashes(tmp_path):
    with Local(1) as engine:
        call = engine.submit(0, starting(MARKED, tmp_path, crash), None)
        assert isinstance(call.exception(ANSWER), cm.WorkerCrashed)
        assert ended(pids(tmp_path))
        assert engine.submit(0, same, 1).result(ANSWER) == 1


def test_when_the_caller_is_killed(tmp_path):
    source = """
        sys.path.insert(0, sys.argv[1])
        from tests.engines.test_local_descendants import WAYS, forever, starting
        # main
        engine = cm.engines.Local(1)
        engine.submit(0, starting(WAYS, sys.argv[2], forever), None)
        time.sleep(60)
        """
    with script(tmp_path, source, str(Path(__file__).parents[2]), str(tmp_path)) as running:
        started = pids(tmp_path)
        running.process.kill()
        assert ended(started)
        assert running.nothing_is_left(), running.processes()


def one_after_the_other(folder):
    word = f"60.{os.getppid()}{os.getpid()}"
    (Path(folder) / "begun").write_text(f"{word} {os.getpid()}\n")
    while True:
        subprocess.Popen(["sleep", word], start_new_session=True)
        time.sleep(0.001)


def running_with(word):
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes().split(b"\0")[1:2] == [word.encode()]:
                found.append(int(entry.name))
    return found


def test_what_is_being_started_while_the_caller_is_killed(tmp_path):
    source = """
        sys.path.insert(0, sys.argv[1])
        from tests.engines.test_local_descendants import one_after_the_other
        # main
        engine = cm.engines.Local(1)
        engine.submit(0, one_after_the_other, sys.argv[2])
        time.sleep(60)
        """
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with script(folder, source, str(Path(__file__).parents[2]), str(folder)) as running:
            file = folder / "begun"
            assert eventually(lambda file=file: file.exists() and "\n" in file.read_text(), ANSWER)
            word, worker = file.read_text().split()
            assert eventually(lambda word=word: running_with(word), ANSWER)
            running.process.kill()
            try:
                # While it ends it still starts some, so there are none for a moment before.
                assert eventually(lambda worker=worker: not alive(int(worker)))
                assert eventually(lambda word=word: not running_with(word))
            finally:
                for pid in running_with(word):
                    kill(pid)


def test_what_is_written_to_shared_memory_while_the_caller_is_killed(tmp_path):
    source = """
        import pathlib
        import numpy as np

        class Late:
            def __init__(self, caller): self.caller = caller
            def __reduce__(self):
                while not self.segments(): pass
                print("begun", flush=True)
                while self.segments(): pass
                return int, (0,)
            def segments(self):
                return list(pathlib.Path("/dev/shm").glob(f"codedmap-{self.caller}-*"))
        # main
        engine = cm.engines.Local(1)
        large = np.ones(1 << 20)
        engine.submit(0, lambda caller: (Late(caller), np.ones(1 << 20)), os.getpid())
        engine.submit(0, abs, large)
        time.sleep(60)
        """
    with script(tmp_path, source) as running:
        assert running.line() == "begun"
        assert running.shm_names()
        running.process.kill()
        assert running.nothing_is_left(), running.shm_names()


def with_workers_of_its_own(path):
    with cm.engines.Local(1) as engine:
        engine.submit(0, time.sleep, 60)
        engine.submit(0, abs, np.ones(1 << 20))
        path.write_text(str(os.getpid()))
        time.sleep(60)


def test_what_an_engine_in_a_worker_that_is_ended_has_in_shared_memory(tmp_path):
    path = tmp_path / "pid"
    with cm.engines.Local(1, grace=0.0) as engine:
        call = engine.submit(0, with_workers_of_its_own, path)
        pid = int(eventually(lambda: path.exists() and path.read_text(), ANSWER))
        assert shm_names(pid)
        engine.abandon([call])
        assert isinstance(call.exception(ANSWER), cm.errors.Abandoned)
        assert eventually(lambda: not shm_names(pid)), shm_names(pid)


def test_segments_of_a_process_of_another_container_with_the_same_number_stay(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(descendants, "SHARED", tmp_path)
    theirs = tmp_path / f"{descendants.segments_of(7)}theirs"
    monkeypatch.setattr(descendants, "_PROC", tmp_path)
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").touch()  # another number than that of this process
    ours = tmp_path / f"{descendants.segments_of(7)}ours"
    theirs.touch()
    ours.touch()
    descendants.discard_of(7)
    assert theirs.exists()
    assert not ours.exists()


@pytest.mark.parametrize("end", ["close", "crash"])
def test_what_joblib_in_a_worker_has_in_shared_memory(end):
    """Its tracker, which would remove that, ends with the worker."""
    pytest.importorskip("joblib")
    with Local(1) as engine:
        pid = engine.submit(0, with_joblib, None).result(ANSWER)
        assert of_joblib(pid)
        if end == "crash":
            kill(pid)
            assert eventually(lambda: not of_joblib(pid)), of_joblib(pid)
    assert eventually(lambda: not of_joblib(pid)), of_joblib(pid)


def of_joblib(pid):
    names = (f"sem.loky-{pid}-*", f"joblib_memmapping_folder_{pid}_*")
    return [path for name in names for path in SHARED.glob(name)]


def test_no_program_goes_on_without_its_child(tmp_path, monkeypatch):
    """Which it might take for an answer: all are stopped before the first is killed."""
    sent = []

    def noted(pid, number, send=os.kill):
        sent.append((number, pid))
        send(pid, number)

    monkeypatch.setattr(descendants.os, "kill", noted)
    name = f"{uuid.uuid4().hex}:"
    environment = {**os.environ, descendants.MARK: name}
    command = f"echo > {tmp_path / 'begun'}; sh -c 'sleep 100; true'; echo went on > {tmp_path / 'answer'}"
    program = subprocess.Popen(["sh", "-c", command], env=environment)
    assert eventually((tmp_path / "begun").exists)
    descendants.end_descendants(name)
    assert program.wait(ANSWER) == -signal.SIGKILL
    stopped, killed = (
        [pid for number, pid in sent if number is one] for one in (signal.SIGSTOP, signal.SIGKILL)
    )
    assert program.pid in stopped
    assert stopped == killed
    assert [number for number, _ in sent] == sorted((n for n, _ in sent), key=signal.SIGKILL.__eq__)
    assert not (tmp_path / "answer").exists()
    descendants.end_descendants(name)  # what was just being started


def starting_again(path):
    while True:
        subprocess.run(["sh", "-c", f"echo >> {path}; sleep 100"], check=False)


def test_a_worker_that_is_ended_starts_nothing_again(tmp_path):
    """It saw that what it had started was killed, and went on for a moment."""
    for n in range(5):
        path = tmp_path / f"{n}"
        with Local(1) as engine:
            engine.submit(0, starting_again, path)
            assert eventually(path.exists)
        assert path.read_text() in ("", "\n")


def test_what_a_program_starts_while_it_is_searched_for_ends_with_it(tmp_path, monkeypatch):
    """A child that it started between the search and its end was left: at a deadline, a command's."""
    name = f"{uuid.uuid4().hex}:"
    starts = f"read line < {tmp_path / 'go'}; setsid sh -c 'echo $$ > {tmp_path / 'child'}; sleep 100'; sleep 100"
    os.mkfifo(tmp_path / "go")
    program = subprocess.Popen(["sh", "-c", starts], env={**os.environ, descendants.MARK: name})
    searches = []

    def then_started(*given, search=descendants._found):
        found = search(*given)
        if not searches:
            assert found == [program.pid]
            (tmp_path / "go").write_text("go\n")
            assert eventually((tmp_path / "child").exists)
        searches.append(found)
        return found

    monkeypatch.setattr(descendants, "_found", then_started)
    descendants.end_descendants(name)
    assert program.wait(ANSWER) == -signal.SIGKILL
    assert eventually((tmp_path / "child").read_text)
    child = int((tmp_path / "child").read_text())
    assert eventually(lambda: not alive(child))


def test_processes_are_searched_once_for_all_workers_that_are_ended(monkeypatch):
    searches = []
    for module in (local, local_worker):

        def noted(*names, search=module.end_descendants, **given):
            searches.append(names)
            search(*names, **given)

        monkeypatch.setattr(module, "end_descendants", noted)
    with cm.engines.Local(8, grace=0.0) as engine:
        engine.abandon([engine.submit(worker, nap, 60) for worker in range(8)])
        again = [engine.submit(worker, abs, -1) for worker in range(8)]
        assert [future.result(ANSWER) for future in again] == [1] * 8
        assert len(searches) < 8
