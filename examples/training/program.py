"""Command line of the example."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from . import missing, sketched
from .models import MODELS
from .parts import digits
from .picture import draw
from .report import page
from .run import engine, train
from .schemes import SCHEMES
from .table import Run, read, write
from .workers import WORKERS

__all__ = ["run_named"]

RESULTS = Path(__file__).parent / "results"
STEPS = {"logistic": 60, "network": 30}
SEEDS = {"logistic": {"local": 5, "dask": 1}, "network": {"local": 3, "dask": 1}}
"""By engine."""
WITHOUT_CLOCKS = ("missing", "sketched")
TITLES = {
    "logistic": "Logistic regression, 12 worker processes",
    "network": "A small convolutional network, 12 worker processes",
}


def run_named(arguments: Sequence[str] | None = None) -> int:
    """Run the named parts and write tables, figures and the page."""
    options = _options(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or [*MODELS, *WITHOUT_CLOCKS]:
        if name in MODELS:
            _trained(name, options.output, options.engines, quick=options.quick)
        elif name == "sketched":
            steps, seeds, rates = (
                (20, 2, (0.01,)) if options.quick else (sketched.STEPS, 4, sketched.RATES)
            )
            table = options.output / "sketched.csv"
            sketched.write(table, list(sketched.compare(seeds, steps, rates)))
            print(sketched.markdown(sketched.read(table)), end="\n\n", flush=True)
        elif name == "missing":
            table = options.output / "missing.csv"
            missing.write(
                table, list(missing.compare(*((1, 20) if options.quick else (5, missing.STEPS))))
            )
            print(missing.markdown(missing.read(table)), end="\n\n", flush=True)
    for name in MODELS:
        table = options.output / f"{name}.csv"
        if table.exists():
            runs = read(table)
            shown = [run for run in runs if run.engine == runs[0].engine]
            draw(options.output / f"{name}.png", shown, TITLES[name])
    path = options.output / "README.md"
    path.write_text(page(options.output))
    print(f"written: {path}")
    return 0


def _trained(name: str, folder: Path, engines: Sequence[str], *, quick: bool) -> None:
    """Train on these engines; rows of other engines stay in the table."""
    steps, turns = (6, {"local": 1, "dask": 1}) if quick else (STEPS[name], SEEDS[name])
    data, table = digits(WORKERS), folder / f"{name}.csv"
    runs = [run for run in (read(table) if table.exists() else []) if run.engine not in engines]
    for where in engines:
        seeds = turns[where]
        with engine(where) as workers:
            # All schemes per seed, so that other load on the machine affects them alike.
            for seed in range(seeds):
                for scheme in SCHEMES:
                    looks = train(scheme, MODELS[name], data, workers, seed=seed, steps=steps)
                    runs.append(Run(name, where, scheme.name, seed, looks))
                    last = looks[-1]
                    print(
                        f"{name}, {where}, seed {seed}, {scheme.name}: {last.seconds:.1f} s, "
                        f"{last.worker_seconds:.0f} worker seconds, loss {last.loss:.3f}, "
                        f"accuracy {last.accuracy:.1%}",
                        flush=True,
                    )
                write(table, sorted(runs, key=lambda run: list(turns).index(run.engine)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.training",
        description="Train on MNIST digits with workers that sleep, and write tables and figures.",
    )
    known = [*MODELS, *WITHOUT_CLOCKS, "report"]
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help=f"{', '.join(known)} (figures and page again, from the CSV files); default: all but the "
        "last",
    )
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=("local", "dask"),
        default=("local", "dask"),
        help="engines to train on (default: both)",
    )
    parser.add_argument("--quick", action="store_true", help="a minute: few steps and one seed")
    parser.add_argument("--output", type=Path, help="folder of tables and figures")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no part is called {unknown[0]}: choose from {', '.join(known)}")
    if options.output is None:
        options.output = Path("training-quick") if options.quick else RESULTS
    needs_torch = "network" in options.names or not options.names
    if needs_torch and importlib.util.find_spec("torch") is None:
        print(
            "the network needs torch: pip install --editable '.[train,dask]', or name other parts",
            file=sys.stderr,
        )
        sys.exit(1)
    return options
