"""Compute all N answers of every group once, then replay many straggler sets on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import codedmap as cm

__all__ = ["Score", "answers_of", "cut_for", "grouped", "played", "straggler_sets"]

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Score:
    """Error and label agreement of one straggler set, over all groups."""

    rmse: float
    """Root mean square error of all outputs."""
    agreement: float
    """Share of rows whose largest output is that of the function itself."""


def grouped(inputs: np.ndarray, tasks: int, rng: np.random.Generator) -> np.ndarray:
    """The inputs in random order as groups of K tasks, (K, B, *x); the remainder is dropped."""
    groups = len(inputs) // tasks
    return inputs[rng.permutation(len(inputs))[: groups * tasks]].reshape(
        tasks, groups, *inputs.shape[1:]
    )


def cut_for(code: cm.contracts.Code, rows: np.ndarray) -> np.ndarray:
    """The places (K, B) of rows (K · B, *x) in their groups, as `codedmap.map` cuts them.

    Some codes ask for an order in which similar rows share a group.
    """
    arranged = getattr(code, "arranged", None)
    order = arranged(rows) if arranged is not None else None
    places = np.arange(len(rows)) if order is None else order
    return places.reshape(code.tasks, -1)


def straggler_sets(
    workers: int, stragglers: int, count: int, rng: np.random.Generator, kind: str = "random"
) -> list[np.ndarray]:
    """Slots that answer, ascending, in each of ``count`` waves.

    Parameters
    ----------
    kind : {"random", "consecutive", "periodic"}
        Positions of the stragglers: at random; consecutive from a random start; evenly spaced from a
        random start.
    """
    sets = []
    for _ in range(count):
        if kind == "random":
            late = rng.choice(workers, stragglers, replace=False)
        elif kind == "consecutive":
            late = rng.integers(workers - stragglers + 1) + np.arange(stragglers)
        else:
            late = (
                rng.integers(workers) + np.arange(stragglers) * workers // max(1, stragglers)
            ) % workers
        sets.append(np.setdiff1d(np.arange(workers), late))
    return sets


def answers_of(function: Function, payloads: np.ndarray) -> np.ndarray:
    """The answers (N, B, *y) to payloads (N, B, *x)."""
    answers = function(payloads.reshape(-1, *payloads.shape[2:]))
    return answers.reshape(*payloads.shape[:2], *answers.shape[1:])


def played(
    function: Function | None,
    code: cm.contracts.Code,
    inputs: np.ndarray,
    truth: np.ndarray,
    sets: list[np.ndarray],
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
    answers: np.ndarray | None = None,
) -> Iterator[Score]:
    """The score of each straggler set.

    Parameters
    ----------
    function : callable, or None
        Maps batch to batch. None for codes that copy: slot n answers ``truth[n mod K]``.
    code : Code
    inputs : ndarray, shape (K, B, *x)
    truth : ndarray, shape (K, B, *y)
        The function at the inputs.
    sets : list of ndarray
        Slots that answer.
    noise : float
        Standard deviation of the noise added to the answers, drawn from ``rng``.
    answers : ndarray, optional
        Result of `answers_of` for these payloads, if known.
    """
    encoding = code.encode(inputs)
    if function is None:
        answers = truth[np.arange(code.workers) % code.tasks]
    elif answers is None:
        answers = answers_of(function, encoding.payloads)
    if noise > 0.0 and rng is not None:
        answers = answers + noise * rng.standard_normal(answers.shape)
    for slots in sets:
        values = encoding.decode({int(slot): answers[slot] for slot in slots}).values
        error = float(np.sqrt(np.mean((values - truth) ** 2, dtype=np.float64)))
        last = (*truth.shape[:2], -1)
        same = values.reshape(last).argmax(-1) == truth.reshape(last).argmax(-1)
        yield Score(error, float(same.mean()))
