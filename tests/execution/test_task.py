"""What a worker computes, and what it leaves in the process: several threads of one may compute at once."""

from __future__ import annotations

import io
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from codedmap.execution.task import Batch, Itemwise, RowsTask


def computed(fn):
    return RowsTask(fn, {}, None, capture=True)(Batch((np.ones((2, 1)),), 2, range(2)))


def test_what_is_printed_goes_where_it_did_after_calls_in_two_threads():
    streams = sys.stdout, sys.stderr
    printed, begun, over = (threading.Event() for _ in range(3))

    def first(batch):
        print("first")
        printed.set()
        begun.wait(10)
        return batch

    def second(batch):
        begun.set()
        over.wait(10)
        print("second")
        return batch

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(computed, first)
        assert printed.wait(10)
        other = pool.submit(computed, second)
        assert one.result().output == "first\n"
        over.set()
        assert other.result().output == "second\n"
    assert (sys.stdout, sys.stderr) == streams


def test_what_fn_puts_in_the_place_of_stdout_does_not_stay():
    streams = sys.stdout, sys.stderr

    def replaces(batch):
        print("before")
        sys.stdout = io.StringIO()
        print("elsewhere")
        return batch

    assert computed(replaces).output == "before\n"
    assert (sys.stdout, sys.stderr) == streams


def test_of_much_that_is_printed_the_beginning_is_kept_and_the_rest_is_counted():
    sizes = []

    def prints(batch):
        for _ in range(50):
            print("x" * 99_999)
        sizes.append(len(sys.stdout.buffer.getvalue()))
        return batch

    reply = RowsTask(prints, {}, None, True)(Batch((np.arange(1.0),), 1, range(1)))
    assert sizes == [100_000]
    assert reply.output == "x" * 99_999 + "\n\n... and 4,900,000 bytes more"


def test_at_its_limit_a_call_ends_with_the_rows_that_it_has_computed(monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: now[0], time=time.time)
    monkeypatch.setattr("codedmap.execution.task.time", clock)

    def slow_from_two(x):
        now[0] += 0.01 if x >= 2 else 0.001
        if x == 1:
            raise ValueError("one")
        return -x

    task = RowsTask(Itemwise(slow_from_two), {}, None, capture=True)
    batch = Batch((np.arange(5.0),), 5, range(5), limit=0.005)
    reply = task(batch)
    assert (reply.done, list(reply.raised)) == (3, [1])
    np.testing.assert_array_equal(reply.values, [0.0, -2.0])
    for whole in (batch.part(2, 3), replace(batch, limit=10.0)):
        assert task(whole).done is None
    raised = task(replace(batch.part(1, 3), limit=0.0))
    assert (raised.done, raised.values, list(raised.raised)) == (1, None, [0])
    assert task(replace(batch.part(4, 5), limit=0.0)).done is None


def test_of_a_batch_parts_are_computed_until_the_limit():
    seen = []

    def slow(batch, rng):
        seen.append(len(batch))
        time.sleep(0.01)
        return {"x": -batch, "drawn": [one.random() for one in rng]}

    task = RowsTask(slow, {}, 7, capture=True)
    batch = Batch((np.arange(9.0),), 9, range(9), limit=0.005, step=4)
    reply, whole = task(batch), task(replace(batch, limit=math.inf))
    assert (reply.done, whole.done, seen) == (4, None, [4, 9])
    assert task(replace(batch.part(5, 9), limit=0.0, step=4)).done is None
    seen.pop()
    np.testing.assert_array_equal(reply.values["x"], -np.arange(4.0))
    np.testing.assert_array_equal(reply.values["drawn"], whole.values["drawn"][:4])
    patient = task(replace(batch, limit=60.0))
    assert (patient.done, seen[2:]) == (None, [4, 4, 1])
    for name in ("x", "drawn"):
        np.testing.assert_array_equal(patient.values[name], whole.values[name])
