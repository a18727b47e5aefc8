"""The order in which the rows of a job are computed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import codedmap as cm
from codedmap.execution.job_rows import Order


@given(
    st.integers(1, 60), st.lists(st.integers(1, 9), min_size=1), st.integers(1, 8), st.booleans()
)
def test_each_row_is_dealt_once_and_stays_where_it_is(rows, sizes, calls, some):
    wanted = np.arange(rows) % 3 < (2 if some else 3)
    order, begin, dealt = Order(wanted, block=1), 0, {}
    for size in sizes * rows:
        end = min(begin + size, order.count)
        if begin < end:
            order.deal(begin, end, calls)
            dealt[begin, end] = np.arange(rows)[order.at(begin, end)]
            for part in range(end - 1):
                order.deal(part, part + 2, calls)  # it is sent again
        begin = end
    assert sorted(np.concatenate(list(dealt.values()))) == np.flatnonzero(wanted).tolist()
    for (begin, end), at in dealt.items():
        order.deal(begin, end, calls)  # it is made again
        assert np.array_equal(np.arange(rows)[order.at(begin, end)], at)


def test_neighbours_are_in_different_calls():
    order = Order(np.ones(24, bool), block=1)
    for begin in range(0, 24, 3):
        order.deal(begin, begin + 3, 4)
    calls = [order.at(begin, begin + 3).tolist() for begin in range(0, 24, 3)]
    assert calls[:4] == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert calls[4:] == [[row + 12 for row in call] for call in calls[:4]]


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_calls_of_a_job_have_rows_that_are_apart():
    """Eight slow neighbours among 160 rows were in four calls, two in each."""
    with ThreadPoolExecutor(4) as threads:
        result = cm.map(cm.itemwise(sleep), np.full(100, 0.01), engine=threads)
    several = [call.rows for call in result.calls if len(call.rows) > 1]
    assert np.diff(several[0]).min() > 1
    assert np.array_equal(result.values, np.full(100, 0.01))


def test_batches_and_rows_of_a_chunk_are_neighbours():
    with ThreadPoolExecutor(4) as threads:
        for fn, chunk in ((np.sin, None), (cm.itemwise(np.sin), 10)):
            calls = cm.map(fn, np.ones(400), engine=threads, chunk=chunk).calls
            assert all(isinstance(call.rows, range) for call in calls)
