"""BLAS has one thread while anything is estimated, and its own number afterwards."""

from __future__ import annotations

from contextlib import ExitStack

import scipy.linalg  # noqa: F401  which brings a BLAS of its own
from threadpoolctl import threadpool_info, threadpool_limits

from codedmap.estimation.threads import one_thread


def blas() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_it_has_its_threads_again_when_the_last_of_several_has_left():
    with threadpool_limits(2, user_api="blas"):
        for _ in range(2):
            first, second = ExitStack(), ExitStack()
            first.enter_context(one_thread)
            second.enter_context(one_thread)
            assert blas() == {1}
            first.close()
            assert blas() == {1}
            second.close()
            assert blas() == {2}
