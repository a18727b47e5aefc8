"""The rows of a job in an output, and its journal: rows that are done are written, noted, and found when it is resumed."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.closing import Closing
from ..contracts.warning import warn_caller
from ..errors import InvalidAnswer, InvalidArgument, OutputError, many
from ..execution.inputs import InputRows
from ..execution.job_rows import named_rows, runs_of
from ..results.status import Status
from ..results.trees import errors_name, leaf_rows, leaves, parts_of
from .digest import RowsDigest, checksum
from .journal import Journal, writing
from .output import Columns, Form, NpyOutput, Output, Runs, form_of
from .parquet import ParquetOutput
from .zarr import ZarrOutput

_ANEW = "give the same, or remove the journal and the outputs to begin anew"
_SYNC_AFTER = 5.0  # seconds after which everything is synchronised with the disk again
_TOGETHER = 1 << 16  # rows without an answer that are written together at the end
_OUTPUTS: Mapping[str, Callable[[Path], Output]] = {
    ".npy": NpyOutput,
    ".zarr": ZarrOutput,
    ".parquet": ParquetOutput,
}


def store_for(
    out: Any, inputs: InputRows, job: Mapping[str, Any], before: Columns, *, resume: bool
) -> Store:
    """The store of a ``job``, described as for `Journal`; with ``resume`` an earlier job goes on.

    A table has the columns ``before`` those of the answers. Raises `InvalidArgument` if nothing can be written to
    ``out``, or if there is an earlier output that is not to be, or cannot be, resumed.
    """
    if not isinstance(out, str | Path):
        if not (hasattr(out, "__setitem__") and hasattr(out, "shape")):
            raise InvalidArgument(
                f"out={out!r:.80} is neither a path ending in {', '.join(_OUTPUTS)} nor an array with a row for each input"
            )
        if resume:
            raise InvalidArgument(
                "a job that writes to an array cannot be resumed: give a path as out, such as 'answers.npy'"
            )
        output = Output(out)
        if inputs.growing is None:
            output.resize(inputs.rows)
        return Store(output, None, inputs)
    output, journal = output_at(Path(out), resume=resume)
    output.put_before(before)
    rows = None if inputs.growing is not None else inputs.rows
    installed = sys.modules[__package__.partition(".")[0]].__version__
    same = {"version": installed, "rows": rows, "row": inputs.form, **job, "out": Path(out).name}
    return Store(output, Journal(journal, same), inputs)


def output_at(path: Path, *, resume: bool) -> tuple[Output, Path]:
    """The output at a path, and the path of its journal; raises as `store_for`, as far as names of files show it."""
    kind = _OUTPUTS.get(path.suffix)
    if kind is None:
        raise InvalidArgument(
            f"out={str(path)!r} must end in {', '.join(_OUTPUTS)}, which says how answers are written"
        )
    if not os.path.isdir(path.parent):  # noqa: PTH112  it takes names of any length
        raise InvalidArgument(
            f"out={str(path)!r}: there is no folder {path.parent}, create it first"
        )
    path = Path(os.path.abspath(path))  # noqa: PTH100  the folder may be changed, and links are kept
    output = kind(path)
    journal = path.with_name(path.name + ".journal")
    check_begun(output.paths, journal, resume=resume)
    return output, journal


def check_begun(
    outputs: Sequence[Path],
    journal: Path,
    *,
    resume: bool,
    anew: str = "",
) -> None:
    """Raise `InvalidArgument` if there is an earlier output that is not to be, or cannot be, resumed."""
    existing = [path for path in outputs if os.path.lexists(path)]
    if existing and not os.path.lexists(journal):
        raise InvalidArgument(
            f"{existing[0]} exists, and no journal {journal.name} says that it is of a job that could be resumed: choose "
            "another name, or remove it"
        )
    if os.path.lexists(journal) and not resume:
        removed = ", ".join(path.name for path in (journal, *existing))
        anew = anew or f"remove {removed} to begin anew"
        raise InvalidArgument(
            f"{journal} is the journal of a job that was begun before: go on with it by resume=True, or {anew}"
        )


class Store(Closing):
    """The output of a job, and its journal if it has one, in which rows that are done are noted."""

    def __init__(self, output: Output, journal: Journal | None, inputs: InputRows) -> None:
        self.status = np.full(inputs.rows, Status.MISSING, np.int8)
        self._output, self._journal, self._inputs = output, journal, inputs
        self._without_stderr: list[np.ndarray] = []  # estimated rows
        self._errors: Columns = {}
        """The first standard errors that were written, whose form the others have; empty before."""
        self._noted = journal is not None and not journal.new
        """Whether there is anything to resume."""
        self._sealed = 0  # rows of a finished output that cannot be changed; 0 if it can be
        self._synced = time.monotonic()
        self._coming: list[tuple[Runs, str, RowsDigest]] = []
        """Rows that an earlier job has done, with the checksum of their inputs, which are compared as they come."""
        self._restored = self.status[:0]  # of rows that an iterator has still to give
        try:
            self._restore([] if journal is None else journal.records)
        except BaseException:
            self.close()
            raise

    def checksum(self, parts: tuple[Any, ...]) -> str:
        """The checksum of inputs; empty if there is no journal."""
        return "" if self._journal is None else checksum(parts)

    def put(self, at: slice | np.ndarray, count: int, answer: Any, inputs: str) -> None:
        """Write rows that are exact, and note that they are; raises `InvalidAnswer` or `OutputError`."""
        if self._journal is not None:
            self._journal.check_in_place()
        try:
            written = self._write(at, count, answer)
        except InvalidAnswer as error:
            raise InvalidAnswer(f"{named_rows(runs_of(at))}: {error}") from error
        if self._journal is not None:
            self._journal.add({"rows": runs_of(at), "inputs": inputs, **written})
            self._noted = True
        self.status[at] = Status.EXACT
        if time.monotonic() > self._synced + _SYNC_AFTER:
            self.sync()

    def withdraw(self, rows: np.ndarray) -> None:
        """Note that rows that were put are not exact after all."""
        self.status[rows] = Status.MISSING
        if len(rows) and self._journal is not None:  # with a checksum that no output has
            self._journal.add({"rows": runs_of(rows), "inputs": "", "values": ""})

    def put_estimates(self, rows: np.ndarray, answer: Any, stderr: Any) -> bool:
        """Write rows that are estimated; they are computed again if the job is resumed.

        ``stderr`` is like ``answer``, or None. Returns whether the output can hold them; if not, it warns. Raises
        `InvalidAnswer` if nothing has been written, so that the output cannot hold any answer.
        """
        first = self._output.form is None
        try:
            self._write(rows, len(rows), answer)
        except InvalidAnswer as error:
            if first:
                raise
            warn_caller(
                f"{many(len(rows), 'row')} without an answer {'is' if len(rows) == 1 else 'are'} MISSING, because estimates are floating-point numbers: let fn "
                f"return such to have them written ({error})"
            )
            return False
        self.status[rows] = Status.ESTIMATED
        if stderr is None:
            self._without_stderr.append(rows)
        else:
            values = _columns(answer, len(rows))
            errors = _columns(stderr, len(rows))
            errors = {name: column.astype(values[name].dtype) for name, column in errors.items()}
            self._errors = self._errors or errors
            self._output.write_errors(runs_of(rows), errors)
        return True

    def read(self, rows: np.ndarray) -> Any:
        """The answers of some rows, by their numbers in ascending order."""
        columns = self._output.read(rows)
        alone = set(columns) == {"values"} and not self._output.named
        return columns["values"] if alone else columns

    def resize(self, status: np.ndarray) -> None:
        """Make room for more rows of an iterator; those that an earlier job has done are marked as EXACT."""
        begin, end = len(self.status), len(status)
        self._check_coming(begin, end)
        known = self._restored[begin:end]
        status[begin : begin + len(known)] = known
        self.status = status
        if self._output.form is not None:
            self._output.resize(max(end, len(self._restored)))

    def finish(self) -> tuple[Any, Any]:
        """Complete the output; returns values and standard errors, opened for reading."""
        if self._journal is not None:
            self._journal.check_in_place()
        lost = np.flatnonzero(self._restored[len(self.status) :] == Status.EXACT)
        if len(lost):
            raise InvalidArgument(
                f"the iterator ended after {many(len(self.status), 'row')}, and {len(lost):,} of those after them were computed "
                f"before: {_ANEW}"
            )
        if self._output.form is None:  # no row has an answer, so that the form is not known
            self._output.open({"values": ["<f8", []]}, len(self.status), new=True)
        elif len(self._restored) > len(self.status):  # damaged rows beyond the end of the iterator
            self._output.resize(len(self.status))
        for rows in self._without_stderr if self._errors else ():
            infinite = {
                n: np.full((len(rows), *e.shape[1:]), np.inf, e.dtype)
                for n, e in self._errors.items()
            }
            self._output.write_errors(runs_of(rows), infinite)
        # In the output these rows may hold estimates of an earlier job, or be damaged.
        unknown = np.flatnonzero(self.status > Status.ESTIMATED)
        for begin in range(0, len(unknown), _TOGETHER):
            self._output.blank(unknown[begin : begin + _TOGETHER])
        values, stderr = self._output.finish(self.status)
        if self._journal is not None:
            seal = self._output.seal() if (self.status == Status.EXACT).all() else ""
            if seal:
                self._journal.add({"seal": seal, "of": len(self.status)})
            self._journal.sync()
            if seal:
                self._sealed = len(self.status)  # `close` discards files that are read until then
        return values, stderr

    def sync(self) -> None:
        """Return when everything that was written is on disk."""
        self._output.sync(self.status)
        if self._journal is not None:
            self._journal.sync()
        self._synced = time.monotonic()

    def close(self) -> None:
        self._output.close()
        if self._sealed:
            self._output.discard()
        if self._journal is not None:
            self._journal.close()

    def __exit__(self, *raised: Any) -> None:
        error = raised[1]
        try:
            if error is not None and self._journal is not None and self._journal.in_place:
                self._leave(error, self._journal.path)
        finally:
            super().__exit__(*raised)

    def _leave(self, error: BaseException, journal: Path) -> None:
        """Keep the rows that are done, and add a note to the error; without any, remove all files."""
        with suppress(Exception):  # the first error says more
            self.sync()
        if self._noted:
            exact = int((self.status == Status.EXACT).sum())
            error.add_note(
                f"{many(exact, 'row')} {'is' if exact == 1 else 'are'} exact and in {self._output.paths[0]}: the same "
                "call with resume=True goes on from there"
            )
            return
        self._output.close()
        outputs = self._output.paths if self._output.form is not None else ()
        for path in outputs:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if not any(path.exists() for path in outputs):  # they cannot be resumed without it
            journal.unlink(missing_ok=True)

    # Writing ------------------------------------------------------------------------------------------

    def _write(self, at: slice | np.ndarray, count: int, answer: Any) -> dict[str, Any]:
        columns = _columns(answer, count)
        form = form_of(columns)
        if self._output.form is None:
            errors = (errors_name(name, self._output.named) for name in form)
            taken = {"status", *errors} & set(form)
            if taken:
                raise InvalidAnswer(
                    f"fn returned a column {taken.pop()}, which the output needs for itself: give it another name"
                )
            self._output.open(form, len(self.status), new=True)
            if self._journal is not None:
                self._journal.add({"form": form})
        self._check_form(form)
        columns = {name: columns[name] for name in self._output.form or form}  # in a fixed order
        return self._output.write(runs_of(at), columns)

    def check_alike(self, answer: Any) -> None:
        """Raise `InvalidAnswer` if an answer has other columns or shapes than earlier ones, or values that do not fit these."""
        if self._output.form is not None:
            columns = _columns(answer, len(next(iter(leaves(answer)), ())))
            self._check_form(form_of(columns))
            self._output.check_fits(columns)

    def _check_form(self, form: Form) -> None:
        shapes, found = (
            {name: tuple(shape) for name, (_, shape) in each.items()}
            for each in (self._output.form or form, form)
        )
        if shapes != found:
            was, now = (
                each["values"] if {*each} == {"values"} else each for each in (shapes, found)
            )
            raise InvalidAnswer(
                f"fn returned rows of shape {was} for some inputs and of shape {now} for others: return the same "
                "shape and the same keys for every row"
            )

    # Resuming -----------------------------------------------------------------------------------------

    def _restore(self, records: list[dict[str, Any]]) -> None:
        """Find the rows that are done; the last line about a row counts."""
        forms = [number for number, record in enumerate(records) if "form" in record]
        if not forms:
            return
        form, later = records[forms[-1]]["form"], records[forms[-1] + 1 :]
        lines = [record for record in later if "rows" in record]
        growing = self._inputs.growing is not None
        size = max((end for line in lines for _, end in line["rows"]), default=0)
        size = max(size, len(self.status))
        status = np.full(size, Status.MISSING, np.int8) if growing else self.status
        noted = np.zeros(size, bool)
        for line in lines:
            for begin, end in line["rows"]:
                noted[begin:end] = True
        try:
            # If a line is lost, its rows are computed again, and the seal does not hold: all rows must be writable.
            done = int(noted.sum())
            if later[-1:] == [{"seal": self._output.seal(), "of": done}]:
                self._sealed = done
            self._output.open(form, len(status), new=False)
        except OutputError:  # a full disk, say: the output must not be begun anew because of that
            raise
        except Exception:  # any exception of a library for damaged files
            self._output.form = None
            return
        good = []
        for line in lines:
            kept = bool(self._sealed) or self._is_kept(line)
            for begin, end in line["rows"]:
                status[begin:end] = Status.EXACT if kept else Status.MISSING
            if kept:
                good.append((line["rows"], line["inputs"], RowsDigest()))
        with writing(*self._output.paths[:1]):
            self._output.clear(runs_of(np.flatnonzero(status != Status.EXACT)))
        if growing:
            self._restored = status
        self._coming = sorted(good, key=lambda line: line[0][0])
        self._check_coming(0, len(self.status))
        self.status[:] = status[: len(self.status)]

    def _is_kept(self, line: dict[str, Any]) -> bool:
        try:
            with writing(*self._output.paths[:1]):
                return self._output.check(line["rows"], line)
        except OutputError:
            raise
        except Exception:  # likewise
            return False

    def _check_coming(self, begin: int, end: int) -> None:
        """Compare inputs from ``begin`` to ``end``, as far as an iterator has given them, with those of rows that are done."""
        if self._sealed and end > self._sealed:
            raise InvalidArgument(
                f"the job was finished with {many(self._sealed, 'row')}, and the iterator gives more now: {_ANEW}"
            )
        left = []
        for number, (runs, inputs, digest) in enumerate(self._coming):
            if runs[0][0] >= end:
                left += self._coming[number:]
                break
            for b, e in runs:
                rows = slice(max(b, begin), min(e, end))
                if rows.start < rows.stop:
                    digest.add(self._inputs.batch(rows))
            if runs[-1][1] > end:
                left.append((runs, inputs, digest))
            elif digest.hex() != inputs:
                raise InvalidArgument(
                    f"the inputs of {named_rows(runs)} are not those that were computed before: {_ANEW}"
                )
        self._coming = left


def _columns(answer: Any, count: int) -> Columns:
    """The leaves of an answer by name; raises `InvalidAnswer` if it is neither an array nor a dict of arrays."""
    named = answer if isinstance(answer, dict) else {"values": answer}
    for name, leaf in named.items():
        if parts_of(leaf) is not None:
            where = f"a dict in which {name!r} is " if leaf is not answer else ""
            raise InvalidAnswer(
                f"fn returned {where}a {type(leaf).__name__}, and an output holds one array or a dict of arrays: "
                "return one of these"
            )
    columns = {str(name): leaf_rows(leaf, count) for name, leaf in named.items()}
    if len(columns) < len(named) or not columns:
        raise InvalidAnswer(
            f"fn returned a dict with the keys {list(named)}, which are the names of columns: return at least one, "
            "and none twice"
        )
    # Files have the machine's order of bytes; strings of any length (StringDType) have none, and become objects.
    return {
        n: c.astype(object if c.dtype.char == "T" else c.dtype.newbyteorder("="), copy=False)
        for n, c in columns.items()
    }
