"""How the program meets a shell: help that fits, errors in one line, exit codes, signals."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

import codedmap as cm

__all__ = [
    "ENDING",
    "EPILOG",
    "Command",
    "Commands",
    "as_program",
    "explained",
    "flush",
    "show",
    "tell",
    "warn",
]

ENDING = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)
)
"""Signals that end the program: its terminal was closed, Ctrl-C, a polite request."""
_EXIT_CODES: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((cm.NotEnoughAnswers, cm.InvalidAnswer), 1),
    ((cm.EngineError, cm.errors.CannotSend), 3),
    ((cm.CodedmapError,), 2),
)
EPILOG = """
\b
Exit codes:
  0    all rows decoded and written
  1    not enough (usable) answers
  2    bad usage, input or output
  3    workers cannot start, or MODEL
       cannot be sent to them
  129  its terminal was closed
  130  interrupted by Ctrl-C
  143  terminated

Unless the exit code is 0, no .npz output is left, except with --partial; a .npy output keeps the
rows that are done.
"""
"""What a command's help says of exit codes."""
# The library's messages name the remedy in Python; here it has another name.
_IN_SHELL = (
    ("throw=False", "--partial"),
    ('fill="mean"', "--fill mean"),
    ("resume=True", "--resume"),
)


class _Formatter(click.HelpFormatter):
    """Help that fits narrow terminals too: click's own is at least 50 columns wide."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.width = max(20, min(shutil.get_terminal_size().columns, 80) - 2)

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, self.width // 3), col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter


class _Shown(click.Command):
    """A command whose help fits, and may be cut off by who reads it."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except OSError as error:  # the help and the version are printed in it
            _unshown(error)
            raise click.exceptions.Exit(0) from error


class Command(_Shown):
    """A command whose help fits."""

    context_class = _Context


class Commands(_Shown, click.Group):
    """Commands that return their exit code, and report every error in one line."""

    context_class = _Context
    command_class = Command

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            message, code = error.format_message(), error.exit_code
            if isinstance(error, click.UsageError) and error.ctx is not None:
                message += f" (see '{error.ctx.command_path} --help')"
        except cm.CodedmapError as error:
            message = str(error)
            for python, shell in _IN_SHELL:
                message = message.replace(python, shell)
            code = next(code for kinds, code in _EXIT_CODES if isinstance(error, kinds))
        else:
            raise SystemExit(code)
        warn(f"codedmap: error: {' '.join(message.split())}")
        raise SystemExit(code)


@contextmanager
def explained(full: bool) -> Iterator[None]:
    """Errors are printed in full before they are reported, if so wanted."""
    try:
        yield
    except cm.CodedmapError as error:
        if full:
            warn("".join(traceback.format_exception(error)).removesuffix("\n"))
        raise


def tell(text: str) -> None:
    """Print what a run came to; that nobody can read it changes nothing of that."""
    try:
        click.echo(text)
    except OSError as error:
        _untold(error)


def show(text: str) -> None:
    """Print what a command is there to print.

    Raises
    ------
    InvalidArgument
        If it cannot be, unless its reader has gone, who has read enough.
    """
    try:
        click.echo(text)
    except OSError as error:
        _unshown(error)


def flush() -> None:
    """Write what has been printed, by a model while it was imported, say; that need not be possible."""
    try:
        print(end="", flush=True)
    except OSError as error:
        _untold(error)


def warn(text: str) -> None:
    """Print on the error stream, if anybody can read it."""
    try:
        click.echo(text, err=True)
    except OSError:
        _silence(sys.stderr)


def _untold(error: OSError) -> None:
    _silence(sys.stdout)
    if error.errno != errno.EPIPE:
        warn(f"codedmap: note: standard output cannot be written ({error.strerror})")


def _unshown(error: OSError) -> None:
    _silence(sys.stdout)
    if error.errno != errno.EPIPE:
        raise cm.InvalidArgument(
            f"standard output cannot be written ({error.strerror}): send it elsewhere, or make room there"
        ) from error


def _silence(stream: Any) -> None:
    # What is left in its buffer would be tried again when the program ends, and give it an exit code of its own.
    with suppress(OSError, ValueError, AttributeError):  # no stream, or none of the system
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Interrupted(BaseException):
    """A signal has come; not a KeyboardInterrupt, because click reports those in its own way."""


def as_program(command: click.Command) -> None:
    """Run a command as this process, which the signals of `ENDING` end without leaving a trace."""
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Cleaning up takes less than a second, which neither an impatient second Ctrl-C must interrupt, nor a
        # system that sends one signal after the other.
        for other in ENDING:
            signal.signal(other, signal.SIG_IGN)
        came.append(number)
        raise _Interrupted

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        command(prog_name="codedmap")
    except (
        BaseException
    ):  # some of Python's own code makes a RuntimeError of whatever comes up in it
        if not came:
            raise
        warn("codedmap: interrupted")
        raise SystemExit(128 + came[0]) from None
    finally:
        flush()
