"""Is what `codedmap.plan` expects what happens, and is its choice the best way in hindsight?

One cell is a simulator, a law of call times, and a size of job. Most cells are in virtual time: the plan is made from some
rows whose calls answer at once and say how long they took, and each way of its table is then run on other draws of the
law. Live cells sleep: the plan is made on a pool of threads, and each of its ways is run by `codedmap.map`.

**How errors are compared.** The error of a way is the root mean square over all rows, in deviations of the outputs. What
it is expected to be is compared with the root mean square over several draws of which rows are lost, because one draw is
no expectation. Where the plan gives one number, the larger of the two over the smaller is the factor. Where it gives a
range, it is counted whether what happens is inside. Numbers below `LEAST` are called by it.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import codedmap as cm

from . import data, functions, held_out, services
from .harness import Cell, Experiment, Row
from .plots import figure
from .simulators import SIMULATORS, Unavailable, table

__all__ = ["EXPERIMENT", "Settings", "compute"]

NAMES = (
    "borehole", "ishigami", "piston", "sir", "wing", "otl", "arm", "robertson", "lorenz", "g20", "friedman",
    "threshold", "spring", "queue", "spill", "rough", "hbv", "flood", "predators", "column", "tanh-network", "tanh-3",
    "svm-digits", "forest",
)  # fmt: skip
"""Simulators, three of them held out, and networks and other trained functions."""
Law = cm.latency.LatencyModel


@dataclass(frozen=True)
class SlowWorkers(cm.latency.LatencyModel):
    """One worker in so many is slower, always the same."""

    usual: Law
    one_in: int
    factor: float

    def sample(self, rng: np.random.Generator, waves: int, workers: int, /) -> np.ndarray:
        times = self.usual.sample(rng, waves, workers)
        times[:, :: self.one_in] *= self.factor
        return times


LAWS: dict[str, Law] = {
    "even": cm.latency.ShiftedExponential(1.0, 0.25),
    "slow calls": cm.latency.Bimodal(cm.latency.ShiftedExponential(0.75, 0.15), 0.03, 20.0),
    "heavy tail": cm.latency.Pareto(0.75, 0.3, 2.0),
    "slow workers": SlowWorkers(cm.latency.ShiftedExponential(0.8, 0.2), 6, 4.0),
}
"""Seconds a row, besides those of "AWS", which are measured; in live cells a fiftieth of it."""
LIVE = 0.02
SIZES = ((600, 12), (400, 8), (500, 16))
ERRORS = (0.02, 0.05, 0.2)
"""That are asked for, in turn."""
JOBS = 100
"""In virtual time."""
BUDGET = 4.0
"""Seconds of plans in virtual time."""
LEAST = 1e-3
"""Errors below this are called by it."""
GOALS = {"error": (1.25, 2.0), "p50": 1.15, "p99": 1.30, "choice": 1.1}


@dataclass(frozen=True)
class Settings:
    """Cases and sizes."""

    cases: tuple[tuple[str, str, int, int, float, int, float], ...]
    """Simulator, law, rows, workers, error asked for, rows that the plan sees, and budget; seen 0: live; budget 0: the
    usual one."""
    draws: int
    """Of lost rows, or runs, of each way."""


def _configure(quick: bool) -> Settings:
    cases, laws = [], [*LAWS, "AWS"]
    for turn, name in enumerate(NAMES[:2] if quick else NAMES):
        for again, seen in enumerate((60, 300)):
            at = turn + 5 * again
            rows, workers = SIZES[at % 3]
            law, error = laws[at % len(laws)], ERRORS[(at // 3 + again) % 3]
            cases.append((name, law, rows, workers, error, seen, BUDGET))
    for turn, name in enumerate(NAMES[:1] if quick else NAMES[:16:2]):
        law, error = ("even", "slow calls", "heavy tail")[turn % 3], ERRORS[turn % 3]
        size = (400, 8, error, 0, 3.0) if turn % 2 else (1200, 12, error, 0, 0.0)
        cases.append((name, law, *size))
    return Settings(tuple(cases), 1 if quick else 2)


KEYS = ["simulator", "law", "rows", "workers", "asked", "seen", "budget"]


def _cells(settings: Settings) -> list[Cell]:
    return [dict(zip(KEYS, case, strict=True)) for case in settings.cases]


def _answers(
    name: str, rows: int
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, np.ndarray]:
    """A function, inputs (m, d), and its answers (m, q)."""
    if name in functions.FUNCTIONS:
        call, X, y = functions.load(name, False)
        return call, X[:rows], y[:rows].reshape(min(rows, len(y)), -1)
    known = SIMULATORS.get(name) or held_out.SIMULATORS[name]
    folder = Path(os.environ.get("CODEDMAP_SURROGATES") or data.cache() / "surrogates")
    X, y = table(known, rows, folder)
    return known.call, X, y


def _law(name: str, workers: int, rng: np.random.Generator) -> Law:
    """The law of a name; "AWS" is one of the traces, its median call a second, and some of its workers."""
    if name in LAWS:
        return LAWS[name]
    traces = services.service("aws")
    assert isinstance(traces, services.Traces)
    times = traces.arrays[rng.integers(len(traces.arrays))]
    some = rng.permutation(times.shape[1])[:workers]
    return cm.latency.Empirical(times[:, some], session=1)


class _Saying(cm.testing.Scripted):
    """Calls answer at once, and say that they took as long as drawn (each, N)."""

    def __init__(self, times: np.ndarray) -> None:
        super().__init__(times.shape[1])
        self._times, self._begun = times, np.zeros(times.shape[1], dtype=int)

    def submit(self, worker: int, fn: Any, payload: Any) -> Future[Any]:
        """As `Scripted`."""
        reply = super().submit(worker, fn, payload).result()
        rows = len(reply.values)
        places = np.arange(self._begun[worker], self._begun[worker] + rows) % len(self._times)
        self._begun[worker] += rows
        answered: Future[Any] = Future()
        answered.set_result(replace(reply, seconds=float(self._times[places, worker].sum())))
        return answered


class _Sleeping:
    """A function whose every row takes as long as a law says; it looks up answers that were computed before."""

    def __init__(
        self,
        call: Callable[[np.ndarray], np.ndarray],
        X: np.ndarray,
        y: np.ndarray,
        law: Law,
        seed: int,
    ) -> None:
        self._call, self._outputs = call, y.shape[1]
        self._answers = {row.tobytes(): answer for row, answer in zip(X, y, strict=True)}
        self._law, self._rng, self._lock = law, np.random.default_rng(seed), threading.Lock()
        self._seconds: list[float] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        for _ in batch:
            with self._lock:
                if not self._seconds:
                    self._seconds = self._law.sample(self._rng, 1, 1000)[0].tolist()
                seconds = self._seconds.pop()
            time.sleep(min(LIVE * seconds, 2.0))
        return self.computed(batch)

    def computed(self, batch: np.ndarray) -> np.ndarray:
        """The same at once."""
        found = [self._answers.get(row.tobytes()) for row in batch]
        mixed = [at for at, answer in enumerate(found) if answer is None]
        if mixed:
            for at, answer in zip(
                mixed, np.reshape(self._call(batch[mixed]), (len(mixed), -1)), strict=True
            ):
                found[at] = answer[: self._outputs]
        return np.array(found)


def compute(settings: Settings, cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """One row for each way; none where what the simulator needs is not here."""
    try:
        call, X, y = _answers(cell["simulator"], cell["rows"])
        law = _law(cell["law"], cell["workers"], rng)
    except (Unavailable, data.MissingData):
        return
    fn = _Sleeping(call, X, y, law, int(rng.integers(2**31)))
    run = _virtually if cell["seen"] else _live
    yield from run(settings, cell, rng, _Problem(fn, X, y, law))


class _Problem(NamedTuple):
    """A function, its inputs and answers, and the law of how long its rows take."""

    fn: _Sleeping
    X: np.ndarray
    y: np.ndarray
    law: Law

    def off(self, values: np.ndarray) -> float:
        """Mean square error of all rows, in deviations of the outputs."""
        # A quantity that does not vary has no deviation.
        deviation = np.where(self.y.std(axis=0) > 0.0, self.y.std(axis=0), 1.0)
        return float(np.mean(((values - self.y) / deviation) ** 2))


def _virtually(
    settings: Settings, cell: Cell, rng: np.random.Generator, problem: _Problem
) -> Iterator[Row]:
    fn, X, y, law = problem
    rows, workers = len(X), cell["workers"]
    engine = _Saying(law.calls(rng, 1, workers, cell["seen"])[:, 0])
    some = rng.permutation(rows)[: cell["seen"]]
    plan, planning = _planned(
        fn.computed, X[some], rows=rows, engine=engine, error=cell["asked"], budget=cell["budget"]
    )
    times = law.calls(rng, JOBS, workers, 3 * rows // workers)
    for way in plan.rows:
        happens = {"exact": 1.0, "error": 0.0}
        if way.deadline is not None:
            ends = np.cumsum(times[:, : settings.draws], axis=0)
            counts = (ends <= 0.9 * way.deadline).sum(axis=(0, 2)).clip(max=rows)
            squares = []
            for count in counts:
                lost = np.zeros(rows, dtype=bool)
                lost[rng.permutation(rows)[count:]] = True
                some = lost.any()
                squares.append(
                    problem.off(cm.fill(X, np.where(lost[:, None], np.nan, y)).values)
                    if some
                    else 0.0
                )
            happens = {"seconds": way.deadline, "p99": way.deadline, "exact": float(np.mean(counts)) / rows,
                       "error": np.sqrt(np.mean(squares))}  # fmt: skip
        else:
            some = times if way.code is None else times[:, : JOBS // 10]
            waits = cm.latency.scheduled(some, rows, code=way.code)
            happens |= {"seconds": waits.quantile(0.5), "p99": waits.quantile(0.99)}
            if way.exact < 1.0 and way.code is not None:
                found = []
                for _ in range(settings.draws):
                    late = rng.permutation(workers)[: way.code.stragglers].tolist()
                    with cm.testing.Scripted(
                        workers, dict.fromkeys(late, cm.testing.never())
                    ) as engine:
                        found.append(cm.map(fn.computed, X, code=way.code, engine=engine))
                happens |= {"exact": float(np.mean([one.exact.mean() for one in found])),
                            "error": np.sqrt(np.mean([problem.off(one.values) for one in found]))}  # fmt: skip
        yield _row(plan, way, planning) | happens


def _live(
    settings: Settings, cell: Cell, rng: np.random.Generator, problem: _Problem
) -> Iterator[Row]:
    fn, X, _, law = problem
    workers = cell["workers"]
    with ThreadPoolExecutor(workers) as pool:
        engine = cm.engines.FromExecutor(pool, workers)
        plan, planning = _planned(
            fn, X, engine=engine, error=cell["asked"], budget=cell["budget"] or None
        )
        auto = dataclasses.replace(
            plan.rows[0], scheme="auto", code="auto", deadline=None, exact=np.nan
        )  # type: ignore[arg-type]
        waits = cm.latency.scheduled(
            LIVE * law.calls(rng, JOBS, workers, 3 * len(X) // workers), len(X)
        )
        for way in (*plan.rows, auto):
            seconds, squares, exact = [], [], []
            for _ in range(settings.draws):
                begun = time.perf_counter()
                result = cm.map(fn, X, engine=engine, code=way.code, deadline=way.deadline)
                seconds.append(time.perf_counter() - begun)
                squares.append(problem.off(result.values))
                exact.append(result.exact.mean())
            happens: Row = {"seconds": np.median(seconds), "p99": np.nan, "exact": np.mean(exact),
                            "error": np.sqrt(np.mean(squares))}  # fmt: skip
            if way.scheme == "exact with hedging":
                happens["p99"] = waits.quantile(0.99)
            yield _row(plan, way, planning) | happens


def _planned(*given: Any, **options: Any) -> tuple[cm.Plan, Row]:
    """A plan, and what it cost in seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    plan = cm.plan(*given, **options)
    cost = {"planning": time.perf_counter() - clock, "processor": time.process_time() - processor}
    return plan, cost


def _row(plan: cm.Plan, way: cm.PlanRow, planning: Row) -> Row:
    low, high = way.range or (np.nan, np.nan)
    least, most = way.errors or (np.nan, np.nan)
    return {
        "way": way.scheme, "chosen": way is plan.rows[0], "timed": plan.timed, "computed": plan.computed, **planning,
        "expected_seconds": way.seconds, "low": low, "high": high, "expected_p99": way.p99, "expected_exact": way.exact,
        "expected_error": way.error, "least_error": least, "most_error": most,
    }  # fmt: skip


def _factor(one: pd.Series, other: pd.Series, least: float = 0.0) -> pd.Series:
    """By how much the larger is more than the smaller."""
    one, other = one.clip(lower=least), other.clip(lower=least)
    return np.maximum(one / other, other / one)


def judged(table: pd.DataFrame) -> dict[str, tuple[float, int, str]]:
    """For each goal what was measured, in how many cells, and the goal in words."""
    virtual = table["seen"] > 0
    estimated = table[(table["expected_exact"] < 1.0) & (table["way"] != "auto")]
    numbers = estimated[estimated["expected_error"].notna()]
    one = numbers[numbers["most_error"].isna()]
    several = numbers[numbers["most_error"].notna()]
    errors = _factor(one["expected_error"], one["error"], LEAST)
    happened = several["error"].clip(lower=LEAST)
    within = (happened >= several["least_error"].clip(upper=happened.max())) & (
        happened <= several["most_error"].clip(lower=LEAST)
    )
    wide = several["most_error"].clip(lower=LEAST) / several["least_error"].clip(lower=LEAST)
    every = _factor(numbers["expected_error"], numbers["error"], LEAST)
    exact = table[table["way"] == "exact with hedging"]
    times = exact[exact["seen"] > 0]
    enough = times[times["low"].isna()]
    few = times[times["low"].notna()]
    inside = (few["seconds"] >= few["low"]) & (few["seconds"] <= few["high"])
    middle = _factor(enough["expected_seconds"], enough["seconds"])
    high = _factor(enough["expected_p99"], enough["p99"])
    choices = []
    for _, cell in table[table["way"] != "auto"].groupby(KEYS, sort=False):
        allowed = cell[cell["error"] <= cell["asked"]]
        chosen = cell[cell["chosen"]].iloc[0]
        choices.append(
            chosen["error"] <= chosen["asked"]
            and chosen["seconds"] <= GOALS["choice"] * allowed["seconds"].min()
        )
    auto = table[table["way"] == "auto"]
    live = exact[exact["seen"] == 0]
    beside = auto["seconds"].to_numpy() / live["seconds"].to_numpy()
    usual = live[live["budget"] == 0]
    spent = usual[["planning", "processor"]].div(np.maximum(usual["seconds"], 1.5), axis=0)
    said = exact[(exact["budget"] > 0) & virtual[exact.index]]
    beyond = said["planning"] / said["budget"]
    return {
        "error where the plan gives one number, factor at the median": (errors.median(), len(errors), "1.25"),
        "the same, largest": (errors.max(), len(errors), "2"),
        "error inside the range, where it gives a range, share": (within.mean(), len(several), "0.95"),
        "upper over lower end of these ranges, at the median": (wide.median(), len(several), ""),
        "expected error against what happens, all, factor at the median": (every.median(), len(every), ""),
        "p50 of exact jobs, where it is no range, largest factor": (middle.max(), len(middle), "1.15"),
        "p99 of the same, largest factor": (high.max(), len(high), "1.30"),
        "p50 inside the range, elsewhere, share": (inside.mean(), len(inside), "0.95"),
        "choice exact enough and within 1.1 of the fastest such way, share": (np.mean(choices), len(choices), "0.95"),
        "seconds of planning over those of the exact job, usual budget, live, largest": (
            spent["planning"].max(), len(usual), "0.1 or 0.15 s",
        ),
        "the same, seconds of the processor": (spent["processor"].max(), len(usual), "0.1 or 0.15 s"),
        f"seconds of planning over a budget of {BUDGET:g} s, largest": (beyond.max(), len(said), "1"),
        "seconds of code=\"auto\" over those of the exact job, median": (pd.Series(beside).median(), len(auto), ""),
        "error of code=\"auto\", which allows 0.05, largest": (auto["error"].max(), len(auto), "0.05"),
    }  # fmt: skip


WORDS = """## Plans: what they expect, and what happens

**Question.** Does a job take as long as `codedmap.plan` says, are estimates as far off as it says, and is the way that
it recommends the fastest that is exact enough? {virtual} cells are in virtual time: {simulators} simulators, networks and other
trained functions, three of them held out; call times that are even, of which some are slow, with a heavy tail, of which those of one worker in
six are slow, and measured on AWS Lambda; jobs of 400 to 600 rows on 8 to 16 workers, planned from 60 and from 300 rows
and their times, with a budget of {budget:g} s. Each way of a plan's table was then run on other draws of the times, {jobs} for
jobs without a code, and of which rows are lost. {live} cells are live, at a fiftieth of these times: 400 rows on 8 workers with a budget of 3 s, and 1,200 on
12 with the usual one. There each way was run by `codedmap.map` twice, and so was `code="auto"`. All ran on two
cores.

**Measure.** The error of a way is the root mean square over all rows, in deviations of the outputs; what happens is the
root mean square over several draws. Where a plan gives one number, the factor is the larger of the two over the
smaller. Where it gives a range, it is counted whether what happens is inside. Errors below {least:g} are called {least:g}.

**Result.**

| | measured | ways or cells | goal |
|---|---|---|---|
{goals}

A plan gives one error where it rests on about as many answers as the job will have, and a range elsewhere, because
learning curves of smooth functions and of rough ones look alike at first. What is recommended is cautious: an error
four fifths of the way to the upper end of its range has to be allowed.

| simulator | times | rows | rows seen | error asked for | chosen | expected, s | took, s | expected error | error | exact, s |
|---|---|---|---|---|---|---|---|---|---|---|
{lines}
"""


def _between(row: Any) -> str:
    """An error, or its range."""
    if np.isnan(row.most_error):
        return f"{row.expected_error:.2g}"
    return f"{row.least_error:.2g} to {row.most_error:.2g}"


def report(table: pd.DataFrame) -> str:
    """The section of the page."""
    goals = [
        f"| {name} | {value:.3g} | {count} | {goal} |"
        for name, (value, count, goal) in judged(table).items()
    ]
    exact = table[table["way"] == "exact with hedging"].set_index(KEYS)["seconds"]
    chosen = table[table["chosen"]]
    lines = [
        f"| {row.simulator} | {row.law} | {row.rows} | {row.seen or 'live'} | {row.asked:g} | {row.way} | "
        f"{row.expected_seconds:.3g} | {row.seconds:.3g} | {_between(row)} | {row.error:.2g} | "
        f"{exact[tuple(getattr(row, key) for key in KEYS)]:.3g} |"
        for row in chosen.itertuples()
    ]
    return WORDS.format(
        virtual=int((chosen["seen"] > 0).sum()),
        live=int((chosen["seen"] == 0).sum()),
        simulators=table["simulator"].nunique(),
        budget=BUDGET,
        jobs=JOBS,
        least=LEAST,
        goals="\n".join(goals),
        lines="\n".join(lines),
    )


def plot(table: pd.DataFrame, path: Path) -> None:
    """Expected against actual seconds and errors."""
    with figure(path, 1, 2) as axes:
        for axis, what, least in ((axes[0][0], "seconds", 0.0), (axes[0][1], "error", LEAST)):
            for way, rows in table.groupby("way"):
                x, y = rows[f"expected_{what}"].clip(lower=least), rows[what].clip(lower=least)
                axis.loglog(x, y, "o", ms=5, label=way)
            ends = axis.get_xlim()
            axis.plot(ends, ends, color="#444444", lw=1)
            axis.set_xlabel(f"expected {what}")
            axis.set_ylabel(f"actual {what}")
        axes[0][0].legend(frameon=False, fontsize=10)


EXPERIMENT = Experiment("planned", _configure, _cells, compute, plot, report)
