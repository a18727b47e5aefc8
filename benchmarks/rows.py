"""`cm.map` without a code, on rows of unequal length and on workers that are slow, stop or die, beside the libraries that
people would use instead. Each line is one interleaved run: every round gives all libraries the same rows, and the first
call of a row the same faults, in another random order of the libraries. All workers are started before; the first table
is the time of a cold start in a fresh interpreter, imports and the answers of one row a worker included. Sleeping rows
leave the processor free; computing rows take processor time.

Times are medians, in brackets the least and the largest. × is codedmap over its best rival within each round; that is the
fastest one of those that lost the fewest rows (*best rival*).

| column | meaning |
|---|---|
| exact | rows with the right answer, in the worst round |
| lost rows | those without, in the first round in which there were any |
| raised | what the caller got instead |
| calls a row | calls of the function that began, over rows |
| never ends | rounds in which a library had not ended after 5 times the healthy time; it was stopped then |

`ProcessPoolExecutor.map` and `joblib.Parallel` give answers in order; what comes after the first error is lost to their
caller. Dask and Ray give each row's answer or error. codedmap has its default settings, with `on_error="record"`.
*Two copies* is a `ProcessPoolExecutor` that is sent every row twice; the first answer counts, and the other copy is
cancelled if it has not begun. In the 25 jobs the time is that of the slowest job; they follow each other at once, so
that calls which a job leaves behind delay the next. Many short rows: the chunk size of the pool is the best of those
tried in a tenth of the rows. The last tables: a round trip of a function that returns its input, the mean of many; and
the scheduler alone in virtual time.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np

import codedmap as cm

from .harness import Row
from .row_functions import Faulty, Spin, answer, calls, continue_stopped, unended
from .row_rivals import RIVALS, Codedmap, Pool, Rival, one

__all__ = ["FULL", "QUICK", "cases", "run", "sleeping_cases", "started"]

_SHARED = ("codedmap", "ProcessPoolExecutor", "joblib", "Dask", "Ray")
_OF_JOBS = ("codedmap", "codedmap, hedge=None", *_SHARED[1:], "two copies")
_CHUNKSIZES = (1, 16, 64, 256, 1024, 4096)
_HEALTHY_TIMES = 5
_LIMIT = 120.0  # seconds that a run of any other case may take, in addition to 5 healthy times
_SHORTEST_LIMIT = 3.0  # seconds, also where healthy runs are very short
_LEFT_OVER = 15.0  # seconds within which abandoned calls have ended
_SHOWN = 5  # stretches of lost rows


@dataclass(frozen=True)
class _Size:
    """How much is run."""

    sleeping: int
    computing: int
    rows: int
    few_rows: int
    computing_rows: int
    late: float
    scale: float
    """Of the seconds of a row."""
    jobs: int
    job_rows: int
    shortest: tuple[tuple[int, float], ...]
    trips: int
    virtual: tuple[int, int]
    events: tuple[int, int]


FULL = _Size(
    sleeping=12,
    computing=2,
    rows=216,
    few_rows=200,
    computing_rows=72,
    late=3.0,
    scale=1.0,
    jobs=25,
    job_rows=24,
    shortest=((10**5, 1e-3), (10**6, 1e-5)),
    trips=300,
    virtual=(10**4, 10**6),
    events=(10**4, 10**5),
)
QUICK = _Size(
    sleeping=3,
    computing=2,
    rows=24,
    few_rows=20,
    computing_rows=12,
    late=0.3,
    scale=0.2,
    jobs=3,
    job_rows=8,
    shortest=((1000, 1e-3), (10_000, 1e-5)),
    trips=10,
    virtual=(10**3, 10**4),
    events=(10**3, 10**4),
)


@dataclass
class _Run:
    """What a run of one library came to."""

    rows: int
    seconds: float = float("nan")
    answers: dict[int, float] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)
    calls: int | None = None
    never_ends: bool = False
    statuses: tuple[int, int] = (0, 0)
    """Rows FAILED and MISSING, of codedmap."""

    @property
    def lost(self) -> list[int]:
        """Rows without the right answer."""
        return [row for row in range(self.rows) if self.answers.get(row) != answer(row)]


Make = Callable[[str, int], Faulty]
"""The function of a case, given the folder of its notes and the round."""


def run(*, quick: bool = False, repeats: int | None = None) -> list[Row]:
    """Rows of the table."""
    size = QUICK if quick else FULL
    repeats = repeats or (1 if quick else 7)
    rows = _cold_starts(size, repeats)
    with started(size.sleeping, _OF_JOBS) as crew:
        shared = {name: crew[name] for name in _SHARED}
        rows += cases(shared, sleeping_cases(size, size.rows), f"{size.sleeping} sleeping", repeats)
        rows += _jobs(crew, size, repeats)
    with started(size.computing, _SHARED) as crew:
        rows += cases(crew, _computing_cases(size), f"{size.computing} computing", repeats)
        pair = {name: crew[name] for name in _SHARED[:2]}
        for count, seconds in size.shortest:
            rows += _short(pair, count, seconds, f"{size.computing} computing", repeats)
        rows += _round_trips(pair, size.trips, repeats)
    return rows + _scale(size, repeats)


@contextmanager
def started(workers: int, names: Sequence[str]) -> Iterator[dict[str, Rival]]:
    with ExitStack() as stack:
        crew = {}
        for name in names:
            crew[name] = rival = RIVALS[name](workers)
            stack.callback(rival.close)
            rival.warm()
        yield crew


# Cases ------------------------------------------------------------------------------------------------


def sleeping_cases(size: _Size, rows: int) -> dict[str, tuple[int, Make]]:
    """Cases of rows that sleep: how many, and the function."""
    late = size.late
    few = size.few_rows
    raising = frozenset(int(few * share) for share in (0.1, 0.45, 0.8))
    crashing = frozenset({int(few * 0.3)})

    def bad(folder: str, turn: int) -> Faulty:
        return Faulty(
            folder=folder,
            seconds=_lengths(size, few, turn),
            raising=raising,
            crashing=crashing,
            seed=turn,
        )

    many, some = 10 * few, few // 20

    def short(folder: str, turn: int) -> Faulty:
        seconds = np.full(many, 0.005)
        first = int(np.random.default_rng([turn, many]).integers(many - some + 1))
        seconds[first : first + some] += late / 3
        return Faulty(folder=folder, seconds=tuple(seconds.tolist()), seed=turn)

    percent = f"{max(1, round(0.03 * rows))} of {rows} rows {late:g} s slow"
    return {
        f"healthy, {rows} rows": (rows, _case(size, rows)),
        f"{percent}, at random": (rows, _case(size, rows, slow_rows=late)),
        f"{percent}, bunched": (rows, _case(size, rows, slow_rows=late, bunched=True)),
        "one worker ten times slower": (rows, _case(size, rows, slow=10.0)),
        _STOPPED: (rows, _case(size, rows, stopping=rows // 3)),
        "5 % of the calls kill their worker": (rows, _case(size, rows, killing=0.05)),
        f"{few} rows, 3 raise, 1 segfaults": (few, bad),
        f"{many} rows of 5 ms, {some} of them {late / 3:g} s slow, bunched": (many, short),
    }


def _computing_cases(size: _Size) -> dict[str, tuple[int, Make]]:
    rows, late = size.computing_rows, size.late
    percent = f"{max(1, round(0.03 * rows))} of {rows} rows {late:g} s slow"
    case = partial(_case, size, rows, computing=True)
    return {
        f"healthy, {rows} rows": (rows, case()),
        f"{percent}, at random": (rows, case(slow_rows=late)),
        f"{percent}, bunched": (rows, case(slow_rows=late, bunched=True)),
        "one worker ten times slower": (rows, case(slow=10.0)),
        "5 % of the calls kill their worker": (rows, case(killing=0.05)),
    }


_STOPPED = "one worker stopped during the job"


def _lengths(size: _Size, rows: int, turn: int) -> tuple[float, ...]:
    """Seconds of rows, log-normal between 0.05 and 0.5."""
    drawn = np.random.default_rng([turn, rows]).lognormal(np.log(0.16), 0.5, rows)
    return tuple((size.scale * np.clip(drawn, 0.05, 0.5)).tolist())


def _case(
    size: _Size,
    rows: int,
    *,
    slow_rows: float = 0.0,
    bunched: bool = False,
    computing: bool = False,
    slow: float = 1.0,
    killing: float = 0.0,
    stopping: int | None = None,
) -> Make:
    def made(folder: str, turn: int) -> Faulty:
        seconds = np.array(_lengths(size, rows, turn))
        if slow_rows:
            count = max(1, round(0.03 * rows))
            random = np.random.default_rng([turn, rows, 1])
            first = int(random.integers(rows - count + 1))
            at = range(first, first + count) if bunched else random.choice(rows, count, False)
            seconds[list(at)] += slow_rows
        return Faulty(
            folder=folder,
            seconds=tuple(seconds.tolist()),
            computing=computing,
            slow=slow,
            killing=killing,
            stopping=stopping,
            seed=turn,
        )

    return made


def cases(
    crew: Mapping[str, Rival],
    cases: Mapping[str, tuple[int, Make]],
    workers: str,
    repeats: int,
) -> list[Row]:
    table: list[Row] = []
    healthy = 0.0
    for case, (rows, make) in cases.items():
        stopped = case == _STOPPED
        limit = max(_HEALTHY_TIMES * healthy, _SHORTEST_LIMIT) + (0.0 if stopped else _LIMIT)
        runs: dict[str, list[_Run]] = {name: [] for name in crew}
        for turn, name in _rounds(crew, repeats):
            runs[name].append(_faulty(crew[name], make, rows, turn, limit))
        healthy = healthy or float(np.median([one.seconds for own in runs.values() for one in own]))
        table += _lines({"workers": workers, "case": case}, runs)
        _say(f"{workers}, {case}")
    return table


def _jobs(crew: Mapping[str, Rival], size: _Size, repeats: int) -> list[Row]:
    """Jobs one after the other; calls are late whatever their row."""
    rows, jobs = size.job_rows, size.jobs
    seconds: dict[str, list[list[float]]] = {name: [] for name in crew}
    runs: dict[str, list[_Run]] = {name: [] for name in crew}
    for turn, name in _rounds(crew, repeats):
        total = _Run(rows * jobs, calls=0)
        own = []
        with ExitStack() as stack:
            folders = [stack.enter_context(_notes()) for _ in range(jobs)]
            for job, folder in enumerate(folders):
                fn = Faulty(
                    folder=folder,
                    seconds=(0.2 * size.scale,) * rows,
                    late=0.05,
                    late_by=size.late,
                    seed=turn * jobs + job,
                )
                done = _timed(crew[name], fn, rows, _LIMIT)
                own.append(done.seconds)
                good = set(range(rows)) - set(done.lost)
                total.answers |= {job * rows + row: answer(job * rows + row) for row in good}
                total.errors += done.errors
                total.never_ends |= done.never_ends
                total.statuses = tuple(map(sum, zip(total.statuses, done.statuses, strict=True)))  # type: ignore[assignment]
            total.calls = sum(map(calls, folders))
            _wait_until_ended(folders)
        total.seconds = max(own)
        seconds[name].append(own)
        runs[name].append(total)
    case: Row = {
        "workers": f"{size.sleeping} sleeping",
        "case": f"{jobs} jobs of {rows} rows, 5 % of the calls {size.late:g} s late: slowest job",
    }
    table = _lines(case, runs)
    for row in table:
        times = np.array(seconds[str(row["call"])])
        row.update(_spread("median job ms", np.median(times, axis=1) * 1e3))
        row.update(_spread("slowest over median", times.max(axis=1) / np.median(times, axis=1)))
    _say("jobs")
    return table


def _short(
    crew: Mapping[str, Rival], count: int, seconds: float, workers: str, repeats: int
) -> list[Row]:
    """Many short rows, and the pool at its best chunk size."""
    pool, fn = crew["ProcessPoolExecutor"], Spin(seconds)
    assert isinstance(pool, Pool)
    tried = {}
    for pool.chunksize in _CHUNKSIZES:
        tried[pool.chunksize] = _timed(pool, fn, count // 10, _LIMIT).seconds
    pool.chunksize = min(tried, key=tried.__getitem__)
    runs: dict[str, list[_Run]] = {name: [] for name in crew}
    for _, name in _rounds(crew, repeats):
        runs[name].append(_timed(crew[name], fn, count, _LIMIT + 10 * count * seconds))
    text = f"{seconds * 1e3:g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:g} µs"
    table = _lines({"workers": workers, "case": f"{count} rows of {text}"}, runs)
    for row in table:
        if row["call"] == pool.name:
            row["note"] = f"chunksize {pool.chunksize}"
    pool.chunksize = 1
    _say(f"{count} rows")
    return table


# One run ----------------------------------------------------------------------------------------------


def _rounds(crew: Mapping[str, Rival], repeats: int) -> Iterator[tuple[int, str]]:
    """Rounds, each with all libraries in a random order."""
    random, order = np.random.default_rng(0), list(crew)
    for turn in range(repeats):
        random.shuffle(order)
        for name in order:
            crew[name].warm()
            yield turn, name


def _faulty(rival: Rival, make: Make, rows: int, turn: int, limit: float) -> _Run:
    with _notes() as folder:
        fn = make(folder, turn)
        done = _timed(rival, fn, rows, limit, before_reset=partial(continue_stopped, folder))
        done.calls = calls(folder)
        continue_stopped(folder)
        _wait_until_ended([folder])
    return done


def _timed(
    rival: Rival,
    fn: Callable[[float], float],
    rows: int,
    limit: float,
    before_reset: Callable[[], object] = lambda: None,
) -> _Run:
    """Run once, for this long at most; afterwards the library is ready again."""
    done = _Run(rows)
    broken: list[BaseException] = []

    def call() -> None:
        try:
            rival.run(fn, rows, answers, errors)
        except BaseException as error:
            broken.append(error)

    answers: dict[int, float] = {}
    errors: list[BaseException] = []
    thread = threading.Thread(target=call, daemon=True)
    began = time.perf_counter()
    thread.start()
    thread.join(limit)
    done.seconds = time.perf_counter() - began
    done.never_ends = thread.is_alive()
    done.answers, done.errors = dict(answers), [*errors, *broken]
    if isinstance(rival, Codedmap) and not done.never_ends and not broken:
        done.statuses = rival.failed, rival.missing
    elif done.errors or done.never_ends:
        before_reset()
        rival.reset()
    return done


@contextmanager
def _notes() -> Iterator[str]:
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield folder


def _wait_until_ended(folders: Sequence[str]) -> None:
    until = time.monotonic() + _LEFT_OVER
    while any(map(unended, folders)) and time.monotonic() < until:
        time.sleep(0.05)


# Lines ------------------------------------------------------------------------------------------------


def _lines(case: Row, runs: Mapping[str, Sequence[_Run]]) -> list[Row]:
    seconds = {name: np.array([one.seconds for one in own]) for name, own in runs.items()}
    lost = {name: max(len(one.lost) for one in own) for name, own in runs.items()}
    ended = [name for name, own in runs.items() if not any(one.never_ends for one in own)]
    rivals = [name for name in ended if not name.startswith("codedmap")]
    best = min(rivals, key=lambda name: (lost[name], np.median(seconds[name])), default=None)
    table = []
    for name, own in runs.items():
        row: Row = {**case, "call": name}
        never = sum(one.never_ends for one in own)
        if not never:
            row |= _spread("ms", seconds[name] * 1e3)
        if name.startswith("codedmap") and best is not None:
            row |= _spread("ratio", seconds[name] / seconds[best])
            row["best rival"] = best
        row["rounds"] = len(own)
        row["exact"] = own[0].rows - lost[name]
        first = next((one for one in own if one.lost), own[0])
        row["lost rows"] = _stretches(first.lost)
        row["failed"], row["missing"] = (
            max(one.statuses[at] for one in own) or "" for at in range(2)
        )
        kinds = {type(error).__name__: None for one in own for error in one.errors}
        row["raised"] = " ".join(kinds)
        if own[0].calls is not None:
            row["calls a row"] = float(np.mean([(one.calls or 0) / one.rows for one in own]))
        row["never ends"] = never or ""
        row["note"] = ""
        if never:
            row["note"] = f"never ends ({never} of {len(own)}), lost rows {row['lost rows']}"
        table.append(row)
    return table


def _spread(name: str, values: np.ndarray) -> Row:
    """Median, least and largest, as columns."""
    return {
        name: float(np.median(values)),
        f"{name} min": float(values.min()),
        f"{name} max": float(values.max()),
    }


def _stretches(rows: Sequence[int]) -> str:
    """Row numbers, with stretches as ``first-last``."""
    found: list[list[int]] = []
    for row in rows:
        if found and row == found[-1][1] + 1:
            found[-1][1] = row
        else:
            found.append([row, row])
    texts = [f"{a}" if a == b else f"{a}-{b}" for a, b in found]
    more = len(texts) - _SHOWN
    return " ".join(texts[:_SHOWN]) + (f" and {more} more stretches" if more > 0 else "")


# Others -----------------------------------------------------------------------------------------------


def _cold_starts(size: _Size, repeats: int) -> list[Row]:
    seconds: dict[str, list[float]] = {name: [] for name in _SHARED}
    for _ in range(repeats):
        for name in _SHARED:
            words = ["-m", "benchmarks.row_rivals", name, str(size.sleeping)]
            seconds[name].append(float(_output(words)[0]))
    case: Row = {"workers": str(size.sleeping), "case": "cold start"}
    return _compared(case, {name: np.array(own) for name, own in seconds.items()})


def _round_trips(crew: Mapping[str, Rival], trips: int, repeats: int) -> list[Row]:
    mine, pool = crew["codedmap"], crew["ProcessPoolExecutor"]
    assert isinstance(mine, Codedmap)
    assert isinstance(pool, Pool)
    engine, executor, row = mine.engine, pool.pool, np.zeros(1)
    ways: dict[str, Callable[[], object]] = {
        "codedmap Local.submit": lambda: engine.submit(0, one, 1.0).result(),
        "codedmap map of one row": lambda: cm.map(
            cm.itemwise(one), row, engine=engine, progress=False
        ),
        "ProcessPoolExecutor.submit": lambda: executor.submit(one, 1.0).result(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, call in ways.items():
            call()
            began = time.perf_counter()
            for _ in range(trips):
                call()
            seconds[name].append((time.perf_counter() - began) / trips)
    case: Row = {"workers": "2", "case": "round trip of one call"}
    return _compared(case, {name: np.array(own) for name, own in seconds.items()})


def _compared(case: Row, seconds: Mapping[str, np.ndarray]) -> list[Row]:
    rivals = [name for name in seconds if not name.startswith("codedmap")]
    best = min(rivals, key=lambda name: float(np.median(seconds[name])))
    table = []
    for name, own in seconds.items():
        row: Row = {**case, "call": name, **_spread("ms", own * 1e3), "rounds": len(own)}
        if name.startswith("codedmap"):
            row |= {**_spread("ratio", own / seconds[best]), "best rival": best}
        table.append(row)
    return table


def _scale(size: _Size, repeats: int) -> list[Row]:
    table: list[Row] = []
    for (workers, count), kind in ((size.events, "events"), (size.virtual, "job")):
        words = ["-m", "benchmarks.row_scale", str(workers), str(count), kind]
        first, second = np.array([_output(words) for _ in range(repeats)], dtype=float).T
        case: Row = {"workers": f"{workers} virtual", "case": f"{count} calls"}
        if kind == "events":
            row = {
                **case,
                "call": "one decision of the scheduler",
                **_spread("ms", first / second * 1e3),
            }
        else:
            row = {**case, "call": "a job in virtual time", **_spread("ms", first * 1e3)}
            row |= _spread("peak MB", second)
        table.append({**row, "rounds": repeats})
    return table


def _output(words: Sequence[str]) -> list[str]:
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    return done.stdout.split()


def _say(text: str) -> None:
    print(f"{time.strftime('%X')} rows: {text}", file=sys.stderr, flush=True)
