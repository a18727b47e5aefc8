"""Waiting until standard errors are small enough: when it looks, when it stops, when it cannot."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import codedmap as cm
from codedmap import Deadline, Decodable, Everyone, Outcome, Quorum, Tolerance
from codedmap.testing import Faulty, Scripted, corrupt, crash, late, never

from ..byhand import ByHand
from ..contracts.codes import ROWS
from ..repeats import drawn
from .test_map import ONCE, affine, inputs

pytestmark = pytest.mark.usefixtures("virtual_time")

MEAN = cm.Uncoded(6, fill="mean")
"""A task without an answer gets the mean of the others, with their spread as standard error."""


def near(batch):
    """Answers that are nearly equal, so that their mean is a good estimate."""
    return 1 + 0.01 * affine(batch)


@dataclass(frozen=True)
class Watched:
    """A code of somebody else's, which counts how often it decodes, and takes its time for it."""

    code: Any = MEAN
    seconds: float = 0.0
    bare: bool = False
    """Whether its estimates have no standard errors."""
    decoded: list[int] = field(default_factory=list)

    stragglers = 0

    @property
    def tasks(self):
        return self.code.tasks

    @property
    def workers(self):
        return self.code.workers

    def encode(self, block):
        encoding = self.code.encode(block)

        def decode(answers):
            self.decoded.append(len(answers))
            time.sleep(self.seconds)
            estimate = encoding.decode(answers)
            return replace(estimate, stderr=None) if self.bare else estimate

        return SimpleNamespace(
            payloads=encoding.payloads, decodable=encoding.decodable, decode=decode
        )


# When it stops


def test_it_stops_when_every_standard_error_is_small_enough():
    X = inputs(12)
    with Scripted(6, {5: never()}) as engine:
        stop = Tolerance(0.1) | Deadline(30)
        result = cm.map(near, X, code=MEAN, engine=engine, stop=stop)
        assert result.outcome is Outcome.TOLERANCE
        assert result.abandoned == (5,)
        assert 0 < result.stderr.max() <= 0.1
        np.testing.assert_allclose(result.values, near(X), atol=0.3)
        stop = Tolerance(1e-12) | Deadline(0.2)
        result = cm.map(near, X, code=MEAN, engine=engine, stop=stop, hedge=None)
        assert result.outcome is Outcome.DEADLINE
        assert result.stderr.max() > 1e-12


@pytest.mark.real_time
def test_it_stops_on_real_workers_without_waiting_for_a_straggler():
    began = time.monotonic()
    with cm.engines.Local(4, grace=0.2) as owner:
        engine = Faulty(owner, {3: late(60)})
        code = cm.Uncoded(4, fill="mean")
        result = cm.map(near, inputs(8), code=code, engine=engine, stop=Tolerance(0.5))
    assert time.monotonic() - began < 12
    assert result.outcome is Outcome.TOLERANCE
    assert 3 in result.abandoned


def test_of_copies_without_a_fill_it_takes_one_of_each_task():
    script = {1: late(0.1), 3: never(), 4: never(), 5: never()}
    with Scripted(6, script) as engine:
        code = cm.Replication(3, 6)
        result = cm.map(affine, inputs(9), code=code, engine=engine, **ONCE, stop=Tolerance(0))
    assert result.outcome is Outcome.TOLERANCE
    assert result.answered == (0, 1, 2)
    assert result.exact.all()


@drawn(
    10,
    40,
    order=st.permutations(range(6)),
    cuts=st.sets(st.integers(1, 5)),
    stderr=st.floats(0, 3),
    beside=st.sampled_from([Everyone(), Everyone() & Quorum(1), Everyone() | Quorum(6)]),
)
def test_the_verdict_is_always_about_the_answers_that_are_returned(order, cuts, stderr, beside):
    engine = ByHand(6)
    stop = Tolerance(stderr) | beside
    results = cm.stream(affine, inputs(12), code=MEAN, engine=engine, stop=stop)
    edges = [0, *sorted(cuts), 6]
    last = None
    for start, end in pairwise(edges):
        engine.answer(*order[start:end])
        last = next(results)
        if last.outcome is not Outcome.WAITING:
            break
    assert last.outcome is Outcome.TOLERANCE  # at the latest when all are exact
    assert last.stderr.max() <= stderr
    assert last.answered == tuple(sorted(order[:end]))


def test_a_wrong_answer_that_comes_first_is_no_reason_to_stop_or_to_raise():
    script = {0: corrupt(lambda a: None), 1: late(0.1), 2: late(0.1), 3: late(0.1)}
    code = cm.Replication(2, 4, fill="mean")
    with Scripted(4, script) as engine:
        result = cm.map(affine, inputs(8), code=code, engine=engine, stop=Tolerance(0), hedge=None)
    assert result.rejected == (0,)
    assert result.exact.all()


def test_a_crash_does_not_put_it_out_of_reach():
    with Scripted(6, {0: crash(), 5: late(0.1)}) as engine:
        result = cm.map(near, inputs(12), code=MEAN, engine=engine, **ONCE, stop=Tolerance(0.1))
    assert result.outcome is Outcome.TOLERANCE
    assert set(result.failed) == {0}


def test_when_no_call_is_left_and_it_is_not_reached_the_outcome_says_so():
    with Scripted(6, {0: crash()}) as engine:
        options = {"code": MEAN, "engine": engine}
        result = cm.map(near, inputs(12), stop=Tolerance(1e-5), **ONCE, **options)
        assert result.outcome is Outcome.NONE_RUNNING
        assert result.exact.sum() == 10
        result = cm.map(near, inputs(12), stop=Tolerance(1e-5) | Everyone(), **ONCE, **options)
        assert result.outcome is Outcome.EVERYONE
        result = cm.map(near, inputs(12), stop=Tolerance(1e-5), **options)
        assert result.exact.all(), "the call is made again"


# Without a code, and by all answers of the job


def hill(batch):
    """Smooth, of two outputs."""
    return np.stack([np.exp(-((batch - 0.5) ** 2).sum(axis=1)), batch[:, 0]], axis=1)


def squeezed(batch):
    return hill(batch * [1.0, 1e3])


def unhurried(batch):
    time.sleep(0.02 * len(batch))  # so that it takes far longer than looking twice
    return hill(batch)


SQUARE = np.random.default_rng(0).uniform(size=(2000, 2))


@pytest.mark.real_time
@pytest.mark.parametrize("given", [{"tolerance": 0.01}, {"stop": Tolerance(0.01)}], ids=str)
def test_without_a_code_rows_are_estimated_once_they_can_be(given):
    with ThreadPoolExecutor(2) as pool:
        result = cm.map(unhurried, SQUARE, engine=pool, **given)
    assert result.outcome is Outcome.TOLERANCE
    exact, estimated = (result.status == s for s in (cm.Status.EXACT, cm.Status.ESTIMATED))
    assert 20 <= exact.sum() < 1500
    assert (exact | estimated).all()
    assert result.stderr[estimated].min() > 0
    assert result.stderr.max() <= 0.01
    np.testing.assert_allclose(result.values, hill(SQUARE), atol=0.05)
    assert "rows in" in str(result)
    assert Outcome.TOLERANCE.value in str(result)


@pytest.mark.real_time
def test_without_a_code_what_cannot_be_estimated_well_is_computed():
    def noise(batch):
        return np.sin(1e6 * batch[:, 0])

    with ThreadPoolExecutor(2) as pool:
        result = cm.map(noise, SQUARE[:100], engine=pool, tolerance=0.01)
    assert result.outcome is Outcome.EXACT
    assert result.exact.all()


@pytest.mark.real_time
def test_without_a_code_few_answers_are_not_believed():
    def rarely(batch):
        time.sleep(0.05)
        return np.zeros(len(batch))

    with ThreadPoolExecutor(1) as pool:
        result = cm.map(rarely, SQUARE[:40], engine=pool, tolerance=1.0, chunk=1)
    assert 20 <= result.exact.sum() < 40


def test_without_a_code_a_row_that_fails_at_last_is_no_estimate():
    """The estimates that meet the tolerance are looked at before what happened last counts."""
    calls = []

    def seventh(batch):
        calls.append(batch)
        if len(calls) > 20:
            raise ValueError("seventh")
        return batch.sum(axis=1)

    with Scripted(1) as engine:
        result = cm.map(
            seventh, SQUARE[:40], engine=engine, tolerance=1.0, chunk=1, on_error="record"
        )
    assert result.outcome is Outcome.TOLERANCE
    assert np.flatnonzero(result.status == cm.Status.FAILED).tolist() == [*result.failures]
    assert len(result.failures) == len(calls) - 20 > 0


def named(batch):
    time.sleep(0.02 * len(batch))
    return {"bell": hill(batch)[:, 0], "noise": np.sin(1e6 * batch[:, 0])}


@pytest.mark.real_time
def test_without_a_code_outputs_may_have_tolerances_of_their_own():
    with ThreadPoolExecutor(2) as pool:
        result = cm.map(named, SQUARE, engine=pool, tolerance={"bell": 0.01})
    assert result.outcome is Outcome.TOLERANCE
    assert result.stderr["bell"].max() <= 0.01
    assert result.stderr["noise"].max() > 0.1


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("fn", "tolerance", "message"),
    [
        (
            named,
            {"bell": 0.0, "noise": 1.0},
            "stderr of 'bell'=0.0 must be a finite number above 0",
        ),
        (named, {"height": 0.1}, "'height', and the outputs have the names bell, noise"),
        (unhurried, {"bell": 0.1}, "'bell', and the outputs have no names"),
        (named, {}, "names no output"),
    ],
)
def test_tolerances_of_outputs_that_are_not_there_are_refused(fn, tolerance, message):
    with ThreadPoolExecutor(2) as pool, pytest.raises(cm.InvalidArgument, match=message):
        cm.map(fn, SQUARE[:100], engine=pool, tolerance=tolerance)


def test_the_first_answer_shows_whether_a_named_output_is_there():
    calls = []

    def height(batch):
        calls.append(len(batch))
        return {"height": hill(batch)[:, 0]}

    message = "'hight', and the outputs have the names height"
    with Scripted(1) as engine, pytest.raises(cm.InvalidArgument, match=message):
        cm.map(height, SQUARE[:15], engine=engine, tolerance={"hight": 0.1}, chunk=1)
    assert len(calls) <= 2  # the next may have begun


@pytest.mark.parametrize("code", ["auto", cm.KernelCode(5, 6, 1)])
def test_with_a_code_a_tolerance_is_of_all_outputs(code):
    with Scripted(6) as engine, pytest.raises(cm.InvalidArgument, match="is one number, for all"):
        cm.map(named, SQUARE[:20], engine=engine, code=code, tolerance={"bell": 0.1})


@pytest.mark.real_time
def test_without_a_code_it_is_written(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        result = cm.map(unhurried, SQUARE, engine=pool, tolerance=0.01, out=tmp_path / "y.npy")
    assert result.outcome is Outcome.TOLERANCE
    np.testing.assert_allclose(result.values, hill(SQUARE), atol=0.05)
    assert 0 < result.stderr.max() <= 0.01


@pytest.mark.real_time
def test_inputs_that_are_no_numbers_are_refused():
    with ThreadPoolExecutor(1) as pool, pytest.raises(cm.InvalidArgument, match="that are numbers"):
        cm.map(len, ["a", "b"], engine=pool, tolerance=0.1)


@pytest.mark.parametrize("code", [cm.Uncoded(6, fill="mean"), cm.KernelCode(5, 6, 1)], ids=repr)
@pytest.mark.parametrize("chunk", [None, 25], ids=["one chunk", "chunks"])
def test_with_a_code_estimates_are_from_all_answers(code, chunk):
    """A mean of a group, or one length scale for both inputs, would be off by more."""
    given = SQUARE[:300] * [1.0, 1e-3]
    with Scripted(6, {0: never()}) as engine:
        stop = Tolerance(0.01) | Deadline(150)
        result = cm.map(
            squeezed, given, code=code, engine=engine, stop=stop, chunk=chunk, hedge=None
        )
    assert result.outcome is Outcome.TOLERANCE
    assert (result.status == cm.Status.ESTIMATED).any()
    assert result.stderr.shape == (300, 2)
    assert 0 < result.stderr.max() <= 0.01
    np.testing.assert_allclose(result.values, squeezed(given), atol=0.05)


@pytest.mark.parametrize("chunk", [None, 6], ids=["one chunk", "chunks"])
@pytest.mark.parametrize(
    "fn",
    [lambda b: b[:, :2] * 1j, lambda b: [str(row) for row in b[:, 0]], lambda b: b[:, 0] > 0],
    ids=["complex", "text", "bool"],
)
def test_with_a_code_answers_that_cannot_be_estimated_are_waited_for(fn, chunk):
    with Scripted(8, {0: late(0.2)}) as engine:
        code = cm.Replication(4, 8)
        result = cm.map(fn, SQUARE[:48], code=code, engine=engine, stop=Tolerance(0), chunk=chunk)
    assert result.exact.all()
    assert list(result.values.ravel()) == list(np.asarray(fn(SQUARE[:48])).ravel())


# When it looks


@pytest.mark.real_time
def test_a_look_that_has_to_wait_is_made_up_for_though_nothing_else_arrives():
    code = Watched(seconds=0.05)
    script = {1: late(0.1), 2: never(), 3: never(), 4: never(), 5: never()}
    with Scripted(6, script) as engine:
        stop = Tolerance(0.1) | Deadline(30)
        result = cm.map(near, inputs(12), code=code, engine=engine, stop=stop, hedge=None)
    assert result.outcome is Outcome.TOLERANCE
    assert result.answered == (0, 1)
    assert code.decoded in ([1, 2], [2])  # the second is also what is returned
    if code.decoded == [1, 2]:
        assert result.seconds >= 1  # twenty times what the first took


def test_when_everybody_has_answered_it_looks_at_once():
    code = Watched(seconds=0.05)
    engine = ByHand(6)
    results = cm.stream(affine, inputs(12), code=code, engine=engine, stop=Tolerance(0))
    engine.answer(0)
    assert next(results).outcome is Outcome.WAITING
    engine.answer(1, 2, 3, 4, 5)
    assert next(results).outcome is Outcome.TOLERANCE
    assert code.decoded[-1] == 6
    assert code.decoded.count(6) == 1


def test_it_looks_once_at_the_same_answers():
    code = Watched()
    script = {n: crash(0.05 * n) for n in (3, 4)} | {5: never()}
    with Scripted(6, script) as engine:
        stop = Tolerance(0) | Deadline(0.4)
        result = cm.map(near, inputs(12), code=code, engine=engine, **ONCE, stop=stop)
    assert set(result.failed) == {3, 4}
    assert code.decoded == [3]


@pytest.mark.parametrize("rule", [Quorum(4) & Tolerance(0.5), Tolerance(0.5) & Quorum(4)])
def test_it_does_not_look_before_the_quorum_beside_it(rule):
    code = Watched()
    with Scripted(6, {n: late(0.05 * n) for n in range(1, 5)} | {5: never()}) as engine:
        result = cm.map(near, inputs(12), code=code, engine=engine, **ONCE, stop=rule)
    assert len(result.answered) >= 4
    assert min(code.decoded) >= 4
    assert result.outcome is rule.first.verdict(
        replace(PROGRESS, answered=frozenset(range(4)), stderr=lambda: 0.0)
    )


PROGRESS = cm.contracts.Progress(frozenset(range(6)), frozenset(), frozenset(), 0.0, True)


# Codes that have no standard errors


@pytest.mark.parametrize("row", [r for r in ROWS if not r.states], ids=lambda row: row.name)
@pytest.mark.parametrize(
    "rule",
    [
        Tolerance(0.1),
        Tolerance(0.1) | Deadline(2),
        Quorum(3) & Tolerance(0.1),
        Deadline(2) | (Decodable() & (Quorum(3) | Tolerance(0.1))),
    ],
    ids=str,
)
@pytest.mark.parametrize("door", [cm.map, cm.stream])
def test_it_is_refused_at_the_call_with_a_code_that_has_none(row, rule, door):
    code = row.make(3, 12, 2)
    engine = ByHand(12)
    with pytest.raises(cm.InvalidArgument, match=r"Tolerance\(0.1\).*has none: use a code that"):
        door(affine, inputs(9), code=code, engine=engine, stop=rule)
    assert not engine.calls


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_a_code_says_of_its_standard_errors_is_so(row):
    code = row.make(3, 12, 2)
    encoding = code.encode(inputs(3)[:, None])
    estimate = encoding.decode(dict(enumerate(affine(p) for p in encoding.payloads)))
    assert code.has_stderr == (estimate.stderr is not None)


@pytest.mark.parametrize("rule", [Tolerance(0.1), Quorum(2) & Tolerance(0.1)], ids=str)
def test_a_code_that_does_not_say_is_judged_by_its_first_estimate(rule):
    code = Watched(bare=True)
    assert not hasattr(code, "has_stderr")
    engine = ByHand(6)
    results = cm.stream(near, inputs(12), code=code, engine=engine, stop=rule)
    engine.answer(0, 1)
    with pytest.raises(cm.InvalidArgument, match="Watched has none"):
        next(results)
    assert engine.abandoned == (2, 3, 4, 5)
    with Scripted(6, {5: never()}) as other:
        result = cm.map(near, inputs(12), code=Watched(), engine=other, stop=rule)
    assert result.stderr.max() <= 0.1
