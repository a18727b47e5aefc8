"""Test functions of many kinds, each with inputs, for the planned and the Byzantine experiments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

import codedmap as cm

from . import models

__all__ = ["FUNCTIONS", "Call", "Function", "load", "reads"]

ROWS = 6_000
"""Number of inputs of functions whose inputs are drawn at random."""
CIFAR_ROWS = 2_000
"""Number of photos; their networks are the slowest."""

Call = Callable[[np.ndarray], np.ndarray]
Loaded = tuple[Call, np.ndarray]


@dataclass(frozen=True)
class Function:
    """A test function and its loader."""

    title: str
    kind: str
    """Functions of one kind have one colour in figures."""
    load: Callable[[bool], Loaded]
    """Maps ``quick`` to the call, (b, *x) to (b, *y), and its inputs, (m, *x)."""
    slow: bool = False
    """True if a row takes a millisecond or more."""


def _of_model(name: str) -> Callable[[bool], Loaded]:
    def load(quick: bool) -> Loaded:
        model = models.load(name, quick)
        rows = CIFAR_ROWS if name.endswith("cifar10") else None
        return model.function, model.inputs[:rows]

    return load


def _drawn(call: Call, low: tuple[float, ...], high: tuple[float, ...]) -> Callable[[bool], Loaded]:
    def load(quick: bool) -> Loaded:
        # RandomState: NumPy guarantees that its stream never changes.
        return call, np.random.RandomState(1).uniform(low, high, (ROWS, len(low)))

    return load


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # noqa: PLC0415  importing it takes a second

    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(images))
    return images[order] / 16.0, labels[order]


def _lenet_8x8(quick: bool) -> Loaded:
    """LeNet-5, trained on MNIST, on digits of 8 x 8 pixels, enlarged to 20 x 20 inside 28 x 28 as in MNIST."""
    at = (np.arange(20) + 0.5) * 8 / 20 - 0.5
    larger = np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(8)))
    larger /= larger.sum(axis=1, keepdims=True)
    network = models.Parallel(cm.OnnxModel(models.LENET), rows=250)

    def call(rows: np.ndarray) -> np.ndarray:
        large = larger @ (1.5 * rows.reshape(-1, 8, 8)) @ larger.T
        padded = np.pad(large, ((0, 0), (4, 4), (4, 4))).astype(np.float32)
        return network(padded[:, None])

    return call, _digits()[0]


_TRAINED = 900
"""Number of digits in the training set; the others are the test set."""


def _digit_scores(name: str) -> Callable[[bool], Loaded]:
    def load(quick: bool) -> Loaded:
        from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415
        from sklearn.svm import SVC  # noqa: PLC0415

        images, labels = _digits()
        if name == "svm":
            machine = SVC(gamma=0.02, C=10.0).fit(images[:_TRAINED], labels[:_TRAINED])
            return machine.decision_function, images[_TRAINED:]
        forest = RandomForestClassifier(60, random_state=0).fit(
            images[:_TRAINED], labels[:_TRAINED]
        )
        return forest.predict_proba, images[_TRAINED:]

    return load


def _friedman(name: str) -> Callable[[bool], Loaded]:
    """A regressor trained on 1,000 noisy examples of Friedman's first function of five inputs."""

    def load(quick: bool) -> Loaded:
        from sklearn.datasets import make_friedman1  # noqa: PLC0415
        from sklearn.ensemble import (  # noqa: PLC0415
            GradientBoostingRegressor,
            RandomForestRegressor,
        )
        from sklearn.svm import SVR  # noqa: PLC0415

        inputs, target = make_friedman1(1_000, 5, noise=1.0, random_state=0)
        learner = {
            "forest": RandomForestRegressor(60, min_samples_leaf=3, random_state=0),
            "boosting": GradientBoostingRegressor(random_state=0),
            "svr": SVR(C=10.0),
        }[name]
        return learner.fit(inputs, target).predict, np.random.RandomState(1).random((ROWS, 5))

    return load


def _tanh(inputs: int, outputs: int) -> Callable[[bool], Loaded]:
    """A random network of two hidden layers on Gaussian inputs; (b,) if it has one output."""

    def load(quick: bool) -> Loaded:
        random = np.random.RandomState(10 * inputs + outputs)
        widths = (inputs, 24, 24, outputs)
        layers = [
            (1.2 / np.sqrt(n) * random.standard_normal((n, m)), 0.5 * random.standard_normal(m))
            for n, m in pairwise(widths)
        ]

        def call(x: np.ndarray) -> np.ndarray:
            for weights, bias in layers[:-1]:
                x = np.tanh(x @ weights + bias)
            x = x @ layers[-1][0] + layers[-1][1]
            return x[:, 0] if outputs == 1 else x

        return call, random.standard_normal((ROWS, inputs))

    return load


def _run(
    slope: Callable[[np.ndarray], np.ndarray], state: np.ndarray, step: float, steps: int, each: int
) -> np.ndarray:
    """The states (steps // each, ...) of the classical Runge-Kutta method, every ``each`` steps."""
    seen = []
    for at in range(1, steps + 1):
        first = slope(state)
        second = slope(state + step / 2 * first)
        third = slope(state + step / 2 * second)
        fourth = slope(state + step * third)
        state = state + step / 6 * (first + 2 * second + 2 * third + fourth)
        if at % each == 0:
            seen.append(state)
    return np.stack(seen)


def _lotka_volterra(x: np.ndarray) -> np.ndarray:
    """Prey and predators at ten times, from four rates: (b, 4) to (b, 20)."""
    born, eaten, fed, starved = x.T

    def slope(state: np.ndarray) -> np.ndarray:
        prey, predators = state
        return np.stack([prey * (born - eaten * predators), predators * (fed * prey - starved)])

    seen = _run(slope, np.ones((2, len(x))), 0.05, 200, 20)
    return seen.reshape(20, len(x)).T


def _heat(x: np.ndarray) -> np.ndarray:
    """Temperatures at 12 places of a rod, (b, 4) to (b, 12).

    The initial temperature is a Gaussian peak; the ends stay at 0. The inputs are the height, place
    and width of the peak, and the conductivity times the time.
    """
    # Mixtures may leave the range of the inputs; a negative conductivity would have no solution.
    height, place, width, conducts = np.maximum(x, [-np.inf, -np.inf, 0.02, 0.0]).T[:, :, None]
    along = np.linspace(0.0, 1.0, 101)
    start = height * np.exp(-(((along - place) / width) ** 2) / 2)
    modes = np.arange(1, 41)
    waves = np.sin(np.pi * np.outer(along, modes))
    amplitudes = 2.0 * (start @ waves) / 100 * np.exp(-conducts * (np.pi * modes) ** 2)
    seen: np.ndarray = amplitudes @ np.sin(np.pi * np.outer(modes, np.linspace(0.05, 0.95, 12)))
    return seen


def _stopped_spring(x: np.ndarray) -> np.ndarray:
    """Final position of a mass on a spring that may hit a buffer, (b, 3) to (b,).

    The inputs are the initial position, the position of the buffer and its stiffness. The function is
    continuous, with a kink where the mass just reaches the buffer.
    """
    start, away, stiff = x.T

    def slope(state: np.ndarray) -> np.ndarray:
        place, speed = state
        return np.stack([speed, -place - 0.1 * speed - stiff * np.maximum(0.0, place - away)])

    seen: np.ndarray = _run(slope, np.stack([start, 0 * start]), 0.02, 250, 250)[-1, 0]
    return seen


def _cubic(x: np.ndarray) -> np.ndarray:
    """A polynomial of degree 3 in three variables, (b, 3) to (b,)."""
    a, b, c = x.T
    value: np.ndarray = a**3 - 2.0 * a * b * c + b**2 * c - 1.5 * a * c + b
    return value


def _wave(x: np.ndarray) -> np.ndarray:
    """The function x sin x of the literature, (b, 1) to (b,)."""
    value: np.ndarray = x[:, 0] * np.sin(x[:, 0])
    return value


FUNCTIONS: dict[str, Function] = {
    "lenet-8x8": Function("LeNet-5, digits of 8 x 8", "image classifier", _lenet_8x8),
    "lenet-mnist": Function("LeNet-5, MNIST", "image classifier", _of_model("lenet-mnist")),
    "repvgg-cifar10": Function(
        "RepVGG, CIFAR-10", "image classifier", _of_model("repvgg-cifar10"), slow=True
    ),
    "resnet20-cifar10": Function(
        "ResNet-20, CIFAR-10", "image classifier", _of_model("resnet20-cifar10"), slow=True
    ),
    "svm-digits": Function("SVM scores, digits of 8 x 8", "kernel machine", _digit_scores("svm")),
    "svr": Function("SVM regression, 5-d", "kernel machine", _friedman("svr")),
    "forest-digits": Function("random forest, digits of 8 x 8", "trees", _digit_scores("forest")),
    "forest": Function("random forest, 5-d", "trees", _friedman("forest")),
    "boosting": Function("gradient boosting, 5-d", "trees", _friedman("boosting")),
    "tanh-2": Function("tanh network, 2-d to 1", "tanh network", _tanh(2, 1)),
    "tanh-3": Function("tanh network, 3-d to 4", "tanh network", _tanh(3, 4)),
    "tanh-network": Function("tanh network, 5-d to 8", "tanh network", _of_model("tanh-network")),
    "tanh-5": Function("tanh network, 5-d to 1", "tanh network", _tanh(5, 1)),
    "tanh-8": Function("tanh network, 8-d to 1", "tanh network", _tanh(8, 1)),
    "pendulum": Function("damped pendulum", "simulator", _of_model("pendulum")),
    "lotka-volterra": Function(
        "Lotka-Volterra", "simulator",
        _drawn(_lotka_volterra, (0.7, 0.7, 0.7, 0.7), (1.3, 1.3, 1.3, 1.3)),
    ),
    "heat": Function(
        "heat equation", "simulator",
        _drawn(_heat, (0.5, 0.25, 0.05, 0.002), (2.0, 0.75, 0.15, 0.02)),
    ),
    "stopped-spring": Function(
        "spring with a stop", "simulator", _drawn(_stopped_spring, (-2.0, 0.2, 2.0), (0.0, 2.0, 20.0))
    ),
    "quadratic": Function("quadratic map, 5-d to 4", "polynomial, sine", _of_model("quadratic")),
    "cubic": Function("cubic, 3-d to 1", "polynomial, sine", _drawn(_cubic, (-1.5,) * 3, (1.5,) * 3)),
    "wave": Function("x sin x", "polynomial, sine", _drawn(_wave, (-10.0,), (10.0,))),
}  # fmt: skip
"""By name."""


def reads(name: str, quick: bool) -> tuple[str | Path, ...]:
    """The files that the answers of the function depend on, as in `models.reads`."""
    return (models.LENET,) if name == "lenet-8x8" else models.reads(name, quick)


@lru_cache(maxsize=1)
def load(name: str, quick: bool) -> tuple[Call, np.ndarray, np.ndarray]:
    """The call, its inputs, and its answers in double precision."""
    call, inputs = FUNCTIONS[name].load(quick)
    return call, inputs, np.asarray(call(inputs), np.float64)
