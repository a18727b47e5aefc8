"""Runs that were lost, filled: forms of inputs and answers, and what is said of them."""

from __future__ import annotations

import pickle
import re
import sys
from functools import cache

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest

import codedmap as cm
from codedmap import Status
from codedmap.estimation.surrogate import Estimates

from ..repeats import first

rng = np.random.default_rng(0)
X = rng.uniform(size=(80, 3))
Y = np.stack([np.sin(3 * X[:, 0]) + X[:, 1], X[:, 2] ** 2], axis=1)
LOST = np.arange(80) % 7 == 0


def lossy(answers: np.ndarray = Y) -> np.ndarray:
    answers = answers.copy()
    answers[LOST] = np.nan
    return answers


def test_what_is_known_stays_and_what_is_lost_is_estimated():
    result = cm.fill(X, lossy())
    np.testing.assert_array_equal(result.values[~LOST], Y[~LOST])
    assert (result.stderr[~LOST] == 0).all()
    assert (result.stderr[LOST] > 0).all()
    np.testing.assert_array_equal(result.status, np.where(LOST, Status.ESTIMATED, Status.EXACT))
    assert np.abs(result.values - Y).max() < 0.01
    assert (result.left_out < 0.01).all()
    assert "80 rows: 68 exact, 12 estimated" in str(result)
    np.testing.assert_allclose(result.deviation, Y[~LOST].std(axis=0), rtol=0.02)
    assert pickle.loads(pickle.dumps(result)).methods == result.methods


@pytest.mark.parametrize("row", [7, 8], ids=["lost", "known"])
def test_an_input_may_be_far_from_all_others(row):
    inputs = X.copy()
    inputs[row, 1] = 1e160
    result = cm.fill(inputs, lossy())
    assert np.isfinite(result.values).all()
    assert (result.stderr[row] > 1e300).all() == (row == 7)
    others = LOST & (np.arange(80) != row)
    assert result.stderr[others].max() < 2.0


def test_entries_that_are_missing_alone_are_filled_alone():
    answers = lossy()
    answers[3, 1] = np.nan
    result = cm.fill(X, answers)
    assert result.values[3, 0] == Y[3, 0]
    assert result.stderr[3, 0] == 0
    assert result.stderr[3, 1] > 0
    assert result.values[3, 1] == pytest.approx(Y[3, 1], abs=0.01)
    assert result.status[3] == Status.ESTIMATED


def test_outputs_without_gaps_are_left_alone():
    answers = np.concatenate([Y[:, :1], lossy()], axis=1)
    result = cm.fill(X, answers)
    assert result.methods[0] == "nothing is missing"
    assert np.isnan(result.left_out[0])
    assert (result.stderr[:, 0] == 0).all()
    np.testing.assert_array_equal(result.values[:, 1:], cm.fill(X, lossy()).values)
    assert cm.fill(X, Y).methods == ("nothing is missing",) * 2


def test_a_complex_number_is_lost_if_either_part_is():
    answers = np.stack([Y[:, 0], Y[:, 1], Y[:, 0] + Y[:, 1]], axis=1) * (1 + 0.5j)
    lost = answers.copy()
    lost.real[3, 0] = lost.imag[5, 0] = lost.real[6, 1] = lost.imag[9, 1] = lost.imag[12, 2] = (
        np.nan
    )
    result = cm.fill(X, lost)
    np.testing.assert_array_equal(result.stderr != 0, np.isnan(lost))
    np.testing.assert_allclose(result.values, answers, atol=0.02)


def test_one_run_that_is_there_is_enough_if_none_is_lost():
    result = cm.fill([[1.0]], [2.0])
    assert (result.values, result.status) == ([2.0], [Status.EXACT])


@pytest.mark.parametrize(
    ("answers", "names"),
    [
        (lossy(), ("y0", "y1")),
        (lossy()[:, 0], ("y",)),
        (lossy()[:, :1], ("y",)),
        (pd.Series(lossy()[:, 0]), ("y",)),
        (pd.Series(lossy()[:, 0], name="flow"), ("flow",)),
        (pd.Series(lossy()[:, 0], name=0), ("0",)),
        (polars.Series(lossy()[:, 0]), ("y",)),
    ],
)
def test_outputs_without_names_have_numbers_if_they_are_several(answers, names):
    result = cm.fill(X[:20, :1], answers[:20])
    assert (result.inputs, result.outputs) == (("x0",), names)


def test_answers_of_any_shape_and_kind():
    plain = cm.fill(X, lossy()).values
    assert cm.fill(X, lossy()[:, 0]).values.shape == (80,)
    shaped = cm.fill(X.reshape(80, 1, 3), lossy().reshape(80, 2, 1))
    np.testing.assert_allclose(shaped.values[..., 0], plain)
    narrow = cm.fill(X, lossy().astype(np.float32))
    assert narrow.values.dtype == narrow.stderr.dtype == np.float32
    masked = np.ma.array(Y, mask=np.repeat(LOST[:, None], 2, axis=1))
    np.testing.assert_allclose(cm.fill(X, masked).values, plain)
    counts = np.ma.array(np.arange(80), mask=LOST)
    assert cm.fill(X, counts).values.dtype == np.float64
    both = lossy()[:, 0] + 1j * lossy()[:, 1]
    result = cm.fill(X, both)
    assert result.values.dtype == np.complex128
    np.testing.assert_allclose(result.values, plain[:, 0] + 1j * plain[:, 1])


def test_frames_come_back_as_frames():
    frame = pd.DataFrame(lossy(), columns=["flow", "snow"], index=range(100, 180))
    result = cm.fill(pd.DataFrame(X, columns=list("abc")), frame)
    assert list(result.values.columns) == ["flow", "snow"]
    assert result.values.index.equals(frame.index)
    assert result.outputs == ("flow", "snow")
    assert result.inputs == ("a", "b", "c")
    series = cm.fill(X, frame["flow"])
    assert series.values.name == "flow"
    np.testing.assert_allclose(series.values, result.values["flow"])
    other = cm.fill(
        polars.DataFrame(dict(zip("abc", X.T, strict=True))),
        polars.DataFrame({"flow": lossy()[:, 0]}),
    )
    np.testing.assert_allclose(other.values["flow"], result.values["flow"])
    assert isinstance(cm.fill(X, polars.Series("flow", lossy()[:, 0])).values, polars.Series)


def test_what_pandas_marks_as_absent_is_lost():
    kept = np.where(LOST, None, X[:, 0] > 0.5)
    given = pd.Series(kept, dtype="boolean")
    result = cm.fill(X, given)
    np.testing.assert_array_equal(result.status == cm.Status.ESTIMATED, LOST)
    objects = cm.fill(X, given.astype(object))
    np.testing.assert_array_equal(objects.values, result.values)


@pytest.mark.slow
def test_labels_of_a_frame_may_be_equal():
    result = cm.fill(pd.DataFrame(X, columns=["a"] * 3), pd.DataFrame(lossy(), columns=["y", "y"]))
    np.testing.assert_array_equal(result.values, cm.fill(X, lossy()).values)
    assert list(result.values.columns) == ["y", "y"]
    assert result.inputs == ("a", "a", "a")


@pytest.mark.slow
def test_outputs_that_are_lost_in_many_ways_are_estimated_quickly(monkeypatch):
    thorough = []

    def recorded(points, answers, wanted, **options):
        thorough.append(options["thorough"])
        return Estimates(np.zeros((len(wanted), 1)), np.ones((len(wanted), 1)), np.ones(1), ("m",))

    monkeypatch.setattr(sys.modules["codedmap.api.fill"], "estimates", recorded)
    for outputs in (20, 150):
        answers = np.random.default_rng(0).uniform(size=(80, outputs))
        answers[np.arange(outputs) % 80, np.arange(outputs)] = np.nan
        answers[(np.arange(outputs) + 1 + np.arange(outputs) // 80) % 80, np.arange(outputs)] = (
            np.nan
        )
        thorough.clear()
        cm.fill(X, answers)
        assert len(thorough) >= outputs
        assert set(thorough) == {outputs < 100}
    monkeypatch.setattr(sys.modules["codedmap.api.fill"], "_LONG", 0.0)
    thorough.clear()
    cm.fill(X, lossy()[:, :1])  # one group is worth its time
    assert thorough == [True]


def test_known_answers_help():
    few = np.where(np.arange(80) < 8, Y[:, 0], np.nan)
    alone = cm.fill(X, few)
    helped = cm.fill(X[:40], few[:40], known=(X[40:], Y[40:, 0]))
    errors = [np.sqrt(((r.values[8:40] - Y[8:40, 0]) ** 2).mean()) for r in (alone, helped)]
    assert errors[1] < errors[0] / 4
    assert len(helped.values) == 40


@pytest.mark.parametrize("frame", first(1, [pd.DataFrame, polars.DataFrame]))
def test_known_columns_in_another_order_are_refused(frame):
    """By their place they would be taken for each other, and nothing said."""
    given = frame(dict(zip("abc", X.T, strict=True)))
    runs = frame({"flow": lossy()[:, 0], "snow": lossy()[:, 1]})
    known = frame({"a": X[:9, 0], "b": X[:9, 1], "c": X[:9, 2]})
    more = frame({"flow": Y[:9, 0], "snow": Y[:9, 1]})
    assert (cm.fill(given, runs, known=(known, more)).status < Status.FAILED).all()
    with pytest.raises(cm.InvalidArgument, match=r"in another order.*give X0\[X.columns\]"):
        cm.fill(given, runs, known=(known[["b", "a", "c"]], more))
    with pytest.raises(cm.InvalidArgument, match=r"in another order.*give y0\[y.columns\]"):
        cm.fill(given, runs, known=(known, more[["snow", "flow"]]))
    with pytest.raises(cm.InvalidArgument, match=r"give X0\[inputs.columns\]"):
        cm.map(lambda b: b["a"], given, deadline=9.0, known=(known[["b", "a", "c"]], Y[:9, 0]))


def test_rows_that_failed_are_not_filled():
    flags = np.zeros(80, dtype=bool)
    flags[[0, 7]] = True
    for failed in ([0, 7], flags):
        result = cm.fill(X, lossy(), failed=failed)
        assert result.status[[0, 7]].tolist() == [Status.FAILED] * 2
        assert np.isnan(result.values[[0, 7]]).all()
        assert np.isinf(result.stderr[[0, 7]]).all()
        assert result.status[14] == Status.ESTIMATED
    last = lossy()
    last[-1] = np.nan
    np.testing.assert_array_equal(
        cm.fill(X, last, failed=[79]).status[78:], [Status.EXACT, Status.FAILED]
    )
    assert cm.fill(X, lossy(), failed=[]).status[0] == Status.ESTIMATED
    partly = lossy()
    partly[7, 0] = Y[7, 0]
    result = cm.fill(X, partly, failed=[7])
    assert result.status[7] == Status.FAILED
    assert result.values[7, 0] == Y[7, 0]
    assert np.isnan(result.values[7, 1])
    every = cm.fill(X, np.full(80, np.nan), failed=range(80))
    assert (every.status == Status.FAILED).all()


def test_with_too_few_answers_rows_are_missing():
    for answered in ([], [3], [3, 5]):
        answers = np.full(80, np.nan)
        answers[answered] = 1.0
        result = cm.fill(X, answers)
        few = len(answered) < 2
        expected = np.full(80, Status.MISSING if few else Status.ESTIMATED)
        expected[answered] = Status.EXACT
        assert (result.methods == ("too few answers",)) == few
        np.testing.assert_array_equal(result.status, expected)
        assert np.isinf(result.stderr[expected == Status.MISSING]).all()


@pytest.mark.slow
def test_numbers_that_are_too_small_are_0_also_where_numpy_is_told_to_raise():
    answers = lossy(np.stack([np.sin(k * X[:, 0]) for k in range(-20, 20)], axis=1))
    subnormal = X * 1e-310
    with np.errstate(all="raise"):
        assert np.isfinite(cm.fill(X, answers).values).all()
        assert np.isfinite(cm.fill(subnormal, answers[:, :2]).values).all()


def test_infinite_answers_stay_and_are_not_used():
    answers = lossy()[:, 0]
    plain = cm.fill(np.delete(X, 1, axis=0), np.delete(answers, 1))
    answers[1] = np.inf
    result = cm.fill(X, answers)
    assert result.values[1] == np.inf
    assert result.status[1] == Status.EXACT
    np.testing.assert_allclose(np.delete(result.values, 1)[::6], plain.values[::6], atol=1e-3)


def test_an_infinite_output_costs_no_other_output_its_row():
    answers = lossy()
    answers[np.ix_(~LOST, [0])] = np.inf
    result = cm.fill(X, answers)
    assert result.methods[0] == "too few answers"
    np.testing.assert_array_equal(result.values[:, 1], cm.fill(X, lossy()[:, 1]).values)
    partly = lossy(Y * (1 + 1j))
    known = Y[LOST] * (1 + 1j)
    known[:, 0] = np.nan
    filled = cm.fill(X, partly, known=(X[LOST], known)).values
    assert np.abs(filled - Y * (1 + 1j))[:, 1].max() < 1e-6


def test_losses_that_depend_on_the_inputs_are_named():
    points = np.random.default_rng(1).uniform(size=(300, 3))
    answers = np.sin(3 * points[:, 0])
    answers[points[:, 1] > 0.8] = np.nan
    frame = pd.DataFrame(points, columns=["rain", "slope", "soil"])
    with pytest.warns(UserWarning, match=r"not lost at random: of the rows with slope > 0\.[78]"):
        result = cm.fill(frame, answers)
    assert "slope" in result.losses
    assert "not lost at random: of the rows with slope" in str(result)
    assert cm.fill(X, lossy()).losses is None


def test_losses_that_depend_on_a_known_output_are_named():
    points = np.random.default_rng(2).uniform(size=(200, 4))
    peak = np.sin(5 * points.sum(axis=1))  # no input alone says much of it
    volume = np.where(peak > 0.8, np.nan, peak**2 + points[:, 0])
    frame = pd.DataFrame({"volume": volume, "peak": peak})
    frame[:5] = np.nan  # runs without any output tell nothing of outputs
    with pytest.warns(UserWarning, match=r"not lost at random: of the rows with peak > 0\.[78]"):
        assert "peak" in cm.fill(points, frame).losses
    frame["volume"] = np.where(np.arange(200) % 5, peak**2, np.nan)
    assert cm.fill(points, frame).losses is None


@pytest.mark.slow
def test_of_inputs_and_known_outputs_the_one_that_says_most_is_named():
    """The classifier finds that losses depend on four inputs together, and named a region of two."""
    points = np.random.default_rng(0).random((400, 4))
    peak = np.sin(4 * points.sum(axis=1))
    answers = np.stack([peak, np.where(peak > 0.7, np.nan, peak**2 + points[:, 0])], axis=1)
    with pytest.warns(UserWarning, match="not lost at random"):
        result = cm.fill(points, answers)
    assert re.match(
        r"of the rows with y0 > 0\.[67]\d* 100% are lost, of the others 0%", result.losses
    )


def test_a_picture_shows_what_is_estimated():
    figure = cm.fill(X, lossy()).plot("y1")
    assert [axes.get_xlabel() for axes in figure.axes] == ["x2", "x0", "x1"] or (
        figure.axes[0].get_xlabel() == "x2"
    )
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_output_that_has_the_name_of_another_is_drawn_by_its_number():
    result = cm.fill(X, pd.DataFrame(lossy(), columns=["y", "y"]))
    drawn = [result.plot(k).axes[0].get_lines()[0].get_ydata() for k in range(2)]
    np.testing.assert_array_equal(np.transpose(drawn), Y[~LOST])


WITHOUT = X.copy()
WITHOUT[5, 1] = WITHOUT[7, 0] = np.inf
DATES = np.full(80, "2026-01-01", "M8[D]")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((X[:10], Y), "X has 10 rows and y 80"),
        ((pd.DataFrame(X), pd.Series(Y[:, 0])[::-1]), "the same index in another order"),
        (
            (pd.DataFrame(X, [0, 1] * 40), pd.Series(Y[:, 0], [0] * 40 + [1] * 40)),
            "the same index in another order",
        ),
        ((X, pd.DataFrame({"s": ["a"] * 80})), "column 's' of y has no numbers.*: give numbers$"),
        (
            (pd.DataFrame({"soil": ["clay", "sand"] * 40}), Y),
            "column 'soil' of X has no numbers.*get_dummies",
        ),
        ((WITHOUT, Y), r"2 of 240 entries of X are NaN or infinite \(the first is x1 of row 5\)"),
        ((np.ma.array(X, mask=X > 0.9), Y), "of 240 numbers of X are masked"),
        ((X, ["a"] * 80), "y has no numbers; its dtype is"),
        (([[10**400]] * 80, Y), "X has no numbers; its dtype is object"),
        ((X, DATES), "y has no numbers.*: give numbers, such as the days since the first$"),
        ((DATES, Y), "X has no numbers.*: give numbers, such as the days since the first$"),
        ((X, {"s": [1.0] * 80}), r"y is a dict, and has no rows: give pandas.DataFrame\(y\)"),
        ((polars.DataFrame(X).lazy(), Y), r"not polars.LazyFrame: give X.collect\(\)"),
        ((X, pyarrow.table({"s": Y[:, 0]})), r"not pyarrow.Table: give y.to_pandas\(\)"),
        ((X, 3.0), r"y of shape \(\) must have a row for each run"),
        (([[1.0, 2.0], [3.0]], [1.0, np.nan]), "X cannot be made an array.*the same shape"),
        ((np.zeros(0), np.zeros(0)), "row for each run"),
        (
            (np.zeros((80, 0)), Y),
            r"X of shape \(80, 0\) must have a row for each run, of one number",
        ),
        ((pd.DataFrame(index=range(80)), Y), r"X of shape \(80, 0\) must have a row for each run"),
        ((X, pd.DataFrame(index=range(80))), r"y of shape \(80, 0\) must have a row for each run"),
        ((pd.DataFrame({"a": []}), []), r"X of shape \(0, 1\) must have a row for each run"),
        ((polars.DataFrame({"a": []}), []), r"X of shape \(0, 1\) must have a row for each run"),
    ],
)
def test_bad_input_is_one_clear_error(arguments, said):
    with pytest.raises(cm.InvalidArgument, match=said):
        cm.fill(*arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"failed": [7, 9, 11]}, "row 9 is failed, and no answer of it is missing"),
        ({"failed": [True] * 79}, "must be 80 of True and False, or numbers of rows"),
        ({"failed": [80]}, "names row 80 of 80"),
        ({"failed": [3, -1]}, "names row -1 of 80"),
        ({"failed": [0.5]}, "numbers of rows"),
        ({"failed": [[1], [2, 3]]}, "failed cannot be made an array"),
        ({"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        ({"seed": "a"}, "seed='a' must be a whole number"),
        ({"known": X}, "must be a pair"),
        ({"known": (X, Y[:, 0])}, "the known y0 has 1 number a row, and y 2: give"),
        ({"known": (X[:, :2], Y)}, "the known X0 has 2 numbers a row, and X 3: give"),
        ({"known": (X[:5], Y)}, "^X0 has 5 rows and y0 80"),
        ({"known": (X, {"a": 1})}, r"y0 is a dict, and has no rows: give pandas.DataFrame\(y0\)"),
        ({"known": (X, [["a"]] * 80)}, "^y0 has no numbers; its dtype is <U1: give numbers$"),
    ],
)
def test_bad_options_are_one_clear_error(options, said):
    with pytest.raises(cm.InvalidArgument, match=said):
        cm.fill(X, lossy(), **options)


WAVE = np.sin(3 * X[:, 0]) + X[:, 1]
UNITS = np.array([1e-12, 1e12, 1.0])


@pytest.mark.parametrize(
    ("inputs", "answers"),
    [
        (np.ones((80, 3)), rng.normal(size=80)),
        (np.repeat(X[:20], 4, axis=0), rng.normal(size=80)),
        (X, np.full(80, 5.0)),
        (X, np.zeros(80, np.float32)),
        (X, np.stack([WAVE, np.zeros(80)], axis=1)),
        (X, np.where(X[:, 0] > 0.5, 1.7e308, -1.7e308)),
        (X, 5e-324 * np.round(WAVE)),
        (X, (3e4 * WAVE).astype(np.float16)),
        (rng.normal(size=(80, 300)), WAVE),
        (np.exp(60 * X), WAVE),
        (X[:, :1] * [1, 0, 0], WAVE),
        (X > 0.5, WAVE),
    ],
    ids=[
        "equal rows", "repeated rows", "constant", "zero", "one is zero", "largest", "smallest", "narrow", "many inputs",
        "orders", "constant inputs", "truth values",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:answers to equal inputs differ")
def test_whatever_it_is_given_an_estimate_is_a_number_with_an_error(inputs, answers):
    result = cm.fill(inputs, lossy(answers))
    assert (result.status[LOST] == Status.ESTIMATED).all()
    assert np.isfinite(result.values).all()
    errors = result.stderr[LOST]
    assert np.isfinite(errors).all()
    assert (errors > 0).all()
    assert (result.stderr[~LOST] == 0).all()


@cache
def plain_waves() -> cm.FillResult:
    return cm.fill(X, lossy(WAVE))


@pytest.mark.parametrize("scale", first(2, [1e308, 1e-300, UNITS, 1e140, 1e-140]), ids=str)
def test_the_units_of_inputs_and_answers_make_no_difference(scale):
    plain = plain_waves()
    other = cm.fill(X * scale, lossy(WAVE))
    np.testing.assert_allclose(other.values, plain.values, atol=1e-5)
    np.testing.assert_allclose(other.stderr, plain.stderr, rtol=0.5)
    if scale is not UNITS:
        other = cm.fill(X, lossy(WAVE / 3) * scale)
        np.testing.assert_allclose(other.values / scale * 3, plain.values, atol=1e-5)
        np.testing.assert_allclose(other.stderr / scale * 3, plain.stderr, rtol=0.5)


def test_the_units_of_inputs_make_no_difference_to_where_rows_are_lost():
    answers = WAVE.copy()
    answers[X[:, 1] > 0.7] = np.nan
    for scale in (1.0, 1e-12, 1e-300, 1e300):
        with pytest.warns(UserWarning, match="not lost at random"):
            assert "x1 > " in cm.fill(X * scale, answers).losses


@pytest.mark.parametrize("scale", [1.0, 1e300, 1e-300])
def test_answers_that_vary_by_chance_are_named(scale):
    twice, noise = np.repeat(X[:40], 2, axis=0), 0.1 * np.tile([1.0, -1.0], 40)
    answers = np.stack([twice[:, 0], WAVE.repeat(2)[:80] + noise], axis=1) * scale
    answers[::16] = np.nan
    said = rf"answers to equal inputs differ, those in y1 by a standard deviation of {0.141 * scale:.3g}"
    with pytest.warns(UserWarning, match=said.replace("+", r"\+")):
        result = cm.fill(twice, answers)
    assert (result.stderr[::16, 1] > 0.05 * scale).all()


def test_their_standard_deviation_is_that_of_all_inputs_that_are_equal():
    times = np.array([1, 2, 3, 5, 2, 1, 1])
    which = np.repeat(np.arange(7), times)
    answers = np.sin(which) + np.random.default_rng(1).normal(size=len(which))
    groups = [answers[which == k] for k in range(7) if times[k] > 1]
    pooled = np.sqrt(sum(len(g) * g.var() for g in groups) / sum(len(g) - 1 for g in groups))
    with pytest.warns(UserWarning, match=rf"those in y by a standard deviation of {pooled:.3g}:"):
        cm.fill(which[:, None], answers)


@pytest.mark.parametrize("mark", first(1, [-9999.0, 1e20, -1.7e308]))
def test_equal_answers_far_from_all_others_are_remarked(mark):
    answers = lossy()
    answers[[3, 5, 8], 1] = mark
    with pytest.warns(
        UserWarning, match=re.escape(f"3 answers in y1 are {mark:.6g}, and all others")
    ):
        cm.fill(X, answers)


@pytest.mark.parametrize("mark", first(1, [2.0, np.inf]))
def test_equal_answers_near_others_or_infinite_are_not(mark, recwarn):
    answers = lossy()
    answers[[3, 5, 8], 1] = mark
    cm.fill(X, answers)
    cm.fill(X, np.where(np.isnan(answers), np.nan, answers > 0.5))
    assert not [one for one in recwarn if "all others" in str(one.message)]


def test_an_answer_far_beyond_all_others_is_not_used_and_that_is_said():
    answers = lossy()
    before = cm.fill(X, answers)
    answers[4, 0] = 1e30
    with pytest.warns(
        UserWarning, match=r"y0 of row 4 is 1e\+30, and all others.*name the runs in failed="
    ):
        found = cm.fill(X, answers)
    assert found.values[4, 0] == 1e30
    lost = np.isnan(answers[:, 0])
    assert np.abs(found.values[lost, 0] - before.values[lost, 0]).max() < 0.1
    assert found.deviation[0] < 10.0
    points, known = np.delete(X, 4, axis=0), np.delete(answers, 4, axis=0)
    with pytest.warns(UserWarning, match=r"y0 of row 0 of known is 1e\+30"):
        cm.fill(points, known, known=(X[4:5], answers[4:5]))


def test_answers_that_are_lost_or_infinite_differ_from_none(recwarn):
    twice = np.repeat(X[:20], 2, axis=0)
    answers = np.repeat(WAVE[:20], 2)
    answers[::8], answers[4::8] = np.nan, np.inf
    cm.fill(twice, answers)
    cm.fill(X[:20], WAVE[:20])
    assert not [one for one in recwarn if "equal inputs" in str(one.message)]


@pytest.mark.parametrize("dtype", first(1, [np.float32, np.complex64, np.complex128]))
def test_tables_keep_their_dtype(dtype):
    """Complex columns ended with an error of NumPy, and float32 became float64."""
    lost = lossy()[:, :2].astype(dtype) * (1.0 if dtype is np.float32 else dtype(1.0 + 0.5j))
    array = cm.fill(X, lost)
    frame = cm.fill(X, pd.DataFrame(lost, columns=["a", "b"])).values
    assert set(frame.dtypes) == {array.values.dtype}
    np.testing.assert_array_equal(frame, array.values)
    series = cm.fill(X, pd.Series(lost[:, 0])).values
    assert series.dtype == array.values.dtype
    assert np.isfinite(series).all()


def test_complex_columns_of_a_frame_are_two_outputs_each():
    complete = WAVE * (1.0 + 0.5j)
    answers = pd.DataFrame({"a": np.where(X[:, 0] > 0.8, np.nan, complete), "b": complete})
    with pytest.warns(UserWarning, match=r"100% are lost"):
        result = cm.fill(X, answers)
    assert result.outputs == ("a.real", "a.imag", "b.real", "b.imag")
    assert "a.imag" in str(result)
    assert result.values["a"].dtype.kind == "c"
