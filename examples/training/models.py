"""Two models as functions of a flat array of weights: logistic regression, and a small network in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .parts import CLASSES

__all__ = ["MODELS", "Logistic", "Model", "Network"]

PIXELS = 784


class Model(Protocol):
    """A model that is sent to workers; labels may be mixtures of classes, also outside of [0, 1]."""

    @property
    def rate(self) -> float:
        """The learning rate of AMSGrad."""
        ...

    @property
    def slow(self) -> float:
        """Factor of the sleeping times of its calls."""
        ...

    def start(self, seed: int) -> np.ndarray:
        """Initial weights, float32."""
        ...

    def gradient(self, weights: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Gradient of the mean loss over the images."""
        ...

    def scores(self, weights: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Scores (n, 10); the largest is the predicted class."""
        ...


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression, in NumPy: 7,850 weights."""

    rate: float = 0.01
    slow: float = 1.0

    def start(self, seed: int) -> np.ndarray:
        """Zeros: the loss is convex, so the seed affects minibatches only."""
        return np.zeros((PIXELS + 1) * CLASSES, np.float32)

    def scores(self, weights: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Linear scores."""
        table = weights.reshape(PIXELS + 1, CLASSES)
        return images @ table[:-1] + table[-1]

    def gradient(self, weights: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Gradient of the cross entropy."""
        scores = self.scores(weights, images)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        # The labels of a mixture need not sum to 1.
        off = (shares * labels.sum(axis=1, keepdims=True) - labels) / len(images)
        return np.concatenate([(images.T @ off).reshape(-1), off.sum(axis=0)])


@dataclass(frozen=True)
class Network:
    """Two convolutions on downsampled digits, and a dense layer, in torch: 3,818 weights."""

    rate: float = 0.003
    slow: float = 5.0

    def start(self, seed: int) -> np.ndarray:
        """Uniform within ± 1 / √(inputs of a unit), as in torch; biases are 0."""
        rng = np.random.default_rng(seed)
        pieces = [
            rng.uniform(-1, 1, shape) / np.sqrt(np.prod(shape[1:]))
            if len(shape) > 1
            else np.zeros(shape)
            for shape in _SHAPES
        ]
        return np.concatenate([piece.reshape(-1) for piece in pieces]).astype(np.float32)

    def scores(self, weights: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Forward pass."""
        torch = _torch()
        with torch.no_grad():
            found: np.ndarray = _forward(torch.tensor(weights), torch.tensor(images)).numpy()
        return found

    def gradient(self, weights: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Gradient of the cross entropy."""
        torch = _torch()
        own = torch.tensor(weights, requires_grad=True)
        scores = _forward(own, torch.tensor(images))
        logs = torch.log_softmax(scores, dim=1)
        loss = -(torch.tensor(labels) * logs).sum(dim=1).mean()
        loss.backward()
        found: np.ndarray = own.grad.numpy()
        return found


MODELS: dict[str, Model] = {"logistic": Logistic(), "network": Network()}

_SHAPES = ((8, 1, 3, 3), (8,), (16, 8, 3, 3), (16,), (CLASSES, 16 * 4 * 4), (CLASSES,))


def _torch() -> Any:
    import torch  # noqa: PLC0415  (an extra; each worker imports it once)

    torch.set_num_threads(1)
    return torch


def _forward(weights: Any, images: Any) -> Any:
    from torch.nn import functional  # noqa: PLC0415

    pieces, at = [], 0
    for shape in _SHAPES:
        size = int(np.prod(shape))
        pieces.append(weights[at : at + size].reshape(shape))
        at += size
    first, first_bias, second, second_bias, last, last_bias = pieces
    x = functional.avg_pool2d(images.reshape(-1, 1, 28, 28), 2)
    x = functional.max_pool2d(functional.relu(functional.conv2d(x, first, first_bias)), 2)
    x = functional.relu(functional.conv2d(x, second, second_bias))
    return x.flatten(1) @ last.T + last_bias
