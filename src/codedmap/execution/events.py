"""Jobs and calls as a scheduler knows them, the events that it is handed, and the decisions that it gives back.

Like the scheduler they know no arrays, clocks or threads.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ..contracts.stopping import Outcome, StoppingRule


class Loss(enum.Enum):
    """Why a call gave no answer."""

    CRASHED = "its worker died during the call"
    RAISED = "fn raised"
    TIMED_OUT = "it ran longer than call_timeout"
    NOT_STARTED = "it had not begun"
    ABANDONED = "it was ended because it was not wanted any more"


class Kind(enum.Enum):
    """Why a call is made."""

    FIRST = "first"
    RETRY = "retry"
    HEDGE = "hedge"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run, as far as scheduling goes."""

    groups: int
    """Groups of tasks to compute; without a code a group is one row."""
    before: int = 0
    """Groups done by an earlier job: they count where a rule asks for the whole job."""
    hedge: float | None = 0.05
    """Most hedges, as a share of the other calls, and at least 8 a job; None: no hedges."""
    retries: int = 2
    """How often a row that runs alone may crash, and be sent again, before it can be FAILED."""
    call_timeout: float = math.inf
    """Seconds after which a call that still runs is lost."""
    stop: StoppingRule | None = None
    """Evaluated over the whole job; None: every row is computed."""
    ahead: int = 1
    """Most calls that are sent to a worker while it runs another."""
    first: int = 1
    """Groups in a call as long as none was answered."""
    size: int | None = None
    """Groups in a call; None: chosen by the times of calls."""
    slots: int = 1
    """N, calls that are made of each group."""
    patience: float = 0.0
    """Seconds for which a job whose workers have all left waits for another."""
    memory: Callable[[], float] = lambda: math.inf
    """Called when a call is sized: bytes that its payload and answer may take together."""
    batches: bool = False
    """Whether ``fn`` computes groups together, so that a call may take fixed seconds besides those of each group."""
    more: bool = False
    """Whether there may be more groups than are known: they are asked for by `More`, and come as `Added`."""
    stderr: Callable[[int, bool], float | None] = lambda chunk, last: None
    """Called with the number of a chunk, and whether no answer of it can follow: its largest standard error. Without a
    code: that of the job."""
    parks: bool = False
    """Whether a call that hangs may be ended, so that its worker computes other rows: these may otherwise be missing."""


@dataclass(slots=True, eq=False)
class Call:
    """One execution of ``fn`` by one worker on the groups from ``begin`` to ``end``."""

    number: int
    worker: Hashable
    begin: int
    end: int
    kind: Kind
    piece: Piece = field(repr=False)
    started: float = math.nan
    """When its worker was free for it, in seconds of the job; NaN before."""
    wanted: bool = True
    """Whether its answer is still of use."""
    sent: float = 0.0
    """When it was sent to its worker, in seconds of the job."""
    ahead: bool = False
    """Whether its worker had another call when it was sent."""
    limit: float = math.inf
    """Seconds after which its worker computes no further group, and answers with those that it has."""
    step: int = 1
    """Groups that are computed together before the limit is looked at again."""

    @property
    def groups(self) -> int:
        """How many groups it computes."""
        return self.end - self.begin

    @property
    def chunk(self) -> int:
        return self.piece.chunk

    @property
    def slot(self) -> int:
        return self.piece.slot


# Events -----------------------------------------------------------------------------------------------


class Joined(NamedTuple):
    """A worker can take calls."""

    now: float
    worker: Hashable
    domain: Hashable = None
    more: bool = False
    """Whether another event is at hand: nothing is decided before the last one."""


class Left(NamedTuple):
    """A worker is gone; each of its calls is reported by `CallFailed`."""

    now: float
    worker: Hashable


class Answered(NamedTuple):
    """A call has an answer."""

    now: float
    call: int
    seconds: float
    """Seconds that ``fn`` took, without sending and receiving."""
    raised: tuple[int, ...] = ()
    """Groups of the call, counted from its first, for which ``fn`` raised."""
    more: bool = False
    """As in `Joined`."""
    began: float | None = None
    """When its worker was given it, if that is known: calls of other jobs may have come before it."""
    nbytes: int = 0
    """Bytes of its payload and its answer."""
    done: int | None = None
    """How many groups it has computed, from its first on, if it ended early, at its limit."""


class CallFailed(NamedTuple):
    """A call gave no answer."""

    now: float
    call: int
    loss: Loss
    more: bool = False
    """As in `Joined`."""


class Tick(NamedTuple):
    """Time has passed."""

    now: float
    began: tuple[tuple[int, float], ...] = ()
    """Calls that began later than their worker was free of this job's calls, and when; ``now`` if they have not begun."""
    stopped: float = 0.0
    """Most seconds for which the system had stopped this program, and perhaps its workers: they make no call late."""
    waiting: frozenset[int] = frozenset()
    """Calls that wait at their workers for tasks that the engine has not sent, or have just ended: they do not time out."""
    free: frozenset[Hashable] = frozenset()
    """Workers that have no call of any job; only if calls wait behind other jobs, and if it is known."""
    opening: frozenset[int] = frozenset()
    """Calls that have not begun although no other job is before them: their worker is starting, or opens ``fn``."""


class Added(NamedTuple):
    """The groups that `More` has asked for."""

    now: float
    groups: int
    last: bool
    """Whether these are the last."""


class Stop(NamedTuple):
    """The driver ends the job."""

    now: float
    outcome: Outcome


class Decoded(NamedTuple):
    """The outcome of `Decode`."""

    now: float
    chunk: int
    enough: bool
    """Whether the chunk is finished."""
    unused: frozenset[int] = frozenset()
    """Slots whose answer is not used, because its worker has answered wrongly elsewhere."""
    rejected: frozenset[Hashable] = frozenset()
    """Workers that get no hedges, and no retries if there are others."""
    outcome: Outcome | None = None
    """The outcome of the chunk, if it is another than that of `Decode`."""


Event = Joined | Left | Answered | CallFailed | Tick | Added | Stop | Decoded


# Decisions --------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """Send this call to its worker."""

    call: Call


class Withdraw(NamedTuple):
    """Take this call back if it has not begun, and report `Loss.NOT_STARTED` then."""

    call: Call


class Abandon(NamedTuple):
    """Give up this call, which may have begun; its end is still to be reported."""

    call: Call
    at_once: bool = False
    """Whether it has run for too long, and has no grace."""


class Take(NamedTuple):
    """The answer of this call counts."""

    call: Call
    left: tuple[range, ...]
    """Groups of it that no other call has answered before."""


class FailRows(NamedTuple):
    """The groups from ``begin`` to ``end`` are FAILED because of how this call ended."""

    call: Call
    begin: int
    end: int
    loss: Loss
    crashes: int


class Decode(NamedTuple):
    """Decode a chunk, whose stopping rule is satisfied, and report `Decoded`."""

    chunk: int
    outcome: Outcome
    final: bool
    """Whether no further answer can come, so that these must be enough."""


class More(NamedTuple):
    """Find at least so many groups more, if there are any, and report `Added`; not asked again before that."""

    groups: int


class Ended(NamedTuple):
    """The job has ended; no decision follows."""

    outcome: Outcome


Decision = Start | Withdraw | Abandon | Take | FailRows | Decode | More | Ended


@dataclass(slots=True, eq=False)
class Lineage:
    """Crashes of a call of several groups, and of its halves, which one of the groups may have caused."""

    crashes: int = 0
    suspected: bool = False  # whether a group of it is suspected


@dataclass(slots=True, eq=False)
class Piece:
    """Groups that are computed together, and the calls that compute them."""

    begin: int
    end: int
    chunk: int = 0
    """With a code: the number of the chunk, whose groups are decoded together."""
    slot: int = 0
    """With a code: which of the payloads of these groups is computed."""
    copies: list[Call] = field(default_factory=list)
    """Its calls in flight that are wanted."""
    held: set[Hashable] = field(default_factory=set)
    """Workers that have, or had, a copy."""
    lineage: Lineage | None = None
    """The crashes of calls that held these groups and others, if there are any."""
    crashes: int = 0
    """Crashes of calls that held this one group alone."""
    excused: int = 0
    """Those of these crashes on workers that have never answered and had crashed before."""
    never_begun: int = 0
    """How many of its calls were lost before they began."""
    again: bool = False
    """Whether it waits to be sent again although a copy is in flight."""
    parked: float = 0.0
    """Seconds for which it ran, alone, before it was parked; 0 if it was not."""
    parts: list[Piece] | None = None
    """If its call is late, and others compute parts of it: those without an answer."""
    whole: Piece | None = None
    """If it is a part of a late call: what that computes."""

    @property
    def unanswered(self) -> list[Piece]:
        """Its parts without an answer; if it has no parts, itself."""
        return [self] if self.parts is None else self.parts

    def cut(self, bounds: list[int], held: set[Hashable], whole: Piece | None) -> list[Piece]:
        """Pieces of its groups between these bounds, which are to wait; ``held`` and ``whole`` are theirs."""
        lineage, again = self.lineage, whole is not None
        return [
            Piece(begin, end, held=set(held), lineage=lineage, again=again, whole=whole)
            for begin, end in pairwise(bounds)
        ]

    partial: tuple[Call, tuple[int, ...]] | None = None
    """An answer with groups that raised, and which, while another copy may still answer for these."""
