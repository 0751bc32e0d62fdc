"""Parsed statements of InfluxQL, those that read and those that change.

Names have no quotes and no escapes; "" is a missing name. Durations and times are nanoseconds.

Source: influxql ast.go; the InfluxQL specification.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

# --- expressions ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reference:
    """A field or tag by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, string or boolean; a duration literal is `Duration`."""

    value: float | int | str | bool


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration."""

    ns: int


@dataclass(frozen=True, slots=True)
class Now:
    """now()."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression between slashes."""

    regex: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Call:
    """An aggregate of a field: count, sum, mean, min, max, first or last."""

    function: str
    argument: Reference | Wildcard


@dataclass(frozen=True, slots=True)
class Wildcard:
    """`*`, `*::field` or `*::tag`."""

    of: Literal["", "field", "tag"] = ""


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands; comparisons, AND, OR, + and -."""

    operator: str
    left: Expression
    right: Expression


Expression: TypeAlias = Reference | Constant | Duration | Now | Pattern | Call | Wildcard | Binary


@dataclass(frozen=True, slots=True)
class Source:
    """A measurement, or all that match a pattern."""

    measurement: str | re.Pattern[str]
    database: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of SELECT and its name."""

    what: Reference | Call | Wildcard
    alias: str = ""


# --- statements that read -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Select:
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


@dataclass(frozen=True, slots=True)
class ShowDatabases:
    """SHOW DATABASES."""


@dataclass(frozen=True, slots=True)
class ShowRetentionPolicies:
    """SHOW RETENTION POLICIES [ON database]."""

    database: str = ""


@dataclass(frozen=True, slots=True)
class ShowShards:
    """SHOW SHARDS."""


@dataclass(frozen=True, slots=True)
class ShowShardGroups:
    """SHOW SHARD GROUPS."""


@dataclass(frozen=True, slots=True)
class ShowContinuousQueries:
    """SHOW CONTINUOUS QUERIES."""


@dataclass(frozen=True, slots=True)
class ShowUsers:
    """SHOW USERS."""


@dataclass(frozen=True, slots=True)
class ShowGrants:
    """SHOW GRANTS FOR user."""

    user: str


@dataclass(frozen=True, slots=True)
class ShowNames:
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


@dataclass(frozen=True, slots=True)
class CreateDatabase:
    """CREATE DATABASE name [WITH ...]; None: the server's default."""

    name: str
    policy: str = ""
    duration_ns: int | None = None
    replication: int | None = None
    shard_duration_ns: int | None = None


@dataclass(frozen=True, slots=True)
class DropDatabase:
    """DROP DATABASE name."""

    name: str


@dataclass(frozen=True, slots=True)
class CreateRetentionPolicy:
    """CREATE RETENTION POLICY name ON database DURATION d REPLICATION n ..."""

    name: str
    database: str
    duration_ns: int
    replication: int
    shard_duration_ns: int | None = None
    default: bool = False


@dataclass(frozen=True, slots=True)
class AlterRetentionPolicy:
    """ALTER RETENTION POLICY name ON database ...; None: unchanged."""

    name: str
    database: str
    duration_ns: int | None = None
    replication: int | None = None
    shard_duration_ns: int | None = None
    default: bool = False


@dataclass(frozen=True, slots=True)
class DropRetentionPolicy:
    """DROP RETENTION POLICY name ON database."""

    name: str
    database: str


@dataclass(frozen=True, slots=True)
class DropShard:
    """DROP SHARD id."""

    id: int


@dataclass(frozen=True, slots=True)
class DropMeasurement:
    """DROP MEASUREMENT name."""

    name: str


@dataclass(frozen=True, slots=True)
class DropSeries:
    """DROP SERIES [FROM ...] [WHERE ...]: by tags, for all time."""

    sources: tuple[Source, ...] = ()
    condition: Expression | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE [FROM ...] [WHERE ...]: by tags and time."""

    sources: tuple[Source, ...] = ()
    condition: Expression | None = None


@dataclass(frozen=True, slots=True)
class CreateContinuousQuery:
    """CREATE CONTINUOUS QUERY name ON database BEGIN ... END."""

    name: str
    database: str
    query: str
    """The whole statement, as in the metastore."""


@dataclass(frozen=True, slots=True)
class DropContinuousQuery:
    """DROP CONTINUOUS QUERY name ON database."""

    name: str
    database: str


@dataclass(frozen=True, slots=True)
class CreateUser:
    """CREATE USER name WITH PASSWORD 'p' [WITH ALL PRIVILEGES]."""

    name: str
    password: str = field(repr=False)
    admin: bool = False


@dataclass(frozen=True, slots=True)
class SetPassword:
    """SET PASSWORD FOR name = 'p'."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropUser:
    """DROP USER name."""

    name: str


@dataclass(frozen=True, slots=True)
class Grant:
    """GRANT or REVOKE; a REVOKE is a grant of none. Privileges as in `UserPrivilege`."""

    user: str
    database: str
    privilege: int


@dataclass(frozen=True, slots=True)
class SetAdmin:
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
