"""Ways to compute the gradient of a step: exact, partial, or estimated from mixtures of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import codedmap as cm

from .models import Model
from .parts import CLASSES, Part, minibatch
from .workers import WORKERS

__all__ = ["EACH", "SCHEMES", "PartGradient", "Scheme", "Setting"]

EACH = 3
"""Digits per class in the minibatch of a part."""


@dataclass(frozen=True)
class Setting:
    """Settings shared by all schemes."""

    model: Model
    parts: list[Part]
    seed: int
    hedge_after: float


Gradient = Callable[[np.ndarray, int], np.ndarray]
"""Maps weights and step number to the mean gradient."""


@dataclass(frozen=True)
class Scheme:
    """A way to compute the gradient."""

    name: str
    what: str
    """Description for the page."""
    load: float
    """Parts per call, of 12."""
    gradient: Callable[[Setting, cm.engines.Engine], Gradient]
    kind: str
    """Exact, partial or estimated."""


@dataclass(frozen=True)
class PartGradient:
    """Gradient of the minibatch of a part; runs in the workers."""

    model: Model
    seed: int

    def __call__(self, part: Part, weights: np.ndarray, step: int) -> np.ndarray:
        """Gradient of one part."""
        return self.model.gradient(weights, *minibatch(part, self.seed, step, EACH))


@dataclass(frozen=True)
class BlockGradient:
    """Gradient of blocks of digits with their labels; runs in the workers."""

    model: Model
    weights: np.ndarray

    def __call__(self, blocks: np.ndarray) -> np.ndarray:
        """Gradients, one per block."""
        return np.stack(
            [
                self.model.gradient(
                    self.weights, block[:, :-CLASSES].copy(), block[:, -CLASSES:].copy()
                )
                for block in blocks
            ]
        )


def _sum(code: cm.contracts.SumCode) -> Callable[[Setting, cm.engines.Engine], Gradient]:
    """The parts stay on the workers; the weights are sent with every step."""

    def made(setting: Setting, engine: cm.engines.Engine) -> Gradient:
        shards = cm.CodedParts(setting.parts, code=code, engine=engine)
        fn = PartGradient(setting.model, setting.seed)

        def gradient(weights: np.ndarray, step: int) -> np.ndarray:
            result = cm.sum(fn, shards, args=(weights, step))
            return result.value / len(shards)

        return gradient

    return made


def _map(
    code: cm.contracts.Code,
    *,
    aligned: bool = True,
    stop: cm.contracts.StoppingRule | None = None,
    hedged: bool = False,
) -> Callable[[Setting, cm.engines.Engine], Gradient]:
    """The minibatches, raw or mixed, are sent with every step."""

    def made(setting: Setting, engine: cm.engines.Engine) -> Gradient:
        hedge = cm.Hedge(setting.hedge_after) if hedged else None

        def gradient(weights: np.ndarray, step: int) -> np.ndarray:
            blocks = _blocks(setting, step, code.tasks, aligned=aligned)
            fn: Any = BlockGradient(setting.model, weights)
            result = cm.map(fn, blocks, code=code, engine=engine, stop=stop, hedge=hedge, retries=0)
            mean: np.ndarray = result.values.mean(axis=0)
            return mean

        return gradient

    return made


def _blocks(setting: Setting, step: int, tasks: int, *, aligned: bool) -> np.ndarray:
    """Digits and labels of each task, (K, digits, 794): the minibatches of 12 / K parts."""
    batches = [
        np.concatenate(minibatch(part, setting.seed, step, EACH, aligned=aligned), axis=1)
        for part in setting.parts
    ]
    own = len(batches) // tasks
    return np.stack(
        [np.concatenate(batches[task * own : (task + 1) * own]) for task in range(tasks)]
    )


N = WORKERS
SCHEMES = (
    Scheme(
        "wait for all",
        "`sum`, one part per worker",
        1, _sum(cm.codes.FractionalRepetition(N, 0)), "exact",
    ),
    Scheme(
        "hedged",
        "`map`, one part per worker; calls later than the 90th percentile are hedged",
        1, _map(cm.Uncoded(N), hedged=True), "exact",
    ),
    Scheme(
        "copies x2",
        "`map`, two parts per task, each task on two workers; the first answer counts",
        2, _map(cm.Replication(6, N), stop=cm.Decodable()), "exact",
    ),
    Scheme(
        "repetition, S = 1",
        "`sum`, `FractionalRepetition(12, 1)`",
        2, _sum(cm.codes.FractionalRepetition(N, 1)), "exact",
    ),
    Scheme(
        "repetition, S = 2",
        "`sum`, `FractionalRepetition(12, 2)`",
        3, _sum(cm.codes.FractionalRepetition(N, 2)), "exact",
    ),
    Scheme(
        "cyclic, S = 2",
        "`sum`, `CyclicGradientCode(12, 2)`",
        3, _sum(cm.codes.CyclicGradientCode(N, 2)), "exact",
    ),
    Scheme(
        "ignore stragglers",
        "`sum`, `IgnoreStragglers(12, 3)`: one part per worker, the first 9 answers",
        1, _sum(cm.codes.IgnoreStragglers(N, 3)), "partial",
    ),
    Scheme(
        "LeTCC",
        "`map`, `SplineCode(6, 12, 3)`: two parts per task, mixtures of tasks, the first 9 answers",
        2, _map(cm.SplineCode(6, N, 3)), "estimated",
    ),
    Scheme(
        "LeTCC, shuffled",
        "the same, but digits of different classes are mixed",
        2, _map(cm.SplineCode(6, N, 3), aligned=False), "estimated",
    ),
    Scheme(
        "BACC",
        "`map`, `BerrutCode(6, 12, 3)`: as LeTCC",
        2, _map(cm.BerrutCode(6, N, 3)), "estimated",
    ),
    Scheme(
        "KernelCode",
        "`map`, `KernelCode(6, 12, 3)`: six workers have raw tasks, six have mixtures",
        2, _map(cm.KernelCode(6, N, 3)), "estimated",
    ),
)  # fmt: skip
