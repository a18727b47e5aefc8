"""Whether what is lost depends on the inputs: what is estimated there may be biased then."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

_FEWEST = 8  # lost rows, and kept ones, from which it is tested
_MOST = 4000  # rows that are looked at
_FOLDS = 4
_TREES = 40
_MARGIN = 0.1  # by which a classifier must beat chance, and by so many standard errors:
_ERRORS = 4.0
_LEAVES = 4


def dependence(points: np.ndarray, lost: np.ndarray, names: Sequence[str], seed: int) -> str | None:
    """Where rows are lost more often than elsewhere, in words; None if they seem lost at random.

    A classifier of lost against kept rows is tested on rows that it has not seen. If it beats chance, a small tree
    names the region.

    Parameters
    ----------
    points : ndarray, shape (m, d)
    lost : ndarray, shape (m,) bool
    names : sequence of str
        d: of the inputs.
    seed : int
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(points))[:_MOST])
    points, lost = points[rows], lost[rows]
    number, kept = int(lost.sum()), int((~lost).sum())
    if min(number, kept) < _FEWEST or not points.shape[1]:
        return None
    # Trees go by the order of numbers, and scikit-learn's hold them in single precision: they get ranks.
    columns = [np.unique(column, return_inverse=True) for column in points.T]
    points = np.stack([ranks.reshape(-1) for _, ranks in columns], axis=1).astype(np.float32)
    from sklearn.ensemble import ExtraTreesClassifier  # noqa: PLC0415  a second to import
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415

    # Equal inputs are in one fold, or the classifier would know them.
    _, which = np.unique(points, axis=0, return_inverse=True)
    which = which.reshape(-1)
    folds = (rng.permutation(which.max() + 1) % _FOLDS)[which]
    score = np.empty(len(points))
    for fold in range(_FOLDS):
        inside = folds != fold
        if len(np.unique(lost[inside])) < 2 or inside.all():
            return None
        trees = ExtraTreesClassifier(
            _TREES, min_samples_leaf=3, class_weight="balanced", random_state=0
        )
        score[~inside] = trees.fit(points[inside], lost[inside]).predict_proba(points[~inside])[
            :, 1
        ]
    # The probability that a lost row has a higher score than a kept one, and its error if scores are chance.
    ranks = _ranks(score)
    area = (ranks[lost].sum() - number * (number + 1) / 2) / (number * kept)
    error = np.sqrt((number + kept + 1) / (12.0 * number * kept))
    if area < 0.5 + max(_MARGIN, _ERRORS * error):
        return None
    tree = DecisionTreeClassifier(
        max_leaf_nodes=_LEAVES, min_samples_leaf=max(3, number // 10), random_state=0
    ).fit(points, lost)
    leaf = tree.apply(points)
    shares = {node: float(lost[leaf == node].mean()) for node in np.unique(leaf)}
    worst = max(shares, key=shares.__getitem__)
    inside = leaf == worst
    return (
        f"of the rows with {_region(tree.tree_, worst, names, [there for there, _ in columns])} {shares[worst]:.0%} are lost, of the others "
        f"{lost[~inside].mean():.0%}"
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 on; equal values share their mean."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2.0)[which])


def _region(tree: Any, leaf: int, names: Sequence[str], values: Sequence[np.ndarray]) -> str:
    """The conditions that lead to a leaf, in the values of each input that the tree knows by their ranks."""
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    node = 0
    path = _path(tree, leaf)
    for node, child in pairwise(path):
        feature, rank = int(tree.feature[node]), int(tree.threshold[node])
        at = values[feature][rank] / 2.0 + values[feature][rank + 1] / 2.0
        if child == tree.children_left[node]:
            high[feature] = min(at, high.get(feature, np.inf))
        else:
            low[feature] = max(at, low.get(feature, -np.inf))
    parts = []
    for feature in sorted({*low, *high}):
        name = names[feature]
        if feature in low and feature in high:
            parts.append(f"{low[feature]:.3g} < {name} <= {high[feature]:.3g}")
        elif feature in low:
            parts.append(f"{name} > {low[feature]:.3g}")
        else:
            parts.append(f"{name} <= {high[feature]:.3g}")
    return " and ".join(parts) or "any input"


def _path(tree: Any, leaf: int) -> list[int]:
    parents = {}
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                parents[int(child)] = node
    path = [int(leaf)]
    while path[0] != 0:
        path.insert(0, parents[path[0]])
    return path
