"""`waves`: any number of rows, a wave of them at a time, written and resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.closing import Closing
from ..contracts.code import Code
from ..contracts.stopping import StoppingRule
from ..engines import Engine, Resident
from ..errors import InvalidArgument
from ..execution.checked import checked_engine, checked_rule
from ..execution.coded import CodedMap, Settings
from ..execution.hedge import Hedge, checked_hedge
from ..execution.live import LiveJob
from ..execution.rows import KeptTasks
from ..results.map_result import MapResult
from ..results.progress_bar import row_progress_bar
from ..results.totals import Totals
from ..storage.digest import digest, fingerprint
from ..storage.journal import Journal
from ..storage.sink import Files, Sink, sink_for
from ..storage.source import Source
from ..storage.store import Store
from .onnx import OnnxModel

__all__ = ["Waves", "waves"]

_LOG = logging.getLogger("codedmap")


def waves(
    fn: Callable[[Any], Any] | Resident,
    source: Any,
    *,
    code: Code,
    engine: Engine | Executor,
    rows: int | None = None,
    out: Any = None,
    journal: str | Path | None = None,
    resume: bool = False,
    stop: StoppingRule | None = None,
    hedge: Hedge | None = None,
    throw: bool = True,
    progress: bool = False,
) -> Waves:
    """Run ``fn`` on every row of a source that need not fit into memory, one `map` after another.

    Rows are read, computed and written a wave at a time, in order; no more than a wave of them is
    in memory. With ``out`` each wave is written, and recorded in a journal, before its result is given:
    a run that was killed continues with ``resume=True`` after the last wave that was written. Written
    rows are never computed again.

    Parameters
    ----------
    fn : callable
        As for `map`. A `codedmap.engines.Resident` is sent to the workers once, not with each wave.
    source : array-like or iterable of arrays
        Anything with ``shape``, ``dtype`` and slices, such as a memory-mapped .npy file, a Dask array,
        a Zarr array or an HDF5 data set, of shape (m, *x); or batches of rows, (b, *x) each.
    code, engine, stop, hedge, throw
        As for `map`, and the same for all waves. ``code="auto"`` is not possible: let `plan` choose a
        code from some of the rows first.
    rows : int, optional
        Rows of a wave. By default as many as take 32 MB, in whole chunks where the source has chunks;
        of an iterator, a batch.
    out : path, array-like or mapping, optional
        Where answers are written. A name ending in .npy: this file, with ``name.exact.npy`` and, if the
        code has standard errors, ``name.stderr.npy`` beside it; the files grow, and hold at any time the
        rows that are done. An object with slice assignment and m rows: the answers only. A mapping with
        such objects under any of "values", "exact" and "stderr": these.
    journal : path, optional
        A record of the waves done, one line each. By default beside a .npy file, ``name.npy.journal``;
        for other outputs there is none by default, and the run cannot be resumed.
    resume : bool
        If True, continue the run in the journal. If there is none, begin one.
    progress : bool
        If True, draw a progress bar on the error stream if that is a terminal.

    Returns
    -------
    Waves
        An iterator of `MapResult`, one for each wave that is computed now. `Waves.run` goes to the end.

    Raises
    ------
    InvalidArgument
        At the call, if an argument is invalid; if outputs or a journal exist without ``resume``;
        or if the source, the code, the function or the outputs are not those of the journal. Compared
        are the source's form and a few waves (of an iterator, all that are done), and the function's
        code with the plain values and arrays that it uses.
    CodedmapError
        From the iterator, as `map`, with a note that names the rows. The waves before are
        written, and the run can be resumed. `InvalidAnswer` also if answers do not fit into ``out``.
    """
    if not isinstance(code, Code):
        raise InvalidArgument(
            f"code={code!r} is no code: give one such as Replication(8, 16), or let codedmap.plan choose "
            "one from some of the rows"
        )
    if not callable(fn) and not isinstance(fn, Resident):
        raise InvalidArgument(f"fn={fn!r} cannot be called")
    rule, hedge = checked_rule(stop, code), checked_hedge(hedge)
    engine = checked_engine(engine, fn, code.workers, depth=3)
    settings = Settings(
        code=code,
        tasks=KeptTasks(fn, engine, checked=False),
        engine=engine,
        stop=rule,
        hedge=hedge,
        retries=0,
        record=not throw,
        partial=not throw,
        bound=True,
        take_partial="throw=False",
    )
    given = Source(source, code.tasks, rows)
    sink = None if out is None else sink_for(out)
    if sink is not None and given.total is not None:
        sink.check_room(given.total)
    store = Store(sink, _journal(journal, sink, given, code, fn, resume=resume))
    try:
        store.catch_up(given)
    except BaseException:
        store.close()
        raise

    def wave(part: np.ndarray, show: Callable[[LiveJob], None]) -> MapResult:
        return CodedMap(settings, part, show=show, kind="source", begin=store.seen).run()

    return Waves(given, store, wave, progress=progress)


class Waves(Closing, Iterator[MapResult]):
    """The waves of a run, one after another; made by `waves`.

    A loop over it may be left at any time, and the run resumed later; `close`, or a ``with`` block,
    closes its files.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        wave: Callable[[np.ndarray, Callable[[LiveJob], None]], MapResult],
        *,
        progress: bool,
    ) -> None:
        self._store = store
        self._steps = self._go(source, wave, progress)

    @property
    def rows(self) -> int:
        """Rows that are done, including those before the run was resumed."""
        return self._store.rows

    @property
    def finished(self) -> bool:
        """Whether all rows are done."""
        return self._store.finished

    @property
    def totals(self) -> Totals:
        """Totals of all waves so far, including those before the run was resumed."""
        return self._store.totals

    def run(self) -> Totals:
        """Compute and write all rows that are left, and return the totals of all waves.

        Raises
        ------
        InvalidArgument
            If the run was closed, or an error has ended it, before; so does the iterator.
        """
        with self:
            for _ in self:
                pass
        return self.totals

    def close(self) -> None:
        """Close the files; the run can be resumed."""
        self._steps.close()
        self._store.close()

    def __del__(self) -> None:
        self.close()

    def __next__(self) -> MapResult:
        try:
            return next(self._steps)
        except StopIteration:
            if self.finished:
                raise
        raise InvalidArgument(
            "this run has been closed, or an error has ended it, before all rows were done: "
            + (self._store.told() or "begin another with codedmap.waves")
        )

    def _go(
        self, source: Source, wave: Callable[[np.ndarray, Any], MapResult], progress: bool
    ) -> Generator[MapResult, None, None]:
        store = self._store
        with closing(store), row_progress_bar(progress, source.total) as (show, tell):
            tell(store.rows, _word(self.totals))
            if store.rows:
                _LOG.info("resumed after %d rows", store.rows, extra={"rows": store.rows})
            while not store.finished:
                part = source.read()
                if part is None:
                    break
                begin = store.seen
                end = begin + len(part) - 1
                try:
                    result = wave(part, show)
                    record = store.keep(part, result)
                except BaseException as error:
                    told = store.told()
                    error.add_note(
                        f"this was in rows {begin:,} to {end:,} of the source"
                        + (f"; {told}" if told else "")
                    )
                    _LOG.info(
                        "stopped in rows %d to %d: %s", begin, end, error, extra={"rows": begin}
                    )
                    raise
                _LOG.info(
                    "rows %d to %d: %d of %d calls answered in %.3f s, %d late, %d failed, %d rejected",
                    begin, end, record["answered"], record["calls"], record["seconds"],
                    record["late"], record["failed"], record["rejected"],
                    extra={"wave": record},
                )  # fmt: skip
                tell(store.rows, _word(self.totals))
                yield result
            if store.seen == 0:
                raise InvalidArgument("the source gave no rows: there is nothing to compute")
            store.finish()


def _word(totals: Totals) -> str:
    told = f"{totals.late} late, {totals.failed} failed, {totals.rejected} rejected"
    return told if totals.stderr is None else f"{told}, stderr {totals.stderr:.2g}"


def _journal(
    path: str | Path | None,
    sink: Sink | None,
    source: Source,
    code: Code,
    fn: Any,
    *,
    resume: bool,
) -> Journal | None:
    if sink is None:
        if path is not None or resume:
            raise InvalidArgument(
                "results are not written, so the run cannot be resumed: give out=, where to write them"
            )
        return None
    if isinstance(sink, Files):
        sink.check_apart(source.file, "the source")
        path = path or sink.journal
    if path is None:
        if resume:
            raise InvalidArgument(
                "resume=True continues the run of a journal: give its path as journal="
            )
        return None
    path = Path(path)
    if isinstance(sink, Files):
        sink.check_journal(path)
    run = {
        "rows": source.total,
        "row": source.form if source.seeks else None,
        "code": [repr(code), fingerprint(code)],
        "fn": _name_of(fn),
        "out": [Path(name).name for name in sink.names],
    }
    return Journal(path, run, resume=resume)


def _name_of(fn: Any) -> list[str]:
    """The name of a function, and a hash of its code and values."""
    if isinstance(fn, Resident):
        fn = fn.fn
    if isinstance(fn, OnnxModel):
        content = fn.content
        return [f"the model of {len(content):,} bytes", digest(np.frombuffer(content, np.uint8))]
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return [f"{getattr(fn, '__module__', '')}.{name}", fingerprint(fn)]
