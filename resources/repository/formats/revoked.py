r"""A manifest's name that was taken so that the run of that backup can never commit it.

A store without a rename has no other fence. The run that takes the lock over creates this under the
name that the earlier run's manifest would get, and only one of the two can have the name
(docs/decisions/0019-object-stores.md). It is no manifest: listings leave it out.

To the original tools, which read every `*.manifest` of a directory that such a bucket was copied
into, it is a manifest without a metastore and without shards, which they pass over:

    {"meta":{"fileName":"","size":0},"limited":false,"files":[],"shardkeeper":{…}}\n

Source: influxd cmd/influxd/backup_util/backup_util.go, LoadIncremental.
"""

from __future__ import annotations

REVOKED = (
    b'{"meta":{"fileName":"","size":0},"limited":false,"files":[],"shardkeeper":{"revoked":'
    b'"no backup of this name exists: its run was ended before it was complete"}}\n'
)


def may_be_revoked(name: str, size_bytes: int) -> bool:
    """Whether an object of this name and size has to be read to know."""
    return size_bytes == len(REVOKED) and name.endswith(".manifest")
