"""InfluxDB 1.8.0 to 1.8.4 leave two directories in a shard at each backup of it, until a restart.

They take three snapshots where one is enough, and remove the last: `1.tmp`, `2.tmp`, hard links to
the shard's files, which keep their space when the server compacts them. An export takes one
snapshot and removes it; over all of time it sends the same bytes. So of these releases shards are
exported. What cannot be avoided: a file with deletes that are pending breaks an export off, and
the server keeps that file mapped; so such a shard is backed up after all, and named.

An export cannot be limited to newer files. One of no time at all sends tombstones and nothing
else, which is what looks are after; files that were added or compacted show in the figures.

Source: influxdb v1.8.3 tsdb/engine/tsm1/engine.go, Backup (the loop without a break), Export,
timeStampFilterTarFile.

Held by tests/faults/test_scans.py; on a real 1.8.3 by tests/faults/scans.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from resources.model import ShardID

EARLIEST_NS, LATEST_NS = -(2**63), 2**63 - 1
EACH_TIME = 2
_RELEASE = re.compile(r"v?1\.8\.[0-4](?:[^0-9.].*)?", re.DOTALL)


@dataclass(slots=True)
class Leftovers:
    """What a server's release leaves behind when its shards are read.

    Attributes:
        version: as the server says; empty if it does not.
        with_deletes: shards that cannot be exported.
        left: how many directories were left, by shard.
    """

    version: str = ""
    with_deletes: set[ShardID] = field(default_factory=set[ShardID])
    left: dict[ShardID, int] = field(default_factory=dict[ShardID, int])

    @property
    def expected(self) -> bool:
        """Whether it is one of those releases."""
        return _RELEASE.fullmatch(self.version) is not None

    def exports(self, shard_id: ShardID) -> bool:
        """Whether to export a shard rather than to back it up; counts what that leaves if not."""
        if not self.expected:
            return False
        if shard_id in self.with_deletes:
            self.left[shard_id] = self.left.get(shard_id, 0) + EACH_TIME
            return False
        return True

    def message(self) -> str:
        """What was left, in a sentence; empty: nothing."""
        if not self.left:
            return ""
        shards = ", ".join(map(str, sorted(self.left)[:10])) + (" …" if len(self.left) > 10 else "")
        return (
            f"InfluxDB {self.version} leaves directories named *.tmp behind when a shard with "
            f"pending deletes is read: {sum(self.left.values())} in shards {shards}; they go with "
            "its next start, and 1.8.5 leaves none"
        )


def range_of(since_ns: int | None) -> tuple[int, int]:
    """What to export instead of files that are newer than a time; None: of all files."""
    return (EARLIEST_NS, LATEST_NS) if since_ns is None else (EARLIEST_NS, EARLIEST_NS)
