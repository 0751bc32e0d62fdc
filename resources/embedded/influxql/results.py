"""The results of statements, and their JSON.

Source: influxdb services/httpd/response_writer.go; models/rows.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct, field

from resources.protocol.times import format_time

Cell: TypeAlias = float | int | bool | str | None


class Unsigned(int):
    """A number of an unsigned field; SELECT INTO writes it as unsigned, too."""


EPOCHS_NS = {
    "n": 1,
    "ns": 1,
    "u": 1_000,
    "µ": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
"""The values of `epoch=`; any other gives RFC 3339."""


class Rows(Struct, frozen=True):
    """One series of a result."""

    columns: tuple[str, ...]
    values: list[list[Cell]]
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    timed: bool = False
    """Whether the first column has nanoseconds since 1970."""


Result: TypeAlias = Sequence[Rows] | str
"""The rows of a statement, or the text of its error."""


NOT_EXECUTED = "not executed"
"""The result of every statement after a failed one."""


def written(n: int) -> list[Rows]:
    """The result of SELECT INTO."""
    return [Rows(("time", "written"), [[0, n]], "result", timed=True)]


def reply(results: Sequence[Result], epoch: str = "") -> dict[str, Any]:
    """The JSON of a reply, statements by number; `epoch` is the request's parameter."""
    unit_ns = EPOCHS_NS.get(epoch, 0)
    reply: list[dict[str, Any]] = []
    for i, result in enumerate(results):
        one: dict[str, Any] = {"statement_id": i}
        if isinstance(result, str):
            one["error"] = result
        elif result:
            one["series"] = [_series(rows, unit_ns) for rows in result]
        reply.append(one)
    return {"results": reply}


def _series(rows: Rows, unit_ns: int) -> dict[str, Any]:
    reply: dict[str, Any] = {}
    if rows.name:
        reply["name"] = rows.name
    if rows.tags:
        reply["tags"] = dict(rows.tags)
    reply["columns"] = list(rows.columns)
    if rows.values:
        reply["values"] = [
            [_time(row[0], unit_ns), *map(_plain, row[1:])] if rows.timed else list(row)
            for row in rows.values
        ]
    return reply


def _time(time_ns: Cell, unit_ns: int) -> int | str:
    if not isinstance(time_ns, int):
        return ""
    if not unit_ns:
        return format_time(time_ns)
    # Go's division rounds towards zero.
    return time_ns // unit_ns if time_ns >= 0 else -(-time_ns // unit_ns)


def _plain(cell: Cell) -> Cell:
    """Go writes floats without a fraction like integers."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e21:
        return int(cell)
    return cell
