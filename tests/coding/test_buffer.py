"""Memory is reused only when nothing refers to the array that was there."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import codedmap as cm
from codedmap.coding.operators import Buffer

SHAPE, DTYPE = (8, 200_000), np.dtype(np.float32)
SMALL, HUGE = (8, 100), (1 << 26,)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_unused_memory_is_reused_for_any_shape_and_dtype_of_its_size():
    buffer = Buffer()
    first = buffer.array(SHAPE, DTYPE)
    where = address(first)
    del first
    again = buffer.array((100_000, 8), np.dtype(np.float64))
    assert address(again) == where
    assert again.flags.writeable
    assert again.flags.aligned
    assert again.dtype == np.float64


@pytest.mark.parametrize(
    "refer",
    [
        lambda array: array[3],
        lambda array: array.reshape(-1)[::7],
        lambda array: array.view(np.uint8),
        lambda array: array.T.view(),
        memoryview,
        lambda array: memoryview(array[2])[5:9],
        lambda array: pickle.PickleBuffer(array[1]),
        lambda array: np.frombuffer(array, np.uint8)[1:2],
        lambda array: np.asarray(memoryview(array)),
        lambda array: [iter(array[0])],
    ],
)
def test_memory_in_use_is_not_reused(refer):
    buffer = Buffer()
    array = buffer.array(SHAPE, DTYPE)
    array[:] = 1
    first, held = address(array), refer(array)
    del array
    other = buffer.array(SHAPE, DTYPE)
    second = address(other)
    assert second != first
    del other
    assert address(buffer.array(SHAPE, DTYPE)) == second
    del held
    again = [buffer.array(SHAPE, DTYPE) for _ in range(2)]
    assert {address(array) for array in again} == {first, second}


def test_while_the_last_array_is_kept_the_memory_of_the_one_before_is_reused():
    buffer = Buffer()
    addresses = []
    last = None
    for turn in range(6):
        made = buffer.array(SHAPE, DTYPE)
        made[:] = turn
        assert last is None or (last == turn - 1).all()
        last = made
        addresses.append(address(made))
    assert len(set(addresses)) == 2


def test_no_more_than_two_arrays_are_held_and_of_large_ones_and_other_sizes_less():
    buffer = Buffer()
    three = [buffer.array(SHAPE, DTYPE) for _ in range(3)]
    assert len({address(array) for array in three}) == 3
    assert len(buffer._last) == 2
    half = 1 << 26  # bytes, two of which are as much as is held
    two = [buffer.array((half,), np.dtype(np.uint8)) for _ in range(2)]
    assert [memory.size for memory, _ in buffer._last] == [half, half]
    larger = [buffer.array((half + 8,), np.dtype(np.uint8)) for _ in range(2)]
    assert [memory.size for memory, _ in buffer._last] == [half + 8]
    del three, two, larger  # which are in use until here


def test_read_only_views_count_too():
    buffer = Buffer()
    held = buffer.array(SHAPE, DTYPE)[5].view()
    held.flags.writeable = False
    assert address(buffer.array(SHAPE, DTYPE)) != address(held) - 5 * held.nbytes


@pytest.mark.parametrize("shape", [SMALL, (0, 7), (), HUGE])
def test_of_small_and_huge_arrays_nothing_is_held_back(shape):
    buffer = Buffer()
    array = buffer.array(shape, DTYPE)
    assert array.shape == shape
    assert array.base is None
    assert not buffer._last


def test_arrays_of_objects_never_get_reused_memory():
    array = Buffer().array((1 << 17, 2), np.dtype(object))
    assert array[0, 0] is None


def test_threads_never_share_memory():
    buffer, together = Buffer(), threading.Barrier(4)

    def fill(number: int) -> bool:
        good = True
        for turn in range(50):
            array = buffer.array(SHAPE, DTYPE)
            array[:] = mine = 100 * number + turn
            together.wait(30)
            good = good and bool((array == mine).all())
            del array
        return good

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(fill, range(4)))


def test_a_straggler_of_an_earlier_wave_still_sees_its_own_payload():
    code = cm.SplineCode(3, 4, 1)
    begun, go = threading.Event(), threading.Event()
    first = np.random.default_rng(0).standard_normal((3, 100_000))
    expected = code.encode(first[:, None]).payloads[3].copy()
    seen = []

    def look(batch: np.ndarray) -> np.ndarray:
        if np.array_equal(batch, expected):
            begun.set()
            assert go.wait(60)
            seen.append(batch.copy())
        assert begun.wait(60)  # or it might be taken back before it has begun
        return batch[:, :2]

    with ThreadPoolExecutor(4) as pool:
        cm.map(look, first, code=code, engine=pool, stop=cm.Quorum(3))
        for wave in range(3):
            cm.map(look, first + wave + 1, code=code, engine=pool, stop=cm.Quorum(3))
        go.set()
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], expected)
