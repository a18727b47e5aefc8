"""`fill`: estimates, with standard errors, of runs that were lost."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..contracts.arguments import check_whole
from ..contracts.extremes import described
from ..contracts.inputs import array_of, check_columns, check_kind, check_plain, reordered
from ..contracts.warning import warn_caller
from ..errors import InvalidArgument, many
from ..estimation.known import deviations, known_pair
from ..estimation.known import flat as as_columns
from ..estimation.losses import dependence
from ..estimation.other_outputs import with_other_outputs
from ..estimation.set_aside import set_aside
from ..estimation.surrogate import estimates, seconds_to_be_thorough
from ..execution.missing import alike, on_cores
from ..results.fill_result import FillResult
from ..results.status import Status

_LONG = 120.0  # seconds: if thorough estimates of all groups of outputs would take longer, quick ones are made
_AWAY = 10.0  # distance of a mark such as -9999 from all other answers, at least, over the range of these
_ROUNDING = 1e-9  # difference of answers, over the largest of them, that may be rounding


def fill(
    X: Any,
    y: Any,
    *,
    known: tuple[Any, Any] | None = None,
    failed: Any = None,
    seed: int = 0,
) -> FillResult:
    """Estimate missing answers of runs that exist from the other answers.

    For each output Gaussian processes with a length scale for each input, means of neighbours, boosted trees and the
    mean are compared by how well they estimate answers that are left out. The best is taken, or a weighted mean of
    several. The same residuals calibrate the standard errors. Outputs that are lost, and finite, in the same rows are a
    group and estimated together. Where other outputs of a row are known, up to eight of them are taken as inputs as well.
    If estimating all groups would take minutes, one process is tried for each.

    Parameters
    ----------
    X : array-like or data frame, shape (m, *x)
        Inputs; finite numbers.
    y : array-like, masked array or data frame, shape (m, *y)
        Answers, NaN or masked where there is none. Of a row with some entries missing those alone are filled. Numbers
        with more digits than float64 holds are rounded, in X and y, also where nothing is missing.
    known : tuple of array-like, optional
        (X0, y0): further inputs and their answers.
    failed : array-like, optional
        (m,) bool, or numbers of rows: rows that failed because of their inputs. They are not filled. Answers that they have
        are used.
    seed : int
        Seeds the choice of answers that are used where there are many.

    Returns
    -------
    FillResult
        ``values`` and ``stderr`` are frames or series where ``y`` is one, and arrays otherwise.

    Warns
    -----
    UserWarning
        If it depends on the inputs, or on outputs that are known, which rows are lost: what is filled may be biased. If
        equal inputs have different answers. If several equal answers, such as -9999, are far from all others; or if an
        answer is far beyond all others, such as that of a simulation that diverged: it is not used.

    Raises
    ------
    InvalidArgument
        If X holds text, categories, NaN or infinity, y no numbers, or their rows differ in number.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> X = np.random.default_rng(0).uniform(size=(60, 2))
    >>> y = np.sin(3 * X[:, 0]) + X[:, 1]
    >>> lost = y.copy()
    >>> lost[::6] = np.nan
    >>> result = cm.fill(X, lost)
    >>> bool(np.abs(result.values - y).max() < 0.05)
    True
    >>> int((result.status == cm.Status.ESTIMATED).sum())
    10
    """
    seed = check_whole("seed", seed, 0)
    inputs, answers = _inputs(X, "X"), _answers(y, "y")
    rows = len(inputs.flat)
    _check_rows(rows, answers, "X", "y")
    if reordered(X, y):
        raise InvalidArgument(
            "X and y have the same index in another order, and row k of y has to be that of row k of X: give "
            "y.reindex(X.index), or y.to_numpy() if it is"
        )
    points, flat, lost = inputs.flat, answers.flat, answers.lost
    excluded = np.zeros(rows, dtype=bool) if failed is None else _failed(failed, lost)
    if known is not None:
        more_points, more_flat = _known(known, inputs, answers)
        points, flat = np.concatenate([points, more_points]), np.concatenate([flat, more_flat])
    wanted = lost & ~excluded[:, None]
    values, errors = answers.flat.copy(), np.where(lost, np.inf, 0.0)
    methods = np.full(flat.shape[1], "", dtype=object)
    left_out, deviation = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
    usable = np.isfinite(flat)
    usable[:rows] &= ~lost
    # Outputs are in one group only if they are known in the same rows: an infinite one costs others no row.
    groups = alike(np.concatenate([lost, usable]))
    seconds = [seconds_to_be_thorough(len(points), rows, len(columns)) for columns in groups]
    # Each may be estimated twice: see `with_other_outputs`.
    thorough = len(groups) == 1 or 2.0 * sum(seconds) <= _LONG
    estimate = partial(estimates, seed=seed, thorough=thorough, each=on_cores)
    beyond = None
    for columns in groups:
        used, filled = usable[:, columns[0]], wanted[:, columns[0]]
        given = flat[np.ix_(used, columns)]
        odd = set_aside(points[used], given)
        if len(given):
            deviation[columns] = deviations(given[odd < 0])
        if not filled.any() or len(given) < 2:
            methods[columns] = "too few answers" if filled.any() else "nothing is missing"
            continue
        found = estimate(points[used], given, points[:rows][filled])
        name, names = partial(_row, np.flatnonzero(used), rows), [answers.names[k] for k in columns]
        beyond = beyond or described(given, odd, name, names)
        found = with_other_outputs(
            found, columns, answers=flat, usable=usable, points=points, estimate=estimate,
            filled=np.append(filled, np.zeros(len(points) - rows, dtype=bool)),
        )  # fmt: skip
        limits = np.finfo(answers.dtype if answers.dtype.kind in "fc" else np.float64)
        values[np.ix_(filled, columns)] = np.clip(found.values, limits.min, limits.max)
        errors[np.ix_(filled, columns)] = np.clip(found.stderr, limits.tiny, limits.max)
        left_out[columns], methods[columns] = found.left_out, found.methods
    losses = _losses(inputs, answers, lost, seed)
    if losses is not None:
        warn_caller(
            f"rows are not lost at random: {losses}. What is filled there rests on few answers, or on none like it, "
            "and may be biased"
        )
    if beyond is not None:
        beyond += ". If such runs failed, make them NaN, and name the runs in failed="
    for remark in (_noise(inputs.flat, answers, lost), _marks(answers, lost) or beyond):
        if remark is not None:
            warn_caller(remark)
    return FillResult(
        values=answers.like(values),
        stderr=answers.like(errors),
        status=_status(errors, excluded),
        methods=tuple(methods),
        left_out=left_out,
        deviation=deviation,
        losses=losses,
        outputs=answers.names,
        inputs=inputs.names,
        _points=inputs.flat,
        _flat=values,
        _errors=errors,
    )


class _Table(NamedTuple):
    """Inputs or answers as rows of real numbers, and the form in which they were given."""

    flat: np.ndarray  # (m, q) float64, complex numbers as pairs
    names: tuple[str, ...]  # of the columns
    given: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def lost(self) -> np.ndarray:
        """(m, q) bool: which numbers are NaN."""
        lost: np.ndarray = np.isnan(self.flat)
        if self.dtype.kind == "c":
            lost = np.repeat(lost[:, ::2] | lost[:, 1::2], 2, axis=1)
        return lost

    def like(self, flat: np.ndarray) -> Any:
        """Numbers (m, q) in the given form."""
        given, dtype = self.given, self.dtype
        if dtype.kind == "c":
            flat = np.ascontiguousarray(flat).view(np.complex128)
        if dtype.kind in "biu":
            dtype = np.dtype(np.float64)
        array = flat.reshape(self.shape).astype(dtype)
        if hasattr(given, "iloc"):  # pandas
            labels = {"columns": given.columns} if given.ndim == 2 else {"name": given.name}
            return type(given)(array, index=given.index, **labels)
        if hasattr(given, "get_column"):  # a polars frame
            return type(given)({name: array[:, k] for k, name in enumerate(given.columns)})
        if hasattr(given, "to_frame"):  # a polars series
            return type(given)(given.name, array)
        return array


def _table(given: Any, name: str, letter: str) -> _Table:
    check_kind(given, name)
    if isinstance(given, dict):
        raise InvalidArgument(
            f"{name} is a dict, and has no rows: give pandas.DataFrame({name}), say"
        )
    array = array_of(given.filled(np.nan) if np.ma.isMaskedArray(given) else given, name)
    if hasattr(given, "columns"):
        names = tuple(map(str, given.columns))
        cells = given.iloc if hasattr(given, "iloc") else given  # labels of pandas may be equal
        columns = [
            _numbers(cells[:, k], f"column {label!r} of {name}") for k, label in enumerate(names)
        ]
        array = np.stack(columns, axis=1) if columns else np.zeros((len(given), 0))
    else:
        names = ()
        array = _numbers(array, name)
    if array.size == 0 or array.ndim == 0:
        raise InvalidArgument(
            f"{name} of shape {array.shape} must have a row for each run, of one number or more"
        )
    rows = as_columns(array)
    if array.dtype.kind == "c":
        names = tuple(f"{one}.{part}" for one in names for part in ("real", "imag"))
    if not names:
        names = tuple(f"{letter}{k}" for k in range(rows.shape[1]))
        if len(names) == 1 and letter == "y":
            label = getattr(given, "name", None)  # of a series; polars has "" for none
            names = ("y" if label in (None, "") else str(label),)
    return _Table(rows, names, given, array.shape, array.dtype)


def _numbers(given: Any, name: str) -> np.ndarray:
    array = np.asarray(given)
    if array.dtype.kind in "biufc":
        return array
    try:
        if array.dtype.kind != "O":
            raise TypeError
        absent = np.array([type(entry).__name__ == "NAType" for entry in array.flat], dtype=bool)
        return np.where(absent.reshape(array.shape), np.nan, array).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        step = "give numbers"
        if array.dtype.kind in "Mm":
            step += ", such as the days since the first"
        if array.dtype.kind in "OUST" and not name.endswith(("y", "y0")):
            step += ", which text and categories become by pandas.get_dummies(X) or polars.DataFrame.to_dummies(), and dates as days"
        raise InvalidArgument(
            f"{name} has no numbers; its dtype is {array.dtype}: {step}"
        ) from error


def _inputs(given: Any, name: str) -> _Table:
    check_plain(given, name)
    inputs = _table(given, name, "x")
    bad = ~np.isfinite(inputs.flat)
    if bad.any():
        row, column = (int(at[0]) for at in np.nonzero(bad))
        raise InvalidArgument(
            f"{bad.sum():,} of {bad.size:,} entries of {name} are NaN or infinite (the first is {inputs.names[column]} "
            f"of row {row}): give the inputs of all rows, also of those that were lost"
        )
    return inputs


def _answers(given: Any, name: str) -> _Table:
    if np.ma.isMaskedArray(given) and given.dtype.kind in "biu":
        given = given.astype(np.float64)
    return _table(given, name, "y")


def _check_rows(rows: int, answers: _Table, first: str, second: str) -> None:
    if rows != len(answers.flat):
        raise InvalidArgument(
            f"{first} has {many(rows, 'row')} and {second} {len(answers.flat):,}: give a row of each for every run, NaN in "
            f"{second} where it was lost"
        )


def _known(known: Any, inputs: _Table, answers: _Table) -> tuple[np.ndarray, np.ndarray]:
    given, values = known_pair(known)
    check_columns(inputs.given, given, "X", "X0")
    check_columns(answers.given, values, "y", "y0")
    more, more_answers = _inputs(given, "X0"), _answers(values, "y0")
    _check_rows(len(more.flat), more_answers, "X0", "y0")
    for name, known_table, table in (("X", more, inputs), ("y", more_answers, answers)):
        width, other_width = known_table.flat.shape[1], table.flat.shape[1]
        if width != other_width:
            raise InvalidArgument(
                f"the known {name}0 has {many(width, 'number')} a row, and {name} {other_width}: give one that is like "
                f"{name}, or leave known out"
            )
    return more.flat, more_answers.flat


def _row(used: np.ndarray, rows: int, at: int) -> str:
    """The name of one of the rows that are used, which are followed by those of ``known``."""
    return f"row {used[at]}" if used[at] < rows else f"row {used[at] - rows} of known"


def _status(errors: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    """(m,) int8: a `Status` for each row, from its standard errors (m, q)."""
    status = np.full(len(errors), Status.EXACT, np.int8)
    status[(errors > 0.0).any(axis=1)] = Status.ESTIMATED
    status[np.isinf(errors).any(axis=1)] = Status.MISSING
    status[excluded] = Status.FAILED
    return status


def _losses(inputs: _Table, answers: _Table, lost: np.ndarray, seed: int) -> str | None:
    """Where rows are lost more often than elsewhere, by their inputs and the outputs that are known; None if nowhere."""
    gone, partly = np.asarray(lost.any(axis=1)), np.asarray(~lost.all(axis=1))
    complete = np.isfinite(answers.flat[partly]).all(axis=0)
    found = None
    if complete.any():
        known = np.concatenate(
            [inputs.flat[partly], answers.flat[np.ix_(partly, complete)]], axis=1
        )
        names = [name for name, one in zip(answers.names, complete, strict=True) if one]
        found = dependence(known, gone[partly], [*inputs.names, *names], seed)
    return found or dependence(inputs.flat, gone, inputs.names, seed)


def _noise(points: np.ndarray, answers: _Table, lost: np.ndarray) -> str | None:
    """A warning if answers to equal inputs differ; None if they do not."""
    kept = np.isfinite(answers.flat).all(axis=1) & ~lost.any(axis=1)
    _, which, counts = np.unique(points[kept], axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    repeated = counts[which] > 1
    if not repeated.any():
        return None
    flat = answers.flat[kept]
    unit = np.maximum(np.abs(flat).max(axis=0), np.finfo(float).tiny)
    means = np.zeros((len(counts), flat.shape[1]))
    np.add.at(means, which, flat / unit)
    differences = (flat / unit - means[which] / counts[which][:, None])[repeated]
    freedom = len(differences) - np.count_nonzero(counts > 1)
    spread = np.sqrt((differences**2).sum(axis=0) / freedom)
    worst = int(spread.argmax())
    if spread[worst] < _ROUNDING:
        return None
    return (
        f"answers to equal inputs differ, those in {answers.names[worst]} by a standard deviation of "
        f"{spread[worst] * unit[worst]:.3g}: they vary by chance, or with something that is not in X. What is filled is "
        "their mean, and its standard errors are those of a single answer"
    )


def _marks(answers: _Table, lost: np.ndarray) -> str | None:
    """A warning of answers such as -9999 that may mark failed runs; None if there are none."""
    for name, flat, gone in zip(answers.names, answers.flat.T, lost.T, strict=True):
        numbers, counts = np.unique(flat[np.isfinite(flat) & ~gone], return_counts=True)
        if len(numbers) < 3:
            continue
        # Without this scale the difference of the largest floats is infinite.
        scaled = numbers / np.abs(numbers[[0, -1]]).max()
        for mark, others in ((-1, slice(0, -1)), (0, slice(1, None))):
            low, high = scaled[others][[0, -1]]
            away = max(low - scaled[mark], scaled[mark] - high)
            if counts[mark] > 1 and away > max(_AWAY * (high - low), _ROUNDING):
                low, high = numbers[others][[0, -1]]
                return (
                    f"{counts[mark]:,} answers in {name} are {numbers[mark]:.6g}, and all others are between {low:.6g} and "
                    f"{high:.6g}: if they stand for runs that failed, make them NaN, and name the runs in failed="
                )
    return None


def _failed(failed: Any, lost: np.ndarray) -> np.ndarray:
    """(m,) bool: the rows that ``failed`` names; raises `InvalidArgument` if none of their answers is lost."""
    given, rows = array_of(failed, "failed", step="Give numbers of rows"), len(lost)
    if given.dtype == bool and given.shape == (rows,):
        given = np.flatnonzero(given)
    if given.dtype.kind not in "iu" and given.size:
        raise InvalidArgument(f"failed must be {rows} of True and False, or numbers of rows")
    outside = given[(given < 0) | (given >= rows)]
    if outside.size:
        raise InvalidArgument(
            f"failed names row {outside[0]} of {many(rows, 'row')}, counted from 0"
        )
    found = np.isin(np.arange(rows), given)
    answered = np.flatnonzero(found & ~lost.any(axis=1))
    if len(answered):
        raise InvalidArgument(
            f"row {answered[0]} is failed, and no answer of it is missing: leave it out of failed, or make its answers NaN"
        )
    return found
