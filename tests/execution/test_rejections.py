"""Rows that rest on a worker that is rejected in another chunk, or for another call, are not exact."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.testing import Scripted, corrupt, late, never

from ..api.test_map_out import content
from ..repeats import first

pytestmark = pytest.mark.usefixtures("virtual_time")

WEIGHTS = np.random.default_rng(0).standard_normal((4, 3))
X = np.random.default_rng(1).standard_normal((240, 4))
CODE = cm.KernelCode(10, 30, 0)


def smooth(batch: np.ndarray) -> np.ndarray:
    return np.tanh(batch @ WEIGHTS)


class From:
    """Wrong from one call of the worker on."""

    def __init__(self, call: int, until: int = 1000) -> None:
        self.calls, self.call, self.until = 0, call, until

    def __call__(self, answer: np.ndarray) -> np.ndarray:
        self.calls += 1
        return 1.0 - answer if self.call <= self.calls < self.until else answer


def mapped(wrong, *, workers=30, code=CODE, fn=smooth, **options):
    with Scripted(workers, {3: corrupt(wrong)}) as engine:
        return cm.map(fn, X, code=code, engine=engine, stop=cm.Everyone(), **options)


@pytest.mark.parametrize("chunk", first(1, [6, 3]))
def test_rows_of_chunks_before_are_estimated_once_a_worker_is_rejected(chunk):
    result = mapped(From(3), chunk=chunk)
    assert result.rejected == (3,)
    assert np.count_nonzero(result.status == cm.Status.ESTIMATED) == 24
    assert result.exact.sum() == 216
    truth = smooth(X)
    assert (result.values[result.exact] == truth[result.exact]).all()
    off = np.abs(result.values - truth)[~result.exact]
    assert (off <= 5 * result.stderr[~result.exact]).all()


@pytest.mark.filterwarnings("ignore:the code has 30 workers and the engine 8")
def test_a_worker_of_several_slots_is_believed_in_none_if_it_is_rejected_in_one():
    result = mapped(From(2), workers=8)
    truth = smooth(X)
    assert result.rejected == (3,)
    assert (result.values[result.exact] == truth[result.exact]).all()
    first = mapped(From(1000), workers=8)
    assert first.exact.all()
    own = sum(call.worker == 3 and call.slot < CODE.tasks for call in result.calls)
    assert own >= 1
    assert np.count_nonzero(~result.exact) == 24 * own


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the code has 30 workers and the engine 8")
def test_the_outcome_is_not_that_every_row_was_exact():
    # The input that worker 6 holds is sent again, so that all have an answer; a mixture of worker 7 never has one.
    script = {3: corrupt(From(2)), 6: [never()], 7: [late(0), never()]}
    with Scripted(8, script) as engine:
        result = cm.map(
            smooth, X, code=CODE, engine=engine, stop=cm.Everyone(), hedge=cm.Hedge(after=0.1)
        )
    assert result.rejected == (3,)
    assert np.count_nonzero(result.status == cm.Status.ESTIMATED) == 24
    assert result.outcome is cm.Outcome.NONE_RUNNING


def test_one_wrong_answer_among_many_costs_no_other_row():
    result = mapped(From(3, until=4), chunk=1)
    assert set(result.rejected) <= {3}
    assert np.count_nonzero(result.status == cm.Status.ESTIMATED) <= 1


@pytest.mark.filterwarnings("ignore:the code has 30 workers and the engine 8")
@pytest.mark.parametrize("groups", [1, 2])
def test_a_wrong_answer_in_few_groups_of_a_call_costs_these_rows_only(groups):
    def in_some(answer):
        answer = answer.copy()
        answer[5 : 5 + groups] = 30.0
        return answer

    with Scripted(8, {0: [corrupt(in_some)]}) as engine:
        result = cm.map(smooth, X, code=CODE, engine=engine, stop=cm.Everyone())
    assert result.rejected == (0,)
    assert np.count_nonzero(~result.exact) == groups


@pytest.mark.parametrize("suffix", first(1, [".npy", ".zarr", ".parquet"]))
def test_an_output_holds_no_answer_of_a_rejected_worker_as_exact(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    result = mapped(From(3), chunk=6, out=path)
    assert result.rejected == (3,)
    truth, kept = smooth(X), content(path)
    exact = result.status == cm.Status.EXACT
    assert exact.sum() == 216
    assert (kept[exact] == truth[exact]).all()
    assert np.abs(kept[~exact] - truth[~exact]).max() < 0.5
    again = mapped(From(1000), chunk=1, out=path, resume=True)
    assert (again.status == cm.Status.EXACT).all()
    assert len(again.calls) >= 3 * 30, "all 24 rows are computed again, in groups of ten"
    np.testing.assert_allclose(content(path), truth, atol=1e-12)


@pytest.mark.filterwarnings("ignore:the code has 30 workers and the engine 8")
def test_answers_to_mixtures_that_are_not_finite_say_nothing_against_a_worker():
    known = {row.tobytes() for row in X}

    def picky(batch: np.ndarray) -> np.ndarray:
        own = np.array([row.tobytes() in known for row in batch])
        return np.where(own[:, None], smooth(batch), np.nan)

    result = mapped(From(1000), workers=8, fn=picky)
    assert result.rejected
    assert result.exact.all()
