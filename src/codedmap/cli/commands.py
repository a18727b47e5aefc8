"""The command line: its commands, their words, and what they do."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

import codedmap as cm

from ..contracts.inputs import checked_rows
from ..planning.auto import auto
from .engines import engine_named
from .files import check_apart, reserved, rows_in
from .names import CODES, code_named, falls_short, hedge_named, model_named, rule_named
from .plan import plan
from .shell import EPILOG, Commands, as_program, explained, show, tell, warn
from .waves import grows, run_in_waves, wave_options

__all__ = ["cli", "main"]


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(cm.__version__, prog_name="codedmap")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run a function over unreliable workers, and have all answers when the fast ones are done."""
    if context.invoked_subcommand is None:
        show(context.get_help())


cli.add_command(plan)


def _smoothing(text: str) -> float | Literal["gcv"]:
    try:
        return "gcv" if text == "gcv" else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a number nor gcv") from None


@cli.command(epilog=EPILOG)
@click.argument("model")
@click.argument("inputs", type=click.Path(path_type=Path))
@click.option(
    "--code",
    required=True,
    type=click.Choice(list(CODES)),
    metavar="CODE",
    help="How work is spread so that answers may be missing: auto (tries them on some rows "
    "first), replication (copies, exact), kernel (raw inputs and mixtures, most answers exact, error bars for the others), spline (LeTCC) or "
    "berrut (BACC) (mixtures, estimates for any smooth function), lagrange (LCC, mixtures, exact for "
    "polynomials), or uncoded (a plain map).",
)
@click.option(
    "--workers",
    required=True,
    type=click.IntRange(1),
    metavar="N",
    help="Worker processes to start.",
)
@click.option(
    "--stragglers",
    required=True,
    type=click.IntRange(0),
    metavar="S",
    help="How many of them may be slow or lost: once N - S have answered, the others are not "
    "waited for, if the code can decode.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the answers go: .npz, written at the end, or .npy, written in waves.",
)
@wave_options
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@click.option("--key", metavar="NAME", help="Which array of INPUTS, if it is an .npz with several.")
@click.option(
    "--tasks",
    type=click.IntRange(1),
    metavar="K",
    help="How many inputs are coded together. By default N - S; for replication N // (S + 1), so "
    "that any S workers may be lost; for uncoded N; for lagrange as many as the degree allows; "
    "auto chooses.",
)
@click.option(
    "--fill",
    type=click.Choice(["mean"]),
    metavar="mean",
    help="uncoded, replication: answers that are lost are estimated by the mean of the others, "
    "rather than waited for.",
)
@click.option(
    "--spread",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="kernel: how far mixtures reach towards their neighbours, from 0 (copies) to 1 (an even "
    "path); default 0.2.",
)
@click.option(
    "--degree",
    type=click.IntRange(1),
    metavar="D",
    help="lagrange: total degree of MODEL as a polynomial of its inputs.",
)
@click.option(
    "--points",
    type=click.Choice(["chebyshev", "uniform"]),
    metavar="NAME",
    help="spline: chebyshev (default) or uniform.",
)
@click.option(
    "--encoder-smoothing",
    type=_smoothing,
    metavar="LAMBDA",
    help="spline: a number (default 0: interpolate), or gcv to choose it from the inputs.",
)
@click.option(
    "--decoder-smoothing",
    type=_smoothing,
    metavar="LAMBDA",
    help="spline: a number (default 0), or gcv to choose it from the answers; for noisy ones.",
)
@click.option(
    "--order",
    type=click.Choice(["path"]),
    metavar="path",
    help="spline, berrut: lay the curve along a short path through the inputs, for rows that have "
    "no order of their own.",
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    metavar="NAME[:ADDRESS]",
    help="Where workers run; local: processes on this machine; dask:ADDRESS of a scheduler; ray: a "
    "cluster of which this machine is a node, or else one that is started here; ray:ADDRESS.",
)
@click.option(
    "--quorum",
    type=click.IntRange(1),
    metavar="Q",
    help="Wait for this many answers instead of N - S.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    metavar="STDERR",
    help="Wait until every standard error is at most this, in the units of the outputs, instead of "
    "for N - S answers; for codes that have standard errors.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Wait no longer than this, and decode what has come; without it, a worker that hangs is "
    "waited for if its answer is needed.",
)
@click.option(
    "--hedge-after",
    metavar="WHEN",
    help="Send what is still missing once more, to workers that are free, and take the first answer: "
    "after so many seconds, such as 0.5, or once a share of the workers has answered, such as 90%.",
)
@click.option(
    "--partial",
    is_flag=True,
    help="When there are not enough answers, write what there is (NaN for the rest) before "
    "exiting with 1.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--traceback", "full", is_flag=True, help="Print errors in full, with the worker's own."
)
def run(
    *,
    model: str,
    inputs: Path,
    code: str,
    workers: int,
    stragglers: int,
    output: Path,
    force: bool,
    each: int | None,
    resume: bool,
    key: str | None,
    tasks: int | None,
    engine: str,
    quorum: int | None,
    tolerance: float | None,
    deadline: float | None,
    hedge_after: str | None,
    partial: bool,
    quiet: bool,
    full: bool,
    **options: Any,
) -> int:
    """Run MODEL on every row of INPUTS over worker processes, here or on a cluster.

    MODEL is an ONNX file, or module:function in the current directory or on Python's path: it
    takes a batch of rows and returns one row each. INPUTS is a .npy or .npz file; its first axis
    counts the rows.

    An .npz output holds the answers as "values", a row for each row of INPUTS; "exact" and, where the
    code has them, "stderr" (standard errors) tell how far to trust each; and beside them, which
    workers answered, were abandoned, failed or were rejected.

    \b
    Examples:
      codedmap run net.onnx images.npy \\
        --code spline --workers 24 \\
        --stragglers 4 --output out.npz
    \b
      codedmap run physics:energy x.npy \\
        --code replication --workers 9 \\
        --stragglers 2 --output out.npz
    """  # noqa: D301  click wants the backspace itself

    def note(text: str) -> None:
        if not quiet:
            warn(f"codedmap: note: {text}")

    given = {name: value for name, value in options.items() if value is not None}
    check_apart(output, inputs, model)
    wavy = grows(output, each, resume=resume, force=force)
    with explained(full), nullcontext() if wavy else reserved(output, force) as save:
        start, far = engine_named(engine, workers), engine != "local"
        coder = code_named(code, workers, stragglers, tasks, given)
        stop = rule_named(coder, stragglers, quorum, tolerance)
        stop = stop if deadline is None else stop | cm.Deadline(deadline)
        hedge = None if hedge_after is None else hedge_named(coder, hedge_after)
        how: dict[str, Any] = {"code": coder, "stop": stop, "hedge": hedge, "throw": not partial}
        if save is None:
            if code == "auto":
                raise cm.InvalidArgument(
                    "--code auto is for .npz outputs: codedmap plan tells which code to use in waves"
                )
            how |= {"progress": not quiet, "rows": each, "resume": resume}
            return run_in_waves(
                model, inputs, key, output, engine=start, note=note, far=far,
                promised=workers - stragglers, deadline=deadline, **how
            )  # fmt: skip
        rows = rows_in(inputs, key)
        fn, rows = model_named(model, rows, note, far=far)
        coder.encode(np.zeros((coder.tasks, 1), rows.dtype))  # raises if it cannot mix such rows
        with start() as pool:
            call = cm.engines.Resident(fn, pool) if isinstance(fn, cm.OnnxModel) else fn
            if code == "auto":
                chosen = auto(
                    call, checked_rows(rows), pool, stop, stragglers=stragglers, tasks=tasks
                )
                coder = chosen.code
            result = cm.map(
                call,
                rows,
                code=coder,
                engine=pool,
                stop=stop,
                hedge=hedge,
                throw=not partial,
                progress=not quiet,
            )
        save(result, coder)
    if not quiet:
        choice = f"\n  code       {chosen.choice}" if code == "auto" else ""
        tell(f"{result}{choice}\n  output     {output}")
    promised = workers - stragglers
    if result.stderr is None and len(result.answered) < promised:
        note(
            f"only {len(result.answered)} of the {promised} answers that --stragglers {stragglers} "
            f"counts on had come: {code} has no error bars, and these estimates may be far off"
        )
    return 1 if partial and falls_short(result, deadline) else 0


def main() -> None:
    """Run the command line as a program."""
    as_program(cli)
