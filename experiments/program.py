"""Command line of the experiments: ``NAME [NAME ...] [--quick]`` writes tables and figures to results/."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from . import honest, mixtures, report, surrogates, sweeps, times
from .data import MissingData
from .harness import check, run, store
from .registry import EXPERIMENTS

RESULTS = Path(__file__).parents[1] / "results"


def run_named() -> int:
    """Run the experiments named on the command line; return 2 if a data set is missing."""
    # These have options of their own, and their cells depend on the estimator, so that none is kept.
    if sys.argv[1:2] == ["surrogates"]:
        return surrogates.main(sys.argv[2:])
    if sys.argv[1:2] == ["honest"]:
        return honest.main(sys.argv[2:])
    if sys.argv[1:2] == ["sweeps"]:
        return sweeps.main(sys.argv[2:])
    if sys.argv[1:2] == ["mixtures"]:
        return mixtures.main(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description="Write tables and figures to results/."
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME",
        help=f"{', '.join(EXPERIMENTS)}; all; or report: figures and page again, from the tables; "
        "surrogates, mixtures, honest and sweeps have options of their own: surrogates --help",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="small settings; data from pip packages only"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same tables")
    parser.add_argument("--data", type=Path, help="folder of data sets and weights")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of tables and figures"
    )
    options = parser.parse_args()
    names = list(EXPERIMENTS) if "all" in options.names else options.names
    unknown = [name for name in names if name not in EXPERIMENTS and name != "report"]
    if unknown:
        parser.error(f"no experiment is called {unknown[0]}: choose from {', '.join(EXPERIMENTS)}")
    if options.seed < 0:
        parser.error(f"--seed {options.seed} must be at least 0")
    if options.data is not None:
        os.environ["CODEDMAP_DATA"] = str(options.data)
    try:
        # Checked for all experiments before the first one starts.
        check([EXPERIMENTS[name] for name in names if name != "report"], options.quick)
        for name in names:
            if name == "report":
                report.draw(options.results, options.quick)
            else:
                anew, began = not store(options.results, name).exists(), time.monotonic()
                table = run(
                    EXPERIMENTS[name], quick=options.quick, seed=options.seed, root=options.results
                )
                if anew and not options.quick:
                    times.record(options.results, name, time.monotonic() - began)
                print(f"{name}: {len(table)} rows")
        print(f"written: {report.write(options.results, options.quick)}")
    except MissingData as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    return 0
