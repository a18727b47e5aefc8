"""What a job is and what is known of its calls; the events that a scheduler is handed, and the decisions that it gives back.

Without arrays, clocks and threads, as the scheduler.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
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
    """Of tasks; without a code a group is one row."""
    before: int = 0
    """Further ones, done before: they count where a rule asks for the whole job."""
    hedge: float | None = 0.05
    """Extra calls, as a share of the others, for late ones; None: no hedges. At least 8 a job."""
    retries: int = 2
    """How often a row that runs alone may crash, and be sent again, before it can be FAILED."""
    call_timeout: float = math.inf
    stop: StoppingRule | None = None
    """Evaluated over the whole job; None: every row."""
    ahead: int = 1
    """Calls that are sent to a worker while it runs another."""
    size: int | None = None
    """Groups in a call; None: by what was seen."""
    slots: int = 1
    """N, calls that are made of each group."""
    patience: float = 0.0
    """Seconds for which a job whose workers have all left waits for another."""
    memory: float = math.inf
    """Bytes that payload and answer of a call may take together."""
    batches: bool = False
    """Whether a call may take a time of its own, however few groups it has: ``fn`` computes them together."""
    more: bool = False
    """Whether there may be more groups than are known: they are asked for by `More`, and come as `Added`."""
    stderr: Callable[[int, bool], float | None] = lambda chunk, last: None
    """The largest standard error in a chunk, or of the whole job without a code; and whether it is the last time to ask."""


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
    """When its worker was free for it, in seconds of the job."""
    wanted: bool = True
    """Whether its answer is still of use."""
    sent: float = 0.0
    """When it was sent to its worker, in seconds of the job."""
    ahead: bool = False
    """Whether its worker had another call then."""
    limit: float = math.inf
    """Seconds after which its worker computes no further group, and answers with those that it has."""
    step: int = 1
    """Groups that are computed together between two looks at the limit."""

    @property
    def groups(self) -> int:
        """How many groups it computes."""
        return self.end - self.begin

    @property
    def chunk(self) -> int:
        """As `Piece`."""
        return self.piece.chunk

    @property
    def slot(self) -> int:
        """As `Piece`."""
        return self.piece.slot


# Events -----------------------------------------------------------------------------------------------


class Joined(NamedTuple):
    """A worker can take calls."""

    now: float
    worker: Hashable
    domain: Hashable = None
    more: bool = False
    """Whether more has happened by now: nothing is decided before the last event."""


class Left(NamedTuple):
    """A worker is gone; its calls are reported by `CallFailed` each."""

    now: float
    worker: Hashable


class Answered(NamedTuple):
    """A call has an answer."""

    now: float
    call: int
    seconds: float
    """That ``fn`` took, without what it took to send and receive."""
    raised: tuple[int, ...] = ()
    """Groups of the call, counted from its first, for which ``fn`` raised."""
    more: bool = False
    """As in `Joined`."""
    began: float | None = None
    """When its worker was sent it, if that is known: calls of other jobs may have been before it."""
    nbytes: int = 0
    """Of its payload and its answer."""
    done: int | None = None
    """Groups that it has computed, from its first, if it has ended at its limit."""


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
    """Calls that began later than their worker was free of this job's, because of calls of others; ``now`` if not yet."""
    stopped: float = 0.0
    """Seconds, at most, for which the system had stopped this program, and perhaps its workers too: none is late for that."""
    waiting: frozenset[int] = frozenset()
    """Calls that their workers were sent, and have not begun because of what is not the engine's."""
    free: frozenset[Hashable] = frozenset()
    """Workers that have no call at all, where calls wait for those of others and this is known."""
    opening: frozenset[int] = frozenset()
    """Calls whose workers have none of others: they are being started, or open what ``fn`` is."""


class Added(NamedTuple):
    """What `More` has come to: the job has so many groups more."""

    now: float
    groups: int
    last: bool
    """Whether these are the last."""


class Stop(NamedTuple):
    """The driver wants no more."""

    now: float
    outcome: Outcome


class Decoded(NamedTuple):
    """What `Decode` has come to."""

    now: float
    chunk: int
    enough: bool
    """Whether the chunk is finished."""
    unused: frozenset[int] = frozenset()
    """Slots whose answer is not used, because its worker has answered wrongly elsewhere."""
    rejected: frozenset[Hashable] = frozenset()
    """Workers that get no hedges, and no retries if there are others."""
    outcome: Outcome | None = None
    """If it is another than that of `Decode`."""


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
    """The answer of this call counts; ``raised`` as in `Answered`."""

    call: Call


class FailRows(NamedTuple):
    """The groups from ``begin`` to ``end`` are FAILED because of what this call came to."""

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
    """Whether no further answer can come: what there is has to do."""


class More(NamedTuple):
    """Find at least so many groups more, if there are, and report `Added`; it is decided once until then."""

    groups: int


class Ended(NamedTuple):
    """The job has ended; no decision follows."""

    outcome: Outcome


Decision = Start | Withdraw | Abandon | Take | FailRows | Decode | More | Ended


@dataclass(slots=True, eq=False)
class Lineage:
    """Crashes of a call of several groups, and of its halves, of whose groups one may be the cause."""

    crashes: int = 0
    suspected: bool = False


@dataclass(slots=True, eq=False)
class Piece:
    """Groups that are computed together, and the calls that compute them."""

    begin: int
    end: int
    chunk: int = 0
    """With a code: which groups are decoded together."""
    slot: int = 0
    """With a code: which of the payloads of these groups."""
    copies: list[Call] = field(default_factory=list)
    """In flight and wanted."""
    held: set[Hashable] = field(default_factory=set)
    """Workers that have, or had, a copy."""
    lineage: Lineage | None = None
    """Of the calls that held these groups and others, if one has crashed."""
    crashes: int = 0
    """Of calls that held this one group."""
    excused: int = 0
    """Of these, on workers that have never answered and had crashed before."""
    never_begun: int = 0
    again: bool = False
    """Whether it waits to be sent again although a copy is in flight."""
    partial: tuple[Call, tuple[int, ...]] | None = None
    """An answer in which groups raised, while another copy may still answer for these."""
