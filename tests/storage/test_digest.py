"""Checksums of rows, and of what functions are made of."""

from __future__ import annotations

import functools
import itertools
import logging
import subprocess
import sys
import textwrap
import threading
from types import FunctionType

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest

import codedmap as cm
from codedmap.storage.digest import RowsDigest, checksum, fingerprint

from ..repeats import first

FACTOR = 2.0
TABLE = np.arange(3.0)
OF_THE_PROGRAM = logging.getLogger("model"), np.random.mtrand._rand  # as of a distribution of SciPy


def helper(x):
    return x + 1


def scaled(x, by=3.0, *, power=1):
    return helper(x) * FACTOR * by**power + TABLE[0]


class Model:
    def __init__(self, weights):
        self.weights = weights

    def __call__(self, x):
        return self.weights * x


def variant(old: str, new: str) -> FunctionType:
    """The function ``scaled`` in a module whose text is changed."""
    text = textwrap.dedent(
        """
        import numpy as np
        FACTOR = 2.0
        TABLE = np.arange(3.0)
        def helper(x):
            return x + 1
        def scaled(x, by=3.0, *, power=1):
            def inner(y):
                return y - 5
            return inner(helper(x)) * FACTOR * by**power + TABLE[0]
        """
    )
    assert old in text
    space = {"__name__": "variant"}
    exec(text.replace(old, new), space)
    return space["scaled"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("* FACTOR", "/ FACTOR"),
        ("y - 5", "y - 6"),
        ("y - 5", "y + 5"),
        ("FACTOR = 2.0", "FACTOR = 2.5"),
        ("np.arange(3.0)", "np.arange(4.0)"),
        ("x + 1", "x + 2"),
        ("by=3.0", "by=4.0"),
        ("power=1", "power=2"),
        ("TABLE[0]", "TABLE[1]"),
    ],
)
def test_a_change_of_the_code_and_of_what_it_uses_shows(old, new):
    assert fingerprint(variant(old, old)) == fingerprint(variant(old, old))
    assert fingerprint(variant(old, old)) != fingerprint(variant(old, new))


OF_A_CLASS = """
import functools
class Model:
    RATE = 0.1
    @staticmethod
    def plus(x):
        return x + 1
    @classmethod
    def minus(cls, x):
        return x - 2
    @property
    def three(self):
        return 3
    @functools.cached_property
    def four(self):
        return 4
    def __call__(self, x):
        return self.plus(self.minus(x)) * self.RATE * self.three * self.four
"""


@pytest.mark.parametrize("line", ["RATE = 0.1", "x + 1", "x - 2", "return 3", "return 4"])
def test_a_change_of_a_class_shows(line):
    made = []
    for text in (OF_A_CLASS, OF_A_CLASS, OF_A_CLASS.replace(line, f"{line}5")):
        space = {"__name__": "variant"}
        exec(text, space)
        made.append(fingerprint(space["Model"]()))
    assert made[0] == made[1] != made[2]


def test_keyword_arguments_that_change_places_show():
    made = []
    for names in ("low, high", "high, low"):
        space = {"__name__": "variant"}
        first, second = names.split(", ")
        exec(f"def fn(x, *, {names}): return x * {first} - {second}", space)
        made.append(fingerprint(space["fn"]))
    assert made[0] != made[1]


def test_a_comment_or_a_docstring_elsewhere_does_not():
    assert fingerprint(variant("x + 1", "x + 1  # one")) == fingerprint(variant("x", "x"))


def test_a_variable_that_has_the_name_of_an_attribute_does_not_show():
    made = []
    for mean in (1.0, 2.0):
        space = {"__name__": "variant", "mean": mean, "std": mean}
        exec("def fn(x):\n    def inner(y): return y.std()\n    return x.mean() + inner(x)", space)
        made.append(fingerprint(space["fn"]))
    assert made[0] == made[1]


def closure(value):
    return lambda x: x * value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (closure(1.0), closure(2.0)),
        (closure(np.ones(3)), closure(np.zeros(3))),
        (closure({"a": [1, 2]}), closure({"a": [1, 3]})),
        (closure(1), closure(True)),
        (closure(1), closure(1.0)),
        (closure(pd.DataFrame({"a": [1]})), closure(pd.DataFrame({"a": [2]}))),
        (closure(pyarrow.array([1])), closure(pyarrow.array([2]))),
        (functools.partial(scaled, by=1.0), functools.partial(scaled, by=2.0)),
        (cm.itemwise(closure(1)), cm.itemwise(closure(2))),
        (Model(np.ones(3)), Model(np.zeros(3))),
        (Model(1.0).__call__, Model(2.0).__call__),
        (functools.cache(closure(1)), functools.cache(closure(2))),
        (np.sin, np.cos),
        (len, abs),
        (cm.Replication(2, 4), cm.Replication(2, 6)),
        ({1, 2}, {1, 3}),
        (np.random.default_rng(0), np.random.default_rng(1)),
        (closure(map(abs, [1])), closure(map(abs, [2]))),
        (closure(zip([1], [2], strict=True)), closure(zip([1], [3], strict=True))),
    ],
)
def test_what_a_function_closes_over_shows(one, other):
    assert fingerprint(one) != fingerprint(other)


def test_what_cannot_be_pickled_and_what_refers_to_itself():
    lock = threading.Lock()
    assert fingerprint(closure(lock)) == fingerprint(closure(threading.Lock()))
    # Python 3.14 does not pickle those of itertools.
    assert fingerprint(closure(itertools.count())) == fingerprint(closure(itertools.count()))
    loop: list = [1]
    loop.append(loop)
    assert fingerprint(loop) == fingerprint(loop)

    def recursive(n):
        return recursive(n - 1) if n else 0

    assert fingerprint(recursive) == fingerprint(recursive)


@pytest.mark.parametrize("seed", first(1, ["1", "2"]))
def test_it_is_the_same_in_another_process(seed):
    code = (
        "from tests.storage.test_digest import *\n"
        "print(fingerprint(scaled), fingerprint(Model(TABLE)), fingerprint({'a', 'b', 'c'}),"
        " fingerprint(closure({'x': {1.5, 2.5}})), fingerprint(OF_THE_PROGRAM))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
    ).stdout  # fmt: skip
    here = [scaled, Model(TABLE), {"a", "b", "c"}, closure({"x": {1.5, 2.5}}), OF_THE_PROGRAM]
    assert found == " ".join(map(fingerprint, here)) + "\n"


FRAME = {"a": [1, None, 3, 4, 5, 6], "b": ["x", "long", None, "y", "z", "z"], "c": [0.5] * 6}
ROWS = [
    np.arange(12.0).reshape(6, 2),
    ["a", "b", "c", {"d": 1}, None, (1, 2)],
    pd.DataFrame(FRAME),
    pd.DataFrame(FRAME).astype({"a": "Int64", "b": "category"}),
    polars.DataFrame(FRAME),
]


def test_rows_have_the_same_checksum_however_they_are_cut():
    for rows in ROWS:
        whole = checksum([rows])
        digest = RowsDigest()
        for begin, end in ((0, 1), (1, 4), (4, 6)):
            digest.add([rows[begin:end]])
        assert digest.hex() == whole
        assert checksum([rows[:5]]) != whole
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert checksum([frame]) == checksum([frame.copy()])
    assert checksum([frame]) != checksum([frame.replace("y", "z")])
