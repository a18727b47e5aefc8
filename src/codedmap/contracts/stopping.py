"""Stopping rules: when to stop waiting for answers.

They are pure functions of a `Progress`, which also holds the time: there is no clock here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import InvalidArgument
from .arguments import check_number, check_whole, is_real


class Outcome(enum.Enum):
    """Why waiting ended, or that it has not; each value is a clause."""

    EVERYONE = "every worker has answered or failed"
    QUORUM = "enough workers had answered"
    DECODABLE = "the answers could be decoded"
    TOLERANCE = "every standard error was within the tolerance"
    DEADLINE = "the deadline passed"
    SHARE = "enough rows were done"
    SLOWER = "the rows that were left took longer than the others"
    COMPLETE = "every row is exact, has failed or ran too long"
    EXACT = "every row was exact"
    SATISFIED = "the stopping rule was satisfied"
    NONE_RUNNING = "no call was left running, though the stopping rule would have waited for more"
    UNSATISFIABLE = (
        "so many calls failed that the stopping rule or the code could never be satisfied"
    )
    WAITING = "more answers may still come"


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known while waiting: the input of stopping rules."""

    asked: frozenset[int]
    """Slots that were sent a payload."""
    answered: frozenset[int]
    """Slots whose answer has come."""
    failed: frozenset[int]
    """Slots whose call raised, or whose worker died."""
    seconds: float
    """Seconds since the first payload was sent."""
    decodable: bool
    """Whether the code can decode from ``answered``."""
    stderr: Callable[[], float | None] = field(default=lambda: None, compare=False, repr=False)
    """The largest standard error of an estimate from the answers so far. Calling it decodes, for at most 5 %
    of the elapsed time. None if the code has no standard errors, if nothing can be decoded yet, or if
    decoding now would exceed that share: the rule is evaluated again as soon as it would not, and when no
    call is running any more."""

    rows: int = 0
    """Rows of the whole job."""
    done: int = 0
    """Rows of the job that are exact or have failed."""
    slower_in: Callable[[float], float | None] = field(
        default=lambda times: None, compare=False, repr=False
    )
    """Called with a number of times: seconds until every row without an answer has run so many times as long as a row
    takes on average, at most 0 if each has. None while some have not begun, or none is answered. Without a code only."""

    @property
    def running(self) -> frozenset[int]:
        """Slots that may still answer."""
        return self.asked - self.answered - self.failed


class StoppingRule(Protocol):
    """Decides whether to wait for more answers. Derive from it to get ``|`` and ``&``."""

    def verdict(self, seen: Progress, /) -> Outcome | None:
        """The reason to stop now; None to wait."""

    def wake_after(self, seen: Progress, /) -> float | None:
        """Seconds until the verdict can change without a new answer; None, the default, if it cannot."""
        return None

    def __or__(self, other: StoppingRule) -> StoppingRule:
        return AnyOf(self, other) if is_rule(other) else NotImplemented

    def __and__(self, other: StoppingRule) -> StoppingRule:
        return AllOf(self, other) if is_rule(other) else NotImplemented


def is_rule(other: Any) -> bool:
    """Whether this is a stopping rule, and not its class."""
    if isinstance(other, type):
        return False
    return all(callable(getattr(other, name, None)) for name in ("verdict", "wake_after"))


@dataclass(frozen=True, slots=True)
class Quorum(StoppingRule):
    """Stop when this many workers have answered, and their answers can be decoded.

    Parameters
    ----------
    answers : int
        At least 1.
    """

    answers: int

    def __post_init__(self) -> None:
        check_whole("answers", self.answers, 1)

    def verdict(self, seen: Progress) -> Outcome | None:
        return Outcome.QUORUM if len(seen.answered) >= self.answers else None

    def __str__(self) -> str:
        return f"Quorum({self.answers})"


@dataclass(frozen=True, slots=True)
class Deadline(StoppingRule):
    """Stop after this many seconds.

    Parameters
    ----------
    seconds : float
        More than 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not is_real(self.seconds) or not self.seconds > 0:
            raise InvalidArgument(
                f"Deadline({self.seconds!r:.80}) must be more than 0 seconds, as a number"
            )

    def verdict(self, seen: Progress) -> Outcome | None:
        return Outcome.DEADLINE if seen.seconds >= self.seconds else None

    def wake_after(self, seen: Progress) -> float | None:
        return max(0.0, self.seconds - seen.seconds)

    def __str__(self) -> str:
        return f"Deadline({self.seconds:g})"


@dataclass(frozen=True, slots=True)
class Decodable(StoppingRule):
    """Stop as soon as the code can decode."""

    def verdict(self, seen: Progress) -> Outcome | None:
        return Outcome.DECODABLE if seen.decodable else None


@dataclass(frozen=True, slots=True)
class Everyone(StoppingRule):
    """Stop when every payload has an answer or has failed: stragglers are waited for.

    A late payload is sent to another worker as well, unless ``hedge=None``; the first answer counts.
    """

    def verdict(self, seen: Progress) -> Outcome | None:
        return None if seen.running else Outcome.EVERYONE


@dataclass(frozen=True, slots=True)
class Tolerance(StoppingRule):
    """Stop when every standard error is small enough; for codes that have standard errors, or without a code.

    Rows without an answer are estimated from the answers so far, for at most 5 % of the time and never twice from the
    same answers; without a code from 20 answers on. If no call is left and some standard error is still larger, the
    ``outcome`` of the result says that the rule was not satisfied.

    Parameters
    ----------
    stderr : float or dict
        At least 0, in the unit of the outputs, as `MapResult.stderr`. 0: every row must be exact. Without a code and for
        a function that returns dicts, as in `codedmap.sweep`, also one for each output by its name; those that are
        not named may have any. These are above 0.
    """

    stderr: float | Mapping[str, float] = field(hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.stderr, Mapping):
            check_number("Tolerance: stderr", self.stderr)
            return
        if not self.stderr:
            raise InvalidArgument("Tolerance({}) names no output: give numbers by their names")
        for name, most in self.stderr.items():
            check_number(f"Tolerance: stderr of {name!r}", most, above=True)
        object.__setattr__(self, "stderr", dict(self.stderr))

    @property
    def outputs(self) -> Mapping[str, float] | None:
        """The largest standard error of each output by its name; None if one number is for all."""
        return self.stderr if isinstance(self.stderr, Mapping) else None

    @property
    def largest(self) -> float:
        """The most that `Progress.stderr` may be. If outputs are named, that is a multiple of each one's tolerance."""
        return 1.0 if isinstance(self.stderr, Mapping) else self.stderr

    def verdict(self, seen: Progress) -> Outcome | None:
        worst = seen.stderr()
        return Outcome.TOLERANCE if worst is not None and worst <= self.largest else None

    def __str__(self) -> str:
        return f"Tolerance({self.outputs or format(self.largest, 'g')})"


@dataclass(frozen=True, slots=True)
class Share(StoppingRule):
    """Stop when this share of the rows is exact or has failed; for `map` without a code.

    Parameters
    ----------
    share : float
        More than 0, at most 1.
    """

    share: float

    def __post_init__(self) -> None:
        if not is_real(self.share) or not 0 < self.share <= 1:
            raise InvalidArgument(f"Share({self.share!r:.80}) must be more than 0 and at most 1")

    def verdict(self, seen: Progress) -> Outcome | None:
        enough = seen.rows > 0 and seen.done >= self.share * seen.rows
        return Outcome.SHARE if enough else None

    def __str__(self) -> str:
        return f"Share({self.share:g})"


@dataclass(frozen=True, slots=True)
class Slower(StoppingRule):
    """Stop when all rows that are left take longer than the others; for `map` without a code.

    Every row must have begun, and each row without an answer must have run for ``times`` the mean time of those
    answered. Of a hedged row the first call counts. ``Share(0.95) & Slower(1.25)`` is how ensembles of reservoir models
    are often stopped: once 95 % are done, the rest get a quarter more than the mean time.

    Parameters
    ----------
    times : float
        More than 0.
    """

    times: float

    def __post_init__(self) -> None:
        check_number("Slower: times", self.times, above=True)

    def verdict(self, seen: Progress) -> Outcome | None:
        left = seen.slower_in(self.times)
        return None if left is None or left > 0.0 else Outcome.SLOWER

    def wake_after(self, seen: Progress) -> float | None:
        left = seen.slower_in(self.times)
        return None if left is None else max(0.0, left)

    def __str__(self) -> str:
        return f"Slower({self.times:g})"


@dataclass(frozen=True, slots=True)
class AnyOf(StoppingRule):
    """``first | second``: stop when either of the two rules would."""

    first: StoppingRule
    second: StoppingRule

    def verdict(self, seen: Progress) -> Outcome | None:
        # A deadline takes precedence: it is final, while a quorum that cannot be decoded waits for more answers.
        # After it nothing is decoded for a `Tolerance`.
        if _cheap_first(self)[0].verdict(seen) is Outcome.DEADLINE:
            return Outcome.DEADLINE
        first, second = self.first.verdict(seen), self.second.verdict(seen)
        return Outcome.DEADLINE if Outcome.DEADLINE in (first, second) else first or second

    def wake_after(self, seen: Progress) -> float | None:
        both = self.first.wake_after(seen), self.second.wake_after(seen)
        return min((seconds for seconds in both if seconds is not None), default=None)

    def __str__(self) -> str:
        return f"{self.first} | {self.second}"


@dataclass(frozen=True, slots=True)
class AllOf(StoppingRule):
    """``first & second``: stop when both rules would. The reason is that of the first, unless it is a time or share.

    Nothing is decoded for a `Tolerance` while the other rule would wait anyway.
    """

    first: StoppingRule
    second: StoppingRule

    def verdict(self, seen: Progress) -> Outcome | None:
        if any(rule.verdict(seen) is None for rule in _cheap_first(self)):
            return None
        first, second = self.first.verdict(seen), self.second.verdict(seen)
        # Those two outcomes end the whole job, for which time or share alone is not enough here.
        return second if first in (Outcome.DEADLINE, Outcome.SHARE) else first

    def wake_after(self, seen: Progress) -> float | None:
        for rule in _cheap_first(self):
            if rule.verdict(seen) is None:
                return rule.wake_after(seen)  # until then the other rule has no effect
        return None

    def __str__(self) -> str:
        parts = (f"({r})" if isinstance(r, AnyOf) else str(r) for r in (self.first, self.second))
        return " & ".join(parts)


def asks_stderr(rule: StoppingRule) -> bool:
    """Whether a `Tolerance` is part of the rule: to evaluate it takes decoding, and a code with standard errors."""
    return tolerance_of(rule) is not None


def tolerance_of(rule: StoppingRule | None) -> Tolerance | None:
    """The largest `Tolerance` in a rule; None if there is none; `InvalidArgument` if there are two, one with names."""
    parts = [part for part in parts_of(rule) if isinstance(part, Tolerance)]
    if len(parts) > 1 and any(part.outputs for part in parts):
        raise InvalidArgument(
            f"{rule} has two tolerances, one of them by the names of outputs: give one that names them all"
        )
    return max(parts, key=lambda part: part.largest, default=None)


def parts_of(rule: StoppingRule | None) -> list[StoppingRule]:
    """The rules that are combined in this one."""
    if isinstance(rule, AnyOf | AllOf):
        return [*parts_of(rule.first), *parts_of(rule.second)]
    return [] if rule is None else [rule]


def best_case(
    asked: frozenset[int],
    answered: frozenset[int],
    failed: frozenset[int],
    seconds: float,
    decodable: bool,
) -> Progress:
    """The progress if these slots have answered, and whatever can be decoded then has a standard error of 0."""
    return Progress(asked, answered, failed, seconds, decodable, lambda: 0.0 if decodable else None)


def _cheap_first(pair: AnyOf | AllOf) -> tuple[StoppingRule, StoppingRule]:
    """The two rules, one that has to decode last."""
    if asks_stderr(pair.first):
        return pair.second, pair.first
    return pair.first, pair.second
