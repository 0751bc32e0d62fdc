"""InfluxDB 1.8.0 to 1.8.4 leave two directories in a shard at each backup of it, until a restart.

These releases take three snapshots and remove only the last. `1.tmp` and `2.tmp` stay: hard links
to the shard's files, which keep their space when the server compacts them. An export takes one
snapshot and removes it; over all of time it sends the same bytes. So shards of these releases are
exported. One case remains: a file with pending deletes makes the server break an export off and
keep that file mapped. Such a shard is backed up as usual, and the run names it.

An export cannot be limited to newer files. An export of an empty time range sends tombstones
alone, which are what a scan needs; the server's figures show files that were added or compacted.

Source: influxdb v1.8.3 tsdb/engine/tsm1/engine.go, Backup (the loop without a break), Export,
timeStampFilterTarFile.

Held by tests/faults/test_scans.py; on a real 1.8.3 by tests/faults/scans.py.
"""

from __future__ import annotations

import re

from msgspec import Struct, field

from resources.model import ShardID

EARLIEST_NS, LATEST_NS = -(2**63), 2**63 - 1
EACH_TIME = 2
_RELEASE = re.compile(r"v?1\.8\.[0-4](?:[^0-9.].*)?", re.DOTALL)


class Leftovers(Struct):
    """The directories that a server's release leaves behind when its shards are read.

    Attributes:
        version: as the server reports it; empty if it does not.
        expected: whether the release is one of those.
        with_deletes: shards that cannot be exported.
        left: how many directories were left, by shard.
    """

    version: str = ""
    expected: bool = False
    with_deletes: set[ShardID] = field(default_factory=set[ShardID])
    left: dict[ShardID, int] = field(default_factory=dict[ShardID, int])

    def learn(self, version: str) -> None:
        """Note the server's version, as it reports it; empty if it does not."""
        self.version = version
        self.expected = _RELEASE.fullmatch(version) is not None

    def exports(self, shard_id: ShardID) -> bool:
        """Whether to export a shard instead of backing it up; if not, counts what that leaves."""
        if not self.expected:
            return False
        if shard_id in self.with_deletes:
            self.left[shard_id] = self.left.get(shard_id, 0) + EACH_TIME
            return False
        return True

    def message(self) -> str:
        """One sentence about the directories that were left; empty: none were."""
        if not self.left:
            return ""
        shards = ", ".join(map(str, sorted(self.left)[:10])) + (" …" if len(self.left) > 10 else "")
        return (
            f"InfluxDB {self.version} leaves directories named *.tmp behind when a shard with "
            f"pending deletes is read: {sum(self.left.values())} in shards {shards}; its next "
            "start removes them, and 1.8.5 leaves none"
        )


def range_of(since_ns: int | None) -> tuple[int, int]:
    """The time range to export in place of files newer than `since_ns`; None: all files."""
    return (EARLIEST_NS, LATEST_NS) if since_ns is None else (EARLIEST_NS, EARLIEST_NS)
