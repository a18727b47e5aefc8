from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import codedmap as cm
from codedmap.coding.groups import cut
from codedmap.coding.ordering import (
    along_paths,
    neighbours_together,
    paths_through,
    short_paths,
    squared_distances,
)

lawful = settings(max_examples=50)


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def lengths(squared: np.ndarray, paths: np.ndarray) -> np.ndarray:
    steps = squared[np.arange(len(paths))[:, None], paths[:, :-1], paths[:, 1:]]
    return np.sqrt(steps).sum(axis=1)


def as_given(squared: np.ndarray) -> np.ndarray:
    return np.tile(np.arange(squared.shape[1]), (len(squared), 1))


def pairwise(points: np.ndarray) -> np.ndarray:
    """Squared distances by their definition."""
    apart = points[:, :, None] - points[:, None]
    return (np.abs(apart) ** 2).sum(axis=3)


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, np.complex64, np.complex128, np.int8]
)
def test_distances_are_those_of_the_definition_whatever_the_dtype(dtype):
    points = 9 * gaussian(3, 7, 5)
    if np.dtype(dtype).kind == "c":
        points = points + 9j * gaussian(3, 7, 5, seed=1)
    points = points.astype(dtype)
    wide = points.astype(np.complex128 if np.dtype(dtype).kind == "c" else np.float64)
    squared = squared_distances(points)
    assert squared.dtype == np.float64
    np.testing.assert_allclose(squared, pairwise(wide), rtol=1e-12, atol=1e-9)


@lawful
@given(arrays(np.float32, (2, 5, 3), elements=st.floats(-100, 100, width=32)))
def test_distances_are_symmetric_not_negative_and_zero_to_oneself(points):
    squared = squared_distances(points)
    np.testing.assert_array_equal(squared, squared.swapaxes(1, 2))
    assert (squared >= 0).all()
    assert (squared.diagonal(axis1=1, axis2=2) == 0).all()


@pytest.mark.parametrize(("dtype", "offset", "rtol"), [(float, 1e6, 1e-8), (np.float32, 1e3, 1e-3)])
def test_a_large_common_offset_costs_no_digits_beyond_those_it_costs_the_inputs(
    dtype, offset, rtol
):
    points = gaussian(2, 6, 4)
    far = (points + offset).astype(dtype)
    np.testing.assert_allclose(squared_distances(far), pairwise(points), rtol=rtol)


@pytest.mark.parametrize("shape", [(2, 20, 300_000), (3_000, 20, 100)])
def test_only_a_part_of_the_inputs_is_copied_at_a_time(shape):
    points = np.ones(shape, np.float32)
    tracemalloc.start()
    squared_distances(points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6 + 3 * 8 * shape[0] * shape[1] ** 2


def test_wide_inputs_taken_in_parts_give_the_same_distances(monkeypatch):
    points = gaussian(5, 6, 50)
    whole = squared_distances(points)
    monkeypatch.setattr("codedmap.coding.ordering._COPIED", 60)
    np.testing.assert_allclose(squared_distances(points), whole, rtol=1e-12)
    complex_points = points[..., ::2] + 1j * points[..., 1::2]
    np.testing.assert_allclose(squared_distances(complex_points), whole, rtol=1e-12)


@lawful
@given(st.integers(1, 5), st.integers(1, 45), st.integers(1, 6), st.integers(0, 2**31))
def test_a_path_is_a_permutation_no_longer_than_the_order_given_and_begins_at_its_first_end(
    groups, tasks, columns, seed
):
    squared = squared_distances(gaussian(groups, tasks, columns, seed=seed).round(1))
    paths = short_paths(squared)
    np.testing.assert_array_equal(np.sort(paths, axis=1), as_given(squared))
    short, given_ = lengths(squared, paths), lengths(squared, as_given(squared))
    assert (short <= given_ * (1 + 1e-12)).all()
    assert (paths[:, 0] <= paths[:, -1]).all()


@lawful
@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**31))
def test_groups_at_once_are_as_one_by_one(groups, tasks, seed):
    points = gaussian(groups, tasks, 3, seed=seed)
    paths = paths_through(points)
    for group in range(groups):
        np.testing.assert_array_equal(paths_through(points[group : group + 1])[0], paths[group])


def test_many_groups_are_searched_in_parts_with_the_same_result(monkeypatch):
    points = gaussian(30, 12, 3)
    paths = paths_through(points)
    monkeypatch.setattr("codedmap.coding.ordering._SEARCHED", 500)
    np.testing.assert_array_equal(paths_through(points), paths)


@pytest.mark.parametrize("tasks", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_paths_through_few_points_are_almost_the_shortest(tasks, columns):
    squared = squared_distances(gaussian(100, tasks, columns))
    every = [p for p in itertools.permutations(range(tasks)) if p[0] < p[-1]]
    shortest = np.min([lengths(squared, np.tile(p, (100, 1))) for p in every], axis=0)
    excess = lengths(squared, short_paths(squared)) / shortest
    assert (excess >= 1 - 1e-12).all()
    assert excess.mean() < 1.005
    assert excess.max() < 1.15


@pytest.mark.parametrize("tasks", [1, 2, 3, 8, 32, 33, 200])
def test_points_on_a_line_come_in_their_order(tasks):
    line = np.sort(gaussian(4, tasks, 1), axis=1)
    np.testing.assert_array_equal(paths_through(line), as_given(line))
    mixed = np.random.default_rng(1).permuted(np.arange(tasks))
    path = paths_through(line[:, mixed])
    for points, one in zip(line[:, mixed, 0], path, strict=True):
        assert len(set(np.sign(np.diff(points[one])))) <= 1


@pytest.mark.parametrize("tasks", [5, 20, 40])
def test_points_that_are_all_the_same_keep_their_order(tasks):
    same = np.full((2, tasks, 3), 7.5)
    np.testing.assert_array_equal(paths_through(same), as_given(same))
    twice = np.repeat(gaussian(3, tasks, 2), 2, axis=1)
    squared = squared_distances(twice)
    paths = short_paths(squared)
    beside = np.abs(np.diff(paths // 2, axis=1)) == 0
    assert (beside.sum(axis=1) == tasks).all()  # a point and its copy follow each other


@pytest.mark.parametrize("tasks", [6, 40])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_group_with_distances_that_are_not_finite_keeps_its_order(tasks, bad):
    points = gaussian(3, tasks, 2)
    without = paths_through(points)
    points[1, 3, 0] = bad
    paths = paths_through(points)
    np.testing.assert_array_equal(paths[1], np.arange(tasks))
    np.testing.assert_array_equal(paths[[0, 2]], without[[0, 2]])


@pytest.mark.parametrize("scale", [1e300, 1e155, 1e-155, 1e-300])
def test_the_scale_of_a_group_makes_no_difference(scale):
    points = gaussian(3, 6, 2)
    expected = paths_through(points)
    np.testing.assert_array_equal(paths_through(points * scale), expected)
    points[1] *= scale
    np.testing.assert_array_equal(paths_through(points), expected)


def to_the_nearest(squared: np.ndarray) -> list[int]:
    left, here, path = set(range(1, len(squared))), 0, [0]
    while left:
        here = min(left, key=lambda other: squared[here, other])
        left.remove(here)
        path.append(here)
    return path


@pytest.mark.parametrize(("groups", "tasks"), [(20, 20), (20, 32), (10, 60), (3, 100)])
def test_paths_are_much_shorter_than_those_to_the_nearest_neighbour(groups, tasks):
    squared = squared_distances(gaussian(groups, tasks, 2))
    nearest = np.array([to_the_nearest(group) for group in squared])
    ours = lengths(squared, short_paths(squared)).mean()
    assert ours < 0.9 * lengths(squared, nearest).mean()


def together(rows: np.ndarray, order: np.ndarray, tasks: int) -> float:
    """The mean distance of a row to the nearest other of its group."""
    groups = -(-len(rows) // tasks)
    nearest = []
    for group in range(groups):
        own = rows[order[group::groups]].reshape(1, -1, rows[0].size)
        squared = pairwise(own)[0]
        np.fill_diagonal(squared, np.inf)
        if len(squared) > 1:
            nearest += list(np.sqrt(squared.min(axis=1)))
    return float(np.mean(nearest))


@lawful
@given(st.integers(0, 300), st.integers(1, 25), st.integers(1, 5), st.integers(0, 2**31))
def test_which_rows_share_a_group_is_a_permutation_that_does_not_change(rows, tasks, columns, seed):
    points = gaussian(rows, columns, seed=seed).round(1)
    order = neighbours_together(points, tasks)
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    np.testing.assert_array_equal(neighbours_together(points, tasks), order)
    if rows <= tasks:
        np.testing.assert_array_equal(order, np.arange(rows))


@pytest.mark.parametrize("tasks", [2, 8, 20])
@pytest.mark.parametrize("rows", [1_000, 1_003])
@pytest.mark.parametrize(("columns", "share"), [((2,), 0.25), ((5,), 0.75), ((3, 1), 0.5)], ids=str)
def test_neighbours_share_a_group(rows, tasks, columns, share):
    points = gaussian(rows, *columns)
    order = neighbours_together(points, tasks)
    assert together(points, order, tasks) < share * together(points, np.arange(rows), tasks)


@pytest.mark.parametrize(("rows", "tasks"), [(20, 11), (60, 15), (63, 11), (40, 32)])
def test_clusters_that_fill_their_groups_stay_together_also_where_tasks_are_lacking(rows, tasks):
    groups = -(-rows // tasks)
    cluster = np.random.default_rng(2).permutation(np.arange(rows) % groups)
    points = 1000.0 * np.arange(groups)[cluster, None] + gaussian(rows, 3)
    blocks = cut(cluster[neighbours_together(points, tasks)], tasks)
    for group in np.concatenate(blocks, axis=1).T:
        assert len(set(group)) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex64, np.int32, bool])
def test_rows_of_any_numbers_are_put_together(dtype):
    points = (30 * gaussian(90, 4)).astype(dtype)
    order = neighbours_together(points, 9)
    np.testing.assert_array_equal(np.sort(order), np.arange(90))
    assert (order != np.arange(90)).any()


@pytest.mark.parametrize(
    "rows",
    [
        np.array(["a", "bb", "c"] * 9),
        np.array([None, {}, 3] * 9, dtype=object),
        np.ones((27, 0)),
        np.arange(27).astype("datetime64[D]"),
    ],
    ids=["text", "objects", "empty", "dates"],
)
def test_rows_that_are_no_numbers_stay_in_order(rows):
    np.testing.assert_array_equal(neighbours_together(rows, 4), np.arange(27))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e308, 1e-320])
def test_any_row_of_numbers_is_put_somewhere(bad):
    points = gaussian(700, 3)
    points[::5] = bad
    np.testing.assert_array_equal(np.sort(neighbours_together(points, 8)), np.arange(700))
    same = np.full((100, 2), bad)
    np.testing.assert_array_equal(np.sort(neighbours_together(same, 8)), np.arange(100))


def test_many_rows_take_memory_linear_in_their_number():
    rows = np.ones((50_000, 4), np.float32)
    tracemalloc.start()
    neighbours_together(rows, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000 * 200


CODES = [
    lambda **more: cm.SplineCode(6, 13, 4, **more),
    lambda **more: cm.BerrutCode(6, 13, 4, **more),
    lambda **more: cm.SplineCode(6, 13, 4, decoder_smoothing=1e-6, clip=(-9.0, 9.0), **more),
]
of_each = pytest.mark.parametrize("make", CODES, ids=["spline", "berrut", "smooth"])


@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
@pytest.mark.parametrize("count", [4, 6, 23, 60, 62])
def test_rows_of_a_group_follow_each_other_along_a_short_path(count, dtype):
    rows = gaussian(count, 2, 3).astype(dtype)
    rows = rows * dtype(1 + 0.5j) if dtype is np.complex128 else rows
    order, together = along_paths(rows, 6), neighbours_together(rows, 6)
    assert sorted(order) == list(range(count))
    groups = -(-count // 6)
    for group in range(groups):
        members = together[group::groups]
        path = paths_through(rows[members].reshape(1, len(members), 6))[0]
        np.testing.assert_array_equal(order[group::groups], members[path])


@of_each
def test_only_with_an_order_is_it_chosen_how_rows_are_cut_into_groups(make):
    rows = gaussian(50, 3)
    assert hasattr(make(), "arranged")
    assert make().arranged(rows) is None
    np.testing.assert_array_equal(make(order="path").arranged(rows), along_paths(rows, 6))


@of_each
def test_the_order_of_the_inputs_does_not_matter(make):
    X, mixed = gaussian(24, 2), np.random.default_rng(1).permutation(24)
    values = []
    for some in (X, X[mixed]):
        with cm.testing.Scripted(13) as engine:
            stop = cm.Everyone()
            result = cm.map(np.square, some, code=make(order="path"), engine=engine, stop=stop)
        values.append(result.values)
    # A path may be walked from either end: the points are alike from both.
    np.testing.assert_allclose(values[1], values[0][mixed], atol=1e-8)


@of_each
@pytest.mark.parametrize("rows", [1, 5, 6, 100, 101, 119])
def test_map_gives_estimates_in_the_order_of_the_rows(make, rows):
    X = np.random.default_rng(0).uniform(-1, 1, (rows, 2))
    with cm.testing.Scripted(13) as engine:
        result = cm.map(lambda x: x, X, code=make(order="path"), engine=engine, stop=cm.Everyone())
    assert np.abs(result.values - X).max() < 0.3
    np.testing.assert_array_equal(result.values[result.exact], X[result.exact])


def test_rows_without_an_order_of_their_own_are_estimated_better_along_a_path():
    X = np.random.default_rng(0).uniform(-1, 1, (200, 4))
    script = {n: cm.testing.never() for n in (1, 6, 7)}
    errors = []
    for order in (None, "path"):
        code = cm.SplineCode(8, 14, 3, order=order)
        with cm.testing.Scripted(14, script) as engine:
            result = cm.map(np.sin, X, code=code, engine=engine)
        errors.append(np.sqrt(np.mean((result.values - np.sin(X)) ** 2)))
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("make", [cm.SplineCode, cm.BerrutCode])
@pytest.mark.parametrize("order", ["hilbert", "", 1, True, ["path"], np.array(["path", "path"])])
def test_an_unknown_order_is_refused_with_the_known_ones(make, order):
    with pytest.raises(cm.InvalidArgument, match=r'order=.* choose "path".* or None'):
        make(4, 9, 2, order=order)
