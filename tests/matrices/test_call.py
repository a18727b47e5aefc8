"""When a product waits on though its stop rule is satisfied, and when it does not."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import codedmap as cm
from codedmap.codes import MDSCode
from codedmap.testing import Scripted, corrupt, late

pytestmark = pytest.mark.usefixtures("virtual_time")

MATRIX = np.arange(12.0).reshape(6, 2)
VECTOR = np.array([1.0, -2.0])


def product(seconds, stop):
    """Worker 0 answers with NaN, 1 and 2 as they should, and the other three late."""
    script = {0: corrupt(lambda answer: answer * np.nan)} | dict.fromkeys((3, 4, 5), late(seconds))
    with Scripted(6, script) as engine:
        A = cm.CodedMatrix(MATRIX, code=MDSCode(3, 6), engine=engine, stop=stop)
        return A @ VECTOR, A.last


def test_a_quorum_that_cannot_be_decoded_is_waited_beyond():
    made, last = product(0.1, cm.Quorum(3))
    np.testing.assert_allclose(made, MATRIX @ VECTOR, rtol=1e-10)
    assert last.exact
    assert tuple(last.rejected) == (0,)
    assert len(last.answered) > 3


def test_but_not_beyond_the_time_that_the_rule_allows():
    with pytest.raises(cm.NotEnoughAnswers, match=r"3 of 6 workers answered.*3 still running"):
        product(5.0, cm.Quorum(3) | cm.Deadline(0.1))


def test_nor_where_no_worker_is_left():
    with Scripted(6, dict.fromkeys(range(4), corrupt(lambda answer: answer * np.nan))) as engine:
        A = cm.CodedMatrix(MATRIX, code=MDSCode(3, 6), engine=engine, stop=cm.Quorum(3))
        with pytest.raises(cm.NotEnoughAnswers, match="6 of 6 workers answered"):
            A @ VECTOR


def test_workers_need_no_part_of_scipy_for_dense_blocks():
    code = "import codedmap.matrices.blocks, sys; print('scipy.sparse' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
