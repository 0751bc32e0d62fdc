"""Parses SELECT.

Source: influxql parser.go, parseSelectStatement.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from resources.embedded.influxql import expressions
from resources.embedded.influxql.statements import (
    Call,
    Column,
    Reference,
    Select,
    Wildcard,
)
from resources.embedded.influxql.tokens import Kind, Tokens
from resources.embedded.server_errors import QueryUnparsable

Fill = Literal["null", "none", "previous", "linear"] | float


class _Groups(Struct, frozen=True):
    tags: tuple[str, ...] = ()
    by_all_tags: bool = False
    every_ns: int = 0
    fill: Fill = "null"


def select(tokens: Tokens, *, must_write: bool = False) -> Select:
    """Parse the rest of a statement after SELECT; continuous queries must have INTO.

    Raises:
        QueryUnparsable: the statement is malformed or not supported.
    """
    columns = [_column(tokens)]
    while tokens.take_if(","):
        columns.append(_column(tokens))
    into = expressions.source(tokens, patterns=False) if tokens.take_if("INTO") else None
    if must_write and into is None:
        raise tokens.unexpected("INTO")
    tokens.expect("FROM")
    sources = expressions.sources(tokens)
    condition = expressions.condition(tokens)
    groups = _groups(tokens) if tokens.take_if("GROUP", "BY") else _Groups()
    descending = _order(tokens)
    numbers = [
        tokens.integer() if tokens.take_if(word) else 0
        for word in ("LIMIT", "OFFSET", "SLIMIT", "SOFFSET")
    ]
    limit, offset, slimit, soffset = numbers
    return Select(
        tuple(columns),
        sources,
        condition,
        groups.tags,
        groups.by_all_tags,
        groups.every_ns,
        groups.fill,
        descending,
        limit,
        offset,
        slimit,
        soffset,
        into,
    )


def _column(tokens: Tokens) -> Column:
    what = expressions.expression(tokens, least=4)
    if not isinstance(what, Reference | Call | Wildcard):
        raise QueryUnparsable("error parsing query: only fields and calls can be selected here")
    alias = tokens.identifier() if tokens.take_if("AS") else ""
    return Column(what, alias)


def _groups(tokens: Tokens) -> _Groups:
    tags: list[str] = []
    by_all_tags, every_ns = False, 0
    while True:
        if tokens.take_if("*"):
            by_all_tags = True
        else:
            name = tokens.identifier(expected=", ".join(expressions.OPERAND))
            if name.lower() == "time" and tokens.take_if("("):
                every_ns = tokens.duration()
                tokens.expect(")")
            else:
                tags.append(name)
        if not tokens.take_if(","):
            break
    fill: Fill = "null"
    token = tokens.peek()
    if token.kind is Kind.IDENTIFIER and token.text.lower() == "fill":
        tokens.take()
        fill = _fill(tokens)
    return _Groups(tuple(dict.fromkeys(tags)), by_all_tags, every_ns, fill)


def _fill(tokens: Tokens) -> Fill:
    tokens.expect("(")
    negative = tokens.take_if("-")
    token = tokens.take()
    tokens.expect(")")
    if token.kind in (Kind.INTEGER, Kind.NUMBER):
        return -float(token.text) if negative else float(token.text)
    match token.text.lower():
        case "null" | "none" | "previous" | "linear" as word:
            return word
        case _:
            raise QueryUnparsable("error parsing query: fill requires an argument")


def _order(tokens: Tokens) -> bool:
    if not tokens.take_if("ORDER", "BY"):
        return False
    if tokens.take_if("DESC"):
        return True
    if tokens.take_if("ASC"):
        return False
    if tokens.identifier(expected="identifier, ASC, DESC") != "time":
        raise QueryUnparsable("error parsing query: only ORDER BY time supported at this time")
    if tokens.take_if("DESC"):
        return True
    tokens.take_if("ASC")
    return False
