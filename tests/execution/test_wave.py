"""When a call ends though its stop rule is out of reach."""

from __future__ import annotations

import numpy as np
import pytest

import codedmap as cm
from codedmap.testing import Scripted, crash, late


def squares(batch: np.ndarray) -> np.ndarray:
    return batch**2


def called(script, stop=None, code=None, **options):
    code = cm.Replication(2, 6) if code is None else code
    stop = cm.Quorum(code.workers) if stop is None else stop
    X = np.arange(8.0).reshape(4, 2)
    with Scripted(code.workers, script) as engine:
        return X, cm.map(squares, X, code=code, engine=engine, stop=stop, **options)


def test_where_every_row_is_there_a_rule_out_of_reach_is_not_waited_for():
    X, result = called({0: [crash()], 5: [late(1.0)]})
    assert result.outcome is cm.Outcome.UNSATISFIABLE
    assert result.abandoned == (5,)
    np.testing.assert_array_equal(result.values, X**2)


def test_where_a_row_may_still_come_exact_a_rule_out_of_reach_is_no_reason_to_end():
    X, result = called({0: [crash()], 2: [crash()], 4: [late(0.2)]})
    assert result.outcome is not cm.Outcome.UNSATISFIABLE
    assert result.exact.all()
    np.testing.assert_array_equal(result.values, X**2)


def test_where_a_row_can_only_be_estimated_a_rule_out_of_reach_ends_the_call():
    script = {0: [crash()], 2: [crash()], 4: [crash()], 5: [late(1.0)]}
    with pytest.raises(cm.NotEnoughAnswers, match=r"asks for more than could still come"):
        called(script, code=cm.Replication(2, 6, fill="mean"))
    _, result = called(script, code=cm.Replication(2, 6, fill="mean"), on_error="record")
    assert result.outcome is cm.Outcome.UNSATISFIABLE
    assert result.abandoned == (5,)
