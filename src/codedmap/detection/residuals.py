"""Which answers lie where the others do not predict them, and which of these are evidence enough to reject.

A symmetric matrix P, the inverse covariance of correct answers up to a factor, says how well the others predict each
answer: it is off by (Py)_i / P_ii, with a standard deviation of √(1 / P_ii) up to the same factor (Dubrule 1983,
Mathematical Geology 15). Several answers are left out together with the inverse of their block of P.

The answer that is furthest off is set aside, then the next. That is a search, and no verdict: functions have heavy
tails. Evidence is of two kinds. A worker is off in more of its groups than chance allows, where answers of the other
workers say how often an answer is off by how much. Or some answers are further off than any other by a factor that
the tail of the others does not explain.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

OFF = 4.0
"""Times the median size from which an answer is set aside."""
_MOST = 3  # one in so many answers may be set aside
_WORKERS = 4  # one in so many workers, and of the single answers, may be rejected
_GROUPS = 3  # a worker is judged by so many groups, or more
_SHARE, _WIDER, _LARGEST = 0.01, 3.0, 0.34  # of the others' answers that are further off
_FEWEST = 3.0  # answers of the others in such a share
_TIMES = 2.0  # further off than the others a worker is that is rejected
_UNLIKE, _SURE = 1.25, 0.999  # times that correct workers differ, or more with this confidence
_FEW = 8  # workers of a kind, or more, can do without those of other kinds
_BEYOND, _NEARLY_ALL = 3.0, 0.9  # times the size within which so many answers of other kinds are
_SUSPECT = 1e-2  # chance from which a worker does not say what is usual
_TAIL = 10  # one in so many answers is in the tail
_IN_TAIL = 10  # or so many, if these are more
_ROUNDING = 1e-12  # of the largest precision: the others do not determine an answer
_FURTHEST = 300.0  # a logarithm of a size that is still a number, also times others


def set_aside(precision: np.ndarray, answers: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Which of the answers (n, q) that are ``kept`` (n,) bool are left after those far off are set aside one by one."""
    precision, left = np.array(precision, np.float64, order="C"), precision @ answers
    kept = kept.copy()
    for answer in np.flatnonzero(~kept):
        _leave_out(precision, left, int(answer))
    for _ in range(len(answers) // _MOST - int((~kept).sum())):
        sizes = relative_sizes(standardised(precision, left), kept)[kept]
        if not sizes.max() > OFF * _quantile(np.sort(sizes), 0.5):
            break
        worst = int(np.flatnonzero(kept)[sizes.argmax()])
        _leave_out(precision, left, worst)
        kept[worst] = False
    return kept


def residuals(precision: np.ndarray, answers: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Standardised residuals (n, q): of those kept by the others kept, of the others by all those kept."""
    found, out = np.zeros_like(answers), ~kept
    within = precision[np.ix_(kept, kept)]
    if out.any():
        spread = np.linalg.inv(precision[np.ix_(out, out)])
        off = spread @ (precision[out] @ answers)
        found[out] = off / np.sqrt(np.maximum(np.diag(spread), 1e-300))[:, None]
        cross = precision[np.ix_(kept, out)]
        within = within - cross @ spread @ cross.T
    found[kept] = standardised(within, within @ answers[kept])
    return found


def relative_sizes(found: np.ndarray, kept: np.ndarray, least: float = 1e-12) -> np.ndarray:
    """Sizes (n,) of residuals (n, q): root mean square over the outputs, each in units of what is usual of those kept.

    The median, unless most are nearly 0, but at least ``least``.
    """
    size = np.sort(np.abs(found[kept]), axis=0)
    units = np.maximum(_quantile(size, 0.5), 0.1 * _quantile(size, 0.9))
    return np.asarray(np.sqrt(((found / np.maximum(units, least)) ** 2).mean(axis=1)))


def wrong_workers(sizes: np.ndarray, chance: float, kinds: np.ndarray) -> np.ndarray:
    """Workers (F,) bool that are off in more of their groups than chance allows.

    How far off correct answers are is taken from the other workers of the same kind, without those that are off the
    most. Nothing is assumed of how it is distributed, and correct workers may differ in it. Where there are few of a
    kind, workers of other kinds say how far off is far, and the others of the same kind how often correct answers are.

    The sizes (F, B) are those of residuals, NaN where there is no answer; the chance is that of finding one where all
    answers are correct. Workers of one kind (F,) are sent the like: correct answers to mixtures may all be further off
    than those to inputs.
    """
    found = np.zeros(len(sizes), dtype=bool)
    many = (~np.isnan(sizes)).sum(axis=1) >= _GROUPS
    for kind in np.unique(kinds):
        judged, others = (np.flatnonzero(many & own) for own in (kinds == kind, kinds != kind))
        if len(judged) >= _WORKERS:
            found[judged] = _wrong_of_a_kind(sizes[judged], chance)
        if len(judged) < _FEW <= len(others):
            found[judged] |= _wrong_of_few(sizes[judged], sizes[others], chance)
    return found


def _wrong_of_few(sizes: np.ndarray, others: np.ndarray, chance: float) -> np.ndarray:
    """Of workers of a kind those (F,) bool that are far off in most of their groups, if the others of the kind are not."""
    limit = _BEYOND * np.nanquantile(others, _NEARLY_ALL)
    groups = (~np.isnan(sizes)).sum(axis=1)
    beyond = (sizes > limit).sum(axis=1)
    far = 2 * beyond > groups
    share = min((beyond[~far].sum() + _FEWEST) / max(groups[~far].sum(), 1), 1.0)
    by_chance = scipy.special.bdtrc(beyond - 1, groups, share)
    return np.asarray(far & (by_chance * len(sizes) < chance))


def _wrong_of_a_kind(sizes: np.ndarray, chance: float) -> np.ndarray:
    # Small sizes differ widely, and say little of large ones.
    logs = np.log(np.maximum(sizes, max(0.1 * float(np.nanmedian(sizes)), 1e-300)))
    order = np.argsort(-np.nanmean(logs, axis=1))
    most = len(order) // _WORKERS
    suspects = order[: _leading(order[:most], order[most:], sizes, logs, _SUSPECT)]
    # The others of those that are off the most belong to what is usual.
    others = np.setdiff1d(order, suspects)
    found = np.zeros(len(sizes), dtype=bool)
    found[suspects[: _leading(suspects, others, sizes, logs, chance)]] = True
    return found


def _leading(
    workers: np.ndarray, others: np.ndarray, sizes: np.ndarray, logs: np.ndarray, chance: float
) -> int:
    """How many of some workers, the worst first, are off in more groups than others let expect."""
    usual = sizes[others]
    usual = usual[~np.isnan(usual)]
    least = max(_SHARE, _FEWEST / len(usual))
    shares = [share for share in (least, _WIDER * least) if share <= _LARGEST]
    limits = [np.quantile(usual, 1.0 - share) * _unlike(logs[others]) for share in shares]
    typical = np.nanmean(logs, axis=1)
    enough = typical[others].mean() + math.log(_TIMES)
    for count, worker in enumerate(workers):
        own = sizes[worker][~np.isnan(sizes[worker])]
        beyond = [int((own > limit).sum()) for limit in limits]
        by_chance = [
            float(scipy.special.bdtrc(k - 1, len(own), share))
            for k, share in zip(beyond, shares, strict=True)
            if k
        ]
        tests = len(shares) * (len(workers) + len(others))
        if min(by_chance, default=1.0) * tests >= chance or typical[worker] < enough:
            return count
    return len(workers)


def _unlike(logs: np.ndarray) -> float:
    """How many times further off than others a correct worker may be, by how much others (F, B) differ from each other."""
    within = float((np.nanvar(logs, axis=1, ddof=1) / (~np.isnan(logs)).sum(axis=1)).mean())
    by_chance = within * (1.0 + math.sqrt(2.0 / (len(logs) - 1)))  # and a deviation of that
    variance = max(float(np.nanmean(logs, axis=1).var(ddof=1)) - by_chance, 0.0)
    away = float(scipy.special.stdtrit(len(logs) - 1, _SURE)) * math.sqrt(variance)
    return max(_UNLIKE, math.exp(min(away, _FURTHEST)))


def far_off(sizes: np.ndarray, chance: float, times: float) -> np.ndarray:
    """Answers (F, B) bool so much further off than all others that the tail of these does not explain it (`_explained`).

    Their geometric mean is at least so many ``times`` further off than all others, and each by the root of that.
    """
    ranked = np.sort(sizes[~np.isnan(sizes)])[::-1]
    for count in range(len(ranked) // _WORKERS, 0, -1):
        some, rest = ranked[:count], ranked[count:]
        # Of fewer the largest are no tail.
        if len(rest) < 2 * _IN_TAIL or not some[-1] > rest[0] * math.sqrt(times):
            continue
        further = np.log(some / max(rest[0], 1e-300)).mean() >= math.log(times)
        if further and _explained(some, rest) < chance:
            return np.asarray(sizes >= some[-1])
    return np.zeros(sizes.shape, dtype=bool)


def _explained(some: np.ndarray, rest: np.ndarray) -> float:
    """The chance that answers are as far off, (n,), as some are, if the others, (m,) descending, are like them.

    If sizes fall by a power, their logarithms exceed the largest of the others by an exponential variable, whose mean
    is the index of the tail (Hill 1975). Of few it is not well known: what they exceed it by, over the index, has about
    an F distribution. The index knows nothing of those that are tested, and is a little low: where a chance of 0.1 is
    asked for, it is 0.15.
    """
    tail = max(_IN_TAIL, len(rest) // _TAIL)
    least = 1e-300
    index = np.log(np.maximum(rest[:tail], least) / max(rest[tail], least)).mean()
    beyond = np.log(np.maximum(some, least) / max(rest[0], least)).mean()
    return float(scipy.special.fdtrc(2 * len(some), 2 * tail, max(beyond, 0.0) / max(index, least)))


def _quantile(ranked: np.ndarray, share: float) -> np.ndarray:
    """As `numpy.quantile` of finite numbers (n, *q) in order, which takes ten times as long where they are few."""
    at = share * (len(ranked) - 1)
    low = int(at)
    return np.asarray(ranked[low] + (at - low) * (ranked[math.ceil(at)] - ranked[low]))


def standardised(precision: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Residuals (n, q) by the product of a precision and the answers, in their standard deviations."""
    diagonal = np.diag(precision)
    least = max(_ROUNDING * float(diagonal.max(initial=0.0)), 1e-300)
    return np.asarray(left / np.sqrt(np.maximum(diagonal, least))[:, None])


def _leave_out(precision: np.ndarray, left: np.ndarray, answer: int) -> None:
    """Make a precision, and its product with the answers, those of the other answers."""
    pivot = precision[answer, answer]
    if not pivot > 0.0:
        return
    share = precision[answer] / pivot
    left -= np.outer(share, left[answer])
    # In place, and by BLAS: this is most of the time. It counts columns, and the matrix is symmetric.
    scipy.linalg.blas.dger(-1.0, share, precision[answer].copy(), a=precision.T, overwrite_a=True)
    precision[answer] = precision[:, answer] = left[answer] = 0.0
