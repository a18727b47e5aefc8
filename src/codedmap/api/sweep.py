"""`sweep`: a function over the rows of a design, and its outputs beside them."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..contracts.answers import cast_values, has_text, unrounded
from ..contracts.arguments import is_real
from ..contracts.inputs import check_order, check_plain, plain_array
from ..contracts.stopping import StoppingRule
from ..engines import Engine, Resident
from ..errors import InvalidAnswer, InvalidArgument, many
from ..execution.failures import Failures
from ..execution.hedge import Hedge
from ..execution.inputs import InputRows
from ..execution.task import Itemwise, itemwise, named, plain
from ..results.map_result import MapResult
from ..results.status import Status
from ..results.summary import encodable, short
from ..results.sweep_result import SweepResult
from ..results.trees import (
    as_numpy,
    blanked,
    entries_of,
    for_all_entries,
    parts_of,
    read_columns,
    read_errors,
)
from ..storage.source import extra
from .command import Program
from .map import HEDGE, MAX_FAILURES, check_fn, knows_other_names, options_from

ADDED = "status", "error"  # columns that sweep adds
_LISTED = 12  # names in a message, at most
_CATEGORIES = 20  # different texts in a column, at most, for estimates to use it
_COMPARED = 100_000  # rows, at most, among which a note counts those that are equal
_NUMBER = re.compile(r"\s*[-+]?\.?\d")  # how a text begins that may be a number with its unit


@knows_other_names
def sweep(
    fn: Callable[..., Any],
    design: Any,
    *,
    frame: bool = False,
    unique: bool = False,
    engine: Engine | Executor | None = None,
    deadline: float | None = None,
    tolerance: float | Mapping[str, float] | None = None,
    stop: StoppingRule | None = None,
    hedge: Hedge | None = HEDGE,
    retries: int = 2,
    call_timeout: float | None = None,
    on_timeout: Literal["fail", "estimate"] = "fail",
    max_failures: int | None = MAX_FAILURES,
    kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    chunk: int | Literal["all"] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    version: str | int | None = None,
    progress: bool | None = None,
) -> SweepResult:
    """Run ``fn`` on every row of a design, and put its outputs beside the inputs.

    Rows are computed as by `map` with ``on_error="record"``. Without ``deadline``, ``tolerance``, ``stop`` and
    ``on_timeout`` every row is exact or FAILED. With one of these, rows without an answer are estimated, if all columns of the design are
    numbers, or text of at most 20 kinds, and at most half as many kinds as rows.

    Parameters
    ----------
    fn : callable
        Called with the values of a row by name, ``fn(a=..., b=...)``. Whole numbers are Python's own; dates and durations
        are NumPy's ``datetime64`` and ``timedelta64``. It returns a number, an array, or a dict or dataclass of numbers,
        text and arrays; the names and shapes are the same for each row. A single number or array becomes the output
        ``y``, and the parts of a tuple become ``y_0``, ``y_1`` and so on.
    design : data frame, xarray.Dataset, dict, list of dicts, SALib.ProblemSpec or tuple
        m >= 1 rows.

        - A pandas or polars frame, or a dict of columns, each (m,).
        - A list of dicts, one for each row, with the same keys. The table is a dict of columns.
        - A Dataset: its data variables and those coordinates that ``fn`` takes by name, broadcast against each other;
          without data variables all coordinates, which is a full grid. Its dimensions are kept.
        - A sample of SALib's: a ``ProblemSpec`` that has one, or a tuple of the problem and the sample,
          an array (m, p) or a frame with the problem's names as columns, in their order.
    frame : bool
        Call ``fn`` with the columns of many rows as one argument instead: a frame if the design is one, else a dict of
        arrays, each (b,). It returns an array (b, *y), or a dict or frame of these.
    unique : bool
        Compute rows that are equal once.
    engine : Engine or concurrent.futures.Executor, optional
        Where calls run. By default worker processes on the cores of this machine.
    deadline, tolerance, stop, hedge, retries, call_timeout, on_timeout, max_failures, kwargs, seed, chunk, version, progress
        As for `map`. ``kwargs`` are arguments that are the same for all rows.
    out : path, optional
        Where outputs are written as they come. A path ending in .parquet, for a table of the design, the outputs,
        ``status`` and, if rows are estimated, standard errors; or in .zarr, for an array of each output.
    resume : bool
        Go on with the sweep in the journal beside ``out``, if there is one.

    Returns
    -------
    SweepResult
        ``table`` is the design with its outputs.

    Raises
    ------
    InvalidArgument
        If an argument is invalid; nothing has been computed then. Among others if the design is empty, has NaN, a
        number with a unit among numbers, or columns of different length, or if its columns are not the arguments of
        ``fn``.
    InvalidAnswer
        If ``fn`` returns an output that has the name of an input, or what is no output; or if more answers differ in
        their outputs from the first than agree with it. As long as fewer differ, their rows are FAILED.
    CodedmapError
        As `map`.

    Examples
    --------
    >>> import codedmap as cm
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> def area(width, height):
    ...     return {"area": width * height}
    >>> with ThreadPoolExecutor(2) as pool:
    ...     result = cm.sweep(area, {"width": [1, 2, 3], "height": [0.5, 0.5, 2.0]}, engine=pool)
    >>> result.table["area"]
    array([0.5, 1. , 6. ])
    >>> result.table["status"].tolist()
    ['EXACT', 'EXACT', 'EXACT']
    """
    options = options_from(locals(), on_error="record")
    _check_fn_and_out(fn, out)
    takes = signature_of(fn)
    rows = _rows(design, None if frame else takes)
    check_columns(rows.columns)
    if takes is not None:
        fixed = [*(kwargs or {}), *(["rng"] if seed is not None else [])]
        if frame:
            _check_frame_call(takes, fixed)
        else:
            check_call(takes, list(rows.columns), fixed)
    if isinstance(fn, Program):  # raises before any run
        first = {name: column[0] for name, column in rows.columns.items()}
        fn.line({**first, **(kwargs or {})})
    at, inverse = _distinct(rows.columns) if unique else (slice(None), None)
    columns = {name: column[at] for name, column in rows.columns.items()}
    if frame and rows.framed:
        inputs = rows.table.iloc[at] if hasattr(rows.table, "iloc") else rows.table[at]
    else:
        inputs = tuple(columns.values())
    like = as_numbers(columns)
    options = dataclasses.replace(options, before=columns, like=like)
    task: Any = _Task(fn, tuple(columns), (*rows.taken, *ADDED), frame, rows.framed)
    with ExitStack() as stack:
        run = options.job(task if frame else itemwise(task), inputs, stack).run()
    equal = 0 if unique else count_equal(columns)
    return _result(run, rows, inverse, equal)


# The design ---------------------------------------------------------------------------------------------


class _Rows(NamedTuple):
    """The rows of a design."""

    columns: dict[str, np.ndarray]  # each (m,)
    table: Any  # a frame, a Dataset or a dict, which outputs are added to
    dims: tuple[str, ...] = ()  # of a Dataset, as its shape
    shape: tuple[int, ...] | None = None  # None if it is no Dataset
    problem: Mapping[str, Any] | None = None  # SALib's

    @property
    def framed(self) -> bool:
        """Whether the table is a frame, whose columns are one-dimensional."""
        return hasattr(self.table, "columns")

    @property
    def taken(self) -> tuple[str, ...]:
        """All names in the table."""
        if self.shape is None:
            return tuple(self.columns)
        return (*self.table.variables, *self.table.dims)


def _rows(design: Any, takes: inspect.Signature | None) -> _Rows:
    """The rows of a design of any kind; raises `InvalidArgument` if it is of none."""
    if isinstance(design, Mapping) and {"names", "bounds"} <= set(design):
        sample = getattr(design, "samples", None)  # of a ProblemSpec
        if sample is None:
            raise InvalidArgument(
                "the design is a problem of SALib's without a sample: give (problem, sample), or of a ProblemSpec make one, "
                "such as by design.sample_sobol(64)"
            )
        return _sampled(design, sample)
    pair = isinstance(design, tuple) and len(design) == 2 and isinstance(design[0], Mapping)
    if pair and "names" in design[0]:
        return _sampled(*design)
    if isinstance(design, list) and all(isinstance(row, Mapping) for row in design):
        return _rows(_columns_of(design), takes)
    if hasattr(design, "data_vars"):
        return _grid(design, takes)
    if hasattr(design, "dask"):
        raise InvalidArgument("the design is a data frame of Dask's: give design.compute()")
    if hasattr(design, "get_column") or (hasattr(design, "iloc") and hasattr(design, "columns")):
        names = list(design.columns)
        check_names(names)
        return _Rows({name: plain_array(design[name]) for name in names}, design)
    if isinstance(design, Mapping):
        check_names(list(design))
        columns = {name: column_of(name, given) for name, given in design.items()}
        check_order(list(design.values()), "columns of the design")
        return _Rows(columns, columns)
    raise InvalidArgument(
        f"the design is of type {type(design).__name__}: give a data frame, an xarray.Dataset, a dict of columns, a list of dicts, or a "
        "sample of SALib's as (problem, sample); of an array of numbers (m, p) a frame, pandas.DataFrame(array, columns=['a', 'b'])"
    )


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The columns of rows; raises `InvalidArgument` if their keys differ."""
    names = rows[0].keys() if rows else ()
    for number, row in enumerate(rows):
        for name in (*names, *row):
            if name not in row or name not in names:
                has, other = (number, 0) if name in row else (0, number)
                raise InvalidArgument(
                    f"row {has} of the design has {name!r}, and row {other} has not: give every row the same keys"
                )
    return {name: [row[name] for row in rows] for name in names}


def _sampled(problem: Mapping[str, Any], sample: Any) -> _Rows:
    names, array = list(problem["names"]), np.asarray(sample)
    columns = list(getattr(sample, "columns", names))
    if columns != names:
        raise InvalidArgument(
            f"the problem has the names {_listed(names)} and the sample the columns {_listed(columns)}: give the columns in "
            "the order of the names, sample[problem['names']], or an array"
        )
    if array.ndim != 2 or array.shape[1] != len(names):
        raise InvalidArgument(
            f"the problem has {many(len(names), 'name')} and the sample the shape {array.shape}: give a row for each run and a "
            "column for each name"
        )
    table = extra("pandas", "a sample of SALib's").DataFrame(array, columns=names)
    return _rows(table, None)._replace(problem=dict(problem))


def _grid(design: Any, takes: inspect.Signature | None) -> _Rows:
    coordinates, names = list(design.coords), list(design.data_vars)
    if not names:
        names = coordinates
    elif takes is not None:
        names += [name for name in coordinates if name in takes.parameters]
    check_names(list({*design.variables, *design.dims}))
    arrays = extra("xarray", "a Dataset").broadcast(*(design[name] for name in names))
    dims, shape = (arrays[0].dims, arrays[0].shape) if names else ((), ())
    columns = {
        name: column_of(name, array.transpose(*dims).to_numpy().reshape(-1))
        for name, array in zip(names, arrays, strict=True)
    }
    return _Rows(columns, design, dims, shape)


def column_of(name: str, given: Any) -> np.ndarray:
    """A column of a design (m,); raises `InvalidArgument`."""
    if isinstance(given, str | bytes) or not hasattr(given, "__len__"):
        raise InvalidArgument(
            f"column {name!r} of the design is of type {type(given).__name__}, which has no rows: give an array or a list, or "
            f"leave it out and give kwargs={{{name!r}: ...}} for an argument that is the same for all rows"
        )
    check_plain(given, f"column {name!r}")
    array = None
    with suppress(ValueError):  # rows of different lengths
        if isinstance(given, list | tuple) and has_text(given):
            # By itself NumPy would make text of the numbers beside it.
            array = np.array(given, dtype=object)
        else:
            array = unrounded(np.asarray(as_numpy(given)), given)
    if array is None or array.ndim != 1:
        shape = "ragged" if array is None else f"of shape {array.shape}"
        raise InvalidArgument(
            f"column {name!r} of the design is {shape}: a column is one-dimensional, with an entry for each row"
        )
    return array.astype(object) if array.dtype.kind in "US" else array


def check_names(names: Sequence[Any]) -> None:
    """Raise `InvalidArgument` if columns of a design cannot be given by name, or put beside outputs."""
    counts = Counter(names)
    wrong = [n for n in counts if not isinstance(n, str) or counts[n] > 1 or n in ADDED]
    if wrong:
        raise InvalidArgument(
            f"columns of the design are called {_listed(wrong)}: fn gets values by name, and sweep adds "
            f"{' and '.join(ADDED)}; give each a name of its own that is text, and none of these"
        )


def check_columns(columns: Mapping[str, np.ndarray]) -> None:
    """Raise `InvalidArgument` if the rows of a design cannot be computed."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        usual = Counter(lengths.values()).most_common(1)[0][0]
        other = next(name for name, length in lengths.items() if length != usual)
        raise InvalidArgument(
            f"column {other!r} of the design has {many(lengths[other], 'entry')} and others {usual:,}: give an entry for each row"
        )
    if not columns or not next(iter(lengths.values())):
        raise InvalidArgument(
            f"the design has {many(len(columns), 'column')} and {many(max(lengths.values(), default=0), 'row')}: there is nothing to "
            "compute"
        )
    for name, column in columns.items():
        missing = _missing(column)
        if missing.any():
            raise InvalidArgument(
                f"column {name!r} of the design has no value in {missing.sum():,} of {len(column):,} rows (the first "
                f"is row {missing.argmax()}): give values, or leave these rows out"
            )
        if column.dtype.kind in "OU":
            _check_units(name, column)


def _missing(column: np.ndarray) -> np.ndarray:
    """(m,) bool: whether an entry is NaN, NaT, NA or None."""
    if column.dtype != object:
        return np.asarray(column != column)  # noqa: PLR0124  NaN and NaT differ from themselves
    names = np.array([type(value).__name__ for value in column])
    nans = [isinstance(value, float | np.floating) and np.isnan(value) for value in column]
    return np.isin(names, ("NoneType", "NAType", "NaTType")) | nans


def _check_units(name: str, column: np.ndarray) -> None:
    """Raise `InvalidArgument` for text such as "3 mm" among numbers."""
    numbers = np.array([_is_number(value) for value in column])
    if not numbers.any():
        return
    for row in np.flatnonzero(~numbers):
        if isinstance(column[row], str) and _NUMBER.match(column[row]):
            raise InvalidArgument(
                f"column {name!r} of the design has {many(numbers.sum(), 'number')}, and {str(column[row])!r} in row {row}: give "
                "numbers of one unit"
            )


def _is_number(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int | float | np.number)
    try:
        float(value)
    except ValueError:
        return False
    return True


def count_equal(columns: Mapping[str, np.ndarray]) -> int:
    """How many rows equal an earlier one; 0 if they are too many to compare, or cannot be compared."""
    rows = len(next(iter(columns.values())))
    with suppress(InvalidArgument):
        return rows - len(_distinct(columns)[0]) if rows <= _COMPARED else 0
    return 0


def _distinct(columns: Mapping[str, np.ndarray]) -> tuple[Any, np.ndarray]:
    """The first row of each kind of equal rows, and for each row (m,) the number of its kind."""
    # Numbers are compared as bytes, and objects with their types: fn may tell -0.0 from 0.0, and 1 from True.
    parts: list[Iterator[Any]] = [
        ((type(v), v) for v in column) if column.dtype == object else (v.tobytes() for v in column)
        for column in columns.values()
    ]
    found: dict[Any, int] = {}
    try:
        inverse = np.array([found.setdefault(key, len(found)) for key in zip(*parts, strict=True)])
    except TypeError as error:
        raise InvalidArgument(
            f"unique=True compares rows, and the design has objects that cannot be compared ({error}): leave it out"
        ) from error
    return np.unique(inverse, return_index=True)[1], inverse


def as_numbers(columns: Mapping[str, np.ndarray]) -> InputRows:
    """A design as inputs for estimates: a column of few different texts becomes a column of flags for each of them."""
    parts, names = [], []
    for name, column in columns.items():
        texts = _categories(column)
        if texts:
            parts.append(np.asarray(column[:, None] == np.array(texts, dtype=object), dtype=bool))
            names += [f"{name} = {text}" for text in texts]
        else:
            large = column.dtype.kind == "O" and all(map(is_real, column))  # beyond 64 bits
            parts.append(column.astype(np.float64) if large else column)
            names.append(name)
    return InputRows(tuple(parts), names)


def _categories(column: np.ndarray) -> list[Any]:
    """The different texts of a column, in the order of their first rows; none if they are many, or not all are text."""
    if column.dtype.kind not in "OUS" or not all(isinstance(v, str | bytes) for v in column):
        return []
    found = list(dict.fromkeys(column.tolist()))
    return found if len(found) <= min(_CATEGORIES, max(1, len(column) // 2)) else []


# The function -------------------------------------------------------------------------------------------


def _check_fn_and_out(fn: Any, out: Any) -> None:
    if isinstance(fn, Itemwise | Resident):
        raise InvalidArgument(
            f"fn is of type {type(fn).__name__}, and sweep calls fn for each row by itself: give the function that it was made "
            "of"
        )
    check_fn(fn)
    if out is None:
        return
    if not isinstance(out, str | Path) or Path(out).suffix not in (".zarr", ".parquet"):
        raise InvalidArgument(
            f"out={str(out)!r} must be a path that ends in .zarr or .parquet, which hold a column for each output"
        )


def signature_of(fn: Callable[..., Any]) -> inspect.Signature | None:
    """The arguments that ``fn`` takes; None if Python does not know them."""
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None


def check_call(takes: inspect.Signature, columns: Sequence[str], fixed: Sequence[str]) -> None:
    """Raise `InvalidArgument` unless ``fn`` takes the columns and the ``fixed`` arguments, the same for all rows, by name."""
    twice = [name for name in fixed if name in columns]
    if twice:
        raise InvalidArgument(
            f"{_listed(twice)} {'are columns' if len(twice) > 1 else 'is a column'} of the design, and given for all rows too "
            "(kwargs, or rng by seed): leave out one of the two"
        )
    try:
        takes.bind(**dict.fromkeys((*columns, *fixed)))
    except TypeError as error:
        raise InvalidArgument(
            f"fn takes {_listed(list(takes.parameters))}, and by name it is given {_listed((*columns, *fixed))}: {error}. Add, "
            "rename or leave out columns, give what is the same for all rows as kwargs, or change fn"
        ) from error


def _check_frame_call(takes: inspect.Signature, fixed: Sequence[str]) -> None:
    """Raise `InvalidArgument` if ``fn`` does not take all columns as one argument."""
    try:
        takes.bind(None, **dict.fromkeys(fixed))
    except TypeError as error:
        raise InvalidArgument(
            f"fn takes {_listed(list(takes.parameters))}, and with frame=True it is given all columns as one argument: "
            f"{error}. Change fn, or leave out frame for a function of one row"
        ) from error


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_LISTED])) or "no columns"
    return shown + (f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else "")


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """Calls ``fn`` with columns by name, and returns its outputs as a dict."""

    fn: Callable[..., Any]
    names: tuple[str, ...]  # of the columns
    taken: tuple[str, ...]  # names in the table, which no output may have
    frame: bool
    split: bool  # whether each entry of an array becomes a column of the table

    def __call__(self, *parts: Any, **keywords: Any) -> dict[str, Any]:
        given: Any = dict(zip(self.names, parts, strict=False))
        if not self.frame:
            # Python's own integers do not overflow. NumPy's durations are integers of its own, and stay as they are.
            numbers = {n: v for n, v in given.items() if isinstance(v, np.integer | np.bool_)}
            whole = {n: v.item() for n, v in numbers.items() if not isinstance(v, np.timedelta64)}
            answer = self.fn(**{**given, **whole}, **keywords)
        else:
            answer = self.fn(parts[0] if hasattr(parts[0], "columns") else given, **keywords)
        outputs = _outputs(answer, self.frame)
        reason = self._unusable(answer, outputs, len(parts[0]) if self.frame else None)
        return outputs if reason is None else {"y": _Unusable(reason)}

    def _unusable(self, answer: Any, outputs: Mapping[Any, Any], rows: int | None) -> str | None:
        """Why outputs, of so many rows if ``frame``, cannot be put into the table; None if they can."""
        if answer is None or not outputs:
            return f"fn returned {answer!r}: return a number, an array, or a dict of these"
        axes_of: dict[str, int] = {}
        for name, value in outputs.items():
            if not isinstance(name, str):
                return f"fn returned an output that is called {name!r}: give it a name that is text"
            if isinstance(value, dict | tuple) or dataclasses.is_dataclass(value):
                return (
                    f"fn returned a {type(value).__name__} as its output {name!r}: return one dict of numbers, text and "
                    "arrays"
                )
            axes = _axes(value)
            if rows is not None and not (axes and len(value) == rows):
                got = many(len(value), "row") if axes else "a single value"
                return (
                    f"fn returned {got} for {many(rows, 'row')} of the design: with frame=True it returns a row for each; "
                    "leave frame out for a function of one row"
                )
            axes_of[name] = axes - self.frame
        for other in (*self.taken, *outputs):
            for name in _outputs_with(str(other), axes_of, self.split):
                if name != other or other in self.taken:
                    return (
                        f"fn returned the output {name!r}, and there is {other!r} beside it in the table: return it by "
                        "another name, in a dict such as {'result': value}"
                    )
        return None


def _outputs_with(column: str, axes_of: Mapping[str, int], split: bool) -> Iterator[str]:
    """Outputs that add a column, standard errors or a dimension of this name to the table, such as y_0 or y_dim_0."""
    for base in dict.fromkeys((column, column.removesuffix("_stderr"))):
        name, indices, number = base, 0, "0"
        while number.isdecimal() and (split or indices < 2):
            axes = axes_of.get(name)
            if axes is not None and (axes == indices if split else axes or not indices):
                yield name
            name, _, number = name.rpartition("_" if split else "_dim_")
            indices += 1


def _axes(value: Any) -> int:
    try:
        return np.ndim(value)
    except ValueError:  # of different lengths: one object
        return 0


class _Unusable:
    """An answer that ends the sweep, where an exception of ``fn`` would cost only its row."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise InvalidAnswer(self._reason)


def _outputs(answer: Any, frame: bool) -> dict[Any, Any]:
    """An answer as a dict of named outputs."""
    parts = parts_of(plain(answer if frame else named(answer)))
    return {"y": answer} if parts is None else parts


# The table ----------------------------------------------------------------------------------------------


def _result(run: MapResult, rows: _Rows, inverse: np.ndarray | None, equal: int) -> SweepResult:
    """The result of a sweep with ``equal`` repeated rows; ``inverse`` (m,): which row of ``run`` each is, None: its own."""
    each = slice(None) if inverse is None else inverse
    status = run.status[each]
    values, stderr = (
        {name: output[each] for name, output in outputs.items()} for outputs in _outputs_of(run)
    )
    of_run = range(len(status)) if inverse is None else inverse.tolist()
    failures = Failures(
        {row: run.failures[own] for row, own in enumerate(of_run) if own in run.failures}
    )
    return SweepResult(
        table=_table(rows, values, stderr, status, failures),
        values=values,
        stderr=stderr,
        status=status,
        failures=failures,
        run=run,
        _inputs=rows.columns,
        _problem=rows.problem,
        _equal=equal,
        _of=partial(_result, rows=rows, inverse=inverse, equal=equal),
    )


def _outputs_of(run: MapResult) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs (m, *y), read into memory, and standard errors of those that are numbers; none if no row has an answer."""
    known, values, stderr = run.status < Status.FAILED, run.values, run.stderr
    if not known.any():
        return {}, {}
    if stderr is None:
        stderr = {}
    if hasattr(values, "read"):
        values, stderr = read_columns(values, known), read_errors(stderr)
    elif not isinstance(next(iter(values.values())), np.ndarray):  # Zarr
        values = {name: blanked(array[:], ~known) for name, array in values.items()}
        stderr = {name: array[:] for name, array in stderr.items()}
    values = {name: _with_nan(_with_unit(output), known) for name, output in values.items()}
    not_estimated = np.where(run.status == Status.EXACT, 0.0, np.nan)
    return values, {
        name: np.where(np.isinf(stderr[name]), np.nan, stderr[name])
        if name in stderr
        else for_all_entries(not_estimated, output.shape[1:])
        for name, output in values.items()
        if output.dtype.kind in "biufc"
    }


def _with_unit(output: np.ndarray) -> np.ndarray:
    """Times that are all NaT and have no unit, which pandas does not take, in seconds; others as they are."""
    kind = output.dtype.kind
    if kind not in "mM" or np.datetime_data(output.dtype)[0] != "generic":
        return output
    return output.astype(f"{kind}8[s]") if np.isnat(output).all() else output


def _with_nan(output: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Numbers and None as floats and NaN, if floats hold the numbers exactly; others as they are."""
    if output.dtype != object:
        return output
    answers = list(output[known].flat)
    numbers = [value for value in answers if value is not None]
    if not 0 < len(numbers) < len(answers) or not all(map(is_real, numbers)):
        return output
    exact = unrounded(np.array(numbers, dtype=float), numbers).dtype != object
    return output.astype(float) if exact else output


def _table(
    rows: _Rows,
    values: Mapping[str, np.ndarray],
    stderr: Mapping[str, np.ndarray],
    status: np.ndarray,
    failures: Mapping[int, BaseException],
) -> Any:
    """The design with further columns."""
    added = {"status": np.array([one.name for one in Status])[status]}
    if failures:
        added["error"] = np.full(len(status), "" if rows.shape is not None else None, dtype=object)
        for row, error in failures.items():
            added["error"][row] = short(error)
    if not isinstance(rows.table, dict):  # the others hold only text that UTF-8 can encode
        escaped = np.frompyfunc(encodable, 1, 1)
        values = {
            name: escaped(column) if column.dtype == object else column
            for name, column in values.items()
        }
    groups = [(values, ""), (stderr, "_stderr"), (added, "")]
    if rows.shape is not None:
        return rows.table.assign(
            {
                name + end: (
                    (*rows.dims, *(f"{name}_dim_{k}" for k in range(output.ndim - 1))),
                    output.reshape((*rows.shape, *output.shape[1:])),
                )
                for outputs, end in groups
                for name, output in outputs.items()
            }
        )
    if isinstance(rows.table, dict):
        return rows.table | {
            name + end: out for outputs, end in groups for name, out in outputs.items()
        }
    columns = {
        name + end: entry for outputs, end in groups for name, entry in entries_of(outputs).items()
    }
    if hasattr(rows.table, "iloc"):
        pandas = extra("pandas", "a frame")
        made = pandas.DataFrame(columns, index=rows.table.index)
        return pandas.concat([rows.table, made], axis=1)
    polars = extra("polars", "a frame")
    return rows.table.hstack([_series(polars, *column) for column in columns.items()])


def _series(polars: Any, name: str, column: np.ndarray) -> Any:
    """A series of polars; of objects if none of its types holds all values unchanged."""
    objects, kind = column.dtype == object, column.dtype.kind
    units = ("ms", "ns") if kind in "mM" else ()
    finer = (cast_values(column, np.dtype(f"{kind}8[{unit}]")) for unit in units)
    for given in (column.tolist() if objects else column, *finer):
        with suppress(Exception):  # polars raises many types of errors
            series = polars.Series(name, given)
            if len(series) == len(column) and (not objects or series.to_list() == given):
                return series
    return polars.Series(name, list(column), dtype=polars.Object)
