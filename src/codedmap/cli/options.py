"""Options of the commands: the fields of a frozen dataclass for each command."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import click

from ..api.map import MAX_FAILURES
from ..errors import InvalidArgument
from .shell import print_error, with_options

COUNT = click.IntRange(1)
PATH = click.Path(path_type=Path)


def duration(text: str) -> float:
    """The seconds of a time such as 10m, the value of an option."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)(s|m|h)?", text.strip())
    seconds = float(match[1]) * {"m": 60.0, "h": 3600.0}.get(match[2], 1.0) if match else 0.0
    if seconds <= 0.0:
        raise click.BadParameter(
            f"{text!r} is not a time above 0, such as 30, 30s, 10m or 2h", param_hint=None
        )
    return seconds


def limit(text: str) -> int | None:
    """A number of at least 1, or None for none, the value of an option."""
    if text.strip() == "none":
        return None
    if not re.fullmatch(r"0*[1-9]\d*", text.strip()):
        raise click.BadParameter(f"{text!r} is neither a number above 0 nor none", param_hint=None)
    return int(text)


def argument(kind: Any = None, **extra: Any) -> Any:
    """A field that is a positional argument."""
    return field(metadata={"parameter": lambda name: click.Argument([name], type=kind, **extra)})


def option(kind: Any, metavar: str | None, text: str, **extra: Any) -> Any:
    """A field that is an option with this help text, and with a value unless it is a flag."""

    def parameter(name: str) -> click.Option:
        names = [f"--{name.replace('_', '-')}", name]
        return click.Option(names, type=kind, metavar=metavar, help=text, **extra)

    return field(metadata={"parameter": parameter})


def on_timeout() -> Any:
    """The field for what becomes of rows that run too long."""
    return option(
        click.Choice(["fail", "estimate"]),
        None,
        "With --timeout: whether rows that run longer fail, or are estimated in the end from the others.",
        default="fail",
    )


def max_failures(when: str) -> Any:
    """The field for how many rows may raise before the job stops."""
    return option(
        limit,
        "N",
        f"{when} the first N rows that end, or all if there are fewer, raise one type of exception, and no row has an "
        "answer, the job stops and shows it; none: it goes on.",
        default=str(MAX_FAILURES),
    )


def flag(text: str) -> Any:
    """A field that is an option without a value."""
    return option(None, None, text, is_flag=True)


def parameters(options: type) -> list[click.Parameter]:
    """The parameters of a command, from the fields of its `Options`."""
    return [it.metadata["parameter"](it.name) for it in fields(options)]


class Options:
    """Arguments and options of a command."""

    def note(self, text: str) -> None:
        """Print a note on the error stream, unless the command is to be quiet."""
        if not getattr(self, "quiet", False):
            print_error(f"codedmap: note: {text}")

    def check_timeouts(self) -> None:
        """Raise `InvalidArgument` for --on-timeout estimate without --timeout."""
        if getattr(self, "on_timeout", "") == "estimate" and getattr(self, "timeout", None) is None:
            raise InvalidArgument(
                "--on-timeout estimate is for rows that run longer than --timeout, which is not given: give it, or "
                "--deadline to stop the whole job"
            )

    @contextmanager
    def warnings_noted(self) -> Iterator[None]:
        """Print warnings as notes."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *_: self.note(with_options(str(message)))
            yield


@dataclass(frozen=True, kw_only=True)
class SharedOptions(Options):
    """Arguments and options of both commands that take a model and inputs."""

    model: str = argument()
    inputs: Path = argument(PATH)
    key: str | None = option(
        str, "NAME", "Which array of INPUTS, if it is an .npz file with several."
    )
    force: bool = flag("Replace a file that exists.")
    traceback: bool = flag("Print errors in full, with the worker's own.")
