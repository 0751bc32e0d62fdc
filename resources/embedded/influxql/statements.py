"""Parsed statements of InfluxQL, those that read and those that change.

Names have no quotes and no escapes; "" is a missing name. Durations and times are nanoseconds.

Source: influxql ast.go; the InfluxQL specification.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from msgspec import Struct

from resources.values import repr_without

# --- expressions ----------------------------------------------------------------------------


class Reference(Struct, frozen=True):
    """A field or tag by its name."""

    name: str


class Constant(Struct, frozen=True):
    """A number, string or boolean; a duration literal is `Duration`."""

    value: float | int | str | bool


class Duration(Struct, frozen=True):
    """A duration."""

    ns: int


class Now(Struct, frozen=True):
    """now()."""


class Pattern(Struct, frozen=True):
    """A regular expression between slashes."""

    regex: re.Pattern[str]


class Call(Struct, frozen=True):
    """An aggregate of a field: count, sum, mean, min, max, first or last."""

    function: str
    argument: Reference | Wildcard


class Wildcard(Struct, frozen=True):
    """`*`, `*::field` or `*::tag`."""

    of: Literal["", "field", "tag"] = ""


class Binary(Struct, frozen=True):
    """Two operands; comparisons, AND, OR, + and -."""

    operator: str
    left: Expression
    right: Expression


Expression: TypeAlias = Reference | Constant | Duration | Now | Pattern | Call | Wildcard | Binary


class Source(Struct, frozen=True):
    """A measurement, or all that match a pattern."""

    measurement: str | re.Pattern[str]
    database: str = ""
    policy: str = ""


class Column(Struct, frozen=True):
    """A column of SELECT and its name."""

    what: Reference | Call | Wildcard
    alias: str = ""


# --- statements that read -------------------------------------------------------------------


class Select(Struct, frozen=True):
    """SELECT; with `into` it writes."""

    columns: tuple[Column, ...]
    sources: tuple[Source, ...]
    condition: Expression | None = None
    tags: tuple[str, ...] = ()
    """GROUP BY."""
    by_all_tags: bool = False
    every_ns: int = 0
    """GROUP BY time(); 0: none."""
    fill: Literal["null", "none", "previous", "linear"] | float = "null"
    descending: bool = False
    limit: int = 0
    offset: int = 0
    slimit: int = 0
    soffset: int = 0
    into: Source | None = None


class ShowDatabases(Struct, frozen=True):
    """SHOW DATABASES."""


class ShowRetentionPolicies(Struct, frozen=True):
    """SHOW RETENTION POLICIES [ON database]."""

    database: str = ""


class ShowShards(Struct, frozen=True):
    """SHOW SHARDS."""


class ShowShardGroups(Struct, frozen=True):
    """SHOW SHARD GROUPS."""


class ShowContinuousQueries(Struct, frozen=True):
    """SHOW CONTINUOUS QUERIES."""


class ShowUsers(Struct, frozen=True):
    """SHOW USERS."""


class ShowGrants(Struct, frozen=True):
    """SHOW GRANTS FOR user."""

    user: str


class ShowNames(Struct, frozen=True):
    """SHOW MEASUREMENTS, SERIES, FIELD KEYS, TAG KEYS or TAG VALUES."""

    what: Literal["measurements", "series", "field keys", "tag keys", "tag values"]
    database: str = ""
    sources: tuple[Source, ...] = ()
    condition: Expression | None = None
    keys: tuple[str, ...] = ()
    """The keys of TAG VALUES WITH KEY; empty: those that match `key_pattern`."""
    key_pattern: re.Pattern[str] | None = None
    limit: int = 0
    offset: int = 0


Question: TypeAlias = (
    Select
    | ShowDatabases
    | ShowRetentionPolicies
    | ShowShards
    | ShowShardGroups
    | ShowContinuousQueries
    | ShowUsers
    | ShowGrants
    | ShowNames
)

# --- statements that change -----------------------------------------------------------------


class CreateDatabase(Struct, frozen=True):
    """CREATE DATABASE name [WITH ...]; None: the server's default."""

    name: str
    policy: str = ""
    duration_ns: int | None = None
    replication: int | None = None
    shard_duration_ns: int | None = None


class DropDatabase(Struct, frozen=True):
    """DROP DATABASE name."""

    name: str


class CreateRetentionPolicy(Struct, frozen=True):
    """CREATE RETENTION POLICY name ON database DURATION d REPLICATION n ..."""

    name: str
    database: str
    duration_ns: int
    replication: int
    shard_duration_ns: int | None = None
    default: bool = False


class AlterRetentionPolicy(Struct, frozen=True):
    """ALTER RETENTION POLICY name ON database ...; None: unchanged."""

    name: str
    database: str
    duration_ns: int | None = None
    replication: int | None = None
    shard_duration_ns: int | None = None
    default: bool = False


class DropRetentionPolicy(Struct, frozen=True):
    """DROP RETENTION POLICY name ON database."""

    name: str
    database: str


class DropShard(Struct, frozen=True):
    """DROP SHARD id."""

    id: int


class DropMeasurement(Struct, frozen=True):
    """DROP MEASUREMENT name."""

    name: str


class DropSeries(Struct, frozen=True):
    """DROP SERIES [FROM ...] [WHERE ...]: by tags, for all time."""

    sources: tuple[Source, ...] = ()
    condition: Expression | None = None


class Delete(Struct, frozen=True):
    """DELETE [FROM ...] [WHERE ...]: by tags and time."""

    sources: tuple[Source, ...] = ()
    condition: Expression | None = None


class CreateContinuousQuery(Struct, frozen=True):
    """CREATE CONTINUOUS QUERY name ON database BEGIN ... END."""

    name: str
    database: str
    query: str
    """The whole statement, as in the metastore."""


class DropContinuousQuery(Struct, frozen=True):
    """DROP CONTINUOUS QUERY name ON database."""

    name: str
    database: str


class CreateUser(Struct, frozen=True):
    """CREATE USER name WITH PASSWORD 'p' [WITH ALL PRIVILEGES]."""

    name: str
    password: str
    admin: bool = False

    __repr__ = repr_without("password")


class SetPassword(Struct, frozen=True):
    """SET PASSWORD FOR name = 'p'."""

    name: str
    password: str

    __repr__ = repr_without("password")


class DropUser(Struct, frozen=True):
    """DROP USER name."""

    name: str


class Grant(Struct, frozen=True):
    """GRANT or REVOKE; a REVOKE is a grant of none. Privileges as in `UserPrivilege`."""

    user: str
    database: str
    privilege: int


class SetAdmin(Struct, frozen=True):
    """GRANT ALL TO user, REVOKE ALL FROM user."""

    user: str
    admin: bool


Change: TypeAlias = (
    CreateDatabase
    | DropDatabase
    | CreateRetentionPolicy
    | AlterRetentionPolicy
    | DropRetentionPolicy
    | DropShard
    | DropMeasurement
    | DropSeries
    | Delete
    | CreateContinuousQuery
    | DropContinuousQuery
    | CreateUser
    | SetPassword
    | DropUser
    | Grant
    | SetAdmin
)

Statement: TypeAlias = Question | Change
