"""The tables as CSV files, and in words for the documentation."""

from __future__ import annotations

import csv
import datetime
import math
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Any

import codedmap as cm

from .outages import AFTER, EACH, HOSTS, Seen
from .outages import CODE as BEFALLEN
from .placement import EACH as SPREAD_EACH
from .placement import HOSTS as SPREAD_HOSTS
from .placement import ROWS as SPREAD_ROWS
from .placement import Lost
from .single import CODE, ROWS, WAIT
from .soak import CODE as SOAKED
from .soak import DEADLINE, SHARE, Wave
from .soak import ROWS as SOAKED_ROWS

__all__ = ["hosts_page", "judgement", "outcomes_page", "read", "soak_page", "write"]


def write(path: Path, outcomes: Sequence[Any]) -> None:
    """One line an outcome; all of them are dataclasses of the same kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(outcomes[0])])
        table.writeheader()
        for outcome in outcomes:
            row = asdict(outcome)
            table.writerow({k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()})


def read(path: Path) -> list[dict[str, str]]:
    """The lines of such a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def outcomes_page(rows: Sequence[dict[str, str]]) -> str:
    """Each fault alone, as a Markdown table."""
    lines = [
        f"One worker of {CODE.workers} meets the fault in the middle of a call of `map` with {ROWS} "
        f"rows, `KernelCode({CODE.tasks}, {CODE.workers}, {CODE.stragglers})` and "
        f"`Everyone() | Deadline({WAIT:g})`; it holds 10 raw rows. *Wrong*: rows that are marked exact "
        "and are not. *Error*: the largest error of an estimated row in its standard errors. *Back*: "
        f"seconds from the end of that call until all {CODE.workers} workers answer again.",
        "",
        "| engine | fault | the result says | exact | estimated | wrong | error | seconds | back |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        error = "" if row["error"] == "nan" else row["error"]
        lines.append(
            f"| {row['engine']} | {row['fault']} | {row['seen']} | {row['exact']} | "
            f"{row['estimated']} | {row['wrong']} | {error} | {row['seconds']} | {row['back']} |"
        )
    return "\n".join([*lines, "", _machine(), ""])


def hosts_page(seen: Sequence[Seen], lost: Sequence[Lost]) -> str:
    """What befell whole hosts, and what placement is good for, as Markdown tables."""
    lines = [
        f"{HOSTS} hosts with {EACH} Dask workers each are network namespaces on one switch, and one of "
        f"them is struck {AFTER:g} s after `map` was called with {ROWS} rows and "
        f"`KernelCode({BEFALLEN.tasks}, {BEFALLEN.workers}, {BEFALLEN.stragglers})`, "
        f"`Everyone() | Deadline({WAIT:g})`, for calls that take half a second. *Others*: "
        "workers on other hosts without an answer. *Wrong* and *error* are as above. *Back*: seconds from the end of "
        "the fault, or of that call, until all slots answer again.",
        "",
        "| fault | the result says | others | exact | estimated | wrong | error | seconds | back |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in seen:
        counts = (one.others, one.exact, one.estimated, one.wrong) if one.of_rows else ("",) * 4
        figures = [_figure(value) for value in (one.error, one.seconds, one.back)]
        cells = (one.outage, one.result, *counts, *figures)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "What the caller reads:", ""]
    told: dict[str, list[str]] = {}
    for one in seen:
        if one.message:
            told.setdefault(one.message, []).append(one.outage)
    for message, outages in told.items():
        lines += [f"- {'; '.join(outages)}: `{message}`"]
    lines += ["", *_placement(lost), "", _machine(), ""]
    return "\n".join(lines)


def _placement(lost: Sequence[Lost]) -> list[str]:
    return [
        "### Where slots are placed",
        "",
        f"One of {SPREAD_HOSTS} hosts with {SPREAD_EACH} workers each is cut off: with neighbouring slots on "
        "different hosts, as the engine places them, and with the slots of a host side by side. Over each "
        f"host and {lost[0].waves // SPREAD_HOSTS} sets of {SPREAD_ROWS} rows, of which all five inputs differ or "
        "only one: the root mean square error (RMSE) of the estimated rows, and that of a wave's worst row.",
        "",
        "| code | inputs that differ | a host's slots | estimated | RMSE | worst row |",
        "|---|---|---|---|---|---|",
        *(
            f"| `{one.code}` | {one.varying} | {one.placement} | {one.estimated:.0%} | {one.rmse:.2g} | "
            f"{one.worst:.2g} |"
            for one in lost
        ),
    ]


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def soak_page(engine: str, waves: Sequence[Wave]) -> str:
    """Many waves, in words and figures."""
    over = [wave for wave in waves if wave.faults > SOAKED.stragglers]
    late = [wave for wave in waves if wave.answered < SOAKED.workers - SOAKED.stragglers]
    lies = [lie for wave in waves for lie in wave.lies]
    seconds = sorted(wave.seconds for wave in waves)
    lines = [
        f"### {engine}: {len(waves):,} waves",
        "",
        f"Each of {SOAKED.workers} workers meets a fault in {SHARE:.0%} of its calls, of all the kinds "
        f"above; `KernelCode({SOAKED.tasks}, {SOAKED.workers}, {SOAKED.stragglers})`, "
        f"`Quorum({SOAKED.workers - SOAKED.stragglers}) | Deadline({DEADLINE:g})`.",
        "",
        "| | |",
        "|---|---|",
        f"| calls that met a fault | {sum(wave.faults for wave in waves):,} |",
        f"| waves with more than {SOAKED.stragglers} of them | {len(over)} |",
        f"| waves with fewer answers than the quorum, which said so | {len(late)} |",
        f"| seconds a wave: median, 99th percentile, longest | {median(seconds):.2f}, "
        f"{seconds[int(0.99 * len(seconds))]:.2f}, {seconds[-1]:.2f} |",
        f"| rows: exact, estimated | {sum(w.exact for w in waves):,}, "
        f"{sum(w.estimated for w in waves):,} |",
        f"| rows lost | {sum(wave.lost for wave in waves)} |",
        f"| rows marked exact that are wrong though nobody lied | "
        f"{sum(wave.unexplained for wave in waves)} |",
        f"| honest workers rejected, in all | {sum(wave.honest_rejected for wave in waves)} |",
        f"| processes of the caller, after the first tenth and at the end | {_held(waves, 'processes')} |",
        f"| its threads | {_held(waves, 'threads')} |",
        f"| its memory, MB | {_held(waves, 'megabytes')} |",
        f"| its segments in shared memory | {_held(waves, 'segments')} |",
        f"| load of the machine, of {os.cpu_count()} cores: median, highest | "
        f"{median(wave.load for wave in waves):.0f}, {max(wave.load for wave in waves):.0f} |",
        "",
        "| lie that came in time | times | found | rows wrongly marked exact |",
        "|---|---|---|---|",
    ]
    for name, times in sorted(Counter(lie.fault for lie in lies).items()):
        mine = [lie for lie in lies if lie.fault == name]
        lines.append(
            f"| {name} | {times} | {sum(lie.found for lie in mine) / times:.0%} | "
            f"{sum(lie.exact for lie in mine)} |"
        )
    lines += [
        "",
        f"*Found*: in `rejected`, for which one of {SOAKED_ROWS // SOAKED.tasks} groups of rows is enough; "
        "in the others his rows may pass. Late workers are stragglers like others: "
        "the busier the machine, the more waves end with few answers, or at the deadline.",
    ]
    return "\n".join([*lines, "", _machine(), ""])


def judgement(waves: Sequence[Wave]) -> list[str]:
    """What must not happen and did; empty if all is well."""
    quorum = SOAKED.workers - SOAKED.stragglers
    least = SOAKED.workers + 1
    wrong = []
    for wave in waves:
        if wave.lost:
            wrong.append(f"wave {wave.number} lost {wave.lost} rows")
        if wave.unexplained:
            wrong.append(f"wave {wave.number} marked {wave.unexplained} wrong rows exact")
        if wave.answered < quorum and wave.outcome == cm.Outcome.QUORUM.value:
            wrong.append(f"wave {wave.number} did not say that answers were missing")
        if wave.seconds > 2 * DEADLINE:
            wrong.append(f"wave {wave.number} took {wave.seconds:.1f} s")
    first, last = _tenths(waves)
    for name, slack in (
        ("processes", 6.0),
        ("threads", 12.0),
        ("megabytes", 40.0),
        ("segments", 4.0),
    ):
        before = median(getattr(wave, name) for wave in first)
        after = median(getattr(wave, name) for wave in last)
        if len(waves) >= least and after > before + slack:
            wrong.append(f"{name} grew from {before:.0f} to {after:.0f}")
    return wrong


def _tenths(waves: Sequence[Wave]) -> tuple[Sequence[Wave], Sequence[Wave]]:
    tenth = max(1, len(waves) // 10)
    return waves[tenth : 2 * tenth] or waves[:1], waves[-tenth:]


def _held(waves: Sequence[Wave], name: str) -> str:
    first, last = _tenths(waves)
    return ", ".join(f"{median(getattr(w, name) for w in part):.0f}" for part in (first, last))


def _machine() -> str:
    return (
        f"*{datetime.date.today().isoformat()}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, codedmap {cm.__version__}*"
    )
