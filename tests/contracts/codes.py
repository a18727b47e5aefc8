"""The table of map codes. One that is not in it joins the contract tests by being in `codedmap.codes`.

A row states more of a code than that: that it copies, say, or how near the identity comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import isabstract, signature
from typing import Any

import codedmap as cm
from codedmap import codes


@dataclass(frozen=True)
class Row:
    """One code, and what it states of itself."""

    name: str
    make: Callable[[int, int, int], Any]
    """K, N, S to a code; N >= 2K and S <= N - K are what the contract tests use."""
    identity: float
    """With all answers at N >= 3K the identity returns the inputs within this share of their range."""
    constant: float = 1e-12
    """A constant function's value survives within this, the rounding that a decoder amplifies."""
    copies: bool = False
    """Takes any dtype."""
    states: bool = False
    """Gives standard errors."""
    adaptive: bool = False
    """Looks at the data, so groups and outputs may share parameters."""


ROWS: tuple[Row, ...] = (
    Row("uncoded", lambda k, n, s: cm.Uncoded(k), 0.0, copies=True, states=True),
    Row(
        "uncoded, filled", lambda k, n, s: cm.Uncoded(k, fill="mean"), 0.0, copies=True, states=True
    ),
    Row("replication", lambda k, n, s: cm.Replication(k, n), 0.0, copies=True, states=True),
    Row(
        "replication, filled",
        lambda k, n, s: cm.Replication(k, n, "mean"),
        0.0,
        copies=True,
        states=True,
    ),
    Row(
        "replication, confirmed",
        lambda k, n, s: cm.Replication(k, n, confirm=2),
        0.0,
        copies=True,
        states=True,
    ),
    Row("berrut", cm.BerrutCode, 0.12),
    Row("spline", cm.SplineCode, 0.015),
    Row("spline, uniform", lambda k, n, s: cm.SplineCode(k, n, s, points="uniform"), 0.01),
    Row(
        "spline, smooth",
        lambda k, n, s: cm.SplineCode(k, n, s, encoder_smoothing=1e-9, decoder_smoothing=1e-9),
        0.01,
    ),
    Row(
        "spline, decoder by gcv",
        lambda k, n, s: cm.SplineCode(k, n, s, decoder_smoothing="gcv"),
        0.05,
        adaptive=True,
    ),
    Row("spline, ordered", lambda k, n, s: cm.SplineCode(k, n, s, order="path"), 0.015),
    Row("berrut, ordered", lambda k, n, s: cm.BerrutCode(k, n, s, order="path"), 0.12),
    Row("lagrange, linear", lambda k, n, s: cm.LagrangeCode(k, n, min(s, n - k), 1), 1e-6, 1e-6),
    Row(
        "lagrange, quadratic",
        lambda k, n, s: cm.LagrangeCode(k, n, min(s, n - 2 * k + 1), 2),
        1e-6,
        1e-6,
    ),
    Row("kernel", cm.KernelCode, 0.0, states=True, adaptive=True),
    Row("kernel, even", partial(cm.KernelCode, spread=1.0), 0.0, states=True, adaptive=True),
    Row("kernel, copies", partial(cm.KernelCode, spread=0.0), 0.0, 1e-12, True, True, True),
    Row("kernel, confirmed", partial(cm.KernelCode, confirm=2), 0.0, states=True, adaptive=True),
    Row(
        "kernel, copies, confirmed",
        partial(cm.KernelCode, spread=0.0, confirm=2),
        0.0,
        1e-12,
        True,
        True,
        True,
    ),
)


def unlisted(method: str, needed: list[str], made: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Codes with this method of which none was made, by name; those that need just these arguments."""
    listed = set(map(type, made))
    for name in codes.__all__:
        make = getattr(codes, name)
        if hasattr(make, method) and make not in listed and not isabstract(make):
            arguments = signature(make).parameters.values()
            if [it.name for it in arguments if it.default is it.empty] == needed:
                yield name, make


ROWS += tuple(
    Row(name, make, 0.5, states=getattr(make, "has_stderr", False))
    for name, make in unlisted(
        "encode", ["tasks", "workers", "stragglers"], [row.make(4, 12, 3) for row in ROWS]
    )
)
