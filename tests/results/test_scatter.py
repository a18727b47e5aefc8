"""Pictures of outputs against inputs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import codedmap as cm
from codedmap.results.scatter import columns_of

pytest.importorskip("matplotlib").use("agg")
RNG = np.random.default_rng(0)
DESIGN = pd.DataFrame({"noise": RNG.random(80), "depth": RNG.random(80)})


def model(noise, depth):
    if depth > 0.9:
        raise ValueError("too deep")
    return {"flow": depth + 1e-3 * noise, "pair": np.array([noise, depth]), "word": "w"}


@pytest.fixture(scope="module")
def engine():
    with ThreadPoolExecutor(2) as engine:
        yield engine


def drawn(panel):
    """How many points each label has in a panel."""
    counts = {line.get_label(): len(line.get_xdata()) for line in panel.get_lines()}
    counts |= {c.get_label(): len(c.lines[0].get_xdata()) for c in panel.containers}
    return {label: n for label, n in counts.items() if not label.startswith("_")}


def test_a_sweep_is_drawn_against_the_inputs_that_matter_first(engine):
    result = cm.sweep(model, DESIGN, engine=engine)
    figure = result.plot("flow")
    assert [panel.get_xlabel() for panel in figure.axes] == ["depth", "noise"]
    assert figure._repr_png_().startswith(b"\x89PNG")
    failed = int((DESIGN.depth > 0.9).sum())
    assert drawn(figure.axes[0]) == {"exact": 80 - failed, "failed": failed}
    marks = next(x for x in figure.axes[0].get_lines() if x.get_label() == "failed")
    np.testing.assert_array_equal(
        np.sort(marks.get_xdata()), np.sort(DESIGN.depth[DESIGN.depth > 0.9])
    )
    assert result.plot("pair_0").axes[0].get_xlabel() == "noise"
    for number, name in enumerate(("flow", "pair_0", "pair_1", "word")[:3]):
        for place in (number, np.int64(number - 4)):
            assert result.plot(place).axes[0].get_ylabel() == name


@pytest.mark.parametrize("output", ["pair", 4, -5, None, "word"])
def test_an_output_that_cannot_be_drawn_is_refused(engine, output):
    message = "only real numbers are drawn" if output == "word" else "flow, pair_0, pair_1, word"
    with pytest.raises(cm.InvalidArgument, match=message):
        cm.sweep(model, DESIGN, engine=engine).plot(output)


def test_estimates_have_bars_and_missing_rows_are_marked(engine):
    X = RNG.random((60, 8))
    result = cm.map(np.sin, X, engine=engine, stop=cm.Share(0.5), chunk=2, hedge=None)
    estimated = int((result.status == cm.Status.ESTIMATED).sum())
    figure = result.plot(X, "y_3")
    assert len(figure.axes) == 6
    assert figure.axes[0].get_xlabel() == "input 3"
    assert drawn(figure.axes[0]) == {"exact": 60 - estimated, "estimated": estimated}
    words = ["even" if k % 2 else "odd" for k in range(60)]
    with pytest.warns(UserWarning, match="MISSING"):
        result = cm.map(
            cm.itemwise(len), words, engine=engine, stop=cm.Share(0.5), chunk=1, hedge=None
        )
    (panel,) = result.plot(words).axes
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["even", "odd"]
    assert drawn(panel) == {"exact": int(result.exact.sum()), "missing": int((~result.exact).sum())}


def test_inputs_with_an_equal_influence_are_drawn_in_their_order(engine):
    X = np.stack([np.arange(5.0)] * 3, axis=1)
    for rows in (1, 2, 5):
        axes = cm.map(np.sin, X[:rows], engine=engine).plot(X[:rows]).axes
        assert [panel.get_xlabel() for panel in axes] == ["input 0", "input 1", "input 2"]


@pytest.mark.parametrize(
    ("inputs", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 3)), (9, (2, 3))]
)
def test_panels_stand_side_by_side_and_have_room(inputs, grid, engine):
    X = RNG.random((20, inputs))
    figure = cm.map(np.sin, X, engine=engine).plot(X)
    places = [panel.get_subplotspec().get_geometry() for panel in figure.axes]
    assert places == [(*grid, k, k) for k in range(min(inputs, 6))]
    high, wide = figure.get_size_inches()[::-1] / grid
    assert 2.4 < high < wide < 4.0
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["exact"]


def test_axes_of_ones_own_have_as_many_inputs_as_there_are_axes(engine):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots(1, 2)
    assert cm.sweep(model, DESIGN, engine=engine).plot("flow", axes=axes[:1]) is figure
    assert [panel.get_xlabel() for panel in axes] == ["depth", ""]
    for given in (
        axes[1],
        figure.subplots(2, 2),
    ):  # one, and an array of more than there are inputs
        assert cm.sweep(model, DESIGN, engine=engine).plot("flow", axes=given) is figure
    assert axes[1].get_xlabel() == "depth"
    assert [panel.get_xlabel() for panel in given.flat] == ["depth", "noise", "", ""]


def test_answers_that_are_no_numbers_are_marked_as_missing(engine):
    answers = np.array([1.0, 4.0, np.nan, np.inf, -np.inf])
    result = cm.map(np.abs, answers, engine=engine)
    (panel,) = result.plot(np.arange(5.0)).axes
    assert drawn(panel) == {"exact": 2, "missing": 3}
    (panel,) = replace(result, status=np.array([0, 1, 1, 1, 1])).plot(np.arange(5.0)).axes
    assert drawn(panel) == {"exact": 1, "estimated": 1, "missing": 3}


def test_of_many_rows_some_are_drawn_and_of_many_categories_none_is_named(engine):
    rows = 5000
    words = np.array([f"{k % 13:02} of a long name of a category" for k in range(rows)])

    def fn(batch):
        if (batch[:, 0] < 10).any():
            raise ValueError
        return batch[:, 0]

    X = np.arange(rows)[:, None]
    result = cm.map(fn, X, engine=engine, on_error="record", chunk=10, hedge=None)
    (panel,) = result.plot({"word": words}).axes
    assert drawn(panel) == {"exact": 4000, "failed": 10}
    assert len(panel.get_xticks()) != 13
    (panel,) = result.plot({"word": np.where(words == words[12], words[0], words)}).axes
    assert [tick.get_text() for tick in panel.get_xticklabels()] == [w[:20] for w in words[:12]]


@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".parquet"])
def test_what_was_written_is_drawn(engine, tmp_path, suffix):
    X = RNG.random((40, 2))
    out = tmp_path / f"out{suffix}"
    result = cm.map(np.sin, X, engine=engine, stop=cm.Share(0.5), chunk=2, hedge=None, out=out)
    estimated = int((result.status == cm.Status.ESTIMATED).sum())
    assert estimated
    panel = result.plot(X, "y_1").axes[0]
    assert drawn(panel) == {"exact": 40 - estimated, "estimated": estimated}


def test_an_output_in_a_file_may_have_the_name_of_an_input(engine, tmp_path):
    out = tmp_path / "out.parquet"
    answers = {"depth": -DESIGN.depth, "values": DESIGN.noise}
    result = cm.map(
        lambda rows: {n: a[rows.index] for n, a in answers.items()}, DESIGN, engine=engine, out=out
    )
    for name, column in answers.items():
        line = result.plot(DESIGN, name).axes[0].get_lines()[0]
        np.testing.assert_array_equal(line.get_ydata(), column)
    swept = cm.sweep(model, DESIGN, engine=engine, out=tmp_path / "swept.parquet")
    assert swept.run.plot(DESIGN).axes[0].get_ylabel() == "flow"


def test_trees_are_drawn_by_the_names_of_their_parts(engine):
    X = RNG.random((30, 2))
    result = cm.map(lambda x: (x, {"a": x[:, 0]}), X, engine=engine)
    for name, values in (("y_0_1", X[:, 1]), ("y_1_a", X[:, 0])):
        panel = result.plot(X, name).axes[0]
        np.testing.assert_array_equal(panel.get_lines()[0].get_ydata(), values)


def test_inputs_are_columns():
    assert list(columns_of((DESIGN, np.ones((80, 2))))) == [
        "0: noise", "0: depth", "1: input 0", "1: input 1",
    ]  # fmt: skip
    assert columns_of({"a": [1, 2]})["a"].tolist() == [1, 2]
    for inputs in ("text", [], [[1], [1, 2]], 3):
        with pytest.raises(cm.InvalidArgument, match="cannot be drawn"):
            columns_of(inputs)


def test_inputs_of_another_job_are_refused(engine):
    result = cm.map(np.sin, np.ones((5, 2)), engine=engine)
    with pytest.raises(cm.InvalidArgument, match="has 5 rows and the inputs have 6"):
        result.plot(np.ones((6, 2)))


@pytest.mark.parametrize(
    ("names", "labels"),
    [(["a", "a", "a (2)"], {"a", "a (2)", "a (2) (2)"}), ([1, "1", "b"], {"1", "1 (2)", "b"})],
)
def test_inputs_of_one_name_have_a_panel_each(names, labels):
    points = RNG.random((30, 3))
    answers = np.where(np.arange(30) < 3, np.nan, points.sum(axis=1))
    axes = cm.fill(pd.DataFrame(points, columns=names), answers).plot().axes
    assert {panel.get_xlabel() for panel in axes} == labels
    if len(set(names)) == 3:
        assert set(columns_of(pd.DataFrame(points, columns=names))) == labels


def test_entries_that_were_filled_are_drawn_by_what_is_known_of_each():
    """A row may have failed, and yet have an answer for one of its outputs."""
    status = np.array([0, 1, 2, 2, 2, 3, 3])
    errors = np.array([[0.0, 0.5, np.inf, np.inf, 0.0, np.inf, 0.25]]).T
    values = np.where(np.isfinite(errors), 1.0, np.nan)
    result = cm.results.FillResult(
        values=values, stderr=errors, status=status, methods=("mean",), left_out=np.ones(1), deviation=np.ones(1),
        losses=None, outputs=("y",), inputs=("x",), _points=np.arange(7.0)[:, None], _flat=values, _errors=errors,
    )  # fmt: skip
    (panel,) = result.plot("y").axes
    assert drawn(panel) == {"exact": 2, "estimated": 2, "failed": 2, "missing": 1}
    (bars,) = panel.containers
    np.testing.assert_array_equal(bars.lines[0].get_xdata(), [1.0, 6.0])
