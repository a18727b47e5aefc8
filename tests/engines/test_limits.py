"""What a call needs of its worker."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

import codedmap as cm


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("4 GB", 4 * 10**9),
        ("512MiB", 2**29),
        (" 1.5 gb", 15 * 10**8),
        ("7 B", 7),
        (9, 9),
        (None, None),
    ],
)
def test_memory_is_a_number_of_bytes_or_a_size_with_a_unit(size, expected):
    assert cm.Limits(memory=size).bytes == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"memory": "4 apples"}, "is not a size"),
        ({"memory": "1..2 GB"}, "is not a size"),
        ({"memory": True}, "cannot need True of memory"),
        ({"gpu": -1}, "cannot need -1 of gpu"),
        ({"gpu": -1, "licences": {"gpu": 1}}, "cannot need -1 of gpu"),
        ({"gpu": np.inf}, "cannot need inf of gpu"),
        ({"licences": 3}, "is not a mapping"),
        ({"licences": {"matlab": "two"}}, "cannot need 'two' of matlab"),
    ],
)
def test_what_cannot_be_needed_is_refused(wrong, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        cm.Limits(**wrong)


def test_what_is_needed_has_the_names_of_the_cluster():
    needs = cm.Limits(gpu=Fraction(1, 2), licences={"matlab": 1, "none": 0})
    assert needs.resources == {"GPU": Fraction(1, 2), "matlab": 1}


def test_local_refuses_what_it_does_not_count_and_memory_that_is_not_there():
    with pytest.raises(cm.InvalidArgument, match="Local counts no GPU and no matlab"):
        cm.engines.Local(2, limits=cm.Limits(gpu=1, licences={"matlab": 1}))
    with pytest.raises(cm.InvalidArgument, match=r"limits='4 GB' must be codedmap\.Limits"):
        cm.engines.Local(2, limits="4 GB")
    with pytest.raises(cm.EngineError, match=r"2 workers would need 500\.0 TB of memory each"):
        cm.engines.Local(2, limits=cm.Limits(memory="500 TB"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process allocates")
def test_a_call_on_local_that_allocates_more_fails_alone():
    def allocate(batch):
        return np.array([np.ones(int(size)).sum() for size in batch])

    with cm.engines.Local(1, limits=cm.Limits(memory="1 GB")) as engine:
        result = cm.map(allocate, np.array([10.0, 3e8, 5.0]), engine=engine, on_error="record")
    assert result.values[[0, 2]].tolist() == [10, 5]
    assert isinstance(result.failures[1], MemoryError)


def test_calls_are_cut_so_that_inputs_and_answers_fit_into_a_quarter_of_the_memory():
    def widened(batch):
        return np.repeat(batch, 512, axis=1)

    X = np.zeros((400, 64))  # of 512 bytes a row, and answers of 256 KiB
    with cm.engines.Local(2) as engine:
        engine.memory_limit = 8 << 20
        result = cm.map(widened, X, engine=engine)
    assert max(len(call.rows) for call in result.calls) <= 7
    assert result.exact.all()
