"""Partition keys: a partition is one shard, with a name that users can read and find.

    telegraf/autogen/4        database, retention policy, shard id
    a%2Fb/1%7C2/17            a/b and 1|2: characters with a meaning in Dagster are escaped

A server uses no shard id twice, so a database that is dropped and created again gets new
partitions, and those of the old one keep their history.
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
"""Our own two; those of multi-dimensional keys; those of lists, ranges and wildcards in forms."""


@dataclass(frozen=True, slots=True)
class ShardKey:
    """A parsed partition key."""

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
            UsageError: it is not a shard's key; in the UI a partition of any name can be added.
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
        hint="partitions are named database/policy/shard id; the next scan (meta_snapshot) adds "
        "those of all shards, and removes this one",
    )
