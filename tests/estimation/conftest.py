"""What tests of several parts of the estimator count and replace."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from codedmap.estimation import gaussian


def put(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Replace what the modules of the estimator know by this name."""
    modules = [m for n, m in sys.modules.items() if n.startswith("codedmap.estimation.")]
    known = [module for module in modules if hasattr(module, name)]
    assert known, name
    for module in known:
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points each process has that is solved for at once."""
    made = []
    solve = gaussian.Fitted

    def counted(points, answers, kernel):
        made.append(len(points))
        return solve(points, answers, kernel)

    put(monkeypatch, "Fitted", counted)
    return made
