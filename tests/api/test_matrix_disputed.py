"""What a `CodedMatrix` that does not verify says where answers contradict one another, or tell nothing of their own error."""

from __future__ import annotations

from itertools import combinations, islice, permutations

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.matrix_code import disputed

from ..repeats import crossed

pytestmark = pytest.mark.usefixtures("virtual_time")

M = np.arange(20.0).reshape(10, 2)
TRUE = M @ np.ones(2)
LIE = cm.testing.corrupt(lambda answer: answer + 1)


def product(code, script, **options):
    """Without throw; the product, its standard errors, and who was rejected."""
    with cm.testing.Scripted(code.workers, script) as engine:
        A = cm.CodedMatrix(M, code=code, engine=engine, throw=False, verify=False, **options)
        made = A @ np.ones(2)
    stderr = np.zeros(10) if A.last.exact else A.last.stderr[:, 0]
    return made, stderr, dict(A.last.rejected)


def sure(made, stderr):
    """Rows that are said to be exact; they must be."""
    exact = stderr == 0
    np.testing.assert_allclose(made[exact], TRUE[exact], atol=1e-9)
    assert np.isinf(stderr[~exact]).all()
    return exact


def test_an_outvoted_copy_is_left_out_though_other_blocks_are_lost():
    script = {4: LIE} | dict.fromkeys((1, 3, 5), cm.testing.crash())
    made, stderr, rejected = product(cm.Replication(2, 6), script)
    assert sure(made, stderr).tolist() == [True] * 5 + [False] * 5
    assert np.isnan(made[5:]).all()
    assert set(rejected) == {4}


def test_copies_that_differ_without_a_majority_give_nothing():
    made, stderr, _ = product(cm.Replication(4, 8), {7: LIE}, stop=cm.Everyone())
    assert sure(made, stderr).tolist() == [True] * 9 + [False]
    assert np.isnan(made[9])


@pytest.mark.parametrize("script", [{7: cm.testing.never()}, {3: LIE, 7: cm.testing.never()}])
def test_a_block_that_too_few_confirm_is_not_sure(script):
    code = cm.Replication(4, 8, confirm=2)
    made, stderr, _ = product(code, script, stop=cm.Deadline(0.1))
    assert sure(made, stderr).tolist() == [True] * 9 + [False]
    assert np.isfinite(made).all()


@pytest.mark.parametrize("code", [cm.codes.MDSCode(4, 5), cm.codes.PolarCode(4, 8)], ids=repr)
@pytest.mark.parametrize("byzantine", range(5))
def test_where_mixtures_contradict_one_another_nothing_is_known(code, byzantine):
    made, stderr, _ = product(code, {byzantine: LIE}, stop=cm.Everyone())
    assert np.isinf(stderr).all()
    assert np.isnan(made).all()
    with cm.testing.Scripted(code.workers, {byzantine: LIE}) as engine:
        A = cm.CodedMatrix(M, code=code, engine=engine, stop=cm.Everyone(), verify=False)
        with pytest.raises(cm.InvalidAnswer, match="contradict one another"):
            A @ np.ones(2)


@pytest.mark.parametrize("byzantine", list(combinations(range(7), 2)), ids=str)
def test_with_two_answers_beyond_k_for_each_wrong_one_all_are_rejected(byzantine):
    script = dict.fromkeys(byzantine, LIE)
    made, stderr, rejected = product(cm.codes.MDSCode(3, 7), script, stop=cm.Everyone())
    assert sure(made, stderr).all()
    assert set(rejected) == set(byzantine)


class Pairs:
    """Blocks 0 and 1 twice, their sum, and block 2 once: no code of ours, and without a majority."""

    tasks, workers, stragglers = 3, 6, 0

    def weights(self, worker):
        rows = [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]
        return np.array(rows[worker], float)

    def decodable(self, answered, dtype):
        return len(answered) == 6

    def decode(self, answers, dtype):
        raise cm.NotEnoughAnswers("not all have answered")


def test_of_any_code_blocks_are_sure_that_no_other_answer_contradicts():
    lost = {3: cm.testing.crash()}
    assert sure(*product(Pairs(), lost)[:2]).all()
    made, stderr, _ = product(Pairs(), lost | {2: LIE})
    assert sure(made, stderr).tolist() == [False] * 8 + [True] * 2
    made, stderr, _ = product(Pairs(), {n: cm.testing.crash() for n in (3, 4)} | {2: LIE})
    assert sure(made, stderr).tolist() == [False] * 4 + [True] * 6


def test_an_answer_is_in_doubt_only_by_those_that_bear_on_it():
    weights = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    given = weights @ np.array([[3.0], [4.0], [5.0]])
    assert not disputed(weights, given, np.dtype(float)).any()
    given[1] += 1
    assert disputed(weights, given, np.dtype(float)).tolist() == [True, True, False, False, False]


# What a polar code says of the errors of its estimates.


def honest(code, values, slots):
    coded = code.coded(values)
    return {n: coded[n] for n in slots}


@pytest.mark.parametrize(
    ("size", "kind"),
    crossed(
        [(4, 8), (2, 4), (2, 8), (3, 8), (5, 8), (6, 16), (12, 16)],
        ["normal", "equal", "sparse", "signs"],
    ),
)
def test_no_estimate_is_wrong_and_says_that_it_is_not(size, kind):
    code = cm.codes.PolarCode(*size)
    rng = np.random.default_rng(0)
    values = {
        "normal": rng.standard_normal((code.tasks, 20)),
        "equal": np.ones((code.tasks, 1)),
        "sparse": np.eye(code.tasks),
        "signs": rng.choice([-1.0, 1.0], (code.tasks, 20)),
    }[kind]
    inside = []
    for count in (2, 3, 4):
        every = combinations(range(code.workers), count)
        for slots in islice(every, 0, None, 5 if code.workers > 8 else 1):
            if code.decodable(frozenset(slots)):
                continue
            made, stderr = code.estimate(honest(code, values, slots))
            off = np.abs(made - values)
            assert (off[stderr < 1e-3] < 1e-9).all(), slots
            inside.append((off < 1.96 * stderr + 1e-12).mean())
    assert np.mean(inside) > 0.94


@pytest.mark.parametrize("code", [cm.codes.PolarCode(2, n) for n in (4, 8, 16)], ids=repr)
def test_one_mixture_heard_several_times_tells_nothing_of_the_spread(code):
    values = np.random.default_rng(0).standard_normal((2, 3))
    pairs = [p for p in combinations(range(code.workers), 2) if not code.decodable(frozenset(p))]
    assert pairs
    for slots in pairs:
        assert np.isinf(code.estimate(honest(code, values, slots))[1]).all()


def test_a_tolerance_waits_on_when_one_mixture_was_heard_twice():
    rows = np.random.default_rng(0).standard_normal((2, 3))
    script = {1: cm.testing.fail(OSError()), 3: cm.testing.fail(OSError())}
    with cm.testing.Scripted(4, script) as engine:
        A = cm.CodedMatrix(
            rows, code=cm.codes.PolarCode(2, 4), engine=engine, stop=cm.Tolerance(0.1)
        )
        with pytest.raises(cm.NotEnoughAnswers):
            A @ np.ones(3)
    with cm.testing.Scripted(4) as engine:
        A = cm.CodedMatrix(
            rows, code=cm.codes.PolarCode(2, 4), engine=engine, stop=cm.Tolerance(0.1)
        )
        np.testing.assert_allclose(A @ np.ones(3), rows @ np.ones(3))


def test_answers_that_are_all_zero_are_no_proof_of_zeros():
    code = cm.codes.PolarCode(4, 16)
    zeros = [n for n in range(16) if not code.weights(n).sum()]
    first = code.weights(zeros[0])
    zeros = [zeros[0], next(n for n in zeros if abs(code.weights(n) @ first) < 1)]
    made, stderr = code.estimate(honest(code, np.ones((4, 1)), zeros))
    assert np.isinf(stderr).all()
    values = np.ones((4, 2))
    values[0, 1] = 9
    made, stderr = code.estimate(honest(code, values, zeros))
    assert (np.abs(made - values) < 1.96 * stderr).all()
    assert np.isfinite(stderr).all()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_standard_errors_survive_squares_that_would_not(scale):
    code = cm.codes.PolarCode(5, 8)
    answers = honest(code, np.random.default_rng(0).standard_normal((5, 4)), (0, 3, 5))
    plain = code.estimate(answers)[1]
    large = code.estimate({n: answer * scale for n, answer in answers.items()})[1]
    np.testing.assert_allclose(large, plain * scale)


# Which wrong answers a polar code can notice.


@pytest.mark.parametrize("size", [(5, 8), (6, 8), (12, 16)])
def test_a_wrong_answer_is_noticed_wherever_the_answers_can_contradict_it(size):
    code = cm.codes.PolarCode(*size)
    values = np.random.default_rng(0).standard_normal((code.tasks, 3))
    weights = np.stack([code.weights(n) for n in range(code.workers)])
    missed = 0
    for lost, byzantine in permutations(range(-1, code.workers), 2):
        slots = [n for n in range(code.workers) if n != lost]
        if byzantine < 0 or not code.decodable(frozenset(slots)):
            continue
        answers = honest(code, values, slots)
        answers[byzantine] = answers[byzantine] + 5
        # Whether other blocks would give the same answers, this one apart.
        others = [n for n in slots if n != byzantine]
        free = np.linalg.matrix_rank(weights[others]) < np.linalg.matrix_rank(weights[slots])
        missed += free
        assert lost >= 0 or not free
        if free:
            code.decode(answers)
        else:
            with pytest.raises(cm.InvalidAnswer):
                code.decode(answers)
    assert missed == {(5, 8): 8, (6, 8): 24, (12, 16): 16}[size]
