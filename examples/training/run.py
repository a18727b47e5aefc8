"""One timed training run: a scheme, a model, an engine and a seed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

import codedmap as cm

from .models import Model
from .parts import Digits
from .schemes import Scheme, Setting
from .workers import LATENCY, WORKERS, Timed, drawn

__all__ = ["LOOKS", "Look", "engine", "evaluate", "train"]

LOOKS = 3
"""Steps between evaluations of loss and accuracy."""
EVALUATED = 1000
"""Number of training digits in the loss."""


@dataclass(frozen=True, slots=True)
class Look:
    """One evaluation during training."""

    step: int
    seconds: float
    """Wall-clock time without evaluations."""
    worker_seconds: float
    """Total sleeping time of all calls that started, abandoned ones included."""
    parts: float
    """Number of gradients of parts computed."""
    loss: float
    """Training loss."""
    accuracy: float
    """Accuracy on held-out digits."""


@contextmanager
def engine(name: str) -> Iterator[cm.engines.Engine]:
    """``local`` or ``dask``: worker processes on this machine.

    A straggler is never ended: its worker stays busy and may be late for the next steps as well.
    """
    if name == "local":
        with cm.engines.Local(WORKERS, grace=3600.0) as local:
            yield local
        return
    import distributed  # noqa: PLC0415  (an extra)

    with (
        distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        ) as cluster,
        distributed.Client(cluster) as client,
        cm.engines.Dask(client) as dask,
    ):
        yield dask


def train(
    scheme: Scheme, model: Model, digits: Digits, where: cm.engines.Engine, *, seed: int, steps: int
) -> list[Look]:
    """Train, and evaluate every few steps."""
    timed = Timed(where, model.slow * drawn(seed, steps), scheme.load)
    _make_ready(where, model, digits)
    setting = Setting(model, digits.parts, seed, model.slow * LATENCY.quantile(0.9))
    gradient = scheme.gradient(setting, timed)
    optimizer = cm.training.AMSGrad(model.start(seed), model.rate)
    seconds, weights = np.zeros(steps + 1), [optimizer.weights]
    for step in range(steps):
        began = time.perf_counter()
        timed.begin(step)
        optimizer.update(gradient(optimizer.weights, step))
        seconds[step + 1] = seconds[step] + time.perf_counter() - began
        weights.append(optimizer.weights)
    slept, parts = (np.concatenate([[0.0], np.cumsum(some)]) for some in timed.cost(steps))
    return [
        Look(
            step,
            float(seconds[step]),
            float(slept[step]),
            float(parts[step]),
            *evaluate(model, weights[step], digits),
        )
        for step in sorted({*range(0, steps + 1, LOOKS), steps})
    ]


def evaluate(model: Model, weights: np.ndarray, digits: Digits) -> tuple[float, float]:
    """Training loss, and accuracy on the held-out digits."""
    images, labels = digits.images[:EVALUATED], digits.labels[:EVALUATED]
    scores = model.scores(weights, images).astype(float)
    scores -= scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]
    guessed = model.scores(weights, digits.held_out).argmax(axis=1)
    return float(losses.mean()), float((guessed == digits.held_out_labels).mean())


def _make_ready(where: cm.engines.Engine, model: Model, digits: Digits) -> None:
    """Wait until all workers are idle and have imported what a gradient needs."""
    part = digits.parts[0]
    futures = [
        where.submit(slot, _Warm(model), (part.images[:2], part.labels[:2]))
        for slot in range(WORKERS)
    ]
    for future in futures:
        future.result()


@dataclass(frozen=True)
class _Warm:
    model: Model

    def __call__(self, some: tuple[np.ndarray, np.ndarray]) -> int:
        return len(self.model.gradient(self.model.start(0), *some))
