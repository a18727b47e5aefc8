"""``python -m chaos faults``, ``hosts`` and ``soak``: faults on real workers of every engine."""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from . import cgroups, hosts, placement, report
from .clusters import CLUSTERS, Cluster
from .faults import FAULTS
from .outages import run_outages
from .single import run_faults
from .soak import Wave, soak

RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the three; return 1 if a guarantee was violated, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("what", choices=("faults", "hosts", "soak"))
    parser.add_argument(
        "--engine", choices=list(CLUSTERS), action="append", help="default: all installed"
    )
    parser.add_argument(
        "--waves", type=int, default=1_000, help="waves of a soak test (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of inputs and faults of a soak test"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.engine and options.what == "hosts":
        parser.error("hosts runs on a Dask cluster: leave --engine out")
    if options.waves < 1:
        parser.error(f"--waves {options.waves}: at least 1")
    clusters = [CLUSTERS[name] for name in options.engine or CLUSTERS]
    able = [cluster for cluster in clusters if not _missing(cluster)]
    for cluster in clusters:
        if _missing(cluster):
            print(f"{cluster.name} is skipped: {', '.join(_missing(cluster))} is not installed")
    for fault in FAULTS:
        if reason := fault.unavailable():
            print(f"skipped: {fault.name}: {reason}")
    options.results.mkdir(parents=True, exist_ok=True)
    run: Callable[[Cluster, argparse.Namespace], list[str]]
    run = _faults if options.what == "faults" else _soak
    try:
        if options.what == "hosts":
            return _hosts(options.results)
        wrong = [line for cluster in able for line in run(cluster, options)]
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        cgroups.remove()
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _faults(cluster: Cluster, options: argparse.Namespace) -> list[str]:
    outcomes = []
    for outcome in run_faults(cluster):
        outcomes.append(outcome)
        print(f"{outcome.engine}: {outcome.fault}: {outcome.seen}, back in {outcome.back:.2f} s")
    report.write(options.results / f"faults-{cluster.name.lower()}.csv", outcomes)
    rows = [
        row for path in sorted(options.results.glob("faults-*.csv")) for row in report.read(path)
    ]
    page = options.results / "faults.md"
    page.write_text(report.outcomes_page(rows), encoding="utf-8")
    print(f"written: {page}")
    return []


def _hosts(results: Path) -> int:
    if reason := hosts.unavailable():
        print(f"skipped: faults of whole hosts: {reason}")
        return 0
    seen, lost = [], []
    for one in run_outages():
        seen.append(one)
        print(f"{one.outage}: {one.result}, after {one.seconds:.2f} s")
    for cost in placement.measure_placement():
        lost.append(cost)
        print(f"{cost.code}, {cost.varying} inputs, {cost.placement}: RMSE {cost.rmse:.2g}")
    report.write(results / "hosts.csv", seen)
    report.write(results / "placement.csv", lost)
    page = results / "hosts.md"
    page.write_text(report.hosts_page(seen, lost), encoding="utf-8")
    print(f"written: {page}")
    return 0


def _soak(cluster: Cluster, options: argparse.Namespace) -> list[str]:
    waves = []
    journal = options.results / f"soak-{cluster.name.lower()}.jsonl"
    console = Console(stderr=True)
    with (
        journal.open("w", encoding="utf-8") as file,
        Progress(console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task(cluster.name, total=options.waves)
        try:
            for wave in soak(cluster, options.waves, options.seed):
                waves.append(wave)
                file.write(json.dumps(asdict(wave)) + "\n")
                file.flush()
                bar.advance(task)
        except KeyboardInterrupt:
            if waves:
                _report(cluster, waves, options.results)
            raise
    _report(cluster, waves, options.results)
    return [f"{cluster.name}: {line}" for line in report.violations(waves)]


def _report(cluster: Cluster, waves: list[Wave], results: Path) -> None:
    page = results / f"soak-{cluster.name.lower()}.md"
    page.write_text(report.soak_page(cluster.name, waves), encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


def _missing(cluster: Cluster) -> list[str]:
    return [name for name in cluster.needs if importlib.util.find_spec(name) is None]


if __name__ == "__main__":
    # SIGTERM ends what was started, like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
