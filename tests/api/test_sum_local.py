"""Sums over real processes: what is kept on them, killed ones, stragglers, and bytes on the wire."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import codedmap as cm
from codedmap.engines import queue_engine
from codedmap.testing import Faulty, crash, fail, late

from ..processes import ANSWER, children, eventually, kill_and_wait, pid, shm_names

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")

X = np.random.default_rng(0).standard_normal((600, 40))
WORKERS = 6
CODES = (
    cm.codes.FractionalRepetition(6, 1),
    cm.codes.CyclicGradientCode(6, 3),
    cm.codes.PolynomialGradientCode(6, 1, 2),
    cm.codes.GroupedGradientCode(6, 3, 2),
)
every = pytest.mark.parametrize("code", CODES, ids=repr)


@pytest.fixture(scope="module")
def local() -> Iterator[cm.engines.Local]:
    with cm.engines.Local(WORKERS) as engine:
        yield engine


def gradient(rows, weights):
    return rows.T @ np.tanh(rows @ weights)


def pids(engine) -> list[int]:
    return [engine.submit(slot, pid, None).result(ANSWER) for slot in range(WORKERS)]


def check(result: cm.SumResult, weights: np.ndarray) -> None:
    true = gradient(X, weights)
    assert np.abs(result.value - true).max() <= 1e-12 * np.abs(true).max()
    assert result.exact


@every
def test_a_worker_killed_in_the_middle_of_a_run_is_repaired(code, local):
    shards = cm.CodedParts(X, code=code, engine=local)
    weights = np.zeros(40)
    repaired = []
    for step in range(8):
        if step in (2, 5):
            kill_and_wait(pids(local)[step])
        result = cm.sum(gradient, shards, args=(weights,), stop=cm.Everyone())
        check(result, weights)
        assert len(result.answered) == WORKERS
        repaired += result.repaired
        weights = weights - 1e-3 * result.value
    assert repaired == [2, 5]


@every
def test_a_worker_killed_during_its_call_costs_its_answer_and_is_repaired_for_the_next(code, local):
    shards = cm.CodedParts(X, code=code, engine=local)
    weights = np.ones(40)
    engine = Faulty(local, {3: [crash()]})
    faulty = cm.CodedParts(X, code=code, engine=engine)
    first = cm.sum(gradient, faulty, args=(weights,), stop=cm.Everyone())
    check(first, weights)
    assert set(first.failed) == {3}
    assert isinstance(first.failed[3], cm.WorkerCrashed)
    for parts in (faulty, shards):  # what others kept there has died with it
        second = cm.sum(gradient, parts, args=(weights,), stop=cm.Everyone())
        check(second, weights)
        assert len(second.answered) == WORKERS


@every
def test_stragglers_are_not_waited_for(code, local):
    weights = np.ones(40)
    engine = Faulty(local, {1: [late(60)]})
    shards = cm.CodedParts(X, code=code, engine=engine)
    result = cm.sum(gradient, shards, args=(weights,))
    check(result, weights)
    assert 1 in result.abandoned
    assert result.seconds < 12
    check(cm.sum(gradient, shards, args=(-weights,)), -weights)


def test_one_that_straggles_beyond_grace_gets_its_parts_again():
    code = cm.codes.CyclicGradientCode(WORKERS, 1)
    weights = np.ones(40)
    with cm.engines.Local(WORKERS, grace=0.1) as local:
        shards = cm.CodedParts(X, code=code, engine=Faulty(local, {2: [late(60)]}))
        kept = shards.placed.on(2)
        result = cm.sum(gradient, shards, args=(weights,))
        assert 2 in result.abandoned  # workers 1, 3 and 5 suffice, so others may be as well
        assert eventually(lambda: kept.lost)
        again = cm.sum(gradient, shards, args=(weights,), stop=cm.Everyone())
        check(again, weights)
        assert len(again.answered) == WORKERS


@pytest.mark.parametrize("reduction", [1, 2, 4])
@pytest.mark.parametrize("kind", [cm.codes.PolynomialGradientCode, cm.codes.GroupedGradientCode])
def test_workers_send_a_part_of_the_sum(reduction, kind, local, monkeypatch):
    """Bytes that arrive from the workers, pickled, as the engine unpacks them."""
    arrived = []

    def counting(parcel, receive=queue_engine.receive):
        received = receive(parcel)
        arrived.append(len(received.head) + sum(len(buffer) for buffer in received.buffers))
        return received

    numbers = 30_000
    code = (
        kind(6, 1, reduction) if kind is cm.codes.PolynomialGradientCode else kind(6, 6, reduction)
    )
    shards = cm.CodedParts(range(6), code=code, engine=local)
    monkeypatch.setattr(queue_engine, "receive", counting)
    result = cm.sum(lambda part: np.full(numbers, part + 0.5), shards, stop=cm.Everyone())
    assert len(result.answered) == 6
    np.testing.assert_allclose(result.value, 18.0, rtol=1e-9)
    payload = 6 * numbers * 8 // reduction
    assert result.received == payload
    assert payload < sum(arrived) < payload + 6 * 1000


def test_what_cannot_travel_is_named(local):
    shards = cm.CodedParts(X, code=CODES[0], engine=local)
    lock = threading.Lock()

    def locked(rows):
        return rows.sum() if lock else 0

    with pytest.raises(cm.errors.CannotSend, match=r"the function .*locked cannot be sent"):
        cm.sum(locked, shards)
    with pytest.raises(cm.errors.CannotSend, match=r"the function gradient .*lock"):
        cm.sum(gradient, shards, args=(lock,))
    with pytest.raises(cm.errors.CannotSend, match="the value to keep cannot be sent"):
        cm.CodedParts([lock] * 6, code=CODES[0], engine=local)


def test_an_exception_of_the_function_keeps_its_type_and_traceback(local):
    shards = cm.CodedParts(X, code=CODES[0], engine=local)

    def buggy(rows):
        raise ZeroDivisionError("of all things")

    with pytest.raises(cm.NotEnoughAnswers, match="of all things") as error:
        cm.sum(buggy, shards)
    assert isinstance(error.value.__cause__, ZeroDivisionError)
    assert "in buggy" in str(error.value.__cause__.__cause__)


def test_parts_that_are_dropped_are_forgotten_by_the_workers(local):
    def kept(_):
        from codedmap.engines.transport import serve

        return len(serve._kept)

    def each():
        return [local.submit(slot, kept, None).result(ANSWER) for slot in range(WORKERS)]

    gc.collect()
    each()  # what is not wanted any more is forgotten with the next call
    before = each()
    shards = cm.CodedParts(X, code=CODES[0], engine=local)
    assert [now - then for now, then in zip(each(), before, strict=True)] == [1] * WORKERS
    del shards
    each()
    assert each() == before


def test_nothing_is_left_behind():
    before = set(children())
    big = np.ones((60, 20_000))
    with cm.engines.Local(WORKERS) as local:
        engine = Faulty(local, {0: [crash()], 1: [late(60)], 2: [fail(OSError("no"))]})
        shards = cm.CodedParts(big, code=cm.codes.FractionalRepetition(6, 5), engine=engine)
        result = cm.sum(lambda rows: rows.sum(axis=0), shards, stop=cm.Quorum(3))
        np.testing.assert_array_equal(result.value, 60.0)
    assert eventually(lambda: set(children()) <= before)
    assert shm_names(os.getpid()) == []
