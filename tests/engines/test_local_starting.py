"""Where `Local` starts, and what keeps it from starting: modules that workers import, open files, processes."""

from __future__ import annotations

import errno
import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import codedmap as cm
from codedmap.engines import Local, local_worker, process_limits

from ..processes import Script, eventually, kill, run_script, script
from ..repeats import first

pytestmark = pytest.mark.timeout(90)

MODULES = {
    "unguarded": """
        import numpy as np, codedmap as cm
        def predict(batch): return batch * 2
        engine = cm.engines.Local(2)
        print(cm.map(predict, np.ones((4, 2)), code=cm.Uncoded(2), engine=engine))
        """,
    "created": """
        import codedmap as cm
        def predict(batch): return batch * 2
        engine = cm.engines.Local(2)
        """,
    "chained": "from created import predict as other\ndef predict(batch): return other(batch)",
    "threaded": """
        import codedmap as cm
        from concurrent.futures import ThreadPoolExecutor
        def predict(batch): return batch * 2
        with ThreadPoolExecutor(1) as pool: engine = pool.submit(cm.engines.Local, 2).result()
        """,
    "guarded": """
        import codedmap as cm
        def predict(batch):
            with cm.engines.Local(1) as engine: return engine.submit(0, abs, batch).result()
        def late(batch):
            import created
            return batch
        """,
}


@pytest.fixture
def folder(tmp_path):
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    return tmp_path


def ended(folder, *arguments, stdin=None):
    """A program that must end, and leave no process; if it does not end, they are killed."""
    token = f"CODEDMAP_TEST_{uuid.uuid4().hex}"
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=None if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, token: "1"},
        start_new_session=True,
    )
    running = Script(process, token, 0.0)
    try:
        running.out, running.err = process.communicate(stdin, timeout=25)
        assert eventually(lambda: not running.processes())
    finally:
        while running.processes():
            for pid in running.processes():
                with suppress(ProcessLookupError):
                    kill(pid)
        process.communicate()
    return running


@pytest.mark.parametrize("module", first(1, ["unguarded", "threaded", "created", "chained"]))
def test_a_module_that_starts_workers_when_a_worker_imports_it_is_message_so(folder, module):
    use = f"""
import numpy as np, codedmap as cm, {module} as m
engine = getattr(m, "engine", None) or m.other.__globals__["engine"]
try: cm.map(m.predict, np.ones((4, 2)), code=cm.Uncoded(2), engine=engine)
except cm.errors.MissingMainGuard as error: print("refused", error)
"""
    if module == "unguarded":
        use = "import unguarded"
    run = ended(folder, "-c", use)
    message = run.err.splitlines()[-1] if module == "unguarded" else run.out
    name = "created" if module == "chained" else module
    assert message.startswith(("codedmap.errors.MissingMainGuard: ", "refused "))
    assert f"importing the module {name} starts worker processes" in message
    assert 'if __name__ == "__main__":' in message


@pytest.mark.parametrize(
    ("module", "output"),
    first(1, [("unguarded", "o.npz"), ("created", "o.npy"), ("chained", "o.npz")]),
)
def test_the_command_line_says_so_too(folder, module, output):
    line = [
        "run",
        f"{module}:predict",
        "x.npy",
        "--code",
        "SplineCode(3, 4, 1)",
        "--out",
        output,
    ]
    run = ended(folder, "-m", "codedmap", *line)
    assert run.process.returncode == (2 if module == "unguarded" else 3)
    assert run.err.startswith("codedmap: error: ")
    assert run.err.count("\n") == 1
    assert "starts worker processes, and each of them imports it again" in run.err
    assert not (folder / output).exists()


def test_a_function_may_have_workers_of_its_own_but_not_import_what_starts_some(folder):
    use = """
import codedmap as cm, guarded
with cm.engines.Local(1) as engine:
    print(engine.submit(0, guarded.predict, -3).result())
    print(type(engine.submit(0, guarded.late, -3).exception()).__name__)
"""
    assert ended(folder, "-c", use).out.split() == ["3", "MissingMainGuard"]


SCRIPT = """
print("body")
import sys
import numpy as np, codedmap as cm
factor = 3
class Odd(ValueError): pass
def times(batch):
    if hasattr(sys.modules["__main__"], "factor"): raise Odd("main was imported")
    return factor * batch
def odd(x): raise Odd(x)
engine = cm.engines.Local(2)
print(cm.map(times, np.ones((4, 2)), code=cm.Uncoded(2), engine=engine).values.sum())
print(type(engine.submit(1, odd, 1).exception()) is Odd)
"""
CELL = """
import sys, types
sys.modules["__main__"] = main = types.ModuleType("__main__")
exec(compile({}, "<cell 1>", "exec"), main.__dict__)
"""


@pytest.mark.parametrize(
    "way", first(1, ["file", "module", "cell", "folder", "words", "standard input"])
)
def test_a_script_without_a_main_guard_runs_once(tmp_path, way):
    (tmp_path / "program").mkdir()
    for name in ("program.py", "program/__main__.py"):
        (tmp_path / name).write_text(SCRIPT)
    ways = {
        "file": ["program.py"],
        "module": ["-m", "program"],
        "folder": ["program"],
        "words": ["-c", SCRIPT],
        "standard input": ["-"],
        "cell": ["-c", CELL.format(repr(SCRIPT))],
    }
    run = ended(tmp_path, *ways[way], stdin=SCRIPT)
    assert (run.out, run.err) == ("body\n24.0\nTrue\n", "")


def test_a_script_may_be_gone_when_workers_start(tmp_path):
    run = run_script(
        tmp_path,
        """
        # main
        os.unlink(__file__)
        with cm.engines.Local(2) as engine: print(engine.submit(0, abs, -1).result())
        """,
    )
    assert (run.out, run.err) == ("1\n", "")


def test_a_removed_working_directory_is_said(tmp_path):
    source = """
        # main
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir(os.getcwd())
        try: cm.engines.Local(1)
        except cm.EngineError as error: print(error)
        """
    assert "the working directory" in run_script(tmp_path, source).out


def test_a_working_directory_that_was_removed_since_workers_started_is_said(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    with Local(1) as engine:
        server = local_worker.forkserver._forkserver._forkserver_pid
        (tmp_path / "gone").rmdir()
        engine.submit(0, os._exit, 1).exception(30)
        with pytest.raises(
            cm.EngineError, match=r"has the working directory been removed\? Change"
        ):
            engine.submit(0, abs, -1).result(30)
        monkeypatch.chdir(tmp_path)
        assert engine.submit(0, abs, -1).result(30) == 1
        assert local_worker.forkserver._forkserver._forkserver_pid == server  # it is not to blame


def test_files_of_the_working_directory_are_not_taken_for_modules_of_python(tmp_path):
    run = run_script(
        tmp_path,
        """
        # main
        os.mkdir("here")
        os.chdir("here")
        for name in ("types", "random", "numpy"):
            with open(f"{name}.py", "w") as file: file.write("raise SystemExit('not this one')")
        with cm.engines.Local(1) as engine: print(engine.submit(0, abs, -1).result())
        """,
    )
    assert (run.out, run.err) == ("1\n", "")


def test_no_file_is_read_in_the_encoding_of_the_locale(tmp_path):
    run = run_script(
        tmp_path,
        """
        # main
        with cm.engines.Local() as engine: print(engine.submit(0, abs, -1).result())
        """,
        PYTHONWARNDEFAULTENCODING="1",
        PYTHONWARNINGS="error",
    )
    assert (run.out, run.err) == ("1\n", "")


def test_a_working_directory_that_workers_cannot_enter_is_said(tmp_path):
    source = """
        cm.engines.Local
        # main
        os.mkdir("closed")
        os.chdir("closed")
        os.chmod(".", 0)
        if os.getuid() == 0: os.setuid(65534)
        try: cm.engines.Local(1)
        except cm.EngineError as error: print(error)
        """
    said = run_script(tmp_path, source).out
    assert "the working directory" in said
    assert "Permission denied" in said


def test_windows_is_told_of_engines_that_it_has(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(cm.EngineError, match=r"give engine=ThreadPoolExecutor\(8\), Process"):
        cm.map(abs, [1])


def test_workers_have_the_environment_that_there_is_when_they_are_started(monkeypatch):
    def variable(_):
        return os.environ.get("CODEDMAP_TEST_VARIABLE", "")

    for value in ("first", "second", None):
        if value is None:
            monkeypatch.delenv("CODEDMAP_TEST_VARIABLE")
        else:
            monkeypatch.setenv("CODEDMAP_TEST_VARIABLE", value)
        with cm.engines.Local(1) as engine:
            assert engine.submit(0, variable, None).result(30) == (value or "")


def test_a_worker_that_takes_the_place_of_another_starts_in_the_directory_of_the_others(
    tmp_path, monkeypatch
):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    with cm.engines.Local(1) as engine:
        monkeypatch.chdir(second)
        for directory in (first, second):
            assert isinstance(engine.submit(0, os._exit, 1).exception(30), cm.errors.WorkerCrashed)
            assert engine.submit(0, lambda _: Path.cwd(), None).result(30) == directory
            shutil.rmtree(first, ignore_errors=True)  # where it is gone: the caller's


def test_workers_load_no_module_for_their_first_call(tmp_path):
    run = run_script(
        tmp_path,
        """
        import numpy as np
        def loaded(_): return {*sys.modules}
        # main
        with cm.engines.Local(1) as engine:
            before = engine.submit(0, loaded, None).result()
            cm.map(cm.itemwise(lambda x: {"y": [x, 1.0]}), np.ones(3), engine=engine)
            print(engine.submit(0, loaded, None).result() - before)
        """,
    )
    assert (run.out, run.err) == ("set()\n", "")


def test_a_path_of_temporary_files_that_is_too_long_for_sockets_is_said(tmp_path):
    source = """
        # main
        try: cm.engines.Local(1)
        except cm.EngineError as error: print(error)
        """
    folder = tmp_path / (50 * "long")
    folder.mkdir()
    said = run_script(tmp_path, source, TMPDIR=str(folder)).out.strip()
    assert said.endswith(f"set TMPDIR to a folder with a shorter path than {folder}")
    assert "memory" not in said


def test_that_no_folder_of_temporary_files_can_be_used_is_said(tmp_path):
    source = """
        import tempfile
        tempfile._candidate_tempdir_list = lambda: ["/proc"]
        # main
        try: cm.engines.Local(1)
        except cm.EngineError as error: print(error)
        """
    said = run_script(tmp_path, source).out.strip()
    assert said.endswith("found in ['/proc']): set TMPDIR to a folder that can be written to")


def test_a_time_limit_that_the_caller_sets_for_sockets_ends_no_worker():
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        with cm.engines.Local(1) as engine:
            pids = []
            for _ in range(2):
                pids.append(engine.submit(0, lambda _: os.getpid(), None).result(30))
                time.sleep(0.2)  # until it reads what has not been sent
    finally:
        socket.setdefaulttimeout(before)
    assert pids[0] == pids[1]


@pytest.mark.parametrize("program", first(1, ["/bin/false", None]))
def test_a_program_that_is_no_python_cannot_start_workers_and_is_named(program, tmp_path):
    source = f"""
        # main
        import multiprocessing
        before = sys.executable
        multiprocessing.set_executable({program!r})  # as in a server that has Python inside
        try: cm.engines.Local(1)
        except cm.EngineError as error: print(error)
        multiprocessing.set_executable(before)
        with cm.engines.Local(1) as engine: print(engine.submit(0, abs, -1).result())
        """
    run = run_script(tmp_path, source)
    said = f"no process can be started for worker 0 (what starts workers, {program}, has ended)"
    assert said in run.out
    assert "is it Python, which multiprocessing.set_executable may name" in run.out
    assert run.out.splitlines()[-1] == "1"


def test_the_error_of_a_worker_that_cannot_be_started_can_be_collected(monkeypatch):
    def refused(_):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(local_worker.forkserver, "read_signed", refused)
    with pytest.raises(
        cm.EngineError, match=r"no process can be started .*temporarily unavailable"
    ):
        Local(1)
    gc.collect()  # on Python 3.12 this crashed, and 3.13 printed what it cannot collect


def test_workers_start_under_a_debugger(tmp_path):
    source = """
        # main
        del sys.modules["__main__"].__spec__  # as pdb does
        with cm.engines.Local(1) as engine: print(engine.submit(0, abs, -1).result())
        """
    run = run_script(tmp_path, source)
    assert (run.out, run.err) == ("1\n", "")


def test_workers_are_replaced_though_the_temporary_folder_was_removed(tmp_path):
    source = """
        import shutil
        from multiprocessing import util
        # main
        with cm.engines.Local(1) as engine:
            engine.submit(0, abs, -1).result()
            shutil.rmtree(util.get_temp_dir())
            engine.submit(0, os._exit, 3).exception()
            print(engine.submit(0, abs, -1).result())
        with cm.engines.Local(1) as engine: print(engine.submit(0, abs, -2).result())
        """
    assert run_script(tmp_path, source, TMPDIR=str(tmp_path)).out.split() == ["1", "2"]


def test_two_threads_of_a_forked_child_may_start_workers_at_once(tmp_path):
    """The second closed the file by which the fork server of the first lives, and its workers counted as crashed."""
    source = """
        import threading, warnings
        from multiprocessing.connection import wait
        from codedmap.engines import local_worker
        def new_process(*given, new=local_worker._Process):
            try:
                return new(*given)
            except ChildProcessError:
                failed.append(1)
                if len(failed) == 1:
                    both.wait(0.5)
                else:
                    both.set()
                    started.wait(5)
                raise
        def start():
            workers.append(local_worker.Worker("", {**os.environ}, os.getcwd()))
            started.set()
        def work():
            starting = [threading.Thread(target=start) for _ in range(2)]
            for thread in starting: thread.start()
            for thread in starting: thread.join()
            print(wait([worker.sentinel for worker in workers], 0.5))
            for worker in workers: worker.kill(False), worker.close()
        # main
        warnings.simplefilter("ignore")
        with cm.engines.Local(1): pass
        both, started, failed, workers = threading.Event(), threading.Event(), [], []
        local_worker._Process = new_process
        child = os.fork()
        if child: os.waitpid(child, 0)
        else: work()
        """
    run = run_script(tmp_path, source)
    assert (run.out, run.err) == ("[]\n", "")


def test_a_child_that_was_forked_off_after_workers_may_have_workers_of_its_own(tmp_path):
    source = """
        import warnings
        def work():
            with cm.engines.Local(1) as engine: answer = engine.submit(0, abs, -1).result()
            sys.stdout.write(f"{answer}\\n")  # at once: print writes the end of a line by itself
        # main
        warnings.simplefilter("ignore")  # since Python 3.12 of a fork beside a thread that just ends
        work()
        child = os.fork()
        work()
        if child: os.waitpid(child, 0)
        """
    run = run_script(tmp_path, source)
    assert (run.out.split(), run.err) == (["1"] * 3, "")


def test_a_child_that_was_forked_off_while_a_worker_started_may_have_workers(tmp_path):
    """It waited for a lock that a thread of its parent had held."""
    source = """
        import threading, warnings
        from codedmap.engines.local_worker import _importing_nothing_here
        def start():
            with _importing_nothing_here():
                starting.set()
                forked.wait(20)
        # main
        warnings.simplefilter("ignore")
        starting, forked = threading.Event(), threading.Event()
        threading.Thread(target=start).start()
        starting.wait(20)
        child = os.fork()
        if child:
            forked.set()
            os.waitpid(child, 0)
        else: print(cm.map(abs, [-1]).values)
        """
    run = run_script(tmp_path, source)
    assert (run.out, run.err) == ("[1]\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("way", first(1, ["spawn", "forkserver"]))
def test_a_process_of_multiprocessing_has_workers_call_what_the_script_defines(way, tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent(f"""
            import multiprocessing

            import codedmap as cm

            class Negative(Exception): pass

            def check(number):
                if number < 0: raise Negative(number)
                return number

            def work():
                with cm.engines.Local(1) as engine:
                    print(engine.submit(0, check, 1).result())
                    error = engine.submit(0, check, -1).exception()
                    print(isinstance(error, Negative))

            if __name__ == "__main__":
                process = multiprocessing.get_context({way!r}).Process(target=work)
                process.start()
                process.join()
            """)
    )
    run = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.stdout, run.stderr) == ("1\nTrue\n", "")


def test_workers_are_seen_to_end_by_a_caller_that_has_blocked_the_signal_for_it(tmp_path):
    source = """
        # main
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        with cm.engines.Local(1) as engine:
            print(engine.submit(0, abs, -1).result())
            print(type(engine.submit(0, os._exit, 3).exception(timeout=30)).__name__)
        print(*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        """
    assert run_script(tmp_path, source).out.split() == [
        "1",
        "WorkerCrashed",
        str(int(signal.SIGCHLD)),
    ]


def test_an_engine_in_a_worker_leaves_no_temporary_files(tmp_path):
    source = """
        def inner(batch):
            with cm.engines.Local(1) as engine: return engine.submit(0, abs, batch).result()
        # main
        with cm.engines.Local(2) as engine:
            print([engine.submit(slot, inner, -1).result() for slot in (0, 1)])
        """
    # The path of a socket may not be much longer.
    assert run_script(tmp_path, source, TMPDIR=str(tmp_path)).out == "[1, 1]\n"
    assert not list(tmp_path.glob("pymp-*"))


@pytest.mark.slow
def test_a_worker_of_joblib_may_have_workers_of_its_own(tmp_path):
    source = """
        from joblib import Parallel, delayed
        def work(x):
            with cm.engines.Local(1) as engine: return engine.submit(0, abs, x).result()
        # main
        print(Parallel(2)([delayed(work)(-1)]))
        """
    run = run_script(tmp_path, source)
    assert (run.out, run.err) == ("[1]\n", "")


def test_so_many_workers_that_they_cannot_have_their_files_are_refused(tmp_path):
    run = run_script(
        tmp_path,
        """
        import resource, threading
        # main
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        try: cm.engines.Local(20)
        except cm.EngineError as error: print(error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (36, 36))
        try: cm.engines.Local(1)
        except cm.EngineError as error: print(error)
        print(threading.active_count())
        """,
    )
    message, of_one, count = run.out.splitlines()
    assert message.startswith(
        "20 workers would need 132 open files, 5 each and 32 besides, and this process"
    )
    assert "may open 100, of which " in message
    assert "`ulimit -n " in message
    assert re.search(r"or use at most 1[0-3] workers", message)
    assert of_one.endswith("before it is started)")
    assert (count, run.err) == ("1", "")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Files in which a system publishes its limits, by their names; no user's limit and unlimited memory."""

    def write(**files):
        for name, content in {"proc/loadavg": "0.1 0.2 0.3 2/100 4711", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    monkeypatch.setattr(process_limits, "_ROOT", tmp_path)
    monkeypatch.setattr(process_limits, "free_memory", lambda: None)
    monkeypatch.setattr(process_limits.os, "geteuid", lambda: 0)
    return write


@pytest.mark.parametrize(
    ("files", "most", "message"),
    [
        ({"proc/sys/kernel/threads-max": "200"}, 50, "kernel/threads-max allows 200, 100 more"),
        ({"proc/sys/kernel/pid_max": "124"}, 12, "kernel/pid_max allows 124, 24 more"),
        (
            {"sys/fs/cgroup/a/pids.max": "60", "sys/fs/cgroup/a/pids.current": "9"},
            25,
            r"control group \(/sys/fs/cgroup/a/pids.max\) allows 60, 51 more",
        ),
        (
            {"sys/fs/cgroup/pids/c/pids.max": "60", "sys/fs/cgroup/pids/c/pids.current": "59"},
            0,
            "allows 60, 1 more than there are: make room for at least one$",
        ),
    ],
)
def test_more_workers_than_the_system_takes_are_refused(system, files, most, message):
    groups = "0::/a/b\n5:cpu,pids:/c\n3:cpu:/d\n"
    other = {"sys/fs/cgroup/a/b/pids.max": "max", "sys/fs/cgroup/d/pids.max": "0"}
    system(**{"proc/self/cgroup": groups, **other, **files})
    process_limits.check_process_limits(most)
    with pytest.raises(
        cm.EngineError, match=rf"^{most + 1} workers? would need 2 processes.*{message}"
    ):
        process_limits.check_process_limits(most + 1)


@pytest.mark.parametrize(
    "files",
    [
        {"proc/loadavg": "nothing", "proc/sys/kernel/pid_max": "124"},
        {"proc/loadavg": "0.1 0.2 0.3 ?/? 4711", "proc/sys/kernel/pid_max": "124"},
        {"proc/loadavg": "", "proc/sys/kernel/threads-max": "200"},
        {"proc/sys/kernel/pid_max": "", "proc/sys/kernel/threads-max": "unlimited"},
        {"sys/fs/cgroup/pids.max": "max", "sys/fs/cgroup/pids.current": "9"},
        {"sys/fs/cgroup/pids.max": "60"},
        {"sys/fs/cgroup/pids.max": "60", "sys/fs/cgroup/pids.current": "many"},
        {"proc/self/cgroup": "no groups", "sys/fs/cgroup/a/pids.max": "0"},
    ],
    ids=str,
)
def test_a_system_that_publishes_no_limits_allows_any_number(system, files):
    system(**files)
    assert list(process_limits._capacities()) == []
    assert process_limits.check_process_limits(10**9) is None


def test_nor_more_than_a_user_may_have_or_memory_holds(system, monkeypatch):
    system()
    monkeypatch.setattr(process_limits, "free_memory", lambda: 100_000_000)
    process_limits.check_process_limits(25)
    with pytest.raises(cm.EngineError, match=r"4 MB of memory each, and 100 MB are free: use at"):
        process_limits.check_process_limits(26)
    monkeypatch.setattr(process_limits.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(process_limits.resource, "getrlimit", lambda which: (50, 60))
    with pytest.raises(cm.EngineError, match=r"have 50 \(`ulimit -u`\): use at most 25 workers"):
        process_limits.check_process_limits(26)


def test_no_process_is_started_for_workers_that_there_is_no_room_for():
    before = threading.active_count()
    with pytest.raises(cm.EngineError, match=r"50,000,000 workers would need .*: "):
        cm.engines.Local(50_000_000)
    assert threading.active_count() <= before


def test_as_many_workers_as_there_is_room_for_work_while_all_are_replaced(tmp_path):
    run = run_script(
        tmp_path,
        """
        import resource
        import numpy as np
        # main
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        large = np.ones(20_000)
        with cm.engines.Local(7, grace=0.0) as engine:
            for _ in range(2):
                print(sum(engine.submit(n, abs, large).result().size for n in range(7)))
                engine.abandon([engine.submit(n, time.sleep, 60) for n in range(7)])
                time.sleep(1)
            print(sum(engine.submit(n, abs, -1).result() for n in range(7)))
        """,
    )
    assert run.out.split() == ["140000", "140000", "7"], run.err


def test_the_soft_limit_of_open_files_is_raised_also_for_a_fork_server_that_runs(tmp_path):
    source = """
        import resource
        # main
        resource.setrlimit(resource.RLIMIT_NOFILE, (56, 2000))
        with cm.engines.Local(1) as engine:
            print(resource.getrlimit(resource.RLIMIT_NOFILE), engine.submit(0, abs, -1).result())
        with cm.engines.Local(50) as engine:
            print(sum(engine.submit(n, abs, -1).result() for n in range(50)))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            print(432 < soft < 2000, hard)
        """
    with script(tmp_path, source) as running:
        running.finish()
        assert running.out.splitlines() == ["(56, 2000) 1", "50", "True 2000"], running.err
        assert running.err == ""
