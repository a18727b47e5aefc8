from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace

import pytest
from hypothesis import strategies as st

import codedmap as cm
from codedmap import Deadline, Decodable, Everyone, Outcome, Quorum, Share, Slower, Tolerance
from codedmap.contracts import Progress
from codedmap.contracts.stopping import asks_stderr, tolerance_of

from ..repeats import drawn

RULES = (
    (Quorum(3), "Quorum(3)"),
    (Deadline(2.0), "Deadline(2)"),
    (Decodable(), "Decodable()"),
    (Everyone(), "Everyone()"),
    (Tolerance(0.1), "Tolerance(0.1)"),
    (Slower(1.25), "Slower(1.25)"),
    (Share(0.5) & Slower(1.25), "Share(0.5) & Slower(1.25)"),
    (Quorum(3) | Deadline(2.0), "Quorum(3) | Deadline(2)"),
    (Quorum(3) & Decodable(), "Quorum(3) & Decodable()"),
    ((Quorum(3) | Deadline(2.0)) & Decodable(), "(Quorum(3) | Deadline(2)) & Decodable()"),
    (Tolerance(0.1) | Deadline(2.0), "Tolerance(0.1) | Deadline(2)"),
    (Tolerance(0.1) & Deadline(2.0), "Tolerance(0.1) & Deadline(2)"),
    (Quorum(3) & Tolerance(0.1) | Everyone(), "Quorum(3) & Tolerance(0.1) | Everyone()"),
)
every = pytest.mark.parametrize(
    "rule", [rule for rule, _ in RULES], ids=[text for _, text in RULES]
)


def seen(answered=0, failed=0, seconds=0.0, decodable=False, asked=5, stderr=None) -> Progress:
    return Progress(
        asked=frozenset(range(asked)),
        answered=frozenset(range(answered)),
        failed=frozenset(range(asked - failed, asked)),
        seconds=seconds,
        decodable=decodable,
        stderr=lambda: stderr,
    )


ERRORS = st.none() | st.floats(0, 0.3)


@every
@drawn(
    30,
    100,
    st.integers(0, 5),
    st.floats(0, 5),
    st.booleans(),
    ERRORS,
    st.integers(0, 5),
    st.floats(0, 5),
    st.booleans(),
    st.floats(0, 1),
)
def test_once_a_rule_says_stop_it_goes_on_saying_so(
    rule, answered, seconds, can, error, more, later, could, smaller
):
    before = seen(answered, 0, seconds, can, stderr=error)
    error = None if error is None else error * smaller
    after = seen(min(5, answered + more), 0, seconds + later, can or could, stderr=error)
    if rule.verdict(before) is not None:
        assert rule.verdict(after) is not None


@every
@drawn(30, 100, st.integers(0, 5), st.floats(0, 5), st.booleans(), ERRORS)
def test_waking_as_late_as_the_rule_says_misses_nothing(rule, answered, seconds, can, error):
    def later(wait):
        return rule.verdict(seen(answered, 0, seconds + wait, can, stderr=error))

    now = seen(answered, 0, seconds, can, stderr=error)
    if rule.verdict(now) is not None:
        return
    wait = rule.wake_after(now)
    if wait is None:
        assert later(1e6) is None
    else:
        assert wait >= 0
        if wait > 1e-6:
            assert later(wait * (1 - 1e-6)) is None


@pytest.mark.parametrize(("rule", "text"), RULES, ids=[text for _, text in RULES])
def test_a_rule_is_a_value(rule, text):
    assert str(rule) == text
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert hash(rule) == hash(pickle.loads(pickle.dumps(rule)))


def test_verdicts():
    assert Quorum(3).verdict(seen(answered=2)) is None
    assert Quorum(3).verdict(seen(answered=3)) is Outcome.QUORUM
    assert Deadline(2).verdict(seen(seconds=1.9)) is None
    assert Deadline(2).verdict(seen(seconds=2.0)) is Outcome.DEADLINE
    assert Deadline(2).wake_after(seen(seconds=0.5)) == 1.5
    assert Decodable().verdict(seen()) is None
    assert Decodable().verdict(seen(decodable=True)) is Outcome.DECODABLE
    assert Everyone().verdict(seen(answered=3, failed=1)) is None
    assert Everyone().verdict(seen(answered=3, failed=2)) is Outcome.EVERYONE
    assert Tolerance(0.1).verdict(seen(stderr=None)) is None
    assert Tolerance(0.1).verdict(seen(stderr=0.11)) is None
    assert Tolerance(0.1).verdict(seen(stderr=float("nan"))) is None
    assert Tolerance(0.1).verdict(seen(stderr=0.1)) is Outcome.TOLERANCE
    assert Tolerance(0).verdict(seen(stderr=0.0)) is Outcome.TOLERANCE


def test_or_stops_for_whichever_comes_first_and_and_waits_for_both():
    either, both = Quorum(3) | Deadline(2), Quorum(3) & Decodable()
    assert either.verdict(seen(answered=3)) is Outcome.QUORUM
    assert either.verdict(seen(seconds=3)) is Outcome.DEADLINE
    assert either.verdict(seen(answered=3, seconds=3)) is Outcome.DEADLINE
    assert either.wake_after(seen(seconds=0.5)) == 1.5
    assert both.verdict(seen(answered=3)) is None
    assert both.verdict(seen(decodable=True)) is None
    assert both.verdict(seen(answered=3, decodable=True)) is Outcome.QUORUM
    assert both.wake_after(seen(answered=3)) is None


def test_and_wakes_for_the_side_that_has_not_agreed_yet():
    rule = Deadline(2) & Quorum(3)
    assert rule.wake_after(seen(answered=3, seconds=0.5)) == 1.5
    assert rule.wake_after(seen(answered=1, seconds=3.0)) is None


@pytest.mark.parametrize("rule", [Quorum(3) & Tolerance(0.1), Tolerance(0.1) & Quorum(3)])
def test_nothing_is_decoded_for_a_tolerance_while_the_other_side_waits_on(rule):
    looks = []
    few, enough = (replace(seen(n), stderr=lambda: looks.append(1)) for n in (2, 3))
    for whole in (rule, rule | Deadline(2), Deadline(2) | rule):
        assert whole.verdict(few) is None
        whole.wake_after(few)
    assert not looks
    assert rule.verdict(enough) is None
    assert looks
    assert rule.verdict(seen(3, stderr=0.05)) is rule.first.verdict(seen(3, stderr=0.05))


@pytest.mark.parametrize("rule", [Deadline(2) | Tolerance(0.1), Tolerance(0.1) | Deadline(2)])
def test_nothing_is_decoded_for_a_tolerance_when_time_is_up_anyway(rule):
    late = replace(seen(3, seconds=2.0), stderr=lambda: pytest.fail("decoded"))
    assert rule.verdict(late) is Outcome.DEADLINE
    assert rule.verdict(seen(3, stderr=0.0)) is Outcome.TOLERANCE


@pytest.mark.parametrize("rule", [Deadline(2) & Tolerance(0.1), Tolerance(0.1) & Deadline(2)])
def test_a_tolerance_beside_a_time_that_has_not_come_is_looked_at_when_it_has(rule):
    early = replace(seen(3, seconds=0.5), stderr=lambda: pytest.fail("decoded"))
    assert rule.verdict(early) is None
    assert rule.wake_after(early) == 1.5
    assert rule.wake_after(seen(3, seconds=2.0)) is None
    assert rule.verdict(seen(3, seconds=2.0, stderr=0.0)) is not None


def test_a_tolerance_is_found_wherever_it_is():
    assert asks_stderr(Tolerance(1))
    assert asks_stderr(Quorum(1) & (Deadline(2) | Tolerance(1)))
    assert asks_stderr((Tolerance(1) & Quorum(1)) | Deadline(2))
    assert not asks_stderr(Quorum(1) & Decodable() | Deadline(2))


def test_a_tolerance_by_name_is_the_only_one_of_its_rule():
    named = Tolerance({"flow": 0.5})
    assert tolerance_of(Quorum(1) & named) is named
    assert named.verdict(seen(3, stderr=1.0)) is Outcome.TOLERANCE
    assert named.verdict(seen(3, stderr=1.1)) is None
    with pytest.raises(cm.InvalidArgument, match="has two tolerances"):
        tolerance_of(named | Tolerance(0.1))


def test_a_rule_of_ones_own_combines_too():
    @dataclass(frozen=True)
    class HalfFailed(cm.contracts.StoppingRule):
        def verdict(self, seen: Progress) -> Outcome | None:
            return Outcome.UNSATISFIABLE if 2 * len(seen.failed) > len(seen.asked) else None

        def wake_after(self, seen: Progress) -> float | None:
            return None

    assert (Quorum(5) | HalfFailed()).verdict(seen(failed=3)) is Outcome.UNSATISFIABLE


@pytest.mark.parametrize(
    ("rule", "wrong", "message"),
    [
        (Quorum, [0, -1, 2.5, True], "whole number of at least 1"),
        (Deadline, [0, -1, math.nan, "2"], "more than 0 seconds"),
        (Tolerance, [-0.1, math.nan, math.inf, "0.1", True, None], "number of at least 0"),
        (Share, [0, 1.01, math.nan, "0.5", True], "more than 0 and at most 1"),
        (
            Slower,
            [0, -1, math.inf, math.nan, "2", True],
            "times=.* must be a finite number above 0",
        ),
    ],
)
def test_a_rule_refuses_a_number_that_it_cannot_mean(rule, wrong, message):
    for bad in wrong:
        with pytest.raises(cm.InvalidArgument, match=message):
            rule(bad)


def test_every_outcome_is_a_sentence():
    assert all(len(outcome.value.split()) >= 3 for outcome in Outcome)
