"""A manifest that influxd wrote, and one of ours with all that it can say."""

from __future__ import annotations

from resources.model import ShardID
from resources.repository.formats.details import (
    BackupDetails,
    FailedShard,
    FileFacts,
    ShardDetails,
    SourceInfo,
)
from resources.repository.formats.manifest import Limits, Manifest, MetaEntry, ShardEntry
from resources.repository.formats.proof import Clocks, Proof, ProvenAgain, ShardFigures

# Written by influxd 1.6.7, `influxd backup -portable -db telegraf`.
ORIGINAL = b"""{
  "meta": {
    "fileName": "20261122T094721Z.meta",
    "size": 309
  },
  "limited": false,
  "files": [
    {
      "database": "telegraf",
      "policy": "autogen",
      "shardID": 1,
      "fileName": "20261122T094721Z.s1.tar.gz",
      "size": 2560,
      "lastModified": 0
    }
  ]
}"""

PROOF = Proof(
    Clocks(1_764_000_000_123_456_789, 1_764_000_000_000_000_000, 77, "4f1c"),
    ShardFigures(1_763_000_000_000_000_000, 1, 472, 42, 3, 2, 800),
)
DETAILS = ShardDetails(
    sha256="a" * 64,
    stored_bytes=1200,
    content="b" * 64,
    checked="full",
    files=(
        FileFacts("000000001-000000001.tombstone", 49, 7),
        FileFacts("000000001-000000001.tsm", 472, 0xDEADBEEF, 6, 14, -5, 1_600_000_020_000_000_000),
    ),
    series=3,
    points=14,
    min_time_ns=-5,
    max_time_ns=1_600_000_020_000_000_000,
    tombstones=2,
    node="localhost:8088",
    read_at_ns=1_764_000_000_123_456_789,
    modified_ns=None,
    seconds=1.25,
    group_start_ns=-(1 << 62),
    group_end_ns=1_600_041_600_000_000_000,
    complete="proven",
    proof=PROOF,
)
OURS = Manifest(
    meta=MetaEntry("20261122T095100Z.meta", 309),
    files=(
        ShardEntry(
            "bäse", "sp ace", ShardID(2**53 + 1), "20261122T095100Z.s9.tar.gz", 2560, 0, DETAILS
        ),
        ShardEntry("d", "r", ShardID(790), "20261122T095100Z.s790.tar.gz", 1024, 5),
    ),
    limits=Limits("d", "r", ShardID(790)),
    limited=True,
    details=BackupDetails(
        tool_version="0.1.0",
        strategy="incremental",
        started_at_ns=1_764_000_000_000_000_000,
        source=SourceInfo("server", "localhost:8088", "1.6.7", 2**64 - 1),
        meta_sha256="c" * 64,
        unchanged=(ShardID(1), ShardID(10)),
        failed=(FailedShard(ShardID(3), "it is broken"),),
        proven_again=(ProvenAgain(ShardID(1), "d" * 64, PROOF),),
    ),
)
