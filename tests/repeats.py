"""Which cases of a test are left to ``make slow``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings


def first(count: int, cases: Iterable[Any]) -> list[Any]:
    """The cases, of which all but the first ``count`` are marked slow, as they are of the same kind."""
    return [
        case
        if number < count
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for number, case in enumerate(cases)
    ]


def crossed(*axes: Sequence[Any]) -> list[Any]:
    """All combinations: those that differ from the first in several of the axes are marked slow."""
    return [
        pytest.param(
            *(value for _, value in places),
            marks=[pytest.mark.slow] * (sum(place > 0 for place, _ in places) > 1),
        )
        for places in product(*map(enumerate, axes))
    ]


def drawn(few: int, many: int, *strategies: Any, **named: Any) -> Callable[[Any], Any]:
    """A test of ``few`` examples that are drawn, and of ``many`` that is marked slow."""

    def of(test: Any) -> Any:
        @pytest.mark.parametrize("examples", first(1, [few, many]))
        @wraps(test)
        def run(examples: int, **others: Any) -> None:
            settings(max_examples=examples)(given(*strategies, **named)(test))(**others)

        del run.__wrapped__
        vars(run).pop("hypothesis_explicit_examples", None)  # those of `test` are tried in ``run``
        others = inspect.signature(given(*strategies, **named)(test)).parameters.values()
        examples = inspect.Parameter("examples", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = inspect.Signature([*others, examples])
        return run

    return of
