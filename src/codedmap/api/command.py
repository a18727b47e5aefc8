"""`command`: a program as a function of the values of a row."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import string
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from inspect import Parameter, Signature
from keyword import iskeyword
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..contracts.answers import unrounded
from ..contracts.arguments import check_number, check_whole, is_real
from ..contracts.warning import warn_caller
from ..engines.transport.descendants import end_descendants, segments_of
from ..engines.transport.serve import environment_of_its_own
from ..errors import CallTimeout, CodedmapError, CommandFailed, InvalidAnswer, InvalidArgument

_LINES, _CHARACTERS = 5, 300  # last lines and characters of stderr that an error repeats, at most
_NAME = 100  # characters of the name of a directory that is kept, at most
_SHOWN = 60  # characters that an error repeats of an answer that cannot be read
_LONGEST = 1e6  # seconds of one wait: the system counts them as milliseconds of 32 bits
_FILES = (".json", ".csv", ".txt")  # endings of files that a program may answer by
_SHELL_WORDS = frozenset(("|", ">", ">>", "<", "2>", "2>&1", "&", "&&", "||", ";"))
WHY = "error.txt"  # the file with the reason, in the directory of a run that has failed

_Piece = tuple[str, str | None, str]  # a text, the name of a value after it, its format


def command(
    template: str,
    *,
    reads: str = "stdout.json",
    timeout: float | None = None,
    retries: int = 2,
    keep_runs: str | Path | None = None,
) -> Program:
    """A program of any language as a function of named values, to call or for `sweep`.

    It can be pickled. Each run has a directory of its own, in which the program runs. No shell is used: a value is always
    one part of one word. A program that is ended, by ``timeout``, by Ctrl-C or with a call of `engines.Local` that is
    abandoned, is ended with all that it has started.

    Parameters
    ----------
    template : str
        The program and its arguments. Each ``{name}`` is replaced by the value of this name, a float by the shortest text
        that gives the same number. A format may follow, as in ``{a:.3f}``, and ``{{`` is a brace. A relative path of the
        program starts at the working directory of now; give those of other files absolute.
    reads : str
        What a run returns: "stdout.json", a JSON object, list or number on stdout; "stdout", numbers, or lines name=value;
        or the path of a file ending in .json, .csv or .txt that the program writes, relative to the directory of the run.
    timeout : float, optional
        Seconds after which a run is ended, and fails.
    retries : int
        How often a run that a signal ended is made again. Those that end by an exit code are not.
    keep_runs : path, optional
        Where the directories of all runs are kept, each named by its values, with ``stdout`` and ``stderr`` and, if the run
        fails, the reason in ``error.txt``. By default they are removed.

    Returns
    -------
    callable
        Called with the values by name, it returns a number, an array (n,) or (n, p), or a dict of these and of text. It raises
        `InvalidArgument` if the names are not those of the template or a value cannot be written in it,
        `errors.CommandFailed` if the program cannot be started or does not end with exit code 0, with the last lines of
        stderr, `errors.CallTimeout` after ``timeout``, and `InvalidAnswer` if what the program gives cannot be read.

    Raises
    ------
    InvalidArgument
        If the template is malformed, there is no such program, or another argument is invalid.

    Examples
    --------
    >>> import codedmap as cm
    >>> add = cm.command("expr {a} + {b}", reads="stdout")
    >>> add(a=3, b=4)
    7.0
    >>> cm.sweep(add, {"a": [1, 2], "b": [10, 20]}).table["y"]
    array([11., 22.])
    """
    runs = None if keep_runs is None else Path(keep_runs)
    return Program(template, reads, timeout=timeout, retries=retries, runs=runs, keep=True)


@dataclass(frozen=True, slots=True)
class Program:
    """A program, run with the values of a row; see `command`."""

    template: str
    reads: str
    _: KW_ONLY
    timeout: float | None
    retries: int
    runs: Path | None
    """Where the directories of runs are made, which stay if the run fails; None: elsewhere, and they are always removed."""
    keep: bool
    """Whether the directories of runs that succeed stay as well."""
    _words: tuple[tuple[_Piece, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        words = tuple(tuple(_pieces(word)) for word in _split(self.template))
        program = words[0]
        if all(name is None for _, name, _ in program):
            path = _program_path("".join(text for text, *_ in program))
            words = (((path, None, ""),), *words[1:])
        object.__setattr__(self, "_words", words)
        if self.reads not in ("stdout", "stdout.json") and (
            Path(self.reads).suffix not in _FILES or Path(self.reads).is_absolute()
        ):
            raise InvalidArgument(
                f"reads= must be stdout.json, stdout, or the path of a file ending in {', '.join(_FILES)}, relative to the "
                f"directory of a run, and is {self.reads!r}"
            )
        if self.timeout is not None:
            check_number("timeout", self.timeout, above=True)
        check_whole("retries", self.retries, 0)
        if self.runs is not None:
            object.__setattr__(self, "runs", self.runs.absolute())
        for word in filter(None, self._fixed[1:]):
            if word in _SHELL_WORDS:
                warn_caller(
                    f"the program gets {word!r} as an argument, because no shell is used: for pipes, redirections and several "
                    "commands write a script"
                )
            if not Path(word).is_absolute() and Path(word).is_file():
                warn_caller(
                    f"{word} is a file here, and each run has a directory of its own: if the program reads it, give "
                    f"its path, {Path(word).absolute()}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the values that it takes."""
        found = (name for word in self._words for _, name, _ in word if name is not None)
        return tuple(dict.fromkeys(found))

    @property
    def _fixed(self) -> list[str | None]:
        """The words of the command line, None for those with values; a path of the program is absolute."""
        return [
            None if any(name is not None for _, name, _ in word) else "".join(t for t, *_ in word)
            for word in self._words
        ]

    @property
    def __signature__(self) -> Signature:
        """Its arguments; those whose names Python does not allow are ``**others``."""
        own = [name for name in self.names if name.isidentifier() and not iskeyword(name)]
        found = [Parameter(name, Parameter.KEYWORD_ONLY) for name in own]
        if len(own) < len(self.names):
            found.append(Parameter("others", Parameter.VAR_KEYWORD))
        return Signature(found)

    def __fingerprint__(self) -> list[str]:
        """What must not have changed when a sweep is resumed."""
        program = Path(self._fixed[0] or "")
        own = program.is_absolute() and program.is_file()
        content = hashlib.blake2b(program.read_bytes()).hexdigest() if own else ""
        return [self.template, self.reads, content]

    def __call__(self, /, **values: Any) -> Any:
        """What the program gives for these values: a number, an array, or a dict of these and of text."""
        name = ",".join(f"{name}={value}" for name, value in values.items())
        return self.run(values, re.sub(r"[^\w.=,+-]", "_", name or "run", flags=re.ASCII)[:_NAME])

    def run(self, values: Mapping[str, Any], name: str) -> Any:
        """What a call gives; if directories are kept, the run's has this name below ``runs``.

        If there is one, it has this name with ``.2`` after it, and so on.
        """
        words = self.line(values)
        for left in range(self.retries, -1, -1):
            try:
                if self.runs is not None:
                    return self._kept(words, self.runs, name)
                # An engine finds by this name what a worker that was killed has left.
                begin = segments_of(os.getpid())
                with TemporaryDirectory(prefix=begin, ignore_cleanup_errors=True) as directory:
                    return self._answer(words, Path(directory))
            except CommandFailed as error:
                if left == 0 or error.returncode is None or error.returncode > 0:
                    raise
        raise AssertionError  # the last has returned or raised

    def _kept(self, words: list[str], runs: Path, name: str) -> Any:
        directory = _directory(runs, name)
        try:
            answer = self._answer(words, directory)
        except CodedmapError as error:
            error.args = (f"{error}; see {directory}",)
            with contextlib.suppress(OSError):
                why = f"{error}\n\n{shlex.join(words)}\n"
                (directory / WHY).write_text(why, encoding="utf-8", errors="backslashreplace")
            raise
        if not self.keep:
            shutil.rmtree(directory, ignore_errors=True)
        return answer

    def _answer(self, words: list[str], directory: Path) -> Any:
        _run(words, directory, self.timeout)
        return _read(directory, self.reads)

    def line(self, values: Mapping[str, Any]) -> list[str]:
        """The words of the command line for these values; raises `InvalidArgument`."""
        if values.keys() != set(self.names):
            takes, given = (
                ", ".join(map(repr, names)) or "no values" for names in (self.names, values)
            )
            raise InvalidArgument(
                f"the command takes {takes}, and by name it is given {given}: give each once, or correct "
                f"{self.template!r} (a brace is written {{{{)"
            )
        try:
            words = [
                "".join(t if n is None else t + _text(values[n], spec) for t, n, spec in word)
                for word in self._words
            ]
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"a value cannot be written in {self.template!r}: {error}"
            ) from error
        if any("\0" in word for word in words):
            raise InvalidArgument("a value has a NUL character, which no command line can hold")
        return words


def _directory(runs: Path, name: str) -> Path:
    """A new directory for a run of this name; raises `CommandFailed` if none can be made."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        number, directory = 1, runs / name
        while True:  # two workers may run the same row
            with contextlib.suppress(FileExistsError):
                directory.mkdir()
                return directory
            number += 1
            directory = runs / f"{name}.{number}"
    except OSError as error:
        raise CommandFailed(
            f"no directory can be made in {runs} ({error.strerror}): make room or allow writing there"
        ) from error


def _split(template: str) -> list[str]:
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise InvalidArgument(
            f"the command {template!r} cannot be split into words ({error}): quote as in a shell"
        ) from error
    if not words:
        raise InvalidArgument(
            "the command is empty: give a program and its arguments, such as './model --a {a}'"
        )
    return words


def _pieces(word: str) -> list[_Piece]:
    hint = "name a column, as in {a}, or write {{ and }} for braces"
    try:
        parsed = list(string.Formatter().parse(word))
    except ValueError as error:
        quoted = ", and quote a name with spaces, as in '{my name}'" if "}" not in word else ""
        raise InvalidArgument(
            f"{word!r} in the command is malformed ({error}): {hint}{quoted}"
        ) from error
    for _, name, spec, conversion in parsed:
        if name == "" or conversion or "{" in (spec or ""):
            raise InvalidArgument(f"{word!r} in the command is malformed: {hint}")
    return [(text, name, spec or "") for text, name, spec, _ in parsed]


def _program_path(program: str) -> str:
    """The absolute path of a program that is given by a path, or its name; raises `InvalidArgument`."""
    found = shutil.which(program)
    if found is None:
        raise InvalidArgument(
            f"there is no program {program!r}, or it may not be executed: install or build it, give its path (in this "
            "directory it begins with ./), or allow it with chmod +x"
        )
    return str(Path(found).absolute()) if os.sep in program else program


def _text(value: Any, spec: str) -> str:
    if isinstance(value, np.generic) and value.dtype.kind not in "mM":  # not text of their unit
        value = value.item()
    if isinstance(value, bytes | dict | list | tuple | np.ndarray):
        raise TypeError(f"{value!r:.60} is of type {type(value).__name__}, and no number or text")
    if spec:
        return format(value, spec)
    return repr(value) if isinstance(value, float) else str(value)


# Running --------------------------------------------------------------------------------------------------


def _run(words: list[str], directory: Path, timeout: float | None) -> None:
    name, environment = environment_of_its_own()
    with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
        try:
            process = subprocess.Popen(
                words,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**environment, "PWD": str(directory)},
                start_new_session=True,
            )
        except OSError as error:
            script = error.errno in (errno.ENOENT, errno.ENOEXEC) and shutil.which(words[0])
            hint = (
                "; a script begins with a line such as #!/bin/sh, which names a program that exists"
            )
            raise CommandFailed(
                f"cannot be started ({error.strerror}): {shlex.join(words)[:_CHARACTERS]}{hint if script else ''}"
            ) from error
    ended = False
    try:
        ended = _has_ended(process, timeout)
    finally:
        if not ended:  # before it ends: its descendants are found by it
            end_descendants(name, pids=[process.pid])
        with contextlib.suppress(OSError):
            # Before `wait`, after which another process may have this id.
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        if not ended or code:
            end_descendants(name)  # those too that were just being started
    if not ended:
        raise CallTimeout(f"ran longer than {timeout:g} s and was ended{_last_lines(directory)}")
    if code:
        raise CommandFailed(f"{_ending(code)}{_last_lines(directory)}", returncode=code)


def _has_ended(process: subprocess.Popen[bytes], timeout: float | None) -> bool:
    """Wait for a process to end, where possible without taking its exit code, which would free its id for others."""
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # the system has no pidfd
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True
    until = math.inf if timeout is None else time.monotonic() + timeout
    try:
        while not wait([handle], min(until - time.monotonic(), _LONGEST)):
            if time.monotonic() >= until:
                return False
        return True
    finally:
        os.close(handle)


def _ending(code: int) -> str:
    """How a process with this exit code has ended, in words."""
    names = {number.value: number.name for number in signal.Signals}
    if code < 0:
        return f"ended by {names.get(-code, f'signal {-code}')}"
    child = names.get(code - 128)  # a shell adds 128 to the signal that has ended its child
    return f"exit code {code}" + (f", which is {child} of a child" if child else "")


def _last_lines(directory: Path) -> str:
    with contextlib.suppress(OSError), (directory / "stderr").open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _CHARACTERS))
        lines = file.read().decode(errors="replace").strip().splitlines()[-_LINES:]
        return ": " + "\n".join(lines) if lines else ""
    return ""


# Reading --------------------------------------------------------------------------------------------------


def _read(directory: Path, read: str) -> Any:
    path = directory / ("stdout" if read == "stdout.json" else read)
    if path.exists() and not path.is_file():  # a pipe, or a device, may have no end
        raise InvalidAnswer(f"{read} cannot be read (it is not a file)")
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InvalidAnswer(f"{read} cannot be read ({error.strerror})") from error
    parse = {".json": _from_json, ".csv": _from_csv}.get(Path(read).suffix, _from_text)
    try:
        return parse(text)
    except (ValueError, RecursionError) as error:
        begin = text[:_SHOWN] + ("..." if len(text) > _SHOWN else "")
        shown = f"it begins {begin!r}" if text.strip() else "it is empty"
        raise InvalidAnswer(f"{read} cannot be read: {error}; {shown}") from error


def _from_json(text: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=json_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (line {error.lineno}: {error.msg})") from error
    if isinstance(value, dict):
        if not value:
            raise ValueError("the object has no values")
        return {name: _value(entry, name) for name, entry in value.items()}
    if isinstance(value, str):
        raise ValueError("it is a text, and must be an object, a list or a number")
    return _value(value, "it")


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; raises ValueError if two of its values have one name, of which Python would drop the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"two values are named {twice!r:.60}")
    return found


def _value(value: Any, name: str) -> Any:
    """A value of JSON as a number, text or array of numbers; raises ValueError if it is none of these."""
    if value is None:
        return float("nan")
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list) and value:
        made = np.array(value)  # raises ValueError if it is ragged
        if all(map(is_real, made.flat)):
            return unrounded(made, value)
    raise ValueError(f"{name} is neither a number, nor text, nor a list of numbers")


def _from_text(text: str) -> Any:
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if any("=" in line for line in lines):
        found: dict[str, Any] = {}
        for line in lines:
            name, equals, value = (part.strip() for part in line.partition("="))
            if not (equals and name and value) or name in found:
                raise ValueError(
                    f"{line[:_SHOWN]!r} is not a line name=value with a name of its own"
                )
            found[name] = _number(value, value)
        return found
    numbers = [_number(word) for line in lines for word in line.split()]
    if not numbers:
        raise ValueError("there is no number")
    return numbers[0] if len(numbers) == 1 else unrounded(np.array(numbers), numbers)


def _from_csv(text: str) -> Any:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if not rows:
        raise ValueError("there is no number")
    check_commas(rows[0])
    if len({len(row) for row in rows}) > 1:
        raise ValueError("its lines differ in the number of their values")
    try:
        numbers = [[_number(cell) for cell in row] for row in rows]
    except ValueError:
        names = [name.strip() for name in rows[0]]
        if len(rows) == 1 or len(set(names)) < len(names):
            raise ValueError("its first line is neither numbers nor names above others") from None
        columns = zip(names, zip(*rows[1:], strict=True), strict=True)
        if len(rows) == 2:
            return {name: _number(cells[0], cells[0]) for name, cells in columns}
        lists = {name: [_number(cell) for cell in cells] for name, cells in columns}
        return {name: unrounded(np.array(cells), cells) for name, cells in lists.items()}
    table = unrounded(np.array(numbers), numbers)
    return table.squeeze()


def check_commas(first: list[str]) -> None:
    """Raise ValueError if the first line of a CSV file is not cut by commas."""
    for separator, word in {";": "semicolons", "\t": "tabs"}.items():
        if len(first) == 1 and separator in first[0]:
            raise ValueError(
                f"its first line has {word}, and no commas: put commas between columns, and write decimals with a point"
            )


def _number(text: str, otherwise: str | None = None) -> Any:
    try:
        return number_in(text)
    except ValueError:
        if otherwise is None:
            raise ValueError(f"{text[:_SHOWN]!r} is not a number") from None
        return otherwise


def number_in(text: str) -> float:
    """The float in a text, or the integer if a float would round it; raises ValueError if there is none.

    Python also reads 1_000 and digits of other scripts, which are refused, as is 1e400, beyond all floats.
    """
    if "_" in text or not text.isascii():
        raise ValueError
    number = float(text)
    with contextlib.suppress(ValueError):
        if int(text) != number:
            return int(text)
    if math.isinf(number) and "n" not in text.lower():
        raise ValueError
    return number
