from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

import codedmap as cm
from codedmap import Deadline, Decodable, Everyone, Outcome, Progress, Quorum

RULES = (
    (Quorum(3), "Quorum(3)"),
    (Deadline(2.0), "Deadline(2)"),
    (Decodable(), "Decodable()"),
    (Everyone(), "Everyone()"),
    (Quorum(3) | Deadline(2.0), "Quorum(3) | Deadline(2)"),
    (Quorum(3) & Decodable(), "Quorum(3) & Decodable()"),
    ((Quorum(3) | Deadline(2.0)) & Decodable(), "(Quorum(3) | Deadline(2)) & Decodable()"),
)
every = pytest.mark.parametrize(
    "rule", [rule for rule, _ in RULES], ids=[text for _, text in RULES]
)


def seen(answered=0, failed=0, seconds=0.0, decodable=False, asked=5) -> Progress:
    return Progress(
        asked=frozenset(range(asked)),
        answered=frozenset(range(answered)),
        failed=frozenset(range(asked - failed, asked)),
        seconds=seconds,
        decodable=decodable,
    )


@every
@given(
    st.integers(0, 5),
    st.floats(0, 5),
    st.booleans(),
    st.integers(0, 5),
    st.floats(0, 5),
    st.booleans(),
)
def test_once_a_rule_says_stop_it_goes_on_saying_so(
    rule, answered, seconds, can, more, later, could
):
    before = seen(answered, 0, seconds, can)
    after = seen(min(5, answered + more), 0, seconds + later, can or could)
    if rule.verdict(before) is not None:
        assert rule.verdict(after) is not None


@every
@given(st.integers(0, 5), st.floats(0, 5), st.booleans())
def test_waking_as_late_as_the_rule_says_misses_nothing(rule, answered, seconds, can):
    now = seen(answered, 0, seconds, can)
    if rule.verdict(now) is not None:
        return
    wait = rule.wake_after(now)
    if wait is None:
        assert rule.verdict(seen(answered, 0, seconds + 1e6, can)) is None
    else:
        assert wait >= 0
        if wait > 1e-6:
            assert rule.verdict(seen(answered, 0, seconds + wait * (1 - 1e-6), can)) is None


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


def test_a_rule_of_ones_own_combines_too():
    @dataclass(frozen=True)
    class HalfFailed(cm.StopRule):
        def verdict(self, seen: Progress) -> Outcome | None:
            return Outcome.HOPELESS if 2 * len(seen.failed) > len(seen.asked) else None

        def wake_after(self, seen: Progress) -> float | None:
            return None

    assert (Quorum(5) | HalfFailed()).verdict(seen(failed=3)) is Outcome.HOPELESS


@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
def test_a_quorum_is_a_whole_number(bad):
    with pytest.raises(cm.InvalidArgument, match="whole number of at least 1"):
        Quorum(bad)


@pytest.mark.parametrize("bad", [0, -1, float("nan")])
def test_a_deadline_is_positive(bad):
    with pytest.raises(cm.InvalidArgument, match="more than 0 seconds"):
        Deadline(bad)


def test_every_outcome_is_a_sentence():
    assert all(len(outcome.value.split()) >= 3 for outcome in Outcome)
