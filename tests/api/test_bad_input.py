"""Each bad input gives one clear error, with numbers and the next step, before anything is computed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
import xarray
from dask.bag import from_sequence
from dask.dataframe import from_pandas
from distributed import Future
from scipy import sparse

import codedmap as cm
from codedmap import codes
from codedmap.contracts import memory
from codedmap.testing import Scripted, corrupt, crash, fail, never

X = np.ones((8, 3))

Estimate = cm.contracts.Estimate


def refused(match: str, fn=np.sin, inputs=X, code=None, engine=None, **more):
    """The message of the InvalidArgument that `map` raises; asserts that nothing was computed."""
    engine = Scripted(6) if engine is None else engine
    with pytest.raises(cm.InvalidArgument, match=match):
        cm.map(fn, inputs, code=code or cm.SplineCode(3, 6, 1), engine=engine, **more)
    assert not getattr(engine, "calls", [])


def test_inputs_of_wrong_rank_or_size():
    refused("and not a single value$", inputs=np.float64(3))
    for code in (None, cm.SplineCode(3, 6, 1)):
        for inputs, step in (
            (3.0, "of type float$"),
            (5, r"of type int: give range\(5\), say$"),
            ({"a": X}, r"of type dict: give pandas.DataFrame\(inputs\), if these are columns$"),
            ({1, 2}, r"of type set: give list\(inputs\)$"),
        ):
            with Scripted(6) as engine, pytest.raises(cm.InvalidArgument, match=step):
                cm.map(np.sin, inputs, code=code, engine=engine)
    refused(r"shape \(0, 3\) are empty", inputs=np.ones((0, 3)))
    refused(r"shape \(4, 0\) are empty", inputs=np.ones((4, 0)))


@pytest.mark.parametrize(
    ("inputs", "step"),
    [
        (polars.DataFrame(X).lazy(), r"polars.LazyFrame: give inputs.collect\(\)"),
        (pyarrow.table({"a": X[:, 0]}), r"pyarrow.Table: give inputs.to_pandas\(\)"),
        (pyarrow.record_batch({"a": X[:, 0]}), r"pyarrow.RecordBatch: give inputs.to_pandas\(\)"),
        (dask.delayed(X), r"dask.DelayedLeaf: give inputs.compute\(\)"),
        (dask.delayed(np.ones)(3), r"dask.Delayed: give inputs.compute\(\)"),
        ([dask.delayed(1.0)], r"list of dask.DelayedLeaf: give list\(dask.compute\(\*inputs\)\)"),
        ([Future("a")], r"a list of distributed.Future: give client.gather\(inputs\)"),
        (Future("a"), r"distributed.Future: give inputs.result\(\)"),
        (from_pandas(pd.DataFrame(X), npartitions=2), r"dask.DataFrame: give inputs.compute\(\)"),
        (from_pandas(pd.Series(X[:, 0])), r"dask.Series: give inputs.compute\(\)"),
        (from_sequence([1, 2]), r"dask.Bag: give inputs.compute\(\)"),
        (xarray.Dataset({"a": ("n", X[:, 0])}), r"xarray.Dataset: give inputs.to_dataframe\(\)"),
        (sparse.csr_array(X), r"scipy.csr_array: give inputs.toarray\(\)"),
        (np.array(["a"], np.dtypes.StringDType()), r"StringDType: give inputs.astype\(object\)"),
        (zip(X, X, strict=True), r"the iterator gave an object of type tuple.*give list\(inputs\)"),
        (enumerate(X), r"the iterator gave an object of type tuple.*give list\(inputs\)"),
    ],
)
def test_inputs_that_are_like_rows_and_are_none(inputs, step):
    refused(step, inputs=inputs)
    with Scripted(2) as engine:
        with pytest.raises(cm.InvalidArgument, match=step):
            cm.map(np.sin, inputs, engine=engine)
        with pytest.raises(cm.InvalidArgument, match=step):
            cm.plan(np.sin, inputs, engine=engine)
        assert not engine.calls


def test_a_function_that_is_async():
    async def sin(x):
        return np.sin(x)

    class Sine:
        async def __call__(self, x):
            return np.sin(x)

    for fn in (sin, cm.itemwise(sin), cm.itemwise(Sine())):
        refused("fn is async.*asyncio.run", fn=fn)
    with Scripted(2) as engine, cm.Pool(engine) as pool:
        for wrong in (
            lambda: cm.plan(sin, X, engine=engine),
            lambda: cm.sweep(sin, {"x": [1.0, 2.0]}, engine=engine),
            lambda: pool.map(sin, [1.0, 2.0]),
            lambda: pool.submit(sin, 1.0),
        ):
            with pytest.raises(cm.InvalidArgument, match=r"fn is async.*asyncio.run"):
                wrong()
        assert not engine.calls


def test_several_inputs_with_a_code():
    for code in (cm.SplineCode(3, 6, 1), cm.Replication(3, 6)):
        refused(
            "takes one array.*a tuple is 2 of them.*leave out the code", inputs=(X, X), code=code
        )


def test_inputs_of_more_axes_than_numpy_has_room_for():
    refused("inputs have 61 axes, and 60 are the most", inputs=np.ones((8, *[1] * 60)))
    most = np.ones((8, *[1] * 59))
    for code in (cm.SplineCode(3, 6, 1), cm.KernelCode(3, 6, 1), cm.Replication(3, 6)):
        with Scripted(6) as engine:
            assert cm.map(np.sin, most, code=code, engine=engine).values.shape == most.shape


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_inputs_that_are_not_finite(bad):
    broken = X.copy()
    broken[5, 1] = bad
    for code in (
        cm.SplineCode(3, 6, 1), cm.BerrutCode(3, 6, 1), cm.Uncoded(6), cm.LagrangeCode(3, 6, 1, degree=1),
        cm.SplineCode(3, 6, 1, encoder_smoothing="gcv"), cm.SplineCode(3, 6, 1, order="path"),
        cm.SplineCode(3, 6, 1, clip=(-9.0, 9.0)), cm.BerrutCode(3, 6, 1, clip=(-9.0, 9.0)),
        cm.KernelCode(4, 6, 2),
    ):  # fmt: skip
        refused(
            "1 of 8 input rows hold NaN or infinity.*row 5.*drop or fill.*or leave out the code",
            inputs=broken,
            code=code,
        )
    with Scripted(2) as engine:
        assert cm.map(np.isfinite, broken, engine=engine).exact.all()


@pytest.mark.parametrize("row", range(8))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_mixture_tells_of_every_input_that_is_not_finite(row, dtype):
    for bad in (np.nan, np.inf, -np.inf):
        broken = X.astype(dtype)
        broken[row, 1] = bad
        refused(f"1 of 8 input rows .*row {row}", inputs=broken, code=cm.SplineCode(3, 6, 1))


def test_inputs_are_not_blamed_for_a_mixture_that_overflows():
    code = cm.SplineCode(2, 6, 1)
    huge = np.array([[1.7e308], [-1.7e308]])
    with np.errstate(over="ignore"):
        assert not np.isfinite(code.encode(huge[:, None]).payloads).all()
    with Scripted(6) as engine, pytest.warns(RuntimeWarning, match="overflow"):
        assert np.isfinite(cm.map(np.sign, huge, code=code, engine=engine).values).all()


@pytest.mark.parametrize(
    ("dtype", "unit"), [(np.float32, 2.0**100), (np.float64, 2.0**1000), (np.float64, 2.0**-900)]
)
def test_a_mean_and_its_error_are_the_same_in_any_unit(dtype, unit):
    rows = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(dtype)
    code = cm.Replication(3, 3, fill="mean")
    found = []
    for scale in (1.0, unit):
        with Scripted(3, {1: never()}) as engine:
            scaled = rows * np.dtype(dtype).type(scale)
            stop = cm.Deadline(0.1)
            result = cm.map(np.copy, scaled, code=code, engine=engine, stop=stop, hedge=None)
        found.append((result.values / scale, result.stderr / scale))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert found[0][1].max() > 0.1


def test_large_finite_inputs_are_not_mistaken_for_infinite_ones():
    huge = np.full((8, 3), 1e308)
    with Scripted(6) as engine:
        assert cm.map(
            lambda b: b / 1e308, huge, code=cm.Replication(3, 6), engine=engine
        ).exact.all()


@pytest.mark.parametrize("inputs", [np.arange(8), np.array(list("abcdefgh")), np.array([None] * 8)])
def test_inputs_that_cannot_be_mixed(inputs):
    refused("cannot be mixed, as SplineCode must: cast them", inputs=inputs)


def test_arguments_that_are_no_code_function_engine_or_possible_rule():
    refused("is not a code", code=3)
    refused("'automatic' is not a code.*or \"auto\"", code="automatic")
    refused("which have to be in memory, and answers without out", code="auto", out="answers.npy")
    refused("tolerance", code="auto", tolerance={"flow": 0.1})
    refused("cannot be called", fn="model.onnx")
    refused("neither an engine nor an Executor", engine="local")
    refused("neither an engine nor an Executor", engine=cm.engines.Local)
    refused("is not a stopping rule", stop=5)
    refused(r"has none: .* time instead, as Quorum\(5\) \| Deadline\(2\) does", tolerance=0.1)
    refused("is not a stopping rule", stop=cm.Quorum)
    refused("cannot be mixed.*or use a code that copies", inputs=[[1.0, 2.0], [3.0]])
    refused(r"Quorum\(7\) would not stop even when all 6", stop=cm.Quorum(7))
    refused(r"Share\(0.5\) would not stop .* answered: give Quorum\(", stop=cm.Share(0.5))
    refused("Slower.* compares the times of rows", stop=cm.Quorum(3) | cm.Slower(1.5))
    refused("version=2.5 must be text or a whole number", version=2.5)


def test_all_rows_of_an_iterator_cannot_be_one_call():
    engine = Scripted(2)
    with pytest.raises(cm.InvalidArgument, match=r"are an iterator.* give a number of rows"):
        cm.map(np.sin, iter([X[:5], X[5:]]), engine=engine, chunk="all")
    assert not engine.calls


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: cm.SplineCode(0, 5, 1), "tasks=0 must be a whole number of at least 1"),
        (lambda: cm.SplineCode(3, 0, 0), "workers=0"),
        (lambda: cm.BerrutCode(3, 5, 5), "5 stragglers of 5 workers.*at most 4"),
        (lambda: cm.BerrutCode(3, 5, 9), "9 stragglers of 5 workers"),
        (lambda: cm.SplineCode(3, 5, -1), "stragglers=-1"),
        (lambda: cm.SplineCode(3.5, 5, 1), "tasks=3.5"),
        (lambda: cm.SplineCode(True, 5, 1), "tasks=True"),
        (lambda: cm.SplineCode(3, 5, 1, points="random"), 'choose "chebyshev" or "uniform"'),
        (lambda: cm.SplineCode(3, 5, 1, encoder_smoothing=-1.0), "encoder_smoothing=-1.0"),
        (lambda: cm.SplineCode(3, 5, 1, decoder_smoothing="cv"), "decoder_smoothing='cv'"),
        (lambda: cm.SplineCode(3, 5, 1, decoder_smoothing=np.nan), "decoder_smoothing=nan"),
        (lambda: cm.SplineCode(3, 5, 1, clip=(1.0, 0.0)), "low < high"),
        (lambda: cm.Replication(5, 3), "3 workers cannot hold a copy of each of 5 tasks"),
        (
            lambda: cm.Replication(2, 4, fill="median"),
            'fill=.median. is unknown: choose None or "mean"',
        ),
        (lambda: cm.Replication(2, 4, confirm=3), "confirm=3 must be between 1 and 2"),
        (lambda: cm.Uncoded(0), "tasks=0"),
        (
            lambda: cm.LagrangeCode(5, 10, 2, degree=2),
            r"\(K - 1\)·degree \+ 1 = 9 answers.*at least 11 workers",
        ),
        (lambda: cm.LagrangeCode(5, 20, 2, degree=0), "degree=0"),
        (lambda: cm.LagrangeCode(5, 20, 2, 2, tolerance=0), "tolerance=0"),
        (lambda: cm.Quorum("a"), "answers='a'"),
        (lambda: cm.SplineCode(2, 4, 1, decoder_smoothing=None), "decoder_smoothing=None"),
        (lambda: cm.SplineCode(2, 4, 1, clip=[0, 1]), r"clip=\[0, 1\] must be a tuple"),
        (lambda: cm.Replication(2, 3, confirm=2), "confirm=2 must be 1, the copies that 3 workers"),
        (lambda: cm.SplineCode(list(range(10**5)), 4, 1), r"^tasks=\[0, 1.{75} must be a whole"),
        (lambda: cm.Deadline(np.arange(10**5).tolist()), r"^Deadline\(\[0, 1.{75}\) must be"),
        (lambda: cm.Replication(2, 4, confirm=1.5), "confirm=1.5"),
        (lambda: cm.engines.Local(2, grace="a"), "grace='a'"),
        (lambda: cm.engines.Local(0), "workers=0"),
        (lambda: cm.engines.Local(1, grace=-1), "grace=-1"),
        (lambda: cm.testing.Scripted(0), "workers=0"),
        (lambda: cm.OnnxModel("no/such/model.onnx"), "no model file 'no/such/model.onnx'"),
    ],
)
def test_constructors_refuse_what_cannot_work(make, match):
    with pytest.raises(cm.InvalidArgument, match=match):
        make()


def test_inputs_beyond_the_clip():
    refused(
        r"reach from 1 to 1, beyond clip=\(0.0, 0.5\)", code=cm.SplineCode(3, 6, 1, clip=(0.0, 0.5))
    )


def test_the_parts_of_complex_inputs_keep_their_precision():
    """The step was a view as float64, of which two numbers of complex64 are one."""
    inputs, code = (
        np.full((3, 2, 1), 0.5 + 0.25j, np.complex64),
        cm.SplineCode(3, 6, 1, clip=(0, 1)),
    )
    with pytest.raises(
        cm.InvalidArgument, match=r"of their own \(inputs.view\(inputs.real.dtype\)"
    ):
        code.encode(inputs)
    payloads = code.encode(inputs.view(inputs.real.dtype)).payloads
    np.testing.assert_allclose(payloads, np.broadcast_to([0.5, 0.25], (6, 2, 2)), atol=1e-6)


def test_payloads_stay_within_the_clip():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(0, 1, (6, 20, 4))
    free = cm.SplineCode(6, 18, 2).encode(inputs).payloads
    kept = cm.SplineCode(6, 18, 2, clip=(0.0, 1.0)).encode(inputs).payloads
    assert free.min() < 0 or free.max() > 1
    np.testing.assert_array_equal(kept, np.clip(free, 0, 1))


@pytest.mark.parametrize(
    ("fn", "match"),
    [
        (lambda b: b[:1], "1 row .*payload of 3 rows,.*one row per row"),
        (lambda b: b.sum(), "a single number.*itemwise"),
        (lambda b: (b, b), "a tuple.*concatenate them along the last axis"),
        (lambda b: {"scores": b}, "a dict.*concatenate"),
        (lambda b: None, "a NoneType"),
        (lambda b: b > 0, "dtype bool cannot be interpolated.*scores instead of labels"),
    ],
)
def test_answers_of_no_usable_form(fn, match):
    with Scripted(6) as engine, pytest.raises(cm.InvalidAnswer, match=match):
        cm.map(fn, X, code=cm.SplineCode(3, 6, 1), engine=engine)


@pytest.mark.parametrize("axes", [61, 64])
@pytest.mark.parametrize("code", [cm.SplineCode(3, 6, 1), cm.Replication(3, 6)], ids=repr)
def test_answers_of_more_axes_than_numpy_has_room_for(code, axes):
    def fn(batch):
        return np.ones((len(batch), *[1] * (axes - 1)))

    told = f"arrays of {axes} axes, and 60 are the most.*reshape"
    with Scripted(6) as engine, pytest.raises(cm.InvalidAnswer, match="6 of 6 .*" + told):
        cm.map(fn, X, code=code, engine=engine, stop=cm.Everyone())
    with Scripted(6, {1: corrupt(fn)}) as engine:
        result = cm.map(np.sin, X, code=code, engine=engine, stop=cm.Everyone())
    assert result.rejected == (1,)


def test_payloads_that_do_not_fit_into_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    monkeypatch.setattr(memory, "_LITTLE", 0)
    with Scripted(6) as engine:
        with pytest.raises(
            cm.errors.NotEnoughMemory,
            match=r"N/K = 2.00 times.* 2\.16 KB.* take 8\.64 KB.* 1 KB are free.*fewer rows",
        ):
            cm.map(np.sin, np.ones((90, 3)), code=cm.SplineCode(3, 6, 1), engine=engine)
        assert not engine.calls


HUGE = 10**12


@pytest.mark.parametrize(
    "make",
    [
        lambda: cm.Uncoded(HUGE),
        lambda: cm.Replication(8, HUGE),
        lambda: cm.SplineCode(8, HUGE, 0),
        lambda: cm.SplineCode(HUGE, 3, 0),
        lambda: cm.BerrutCode(8, HUGE, 0),
        lambda: cm.LagrangeCode(8, HUGE, 0, 1),
        lambda: cm.KernelCode(8, HUGE, 0),
        lambda: codes.MDSCode(8, HUGE),
        lambda: codes.PolarCode(8, 2**40),
        lambda: codes.FractionalRepetition(HUGE, 3),
        lambda: codes.CyclicGradientCode(HUGE, 3),
        lambda: codes.CyclicGradientCode(10**7, 3),
        lambda: codes.PolynomialGradientCode(HUGE, 3, 1),
        lambda: codes.GroupedGradientCode(HUGE + 1, 4, 2),
        lambda: codes.GroupedGradientCode(10**9, 10**9, 2),
        lambda: codes.IgnoreStragglers(HUGE, 3),
        lambda: codes.MDSCode(10**7, 10**8),
    ],
)
def test_a_code_of_more_workers_or_tasks_than_memory_holds(make):
    with pytest.raises(
        cm.errors.NotEnoughMemory,
        match=r" take [\d,.]+ [TG]B, but only .* are free\. Use (fewer|smaller)",
    ):
        make()


@pytest.mark.parametrize(
    ("run", "match"),
    [
        (lambda: codes.CyclicGradientCode(2_000, 3), r"4e\+06 coefficients .*128 MB.*Fractional"),
        (lambda: codes.PolynomialGradientCode(2_000, 3, 2), r"8e\+06 coefficients .*256 MB"),
        (lambda: codes.GroupedGradientCode(4_000, 2_000, 2), "group of 2000 .*64 MB.*smaller"),
        (lambda: codes.MDSCode(1_000, 4_000), "weights of MDSCode.*48 MB.*PolarCode"),
        (
            lambda: cm.LagrangeCode(1_000, 3_000, 0, 1).encode(np.zeros((1_000, 1, 1))),
            "degree 999 at 3000 points.*72 MB.*SplineCode",
        ),
        (
            lambda: cm.SplineCode(2_000, 3, 0, order="path").arranged(np.zeros((2_000, 1))),
            "distances between 2000 tasks.*64 MB.*fewer tasks",
        ),
        (
            lambda: cm.Replication(2, 4_000).encode(np.zeros((2, 10, 200))),
            "4000 payloads of 10 rows each take 64 MB.*fewer",
        ),
    ],
)
def test_what_a_code_makes_is_weighed_before_it_is_made(run, match, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 35 << 20)
    with pytest.raises(cm.errors.NotEnoughMemory, match=match):
        run()


def test_groups_of_far_more_tasks_than_there_are_rows(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 35 << 20)
    with (
        Scripted(3) as engine,
        pytest.raises(
            cm.errors.NotEnoughMemory,
            match=r"K = 4000 tasks, filled up where 3960 .*80 MB.*fewer tasks",
        ),
    ):
        cm.map(np.sin, np.ones((40, 2_500)), code=cm.SplineCode(4_000, 3, 0), engine=engine)


def test_what_is_free_is_known_here_and_less_than_a_petabyte():
    free = memory.free_memory()
    if not Path("/proc/meminfo").exists():
        assert free is None
    else:
        assert 0 < free < 1e15


def test_a_function_that_cannot_be_sent():
    lock = threading.Lock()
    with (
        cm.engines.Local(1) as engine,
        pytest.raises(cm.errors.CannotSend, match="inside the function"),
    ):
        cm.map(lambda b: (lock, b)[1], X, code=cm.Uncoded(1), engine=engine)


def test_an_executor_that_is_shut_down_says_so():
    pool = ThreadPoolExecutor(2)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        cm.map(np.sin, X, code=cm.Uncoded(2), engine=pool)


@pytest.mark.parametrize("smoothing", [1e308, np.inf, np.nan, -1.0, Fraction(1, 3), 10**400, "GCV"])
def test_smoothing_that_cannot_be_computed_with_is_refused(smoothing):
    for name in ("encoder_smoothing", "decoder_smoothing"):
        with pytest.raises(cm.InvalidArgument, match=rf"{name}=.* from 0 to 1e\+100"):
            cm.SplineCode(3, 6, 1, **{name: smoothing})


def test_complex_inputs_have_no_bounds_to_clip_to():
    code = cm.SplineCode(6, 9, 1, clip=(0, 0.5))
    with pytest.raises(cm.InvalidArgument, match="bounds real numbers"):
        code.encode(np.zeros((6, 1, 2), complex))


def test_a_dtype_too_coarse_for_the_tolerance_is_refused_before_computing():
    refused(
        "could not decode answers to inputs of dtype float16 even if all 6 workers gave one.*above "
        "the tolerance of 1e-06: use fewer tasks or more workers, or compute in float64",
        inputs=X.astype(np.float16),
        code=cm.LagrangeCode(3, 6, 1, degree=1),
    )


def test_a_function_that_gives_nothing_but_nan_is_told_apart_from_one_that_raises():
    with Scripted(6) as engine, pytest.raises(cm.NotEnoughAnswers) as told:
        cm.map(lambda b: b * np.nan, X, code=cm.SplineCode(3, 6, 1), engine=engine)
    said = str(told.value)
    assert "6 left out because their answers are not finite" in said
    assert "See what fn gives for inputs as they are: if NaN, correct it" in said
    assert said.endswith('Take what there is with on_error="record"')
    assert "raised" not in said
    assert "wait longer" not in said


def test_the_next_step_is_that_of_what_happened():
    def told(script):
        with Scripted(6, script) as engine, pytest.raises(cm.NotEnoughAnswers) as error:
            cm.map(np.sin, X, code=cm.Replication(3, 6), engine=engine, retries=0)
        return str(error.value).rpartition(". ")[2]

    raising, crashing = fail(ValueError("bad weights")), crash()
    assert told(dict.fromkeys(range(6), raising)) == "Correct fn, which raised"
    assert told(dict.fromkeys(range(6), crashing)).startswith("See why workers ended (memory")
    some = told({0: raising, 3: crashing})
    assert some == (
        "Correct fn, which raised; see why workers ended (memory, preemption, a crash in fn); use more "
        'workers; fill the gap with fill="mean", or take what there is with on_error="record"'
    )


def test_a_long_message_of_an_exception_is_not_repeated_whole():
    error = ValueError("x" * 100_000)
    engine = Scripted(3, dict.fromkeys(range(3), fail(error)))
    with engine, pytest.raises(cm.NotEnoughAnswers, match="99,500 characters more") as told:
        cm.map(np.sin, X, code=cm.Uncoded(3), engine=engine)
    assert len(str(told.value)) < 2_000
    assert told.value.__cause__ is error


def test_an_engine_that_somebody_closes_during_the_call_is_told_as_such():
    engine = cm.engines.Local(2)
    closing = threading.Timer(0.3, engine.close)
    closing.start()
    with pytest.raises(cm.EngineError, match="the engine has been closed: create a new one"):
        cm.map(nap_on, np.full((2, 1), 60.0), code=cm.Uncoded(2), engine=engine)
    closing.join()


def nap_on(batch):
    time.sleep(float(batch[0, 0]))
    return batch


@pytest.mark.parametrize(
    ("made", "match"),
    [
        (lambda v, e: Estimate(v.swapaxes(0, 1), e, None, ()), r"values of shape \(4, 2, 3\)"),
        (
            lambda v, e: Estimate(v[..., None], e, None, ()),
            r"not an array \(K, B, ...\) = \(2, 4, 3\)",
        ),
        (lambda v, e: Estimate(v.tolist(), e, None, ()), "not an array"),
        (
            lambda v, e: Estimate(v, e.astype(int), None, ()),
            r"exact that is not a boolean .* \(2, 4\)",
        ),
        (lambda v, e: Estimate(v, e, np.zeros((2, 4)), ()), "not above 0 for each value"),
        (lambda v, e: Estimate(v, e, [[0.0] * 4] * 2, ()), "not above 0 for each value"),
        (lambda v, e: Estimate(v, e, np.ones((2, 3)), ()), r"stderr of shape \(2, 3\)"),
        (lambda v, e: v, "a ndarray, and must return"),
    ],
)
def test_what_a_code_of_ones_own_decodes_wrongly(made, match):
    class Copies:
        tasks, workers, stragglers = 2, 4, 0

        def encode(self, inputs):
            return Copied(np.concatenate([inputs, inputs]))

    class Copied:
        def __init__(self, payloads):
            self.payloads = payloads

        def decodable(self, answered):
            return len(answered) == 4

        def decode(self, answers):
            values = np.stack([answers[0], answers[1]])
            return made(values, np.zeros(values.shape[:2], dtype=bool))

    with (
        Scripted(4) as engine,
        pytest.raises(cm.InvalidArgument, match=f"decode of Copies returned .*{match}"),
    ):
        cm.map(np.sin, np.ones((8, 3)), code=Copies(), engine=engine)
