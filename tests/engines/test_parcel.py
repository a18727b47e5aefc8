"""How values travel: a parcel that is handed on keeps its buffers outside of the pickle."""

from __future__ import annotations

import os
import pickle
import stat
import sys
import threading
from dataclasses import replace

import cloudpickle
import numpy as np
import pytest

from codedmap.engines.transport import parcel as parcels
from codedmap.engines.transport.descendants import SHARED
from codedmap.engines.transport.failure import Failure
from codedmap.engines.transport.parcel import Parcel, PickledOnce, discard, pack, receive

from .. import processes


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_parcel_that_is_handed_on_is_not_copied_into_the_pickle(kind):
    parcel = pack(np.arange(100_000.0), None)
    for _ in range(3):  # caller, scheduler, worker
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(parcel, protocol=5, buffer_callback=buffers.append)
        assert len(buffers) == 2  # what is small comes first
        assert len(pickled) < 1000
        arrived = [kind(bytes(buffer.raw())) for buffer in buffers]
        parcel = pickle.loads(pickled, buffers=arrived)
        assert isinstance(parcel, Parcel)
    assert np.array_equal(receive(parcel).unpack(), np.arange(100_000.0))


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_parcel_travels_by_itself_too(protocol):
    parcel = pickle.loads(pickle.dumps(pack(np.arange(9.0), None), protocol=protocol))
    parcel = pickle.loads(pickle.dumps(parcel, protocol=protocol))
    value = receive(parcel).unpack()
    value += 1  # it is ours
    assert np.array_equal(value, np.arange(1.0, 10.0))


def arrived(block, *, packer, writable=False):
    """A parcel of 100 numbers that has come in this memory."""
    view = memoryview(block)[:800]
    parcel = pack(np.arange(100.0), None)
    view[:] = parcel.inline[0].raw()
    return replace(parcel, inline=(view if writable else view.toreadonly(),), packer=packer)


def shares(value, block):
    return np.shares_memory(value, np.frombuffer(block, np.uint8))


@pytest.mark.parametrize("writable", [True, False])
def test_what_another_process_has_sent_is_used_where_it_has_come(writable):
    block = np.empty(800, np.uint8)
    value = receive(arrived(block, packer=0, writable=writable)).unpack()
    assert shares(value, block)
    value += 1
    assert np.array_equal(value, np.arange(1.0, 101.0))


def test_what_this_process_has_packed_is_copied_because_the_caller_has_it_too():
    block = np.empty(800, np.uint8)
    value = receive(arrived(block, packer=os.getpid(), writable=True)).unpack()
    value += 1
    assert not shares(value, block)
    assert np.array_equal(np.frombuffer(block, float), np.arange(100.0))


def test_what_lies_in_a_block_with_other_things_is_copied():
    block = np.empty(801, np.uint8)
    assert not shares(receive(arrived(block, packer=0)).unpack(), block)


def test_what_is_not_aligned_is_copied():
    block = np.empty(817, np.uint8)
    start = (1 - block.ctypes.data) % 16
    value = receive(arrived(block[start : start + 800], packer=0)).unpack()
    assert value.flags.aligned
    assert not shares(value, block)


def test_memory_that_cannot_be_written_is_copied():
    block = np.empty(800, np.uint8)
    parcel = arrived(block, packer=0)
    block.flags.writeable = False
    value = receive(parcel).unpack()
    value += 1
    assert not shares(value, block)


def test_functions_travel_by_name_unless_their_module_travels_by_value(monkeypatch):
    assert len(pack((processes.same, np.ones(3)), None).head) < 300
    cloudpickle.register_pickle_by_value(processes)
    try:
        by_value = pack((processes.same, np.ones(3)), None)
    finally:
        cloudpickle.unregister_pickle_by_value(processes)
    assert len(by_value.head) > 300
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "twice", lambda value: 2 * value, raising=False)
    main.twice.__module__, main.twice.__qualname__ = "__main__", "twice"
    of_main = pack((main.twice, [np.ones(3)]), None)
    assert len(of_main.head) > 300
    assert len(of_main.inline) == 1


def test_code_that_travels_by_value_keeps_the_name_of_its_file():
    made = receive(pack(lambda: None, None)).unpack()
    assert made.__code__.co_filename == __file__


class Held:
    """A function that counts how often it is pickled."""

    pickled = 0

    def __init__(self, numbers):
        self.numbers = numbers

    def __reduce__(self):
        Held.pickled += 1
        return Held, (self.numbers,)


def test_a_function_for_several_workers_is_pickled_once():
    Held.pickled, once = 0, PickledOnce(Held(np.arange(9.0)))
    before = once.digest()
    for _ in range(3):
        assert np.array_equal(receive(pack(once, None)).unpack().numbers, np.arange(9.0))
    assert Held.pickled == 1
    once.forget()
    once.fn.numbers[0] = 5.0
    assert once.digest() != before
    assert receive(pack(once, None)).unpack().numbers[0] == 5.0
    assert Held.pickled == 2


@pytest.mark.parametrize("protocol", [4, 5])
def test_engines_may_pickle_such_a_function_by_themselves(protocol):
    once, apart = PickledOnce(Held(np.arange(9.0))), []
    if protocol == 5:
        pickle.dumps(once, protocol=5, buffer_callback=apart.append)
        assert len(apart) == 1
    travelled = pickle.loads(pickle.dumps(once, protocol=protocol))
    travelled.numbers += 1  # they are its own
    assert np.array_equal(travelled.numbers, np.arange(1.0, 10.0))


def test_where_there_is_no_shared_memory_buffers_go_through_the_pipe(tmp_path, monkeypatch):
    monkeypatch.setattr(parcels, "SHARED", tmp_path / "a file")
    parcels.SHARED.touch()
    parcel = pack(np.arange(100_000.0), "segment")
    assert parcel.segment is None
    assert 0 <= parcel.nbytes - 800_000 < 1000
    assert np.array_equal(receive(parcel).unpack(), np.arange(100_000.0))
    discard("segment")


@pytest.mark.skipif(not SHARED.exists(), reason="needs shared memory")
def test_what_is_received_takes_no_open_file():
    def received(number):
        value = np.full(9_999, number, np.float32), np.full(8, number), np.full(20_000, number)
        sent = pack(value, f"codedmap-test-{os.getpid()}-{number}")
        assert stat.S_IMODE((SHARED / sent.segment).stat().st_mode) == 0o600
        assert 0 <= sent.nbytes - 200_064 < 1000
        found = receive(sent).unpack()
        assert all((array == number).all() for array in found)
        return found[2]

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    kept = [received(number) for number in range(20)]
    assert len(os.listdir("/proc/self/fd")) <= before + 5  # noqa: PTH208
    assert not list(SHARED.glob(f"codedmap-test-{os.getpid()}-*"))
    kept[3][:] += 1
    assert [array[-1] for array in kept] == [0, 1, 2, 4, *range(4, 20)]


class Odd(Exception):
    """Cannot be made from its own ``args``."""

    def __init__(self, number, text):
        super().__init__(f"{text} {number}")
        self.number = number


def test_exceptions_travel_with_their_state_or_are_described():
    found = Failure.of(Odd(13, "bad")).to_exception()
    assert (type(found), str(found), found.number) == (Odd, "bad 13", 13)
    assert "Odd: bad 13" in str(found.__cause__)
    found = Failure.of(Odd(threading.Lock(), "bad")).to_exception()
    assert type(found) is RuntimeError
    assert "Odd: bad <unlocked" in str(found)


def test_nothing_travels_by_value_that_pickle_finds_by_name(monkeypatch):
    """Pickled by value, as cloudpickle does with modules that are registered, it would take ten times as long."""
    monkeypatch.setattr(cloudpickle, "dumps", None)
    pack(np.sin, None)
    assert cloudpickle.list_registry_pickle_by_value() == set()
