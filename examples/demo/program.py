"""The demonstration: options, waves, and output."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

import codedmap as cm

from ..lenet5.digits import split
from .picture import draw
from .schemes import Run, Scheme, Setup, Wave, run, schemes
from .table import reading, summary, text, write
from .workers import FaultyModel, make_ready

__all__ = ["SEED", "SETUP", "demonstrate"]

MODEL = Path(__file__).parents[1] / "lenet5" / "lenet5-mnist.onnx"
OUTPUT = Path("demo-output")
SETUP = Setup()
SEED = 0


def demonstrate(arguments: Sequence[str] | None = None) -> None:
    """Run every scheme on the same waves; print the table and draw the figure."""
    options = _options(arguments)
    compared = schemes(SETUP)
    print(_introduction(options, compared), end="\n\n", flush=True)
    digits = split()[2]
    order = np.arange(options.waves * options.rows).reshape(options.waves, -1) % len(digits)
    waves = list(digits[order])

    model = cm.OnnxModel(MODEL)
    # The last bits of an answer depend on the batch size: the reference answers use the batch size
    # of a worker.
    own = [np.concatenate([model(batch) for batch in np.split(w, SETUP.tasks)]) for w in waves]
    runs = _runs(compared, waves, model, options.seed)

    table = [summary(scheme.name, runs[scheme.name], own) for scheme in compared]
    OUTPUT.mkdir(exist_ok=True)
    write(table, OUTPUT / "demo.csv")
    print(text(table), end="\n\n")
    print(textwrap.fill(reading(table), 79), end="\n\n", flush=True)
    drawn = OUTPUT / "demo.png"
    draw(drawn, table, runs, waves[0], SETUP)
    if options.picture is not None:
        options.picture.write_bytes(drawn.read_bytes())
    print(f"picture: {options.picture or drawn}")
    print(f"table:   {OUTPUT / 'demo.csv'}")


def _runs(
    compared: Sequence[Scheme], waves: Sequence[np.ndarray], model: cm.OnnxModel, seed: int
) -> dict[str, list[Run]]:
    """Run every scheme on every wave, each time with idle workers whose model is open."""
    runs: dict[str, list[Run]] = {scheme.name: [] for scheme in compared}
    # Stragglers are not ended: a new process would have to open the model again.
    engine = cm.engines.Local(SETUP.workers, grace=60)
    with engine, _bar(len(waves) * len(compared)) as step:
        resident = cm.engines.Resident(FaultyModel(model), engine)
        for number, rows in enumerate(waves):
            for scheme in compared:
                make_ready(resident, rows[:1])
                runs[scheme.name].append(
                    run(scheme, Wave(resident, rows, SETUP.latency, (seed, number)))
                )
                step()
        make_ready(resident, waves[0][:1])  # the figure also shows when the last calls ended
    return runs


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal; yields a function that advances it by one step."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.completed:.0f} of {task.total:.0f} runs"), BarColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=steps)
        yield lambda: bar.advance(task)


def _introduction(options: argparse.Namespace, compared: Sequence[Scheme]) -> str:
    what = (
        f"LeNet-5 on held-out MNIST digits: {options.waves} waves of {options.rows}, each cut into "
        f"K = {SETUP.tasks} tasks for N = {SETUP.workers} worker processes. Every call sleeps before "
        f"it computes, for {SETUP.latency}. In every wave one worker is killed (SIGKILL) just before "
        "it answers. All schemes get the same digits, delays and crashes:"
    )
    hanging = textwrap.TextWrapper(79, initial_indent="  ", subsequent_indent="    ")
    lines = [hanging.fill(f"{scheme.name}: {scheme.what}.") for scheme in compared]
    return "\n".join([textwrap.fill(what, 79), "", *lines])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    tasks = SETUP.tasks
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Compare waiting, hedging, copies, BACC, LeTCC and KernelCode on LeNet-5 over worker "
        "processes that are late or crash. Prints a table and writes demo-output/demo.csv and "
        "demo-output/demo.png.",
    )
    parser.add_argument("--waves", type=int, default=5, help="waves of digits (default 5)")
    parser.add_argument("--rows", type=int, default=200, help="digits per wave (default 200)")
    parser.add_argument(
        "--seed", type=int, default=SEED, help=f"seed of delays and crashes (default {SEED})"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="PATH", help="copy the picture to this file"
    )
    options = parser.parse_args(arguments)
    if options.waves < 1:
        parser.error(f"--waves {options.waves}: at least 1")
    if options.rows < tasks or options.rows % tasks:
        parser.error(f"--rows {options.rows}: must be a multiple of the {tasks} tasks")
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: at least 0")
    if options.picture is not None and not options.picture.parent.is_dir():
        parser.error(
            f"--picture {options.picture}: the folder {options.picture.parent} does not exist"
        )
    return options
