"""Threads of the package's own."""

from __future__ import annotations

import gc
import weakref

import pytest

from codedmap.execution.missing import on_cores
from codedmap.execution.threads import in_thread

from ..processes import ANSWER, run_script


def test_rows_are_estimated_and_jobs_awaited_after_the_main_thread_has_ended(tmp_path):
    """Executors took nothing any more, so that all that had been computed was lost."""
    source = """
        import asyncio, threading
        import numpy as np
        def estimate():
            threading.main_thread().join()
            X = np.linspace(0.0, 1.0, 40)[:, None]
            with cm.testing.Scripted(4, {0: cm.testing.never()}) as engine:
                result = cm.map(np.negative, X, engine=engine, chunk=4, hedge=None, deadline=0.5)
                print(result.exact.sum())
                print(asyncio.run(cm.amap(np.negative, X[:3], engine=cm.testing.Scripted(2))).exact)
        # main
        threading.Thread(target=estimate).start()
        """
    ran = run_script(tmp_path, source)
    assert (ran.out.split("\n"), ran.err) == (["36", "[ True  True  True]", ""], "")


def test_what_a_thread_raises_is_raised_where_it_is_taken_and_keeps_nothing():
    class Value:
        pass

    value = Value()
    held = weakref.ref(value)

    def fail(value=value):
        raise KeyboardInterrupt

    future = in_thread(fail)
    gc.disable()
    try:
        with pytest.raises(KeyboardInterrupt):
            future.result(ANSWER)
        assert not future.cancel()
        del future, fail, value
        assert held() is None
    finally:
        gc.enable()


def test_all_calls_are_made_and_their_answers_in_order():
    assert on_cores(pow, range(100), [2] * 100) == [n**2 for n in range(100)]
    assert on_cores(pow, [], []) == []
