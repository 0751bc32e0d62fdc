"""The record of a restore into a single server, as it is stored: one JSON object.

    {"version": 1, "cluster_id": …, "address": …, "server_started_ns": …, "complete": false,
     "taken_back": false, "life": …,
     "plan": …, "proved": {shard ID: when the server had started, in ns},
     "databases": {name: {"shards": {shard ID: [[file, bytes, CRC-32], …]} or null,
                          "ids": [[shard ID in the backup, shard ID], …],
                          "groups": [[policy, start in ns, end in ns, number of shards], …]}}}

`shards` is null until the server has said what their numbers are. `plan` is the restore's identity;
`proved` are the shards that were read back and held what was sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from msgspec import Struct, field

from resources.errors import BadReply, ManifestUnreadable
from resources.model import ShardID
from resources.protocol.strict_json import Shape, decode_record
from resources.repository.formats.details import FileID

VERSION = 1

Group = tuple[str, int, int, int]


class CreatedDatabase(Struct, frozen=True):
    """A database that is created, or about to be."""

    groups: tuple[Group, ...]
    shards: Mapping[ShardID, frozenset[FileID]] | None = None
    """The files that each of its shards gets; None: their numbers are not known."""
    ids: Mapping[ShardID, ShardID] = field(default_factory=dict[ShardID, ShardID])
    """Which shard of the backup became which."""


class ServerJournal(Struct, frozen=True):
    """The record of one restore."""

    cluster_id: int
    address: str
    server_started_ns: int | None
    """When the server began to count what is written to it."""
    databases: Mapping[str, CreatedDatabase] = field(default_factory=dict[str, CreatedDatabase])
    complete: bool = False
    taken_back: bool = False
    """Whether another run has begun to take back what it created."""
    plan: str = ""
    """The identity of the restore; empty: written by a version that could not go on."""
    proved: Mapping[ShardID, int] = field(default_factory=dict[ShardID, int])
    """Shards that hold what was sent; when the server had started that they were read back from."""
    life: str = ""
    """Drawn by each run that goes on, so that one that stood still writes nothing more."""

    def encode(self) -> bytes:
        databases = {
            name: {
                "groups": made.groups,
                "ids": sorted(made.ids.items()),
                "shards": None
                if made.shards is None
                else {shard: sorted(files) for shard, files in made.shards.items()},
            }
            for name, made in self.databases.items()
        }
        document = {"version": VERSION, "cluster_id": self.cluster_id, "address": self.address}
        document |= {"server_started_ns": self.server_started_ns, "complete": self.complete}
        document |= {"taken_back": self.taken_back}
        document |= {"plan": self.plan, "proved": dict(self.proved), "life": self.life}
        return json.dumps(document | {"databases": databases}).encode()

    @classmethod
    def decode(cls, raw: bytes, name: str) -> ServerJournal:
        """Read a record.

        Raises:
            ManifestUnreadable: it is none.
        """
        try:
            found = decode_record(_RecordShape, raw, name, version=VERSION)
        except BadReply as error:
            raise ManifestUnreadable(
                f"{name} cannot be read ({error.what}); it says what an interrupted restore has "
                "created",
                hint="look for databases that are not complete, drop them, then delete the file",
            ) from None
        return cls(
            found.cluster_id,
            found.address,
            found.server_started_ns,
            {
                key: CreatedDatabase(made.groups, made.shards, dict(made.ids))
                for key, made in found.databases.items()
            },
            found.complete,
            found.taken_back,
            found.plan,
            found.proved,
            found.life,
        )


class _CreatedShape(Shape, frozen=True):
    groups: tuple[Group, ...]
    shards: dict[ShardID, frozenset[FileID]] | None
    ids: tuple[tuple[ShardID, ShardID], ...] = ()


class _RecordShape(Shape, frozen=True):
    version: int
    cluster_id: int
    address: str
    server_started_ns: int | None
    databases: dict[str, _CreatedShape]
    complete: bool
    taken_back: bool = False
    plan: str = ""
    proved: dict[ShardID, int] = field(default_factory=dict[ShardID, int])
    life: str = ""
