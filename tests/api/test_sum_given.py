"""What people give to sums, optimisers and matrices that cannot be meant, or must not be changed."""

from __future__ import annotations

import copy
import pickle
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse

import codedmap as cm
from codedmap.testing import Scripted


class Pair(NamedTuple):
    rows: np.ndarray
    targets: np.ndarray


def total(fn, parts, args=()):
    with Scripted(4) as engine:
        code = cm.codes.FractionalRepetition(4, 1)
        return cm.sum(fn, parts, args=args, code=code, engine=engine).value


def from_dict(part, weights):
    part["rows"][:] += 1.0
    return part["rows"]


def from_nested(part, weights):
    part["more"][0]["targets"][0] = 3.0
    return part["rows"]


def from_pair(part, weights):
    part.rows[:] *= 0.5
    return part.rows


def from_args(part, weights):
    weights *= 0.5
    return weights


def from_dict_of_args(part, model):
    model["bias"] += 1.0
    return model["bias"]


@pytest.mark.parametrize(
    ("fn", "make", "args"),
    [
        (from_dict, lambda: {"rows": np.ones(2)}, (1.0,)),
        (from_nested, lambda: {"rows": np.ones(2), "more": [{"targets": np.ones(2)}]}, (1.0,)),
        (from_pair, lambda: Pair(np.ones(2), np.ones(2)), (1.0,)),
        (from_args, lambda: 1, (np.ones(2),)),
        (from_dict_of_args, lambda: 1, ({"bias": np.ones(2)},)),
    ],
)
def test_what_stays_or_is_shared_is_not_writable(fn, make, args):
    with pytest.raises(cm.NotEnoughAnswers, match="read-only"):
        total(fn, [make() for _ in range(4)], args)


def test_parts_keep_their_kind():
    def kinds(part):
        assert type(part["pair"]) is Pair
        assert type(part["list"]) is list
        return part["pair"].rows.sum() + part["list"][0].sum()

    parts = [{"pair": Pair(np.ones(2), np.ones(2)), "list": [np.ones(3)]} for _ in range(4)]
    assert total(kinds, parts) == 20.0


MASKED = np.ma.masked_array([1.0, 2.0], [True, False])


@pytest.mark.parametrize(
    "use",
    [
        lambda: total(lambda part: MASKED, range(4)),
        lambda: cm.training.AMSGrad(MASKED, 0.1),
        lambda: cm.training.AMSGrad(np.zeros(2), 0.1).update(MASKED),
        lambda: cm.training.CountSketch(2, columns=1)(MASKED),
        lambda: cm.training.CountSketch(9, columns=2, rows=1).estimate(MASKED[None]),
        lambda: cm.CodedMatrix(
            MASKED[None], code=cm.codes.MDSCode(1, 2), engine=Scripted(2), symmetric=False
        ),
        lambda: cm.CodedMatrix(np.eye(2), code=cm.codes.MDSCode(1, 2), engine=Scripted(2)).matvec(
            MASKED
        ),
    ],
)
def test_masked_entries_are_never_computed_with(use):
    with pytest.raises((cm.InvalidArgument, cm.InvalidAnswer, cm.NotEnoughAnswers), match="masked"):
        use()


def test_a_masked_array_without_masked_entries_is_an_array():
    whole = np.ma.masked_array([1.0, 2.0], False)
    assert total(lambda part: whole, range(4)).tolist() == [4.0, 8.0]


def test_pandas_objects_are_cut_by_place():
    class ByLabels:  # as pandas 2 with an index of floats
        shape = (12,)
        iloc = np.arange(12.0)

        def __getitem__(self, labels):
            return self.iloc[: labels.stop + 1]

    assert total(np.sum, ByLabels()) == 66.0


@pytest.mark.parametrize("kind", ["dia", "bsr"])
def test_what_cannot_be_cut_is_refused(kind):
    with pytest.raises(cm.InvalidArgument, match=r"cannot be cut along its first axis.*tocsr\(\)"):
        total(lambda rows: rows.sum(), sparse.eye_array(8, format=kind))


def test_masked_columns_are_none():
    A = cm.CodedMatrix(np.eye(2), code=cm.codes.MDSCode(1, 2), engine=Scripted(2))
    with pytest.raises(cm.InvalidArgument, match="masked"):
        A @ MASKED
    assert (A @ A @ np.ones(2)).tolist() == [1.0, 1.0]


def test_a_sparse_array_is_no_columns():
    A = cm.CodedMatrix(np.eye(2), code=cm.codes.MDSCode(1, 2), engine=Scripted(2))
    with pytest.raises(cm.InvalidArgument, match=r"sparse: use its toarray\(\)"):
        A @ sparse.eye_array(2)


def test_a_group_that_is_too_small_is_told_before_one_that_divides_nothing():
    with pytest.raises(cm.InvalidArgument, match="a group of 3 cannot send a sum in 6 slices"):
        cm.codes.GroupedGradientCode(5, 3, 6)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64])
def test_the_least_integer_has_an_opposite_in_a_sketch(dtype):
    least = np.iinfo(dtype).min
    for seed in range(8):
        sketch = cm.training.CountSketch(1, columns=1, seed=seed)
        table = sketch(np.array([least], dtype))
        assert sketch.estimate(table).tolist() == [float(least)]
        assert sketch.estimate(np.full((5, 1), least, dtype)).tolist() in (
            [float(least)],
            [-float(least)],
        )


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_belongs_to_an_engine_is_not_pickled(copied):
    engine = Scripted(4)
    A = cm.CodedMatrix(np.eye(4), code=cm.codes.MDSCode(2, 4), engine=engine)
    shards = cm.CodedParts(range(4), code=cm.codes.FractionalRepetition(4, 1), engine=engine)
    for held in (A, shards):
        with pytest.raises(cm.errors.CannotSend, match="cannot be pickled or copied: keep the"):
            copied(held)


@pytest.mark.parametrize("rows", [4, 1])
def test_a_product_beyond_the_range_says_so_without_a_warning(rows):
    M = np.where(np.arange(4)[:, None] < rows, 1e200, 1.0) * np.ones(4)
    A = cm.CodedMatrix(M, code=cm.codes.MDSCode(2, 4), engine=Scripted(4))
    with np.errstate(all="raise"), pytest.raises(cm.NotEnoughAnswers, match="range of float64"):
        A @ np.full(4, 1e200)


def test_columns_of_the_conjugate_transpose_are_checked():
    A = cm.CodedMatrix(1j * np.eye(4), code=cm.codes.MDSCode(2, 4), engine=Scripted(4))
    for columns in (np.full(4, np.nan), np.array([1, 2, 3, 4], dtype=object)):
        with pytest.raises(cm.InvalidArgument, match="multiplied"):
            A.H @ columns


def test_columns_have_two_dimensions_at_most():
    A = cm.CodedMatrix(np.eye(4), code=cm.codes.MDSCode(2, 4), engine=Scripted(4))
    with pytest.raises(cm.InvalidArgument, match=r"shape \(2, 4, 3\)"):
        A @ np.ones((2, 4, 3))
