"""A queue of calls that several threads use: callers, the one that serves it, and those that drop values."""

from __future__ import annotations

import threading
from collections import deque
from types import SimpleNamespace

from codedmap.contracts.engine import Kept
from codedmap.engines.queue_engine import Answer, Call, CallQueue
from codedmap.engines.transport.parcel import pack
from codedmap.engines.transport.serve import Request

from ..processes import ANSWER


def new_queue() -> CallQueue:
    return CallQueue(SimpleNamespace(run="", setups=[]), 0)


def test_a_call_that_begins_while_calls_are_counted_is_one():
    """A worker that was about to begin its call counted as free."""

    class Waiting(deque):
        def __iter__(self):
            if not beginning.ident:
                beginning.start()
                beginning.join(0.2)
            return super().__iter__()

    queue = new_queue()
    beginning = threading.Thread(target=queue._begin_next)
    queue._waiting = Waiting([Call(Request(pack(1, None), None), Answer(queue))])
    assert queue.load == 1
    beginning.join(ANSWER)
    assert queue.load == 1


def test_a_kept_value_may_be_dropped_while_those_of_a_dead_worker_are_lost():
    """The dictionary changed as it was gone through, and the worker was never started again."""
    queue = new_queue()
    dropping, losing, dropped = (threading.Event() for _ in range(3))

    class Unseen(set):
        """Who goes through the dictionary now. The thread that drops looks just before somebody begins."""

        def __bool__(self):
            if threading.current_thread() is not thread:
                return bool(len(self))
            dropping.set()
            losing.wait(0.2)
            return False

    class Pausing(Kept):
        @property
        def lost(self):
            return True

        @lost.setter
        def lost(self, lost):
            if lost:
                losing.set()
                dropped.wait(ANSWER)

    def drop():
        del values[1]
        dropped.set()

    thread = threading.Thread(target=drop)
    values = [Pausing(0, 0), Kept(0, 1)]
    for kept in values:
        queue._kept[kept.key] = kept
    del kept
    queue._kept._iterating = Unseen()
    thread.start()
    dropping.wait(1.0)
    queue._lose_kept()
    thread.join(ANSWER)
    assert not queue._kept
