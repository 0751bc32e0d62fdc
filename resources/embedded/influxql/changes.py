"""Parses statements that change something; every function may raise QueryUnparsable.

Source: influxql parser.go.
"""

from __future__ import annotations

from resources.embedded.influxql import expressions
from resources.embedded.influxql.select import select
from resources.embedded.influxql.statements import (
    AlterRetentionPolicy,
    Change,
    CreateContinuousQuery,
    CreateDatabase,
    CreateRetentionPolicy,
    CreateUser,
    DropContinuousQuery,
    DropDatabase,
    DropMeasurement,
    DropRetentionPolicy,
    DropSeries,
    DropShard,
    DropUser,
    Expression,
    Grant,
    SetAdmin,
    SetPassword,
    Source,
)
from resources.embedded.influxql.tokens import Kind, Tokens
from resources.protocol.influxql import quote_identifier

_MAX_REPLICATION = (1 << 31) - 1


def create(tokens: Tokens) -> Change:
    """Parse the rest of a statement after CREATE."""
    if tokens.take_if("DATABASE"):
        return _create_database(tokens)
    if tokens.take_if("RETENTION"):
        tokens.expect("POLICY")
        return _create_policy(tokens)
    if tokens.take_if("CONTINUOUS"):
        tokens.expect("QUERY")
        return _create_continuous_query(tokens)
    if tokens.take_if("USER"):
        name = tokens.identifier()
        tokens.expect("WITH", "PASSWORD")
        password = tokens.string()
        admin = tokens.take_if("WITH")
        if admin:
            tokens.expect("ALL", "PRIVILEGES")
        return CreateUser(name, password, admin)
    raise tokens.unexpected("CONTINUOUS", "DATABASE", "USER", "RETENTION", "SUBSCRIPTION")


def drop(tokens: Tokens) -> Change:
    """Parse the rest of a statement after DROP."""
    if tokens.take_if("DATABASE"):
        return DropDatabase(tokens.identifier())
    if tokens.take_if("RETENTION"):
        tokens.expect("POLICY")
        name = tokens.identifier()
        tokens.expect("ON")
        return DropRetentionPolicy(name, tokens.identifier())
    if tokens.take_if("CONTINUOUS"):
        tokens.expect("QUERY")
        name = tokens.identifier()
        tokens.expect("ON")
        return DropContinuousQuery(name, tokens.identifier())
    if tokens.take_if("MEASUREMENT"):
        return DropMeasurement(tokens.identifier())
    if tokens.take_if("SERIES"):
        return DropSeries(*what_and_where(tokens))
    if tokens.take_if("SHARD"):
        return DropShard(tokens.integer(high=(1 << 64) - 1))
    if tokens.take_if("USER"):
        return DropUser(tokens.identifier())
    raise tokens.unexpected(
        "CONTINUOUS, DATABASE, MEASUREMENT, RETENTION, SERIES, SHARD, SUBSCRIPTION, USER"
    )


def alter(tokens: Tokens) -> Change:
    """Parse the rest of a statement after ALTER."""
    tokens.expect("RETENTION", "POLICY")
    name = tokens.identifier()
    tokens.expect("ON")
    database = tokens.identifier()
    options = _policy_options(tokens)
    if options == (None, None, None, False):
        raise tokens.unexpected("DURATION", "REPLICATION", "SHARD", "DEFAULT")
    return AlterRetentionPolicy(name, database, *options)


def set_password(tokens: Tokens) -> Change:
    """Parse the rest of a statement after SET."""
    tokens.expect("PASSWORD", "FOR")
    name = tokens.identifier()
    tokens.expect("=")
    return SetPassword(name, tokens.string())


def grant(tokens: Tokens) -> Change:
    """Parse the rest of a statement after GRANT."""
    return _privilege(tokens, "TO", revoked=False)


def revoke(tokens: Tokens) -> Change:
    """Parse the rest of a statement after REVOKE."""
    return _privilege(tokens, "FROM", revoked=True)


def what_and_where(tokens: Tokens) -> tuple[tuple[Source, ...], Expression | None]:
    """Parse `[FROM ...] [WHERE ...]`, at least one of them."""
    if not tokens.next_is("FROM", "WHERE"):
        raise tokens.unexpected("FROM", "WHERE")
    sources = expressions.sources(tokens) if tokens.take_if("FROM") else ()
    return sources, expressions.condition(tokens)


def _create_database(tokens: Tokens) -> CreateDatabase:
    database = tokens.identifier()
    if not tokens.take_if("WITH"):
        return CreateDatabase(database)
    if not tokens.next_is("DURATION", "NAME", "REPLICATION", "SHARD"):
        raise tokens.unexpected("DURATION", "NAME", "REPLICATION", "SHARD")
    duration = tokens.duration() if tokens.take_if("DURATION") else None
    replication = _replication(tokens) if tokens.take_if("REPLICATION") else None
    shard_duration = tokens.duration() if tokens.take_if("SHARD", "DURATION") else None
    policy = tokens.identifier() if tokens.take_if("NAME") else ""
    return CreateDatabase(database, policy, duration, replication, shard_duration)


def _create_policy(tokens: Tokens) -> CreateRetentionPolicy:
    name = tokens.identifier()
    tokens.expect("ON")
    database = tokens.identifier()
    tokens.expect("DURATION")
    duration = tokens.duration()
    tokens.expect("REPLICATION")
    replication = _replication(tokens)
    shard_duration = None
    if tokens.take_if("SHARD"):
        tokens.expect("DURATION")
        shard_duration = tokens.duration()
    default = tokens.take_if("DEFAULT")
    return CreateRetentionPolicy(name, database, duration, replication, shard_duration, default)


def _policy_options(tokens: Tokens) -> tuple[int | None, int | None, int | None, bool]:
    """Parse duration, replication, shard duration and default, in any order."""
    duration = replication = shard_duration = None
    default = False
    while True:
        if duration is None and tokens.take_if("DURATION"):
            duration = tokens.duration()
        elif replication is None and tokens.take_if("REPLICATION"):
            replication = _replication(tokens)
        elif shard_duration is None and tokens.take_if("SHARD"):
            tokens.expect("DURATION")
            shard_duration = tokens.duration()
        elif not default and tokens.take_if("DEFAULT"):
            default = True
        else:
            return duration, replication, shard_duration, default


def _replication(tokens: Tokens) -> int:
    return tokens.integer(low=1, high=_MAX_REPLICATION)


def _create_continuous_query(tokens: Tokens) -> CreateContinuousQuery:
    name = tokens.identifier()
    tokens.expect("ON")
    database = tokens.identifier()
    resample = ""
    if tokens.take_if("RESAMPLE"):
        if not tokens.next_is("EVERY", "FOR"):
            raise tokens.unexpected("EVERY", "FOR")
        for word in ("EVERY", "FOR"):
            if tokens.take_if(word):
                start = tokens.at
                tokens.duration()
                resample += f" {word} {tokens.text[start : tokens.at].strip()}"
        resample = f" RESAMPLE{resample}"
    tokens.expect("BEGIN")
    start = tokens.at
    tokens.expect("SELECT")
    select(tokens, must_write=True)
    body = tokens.text[start : tokens.at].strip()
    tokens.expect("END")
    head = f"CREATE CONTINUOUS QUERY {_quoted(name)} ON {_quoted(database)}{resample}"
    return CreateContinuousQuery(name, database, f"{head} BEGIN {body} END")


def _quoted(name: str) -> str:
    tokens = Tokens(name)
    token = tokens.peek()
    return name if token.kind is Kind.IDENTIFIER and token.text == name else quote_identifier(name)


def _privilege(tokens: Tokens, preposition: str, *, revoked: bool) -> Change:
    if not tokens.next_is("READ", "WRITE", "ALL"):
        raise tokens.unexpected("READ", "WRITE", "ALL [PRIVILEGES]")
    privilege = {"READ": 1, "WRITE": 2, "ALL": 3}[tokens.take().text]
    if privilege == 3:
        tokens.take_if("PRIVILEGES")
    if tokens.take_if("ON"):
        database = tokens.identifier()
        tokens.expect(preposition)
        return Grant(tokens.identifier(), database, 0 if revoked else privilege)
    if privilege != 3 or not tokens.next_is(preposition):
        raise tokens.unexpected(*(["ON"] if privilege != 3 else ["ON", preposition]))
    tokens.take()
    return SetAdmin(tokens.identifier(), admin=not revoked)
