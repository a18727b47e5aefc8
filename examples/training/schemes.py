"""Ways to the gradient of a step: exact, from some of the parts, or from mixtures of the data."""

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
"""Digits of every class in the minibatch of a part."""


@dataclass(frozen=True)
class Setting:
    """What all schemes are given."""

    model: Model
    parts: list[Part]
    seed: int
    hedge_after: float


Gradient = Callable[[np.ndarray, int], np.ndarray]
"""Weights and number of the step to the mean gradient."""


@dataclass(frozen=True)
class Scheme:
    """A way to the gradient."""

    name: str
    what: str
    """In plain words, and what it waits for."""
    load: float
    """Parts that each call computes, of 12."""
    gradient: Callable[[Setting, cm.engines.Engine], Gradient]
    kind: str
    """exact, partial or estimated."""


@dataclass(frozen=True)
class PartGradient:
    """The gradient at the minibatch of a part; runs in the workers."""

    model: Model
    seed: int

    def __call__(self, part: Part, weights: np.ndarray, step: int) -> np.ndarray:
        """Of one part."""
        return self.model.gradient(weights, *minibatch(part, self.seed, step, EACH))


@dataclass(frozen=True)
class BlockGradient:
    """The gradient at blocks of digits, each with its labels beside it; runs in the workers."""

    model: Model
    weights: np.ndarray

    def __call__(self, blocks: np.ndarray) -> np.ndarray:
        """Block by block."""
        return np.stack(
            [
                self.model.gradient(
                    self.weights, block[:, :-CLASSES].copy(), block[:, -CLASSES:].copy()
                )
                for block in blocks
            ]
        )


def _sum(code: cm.contracts.SumCode) -> Callable[[Setting, cm.engines.Engine], Gradient]:
    """Parts are placed once; workers are sent the weights."""

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
    """The minibatches are sent, as they are or mixed, with every step."""

    def made(setting: Setting, engine: cm.engines.Engine) -> Gradient:
        hedge = cm.Hedge(setting.hedge_after) if hedged else None

        def gradient(weights: np.ndarray, step: int) -> np.ndarray:
            blocks = _blocks(setting, step, code.tasks, aligned=aligned)
            fn: Any = BlockGradient(setting.model, weights)
            result = cm.map(fn, blocks, code=code, engine=engine, stop=stop, hedge=hedge)
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
        "`sum`, one part a worker",
        1, _sum(cm.codes.FractionalRepetition(N, 0)), "exact",
    ),
    Scheme(
        "hedged",
        "`map`, one part a worker; what is late at the 90th percentile is sent once more",
        1, _map(cm.Uncoded(N), hedged=True), "exact",
    ),
    Scheme(
        "copies x2",
        "`map`, two parts a task, each on two workers; the first copy counts",
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
        "`sum`, `IgnoreStragglers(12, 3)`: one part a worker, the first 9 answers",
        1, _sum(cm.codes.IgnoreStragglers(N, 3)), "partial",
    ),
    Scheme(
        "LeTCC",
        "`map`, `SplineCode(6, 12, 3)`: mixtures of two parts a task, the first 9 answers",
        2, _map(cm.SplineCode(6, N, 3)), "estimated",
    ),
    Scheme(
        "LeTCC, shuffled",
        "the same, but digits of any class are mixed with each other",
        2, _map(cm.SplineCode(6, N, 3), aligned=False), "estimated",
    ),
    Scheme(
        "BACC",
        "`map`, `BerrutCode(6, 12, 3)`: as LeTCC",
        2, _map(cm.BerrutCode(6, N, 3)), "estimated",
    ),
    Scheme(
        "KernelCode",
        "`map`, `KernelCode(6, 12, 3)`: six workers have tasks as they are, six have mixtures",
        2, _map(cm.KernelCode(6, N, 3)), "estimated",
    ),
)  # fmt: skip
