"""Copy a merge's points slice by slice, and look for every one of them afterwards."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator
from dataclasses import dataclass

from resources.clients.http import InfluxHTTP
from resources.engine.merge.check import Found, SliceContents
from resources.engine.merge.doors import Doors, verdict
from resources.engine.merge.slices import (
    Span,
    Table,
    copy_statement,
    count_statement,
    read_statement,
)
from resources.errors import BadReply, WireError, shown
from resources.protocol.query_results import Series

CONFLICT = "field type conflict"
"""In a server's words when a value is not of the type that its field has there."""
VERBS = {"missing": "is missing", "other": "has another value", "type": "has another type"}
LOOKS = 8
FIRST_PAUSE_S = 0.1
"""Doubled from look to look: another node of a cluster may have a point a moment later."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of the points of a measurement in a time.

    Attributes:
        points: restored points that are in the live database, with their values.
        added: of these, that were not there before.
        replaced: of these, that had another value before.
        lost: restored points that are not.
        why: why not; empty if all are.
    """

    points: int = 0
    added: int = 0
    replaced: int = 0
    lost: int = 0
    why: str = ""

    def __add__(self, other: Copied) -> Copied:
        return Copied(
            self.points + other.points,
            self.added + other.added,
            self.replaced + other.replaced,
            self.lost + other.lost,
            self.why or other.why,
        )


class Copier:
    """Copies between tables of one target, whatever limits its server has.

    A slice is made smaller when it holds too many points, or when the server does not get
    through with it in time; what was made smaller stays small.

    Args:
        doors: the target's; what was copied is looked for at each of them.
        most_points: values in a slice.
    """

    def __init__(self, doors: Doors, most_points: int) -> None:
        self._doors = doors
        self._most_points = most_points

    def count(self, table: Table, span: Span) -> int:
        """How many values a table has in a time; in parts, if the server has limits.

        Raises:
            WireError
        """
        try:
            return self._count(table, span)
        except WireError as error:
            parts = self._smaller(error, span)
        return sum(self.count(table, part) for part in parts)

    def copy(
        self,
        source: Table,
        live: Table,
        span: Span,
        *,
        doubtful: Collection[str] = frozenset(),
    ) -> Generator[Copied]:
        """Copy the points of a time; yields after each slice.

        Points that the server refuses, or that are not found afterwards, are counted as lost
        and end nothing.

        Args:
            doubtful: fields that have another type somewhere in the live database.

        Raises:
            WireError: the server broke off, or refused for a reason that the next slice would
                meet too.
            Stopped
        """
        left = [span]
        while left:
            slice_ = left.pop()
            try:
                n = self._count(source, slice_)
                if n == 0:
                    continue
                if n > self._most_points and slice_.end_ns - slice_.start_ns > 1:
                    parts = slice_.parts(-(-n // self._most_points))
                    left += reversed(list(parts))
                    continue
                yield self._copy(source, live, slice_, n, doubtful)
            except WireError as error:
                left += reversed(self._smaller(error, slice_))

    def _copy(
        self, source: Table, live: Table, span: Span, n: int, doubtful: Collection[str]
    ) -> Copied:
        wanted = self._read(source, span, doubtful)
        if len(wanted) != n:
            raise BadReply(
                f"{source} has {n} points from {span.start_ns} to {span.end_ns}, and "
                f"{len(wanted)} were read",
                hint="the temporary database must be left alone during a merge",
            )
        before = Found(0, 0, n)
        if self._count(live, span):
            before = self._compare(wanted, live, span)
        # Whether a doubtful value has the right type, only the server's answer to a copy tells.
        if before.complete and not wanted.doubted and self._everywhere(wanted, live, span):
            return Copied(points=n)
        statement = copy_statement(source, span, database=live.database, policy=live.policy)
        why = ""
        try:
            self._doors.query(statement)
        except WireError as error:
            if verdict(error) != "refused":
                raise
            why = error.what
        lost = self._look(wanted, source, live, span, statement, why)
        arrived = n - lost.lost
        # Of a slice that did not arrive whole, which points were there before is a guess.
        added = min(before.missing, max(0, arrived - before.same))
        replaced = min(before.other, arrived - added)
        return Copied(arrived, added, replaced, lost.lost, lost.why)

    def _look(
        self,
        wanted: SliceContents,
        source: Table,
        live: Table,
        span: Span,
        statement: str,
        refused: str,
    ) -> Copied:
        """Look at every door; what is not there at once may come a moment later."""
        pause_s = FIRST_PAUSE_S
        for look in range(1, LOOKS + 1):
            behind = self._behind(wanted, live, span, types_differ=CONFLICT in refused)
            if behind is None:
                return Copied()
            door, found = behind
            if refused or look == LOOKS:
                return self._lost(wanted, source, live, span, door, found, refused)
            if found.other:  # written over meanwhile, by somebody who is still at it
                self._doors.query(statement)
            self._doors.pause(pause_s)
            pause_s *= 2
        raise AssertionError("the last look returns")

    def _lost(
        self,
        wanted: SliceContents,
        source: Table,
        live: Table,
        span: Span,
        door: InfluxHTTP,
        found: Found,
        refused: str,
    ) -> Copied:
        n_lost = found.missing + found.other
        example = self._doors.through(
            lambda http: wanted.example(
                http.stream(read_statement(live, span)),
                self._pieces(http, source, span),
                types_differ=CONFLICT in refused,
            ),
            only=door,
        )
        why = refused or f"{n_lost} points are not there after copying"
        if example is not None:
            kind, what = example
            why += f"; {shown(what, 300)} {VERBS[kind]}"
        return Copied(lost=n_lost, why=why)

    def _behind(
        self, wanted: SliceContents, live: Table, span: Span, *, types_differ: bool = False
    ) -> tuple[InfluxHTTP, Found] | None:
        """A door behind which not every point is, and what is there."""
        for door in self._doors.all:
            found = self._compare(wanted, live, span, only=door, types_differ=types_differ)
            if not found.complete:
                return door, found
        return None

    def _everywhere(self, wanted: SliceContents, live: Table, span: Span) -> bool:
        return len(self._doors.all) == 1 or self._behind(wanted, live, span) is None

    # --- statements -------------------------------------------------------------------------

    def _count(self, table: Table, span: Span) -> int:
        found = self._doors.query(count_statement(table, span))
        return sum(value for series in found for row in series.values for value in row[1:] if value)

    def _read(self, table: Table, span: Span, doubtful: Collection[str]) -> SliceContents:
        return self._doors.through(
            lambda http: SliceContents(self._pieces(http, table, span), doubtful=doubtful)
        )

    def _compare(
        self,
        wanted: SliceContents,
        live: Table,
        span: Span,
        *,
        only: InfluxHTTP | None = None,
        types_differ: bool = False,
    ) -> Found:
        return self._doors.through(
            lambda http: wanted.compare(self._pieces(http, live, span), types_differ=types_differ),
            only=only,
        )

    def _pieces(self, http: InfluxHTTP, table: Table, span: Span) -> Generator[Series]:
        for piece in http.stream(read_statement(table, span)):
            self._doors.check_stop()
            yield piece

    def _smaller(self, error: WireError, span: Span) -> list[Span]:
        """Two halves, if the server may manage those.

        Raises:
            WireError: `error`, if not.
        """
        if verdict(error) != "smaller" or span.end_ns - span.start_ns < 2:
            raise error
        self._most_points = max(1, self._most_points // 2)
        return list(span.parts(2))


class Watch:
    """When it is time to say how far things are."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._last = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._every_s:
            return False
        self._last = now
        return True
