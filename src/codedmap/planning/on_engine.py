"""A function as one that computes on an engine, every row twice, so that a lost worker costs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codes import Replication
from ..contracts.engine import no_engine
from ..contracts.stopping import Decodable
from ..engines import Engine, Resident
from ..errors import InvalidArgument
from ..execution.coded import CodedMap, Settings
from ..execution.rows import KeptTasks
from .asking import Answer

__all__ = ["computes_twice", "computing"]


def computing(
    fn: Callable[[Any], Any] | Resident, engine: Engine | None, given: str = ""
) -> Answer:
    """``fn`` as it computes in this process, or on an engine; ``given`` as for `CodedMap`."""
    if engine is not None and not isinstance(engine, Engine):
        raise no_engine(engine)
    if isinstance(fn, Resident):
        if engine is None or fn.engine is not engine:
            raise InvalidArgument("fn is resident on an engine: give the same one as engine=")
        return _OnEngine(fn, engine, given)
    if not callable(fn):
        raise InvalidArgument(f"fn={fn!r} cannot be called")
    return fn if engine is None else _OnEngine(fn, engine, given)


def computes_twice(fn: Answer) -> bool:
    """Whether two workers compute each row."""
    return isinstance(fn, _OnEngine) and fn.engine.workers > 1


@dataclass(frozen=True, slots=True, eq=False)
class _OnEngine:
    fn: Callable[[Any], Any] | Resident
    engine: Engine
    given: str

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Answers (n, *y) to rows (n, *x); NaN where two workers disagree.

        Raises
        ------
        NotEnoughAnswers
            If a row's workers all failed.
        """
        tasks = min(len(rows), max(1, self.engine.workers // 2))
        code = Replication(tasks, max(tasks, min(2 * tasks, self.engine.workers)))
        settings = Settings(
            code=code,
            tasks=KeptTasks(self.fn, self.engine, checked=False),
            engine=self.engine,
            stop=Decodable(),
            hedge=None,
            retries=0,
            record=False,
            partial=False,
            bound=True,
        )
        result = CodedMap(settings, rows, show=lambda live: None, given=self.given).run()
        if result.values.dtype.kind in "fc":
            result.values[~result.exact] = np.nan
        return np.asarray(result.values)
