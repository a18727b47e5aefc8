"""What an error says in the end: each step once, none that cannot help, none that contradicts another."""

from __future__ import annotations

import itertools
import pickle
import re
import types
import warnings

import numpy as np
import pytest

import codedmap as cm
from codedmap.contracts.stopping import Progress
from codedmap.results.summary import outputs_lines, undecoded
from codedmap.testing import Scripted, corrupt, crash, fail, never

pytestmark = pytest.mark.usefixtures("virtual_time")

X = np.random.default_rng(0).normal(size=(12, 3))
RAISING = fail(ValueError("bad weights"))


def alternating(one, other):
    return lambda n: {slot: (one, other)[slot % 2] for slot in range(n - 1)}


SCRIPTS = {
    "all raise": lambda n: dict.fromkeys(range(n), RAISING),
    "all crash": lambda n: dict.fromkeys(range(n), crash()),
    "all but one raise": lambda n: dict.fromkeys(range(n - 1), RAISING),
    "all but one crash": lambda n: dict.fromkeys(range(n - 1), crash()),
    "raise and crash": alternating(RAISING, crash()),
    "raise and late": alternating(RAISING, never()),
    "crash and late": alternating(crash(), never()),
    "late": lambda n: dict.fromkeys(range(n - 1), never()),
    "all late": lambda n: dict.fromkeys(range(n), never()),
    "wrong": lambda n: dict.fromkeys(range(n - 1), corrupt(lambda answer: answer * np.nan)),
    "two shapes": lambda n: dict.fromkeys(range(n // 2), corrupt(lambda answer: np.ones((5, 7)))),
    "contradicting": lambda n: {1: corrupt(lambda answer: answer + 1.0)},
}
HOPELESS = cm.Outcome.UNSATISFIABLE.value
MAPPED = [
    cm.Uncoded(6),
    cm.Replication(3, 6),
    cm.Replication(2, 6, confirm=2),
    cm.SplineCode(3, 6, 1),
    cm.LagrangeCode(3, 6, 1, 2),
    cm.LagrangeCode(6, 9, 2, 1, tolerance=3e-15),
    cm.KernelCode(3, 6, 1),
    cm.KernelCode(3, 6, 1, 0.0),
]
SUMMED = [
    cm.codes.CyclicGradientCode(6, 2),
    cm.codes.FractionalRepetition(6, 2),
    cm.codes.IgnoreStragglers(6, 2),
]
MULTIPLIED = [cm.codes.MDSCode(3, 6), cm.codes.PolarCode(4, 8), cm.Replication(3, 6), cm.Uncoded(3)]


def mapped(code, engine, stop):
    cm.map(np.sin, X, code=code, engine=engine, stop=stop, retries=0)


def text_mapped(code, engine, stop):
    cm.map(
        lambda batch: np.full(len(batch), "text"), X, code=code, engine=engine, stop=stop, retries=0
    )


def summed(code, engine, stop):
    cm.sum(np.sum, np.arange(12.0), code=code, engine=engine, stop=stop)


def multiplied(code, engine, stop):
    cm.CodedMatrix(np.ones((12, 2)), code=code, engine=engine, stop=stop) @ np.ones(2)


CALLS = [
    *((mapped, code) for code in MAPPED),
    *((text_mapped, code) for code in (cm.Replication(3, 6), cm.KernelCode(3, 6, 1, 0.0))),
    *((summed, code) for code in SUMMED),
    *((multiplied, code) for code in MULTIPLIED),
]


def said(call, code, script, stop):
    """The message of the error that a call ends with, if it does."""
    with (
        Scripted(code.workers, SCRIPTS[script](code.workers)) as engine,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            call(code, engine, stop)
        except (cm.NotEnoughAnswers, cm.InvalidAnswer) as error:
            return str(error) if str(error).startswith("stopped after") else None
    return None


def steps_of(message):
    last = message.rpartition(". ")[2]
    return [step.lower() for step in re.split(r"; |, or ", last)]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0].__name__} {call[1]!r:.40}")
def test_a_message_names_each_step_once_and_none_that_cannot_help(call):
    found = 0
    for script, stop in itertools.product(SCRIPTS, (None, cm.Everyone(), cm.Deadline(0.02))):
        if ("late" in script) != isinstance(stop, cm.Deadline):
            continue  # would wait for ever, or perhaps not long enough
        if call[0] in (text_mapped, summed) and script in ("wrong", "contradicting"):
            continue  # where answers are no numbers, to change them would raise
        message = said(*call, script, stop)
        if message is None:
            continue
        found += 1
        where = f"{script}, {stop}: {message}"
        steps = steps_of(message)
        assert len(set(steps)) == len(steps), where
        for step in steps:
            assert message.lower().count(step) == 1, where
        waits = len(re.findall(r"\bwait\b", message.lower()))
        assert waits == ("still running" in message and HOPELESS not in message), where
        failed = " failed, " in message  # what fails in time
        crashed, raised = ("crash" in script and failed), ("raise" in script and failed)
        assert ("see why workers ended" in message.lower()) == crashed, where
        assert ("which raised" in message) == (raised and call[0] is not multiplied), where
        if "0 of" in message:
            assert "take what there is" not in message.lower(), where
        counts = re.findall(r"(\d+ of \d+) workers (?:answered,|gave)", message)
        assert len(set(counts)) == len(counts), where
    assert found >= 5


def test_a_step_that_a_code_names_is_left_out_where_it_cannot_help():
    message = said(mapped, cm.Replication(3, 6), "all raise", None)
    assert message.endswith("no copy of 3 tasks (0, 1, 2) is among them. Correct fn, which raised")


def test_a_code_of_ones_own_that_says_to_wait_is_not_repeated():
    reason = cm.NotEnoughAnswers("6 are needed: wait longer, or add copies")
    seen = Progress(frozenset(range(6)), frozenset(range(1, 6)), frozenset(), 0.02, False)
    text = str(undecoded(reason, seen, cm.Outcome.DEADLINE, {}))
    assert text.lower().count("wait longer") == 1
    other = str(undecoded(cm.NotEnoughAnswers("6 are needed"), seen, cm.Outcome.DEADLINE, {}))
    assert other.lower().count("wait longer") == 1


def test_steps_are_part_of_the_message_and_travel_with_the_error():
    with pytest.raises(cm.NotEnoughAnswers) as caught:
        cm.Replication(2, 4).encode(np.ones((2, 1))).decode({0: np.ones(1)})
    error = caught.value
    assert str(error) == (
        "1 of 4 workers gave a usable answer, and no copy of task 1 is among them: wait longer, use more "
        'workers, or fill the gap with fill="mean"'
    )
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problem, again.steps) == (str(error), error.problem, error.steps)
    assert str(cm.NotEnoughAnswers("nothing came", "wait longer")) == "nothing came: wait longer"
    assert str(cm.InvalidArgument("no")) == "no"
    assert str(cm.EngineError()) == ""


@pytest.mark.parametrize(
    "error",
    [
        cm.errors.CommandFailed("the program ended with exit code 3", "look at it", returncode=3),
        cm.errors.RowFailed("row 2 failed", "correct it", "leave it out", row=2),
        cm.errors.Unreachable("no selection meets the targets", error=0.5, seconds=2.0),
    ],
    ids=repr,
)
def test_what_an_error_knows_travels_with_it(error):
    known = dict(vars(error))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), known)
    assert {"returncode": 3, "row": 2, "error": 0.5}.items() & known.items()
    assert str(error).startswith(error.problem)


# Things that are no engine


class Client:
    """Looks like the client of Dask, which need not be installed."""

    __module__ = "distributed.client"


Cluster = type("Cluster", (), {"__module__": "distributed.deploy.cluster"})
OwnCluster = type("OwnCluster", (Cluster,), {})
Future = type("Future", (), {"__module__": "distributed.client"})
OtherClient = type("Client", (), {"__module__": "httpx"})
ActorPool = type("ActorPool", (), {"__module__": "ray.util.actor_pool"})


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        (Client(), "codedmap.engines.Dask(client)"),
        (OwnCluster(), "codedmap.engines.Dask(cluster.get_client())"),
        (ActorPool(), "codedmap.engines.Ray()"),
        (types.ModuleType("ray"), "codedmap.engines.Ray()"),
        (3, "codedmap.engines.Local(workers=6)"),
        (Future(), "codedmap.engines.Local(workers=6)"),
        (OtherClient(), "codedmap.engines.Local(workers=6)"),
    ],
    ids=["client", "cluster", "actors", "ray", "number", "future", "other client"],
)
def test_what_is_no_engine_is_answered_with_the_one_that_was_meant(given, instead):
    code = cm.Replication(3, 6)
    for call in (
        lambda: cm.map(np.sin, X, code=code, engine=given),
        lambda: cm.sum(np.sum, X, code=cm.codes.CyclicGradientCode(6, 2), engine=given),
        lambda: cm.CodedMatrix(X, code=cm.codes.MDSCode(3, 6), engine=given),
        lambda: cm.plan(np.sin, X, engine=given),
    ):
        with pytest.raises(cm.InvalidArgument, match=r"engine=.*is n") as caught:
            call()
        message = str(caught.value).replace("workers=8", "workers=6")  # without a code
        assert f"give {instead}" in message or f"as {instead}" in message
    if "Local" not in instead:
        with pytest.raises(cm.InvalidArgument) as caught:
            cm.map(np.sin, X, code="auto", engine=given)
        assert str(caught.value).endswith(f"give {instead}")


def test_the_real_client_of_dask_is_recognised():
    distributed = pytest.importorskip("distributed")
    client = distributed.Client.__new__(distributed.Client)
    from codedmap.contracts.engine import engine_for

    assert engine_for(client) == "codedmap.engines.Dask(client)"
    with pytest.raises(cm.InvalidArgument, match=r"give codedmap.engines.Dask\(client\)"):
        cm.map(np.sin, X, engine=distributed.cfexecutor.ClientExecutor(client))
    assert engine_for(distributed.LocalCluster.__new__(distributed.LocalCluster)) == (
        "codedmap.engines.Dask(cluster.get_client())"
    )


# Data frames, of which fn is given arrays


class DataFrame:
    """As far as NumPy looks at one."""

    __module__ = "pandas"

    def __array__(self, dtype=None, copy=None):
        return X


def by_name(batch):
    return batch["first"]


def by_attribute(batch):
    return batch.first


def by_index(batch):
    return batch[:, 7]


NOTE = "its batches are NumPy arrays, made from the pandas DataFrame that was given"


@pytest.mark.parametrize("fn", [by_name, by_attribute, by_index])
def test_a_function_that_takes_its_batch_for_a_data_frame_is_answered_with_what_it_is(fn):
    code = cm.Replication(3, 6)
    with Scripted(6) as engine:
        with pytest.raises(cm.errors.RowFailed) as caught:
            cm.map(fn, DataFrame(), code=code, engine=engine)
        assert f"Correct fn or this input ({NOTE}), " in str(caught.value)
        with pytest.raises(cm.NotEnoughAnswers) as whole:
            cm.map(fn, DataFrame(), code=code, engine=engine, retries=0)
        assert str(whole.value).endswith(f"Correct fn, which raised ({NOTE})")
        with pytest.raises(cm.errors.RowFailed) as caught:
            cm.map(fn, X, code=code, engine=engine)  # which is an array already
        assert "NumPy" not in str(caught.value)


def test_a_function_that_raises_something_else_is_not():
    def fn(batch):
        raise ValueError("bad weights")

    with Scripted(6) as engine, pytest.raises(cm.errors.RowFailed) as caught:
        cm.map(fn, DataFrame(), code=cm.Replication(3, 6), engine=engine)
    assert "NumPy" not in str(caught.value)


def test_a_real_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["first", "second", "third"])
    with Scripted(6) as engine:
        result = cm.map(np.sin, frame, code=cm.Replication(3, 6), engine=engine)
        np.testing.assert_array_equal(result.values, np.sin(X))
        with pytest.raises(cm.errors.RowFailed, match=re.escape(NOTE)):
            cm.map(by_name, frame, code=cm.Replication(3, 6), engine=engine)


def test_the_deviation_beside_standard_errors_is_that_of_usual_answers():
    column = np.append(np.arange(100.0) % 2, 0.5)
    column[7] = 1e30  # a simulation that diverged
    status = np.append(np.full(100, cm.Status.EXACT), cm.Status.ESTIMATED)
    (line,) = outputs_lines({"q": column}, {"q": np.append(np.zeros(100), 0.1)}, status)
    assert line.endswith("over the deviation: q 20 %")


def test_the_outputs_with_the_largest_standard_errors_are_named_first():
    """Of 150 outputs the first six were named, and the seventh was off by its deviation."""
    status = np.array([cm.Status.EXACT, cm.Status.EXACT, cm.Status.ESTIMATED])
    values = {f"y_{k}": np.array([-1.0, 1.0, 0.0]) for k in range(9)}
    stderr = {name: np.array([0.0, 0.0, 0.01 * k]) for k, name in enumerate(values)}
    (line,) = outputs_lines(values, stderr, status)
    assert line.partition("deviation: ")[2].startswith("y_8 8 %, y_7 7 %, ")
    assert line.endswith("y_3 3 %, ...")


def test_the_error_of_the_engine_is_raised_where_there_is_no_other():
    reason, outcome = cm.NotEnoughAnswers("6 are needed"), cm.Outcome.UNSATISFIABLE
    none, some = (Progress(frozenset(range(6)), frozenset(one), frozenset({3, 4}), 0.5, False) for one in ((), (1,)))  # fmt: skip
    gone, other, ended = (
        cm.EngineError("gone"),
        cm.EngineError("other"),
        cm.errors.Abandoned("ended"),
    )
    assert undecoded(reason, none, outcome, {3: gone}) is gone
    assert undecoded(reason, none, outcome, {3: gone, 4: other}) is gone
    assert undecoded(reason, none, outcome, {3: gone, 4: ended}) is gone
    found = undecoded(reason, none, outcome, {3: ended, 4: gone})
    assert type(found) is cm.EngineError
    assert str(found) == (
        "0 of 6 workers answered, 4 still running, 2 failed, worker 3 first with Abandoned: ended; "
        "leave the engine open, and its calls uncancelled, until all are done"
    )
    assert found.__cause__ is ended
    for seen, failures in ((some, {3: gone}), (none, {}), (none, {3: ValueError("x"), 4: gone})):
        found = undecoded(reason, seen, outcome, failures)
        assert type(found) is cm.NotEnoughAnswers
        assert found.__cause__ is next(iter(failures.values()), None)


def test_where_all_answers_are_equal_an_error_is_no_share_of_their_deviation():
    """It was said to be less than 0.1 % of it."""
    status = np.array([cm.Status.EXACT, cm.Status.EXACT, cm.Status.ESTIMATED])
    values = {"same": np.full(3, 7.0), "y": np.array([0.0, 4.0, 1.0])}
    stderr = {"same": np.array([0.0, 0.0, 2.0]), "y": np.array([0.0, 0.0, 1.8e-3])}
    (line,) = outputs_lines(values, stderr, status)
    assert line.endswith("deviation: y < 0.1 %")
    stderr["y"][2] = 2.2e-3
    (line,) = outputs_lines(values, stderr, status)
    assert line.endswith("deviation: y 0.11 %")
    assert outputs_lines({"same": values["same"]}, stderr, status) == []
