"""A server's reply to InfluxQL statements: series, all at once or in pieces.

Source: influxdb query/result.go, Result; models/rows.go, Row; services/httpd/handler.go,
serveQuery, which sends one piece a line for a request with `chunked`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from resources.errors import BadReply
from resources.protocol.reply_fields import ErrorInstead
from resources.protocol.strict_json import decode_json, is_array, is_object


class Series(Struct, frozen=True):
    """One series of a query's result; times are int ns."""

    name: str
    tags: Mapping[str, str]
    columns: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]


class Piece(Struct, frozen=True):
    """The series of all results in order, and whether another piece follows."""

    series: Sequence[Series]
    more: bool


def query_results(body: bytes, *, in_pieces: bool = False) -> Piece:
    """Read a reply of /query, or one line of it.

    Wire:
        {"results":[{"statement_id":0,"series":[{"name":…,"tags":{…},"columns":[…],
        "values":[[…],…],"partial":true}],"partial":true},…]}

    Args:
        in_pieces: whether `partial` means that another piece follows; else it means lost rows.

    Raises:
        BadReply: the reply is malformed, or the server cut it off (max-row-limit).
        ErrorInstead: the server refused the request or one of the statements.
    """
    decoded = decode_json(body, "its reply")
    if not is_object(decoded):
        raise _odd("it is not an object")
    if "error" in decoded:
        raise ErrorInstead(decoded["error"])
    results = decoded.get("results", [])
    if not is_array(results):
        raise _odd("results is not an array")
    found = [one for result in results for one in _all_series(result, in_pieces=in_pieces)]
    return Piece(found, more=bool(results and results[-1].get("partial")))


def _all_series(result: object, *, in_pieces: bool) -> list[Series]:
    if not is_object(result):
        raise _odd("a result is not an object")
    if "error" in result:
        raise ErrorInstead(result["error"])
    all_series: object = result.get("series", [])
    if not is_array(all_series):
        raise _odd("series is not an array")
    if result.get("partial") and not in_pieces:
        raise _cut_off()
    return [_series(series, in_pieces=in_pieces) for series in all_series]


def _series(series: object, *, in_pieces: bool) -> Series:
    if not is_object(series):
        raise _odd("a series is not an object")
    if series.get("partial") and not in_pieces:
        raise _cut_off()
    name, tags = series.get("name", ""), series.get("tags", {})
    columns, values = series.get("columns", []), series.get("values", [])
    if (
        not isinstance(name, str)
        or not is_object(tags)
        or not is_array(columns)
        or not is_array(values)
        or not all(is_array(row) and len(row) == len(columns) for row in values)
    ):
        raise _odd("a series lacks its shape")
    return Series(
        name,
        {key: str(value) for key, value in tags.items()},
        tuple(str(column) for column in columns),
        tuple(tuple(row) for row in values),
    )


def _odd(what: str) -> BadReply:
    return BadReply(f"unexpected reply: {what}")


def _cut_off() -> BadReply:
    return BadReply("the result was cut off", hint="raise max-row-limit on the server")
