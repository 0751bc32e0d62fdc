"""What a partition is: one shard, named so that people can read it and find it.

    telegraf/autogen/4        database, retention policy, shard id
    a%2Fb/1%7C2/17            a/b and 1|2: what Dagster or its forms give a meaning is escaped

Shard ids are never used twice by one server, so a database that is dropped and created anew
gets new partitions, and those of the old one keep their history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self
from urllib.parse import unquote_to_bytes

from resources.errors import UsageError, shown
from resources.model import ShardID, ShardLocation, ShardPlace
from resources.repository.formats.names import parse_shard_id

ESCAPED = frozenset('%/|[],*"\\')
"""Our own two; Dagster's multi-dimensional keys; its lists, ranges and wildcards in forms."""


@dataclass(frozen=True, slots=True)
class ShardKey:
    """A partition key, taken apart."""

    database: str
    policy: str
    shard_id: ShardID

    @property
    def location(self) -> ShardLocation:
        return ShardLocation(self.database, self.policy, self.shard_id)

    @classmethod
    def of(cls, place: ShardPlace) -> Self:
        return cls(place.database, place.policy, place.shard_id)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a partition key.

        Raises:
            UsageError: it is none; the UI lets anyone add a partition of any name.
        """
        parts = text.split("/")
        shard_id = parse_shard_id(parts[-1])
        if len(parts) != 3 or shard_id is None:
            raise _refusal(text)
        try:
            key = cls(_unescaped(parts[0]), _unescaped(parts[1]), shard_id)
        except UnicodeDecodeError:
            raise _refusal(text) from None
        if str(key) != text:  # two spellings of one shard would be two partitions
            raise _refusal(text)
        return key

    def __str__(self) -> str:
        return f"{_escaped(self.database)}/{_escaped(self.policy)}/{self.shard_id}"


@lru_cache(maxsize=4096)
def _escaped(name: str) -> str:
    return "".join(_percent(c) if _needs_escape(name, at) else c for at, c in enumerate(name))


def _needs_escape(name: str, at: int) -> bool:
    c = name[at]
    if c in ESCAPED or not c.isprintable():
        return True
    if c == " ":  # forms trim spaces, and browsers show two as one
        return at in (0, len(name) - 1) or name[at - 1] == " "
    return c == "." and at > 0 and name[at - 1] == "."  # `...` is a range to Dagster


def _percent(c: str) -> str:
    return "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))


def _unescaped(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogatepass")


def _refusal(text: str) -> UsageError:
    return UsageError(
        f"{shown(text)} is no shard's partition",
        hint="partitions are called database/policy/shard id and are added by a look at the "
        "server (meta_snapshot); delete this one",
    )
