"""What a restore into a cluster is about to create, on disk before it creates it.

A run that finds the record of a killed one knows what to remove, what to finish, and what belongs
to others. It is one object in the repository. From before the first database is created
until all is done or undone it is never missing: a newer record takes its place in one step, and
only while it is the one that this run has read or written (`RecordFile`). JSON:

    {"version": 1, "cluster_id": …, "databases": {name: [shard ID, …]},
     "copies": {shard ID: [TCP address of a data node, …]}, "by_command": false,
     "proved": false, "policies": {name: [[policy, duration, shard group duration], …]},
     "sent": {shard ID: [[file, bytes, crc32], …]},
     "plan": …, "ids": [[shard ID in the backup, shard ID], …],
     "filled": {shard ID: [TCP address of a data node, …]}}

Held by tests/resources/engine/cluster/test_restore_journal.py,
tests/resources/repository/storage/test_record_file.py and
tests/wire/cluster_restore/test_left_overs.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct, field

from resources.engine.cluster.target_plan import ClusterChange
from resources.errors import BadReply, ManifestUnreadable, ShardkeeperError, TargetBusy, shown
from resources.model import ShardID
from resources.protocol.strict_json import Shape, decode_record
from resources.repository.formats.details import FileID
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import Store

PolicyShape: TypeAlias = tuple[str, int, int]
"""Name, duration and duration of shard groups, in ns; how many copies it has may still change."""

PREFIX, SUFFIX = ".shardkeeper.restore-", ".json"
VERSION = 1


class Journal(Struct, frozen=True):
    """Databases with their shards, and the copies of each shard by data node.

    Attributes:
        by_command: whether the cluster creates them, command by command: shards have owners
            from the beginning, and a database without numbers may have some already.
        proved: whether every copy was read back; then what is left to do is done, and what
            was created is not taken away any more. None: written by a version that did not say.
        policies: what each database has; empty if that is not known.
        sent: the files that a copy may hold because of us; none of those that are not known.
        plan: the restore's identity; empty: written by a version that could not go on.
        ids: which shard of the backup became which.
        filled: the nodes from which a shard was read back, and held what was sent.
    """

    cluster_id: int
    databases: Mapping[str, tuple[ShardID, ...]]
    copies: Mapping[ShardID, tuple[str, ...]]
    by_command: bool = False
    proved: bool | None = False
    policies: Mapping[str, tuple[PolicyShape, ...]] = field(
        default_factory=dict[str, tuple[PolicyShape, ...]]
    )
    sent: Mapping[ShardID, tuple[FileID, ...]] = field(
        default_factory=dict[ShardID, tuple[FileID, ...]]
    )
    plan: str = ""
    ids: Mapping[ShardID, ShardID] = field(default_factory=dict[ShardID, ShardID])
    filled: Mapping[ShardID, tuple[str, ...]] = field(
        default_factory=dict[ShardID, tuple[str, ...]]
    )

    @classmethod
    def of(
        cls, change: ClusterChange, sent: Mapping[ShardID, tuple[FileID, ...]] | None = None
    ) -> Journal:
        """Of what is to be created; `sent` by the numbers that the shards get."""
        return cls(
            change.before.cluster_id,
            {
                name: tuple(shard.id for shard in change.shards if shard.database == name)
                for name in change.databases
            },
            {shard.id: tuple(node.tcp_addr for node in shard.owners) for shard in change.shards},
            change.by_command,
            sent=sent or {},
            ids=change.ids,
        )

    @property
    def named(self) -> str:
        """What the restore creates, for messages about what is left of it."""
        noun = "database" if len(self.databases) == 1 else "databases"
        return f"{noun} {', '.join(map(shown, self.databases))}"

    def encode(self) -> bytes:
        return json.dumps(
            {
                "version": VERSION,
                "cluster_id": self.cluster_id,
                "databases": self.databases,
                "copies": self.copies,
                "by_command": self.by_command,
                "proved": self.proved,
                "policies": self.policies,
                "sent": self.sent,
                "plan": self.plan,
                "ids": sorted(self.ids.items()),
                "filled": self.filled,
            }
        ).encode()

    @classmethod
    def decode(cls, raw: bytes, name: str) -> Journal:
        """Read a record.

        Raises:
            ManifestUnreadable: it is none.
        """
        try:
            found = decode_record(_JournalShape, raw, name, version=VERSION)
        except BadReply as error:
            raise ManifestUnreadable(
                f"{name} cannot be read ({error.what}); it says what an interrupted restore has "
                "created",
                hint="look for databases whose shards have no owners (influxd-ctl show-shards), "
                "drop them, then delete the file",
            ) from None
        return cls(
            found.cluster_id,
            found.databases,
            found.copies,
            found.by_command,
            found.proved,
            found.policies,
            found.sent,
            found.plan,
            dict(found.ids),
            found.filled,
        )


class _JournalShape(Shape, frozen=True):
    version: int
    cluster_id: int
    databases: dict[str, tuple[ShardID, ...]]
    copies: dict[ShardID, tuple[str, ...]]
    by_command: bool = False
    proved: bool | None = None
    policies: dict[str, tuple[PolicyShape, ...]] = field(
        default_factory=dict[str, tuple[PolicyShape, ...]]
    )
    sent: dict[ShardID, tuple[FileID, ...]] = field(
        default_factory=dict[ShardID, tuple[FileID, ...]]
    )
    plan: str = ""
    ids: tuple[tuple[ShardID, ShardID], ...] = ()
    filled: dict[ShardID, tuple[str, ...]] = field(default_factory=dict[ShardID, tuple[str, ...]])


def unfinished_in_clusters(store: Store) -> list[str]:
    """What restores into clusters left unfinished, or are at work on, in a sentence each."""
    found: list[str] = []
    for name in store.names():
        if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
            continue
        try:
            raw = RecordFile(store, name).read()
            journal = None if raw is None else Journal.decode(raw, name)
        except ShardkeeperError as error:
            found.append(error.what)
            continue
        if journal is not None:
            found.append(
                f"{name}: a restore into cluster {journal.cluster_id} of {journal.named} is at "
                "work, or was killed; the next restore there from here goes on with it or takes it "
                "back"
            )
    return found


class JournalFile:
    """The one record of a repository about a cluster."""

    def __init__(self, store: Store, cluster_id: int) -> None:
        self.name = f"{PREFIX}{cluster_id}{SUFFIX}"
        self._file = RecordFile(store, self.name)

    def read(self) -> Journal | None:
        """The record, if there is one.

        Raises:
            ManifestUnreadable, StoreFailed: the record cannot be read.
        """
        raw = self._file.read()
        return None if raw is None else Journal.decode(raw, self.name)

    def write(self, journal: Journal) -> None:
        """Put the record there, in one step in the place of one that is; it is durable then.

        Raises:
            TargetBusy: another run has written the record since this one read or wrote it.
            StoreFailed, StoreFull: the record cannot be written.
        """
        if not self._file.put(journal.encode()):
            raise TargetBusy(
                f"{self.name} was changed by another restore into this cluster, which took the "
                "place of this one",
                hint="wait for that restore, then run this again",
            )

    def remove(self) -> None:
        """Take the record away; one that another run has written since then stays.

        Raises:
            StoreFailed: the store failed.
        """
        self._file.remove()
