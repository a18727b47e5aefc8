"""The door `waves`: any number of rows, a wave of them at a time, written and resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.closing import Closing
from ..contracts.code import Code
from ..contracts.stopping import StoppingRule
from ..engines import Engine, Resident
from ..errors import InvalidArgument
from ..execution.hedge import Hedge, checked_hedge
from ..execution.stream import checked_engine, checked_rule, sent
from ..execution.wave import Wave
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
    in memory. With ``out`` each wave is written before its result is given, and put down in a
    journal: a run that dies, however it dies, goes on with ``resume=True`` after the last wave that
    was written. What was written is never computed again.

    Parameters
    ----------
    fn : callable
        As for `map`. A `codedmap.engines.Resident` is sent to the workers once, not with each wave.
    source : array-like or iterable of arrays
        Anything with ``shape``, ``dtype`` and slices, such as a memory-mapped .npy file, a Dask array,
        a Zarr array or an HDF5 data set, of shape (m, *x); or batches of rows, (b, *x) each.
    code, engine, stop, hedge, throw
        As for `map`, and the same for all waves; no ``code="auto"``: let `plan` choose one from some
        of the rows before.
    rows : int, optional
        Rows of a wave. By default as many as take 32 MB, in whole chunks where the source has chunks;
        of an iterator, a batch.
    out : path, array-like or mapping, optional
        Where answers go. A name ending in .npy: this file, with ``name.exact.npy`` and, if the code
        has standard errors, ``name.stderr.npy`` beside it; they grow, and hold at any time the rows
        that are done. Anything with slice assignment and m rows: the answers only. A mapping of such
        under "values", "exact" and "stderr": these of them that it has.
    journal : path, optional
        What has been done, a line each wave. By default beside a .npy file, ``name.npy.journal``; for
        other outputs there is none unless it is given, and then nothing can be resumed.
    resume : bool
        Go on with the run in the journal. If there is none, begin one.
    progress : bool
        Draw a progress bar on the error stream, if that is a terminal.

    Returns
    -------
    Waves
        An iterator of `MapResult`, one for each wave that is computed now. `Waves.run` goes to the end.

    Raises
    ------
    InvalidArgument
        At the call, if an argument cannot work; or outputs or a journal exist, while not ``resume``;
        or the source, the code, the function or the outputs are not those of the journal. Of the
        source, the form and a few waves are looked at (of an iterator, all that are done); of a
        function, its code and the plain values and arrays that it uses.
    CodedmapError
        From the iterator, as `map`, with a note that tells which rows it was. The waves before are
        written, and the run can be resumed. `InvalidAnswer` also if answers do not fit into ``out``.
    """
    if not isinstance(code, Code):
        raise InvalidArgument(
            f"code={code!r} is no code: give one such as Replication(8, 16), or let codedmap.plan choose "
            "one from some of the rows"
        )
    if not callable(fn) and not isinstance(fn, Resident):
        raise InvalidArgument(f"fn={fn!r} cannot be called")
    stop, hedge = checked_rule(stop, code), checked_hedge(hedge)
    engine = checked_engine(engine, fn, code.workers, depth=3)
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

    def wave(part: np.ndarray, showing: Any) -> MapResult:
        made = Wave(code, part, hedged=hedge is not None, kind="source", begin=store.seen)
        [result] = sent(
            made,
            fn,
            engine=engine,
            stop=stop,
            hedge=hedge,
            throw=throw,
            showing=nullcontext(showing),
            early=False,
        )
        return result

    return Waves(given, store, wave, progress=progress)


class Waves(Closing, Iterator[MapResult]):
    """The waves of a run, one after another; made by `waves`.

    Leaving a loop over it leaves the run as it is, to be resumed; `close`, or a ``with`` block, lets
    go of its files.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        wave: Callable[[np.ndarray, Any], MapResult],
        *,
        progress: bool,
    ) -> None:
        self._store = store
        self._steps = self._go(source, wave, progress)

    @property
    def rows(self) -> int:
        """Rows that are done, those before the run was resumed among them."""
        return self._store.rows

    @property
    def finished(self) -> bool:
        """Whether that is all of them."""
        return self._store.finished

    @property
    def totals(self) -> Totals:
        """What all waves so far came to, those before the run was resumed among them."""
        return self._store.totals

    def run(self) -> Totals:
        """Compute and write all that is left, and tell what all of it came to.

        Raises
        ------
        InvalidArgument
            If it was closed, or an error has ended it, before; so does going on with the iterator.
        """
        with self:
            for _ in self:
                pass
        return self.totals

    def close(self) -> None:
        """Let go of the files; what is not done can be resumed."""
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
                "results are not written, so none can be resumed: say with out= where they go"
            )
        return None
    if isinstance(sink, Files):
        sink.check_apart(source.file, "the source")
        path = path or sink.journal
    if path is None:
        if resume:
            raise InvalidArgument(
                "resume=True goes on with a journal: say with journal= where it is"
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
    """What a function is called, and a hash of what it is made of."""
    if isinstance(fn, Resident):
        fn = fn.fn
    if isinstance(fn, OnnxModel):
        content = fn.content
        return [f"the model of {len(content):,} bytes", digest(np.frombuffer(content, np.uint8))]
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return [f"{getattr(fn, '__module__', '')}.{name}", fingerprint(fn)]
