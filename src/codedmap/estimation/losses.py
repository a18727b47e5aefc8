"""Whether it depends on the inputs, or other numbers, which rows are lost. Then what is estimated there may be biased."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .candidates import telling

_FEWEST = 8  # lost rows, and kept ones, from which a classifier is tested
_MOST = 4000  # rows that are looked at
_FOLDS = 4  # parts of the rows, each classified by the others
_TREES = 40  # of the classifier
# Difference of shares, and of the classifier's area from 0.5, that counts as dependence.
_MARGIN = 0.1
_ERRORS = 4.0  # standard errors by which that area must differ from 0.5
_LEAVES = 4  # of the tree that names the region
_CHANCE = 7.0  # evidence for a split that chance gives in one of e to this power jobs


@np.errstate(under="ignore")  # a caller may have NumPy raise for it
def dependence(
    points: np.ndarray, lost: np.ndarray, names: Sequence[str], seed: int, *, quick: bool = False
) -> str | None:
    """Where rows are lost more often than elsewhere, in words; None if they seem lost at random.

    First one bound of one input is looked for that separates lost from kept rows, which takes milliseconds. If there is
    none, and unless ``quick``, a classifier is tested on rows that it has not seen, and a small tree names the region.
    An input of the name "kind = a" is 1 where a text is this one, else 0.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(points))[:_MOST])
    points, lost = points[rows], lost[rows]
    number, kept = int(lost.sum()), int((~lost).sum())
    if not (number and kept and points.shape[1]):
        return None
    # Of very many inputs those that correlate with losses are looked at. By chance one of all others may do so.
    some = telling(points, lost.astype(float))
    names = np.asarray(names, dtype=object)[some].tolist()
    ranks, values = _ranked(points[:, some])
    others = math.log(points.shape[1] / len(values))
    split = _split(ranks.astype(np.intp), lost, names, values, _CHANCE + others)
    few = quick or min(number, kept) < _FEWEST
    if few or (split is None and not _predicted(points, lost, rng)):
        return split
    points = ranks
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415  a second to import

    tree = DecisionTreeClassifier(
        max_leaf_nodes=_LEAVES, min_samples_leaf=max(3, number // 10), random_state=0
    ).fit(points, lost)
    leaf = tree.apply(points)
    shares = {node: float(lost[leaf == node].mean()) for node in np.unique(leaf)}
    worst = max(shares, key=shares.__getitem__)
    inside = leaf == worst
    path = tree.decision_path(points[inside][:1]).indices.tolist()  # from the root down
    region = _region(tree.tree_, path, names, values)
    return _lost_shares(region, shares[worst], lost[~inside].mean())


def _ranked(points: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The ranks (n, d) of numbers in their columns, and the sorted values of each. Trees hold numbers in single precision."""
    columns = [np.unique(column, return_inverse=True) for column in points.T]
    ranks = np.stack([places.reshape(-1) for _, places in columns], axis=1)
    return ranks.astype(np.float32), [there for there, _ in columns]


def _predicted(points: np.ndarray, lost: np.ndarray, rng: np.random.Generator) -> bool:
    """Whether a classifier of lost against kept rows beats chance on rows that it has not seen."""
    from sklearn.ensemble import ExtraTreesClassifier  # noqa: PLC0415  a second to import
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    # Equal inputs are in one fold, or the classifier would know them.
    _, which = np.unique(points, axis=0, return_inverse=True)
    which = which.reshape(-1)
    folds = (rng.permutation(which.max() + 1) % _FOLDS)[which]
    score = np.empty(len(points))
    for fold in range(_FOLDS):
        inside = folds != fold
        if len(np.unique(lost[inside])) < 2 or inside.all():
            return False
        trees = ExtraTreesClassifier(
            _TREES, min_samples_leaf=3, class_weight="balanced", random_state=0
        )
        some = telling(points[inside], lost[inside].astype(float))
        ranks, _ = _ranked(points[:, some])
        score[~inside] = trees.fit(ranks[inside], lost[inside]).predict_proba(ranks[~inside])[:, 1]
    # The probability that a lost row has a higher score than a kept one, and its error if scores are chance.
    area = roc_auc_score(lost, score)
    number, kept = np.count_nonzero(lost), np.count_nonzero(~lost)
    error = np.sqrt((number + kept + 1) / (12.0 * number * kept) * len(points) / (which.max() + 1))
    return bool(area >= 0.5 + max(_MARGIN, _ERRORS * error))


def _split(
    points: np.ndarray,
    lost: np.ndarray,
    names: Sequence[str],
    values: Sequence[np.ndarray],
    chance: float,
) -> str | None:
    """As `dependence`, of points that are ranks: the bound of one input that tells lost from kept rows best."""
    rows, all_lost = len(lost), np.count_nonzero(lost)
    distinct = len(np.unique(points, axis=0)) / rows  # equal rows may be lost together
    best, found = 0.0, None
    for feature, there in enumerate(values):
        below = np.bincount(points[:, feature], minlength=len(there)).cumsum()[:-1].astype(float)
        gone = np.bincount(points[lost, feature], minlength=len(there)).cumsum()[:-1]
        sides = np.array([below, rows - below])
        seen = np.array([gone, all_lost - gone])
        shares = seen / sides
        cells = np.array([seen, sides - seen])
        expected = np.array([all_lost * sides / rows, (rows - all_lost) * sides / rows])
        # The likelihood ratio bounds how often chance gives as much, also where few rows are lost.
        evidence = distinct * (cells * np.log(np.maximum(cells, 1e-300) / expected)).sum(
            axis=(0, 1)
        )
        evidence[np.abs(shares[0] - shares[1]) < _MARGIN] = 0.0
        if evidence.max(initial=0.0) > best:
            at = int(evidence.argmax())
            best, worst = float(evidence[at]), int(shares[1, at] > shares[0, at])
            bound = there[at] / 2.0 + there[at + 1] / 2.0
            low, high = (bound, np.inf) if worst else (-np.inf, bound)
            region = _condition(names[feature], low, high, there)
            found = _lost_shares(region, shares[worst, at], shares[1 - worst, at])
    return found if best > np.log(sum(map(len, values))) + chance else None


def _lost_shares(region: str, inside: float, outside: float) -> str:
    return f"of the rows with {region} {inside:.0%} are lost, of the others {outside:.0%}"


def _region(
    tree: Any, path: Sequence[int], names: Sequence[str], values: Sequence[np.ndarray]
) -> str:
    """The conditions along a path of nodes, in the values of each input that the tree knows by their ranks."""
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    for node, child in pairwise(path):
        feature, rank = int(tree.feature[node]), int(tree.threshold[node])
        at = values[feature][rank] / 2.0 + values[feature][rank + 1] / 2.0
        if child == tree.children_left[node]:
            high[feature] = min(at, high.get(feature, np.inf))
        else:
            low[feature] = max(at, low.get(feature, -np.inf))
    parts = [
        _condition(names[k], low.get(k, -np.inf), high.get(k, np.inf), values[k])
        for k in sorted({*low, *high})
    ]
    return " and ".join(parts) or "any input"


def _condition(name: str, low: float, high: float, values: np.ndarray) -> str:
    """An input above or below bounds, in words."""
    if " = " in name and len(values) == 2:
        return name if low > values[0] else name.replace(" = ", " != ", 1)
    above, below = (f"{bound:.3g}" if np.isfinite(bound) else "" for bound in (low, high))
    if above and below:
        return f"{above} < {name} <= {below}"
    return f"{name} > {above}" if above else f"{name} <= {below}"
