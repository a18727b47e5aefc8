"""Slots over failure domains: all workers are used alike, and neighbours are kept apart."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

from hypothesis import given
from hypothesis import strategies as st

from codedmap.engines.failure_domains import as_domain, clashes, spread

flat = st.lists(st.integers(0, 4).map(as_domain), min_size=1, max_size=40)
nested = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)


def together(names) -> int:
    """How many neighbours have the same name."""
    return sum(one == other for one, other in pairwise(names))


def fewest(names) -> int:
    """How many neighbours must have the same name, however they are ordered."""
    most = max(Counter(names).values())
    return max(0, 2 * most - len(names) - 1)


@given(st.one_of(flat, nested), st.integers(1, 100))
def test_every_worker_gets_as_many_slots_as_any_other_or_one_more(domains, slots):
    counts = Counter(spread(domains, slots))
    used = [counts[k] for k in range(len(domains))]
    assert sum(used) == slots
    assert max(used) - min(used) <= 1


@given(st.one_of(flat, nested), st.integers(1, 100))
def test_as_few_neighbours_as_possible_share_the_widest_level(domains, slots):
    names = [domains[k][0] for k in spread(domains, slots)]
    assert together(names) == fewest(names)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_the_fewest_is_what_trying_all_orders_finds(names):
    assert fewest(names) == min(map(together, permutations(names)))


@given(nested)
def test_within_a_domain_the_next_level_is_kept_apart(domains):
    order = spread(domains, len(domains))
    for rack in {domain[0] for domain in domains}:
        hosts = [domains[k][1] for k in order if domains[k][0] == rack]
        assert together(hosts) == fewest(hosts)


@given(st.one_of(flat, nested), st.integers(1, 40))
def test_fewer_slots_than_workers_use_the_domains_evenly(domains, slots):
    slots = min(slots, len(domains))
    available = Counter(domain[0] for domain in domains)
    counts = Counter(domains[k][0] for k in spread(domains, slots))
    most = max(counts.values())
    # A domain that is two below another could have taken one more.
    assert all(counts[name] >= min(most - 1, available[name]) for name in available)


@given(st.integers(1, 6), st.integers(1, 6))
def test_equal_domains_take_turns(hosts, workers):
    domains = [(host,) for host in range(hosts) for _ in range(workers)]
    names = [domains[k][0] for k in spread(domains, hosts * workers)]
    assert names == list(range(hosts)) * workers


@given(st.one_of(flat, nested), st.integers(1, 60))
def test_the_same_workers_give_the_same_order(domains, slots):
    assert spread(domains, slots) == spread(list(domains), slots)


def test_a_small_domain_lies_evenly_among_the_others():
    domains = [("large",)] * 9 + [("small",)] * 3
    names = [domains[k][0] for k in spread(domains, 12)]
    places = [k for k, name in enumerate(names) if name == "small"]
    assert [b - a for a, b in pairwise(places)] == [4, 4]


def test_domains_of_different_depth_go_together():
    assert sorted(spread([("a",), ("a", "x"), ("b",)], 3)) == [0, 1, 2]


def test_clashes_count_the_levels_shared_with_the_neighbours():
    placed = {3: ("rack", "host"), 5: ("rack", "other")}
    assert clashes(4, ("rack", "host"), placed) == 3
    assert clashes(4, ("elsewhere", "host"), placed) == 0
    assert clashes(6, ("rack", "host"), placed) == 1
    assert clashes(9, ("rack", "host"), placed) == 0
