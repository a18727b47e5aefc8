"""The program and its shell: help that fits, errors in one line, exit codes, signals."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

import codedmap as cm

END_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGINT", "SIGTERM") if hasattr(signal, name)
)
"""Signals that end the program: its terminal was closed, Ctrl-C, a request to terminate."""
_EXIT_CODES: tuple[tuple[tuple[type[Exception], ...], int], ...] = (
    ((cm.NotEnoughAnswers, cm.InvalidAnswer), 1),
    ((cm.EngineError, cm.errors.CannotSend), 3),
    ((cm.CodedmapError,), 2),
)
SHARED_EXIT_CODES = """\
  2    bad usage, input or output
  3    workers cannot start, or MODEL
       cannot be sent to them
  129  its terminal was closed
  130  interrupted by Ctrl-C
  143  terminated"""
"""Exit codes that all commands have."""
EPILOG = f"""
\b
Exit codes:
  0    all rows decoded and written
  1    not enough (usable) answers
{SHARED_EXIT_CODES}

Unless the exit code is 0, no .npz output is left, except with --partial; a .npy output keeps the
rows that are done.
"""
"""Exit codes, for the help of a command."""
_OPTIONS = (
    ('on_error="record"', "--partial"),
    ("the same call with resume=True", "the same command with --resume"),
    ("resume=True", "--resume"),
    ("max_failures=None", "--max-failures none"),
    (" give what is the same for all rows as kwargs,", ""),
    ("make them NaN, and name the runs in failed=", "leave them empty, with the status FAILED"),
    ("as chunk= a number", "as --chunk a number"),
    ("a larger budget=", "a larger --budget"),
    ("call_timeout=", "--timeout "),
    ("reads= must be", "--read must be"),
    (", or give an array as out= that holds all", ""),
    (
        ", or give an engine that has started, is free, and has imported what fn needs (engine.setup)",
        "",
    ),
    ("; with seed= each run of a row draws the same", ""),
)
"""What the library's messages say of its arguments, and what takes its place here."""


class Command(click.Command):
    """A command whose help may be cut short, as by ``head``; ``--traceback`` also prints its errors in full."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _output(True):  # prints the help and the version
            return super().make_context(*args, **extra)
        raise click.exceptions.Exit(0)  # the reader of the help has closed the pipe

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (cm.CodedmapError, OSError) as error:
            if ctx.params.get("traceback"):
                print_error("".join(traceback.format_exception(error)).removesuffix("\n"))
            raise


class Commands(Command, click.Group):
    """Commands that return their exit code, and report every error in one line."""

    command_class = Command

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            message, code = error.format_message(), error.exit_code
            if isinstance(error, click.UsageError) and error.ctx is not None:
                message += f" (see '{error.ctx.command_path} --help')"
        except cm.CodedmapError as error:
            message = with_options(str(error))
            code = next(code for kinds, code in _EXIT_CODES if isinstance(error, kinds))
        except OSError as error:  # the file system refuses a name; os.getcwd has none
            if error.filename is None and not isinstance(error, FileNotFoundError):
                raise
            path = "the working directory" if error.filename is None else error.filename
            message, code = f"{path}: {error.strerror or error}: give another path", 2
        else:
            raise SystemExit(code)
        print_error(f"codedmap: error: {' '.join(message.split())}")
        raise SystemExit(code)


def with_options(message: str) -> str:
    """A message of the library that names the options of the commands instead of its arguments."""
    for argument, option in _OPTIONS:
        message = message.replace(argument, option)
    return message


def print_result(text: str, *, required: bool = True) -> None:
    """Print on standard output; a failure is an `InvalidArgument`, or only a note unless ``required``."""
    with _output(required):
        click.echo(with_options(text))


def flush_output() -> None:
    """Write buffered output, such as that of a model's import; a failure is no error."""
    with _output(False):
        print(end="", flush=True)


def print_error(text: str) -> None:
    """Print on the error stream; a failure is ignored."""
    try:
        click.echo(text, err=True)
    except OSError:
        _discard(sys.stderr)


@contextmanager
def _output(required: bool) -> Iterator[None]:
    """Handle failures of standard output; a closed pipe is none, since its reader needs no more."""
    try:
        yield
    except OSError as error:
        _discard(sys.stdout)
        if error.errno == errno.EPIPE:
            return
        problem = f"standard output cannot be written ({error.strerror})"
        if required:
            raise cm.InvalidArgument(f"{problem}: send it elsewhere, or make room there") from error
        print_error(f"codedmap: note: {problem}")


def _discard(stream: Any) -> None:
    """Empty a stream's buffer: Python would write it when the program ends, fail, and change the exit code."""
    with suppress(OSError, ValueError, AttributeError):  # there is no stream, or it is no file
        number = stream.fileno()
        kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        stream.flush()
        os.dup2(kept, number)
        os.close(nowhere)
        os.close(kept)


class _Interrupted(BaseException):
    """A signal has come; not a KeyboardInterrupt, which click reports in its own way."""


def run_as_program(command: click.Command) -> None:
    """Run a command as this process; the signals of `END_SIGNALS` end it without leaving files or processes."""
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Cleaning up takes less than a second. A second Ctrl-C, or the next of several signals that a
        # system sends in a row, must not interrupt it.
        for other in END_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        received.append(number)
        raise _Interrupted

    def send_again(what: sys.UnraisableHookArgs) -> None:
        # Python prints and drops what is raised in a callback, such as those of its imports, or in a ``__del__``.
        if not isinstance(what.exc_value, _Interrupted):
            sys.__unraisablehook__(what)
            return
        signal.signal(received[0], interrupt)
        threading.Timer(0.01, os.kill, (os.getpid(), received[0])).start()

    sys.unraisablehook = send_again
    for number in END_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        command(prog_name="codedmap")
    except BaseException:  # also a RuntimeError that Python's own code makes of an _Interrupted
        if not received:
            raise
        print_error("codedmap: interrupted")
        raise SystemExit(128 + received[0]) from None
    finally:
        flush_output()
