"""ONNX models as functions: small ones, written here, whose answers are known."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import codedmap as cm

pytest.importorskip("onnxruntime")

KINDS = {"float32": 1, "int64": 7, "float16": 10, "float64": 11}


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a message of protocol buffers."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    data = value.encode() if isinstance(value, str) else value
    assert len(data) < 1 << 14
    return bytes([number << 3 | 2, len(data) & 127 | 128, len(data) >> 7]) + data


def value(name, kind, shape):
    axes = b"".join(
        field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape
    )
    tensor = field(1, KINDS[kind]) + field(2, axes)
    return field(1, name) + field(2, field(1, tensor))


def model(shape=("rows", 3), kind="float32", inputs=("x",), unused=False) -> bytes:
    """A model with two outputs: ``minus`` has the inputs' opposites, ``size`` their absolute values."""
    nodes = [("Neg", "minus"), ("Abs", "size")]
    graph = [field(1, field(1, inputs[0]) + field(2, out) + field(4, op)) for op, out in nodes]
    graph += [field(2, "graph")]
    if unused:  # of which the runtime warns
        graph += [field(5, field(1, 1) + field(2, 1) + field(8, "unused") + field(9, bytes(4)))]
    graph += [field(11, value(name, kind, shape)) for name in inputs]
    graph += [field(12, value(out, kind, shape)) for _, out in nodes]
    return field(1, 8) + field(7, b"".join(graph)) + field(8, field(1, "") + field(2, 17))


def rows(count, kind="float32"):
    return np.random.default_rng(count).normal(size=(count, 3)).astype(kind)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", ["rows", 1, 4])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_batches_of_any_size_are_answered_also_by_a_model_of_one_size(size, count, kind):
    batch = rows(count, kind)
    answers = cm.OnnxModel(model((size, 3), kind))(batch)
    np.testing.assert_array_equal(answers, -batch)
    assert answers.dtype == batch.dtype


def test_answers_are_those_of_the_output_that_was_chosen():
    batch = rows(4)
    for output, expected in ((None, -batch), ("minus", -batch), ("size", np.abs(batch))):
        np.testing.assert_array_equal(cm.OnnxModel(model(), output)(batch), expected)


def test_batches_need_not_lie_in_one_piece():
    batch = np.asfortranarray(rows(6))
    np.testing.assert_array_equal(cm.OnnxModel(model())(batch[::2]), -batch[::2])


def test_a_pickled_model_is_the_same_and_that_of_another_file_is_not(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(model())
    batch = rows(2)
    first = cm.OnnxModel(path, "size")
    np.testing.assert_array_equal(first(batch), np.abs(batch))
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(again(batch), np.abs(batch))
    assert pickle.dumps(cm.OnnxModel(path, "size")) == pickle.dumps(cm.OnnxModel(str(path), "size"))
    path.write_bytes(model(("rows", 4)))
    assert pickle.dumps(cm.OnnxModel(path, "size")) != pickle.dumps(first)
    with pytest.raises(cm.InvalidArgument, match=r"shape \(any, 4\)"):
        cm.OnnxModel(path)(batch)


@pytest.mark.parametrize(
    ("source", "batch", "said"),
    [
        (model(), rows(2, "float64"), r"takes float32, but these inputs are float64.*astype\(np.float32\)"),
        (model((4, 3)), np.ones((4, 2), "float32"), r"takes inputs of shape \(4, 3\), but these are \(4, 2\)"),
        (model(), np.ones((2, 4), "float32"), r"takes inputs of shape \(any, 3\), but these are \(2, 4\)"),
        (model(), np.ones(3, "float32"), r"shape \(any, 3\), but these are \(3,\)"),
        (model(), np.ones((2, 3, 1), "float32"), r"shape \(any, 3\), but these are \(2, 3, 1\)"),
        (model(("rows", 2, "any", 3)), np.ones((5, 2, 7, 2), "float32"), r"shape \(any, 2, any, 3\)"),
        (model(kind="int64"), np.ones((2, 3), int), r"takes tensor\(int64\), which cannot be mixed"),
        (model(inputs=("x", "time")), rows(2), r"has 2 inputs \(x, time\), but a model to map has one"),
        (model()[:-20], rows(2), "the model cannot be opened as an ONNX model"),
    ],
)  # fmt: skip
def test_what_a_model_cannot_take_is_one_clear_error(source, batch, said):
    with pytest.raises(cm.InvalidArgument, match=said):
        cm.OnnxModel(source)(batch)


def test_sizes_that_are_open_may_be_any():
    batch = np.ones((5, 2, 7, 3), "float32")
    np.testing.assert_array_equal(cm.OnnxModel(model(("rows", 2, "any", 3)))(batch), -batch)


def test_a_model_without_such_an_output_names_those_that_it_has():
    with pytest.raises(cm.InvalidArgument, match="no output 'scores'; it has minus, size"):
        cm.OnnxModel(model(), "scores").check((1, 3), np.float32)


THREADS = Path("/proc/self/task")


@pytest.mark.skipif(not THREADS.exists(), reason="there is no list of threads")
def test_it_computes_in_the_thread_that_calls_it_and_warns_of_nothing(capfd):
    cm.OnnxModel(model())(rows(4))  # what the runtime itself starts
    before = len(list(THREADS.iterdir()))
    net = cm.OnnxModel(model(unused=True))
    net(rows(4))
    assert len(list(THREADS.iterdir())) <= before
    assert capfd.readouterr() == ("", "")
