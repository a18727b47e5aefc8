"""Tables as CSV files and as pages of the documentation."""

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

from .outages import AFTER, EACH, HOSTS, OutageOutcome
from .outages import CODE as OUTAGE_CODE
from .placement import EACH as SPREAD_EACH
from .placement import HOSTS as SPREAD_HOSTS
from .placement import ROWS as SPREAD_ROWS
from .placement import Lost
from .single import CODE, ROWS, WAIT
from .soak import CODE as SOAK_CODE
from .soak import DEADLINE, SHARE, Wave
from .soak import ROWS as SOAK_ROWS

__all__ = ["hosts_page", "violations", "outcomes_page", "read", "soak_page", "write"]


def write(path: Path, outcomes: Sequence[Any]) -> None:
    """Write one line per outcome; outcomes are dataclasses of one type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(outcomes[0])])
        table.writeheader()
        for outcome in outcomes:
            row = asdict(outcome)
            table.writerow({k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()})


def read(path: Path) -> list[dict[str, str]]:
    """Read the lines of such a file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def outcomes_page(rows: Sequence[dict[str, str]]) -> str:
    """Markdown page of single faults."""
    lines = [
        f"One worker of {CODE.workers} has the fault during a call of `map` with {ROWS} rows, "
        f"`KernelCode({CODE.tasks}, {CODE.workers}, {CODE.stragglers})` and `Everyone() | Deadline({WAIT:g})`. "
        "This worker computes 10 raw rows.",
        "",
        "| column | meaning |",
        "|---|---|",
        "| worker | state of this worker in the result |",
        "| exact, estimated | rows with this status |",
        "| wrong | rows wrongly marked exact |",
        "| error | largest error of an estimated row, in standard errors |",
        "| seconds | duration of the call |",
        f"| recovery | seconds from the end of the call until all {CODE.workers} workers answer again |",
        "",
        "| engine | fault | worker | exact | estimated | wrong | error | seconds | recovery |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        error = "" if row["error"] == "nan" else row["error"]
        lines.append(
            f"| {row['engine']} | {row['fault']} | {row['seen']} | {row['exact']} | "
            f"{row['estimated']} | {row['wrong']} | {error} | {row['seconds']} | {row['back']} |"
        )
    return "\n".join([*lines, "", _machine(), ""])


def hosts_page(seen: Sequence[OutageOutcome], lost: Sequence[Lost]) -> str:
    """Markdown page of outages of hosts, and of the effect of placement."""
    lines = [
        f"{HOSTS} hosts with {EACH} Dask workers each are network namespaces on one switch. One host has the fault "
        f"{AFTER:g} s after the start of a call of `map` with {ROWS} rows, "
        f"`KernelCode({OUTAGE_CODE.tasks}, {OUTAGE_CODE.workers}, {OUTAGE_CODE.stragglers})` and "
        f"`Everyone() | Deadline({WAIT:g})`. Calls take half a second. *Workers*: state of the workers of this host "
        "in the result. *Others*: workers on other hosts without an answer. *Exact*, *estimated*: rows with this status; "
        "*wrong*: those wrongly marked exact. *Error*: the largest of an estimated row, in standard errors. *Recovery*: seconds from the end of the "
        "fault, or of the call, until all slots answer again.",
        "",
        "| fault | workers | others | exact | estimated | wrong | error | seconds | recovery |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in seen:
        counts = (one.others, one.exact, one.estimated, one.wrong) if one.of_rows else ("",) * 4
        figures = [_figure(value) for value in (one.error, one.seconds, one.back)]
        cells = (one.outage, one.result, *counts, *figures)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "Messages in the result, or of the error:", ""]
    messages: dict[str, list[str]] = {}
    for one in seen:
        if one.message:
            messages.setdefault(one.message, []).append(one.outage)
    for message, outages in messages.items():
        lines += [f"- {'; '.join(outages)}: `{message}`"]
    lines += ["", *_placement(lost), "", _machine(), ""]
    return "\n".join(lines)


def _placement(lost: Sequence[Lost]) -> list[str]:
    return [
        "### Placement of workers",
        "",
        f"One of {SPREAD_HOSTS} hosts with {SPREAD_EACH} workers each is cut off. *Spread*: neighbouring workers are on "
        "different hosts, as they are numbered. *Adjacent*: the workers of a host are neighbours. The root mean "
        f"square error (RMSE) of the estimated rows and that of the worst row, over all hosts and "
        f"{lost[0].waves // SPREAD_HOSTS} sets of {SPREAD_ROWS} rows. All five inputs vary between rows, or only one.",
        "",
        "| code | inputs that vary | workers of a host | estimated | RMSE | worst row |",
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
    """Markdown page of a soak test."""
    over = [wave for wave in waves if wave.faults > SOAK_CODE.stragglers]
    late = [wave for wave in waves if wave.answered < SOAK_CODE.workers - SOAK_CODE.stragglers]
    outliers = [one for wave in waves for one in wave.outliers]
    some = [wave for wave in waves if 4 * len(wave.outliers) <= wave.answered]
    few = [one for wave in some for one in wave.outliers]
    seconds = sorted(wave.seconds for wave in waves)
    lines = [
        f"### {engine}: {len(waves):,} waves",
        "",
        f"Each of {SOAK_CODE.workers} workers has a fault in {SHARE:.0%} of its calls, of all kinds above; "
        f"`KernelCode({SOAK_CODE.tasks}, {SOAK_CODE.workers}, {SOAK_CODE.stragglers})`, "
        f"`Quorum({SOAK_CODE.workers - SOAK_CODE.stragglers}) | Deadline({DEADLINE:g})`.",
        "",
        "| | |",
        "|---|---|",
        f"| calls with a fault | {sum(wave.faults for wave in waves):,} |",
        f"| waves with more than {SOAK_CODE.stragglers} faults | {len(over)} |",
        f"| waves with fewer answers than the quorum, flagged | {len(late)} |",
        f"| waves in which more than a quarter of the answers were wrong | {len(waves) - len(some)} |",
        f"| seconds per wave: median, 99th percentile, longest | {median(seconds):.2f}, "
        f"{seconds[int(0.99 * len(seconds))]:.2f}, {seconds[-1]:.2f} |",
        f"| rows: exact, estimated | {sum(w.exact for w in waves):,}, "
        f"{sum(w.estimated for w in waves):,} |",
        f"| rows lost | {sum(wave.lost for wave in waves)} |",
        f"| wrong rows marked exact without a Byzantine answer | "
        f"{sum(wave.unexplained for wave in waves)} |",
        f"| honest workers rejected | {sum(wave.honest_rejected for wave in waves)} |",
        f"| processes of the caller: after the first tenth, at the end | {_held(waves, 'processes')} |",
        f"| threads of the caller | {_held(waves, 'threads')} |",
        f"| memory of the caller, MB | {_held(waves, 'megabytes')} |",
        f"| shared-memory segments of the caller | {_held(waves, 'segments')} |",
        f"| load of the machine ({os.cpu_count()} cores): median, highest | "
        f"{median(wave.load for wave in waves):.0f}, {max(wave.load for wave in waves):.0f} |",
        "",
        "| wrong answer that arrived in time | times | rejected | rows wrongly marked exact | where at most a quarter were "
        "wrong: rejected | rows wrongly marked exact |",
        "|---|---|---|---|---|---|",
    ]
    for name, times in sorted(Counter(one.fault for one in outliers).items()):
        cells = [f"{name} | {times}"]
        for found in (outliers, few):
            own = [one for one in found if one.fault == name]
            share = sum(one.rejected for one in own) / max(1, len(own))
            cells.append(f"{share:.0%} | {sum(one.exact for one in own)}")
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"*Rejected*: the worker is in `rejected`. One of {SOAK_ROWS // SOAK_CODE.tasks} groups of rows suffices "
        "for that; in the other groups its rows may pass. At most a quarter of the workers can be rejected. On a busy machine more workers are late, so more waves "
        "end with few answers or at the deadline.",
    ]
    return "\n".join([*lines, "", _machine(), ""])


def violations(waves: Sequence[Wave]) -> list[str]:
    """Violated guarantees; empty if there are none."""
    quorum = SOAK_CODE.workers - SOAK_CODE.stragglers
    least = SOAK_CODE.workers + 1
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
