"""What a plan is made from."""

from __future__ import annotations

import numpy as np
import pytest

from codedmap import InvalidAnswer, InvalidArgument, Replication
from codedmap.latency import LatencyModel
from codedmap.planning.replays import Part
from codedmap.planning.sampling import drawn, fewest_late, ground, numbers_of_tasks, sound


@pytest.mark.parametrize(
    ("workers", "late", "budget", "rows", "tried"),
    [
        (24, 4, 2.0, 1_000, [20, 16, 12]),
        (24, 4, 3.0, 1_000, [20, 16, 12, 8]),
        (24, 4, 2.0, 14, [14, 12]),
        (24, 4, 1.0, 1_000, [24]),
        (24, 0, 1.5, 1_000, [24, 16]),
        (10, 1, 10.0, 1_000, [9, 7, 5, 3, 1]),
    ],
)
def test_numbers_of_tasks_within_the_budget_and_the_rows(workers, late, budget, rows, tried):
    assert numbers_of_tasks(workers, late, budget, rows) == tried


def test_a_budget_that_asks_for_more_tasks_than_there_are_rows_is_refused():
    assert numbers_of_tasks(24, 4, 2.0, 12) == [12]
    with pytest.raises(
        InvalidArgument, match="groups have 12 tasks or more, and the sample has 11"
    ):
        numbers_of_tasks(24, 4, 2.0, 11)


class Even(LatencyModel):
    def calls(self, rng, waves, workers, each):
        return np.broadcast_to(np.ones(1), (each, waves, workers))

    def sample(self, rng, waves, workers):
        return self.calls(rng, waves, workers, 1)[0]


@pytest.mark.parametrize(
    ("workers", "waves"), [(1, 10_000), (500, 10_000), (5_000, 1_000), (9_000, 600)]
)
def test_fewer_waves_are_timed_of_many_workers(workers, waves):
    assert drawn(Even(), workers, 0).shape == (2, waves, workers)


def test_so_many_are_late_that_the_rest_are_as_fast_as_half_of_them():
    seconds = np.ones((2, 400, 10))
    assert fewest_late(seconds) == 0
    seconds[:, :, :3] = 5.0
    assert fewest_late(seconds) == 3
    seconds[:, :, :3] = 1.05
    assert fewest_late(seconds) == 0
    seconds[:, :, 0] = np.inf
    assert fewest_late(seconds) == 1
    with pytest.raises(InvalidArgument, match="more than 1 % of the waves get no answer"):
        fewest_late(np.full((2, 400, 10), np.inf))


@pytest.mark.parametrize(
    ("workers", "late", "copies"), [(12, 2, "(4, 12)"), (12, 1, "(6, 12)"), (2, 2, None)]
)
def test_labels_are_refused_with_the_copies_that_would_do(workers, late, copies):
    with pytest.raises(InvalidAnswer, match="nothing can be estimated between labels") as refused:
        sound(np.ones((3, 1)), np.array(["a", "b", "c"]), workers, late)
    if copies is None:
        assert "copy" not in str(refused.value)
        return
    assert f"Replication{copies}" in str(refused.value)
    tasks = int(copies[1:].partition(",")[0])
    assert workers - Replication(tasks, workers).stragglers <= workers - late


def test_rows_without_a_number_are_left_out_and_counted():
    rows = np.arange(4.0)[:, None]
    part, remark = sound(
        rows, np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, np.inf], [0.0, 0.0]]), 4, 1
    )
    assert part.rows.ravel().tolist() == [0.0, 3.0]
    assert part.answers.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert remark.startswith("2 of 4 sample rows were left out")
    assert "the first is row 1" in remark


@pytest.mark.parametrize(("rows", "most", "groups"), [(20, 3, 3), (20, 9, 5), (4, 9, 1), (7, 9, 1)])
def test_groups_fall_into_two_parts_spread_over_the_sample(rows, most, groups):
    sample = Part(np.arange(float(rows))[:, None], np.arange(float(rows))[:, None])
    made, count = ground(sample, 4, most, np.zeros((1, 1)), late=1, seed=0)
    assert count == groups
    sizes = [len(part.rows) // 4 for part in made.parts]
    assert sizes == [size for size in (groups - groups // 2, groups // 2) if size]
    for part, others in zip(made.parts, made.others, strict=True):
        both = np.concatenate([part.rows, others.rows]).ravel()
        assert sorted(both) == list(range(rows))
        assert (np.diff(part.rows.ravel()) > 0).all()
    with pytest.raises(InvalidArgument, match=f"less than one group of {rows + 1} tasks"):
        ground(sample, rows + 1, most, np.zeros((1, 1)), late=1, seed=0)
