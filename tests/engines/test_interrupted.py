"""Ctrl-C at any moment: nothing hangs, nothing is left, and the engine works on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..processes import script

SOURCE = """
    sys.path.insert(0, sys.argv[1])
    from tests.interrupting import main
    # main
    main(*sys.argv[2:])
    """


def run(folder: Path, *arguments: str, timeout: float) -> list[str]:
    """What `interrupting` prints; a process that hangs is killed."""
    with script(folder, SOURCE, str(Path(__file__).parents[2]), *arguments) as running:
        running.finish(timeout)
        assert running.process.returncode == 0, running.err
        assert running.nothing_is_left(), (running.processes(), running.shm_names())
    return running.out.splitlines()


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "steps",
    ["Submit:1 Use:2 Keep:1 Abandon:1", "Close:1 Map:19 Stragglers:41 Start:11"],
)
def test_a_keyboard_interrupt_at_any_point_neither_hangs_nor_leaves_anything(steps, tmp_path):
    counts = run(tmp_path, *steps.split(), timeout=120)
    assert [line.split()[0] for line in counts] == [
        step.partition(":")[0] for step in steps.split()
    ]
    assert all(int(line.split()[1]) >= 7 for line in counts)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_keyboard_interrupt_at_every_point(tmp_path):
    cases = "Submit Use Keep Abandon Close Map Stragglers Start".split()
    assert len(run(tmp_path, *(f"{case}:1" for case in cases), timeout=800)) == len(cases)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("engine", "count"), [("Local", 200), ("Dask", 50), ("Ray", 15)])
def test_signals_at_random_times(engine, count, tmp_path):
    """Some calls take longer than an end may take."""
    seconds = run(tmp_path, "signals", engine, str(count), "0", timeout=800)
    assert len(seconds) == count
    assert max(map(float, seconds)) < 12


@pytest.mark.parametrize("job", ["cm.map(abs, [1, -2])", "start_server(), cm.engines.Local(1)"])
def test_ctrl_c_does_not_wait_for_workers_that_start(job, tmp_path):
    source = f"""
        import threading
        from codedmap.engines.local_worker import start_server
        from multiprocessing import forkserver
        def interrupt():
            started.wait()
            os.kill(os.getpid(), signal.SIGINT)
        def late(file):
            started.set()
            time.sleep(60)
        # main
        signal.signal(signal.SIGINT, signal.default_int_handler)
        forkserver.read_signed, started = late, threading.Event()
        threading.Thread(target=interrupt).start()
        try: {job}
        except KeyboardInterrupt: print("ended")
        """
    with script(tmp_path, source) as running:
        running.finish(30)
        assert running.nothing_is_left(), running.processes()
    assert (running.out, running.err) == ("ended\n", "")
