"""Outliers among answers that should fit together, such as those along a curve.

A symmetric matrix P, the inverse covariance of correct answers up to a factor, measures how plausible answers
y are: yᵀPy is 0 where they fit perfectly. The *leave-one-out residual* of y_i, its difference from the prediction
by the others, is (Py)_i / P_ii. Its standard deviation is √(1 / P_ii) up to the same factor, so that the
*standardised* residual (Py)_i / √P_ii takes no more than a matrix product (Dubrule 1983, Mathematical Geology 15;
for least squares these are the deletion residuals of Cook and Weisberg 1982). Of several P, for curves with more
noise or less, restricted likelihood chooses one.

The answer with the largest residual is set aside, then the next. P is chosen anew each time, since an outlier
makes all answers beside it look rough. Those set aside are outliers if each is further from the prediction by *the
rest* than any of the rest is, by a factor that correct answers do not reach (`rejection_factor`). It is
compared with the largest of the rest, not with their median, because correct residuals have heavy tails and
come in pairs: where the function bends or workers are missing, two neighbours are badly predicted. Larger sets are
tested before smaller ones, so that outliers do not hide one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..coding.precision import Precision
from .residuals import residuals, standardised
from .sketches import CLOSER, GLANCE, scaled, sketched

_ENTRIES = 1 << 14  # answers, over all groups, that are tested at a time
_CHOOSING = 8  # groups by which a matrix is chosen for all
_POOLED = 64  # most groups that are judged together
_COUNTED = 8.0  # most outputs that count as independent
_AT_LEAST = 4.0  # an outlier exceeds the largest residual of the rest at least by this factor
# Factors to the median are low, because outliers that agree raise it.
_FAR = 4.0  # a group is searched if a residual exceeds this many times the median
_FAR_IN_ALL = 2.0  # all groups are searched if a residual in their sum exceeds this many medians


def find_outliers(answers: np.ndarray, precision: Precision) -> np.ndarray | None:
    """Outliers of finite answers (F, B, outputs), (F, B) bool; None if there are none.

    At first a few sums of the outputs with random signs stand for all outputs, and only groups with a
    large residual are searched. A worker with outliers in most groups is judged by all groups
    together, others group by group.
    """
    if not answers.size:
        return None
    groups = answers.shape[1]
    with np.errstate(all="ignore"):
        suspects, everywhere = _suspect_groups(answers, precision)
        if not suspects.any() and not everywhere:
            return None
        outliers = np.zeros(answers.shape[:2], dtype=bool)
        rows = np.arange(len(answers))
        if groups > 1:
            whole = _in_most_groups(answers, precision)
            if whole.any():
                outliers[whole] = True
                rows, answers, precision = rows[~whole], answers[~whole], precision.without(whole)
                suspects, _ = _suspect_groups(answers, precision)
        least = half_precision(answers)
        for group in np.flatnonzero(suspects):
            y = scaled(sketched(answers[:, [group]], CLOSER)[:, 0])
            outliers[rows, group] = stepwise_outliers(y, precision, least, groups, _FAR)
    return outliers if outliers.any() else None


def coarsened(answers: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Answers in the precision of ``dtype``, in which payloads were mixed, if it is coarser; scaled into its range."""
    coarse = np.finfo(dtype).dtype
    if answers.dtype.kind == "c":
        coarse = np.result_type(coarse, np.complex64)
    if coarse.itemsize >= answers.dtype.itemsize:
        return answers
    largest = max(np.abs(answers).max(initial=0.0), np.finfo(answers.dtype).tiny)
    return np.asarray((answers / largest).astype(coarse))


def stepwise_outliers(
    y: np.ndarray,
    precision: Precision,
    least: float = 0.0,
    groups: int = 1,
    far: float = _FAR_IN_ALL,
) -> np.ndarray:
    """Outliers among answers (F, columns), (F,) bool: off by more than ``least``, and by a factor that grows with ``groups``.

    The search ends when no residual exceeds ``far`` times the median.
    """
    if precision.freedom < 2:
        return np.zeros(len(y), dtype=bool)
    rest, matrices, logdets = y.copy(), precision.matrices.copy(), precision.logdets.copy()
    aside: list[int] = []
    stages = []
    last = np.empty(0)
    # Each outlier takes one degree of freedom to be left out, and one to be identified.
    most = max(1, min(len(y) // 4, precision.freedom // 2, 50))
    for freedom in range(precision.freedom, precision.freedom - most - 1, -1):
        weighted = matrices @ rest
        chosen = _chosen(logdets, (weighted * rest).sum(axis=(1, 2)), freedom)
        # Without an outlier the others look less noisy: matrices for more noise are dropped.
        matrices, logdets, weighted = (part[: chosen + 1] for part in (matrices, logdets, weighted))
        off = standardised(matrices[chosen], weighted[chosen])
        squares = (off**2).sum(axis=1)
        worst = int(squares.argmax())
        # ``last`` is how far the answer set aside last is from the prediction by those left.
        if aside and last[chosen] ** 2 > _AT_LEAST**2 * squares[worst]:
            factor = rejection_factor(freedom, off, groups)
            if last[chosen] > factor * np.sqrt(squares[worst]):
                stages.append((len(aside), chosen, factor))
        if not precision.exact and squares[worst] <= far**2 * _median(squares, len(aside)):
            break
        column = matrices[:, worst].copy()
        pivot = column[:, worst].copy()
        last = np.sqrt((weighted[:, worst] ** 2).sum(axis=1) / pivot)
        matrices -= column[:, :, None] * (column / pivot[:, None])[:, None]
        matrices[:, worst] = matrices[:, :, worst] = rest[worst] = 0.0
        logdets -= np.log(pivot)
        aside.append(worst)
    for count, chosen, factor in reversed(stages):
        outliers = np.isin(np.arange(len(y)), aside[:count])
        matrix = precision.matrices[chosen]
        # Correct answers may have been set aside before the outliers.
        outliers[outliers] = relative_distances(y, matrix, outliers, least) > factor
        if outliers.any() and (relative_distances(y, matrix, outliers, least) > factor).all():
            return outliers
    return np.zeros(len(y), dtype=bool)


def relative_distances(
    y: np.ndarray, matrix: np.ndarray, outliers: np.ndarray, least: float
) -> np.ndarray:
    """Residual of each outlier, predicted by the rest, over the largest residual of the rest; 0 if not above ``least``."""
    sizes = np.linalg.norm(residuals(matrix, y, ~outliers), axis=1)
    deviations = np.sqrt(np.linalg.inv(matrix[outliers][:, outliers]).diagonal())
    enough = sizes[outliers] * deviations > least * np.sqrt(y.shape[1])
    return np.where(enough, sizes[outliers] / sizes[~outliers].max(), 0.0)


def rejection_factor(freedom: int, off: np.ndarray, groups: int) -> float:
    """The factor by which an outlier must exceed the largest of the rest, whose standardised residuals are ``off``.

    The first term is enough for smooth functions; it is larger for fewer outputs. The second grows with the groups, in
    one of which something rare may happen. The last is how the tail of a ratio of residuals falls with the degrees of
    freedom.
    """
    gram = off.T @ off
    square = (gram**2).sum()
    # Outputs that vary together are as good as one: the participation ratio of their variances.
    outputs = min(float(np.trace(gram) ** 2 / square), _COUNTED) if square > 0 else 1.0
    return float((_AT_LEAST + 6.0 / outputs) * groups**0.2 * 1e4 ** (1 / (freedom * outputs)))


def _chosen(logdets: np.ndarray, energies: np.ndarray, freedom: int) -> int:
    """The index of the matrix with the largest restricted likelihood, given the sum of yᵀPy over the outputs, (J,)."""
    misfit = np.log(np.maximum(energies, np.finfo(float).tiny))
    return int(np.argmax(logdets - freedom * misfit))


def _suspect_groups(answers: np.ndarray, precision: Precision) -> tuple[np.ndarray, bool]:
    """Groups in which a residual is far from the median, (B,) bool, and whether one is in the sum over all groups."""
    count, groups = len(precision.matrices[0]), answers.shape[1]
    suspects = np.zeros(groups, dtype=bool)
    sums = np.zeros(count)
    width = -(-_ENTRIES // count)
    for start in range(0, groups, width):
        part = slice(start, start + width)
        sketch = sketched(answers[:, part], GLANCE)
        # Scaled, so that squares in single precision do not vanish; by a power of two, which loses no digit.
        middle = _median(np.abs(sketch[:, :_CHOOSING]).reshape(-1))
        sketch = np.ldexp(sketch, -np.frexp(middle)[1])
        squares, chosen = _squares(sketch, precision)
        medians = _median(squares)
        # "Not less", so that NaN and infinity count as far.
        far = precision.exact | ~(squares.max(axis=0) < _FAR**2 * medians)
        if far.any():  # leave out those that may be rounding
            size = np.abs(sketch).max(axis=(0, 2)) * half_precision(answers)
            largest = (squares / precision.matrices[chosen].diagonal()[:, None]).max(axis=0)
            far &= ~((largest <= size**2) & np.isfinite(largest))
        suspects[part] = far
        sums += (squares / np.where(medians > 0, medians, np.inf)).sum(axis=1)
    return suspects, bool(not sums.max() < _FAR_IN_ALL**2 * _median(sums))


def _squares(sketch: np.ndarray, precision: Precision) -> tuple[np.ndarray, int]:
    """Squares of the standardised residuals, (F, B), and the index of the matrix, which a few groups choose for all."""
    count, groups, outputs = sketch.shape
    flat = sketch.reshape(count, -1).astype(np.float32, copy=False)
    # The matrix by which answers are most probable, given the others.
    off = (precision.choosing @ flat[:, : _CHOOSING * outputs]).reshape(len(precision.scales), -1)
    chosen = int((np.vecdot(off, off) * precision.scales).argmin())
    residuals = precision.standardising[chosen] @ flat
    return (residuals * residuals).reshape(count, groups, outputs).sum(axis=2), chosen


def _median(values: np.ndarray, zeros: int = 0) -> np.ndarray:
    """The median along the first axis, without so many ``zeros``, which stand for answers set aside."""
    middle = (len(values) + zeros) // 2
    return np.asarray(np.partition(values, middle, axis=0)[middle])


def _in_most_groups(answers: np.ndarray, precision: Precision) -> np.ndarray:
    """Answers that are outliers in most groups, (F,) bool.

    Some groups are judged as if they were outputs of one group. That also finds a gross error in a
    single group, so that each group is tested again.
    """
    step = -(-answers.shape[1] // _POOLED)
    least = half_precision(answers)
    by_group = scaled(sketched(answers[:, ::step], GLANCE).swapaxes(0, 1))
    sketch = by_group.swapaxes(0, 1)
    # Each group in its own unit, so that all count alike; a unit is no smaller than rounding.
    units = np.maximum(np.sqrt(_median(_squares(sketch, precision)[0])), least)
    y = (sketch / units[:, None]).reshape(len(sketch), -1)
    outliers = stepwise_outliers(y, precision, 1.0)
    if outliers.any():
        rest, right = precision.without(outliers), y[~outliers]
        energies = ((rest.matrices @ right) * right).sum(axis=(1, 2))
        matrix = precision.matrices[_chosen(rest.logdets, energies, rest.freedom)]
        times = [relative_distances(group, matrix, outliers, least) for group in by_group]
        outliers[outliers] = (np.array(times) > _FAR_IN_ALL).mean(axis=0) > 0.5
    return outliers


def half_precision(answers: np.ndarray) -> float:
    """Share of an answer's size up to which a difference may be rounding, as for copies: half of the digits."""
    return float(np.sqrt(np.finfo(answers.dtype).eps))
