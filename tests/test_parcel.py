"""How values travel: a parcel that is handed on keeps its buffers outside of the pickle."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from codedmap.engines._parcel import Parcel, pack, receive


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_parcel_that_is_handed_on_is_not_copied_into_the_pickle(kind):
    parcel = pack(np.arange(100_000.0), None)
    for _ in range(3):  # caller, scheduler, worker
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(parcel, protocol=5, buffer_callback=buffers.append)
        assert len(buffers) == 1
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
