"""Figures as CSV with one line per call, and as tables with one line per case."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .harness import Row

__all__ = ["page", "text", "write"]

_SPREADS = ((" q1", " q3"), (" min", " max"))
_ENDS = tuple(end for ends in _SPREADS for end in ends)
_Table = tuple[list[str], list[list[str]]]


def write(path: Path, rows: Sequence[Row], facts: Mapping[str, str]) -> None:
    """Write rows as CSV, with the facts of the machine in the last columns."""
    columns = [*dict.fromkeys(key for row in rows for key in row), *facts]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _exact(value) for key, value in {**row, **facts}.items()})


def text(rows: Sequence[Row]) -> str:
    """Rows as tables with aligned columns."""
    return "\n\n".join(_aligned(*table) for table in _tables(rows))


def page(folder: Path, texts: Mapping[str, str], facts: Sequence[str]) -> str:
    """All CSV files of a folder as one page of Markdown.

    Parameters
    ----------
    folder : Path
        The folder of the files NAME.csv written by `write`.
    texts : mapping of str to str
        Description of each benchmark, by name, in the order of the page.
    facts : sequence of str
        The columns with the facts of the machine.
    """
    parts = [
        "# Benchmarks",
        "`python -m benchmarks` generates this page. Every figure and its quartiles are in the CSV files "
        "beside it. Times are medians. A ratio (×) is the median, with quartiles in brackets, of the ratios "
        "within each round of one interleaved run; those of `rows` have the least and the largest in brackets. "
        "Compare figures within a line, not between machines or days.",
    ]
    for name, about in texts.items():
        path = folder / f"{name}.csv"
        if path.exists():
            with path.open(newline="") as file:
                rows = [_read(row) for row in csv.DictReader(file)]
            machine = ", ".join(f"{fact} {rows[0].get(fact, 'unknown')}" for fact in facts)
            plain = [{k: v for k, v in row.items() if k not in facts} for row in rows]
            parts += [f"## {name}", about.strip(), f"*{machine}*"]
            parts += [_markdown(*table) for table in _tables(plain)]
    return "\n\n".join(parts) + "\n"


def _tables(rows: Sequence[Row]) -> list[_Table]:
    """Cases as lines and calls as columns; cases without common calls are in separate tables."""
    groups: list[tuple[dict[str, None], dict[tuple[object, ...], dict[str, str]]]] = []
    before = list(dict.fromkeys(key for row in rows for key in _case(row)))
    for row in rows:
        case, call = tuple(row.get(key, "") for key in before), str(row["call"])
        if not groups or (call not in groups[-1][0] and case not in groups[-1][1]):
            groups.append(({}, {}))
        calls, lines = groups[-1]
        calls[call] = None
        lines.setdefault(case, {})[call] = _cell(row)
    return [_table(before, list(calls), lines) for calls, lines in groups]


def _table(
    before: list[str], calls: list[str], lines: Mapping[tuple[object, ...], Mapping[str, str]]
) -> _Table:
    used = [i for i in range(len(before)) if any(case[i] != "" for case in lines)]
    body = [
        [*(str(case[i]) for i in used), *(cells.get(call, "") for call in calls)]
        for case, cells in lines.items()
    ]
    return [*(before[i] for i in used), *calls], body


def _case(row: Row) -> Iterable[str]:
    for key in row:
        if key == "call":
            return
        yield key


def _cell(row: Row) -> str:
    if _absent(row.get("ms")):
        return str(row["note"])
    compared = not _absent(row.get("ratio"))
    parts = [f"{_short(row['ms'])} ms" + ("" if compared else _spread(row, "ms"))]
    if compared and {row[key] for key in row if key.startswith("ratio")} - {""} != {1.0}:
        parts.append(f"×{_short(row['ratio'])}{_spread(row, 'ratio')}")
    known = {*_case(row), "call", "ms", "ratio", "rounds"}
    for key, value in row.items():
        if key not in known and not key.endswith(_ENDS) and not _absent(value):
            figure = f"{_short(value)}{_spread(row, key)}"
            parts.append(figure if key == "note" else f"{key} {figure}")
    return ", ".join(parts)


def _spread(row: Row, column: str) -> str:
    for ends in _SPREADS:
        low, high = (row.get(column + end) for end in ends)
        if not _absent(low):
            return f" [{_short(low)}, {_short(high)}]"
    return ""


def _absent(value: object) -> bool:
    return value is None or value == ""


def _short(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _exact(value: object) -> object:
    return f"{value:.5g}" if isinstance(value, float) else value


def _read(row: Mapping[str, str]) -> Row:
    return {key: _number(value) for key, value in row.items()}


def _number(value: str) -> object:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _aligned(header: list[str], body: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = (header, ["-" * width for width in widths], *body)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _markdown(header: list[str], body: list[list[str]]) -> str:
    lines = (header, ["---"] * len(header), *body)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
