"""The command ``run`` with a .npy output: in waves, which are written as they come and can be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

import codedmap as cm

from ..storage.sink import Files, unusable
from .files import rows_in
from .names import model_named
from .shell import tell, warn

__all__ = ["grows", "run_in_waves", "wave_options"]


def wave_options(command: Any) -> Any:
    """Options of outputs that grow."""
    for option in (
        click.option("--resume", is_flag=True, help=".npy: go on with a run that was interrupted."),
        click.option(
            "--rows",
            "each",
            type=click.IntRange(1),
            metavar="N",
            help=".npy: rows of a wave; by default as many as take 32 MB.",
        ),
    ):
        command = option(command)
    return command


def grows(output: Path, each: int | None, *, resume: bool, force: bool) -> bool:
    """Whether the output is one that is written in waves.

    Raises
    ------
    InvalidArgument
        If options do not apply to it, or it is not the beginning of a run, or one to go on with.
    """
    if output.suffix != ".npy":
        if resume or each is not None:
            raise cm.InvalidArgument(
                f"{'--resume' if resume else '--rows'} is for outputs that are written in waves, and "
                f"{output} is written at the end: give it a name ending in .npy, or leave the option out"
            )
        return False
    journal = _journal_of(output)
    for path, what in ((output, "this name"), (journal, f"its journal, {journal.name},")):
        problem = unusable(path)
        if problem is not None:
            raise cm.InvalidArgument(
                f"output {output} cannot be written, because {what} cannot be used ({problem}): choose a "
                "shorter name, or another directory"
            )
    files = Files(output)
    there = [str(path) for path in (*files.existing, journal) if path.exists() or path.is_symlink()]
    if force:
        raise cm.InvalidArgument(
            "--force is for .npz outputs; what was computed in waves is not replaced: "
            + (f"remove {', '.join(there)} to begin anew" if there else "leave it out")
        )
    if journal.exists() and not resume:
        raise cm.InvalidArgument(
            f"{journal} tells of a run that was begun before: go on with it by --resume, or remove "
            f"{', '.join(there)} to begin anew"
        )
    if files.existing and not journal.exists():
        raise cm.InvalidArgument(
            f"output {files.existing[0]} exists, and no journal {journal} tells that it is of an earlier "
            "run: choose another name, or remove it"
        )
    return True


def run_in_waves(
    model: str,
    inputs: Path,
    key: str | None,
    output: Path,
    *,
    engine: Callable[[], Any],
    note: Callable[[str], None],
    far: bool,
    promised: int,
    deadline: float | None,
    **options: Any,
) -> int:
    """Compute what is left, tell what all of it came to, and return the exit code.

    Parameters
    ----------
    model, inputs, key, output
        As the command has them.
    engine : callable
        Starts the workers.
    note : callable
        Prints a note.
    far : bool
        Whether the workers may be on other machines.
    promised : int
        Answers of each wave that are counted on.
    deadline : float or None
        Seconds after which a wave may have too few answers.
    **options
        Of `codedmap.waves`.
    """
    code, journal = options["code"], _journal_of(output)
    if options["resume"] and not journal.exists():
        note(f"there is no journal {journal}, so there is nothing to resume: this run begins")
    fn, rows = model_named(model, _Rows(rows_in(inputs, key, mapped=True)), note, far=far)  # type: ignore[arg-type]  # has what is asked of an array
    code.encode(np.zeros((code.tasks, 1), rows.dtype))  # raises if it cannot mix such rows
    with (
        _resumable(output) as begun,
        engine() as pool,
        cm.waves(cm.engines.Resident(fn, pool), rows, engine=pool, out=output, **options) as waves,
    ):
        begun(waves)
        totals = waves.run()
    if options["progress"]:
        tell(f"{totals}\n  output     {output}")
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    records = [record for record in records if "begin" in record]
    few = sum(r["stderr"] is None and r["answered"] < promised for r in records)
    if few:
        note(
            f"in {few:,} of {len(records):,} waves fewer answers had come than the {promised} that "
            "--stragglers counts on: this code has no error bars, and these estimates may be far off"
        )
    return int(not options["throw"] and any(_falls_short(r, deadline) for r in records))


@contextmanager
def _resumable(output: Path) -> Iterator[Callable[[cm.Waves], None]]:
    """A run that ends early tells how to go on with it; one that has done nothing leaves nothing."""
    journal = _journal_of(output)
    fresh = not journal.exists()
    runs: list[cm.Waves] = []  # none while the journal may be that of another process
    try:
        yield runs.append
    except BaseException:
        rows = runs[0].rows if runs else 0
        if rows:
            warn(
                f"codedmap: {rows:,} rows are done and in {output}: the same command with --resume goes "
                "on from there"
            )
        elif runs and fresh:
            for path in (*Files(output).existing, journal):
                path.unlink(missing_ok=True)
        raise


def _falls_short(record: dict[str, Any], deadline: float | None) -> bool:
    """What `falls_short` tells of a result, from what is kept of it."""
    if record["exact"] == record["rows"]:
        return False
    ended = record["outcome"] == cm.Outcome.NONE_RUNNING.value and deadline is None
    return bool(record["unknown"]) or ended or record["outcome"] == cm.Outcome.UNSATISFIABLE.value


def _journal_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.journal")


class _Rows:
    """Rows of a file, cast when they are read and not before: all of them may not fit into memory."""

    def __init__(self, rows: Any, dtype: Any = None) -> None:
        self._rows, self.shape = rows, rows.shape
        self.dtype = np.dtype(rows.dtype if dtype is None else dtype)

    def astype(self, dtype: Any) -> _Rows:
        return _Rows(self._rows, dtype)

    def __getitem__(self, which: slice) -> np.ndarray:
        with np.errstate(over="ignore"):  # the door tells which rows became infinite
            return np.asarray(self._rows[which]).astype(self.dtype, copy=False)
