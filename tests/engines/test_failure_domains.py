"""Workers over failure domains: an order in which neighbours are apart."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import codedmap as cm
from codedmap.engines.failure_domains import check_domains, domain_of, spread

flat = st.lists(st.integers(0, 4), min_size=1, max_size=40)
nested = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)


def widest(domain):
    return domain[0] if isinstance(domain, tuple) else domain


def together(names) -> int:
    """How many neighbours have the same name."""
    return sum(one == other for one, other in pairwise(names))


def fewest(names) -> int:
    """How many neighbours must have the same name, however they are ordered."""
    most = max(Counter(names).values())
    return max(0, 2 * most - len(names) - 1)


@given(st.one_of(flat, nested))
def test_every_worker_is_there_once(domains):
    assert sorted(spread(domains)) == list(range(len(domains)))


@given(st.one_of(flat, nested))
def test_as_few_neighbours_as_possible_share_the_widest_level(domains):
    names = [widest(domains[k]) for k in spread(domains)]
    assert together(names) == fewest(names)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_the_fewest_is_what_trying_all_orders_finds(names):
    assert fewest(names) == min(map(together, permutations(names)))


@given(nested)
def test_within_a_domain_the_next_level_is_kept_apart(domains):
    order = spread(domains)
    for rack in {domain[0] for domain in domains}:
        hosts = [domains[k][1] for k in order if domains[k][0] == rack]
        assert together(hosts) == fewest(hosts)


@given(st.integers(1, 6), st.integers(1, 6))
def test_equal_domains_take_turns(hosts, workers):
    domains = [host for host in range(hosts) for _ in range(workers)]
    names = [domains[k] for k in spread(domains)]
    assert names == list(range(hosts)) * workers


@given(st.one_of(flat, nested))
def test_the_same_workers_give_the_same_order(domains):
    assert spread(domains) == spread(list(domains))


def test_a_small_domain_lies_evenly_among_the_others():
    domains = ["large"] * 9 + ["small"] * 3
    names = [domains[k] for k in spread(domains)]
    places = [k for k, name in enumerate(names) if name == "small"]
    assert [b - a for a, b in pairwise(places)] == [4, 4]


def test_domains_of_different_depth_go_together():
    assert sorted(spread(["a", ("a", "x"), ("b",), None])) == [0, 1, 2, 3]
    assert spread([]) == []
    assert spread([(), ()]) == [0, 1]


def test_what_can_be_no_domains_is_refused():
    for domains in (None, {"a": 1}, len):
        check_domains(domains, "addresses", "an entry")
    with pytest.raises(cm.InvalidArgument, match="failure_domains=5 must be a mapping from addre"):
        check_domains(5, "addresses", "an entry")


def test_a_worker_that_joins_late_without_an_entry_has_the_default_domain():
    names, entry = {"address": "tcp://x", "host": "x"}, {"host": "x"}
    given = {"tcp://x": "rack 1"}
    assert domain_of("tcp://x", given, names, entry, "x") == "rack 1"
    for domains in ({"elsewhere": "rack 2"}, lambda info: info["rack"]):
        assert domain_of("tcp://x", domains, names, entry, "x", late=True) == "x"
        with pytest.raises((cm.InvalidArgument, KeyError)):
            domain_of("tcp://x", domains, names, entry, "x")
