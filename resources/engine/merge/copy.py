"""Copy points within a server with InfluxQL statements, slice by slice.

A statement's answer proves nothing: a comparison with the live shards shows what arrived.
"""

from __future__ import annotations

from resources.engine.merge.http_endpoints import HttpEndpoints, kind_of_failure
from resources.engine.merge.slices import Span, Table, copy_statement, count_statement
from resources.errors import WireError


class Copier:
    """Copies between tables of one target, within the limits of its server.

    A slice becomes smaller when it holds too many points, or when the server does not finish it
    in time; later slices stay as small.

    Args:
        endpoints: the target's.
        most_points: the limit of values in a slice.
    """

    def __init__(self, endpoints: HttpEndpoints, most_points: int) -> None:
        self._endpoints = endpoints
        self._most_points = most_points

    def copy(self, source: Table, live: Table, span: Span) -> None:
        """Copy the points of a time span; a refusal is no error, because points may have arrived.

        Raises:
            WireError: the connection broke, or the server refused for a reason that the next
                slice would meet too.
            Stopped: `stop` was set.
        """
        left = [span]
        while left:
            slice_ = left.pop()
            try:
                n = self._count(source, slice_)
                if n > self._most_points and slice_.end_ns - slice_.start_ns > 1:
                    parts = slice_.parts(-(-n // self._most_points))
                    left += reversed(list(parts))
                elif n or slice_ == span:  # some servers count unsigned numbers wrongly
                    self._copy(source, live, slice_)
            except WireError as error:
                left += reversed(self._smaller(error, slice_))

    def _copy(self, source: Table, live: Table, span: Span) -> None:
        try:
            self._endpoints.query(
                copy_statement(source, span, database=live.database, policy=live.policy)
            )
        except WireError as error:
            if kind_of_failure(error) != "refused":
                raise

    def _count(self, table: Table, span: Span) -> int:
        found = self._endpoints.query(count_statement(table, span))
        return sum(value for series in found for row in series.values for value in row[1:] if value)

    def _smaller(self, error: WireError, span: Span) -> list[Span]:
        """Two halves of the span, if the server may manage those.

        Raises:
            WireError: `error`, if it may not.
        """
        if kind_of_failure(error) != "smaller" or span.end_ns - span.start_ns < 2:
            raise error
        self._most_points = max(1, self._most_points // 2)
        return list(span.parts(2))
