"""Copy points within a server with statements of InfluxQL, slice by slice.

A statement's answer proves nothing: whether the points arrived, a look at the live shards tells.
"""

from __future__ import annotations

from resources.engine.merge.http_endpoints import HttpEndpoints, kind_of_failure
from resources.engine.merge.slices import Span, Table, copy_statement, count_statement
from resources.errors import WireError


class Copier:
    """Copies between tables of one target, whatever limits its server has.

    A slice is made smaller when it holds too many points, or when the server does not get
    through with it in time; what was made smaller stays small.

    Args:
        endpoints: the target's.
        most_points: values in a slice.
    """

    def __init__(self, endpoints: HttpEndpoints, most_points: int) -> None:
        self._endpoints = endpoints
        self._most_points = most_points

    def copy(self, source: Table, live: Table, span: Span) -> None:
        """Copy the points of a time. A refusal ends nothing: some points may have been taken.

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
        """Two halves, if the server may manage those.

        Raises:
            WireError: `error`, if not.
        """
        if kind_of_failure(error) != "smaller" or span.end_ns - span.start_ns < 2:
            raise error
        self._most_points = max(1, self._most_points // 2)
        return list(span.parts(2))
