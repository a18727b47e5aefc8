"""Answers far beyond all others, such as those of a simulation that diverged: estimates are made without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import many

_FEWEST = 30  # answers that differ from the median, from which others may be far beyond them
_SHARE = 0.1  # least share of the answers that differ from it
_ONE_IN = 50  # answers of which at most one is far beyond all others
_FURTHER = 20.0  # how many times as far from the median as all others
_BEYOND = 2.0  # and how many times as far, where large distances count by their logarithm
_SUSPECT = 10.0  # squared distance from the mean, in variances, up to which no answer is so far
_SQUARED = 1e-150  # smaller distances have no square


def extremes(answers: np.ndarray) -> np.ndarray:
    """An output in which a row of answers (n, q) is far beyond all others, (n,) int; -1 if there is none.

    It is twenty times as far from the median as all others, and twice as far by asinh(distance / usual distance), which
    is a logarithm of large distances: outputs that extend over many orders of magnitude have no such answers. If there
    would be more than one in fifty, there are none.
    """
    size = len(answers)
    found, most = np.full(size, -1), max(1, size // _ONE_IN)
    if size < _FEWEST:
        return found
    low, high = answers.min(axis=0), answers.max(axis=0)
    with np.errstate(all="ignore"):  # what has no square is looked at
        mean = answers.mean(axis=0)
        variance = np.einsum("ij,ij->j", answers, answers) / size - mean**2
        reach = np.maximum(high - mean, mean - low)
        usual = (reach**2 <= _SUSPECT * variance) & (reach > _SQUARED)
    for output in np.flatnonzero(~usual & (low < high)):
        scaled = answers[:, output] / np.abs(answers[:, output]).max()
        off = np.abs(scaled - np.median(scaled))
        differing = off[off > 0.0]
        if len(differing) >= max(_FEWEST, _SHARE * size):
            order = np.argsort(-off)[: most + 1]
            ranked = off[order]
            with np.errstate(over="ignore"):
                sizes = np.arcsinh(ranked / np.median(differing))
            beyond = (sizes[:-1] > _BEYOND * sizes[1:]) & (ranked[:-1] > _FURTHER * ranked[1:])
            found[order[: np.flatnonzero(beyond).max(initial=-1) + 1]] = output
    return found if np.count_nonzero(found >= 0) <= most else np.full(size, -1)


def described(
    answers: np.ndarray, found: np.ndarray, row: Callable[[int], str], outputs: Sequence[str]
) -> str | None:
    """What is said of the first of the `extremes` that were ``found``; None if there is none.

    ``row`` names a row by its number, and ``outputs`` (q,) are names.
    """
    at = np.flatnonzero(found >= 0)
    if not len(at):
        return None
    output = found[at[0]]
    others = np.delete(answers[:, output], at)
    further = f"; {many(len(at) - 1, 'further row')} likewise" if len(at) > 1 else ""
    return (
        f"{outputs[output]} of {row(at[0])} is {answers[at[0], output]:.6g}, and all others are between {others.min():.6g} "
        f"and {others.max():.6g}{further}: estimates are made without it, and uncertain where it is the nearest answer"
    )
