"""Measured times, drawn so that a worker keeps its own speed from round to round."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.arguments import check_whole
from ..errors import InvalidArgument, many
from .models import LatencyModel, check_draw, order_statistic

_NO_ANSWER = {"", "nan", "na", "none", "null", "inf", "infinity", "never"}  # cells of such calls
_ROUND_HEADS = {"", "round", "index", "#"}  # names of a column that counts the rounds


@dataclass(frozen=True, eq=False, repr=False)
class Empirical(LatencyModel):
    """Measured times: a wave is one measured round, and its calls are different workers of that round.

    A round that was slow for all workers stays slow for all. Waves come in sessions: the same workers, in
    consecutive rounds from a random one on (the first follows the last). So a worker that is slow in one
    wave tends to be slow in the next, with the correlation that was measured. The next call of a worker
    in the same wave takes the worker's time in the next round.

    Parameters
    ----------
    times : array_like, shape (rounds, workers)
        Seconds. NaN, infinity or masked: this worker never answers in this round.
    session : int
        Consecutive waves with the same workers, at most the number of rounds. With 1, all waves are
        drawn independently.
    reuse : bool
        If True, more workers may be drawn than were measured: each measured worker is used several times,
        in different rounds. If False, that raises an error.
    """

    times: np.ndarray
    session: int = 20
    reuse: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", _checked(self.times))
        object.__setattr__(self, "session", check_whole("session", self.session, 1))
        object.__setattr__(self, "reuse", bool(self.reuse))

    @classmethod
    def from_csv(
        cls, path: str | PathLike[str], *, session: int = 20, reuse: bool = False
    ) -> Empirical:
        """Read a table with a row for each round and a column for each worker, in seconds.

        An empty cell, NaN or inf means no answer. The first row may be a header, of names or of the
        numbers 0, 1, … of the workers. A first column whose head is empty or ``round`` counts the rounds,
        and is left out.
        """
        return cls(_table(Path(path)), session, reuse)

    @property
    def rounds(self) -> int:
        """Number of measured rounds."""
        return len(self.times)

    @property
    def workers(self) -> int:
        """Number of measured workers."""
        return int(self.times.shape[1])

    def sample(self, rng: np.random.Generator, waves: int, workers: int) -> np.ndarray:
        """Seconds of one call of each worker in each wave, (waves, workers); infinite: no answer."""
        return np.asarray(self.calls(rng, waves, workers, 1)[0])

    def calls(self, rng: np.random.Generator, waves: int, workers: int, each: int) -> np.ndarray:
        """Seconds of several calls of each worker, one after another, (each, waves, workers)."""
        check_draw(rng, waves, workers, each)
        if workers > self.workers and not self.reuse:
            raise InvalidArgument(
                f"{workers} workers cannot be drawn, since only {self.workers} were measured: use at "
                "most as many, or use each of them several times with reuse=True"
            )
        length = min(self.session, self.rounds)
        sessions = -(-waves // length)
        drawn = np.empty((each, sessions * length, workers))
        for begin in range(0, workers, self.workers):
            size = min(self.workers, workers - begin)
            starts = rng.integers(self.rounds, size=(sessions, 1))
            chosen = rng.random((sessions, self.workers)).argsort(axis=1)[:, None, :size]
            for call in range(each):
                # All rounds are drawn equally often, because the first follows the last.
                rounds = (starts + call + np.arange(length)) % self.rounds
                taken = self.times[rounds[:, :, None], chosen]
                drawn[call, :, begin : begin + size] = taken.reshape(-1, size)
        return drawn[:, :waves]

    def quantile(self, share: float) -> float:
        """The shortest time within which this share of all measured calls has answered."""
        return order_statistic(self.times, share)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Empirical):
            return NotImplemented
        same = (self.session, self.reuse) == (other.session, other.reuse)
        return same and np.array_equal(self.times, other.times)

    def __hash__(self) -> int:
        return hash((self.times.shape, self.times.tobytes(), self.session, self.reuse))

    def __repr__(self) -> str:
        silent = int(np.isinf(self.times).sum())
        lost = f", {silent} of {self.times.size} calls not answered" if silent else ""
        p50, p99 = (self.quantile(share) for share in (0.5, 0.99))
        ends = f"{p99:.3g} s" if np.isfinite(p99) else "never"
        return (
            f"<Empirical: {many(self.rounds, 'round')} of {many(self.workers, 'worker')}, p50 {p50:.3g} s, "
            f"p99 {ends}{lost}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.times, self.session, self.reuse)


def _checked(times: Any) -> np.ndarray:
    """A read-only copy in float64, infinite where no answer came."""
    try:
        given = np.asarray(times)
    except ValueError as error:
        raise InvalidArgument(
            "times has rows of different lengths: give a number for each worker in every round, and "
            "NaN where a worker did not answer"
        ) from error
    if given.ndim != 2 or given.size == 0 or given.dtype.kind not in "iuf":
        raise InvalidArgument(
            f"times of shape {given.shape} and dtype {given.dtype} must be a table of seconds, with "
            "rounds as rows and workers as columns"
        )
    table = given.astype(np.float64)
    table[np.isnan(table) | np.ma.getmaskarray(times)] = np.inf
    table += 0.0  # equal times have equal bytes: no -0.0
    negative = np.argwhere(table < 0)
    if len(negative):
        row, column = map(int, negative[0])
        raise InvalidArgument(
            f"{len(negative)} of {table.size} times are negative, the first, {table[row, column]:g}, "
            f"of worker {column} in round {row}: give seconds from sending to answer, and NaN where "
            "none came"
        )
    if np.isinf(table).all():
        raise InvalidArgument(
            f"none of the {table.size} calls was answered, so there is no time to draw: give seconds"
        )
    table.setflags(write=False)
    return table


def _table(path: Path) -> np.ndarray:
    """The numbers of a CSV file; rows and columns are counted from 1 in messages, as editors do."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [
                (reader.line_num, cells)
                for cells in reader
                if "".join(cells).strip() or len(cells) > 1
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidArgument(
            f"{path} is not a CSV file ({error}): save the times as text, with commas between them"
        ) from error
    width, skip = (len(lines[0][1]) if lines else 0), 0
    if lines and _is_header(lines[0][1]):
        skip = int(_is_round_head(lines[0][1][0]))
        lines = lines[1:]
    if not lines or width <= skip:
        raise InvalidArgument(
            f"{path} has no times: give it a row for each round and a column for each worker"
        )
    return np.array([_row(path, line, cells, width)[skip:] for line, cells in lines])


def _is_round_head(head: str) -> bool:
    return head.strip().lower() in _ROUND_HEADS


def _is_header(cells: list[str]) -> bool:
    """Whether the first row holds names throughout, or the numbers of the workers."""
    values = [_seconds(cell) for cell in cells]
    if None in values and all(value is None or value == np.inf for value in values):
        return True
    numbers = values[_is_round_head(cells[0]) :]
    return len(numbers) > 1 and numbers == [*range(len(numbers))]


def _row(path: Path, line: int, cells: list[str], width: int) -> list[float]:
    if len(cells) != width:
        raise InvalidArgument(
            f"row {line} of {path} has {len(cells)} cells where the first row has {width}: give one "
            "for each worker, and leave it empty where a worker did not answer"
        )
    found = [_seconds(cell) for cell in cells]
    wrong = [column for column, value in enumerate(found) if value is None or value < 0]
    if wrong:
        raise InvalidArgument(
            f"row {line}, column {wrong[0] + 1} of {path} says {cells[wrong[0]]!r}: write seconds, as "
            "in 0.25, with commas between cells, and leave a cell empty where no answer came"
        )
    return [value for value in found if value is not None]


def _seconds(cell: str) -> float | None:
    """The number in a cell, infinite where no answer came; None if it holds something else."""
    if cell.strip().lower() in _NO_ANSWER:
        return np.inf
    try:
        return float(cell)
    except ValueError:
        return None
