"""Parses SHOW statements.

Source: influxql parser.go and parse_tree.go.
"""

from __future__ import annotations

import re

from resources.embedded.influxql import expressions
from resources.embedded.influxql.statements import (
    Question,
    ShowContinuousQueries,
    ShowDatabases,
    ShowGrants,
    ShowNames,
    ShowRetentionPolicies,
    ShowShardGroups,
    ShowShards,
    ShowUsers,
    Source,
)
from resources.embedded.influxql.tokens import Tokens

_EXPECTED = (
    "CONTINUOUS, DATABASES, DIAGNOSTICS, FIELD, GRANTS, MEASUREMENT, MEASUREMENTS, QUERIES,"
    " RETENTION, SERIES, SHARD, SHARDS, STATS, SUBSCRIPTIONS, TAG, USERS"
)


def show(tokens: Tokens) -> Question:
    """Parse the rest of a statement after SHOW.

    Raises:
        QueryUnparsable: the statement is not supported.
    """
    if tokens.take_if("DATABASES"):
        return ShowDatabases()
    if tokens.take_if("SHARDS"):
        return ShowShards()
    if tokens.take_if("USERS"):
        return ShowUsers()
    if tokens.take_if("SHARD"):
        tokens.expect("GROUPS")
        return ShowShardGroups()
    if tokens.take_if("CONTINUOUS"):
        tokens.expect("QUERIES")
        return ShowContinuousQueries()
    if tokens.take_if("RETENTION"):
        tokens.expect("POLICIES")
        return ShowRetentionPolicies(_database(tokens))
    if tokens.take_if("GRANTS"):
        tokens.expect("FOR")
        return ShowGrants(tokens.identifier())
    return _names(tokens)


def _database(tokens: Tokens) -> str:
    return tokens.identifier() if tokens.take_if("ON") else ""


def _names(tokens: Tokens) -> ShowNames:
    keys: tuple[str, ...] = ()
    key_pattern: re.Pattern[str] | None = None
    if tokens.take_if("MEASUREMENTS"):
        database = _database(tokens)
        sources: tuple[Source, ...] = ()
        if tokens.take_if("WITH"):
            tokens.expect("MEASUREMENT")
            regex = tokens.regex() if tokens.take_if("=~") else None
            if regex is None:
                tokens.expect("=")
            sources = (Source(regex or tokens.identifier()),)
        what = "measurements"
    else:
        if tokens.take_if("SERIES"):
            what = "series"
        elif tokens.take_if("FIELD"):
            tokens.expect("KEYS")
            what = "field keys"
        elif tokens.take_if("TAG"):
            if not tokens.next_is("KEYS", "VALUES"):
                raise tokens.unexpected("KEY", "KEYS", "VALUES")
            what = "tag keys" if tokens.take().text == "KEYS" else "tag values"
        else:
            raise tokens.unexpected(_EXPECTED)
        database = _database(tokens)
        sources = expressions.sources(tokens) if tokens.take_if("FROM") else ()
        if what == "tag values":
            keys, key_pattern = _keys(tokens)
    condition = None if what == "field keys" else expressions.condition(tokens)
    limit = tokens.integer() if tokens.take_if("LIMIT") else 0
    offset = tokens.integer() if tokens.take_if("OFFSET") else 0
    return ShowNames(what, database, sources, condition, keys, key_pattern, limit, offset)


def _keys(tokens: Tokens) -> tuple[tuple[str, ...], re.Pattern[str] | None]:
    tokens.expect("WITH", "KEY")
    if tokens.take_if("=~"):
        regex = tokens.regex()
        if regex is None:
            raise tokens.unexpected("regex")
        return (), regex
    if tokens.take_if("="):
        return (tokens.identifier(),), None
    if not tokens.take_if("IN"):
        raise tokens.unexpected("IN", "=", "=~")
    tokens.expect("(")
    keys = [tokens.identifier()]
    while tokens.take_if(","):
        keys.append(tokens.identifier())
    tokens.expect(")")
    return tuple(keys), None
