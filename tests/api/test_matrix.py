"""The door `CodedMatrix` on scripted engines: products, solvers, stopping rules, failures, bad input."""

from __future__ import annotations

import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import linalg

import codedmap as cm

from ..byhand import ByHand
from ..repeats import crossed

pytestmark = pytest.mark.usefixtures("virtual_time")

CODES = [
    cm.Uncoded(4),
    cm.Replication(4, 8),
    cm.Replication(3, 9, confirm=2),
    cm.codes.MDSCode(5, 9),
    cm.codes.PolarCode(5, 8),
    cm.codes.PolarCode(12, 16),
]
codes = pytest.mark.parametrize("code", CODES, ids=repr)


def matrix(rows=50, columns=30, seed=0, dtype=float):
    made = np.random.default_rng(seed).standard_normal((rows, columns))
    if np.dtype(dtype).kind == "c":
        made = made + 1j * np.random.default_rng(seed + 1).standard_normal(made.shape)
    return made.astype(dtype)


def placed(M, code, script=None, **options):
    return cm.CodedMatrix(M, code=code, engine=cm.testing.Scripted(code.workers, script), **options)


def loses(code, count):
    """The last workers of a code, as many as it can spare, do not answer or crash."""
    lost = range(code.workers)[code.workers - min(count, code.stragglers) :]
    return {n: cm.testing.crash() if n % 2 else cm.testing.never() for n in lost}


@codes
@pytest.mark.parametrize(
    ("dtype", "shape"),
    crossed(
        [np.float64, np.float32, np.complex64, np.complex128],
        [(50, 30), (48, 7), (3, 5), (1, 1), (101, 100)],
    ),
)
def test_products_are_those_of_the_matrix(code, shape, dtype):
    M = matrix(*shape, dtype=dtype)
    A = placed(M, code, loses(code, 2))
    v, u = matrix(shape[1], 1, dtype=dtype)[:, 0], matrix(shape[0], 1, dtype=dtype)[:, 0]
    B = matrix(shape[1], 3, seed=5, dtype=dtype)
    close = 20 * np.finfo(dtype).eps ** 0.5 if np.finfo(dtype).eps > 1e-10 else 1e-11
    quiet = np.errstate(invalid="ignore")  # NumPy's own float32 products sometimes warn of nothing
    with quiet:
        pairs = (
        (A @ v, M @ v), (A @ B, M @ B), (A.T @ u, M.T @ u), (A.H @ u, M.conj().T @ u),
        (A.rmatvec(u), M.conj().T @ u), (A @ v[:, None], M @ v[:, None]), (A.T.T @ v, M @ v),
        (A.rmatmat(u[:, None]), M.conj().T @ u[:, None]), (u @ A, u @ M), (2 * A @ v, 2 * (M @ v)),
        )  # fmt: skip
    for ours, theirs in pairs:
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_allclose(ours, theirs, atol=close)
    assert A.last.exact
    assert A.shape == shape
    assert A.dtype == dtype


@codes
def test_solvers_run_unchanged(code):
    M = matrix(60, 60)
    M = M @ M.T + 10 * np.eye(60)
    A = placed(M, code, loses(code, 2), symmetric=True)
    b = matrix(60, 1)[:, 0]
    solution, info = linalg.cg(A, b, rtol=1e-10)
    assert info == 0
    assert np.linalg.norm(M @ solution - b) <= 1e-9 * np.linalg.norm(b)
    np.testing.assert_allclose(linalg.eigsh(A, k=3)[0], linalg.eigsh(M, k=3)[0])
    R = matrix(60, 20)
    A = placed(R, code, loses(code, 1))
    np.testing.assert_allclose(
        linalg.lsmr(A, b, atol=1e-12, btol=1e-12)[0], np.linalg.lstsq(R, b)[0], atol=1e-8
    )
    np.testing.assert_allclose(linalg.svds(A, k=3)[1], linalg.svds(R, k=3)[1])


@pytest.mark.parametrize("dtype", [int, bool, np.uint8, np.float16])
def test_what_is_no_floating_point_is_computed_in_it(dtype):
    M = np.random.default_rng(0).integers(0, 2, (20, 6)).astype(dtype)
    A = placed(M, cm.codes.MDSCode(3, 5))
    assert A.dtype == (np.float32 if dtype is np.float16 else np.float64)
    np.testing.assert_allclose(A @ np.arange(6), M.astype(float) @ np.arange(6), atol=1e-5)
    np.testing.assert_allclose(
        A @ [True, 0, 0, 1, 0, 0], M.astype(float) @ [1, 0, 0, 1, 0, 0], atol=1e-5
    )


def test_a_vector_of_another_dtype_widens_the_product_but_not_its_exactness():
    M = matrix(40, 20, dtype=np.float32)
    A = placed(M, cm.codes.MDSCode(3, 6), stop=cm.Everyone())
    v = matrix(20, 1)[:, 0]
    for columns in (v, v + 1j, np.arange(20)):
        product = A @ columns
        assert product.dtype == np.result_type(np.float32, columns.dtype)
        np.testing.assert_allclose(product, M @ columns, atol=1e-4)
        assert not A.last.rejected


@pytest.mark.parametrize("code", [c for c in CODES if c.workers < 16], ids=repr)
def test_sparse_matrices_stay_sparse_on_the_workers(code):
    S = sparse.random(53, 40, 0.05, random_state=np.random.default_rng(0))
    engine = ByHand(code.workers)
    engine.blocks = []
    engine.keep = lambda slot, value: engine.blocks.append(value) or cm.engines.Kept(slot, value)
    cm.CodedMatrix(S, code=code, engine=engine)
    assert all(sparse.issparse(block.fn.array) for block in engine.blocks)
    A = placed(S, code, loses(code, 2))
    np.testing.assert_allclose(A @ np.eye(40), S.toarray(), atol=1e-12)
    np.testing.assert_allclose(A.T @ np.eye(53), S.T.toarray(), atol=1e-12)


def test_a_product_without_columns_asks_no_worker():
    A = placed(matrix(), cm.codes.MDSCode(2, 3))
    product = A @ np.empty((30, 0))
    assert product.shape == (50, 0)
    assert A.engine.calls == []
    assert A.last is None


def test_it_stops_as_soon_as_it_can_decode_and_tells_what_happened():
    script = {0: cm.testing.never(), 3: cm.testing.crash(), 7: cm.testing.fail(OSError("disk"))}
    A = placed(matrix(), cm.codes.MDSCode(5, 9), script)
    A @ np.ones(30)
    assert A.last.answered == (1, 2, 4, 5, 6, 8)
    assert A.last.abandoned == (0,)
    assert set(A.last.failed) == {3, 7}
    assert A.last.outcome is cm.Outcome.DECODABLE
    assert A.last.seconds >= 0
    text = str(A.last)
    assert text.startswith("6 of 9 workers answered in 0.")
    assert "product    50 x 1, exact" in text
    assert "abandoned  1: worker 0" in text
    assert "failed     2: workers 3, 7; the first, 3, with WorkerCrashed" in text
    assert repr(A) == "<CodedMatrix: 50 x 30, float64, by MDSCode(tasks=5, workers=9, seed=0)>"


@pytest.mark.real_time
def test_it_waits_for_no_more_than_it_needs():
    engine = ByHand(9)
    A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(5, 9), engine=engine)
    with ThreadPoolExecutor(1) as pool:
        product = pool.submit(A.matvec, np.ones(30))
        while len(engine.calls) < 9:
            pass
        engine.answer(8, 1, 6, 2)
        assert not product.done()
        engine.answer(4)
        np.testing.assert_allclose(product.result(10), matrix() @ np.ones(30), atol=1e-11)
    assert engine.abandoned == (0, 3, 5, 7)


def test_the_last_product_of_the_transpose_is_told_by_both():
    A = placed(matrix(), cm.codes.MDSCode(2, 4), {1: cm.testing.crash()})
    A.rmatvec(np.ones(50))
    assert A.last.shape == (30, 1)
    assert A.T.last is A.last


def test_the_transpose_is_encoded_at_its_first_use_and_once():
    A = placed(matrix(), cm.codes.MDSCode(2, 4))

    def kept():
        return sum(map(len, A.engine._kept.values()))

    assert kept() == 4
    A.T @ np.ones(50)
    A.rmatvec(np.ones(50))
    assert kept() == 8
    A = placed(matrix(30, 30) + matrix(30, 30).T, cm.codes.MDSCode(2, 4), symmetric=True)
    assert A.T is A
    A.rmatvec(np.ones(30))
    assert sum(map(len, A.engine._kept.values())) == 4


def test_a_complex_symmetric_matrix_has_a_conjugate_transpose():
    M = matrix(9, 9, dtype=complex)
    M = M + M.T
    A = placed(M, cm.codes.MDSCode(2, 4), symmetric=True)
    v = matrix(9, 1, dtype=complex)[:, 0]
    np.testing.assert_allclose(A.H @ v, M.conj().T @ v, atol=1e-12)
    np.testing.assert_allclose(A.T @ v, M.T @ v, atol=1e-12)


# Repair.


def test_a_lost_block_is_placed_again_for_the_next_product():
    A = placed(matrix(), cm.codes.MDSCode(5, 9), {n: [cm.testing.crash()] for n in (1, 7)})
    for repaired in ((), (1, 7), ()):
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
        assert A.last.repaired == repaired
    assert A.last.answered == tuple(range(9))


@codes
def test_blocks_without_which_it_could_not_go_on_are_placed_again_at_once(code):
    A = placed(matrix(), code, {n: [cm.testing.crash()] for n in range(code.workers)})
    np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
    assert A.last.repaired
    assert A.last.exact


def test_a_block_that_only_the_call_finds_lost_is_placed_again():
    lost = cm.testing.fail(cm.errors.KeptLost("the process is a new one"))
    A = placed(matrix(), cm.codes.MDSCode(5, 5), {1: [lost]})
    np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
    assert A.last.repaired == (1,)


def test_a_worker_that_always_dies_is_tried_once_a_product():
    script = {n: cm.testing.crash() for n in range(4)}
    A = placed(matrix(), cm.codes.MDSCode(6, 9), script)
    with pytest.raises(
        cm.NotEnoughAnswers, match=r"(?s)5 of 9 workers answered.*4 failed.*crashed"
    ) as caught:
        A @ np.ones(30)
    assert isinstance(caught.value.__cause__, cm.WorkerCrashed)
    assert len(A.engine.calls) <= 9 + 4


def test_a_repaired_block_is_that_of_the_matrix_as_it_was():
    M = matrix()
    A = placed(M, cm.codes.MDSCode(5, 9), {8: [cm.testing.crash()]})
    A @ np.ones(30)
    M[3, 4] += 1e-9
    with pytest.raises(cm.InvalidArgument, match="changed in rows 0 to 9 after it had been placed"):
        A @ np.ones(30)
    A = placed(M, cm.codes.MDSCode(5, 9))
    M[49, 0] = 0
    with pytest.raises(cm.InvalidArgument, match="changed in rows 40 to 49"):
        A.T @ np.ones(50)


@pytest.mark.real_time
def test_a_block_kept_in_this_process_is_that_of_the_matrix_as_it_was():
    M = matrix()
    true = M @ np.ones(30)
    with ThreadPoolExecutor(2) as pool:
        A = cm.CodedMatrix(M, code=cm.codes.MDSCode(5, 6), engine=pool)
        M[:] += 1.0
        np.testing.assert_allclose(A @ np.ones(30), true, atol=1e-11)


def test_nothing_is_left_on_workers_when_the_matrix_is_gone():
    with cm.testing.Scripted(4) as engine:
        kept = []
        keep = engine.keep
        engine.keep = lambda slot, value: kept.append(weakref.ref(value.fn)) or keep(slot, value)
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(2, 4), engine=engine)
        B = cm.CodedMatrix(np.eye(6), code=A.code, engine=engine, symmetric=True)
        A.T @ np.ones(50)
        B.T @ np.ones(6)
        assert len(kept) == 12
        engine._kept.clear()
        engine.calls.clear()
        del A, B
        assert not any(ref() for ref in kept)


def test_a_transpose_works_without_the_operator_that_made_it():
    M = matrix()
    with cm.testing.Scripted(4) as engine:
        A = cm.CodedMatrix(M, code=cm.codes.MDSCode(2, 4), engine=engine).T
        np.testing.assert_allclose(A.rmatvec(np.ones(30)), M @ np.ones(30), atol=1e-11)
        assert A.T.T is A


# Stop rules and estimates.


def few(code, count):
    """Only these many workers answer."""
    order = np.random.default_rng(1).permutation(code.workers)
    return {int(n): cm.testing.never() for n in order[count:]}


def test_below_what_can_be_decoded_it_raises():
    A = placed(
        matrix(),
        cm.codes.PolarCode(12, 16),
        few(cm.codes.PolarCode(12, 16), 9),
        stop=cm.Deadline(0.05),
    )
    with pytest.raises(
        cm.NotEnoughAnswers,
        match=r"(?s)the deadline passed: 9 of 16 workers answered, 7 still running.*at least 12",
    ):
        A @ np.ones(30)


@pytest.mark.parametrize("stop", [cm.Deadline(0.05), cm.Quorum(9)])
def test_without_throw_a_polar_code_gives_an_estimate_with_error_bars(stop):
    code = cm.codes.PolarCode(12, 16)
    A = placed(matrix(120, 30), code, few(code, 9), stop=stop, throw=False)
    product = A @ np.eye(30)
    assert not A.last.exact
    assert A.last.stderr.shape == product.shape == (120, 30)
    assert "120 x 30, estimated (standard error up to" in str(A.last)
    off = np.abs(product - matrix(120, 30)) / A.last.stderr
    assert 0.9 < (off < 1.96).mean() < 0.99


def test_a_tolerance_takes_an_estimate_that_is_good_enough():
    code = cm.codes.PolarCode(48, 64)
    M = np.ones((96, 1)) + 0.01 * matrix(96, 1)
    worst = placed(M, code, few(code, 40), stop=cm.Deadline(0.05), throw=False)
    worst @ [1.0]
    within = worst.last.stderr.max() * 1.01
    A = placed(M, code, few(code, 40), stop=cm.Tolerance(within))
    A @ [1.0]
    assert A.last.outcome is cm.Outcome.TOLERANCE
    assert 0 < A.last.stderr.max() <= within
    A = placed(M, code, stop=cm.Tolerance(1e-12))
    np.testing.assert_allclose(A @ [1.0], M[:, 0], atol=1e-12)
    assert A.last.exact


def test_a_tolerance_that_cannot_be_met_raises():
    code = cm.codes.PolarCode(12, 16)
    script = {n: cm.testing.fail(ValueError("no")) for n in range(8)}
    A = placed(matrix(), code, script, stop=cm.Tolerance(1e-9))
    with pytest.raises(cm.NotEnoughAnswers, match="8 of 16 workers answered, 8 failed"):
        A @ np.ones(30)


def test_without_throw_blocks_that_came_are_exact_and_others_nan():
    A = placed(
        matrix(),
        cm.codes.MDSCode(5, 9),
        {n: cm.testing.fail(OSError()) for n in range(1, 9)},
        throw=False,
    )
    product = A @ np.ones(30)
    np.testing.assert_allclose(product[:10], (matrix() @ np.ones(30))[:10])
    assert np.isnan(product[10:]).all()
    assert (A.last.stderr[:10] == 0).all()
    assert np.isinf(A.last.stderr[10:]).all()
    assert "nothing known of 40 entries" in str(A.last)


def test_a_quorum_below_what_can_be_decoded_waits_on():
    A = placed(matrix(), cm.codes.MDSCode(5, 9), {0: cm.testing.late(0.1)}, stop=cm.Quorum(2))
    np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)


def test_hopeless_products_end_at_once():
    script = {n: cm.testing.fail(OSError("disk full")) for n in range(5)} | {8: cm.testing.never()}
    A = placed(matrix(), cm.codes.MDSCode(5, 9), script)
    with pytest.raises(
        cm.NotEnoughAnswers, match=r"so many calls failed.*1 still running.*disk full"
    ) as caught:
        A @ np.ones(30)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_rule_out_of_reach_gives_the_product_all_the_same():
    script = {0: cm.testing.crash(), 1: cm.testing.never()}
    A = placed(matrix(), cm.codes.MDSCode(5, 9), script, stop=cm.Everyone() & cm.Quorum(9))
    np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
    assert A.last.outcome is cm.Outcome.UNSATISFIABLE


# Wrong answers.


@codes
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: a[:-1], "an array of shape"),
        (lambda a: a.ravel(), "an array of shape"),
        (lambda a: a.astype(np.float32), "an array of dtype float32 instead of float64"),
        (lambda a: a.astype(str), "an array of dtype <U32"),
        (lambda a: a * np.nan, "an array with NaN or infinity in it"),
        (lambda a: None, "a NoneType instead of an array"),
        (lambda a: a.tolist(), "a list instead of an array"),
    ],
)
def test_answers_that_cannot_be_used_are_rejected_and_never_enter_a_product(code, change, told):
    A = placed(matrix(), code, {0: cm.testing.corrupt(change)})
    if code.stragglers:
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
        assert told in A.last.rejected[0]
        assert "rejected   1: worker 0" in str(A.last)
    else:
        with pytest.raises(cm.NotEnoughAnswers, match="worker 0 sent") as caught:
            A @ np.ones(30)
        assert told in str(caught.value)


def test_a_byzantine_worker_is_found_when_two_answers_more_than_needed_are_waited_for():
    A = placed(
        matrix(),
        cm.codes.MDSCode(5, 9),
        {2: cm.testing.corrupt(lambda a: a + 1)},
        stop=cm.Everyone(),
        verify=False,
    )
    np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
    assert set(A.last.rejected) == {2}


@pytest.mark.parametrize("code", [cm.codes.MDSCode(5, 6), cm.codes.PolarCode(5, 8)], ids=repr)
def test_a_contradiction_that_cannot_be_resolved_raises(code):
    script = {2: cm.testing.corrupt(lambda a: a + 1)}
    A = placed(matrix(), code, script, stop=cm.Everyone(), verify=False)
    with pytest.raises(cm.InvalidAnswer, match="contradict one another"):
        A @ np.ones(30)


def test_copies_that_differ_are_settled_by_a_third():
    script = {0: cm.testing.corrupt(lambda a: a + 1)}
    compared = {"stop": cm.Everyone(), "verify": False}
    A = placed(matrix(), cm.Replication(3, 6), script, **compared)
    with pytest.raises(cm.NotEnoughAnswers, match="no majority"):
        A @ np.ones(30)
    A = placed(matrix(), cm.Replication(3, 9), script, **compared)
    np.testing.assert_array_equal(A @ np.ones(30), placed(matrix(), cm.Uncoded(3)) @ np.ones(30))
    assert set(A.last.rejected) == {0}


# Bad input.


@pytest.mark.parametrize(
    ("M", "message"),
    [
        (np.ones(5), r"shape \(5,\), and must be an array of two dimensions"),
        (np.ones((2, 2, 2)), "two dimensions"),
        (3.0, "two dimensions"),
        (np.ones((0, 3)), "empty"),
        (np.ones((3, 0)), "empty"),
        (
            [[1.0, np.nan], [np.inf, 2.0]],
            r"2 of the 2 x 2 entries .* \(the first at row 0, column 1\)",
        ),
        (sparse.csr_array([[1.0, 0.0], [0.0, np.nan]]), "row 1, column 1"),
        ([["a", "b"]], "dtype <U1 cannot be coded"),
        (np.full((2, 2), None), "dtype object cannot be coded"),
        (np.ones((2, 2), np.longdouble), "cannot be coded: cast it"),
        ([[1, 2], [3]], "cannot be made an array|two dimensions|cannot be coded"),
    ],
)
def test_matrices_that_cannot_work_are_refused(M, message):
    with pytest.raises(cm.InvalidArgument, match=message):
        placed(M, cm.codes.MDSCode(2, 3))


@pytest.mark.parametrize("stop", [0, [], cm.Quorum])
def test_what_is_no_stopping_rule_is_refused(stop):
    with pytest.raises(cm.InvalidArgument, match="is not a stopping rule"):
        placed(matrix(), cm.codes.MDSCode(2, 3), stop=stop)


@pytest.mark.parametrize("make", [cm.codes.MDSCode, cm.codes.PolarCode])
def test_wrong_sizes_and_seeds_are_refused(make):
    with pytest.raises(cm.InvalidArgument, match="9 tasks need at least as many workers"):
        make(9, 8)
    for bad in (0, -1, 2.0, True, "4", None):
        with pytest.raises(cm.InvalidArgument, match="must be a whole number"):
            make(bad, 8)
        with pytest.raises(cm.InvalidArgument, match="must be a whole number"):
            make(4, bad)
    for bad in (
        -1,
        1.5,
        None,
        "a",
    ):
        with pytest.raises(
            cm.InvalidArgument, match=r"seed=.* must be a whole number of at least 0"
        ):
            make(4, 8, seed=bad)


class Parity:
    """Two blocks and their sum, by what is public alone."""

    tasks, workers, stragglers = 2, 3, 1

    def weights(self, worker):
        return np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[worker]

    def decodable(self, answered, dtype):
        return len(answered) >= 2

    def decode(self, answers, dtype):
        some = sorted(answers)[:2]
        inverse = np.linalg.inv([self.weights(worker) for worker in some])
        return cm.contracts.Decoded(np.tensordot(inverse, [answers[n] for n in some], 1))


@pytest.mark.parametrize("lost", range(3))
def test_a_code_of_ones_own(lost):
    M = np.arange(20.0).reshape(5, 4)
    with cm.testing.Scripted(3, {lost: cm.testing.never()}) as engine:
        A = cm.CodedMatrix(M, code=Parity(), engine=engine)
        np.testing.assert_allclose(A @ np.ones(4), M.sum(axis=1), rtol=1e-12)
    assert A.last.exact


def test_a_polar_code_needs_a_power_of_two():
    with pytest.raises(cm.InvalidArgument, match=r"workers=12 is not a power of two.*use 8 or 16"):
        cm.codes.PolarCode(6, 12)
    with pytest.raises(
        cm.InvalidArgument, match=r"use 8, or an MDSCode"
    ):  # 4 are fewer than the tasks
        cm.codes.PolarCode(5, 7)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (cm.SplineCode(2, 4, 1), "SplineCode.* is a code for codedmap.map"),
        (cm.codes.FractionalRepetition(4, 1), "is a code for codedmap.sum: give one for a matrix"),
        (None, "None is not a code: give"),
        (cm.codes.MDSCode, "is not a code: give"),
        (cm.Replication(2, 4, fill="mean"), "does not follow from those of other blocks"),
    ],
)
def test_codes_that_cannot_work_are_refused(code, message):
    with cm.testing.Scripted(4) as engine, pytest.raises(cm.InvalidArgument, match=message):
        cm.CodedMatrix(np.eye(4), code=code, engine=engine)


@pytest.mark.parametrize("code", [cm.codes.MDSCode(2, 4), cm.codes.PolarCode(2, 4)])
def test_a_code_for_matrices_is_none_for_map_or_sum(code):
    with cm.testing.Scripted(4) as engine:
        with pytest.raises(cm.InvalidArgument, match=r"is a code for codedmap\.CodedMatrix"):
            cm.map(np.sin, np.ones(4), code=code, engine=engine)
        with pytest.raises(cm.InvalidArgument):
            cm.sum(np.sin, np.ones(4), code=code, engine=engine)


@pytest.mark.parametrize(
    "bad", [np.ones(29), np.ones((29, 2)), np.ones((30, 2, 2))[:0], np.ones((1, 30))]
)
def test_columns_of_the_wrong_length_are_refused(bad):
    A = placed(matrix(), cm.codes.MDSCode(2, 3))
    for multiply in (A.matvec, A.matmat, A.T.rmatvec, A.T.rmatmat):
        with pytest.raises(cm.InvalidArgument, match=r"length 30 .*is an array of shape"):
            multiply(bad)
    for multiply in (A.matmat, A.T.rmatmat):
        with pytest.raises(ValueError, match="2-d"):
            multiply(np.ones(30))
    assert A.engine.calls == []


@pytest.mark.parametrize("bad", [[np.nan] * 30, [np.inf] * 30, ["a"] * 30, [None] * 30])
def test_columns_that_are_no_numbers_are_refused(bad):
    A = placed(matrix(), cm.codes.MDSCode(2, 3))
    with pytest.raises(cm.InvalidArgument, match=r"NaN or infinite|must be numbers"):
        A @ bad
    assert A.engine.calls == []


@pytest.mark.parametrize(
    "bad",
    [None, {}, np.array(3.0), np.ones((30, 2, 2)), [[1.0], [1.0, 2.0]], "a", b"a", object(), 3, 2j],
    ids=lambda bad: type(bad).__name__,
)
def test_what_is_neither_a_vector_nor_columns_is_refused(bad):
    A = placed(matrix(30, 30), cm.codes.MDSCode(2, 3))
    products = [lambda: A @ bad, lambda: bad @ A]
    if not isinstance(bad, (int, complex)):
        products += [lambda: A * bad, lambda: bad * A, lambda: A.dot(bad), lambda: A(bad)]
    for product in products:
        with pytest.raises(
            ValueError,
            match=r"vectors of length 30 .*multiplied is|not allowed, use '\*' instead|cannot be made an array",
        ):
            product()
    assert A.engine.calls == []
    for scaled in (A * 2, 2 * A, A.dot(2)):
        np.testing.assert_allclose(scaled @ np.ones(30), 2 * matrix(30, 30).sum(axis=1), atol=1e-11)


def test_a_matrix_that_is_not_symmetric_is_no_symmetric_one():
    with pytest.raises(cm.InvalidArgument, match="differs from its transpose by up to"):
        placed(matrix(9, 9), cm.codes.MDSCode(2, 3), symmetric=True)
    with pytest.raises(
        cm.InvalidArgument, match=r"\(9, 8\) is not symmetric: leave symmetric=True"
    ):
        placed(matrix(9, 8), cm.codes.MDSCode(2, 3), symmetric=True)
    for unit in (1e-6, 1.0, 1e6):  # up to eight times the rounding of the largest number
        M = unit * (matrix(9, 9) + matrix(9, 9).T)
        M[0, 1] = M[1, 0] = 0.0
        off = np.finfo(float).eps * np.abs(M).max()
        M[0, 1] = 7.0 * off
        placed(M, cm.codes.MDSCode(2, 3), symmetric=True)
        M[0, 1] = 9.0 * off
        with pytest.raises(cm.InvalidArgument, match="differs from its transpose by up to"):
            placed(M, cm.codes.MDSCode(2, 3), symmetric=True)


def test_other_arguments_are_checked():
    with pytest.raises(cm.InvalidArgument, match="an engine is needed"):
        cm.CodedMatrix(np.eye(4), code=cm.codes.MDSCode(2, 3), engine=None)
    for stop in (3, cm.Quorum, cm.Quorum(4)):
        with pytest.raises(cm.InvalidArgument, match="stopping rule"):
            placed(np.eye(4), cm.codes.MDSCode(2, 3), stop=stop)


def test_a_product_that_lacks_only_a_block_of_padding_is_exact():
    M = matrix(9, 4)  # in blocks of three rows, of which the fourth has none
    A = placed(M, cm.Uncoded(4), {3: cm.testing.fail(OSError())}, throw=False)
    np.testing.assert_allclose(A @ np.ones(4), M @ np.ones(4))
    assert A.last.exact


def test_fewer_workers_than_the_code_has_are_warned_of():
    with (
        cm.testing.Scripted(2) as engine,
        pytest.warns(UserWarning, match="the engine 2") as caught,
    ):
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(2, 5), engine=engine)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)


def test_what_would_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr("codedmap.contracts.memory.free_memory", lambda: 50 << 20)
    monkeypatch.setattr("codedmap.matrices.blocks.zlib", None)  # blocks are not read, or copied
    with pytest.raises(
        cm.errors.NotEnoughMemory, match=r"30\.7 MB, and as much again .* only 52\.4 MB are free"
    ):
        placed(np.ones((1000, 1280)), cm.codes.MDSCode(2, 6))


def test_sparse_blocks_that_would_not_fit_are_counted_as_they_fill_up(monkeypatch):
    S = sparse.random(6000, 6000, 0.02, format="csr", random_state=np.random.default_rng(0))
    polar, copies = cm.codes.PolarCode(12, 16), cm.Replication(12, 16)
    blocks = [S[k * 500 : (k + 1) * 500] for k in range(12)]
    union = sum(abs(block) for block in blocks).nnz
    told = f"take {16 * 12 * union / 1e6:.3g} MB.*Use Replication"
    monkeypatch.setattr("codedmap.contracts.memory.free_memory", lambda: 50 << 20)
    with pytest.raises(cm.errors.NotEnoughMemory, match=told):
        placed(S, polar)
    placed(S, copies)
    # Just enough for what they take, though not for the sum of what is mixed.
    monkeypatch.setattr("codedmap.contracts.memory.free_memory", lambda: 2 * 16 * 12 * union)
    placed(S, polar)


@pytest.mark.real_time
def test_a_closed_engine_says_so():
    with ThreadPoolExecutor(3) as pool:
        A = cm.CodedMatrix(matrix(), code=cm.codes.MDSCode(2, 3), engine=pool)
        np.testing.assert_allclose(A @ np.ones(30), matrix() @ np.ones(30), atol=1e-11)
    with pytest.raises(RuntimeError, match="shutdown"):
        A @ np.ones(30)


@codes
@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.float32, np.float64, np.complex128])
def test_no_warning_is_raised(code, dtype):
    """Recorded, since an error in a worker would be one more failed call, which codes make up for."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for M in (matrix(dtype=dtype), np.zeros((5, 5), dtype), np.ones((1, 1), dtype)):
            A = placed(M, code)
            rows, columns = M.shape
            np.testing.assert_array_equal(A @ np.zeros(columns, dtype), 0)
            assert not A.last.failed
            np.testing.assert_allclose(A @ np.ones(columns, dtype), M.sum(axis=1), atol=0.1)
            np.testing.assert_allclose(A.T @ np.ones(rows, dtype), M.sum(axis=0), atol=0.1)
            np.testing.assert_allclose(A @ np.eye(columns, dtype=dtype), M, atol=0.1)
            assert not A.last.failed
    assert [str(warning.message) for warning in caught] == []
