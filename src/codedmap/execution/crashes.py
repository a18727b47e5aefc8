"""Whether a row has caused its crashes, or workers crash whatever they compute.

A call of several rows that crashes is halved and sent again, until the row is alone (`Lineage` counts the crashes of
all that was cut from one call). A row alone is sent again `retries` times. After that it has failed once so many
crashes are unlikely by chance, where the chance of one is taken from all other calls.
"""

from __future__ import annotations

from collections.abc import Iterable

from .events import Call, Lineage, Piece

SUSPECT = 2  # crashes of a row alone after which it is suspected, until it answers
MOST_CRASHES = 20  # a row that crashes this often has failed, however often other calls crash
_CHANCE = 1e-6  # a row has failed if its crashes have a smaller chance than this
_ENOUGH_CALLS = 100  # ended calls that show the chance of a crash; suspected rows wait for them
_ENOUGH_UNANSWERED = 20  # ended calls that are enough if none is answered: it is no chance
_LONGER = 2  # a call that runs this many times as long as any that crashed shows that not all crash


class Crashes:
    """The crashes of a job's calls.

    Not counted for the chance of a crash are those on workers that have never answered and crashed before (excused),
    and those of rows that may themselves be the cause (suspected).
    """

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._counted = self._excused = 0
        self._suspected = 0  # counted crashes of groups that seem to cause them
        self._longest = 0.0  # seconds until a call crashed

    def add(self, call: Call, seconds: float, *, excused: bool) -> None:
        """A call has crashed after so many ``seconds``; ``excused``: on a worker that has never answered and crashed before."""
        piece = call.piece
        self._longest = max(self._longest, seconds)
        if excused and call.groups == 1:
            piece.crashes += 1
            piece.excused += 1
            self._excused += 1
            return
        self._counted += 1
        if call.groups > 1:
            piece.lineage = piece.lineage or Lineage()
            piece.lineage.crashes += 1
            self._suspected += piece.lineage.suspected
            return
        piece.crashes += 1
        counted = piece.crashes - piece.excused
        if counted >= SUSPECT:
            self._suspected += SUSPECT if counted == SUSPECT else 1
            self._suspect(piece.lineage, suspected=True)

    def answered(self, piece: Piece) -> None:
        """Groups have an answer after all, and are not suspected any more."""
        counted = piece.crashes - piece.excused
        if counted >= SUSPECT:
            self._suspected -= counted
            self._suspect(piece.lineage, suspected=False)

    def _suspect(self, lineage: Lineage | None, *, suspected: bool) -> None:
        if lineage is not None and lineage.suspected is not suspected:
            lineage.suspected = suspected
            self._suspected += lineage.crashes if suspected else -lineage.crashes

    def chance_is_known(self, answers: int) -> bool:
        """Whether, with so many calls answered, enough calls have ended to know the chance of a crash."""
        ended = answers + self._counted + self._excused
        return ended >= (_ENOUGH_CALLS if answers else _ENOUGH_UNANSWERED)

    def caused_by(
        self, piece: Piece, answers: int, workers: int, running: Iterable[Call], now: float
    ) -> bool:
        """Whether the groups of a call that has crashed are the cause, and not its worker.

        So many calls were answered; ``running`` are those that run on the ``workers``.
        """
        if not self._retries:
            crashes = piece.lineage.crashes if piece.lineage else piece.crashes
            return not piece.copies or crashes >= MOST_CRASHES
        if piece.end - piece.begin > 1:  # if it is to blame, it is halved although copies run
            return piece.lineage is not None and piece.lineage.crashes > self._retries
        if piece.crashes <= self._retries:
            return False
        counted = piece.crashes - piece.excused
        if counted >= MOST_CRASHES or piece.crashes >= max(MOST_CRASHES, workers):
            return True
        if not answers:
            # A call that has run much longer than those that crashed shows that some workers are to blame.
            since = now - _LONGER * self._longest
            return not any(c.started <= since and not c.piece.crashes for c in running)
        crashed = self._counted - self._suspected
        share: float = crashed / (answers + crashed)
        return counted > self._retries and share**counted < _CHANCE
