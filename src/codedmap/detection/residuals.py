"""Which answers are far from what the others predict, and when that is evidence enough to reject them.

A symmetric matrix P, the inverse covariance of correct answers up to a factor, gives the prediction of each answer by
the others: the answer is off by (Py)_i / P_ii, with a standard deviation of √(1 / P_ii) up to the same factor (Dubrule
1983, Mathematical Geology 15). To leave out several answers together takes the inverse of their block of P.

The answer that is furthest off is set aside, then the next. That is a search, and no verdict: functions have heavy
tails. Evidence is of two kinds. A worker is off in more of its groups than chance allows, judged by how often and how
far answers of the other workers are off. Or some answers are further off than any other by a factor that the tail of
the others does not explain.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

OFF = 4.0
"""An answer is set aside if its residual exceeds this many times the median size."""
_ASIDE = 3  # at most one in this many answers is set aside
_WORKERS = 4  # at most one in this many workers, or of the single answers, is rejected
_GROUPS = 3  # least groups by which a worker is judged
_SHARE = 0.01  # share of the other workers' answers beyond the first limit of sizes
_WIDER = 3.0  # the share beyond the second limit, as a multiple of that beyond the first
_LARGEST = 0.34  # a limit with a larger share beyond it is not used
_FEWEST = 3.0  # least answers of the others beyond a limit
_TIMES = 2.0  # a rejected worker is typically further off than the others by this factor
_UNLIKE = 1.25  # least factor by which correct workers may differ in how far they are off
_SURE = 0.999  # confidence of the factor that the differences of the other workers show
_FEW = 8  # from this many workers on, those of a kind are compared with their own kind alone
_NEARLY_ALL = 0.9  # quantile of the sizes of other kinds with which few workers are compared
_BEYOND = 3.0  # few workers of a kind: answers beyond this many _NEARLY_ALL quantiles are far off
_SUSPECT = 1e-2  # a worker with a smaller chance than this is no example of a correct one
_TAIL = 10  # one in this many answers is in the tail
_IN_TAIL = 10  # least answers in the tail
_ROUNDING = 1e-12  # share of the largest precision below which the others do not predict an answer
_FURTHEST = 300.0  # largest logarithm of a factor, so that sizes times it do not overflow


def set_aside(precision: np.ndarray, answers: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Set aside those of the ``kept`` (n,) bool answers (n, q) that are far off, one by one; returns which are left."""
    precision, left = np.array(precision, np.float64, order="C"), precision @ answers
    kept = kept.copy()
    for answer in np.flatnonzero(~kept):
        _leave_out(precision, left, int(answer))
    for _ in range(len(answers) // _ASIDE - int((~kept).sum())):
        sizes = relative_sizes(standardised(precision, left), kept)[kept]
        if not sizes.max() > OFF * np.median(sizes):
            break
        worst = int(np.flatnonzero(kept)[sizes.argmax()])
        _leave_out(precision, left, worst)
        kept[worst] = False
    return kept


def residuals(precision: np.ndarray, answers: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Standardised residuals (n, q). Kept answers are predicted by the other kept ones, all others by all kept ones."""
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
    """Sizes (n,) of residuals (n, q): the root mean square over the outputs, each in its own unit.

    The unit is the median of the kept residuals, unless most of them are nearly 0, and not below ``least``.
    """
    size = np.abs(found[kept])
    units = np.maximum(np.median(size, axis=0), 0.1 * np.quantile(size, 0.9, axis=0))
    return np.asarray(np.sqrt(((found / np.maximum(units, least)) ** 2).mean(axis=1)))


def wrong_workers(sizes: np.ndarray, chance: float, kinds: np.ndarray) -> np.ndarray:
    """Workers (F,) bool that are off in more of their groups than chance allows.

    How far off correct answers are is taken from the other workers of the same kind, without those that are off the
    most. No distribution is assumed, and correct workers may differ. If a kind has few workers, those of other kinds
    show which size is far, and the others of the same kind how often correct answers are that far off.

    The sizes (F, B) are those of residuals, NaN where there is no answer. ``chance`` is that of finding any worker if
    all answers are correct. ``kinds`` (F,) are equal for workers with payloads of one kind: correct answers to mixtures
    may all be further off than those to inputs.
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
    """Workers (F,) bool of a kind that are far off in most of their groups, while the others of the kind are not."""
    limit = _BEYOND * np.nanquantile(others, _NEARLY_ALL)
    groups = (~np.isnan(sizes)).sum(axis=1)
    beyond = (sizes > limit).sum(axis=1)
    far = 2 * beyond > groups
    share = min((beyond[~far].sum() + _FEWEST) / max(groups[~far].sum(), 1), 1.0)
    by_chance = scipy.special.bdtrc(beyond - 1, groups, share)
    return np.asarray(far & (by_chance * len(sizes) < chance))


def _wrong_of_a_kind(sizes: np.ndarray, chance: float) -> np.ndarray:
    # Sizes near 0 differ widely in their logarithms, and say little of large ones.
    logs = np.log(np.maximum(sizes, max(0.1 * float(np.nanmedian(sizes)), 1e-300)))
    order = np.argsort(-np.nanmean(logs, axis=1))
    most = len(order) // _WORKERS
    suspects = order[: _leading(order[:most], order[most:], sizes, logs, _SUSPECT)]
    # Workers that were off the most, but are no suspects, count as correct ones.
    others = np.setdiff1d(order, suspects)
    found = np.zeros(len(sizes), dtype=bool)
    found[suspects[: _leading(suspects, others, sizes, logs, chance)]] = True
    return found


def _leading(
    workers: np.ndarray, others: np.ndarray, sizes: np.ndarray, logs: np.ndarray, chance: float
) -> int:
    """How many of some workers, the worst first, are off in more groups than ``others`` make likely."""
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
    """By which factor a correct worker may be further off than others, given how these differ: their logarithms (F, B)."""
    within = float((np.nanvar(logs, axis=1, ddof=1) / (~np.isnan(logs)).sum(axis=1)).mean())
    by_chance = within * (1.0 + math.sqrt(2.0 / (len(logs) - 1)))  # plus its standard deviation
    variance = max(float(np.nanmean(logs, axis=1).var(ddof=1)) - by_chance, 0.0)
    away = float(scipy.special.stdtrit(len(logs) - 1, _SURE)) * math.sqrt(variance)
    return max(_UNLIKE, math.exp(min(away, _FURTHEST)))


def far_off(sizes: np.ndarray, chance: float, times: float) -> np.ndarray:
    """Answers (F, B) bool that are further off than the tail of all others explains (`_explained`).

    Their geometric mean is at least so many ``times`` the largest of the others, each at least the root of that.
    """
    ranked = np.sort(sizes[~np.isnan(sizes)])[::-1]
    for count in range(len(ranked) // _WORKERS, 0, -1):
        some, rest = ranked[:count], ranked[count:]
        # Fewer answers have no tail to judge by.
        if len(rest) < 2 * _IN_TAIL or not some[-1] > rest[0] * math.sqrt(times):
            continue
        further = np.log(some / max(rest[0], 1e-300)).mean() >= math.log(times)
        if further and _explained(some, rest) < chance:
            return np.asarray(sizes >= some[-1])
    return np.zeros(sizes.shape, dtype=bool)


def _explained(some: np.ndarray, rest: np.ndarray) -> float:
    """The chance that some answers are so far off, (n,), if they are like the rest, (m,) descending.

    If the tail is a power law, the logarithms of sizes exceed that of the largest of the rest by an exponential
    variable, whose mean is the index of the tail (Hill 1975). The mean excess, divided by an estimate of the index, has
    about an F distribution. The estimate, without the tested answers, is a little low: a chance of 0.1 is 0.15 in fact.
    """
    tail = max(_IN_TAIL, len(rest) // _TAIL)
    least = 1e-300
    index = np.log(np.maximum(rest[:tail], least) / max(rest[tail], least)).mean()
    beyond = np.log(np.maximum(some, least) / max(rest[0], least)).mean()
    return float(scipy.special.fdtrc(2 * len(some), 2 * tail, max(beyond, 0.0) / max(index, least)))


def standardised(precision: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Residuals (n, q) in units of their standard deviations; ``left`` is the product of the precision and the answers."""
    diagonal = np.diag(precision)
    least = max(_ROUNDING * float(diagonal.max(initial=0.0)), 1e-300)
    return np.asarray(left / np.sqrt(np.maximum(diagonal, least))[:, None])


def _leave_out(precision: np.ndarray, left: np.ndarray, answer: int) -> None:
    """Change a precision, and its product with the answers, to those without this answer."""
    pivot = precision[answer, answer]
    if not pivot > 0.0:
        return
    share = precision[answer] / pivot
    left -= np.outer(share, left[answer])
    # In place and by BLAS, because this takes most of the time. BLAS wants columns first; the matrix is symmetric.
    scipy.linalg.blas.dger(-1.0, share, precision[answer].copy(), a=precision.T, overwrite_a=True)
    precision[answer] = precision[:, answer] = left[answer] = 0.0
