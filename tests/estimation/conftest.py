"""What tests of several parts of the estimator count."""

from __future__ import annotations

import pytest

from codedmap.estimation import surrogate


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many points each process has that is solved for at once."""
    made = []
    solve = surrogate.Fitted

    def counted(points, answers, kernel):
        made.append(len(points))
        return solve(points, answers, kernel)

    monkeypatch.setattr(surrogate, "Fitted", counted)
    return made
