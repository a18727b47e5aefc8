"""`CodedMatrix` with workers that lie: what is found, who is called again, and what a product still is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse import linalg

import codedmap as cm
from codedmap.matrices.blocks import CodedBlock
from codedmap.testing import Scripted, ScriptedCluster, corrupt, crash, fail, late, never

from ..repeats import crossed

pytestmark = pytest.mark.usefixtures("virtual_time")

CODES = [
    cm.codes.MDSCode(3, 6),
    cm.codes.MDSCode(5, 9),
    cm.codes.PolarCode(5, 8),
    cm.Replication(4, 8),
    cm.Replication(2, 6, confirm=2),
]


def one_entry(answer):
    answer = answer.copy()
    answer[len(answer) // 2] += np.abs(answer).max()
    return answer


def exchanged(answer):
    answer = answer.copy()
    answer[[0, -1]] = answer[[-1, 0]]
    return answer


LIES = {
    "minus": lambda answer: -answer,
    "a millionth more": lambda answer: answer * 1.000001,
    "zero": lambda answer: 0 * answer,
    "one entry": one_entry,
    "two entries exchanged": exchanged,
    "NaN": lambda answer: answer * np.nan,
    "infinity": lambda answer: answer / 0.0,
    "another shape": lambda answer: answer[:-1],
    "no array": lambda answer: None,
}
MINUS = corrupt(LIES["minus"])
WRONG = "an array that is not the product of its block"


def matrix(rows=50, columns=30, dtype=float, seed=0):
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((rows, columns))
    return (M + 1j * rng.standard_normal(M.shape) if np.dtype(dtype).kind == "c" else M).astype(
        dtype
    )


def placed(M, code, script=None, **options):
    return cm.CodedMatrix(M, code=code, engine=Scripted(code.workers, script), **options)


# What is found.


@pytest.mark.parametrize("code", CODES, ids=repr)
@pytest.mark.parametrize(("lie", "dtype"), crossed(list(LIES), [np.float64, np.complex128]))
@np.errstate(invalid="ignore", divide="ignore")
def test_the_first_lie_rejects_the_worker_and_every_product_is_right(code, lie, dtype):
    liar = 1
    others = {n: late(0.1) for n in range(code.workers)}
    for M in (matrix(dtype=dtype), sparse.csr_array(matrix(dtype=dtype) * (abs(matrix()) > 0.5))):
        A = placed(M, code, others | {liar: corrupt(LIES[lie])})
        for columns in (matrix(30, 1, dtype)[:, 0], matrix(30, 3, dtype)):
            for _ in range(2):
                np.testing.assert_allclose(A @ columns, M @ columns, atol=1e-10)
                assert A.last.exact
                assert tuple(A.last.rejected) == (liar,)
        assert tuple(A.rejected) == (liar,)
        u = matrix(50, 1, dtype)[:, 0]
        np.testing.assert_allclose(A.T @ u, M.T @ u, atol=1e-10)
        assert sum(worker == liar for worker, _ in A.engine.calls) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_a_lie_in_single_precision_is_found(dtype):
    M, v = matrix(dtype=dtype), matrix(30, 1, dtype)[:, 0]
    A = placed(M, cm.codes.MDSCode(3, 6), {2: MINUS})
    np.testing.assert_allclose(A @ v, M @ v, atol=1e-3)
    assert tuple(A.rejected) == (2,)


def test_a_former_answer_and_that_of_another_worker_are_found():
    held, M = {}, matrix()

    def former(answer):
        return held.setdefault("first", answer)

    def another(answer):
        return M[:17] @ np.ones((30, 1))

    A = placed(M, cm.codes.MDSCode(3, 6), {1: corrupt(former), 2: corrupt(another)})
    v = matrix(30, 2)
    np.testing.assert_allclose(A @ v[:, 0], M @ v[:, 0], atol=1e-11)
    assert tuple(A.rejected) == (2,)
    np.testing.assert_allclose(A @ v[:, 1], M @ v[:, 1], atol=1e-11)
    assert set(A.rejected) == {1, 2}


@pytest.mark.parametrize(
    ("code", "liars"),
    [
        (cm.codes.MDSCode(3, 6), (0, 2, 5)),
        (cm.codes.MDSCode(5, 6), (3,)),
        (cm.codes.PolarCode(4, 8), (6,)),
        (cm.Replication(4, 8), (0, 1, 2, 3)),
    ],
    ids=repr,
)
def test_one_spare_worker_for_each_that_lies_is_enough(code, liars):
    A = placed(matrix(), code, dict.fromkeys(liars, MINUS))
    for _ in range(3):
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
        assert set(A.last.rejected) == set(A.rejected) == set(liars)
    assert len(A.last.answered) == code.workers - len(liars)


def test_fifty_products_with_a_liar_are_those_of_the_matrix():
    """With the first three answers there is no redundancy: 13 of 50 were wrong."""
    M, rng = matrix(60, 60), np.random.default_rng(0)
    acts = {n: [late(rng.uniform(0.0, 1.0)) for _ in range(50)] for n in range(6)}
    acts[2] = [corrupt(LIES["minus"], act.seconds) for act in acts[2]]
    A = placed(M, cm.codes.MDSCode(3, 6), acts)
    for v in rng.standard_normal((50, 60)):
        np.testing.assert_allclose(A @ v, M @ v, atol=1e-10)
    assert tuple(A.rejected) == (2,)


def test_conjugate_gradients_converge_with_a_liar_as_without():
    M = matrix(60, 60)
    M = M @ M.T / 60 + np.eye(60)
    steps = {}
    for script in ({}, {n: late(0.1) for n in (0, 1, 3, 4, 5)} | {2: MINUS}):
        A = placed(M, cm.codes.MDSCode(3, 6), script, symmetric=True)
        iterates = steps[bool(script)] = []
        solution, info = linalg.cg(A, M[0], rtol=1e-10, callback=iterates.append)
        assert info == 0
        np.testing.assert_allclose(solution, np.eye(60)[0], atol=1e-8)
    assert abs(len(steps[True]) - len(steps[False])) <= 1


@settings(max_examples=25)
@given(
    st.sampled_from(CODES),
    st.sampled_from([np.float64, np.float32, np.complex128, np.complex64]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_no_honest_worker_is_rejected(code, dtype, rows, columns, seed, thin):
    rng = np.random.default_rng(seed)
    far = 60 if np.finfo(dtype).eps < 1e-10 else 8
    M = matrix(rows, columns, dtype, seed) * 10.0 ** rng.uniform(-far, far, (rows, 1))
    M = (M * 10.0 ** rng.uniform(-far, far, columns)).astype(dtype)
    A = placed(sparse.csr_array(M * (rng.random(M.shape) < 0.3)) if thin else M, code)
    A @ matrix(columns, 2, dtype, seed)
    A.T @ matrix(rows, 1, dtype, seed)[:, 0]
    assert not A.rejected
    assert not A.last.rejected


# What follows.


def test_a_rejected_worker_is_called_again_once_it_is_readmitted():
    A = placed(matrix(), cm.codes.MDSCode(3, 6), {2: [MINUS]})
    called = []
    for number in range(3):
        if number == 2:
            A.readmit(2)
        A.engine.calls.clear()
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
        called.append(2 in [worker for worker, _ in A.engine.calls])
    assert called == [True, False, True]
    assert not A.rejected
    assert A.last.answered == tuple(range(6))
    for worker in (2, 9, None, "two"):
        with pytest.raises(cm.InvalidArgument, match=r"is not rejected \(none\)"):
            A.readmit(worker)
    with pytest.raises(TypeError):
        A.rejected[3] = "me"


@pytest.mark.parametrize(
    "stop", [cm.Everyone(), cm.Quorum(6), cm.Quorum(6) & cm.Decodable()], ids=str
)
@pytest.mark.parametrize("act", [MINUS, crash()], ids=["minus", "crash"])
def test_a_rule_that_a_worker_left_out_of_reach_waits_for_what_can_be_decoded(stop, act):
    script = {n: late(0.1 * (n + 1)) for n in range(6)} | {2: act}
    A = placed(matrix(), cm.codes.MDSCode(3, 6), script, stop=stop)
    for _ in range(2):
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)


def test_the_record_names_workers_rejected_before():
    A = placed(matrix(), cm.codes.MDSCode(3, 6), {2: MINUS})
    A @ np.ones(30)
    assert A.last.rejected == A.rejected == {2: WRONG}
    A @ np.ones(30)
    assert A.last.rejected == {2: f"worker 2 was rejected: it had sent {WRONG}"}
    assert "5 of 5 workers answered" in str(A.last)
    assert "rejected   1: worker 2" in str(A.last)


def test_the_transpose_calls_no_worker_that_the_matrix_has_rejected():
    A = placed(matrix(), cm.codes.MDSCode(3, 6), {2: MINUS, 4: [cm.testing.Act(), MINUS]})
    A @ np.ones(30)
    A.T @ np.ones(50)
    assert set(A.rejected) == set(A.T.rejected) == {2, 4}
    A.readmit(2)
    assert tuple(A.T.rejected) == (4,)


def test_without_enough_workers_left_it_says_whom_to_readmit_before_any_is_called():
    A = placed(matrix(), cm.codes.MDSCode(3, 6), dict.fromkeys((1, 2, 3, 4), MINUS))
    with pytest.raises(cm.NotEnoughAnswers, match=rf"4 could not be used: worker 1 sent {WRONG}"):
        A @ np.ones(30)
    A.engine.calls.clear()
    with pytest.raises(
        cm.NotEnoughAnswers,
        match=r"4 answers of 6 cannot come.*other 2 are not enough.*readmit\(1\)",
    ):
        A @ np.ones(30)
    assert A.engine.calls == []
    A = placed(matrix(), cm.codes.MDSCode(3, 6), {1: MINUS, 4: crash(), 5: fail(OSError())})
    A @ np.ones(30)
    A = placed(
        matrix(),
        cm.codes.MDSCode(4, 6),
        {1: MINUS, 2: MINUS, 4: [cm.testing.Act(), fail(OSError())]},
    )
    A @ np.ones(30)
    with pytest.raises(cm.NotEnoughAnswers, match=r"3 of 4 workers answered(?s:.*)readmit\(1\)"):
        A @ np.ones(30)


def test_without_throw_there_is_what_passed():
    script = {0: MINUS} | dict.fromkeys((2, 3, 4, 5), fail(OSError()))
    A = placed(matrix(), cm.codes.MDSCode(3, 6), script, throw=False)
    for _ in range(2):
        product = A @ np.ones(30)
        known = np.isfinite(product)
        assert known.tolist() == [False] * 17 + [True] * 17 + [False] * 16
        np.testing.assert_allclose(product[known], (matrix() @ np.ones(30))[known], atol=1e-11)
        assert (A.last.stderr[known] == 0).all()
    A = placed(matrix(), cm.Uncoded(2), dict.fromkeys((0, 1), MINUS), throw=False)
    for _ in range(2):
        assert np.isnan(A @ np.ones(30)).all()


def test_all_answers_of_a_rejected_worker_stay_out_where_it_keeps_several():
    with Scripted(3, {1: [MINUS]}) as engine, pytest.warns(UserWarning, match="the engine 3"):
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(3, 6), engine=engine)
    for _ in range(2):
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
    assert tuple(A.rejected) == (1,)
    assert len(A.last.rejected) == 2
    assert len(A.last.answered) == 4


def test_blocks_that_move_to_others_are_called_there_and_none_moves_to_a_rejected_worker():
    with ScriptedCluster([None] * 7, {2: MINUS}) as engine:
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(3, 6), engine=engine, stop=cm.Everyone())
        A @ np.ones(30)
        engine.leave(5)
        A @ np.ones(30)
        assert tuple(A.rejected) == (2,)
        assert A.last.answered == (0, 1, 3, 4, 5)
        engine.leave(2)
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
        assert A.last.answered == tuple(range(6))


def test_a_block_that_is_placed_again_is_tested_by_its_own_check():
    """A polar block that is encoded again is rounded otherwise, far from it where terms cancel."""
    rng = np.random.default_rng(0)
    M = np.tile(rng.standard_normal((8, 30)), (4, 1)) + 1e-13 * rng.standard_normal((32, 30))
    code = cm.codes.PolarCode(4, 8)
    A = placed(M, code, {n: [crash()] for n in range(8)}, stop=cm.Everyone())
    for _ in range(3):
        A @ rng.standard_normal(30)
        assert not A.rejected
        assert A.last.exact
    assert A.last.answered == tuple(range(8))


def test_no_worker_sees_what_an_answer_is_tested_by():
    with Scripted(6) as engine:
        sent = []
        keep = engine.keep
        engine.keep = lambda worker, value: sent.append(value) or keep(worker, value)
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(3, 6), engine=engine)
        A @ np.ones(30)
        assert all(
            isinstance(value.fn, CodedBlock) and list(vars(value.fn)) == ["array"] for value in sent
        )
        assert all(payload.shape == (30, 1) for _, payload in engine.calls)


# What is no lie.


def test_a_product_beyond_the_range_rejects_nobody():
    A = placed(np.full((6, 4), 1e200), cm.codes.MDSCode(3, 6))
    with pytest.raises(cm.NotEnoughAnswers, match="exceeds the range of float64"):
        A @ np.full(4, 1e200)
    assert not A.rejected
    np.testing.assert_allclose(A @ np.ones(4), np.full(6, 4e200))
    A = placed(np.full((6, 4), 1e200), cm.codes.MDSCode(3, 6), {1: corrupt(LIES["NaN"])})
    A @ np.ones(4)
    assert tuple(A.rejected) == (1,)


def test_copies_that_are_rounded_otherwise_need_no_majority():
    """As on two kinds of processors, where nearly all of the product cancels out."""
    x = np.linspace(0, 1, 400)
    M = 1 / (1 + x[:, None] + x)
    v = np.linalg.svd(M)[2][-1]

    def otherwise(answer):
        return answer + 4e-11 * np.eye(len(answer), 1)

    code = cm.Replication(2, 4, confirm=2)
    A = placed(M, code, dict.fromkeys((0, 1), corrupt(otherwise)))
    assert np.abs(A @ v - M @ v).max() < 1e-10
    assert not A.rejected


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_that_float64_does_not_hold_are_refused(verify, dtype):
    M = np.arange(12).reshape(4, 3).astype(dtype)
    M[2, 1] = 2**53
    A = placed(M, cm.codes.MDSCode(2, 3), verify=verify)
    np.testing.assert_array_equal(A @ [0, 1, 0], M[:, 1].astype(float))
    v = np.array([0, 2**53 + 1, 0], dtype)
    with pytest.raises(
        cm.InvalidArgument, match=r"multiplied in A @ B has integers beyond 2\*\*53"
    ):
        A @ v
    M[2, 1] += dtype(1)
    for big in (M, sparse.csr_array(M), -M.astype(np.int64)):
        with pytest.raises(
            cm.InvalidArgument,
            match=r"the matrix has integers beyond 2\*\*53, up to 9007199254740993.*Cast",
        ):
            placed(big, cm.codes.MDSCode(2, 3), verify=verify)


def test_without_verify_nobody_is_rejected_for_good():
    A = placed(matrix(), cm.codes.MDSCode(3, 6), {2: MINUS, 4: never()}, verify=False)
    for _ in range(2):
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
        assert set(A.last.rejected) == {2}
    assert not A.rejected
