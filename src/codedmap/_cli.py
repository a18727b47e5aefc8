"""The command line: the only place where names become objects, and exceptions exit codes."""

from __future__ import annotations

import shutil
import signal
import traceback as tracebacks
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import click
import numpy as np

import codedmap as cm

from ._job import CODES, ENGINES, code_named, model_named, reserved, rows_in, started

__all__ = ["cli", "main"]

# The library's messages name the remedy in Python; here it has another name.
_IN_SHELL = (("throw=False", "--partial"), ('fill="mean"', "--fill mean"))

_EPILOG = """
\b
Exit codes:
  0    all rows decoded and written
  1    not enough (usable) answers
  2    bad usage or input; nothing ran
  3    workers cannot start, or MODEL
       cannot be sent to them
  130  interrupted by Ctrl-C
  143  terminated
After an error nothing is written, save with --partial.
"""


class _Formatter(click.HelpFormatter):
    """Help that fits narrow terminals too: click's own is at least 50 columns wide."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.width = max(20, min(shutil.get_terminal_size().columns, 80) - 2)

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


click.Context.formatter_class = _Formatter


class _Failure(click.ClickException):
    """What the library raised, as an exit code and one line."""

    def __init__(self, error: cm.CodedmapError) -> None:
        message = str(error)
        for python, shell in _IN_SHELL:
            message = message.replace(python, shell)
        super().__init__(message)
        if isinstance(error, (cm.NotEnoughAnswers, cm.InvalidAnswer)):
            self.exit_code = 1
        elif isinstance(error, (cm.EngineError, cm.CannotSend)):
            self.exit_code = 3
        else:
            self.exit_code = 2


class _Cli(click.Group):
    """Commands that return their exit code, and report every error in one line."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            message = " ".join(error.format_message().split())
            if isinstance(error, click.UsageError) and error.ctx is not None:
                message += f" (see '{error.ctx.command_path} --help')"
            click.echo(f"codedmap: error: {message}", err=True)
            code = error.exit_code
        raise SystemExit(code)


@click.group(
    cls=_Cli,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(cm.__version__, prog_name="codedmap")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run a function over unreliable workers, and have all answers when the fast ones are done."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _smoothing(
    context: click.Context, option: click.Parameter, text: str | None
) -> float | Literal["gcv"] | None:
    if text is None or text == "gcv":
        return text
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a number nor gcv") from None


@cli.command(epilog=_EPILOG)
@click.argument("model")
...
