"""When to stop waiting: pure verdicts on what has been seen. No clock here: time comes in."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import InvalidArgument
from .arguments import check_whole, is_real

__all__ = [
    "AllOf",
    "AnyOf",
    "Deadline",
    "Decodable",
    "Everyone",
    "Outcome",
    "Progress",
    "Quorum",
    "StoppingRule",
    "Tolerance",
    "asks_stderr",
    "at_best",
]


class Outcome(enum.Enum):
    """Why we stopped waiting, or that we have not; each value is a sentence."""

    EVERYONE = "every worker has answered or failed"
    QUORUM = "enough workers had answered"
    DECODABLE = "the answers could be decoded"
    TOLERANCE = "every standard error was within the tolerance"
    DEADLINE = "the deadline passed"
    EXACT = "every row was exact"
    SATISFIED = "the stop rule was satisfied"
    NOBODY_LEFT = "nobody was left running, though the stop rule would have waited for more"
    HOPELESS = "so many calls failed that the stop rule or the code could never be satisfied"
    WAITING = "more answers may still come"


def _no_stderr() -> float | None:
    return None


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known while waiting; handed to stop rules."""

    asked: frozenset[int]
    """Slots that were sent a payload."""
    answered: frozenset[int]
    """Slots whose answer has come."""
    failed: frozenset[int]
    """Slots whose call raised, or whose worker died."""
    seconds: float
    """Since the first payload was sent."""
    decodable: bool
    """Whether the code can decode from ``answered``."""
    stderr: Callable[[], float | None] = field(default=_no_stderr, compare=False, repr=False)
    """The largest standard error of an estimate made now, never an earlier one's. None if the code
    has none, if nothing can be decoded yet, or if looking now would take more than 5 % of the elapsed
    time, since it decodes; then the rule is asked again as soon as it would not, and in any case when
    nobody is left running."""

    @property
    def running(self) -> frozenset[int]:
        """Slots that may still answer."""
        return self.asked - self.answered - self.failed


class StoppingRule(Protocol):
    """Decides from what has arrived whether to wait on. Derive from it to get ``|`` and ``&``."""

    def verdict(self, seen: Progress, /) -> Outcome | None:
        """Why to stop now, or None to wait on."""
        ...

    def wake_after(self, seen: Progress, /) -> float | None:
        """Seconds until the verdict can change though nothing arrives, or None if it cannot."""
        ...

    def __or__(self, other: StoppingRule) -> StoppingRule:
        return AnyOf(self, other) if _is_rule(other) else NotImplemented

    def __and__(self, other: StoppingRule) -> StoppingRule:
        return AllOf(self, other) if _is_rule(other) else NotImplemented


def _is_rule(other: Any) -> bool:
    if isinstance(other, type):
        return False
    return all(callable(getattr(other, name, None)) for name in ("verdict", "wake_after"))


@dataclass(frozen=True, slots=True)
class Quorum(StoppingRule):
    """Stop when this many workers have answered.

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

    def wake_after(self, seen: Progress) -> float | None:
        return None

    def __str__(self) -> str:
        return f"Quorum({self.answers})"


@dataclass(frozen=True, slots=True)
class Deadline(StoppingRule):
    """Stop after this many seconds, whatever has arrived.

    Parameters
    ----------
    seconds : float
        More than 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not is_real(self.seconds) or not self.seconds > 0:
            raise InvalidArgument(f"Deadline({self.seconds!r}) must be more than 0 seconds")

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

    def wake_after(self, seen: Progress) -> float | None:
        return None

    def __str__(self) -> str:
        return "Decodable()"


@dataclass(frozen=True, slots=True)
class Everyone(StoppingRule):
    """Stop when every worker has answered or failed: no straggler is given up."""

    def verdict(self, seen: Progress) -> Outcome | None:
        return None if seen.running else Outcome.EVERYONE

    def wake_after(self, seen: Progress) -> float | None:
        return None

    def __str__(self) -> str:
        return "Everyone()"


@dataclass(frozen=True, slots=True)
class Tolerance(StoppingRule):
    """Stop when every standard error is small enough; for codes that have standard errors.

    To find out it decodes what has come, for at most 5 % of the time and never twice the same
    answers. If everybody has answered or failed and some standard error is still larger, the rule
    is not satisfied, and `map` raises; ``Tolerance(0.1) | Everyone()`` takes the best there is.

    Parameters
    ----------
    stderr : float
        At least 0, in the units of the outputs, as `MapResult.stderr`. With 0 every row must be
        exact.
    """

    stderr: float

    def __post_init__(self) -> None:
        if not is_real(self.stderr) or not 0 <= self.stderr < math.inf:
            raise InvalidArgument(f"Tolerance({self.stderr!r}) must be a number of at least 0")

    def verdict(self, seen: Progress) -> Outcome | None:
        worst = seen.stderr()
        return Outcome.TOLERANCE if worst is not None and worst <= self.stderr else None

    def wake_after(self, seen: Progress) -> float | None:
        return None

    def __str__(self) -> str:
        return f"Tolerance({self.stderr:g})"


@dataclass(frozen=True, slots=True)
class AnyOf(StoppingRule):
    """``first | second``: stop when one of them would."""

    first: StoppingRule
    second: StoppingRule

    def verdict(self, seen: Progress) -> Outcome | None:
        # When time is up, that is the reason: it is final, while a quorum that cannot be decoded
        # may be waited on. And then nothing is decoded to find another.
        if _cheap_first(self)[0].verdict(seen) is Outcome.DEADLINE:
            return Outcome.DEADLINE
        first, second = self.first.verdict(seen), self.second.verdict(seen)
        return Outcome.DEADLINE if Outcome.DEADLINE in (first, second) else first or second

    def wake_after(self, seen: Progress) -> float | None:
        return _sooner(self.first.wake_after(seen), self.second.wake_after(seen))

    def __str__(self) -> str:
        return f"{self.first} | {self.second}"


@dataclass(frozen=True, slots=True)
class AllOf(StoppingRule):
    """``first & second``: stop when both would; the reason given is the first's.

    Nothing is decoded for the sake of one while the other would wait on anyway.
    """

    first: StoppingRule
    second: StoppingRule

    def verdict(self, seen: Progress) -> Outcome | None:
        if any(rule.verdict(seen) is None for rule in _cheap_first(self)):
            return None
        return self.first.verdict(seen)

    def wake_after(self, seen: Progress) -> float | None:
        for rule in _cheap_first(self):
            if rule.verdict(seen) is None:
                return rule.wake_after(seen)  # before that, the other does not matter
        return None

    def __str__(self) -> str:
        parts = (f"({r})" if isinstance(r, AnyOf) else str(r) for r in (self.first, self.second))
        return " & ".join(parts)


def asks_stderr(rule: StoppingRule) -> bool:
    """Whether a `Tolerance` is part of the rule, which makes it dear, and impossible for some codes."""
    if isinstance(rule, AnyOf | AllOf):
        return asks_stderr(rule.first) or asks_stderr(rule.second)
    return isinstance(rule, Tolerance)


def at_best(
    asked: frozenset[int],
    answered: frozenset[int],
    failed: frozenset[int],
    seconds: float,
    decodable: bool,
) -> Progress:
    """What could be seen if these answered, and what is decoded then were as good as can be."""
    return Progress(asked, answered, failed, seconds, decodable, lambda: 0.0 if decodable else None)


def _cheap_first(pair: AnyOf | AllOf) -> tuple[StoppingRule, StoppingRule]:
    if asks_stderr(pair.first):
        return pair.second, pair.first
    return pair.first, pair.second


def _sooner(*seconds: float | None) -> float | None:
    known = [s for s in seconds if s is not None]
    return min(known) if known else None
