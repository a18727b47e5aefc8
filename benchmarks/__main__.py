"""Run benchmarks by name: ``python -m benchmarks [NAME ...] [--quick] [--repeats N]``; ``report`` only writes the page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import (
    cluster_rows,
    decode,
    encode,
    filling,
    gcv,
    importing,
    kernel,
    operators,
    ordering,
    polar,
    predicted,
    rows,
    stored,
    waves,
)
from .machine import facts
from .tables import page, text, write

BENCHMARKS = {
    "encode": encode,
    "decode": decode,
    "operator": operators,
    "gcv": gcv,
    "kernel": kernel,
    "ordering": ordering,
    "fill": filling,
    "wave": waves,
    "rows": rows,
    "cluster_rows": cluster_rows,
    "stored": stored,
    "predicted": predicted,
    "polar": polar,
    "import": importing,
}
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run the named benchmarks, or all; print the figures and write tables and page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=", ".join([*BENCHMARKS, "report"]))
    parser.add_argument("--quick", action="store_true", help="few rounds and no large sizes")
    parser.add_argument(
        "--repeats", metavar="N", type=int, help="rounds of `rows` and `cluster_rows`: 7, quick 1"
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="folder of NAME.csv and README.md"
    )
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in (*BENCHMARKS, "report")]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
    for name in asked.names or BENCHMARKS:
        if name == "report":
            continue
        machine = facts(quick=asked.quick)
        print(", ".join(f"{key} {value}" for key, value in machine.items()))
        print(f"\n{name}: {BENCHMARKS[name].__doc__}", flush=True)
        more = {"repeats": asked.repeats} if name.endswith("rows") else {}
        lines = BENCHMARKS[name].run(quick=asked.quick, **more)
        print(text(lines), end="\n\n", flush=True)
        write(asked.output / f"{name}.csv", lines, machine)
    texts = {name: module.__doc__ or "" for name, module in BENCHMARKS.items()}
    columns = list(facts(quick=asked.quick))
    (asked.output / "README.md").write_text(page(asked.output, texts, columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
