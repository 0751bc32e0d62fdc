"""Whether a database that a restore has created is still that restore's alone; nothing is touched.

Users may have dropped it and made another of its name, changed it, or written to it as soon as
its shards had owners. What was acknowledged to them is never ours to drop: where it cannot be
known that a copy holds only what was sent, it counts as more.

Held by tests/wire/cluster_restore/test_left_overs.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.cluster.restore_journal import Journal
from resources.engine.restore.read_back import files_there
from resources.engine.restore.target import NotOurs
from resources.errors import WireError
from resources.model import DatabaseInfo, Metastore, ShardID
from resources.repository.formats.details import FileID

MAX_ATTEMPTS = 3
COPIES_AT_ONCE = 4


def shards_of(database: DatabaseInfo) -> set[ShardID]:
    """Those of deleted groups too."""
    groups = (group for rp in database.retention_policies for group in rp.shard_groups)
    return {shard.id for group in groups for shard in group.shards}


def not_ours(
    cluster: Cluster, now: Metastore, there: DatabaseInfo, journal: Journal
) -> NotOurs | None:
    """Why a database must not be dropped; None if it is what the record says, and no more.

    Raises:
        WireError: the cluster could not be asked.
    """
    ids, shards = journal.databases[there.name], shards_of(there)
    announced = journal.by_command and not ids
    # A database that should hold shards and has none is another client's, of the same name.
    if not announced and (not shards <= set(ids) or bool(shards) != bool(ids)):
        return NotOurs("it holds shards that are not ours")
    if why := changed_by_others(now, there, journal):
        return NotOurs(why)
    owned = {place.shard_id for place in now.places() if place.shard.owners} & shards
    if not owned:
        return None  # no client can have written to it
    if not journal.by_command and journal.proved is False:
        return NotOurs("its shards have owners, which this restore did not give them")
    return more_in_cluster(
        cluster, now, {shard_id: journal.sent.get(shard_id, ()) for shard_id in shards}
    )


def changed_by_others(now: Metastore, there: DatabaseInfo, journal: Journal) -> str:
    """What other clients changed in a database that the record names; empty if nothing."""
    return _changed(there, journal) or added_by_others(now, there)


def _changed(there: DatabaseInfo, journal: Journal) -> str:
    known = set(journal.policies.get(there.name, ()))
    shapes = {(r.name, r.duration_ns, r.shard_group_duration_ns) for r in there.retention_policies}
    if known and not shapes <= known:
        return "another client has changed its retention policies"
    return ""


def added_by_others(now: Metastore, there: DatabaseInfo) -> str:
    """What other clients created in a database; a restore creates its queries at its end."""
    if there.continuous_queries:
        return "another client has created continuous queries in it"
    if any(rp.subscriptions for rp in there.retention_policies):
        return "another client has created subscriptions to it"
    if any(grant.database == there.name for user in now.users for grant in user.privileges):
        return "another client has granted rights on it"
    return ""


def more_in_cluster(
    cluster: Cluster, now: Metastore, sent: Mapping[ShardID, Collection[FileID]]
) -> NotOurs | None:
    """Why shards are more than what was sent to them; None if no copy holds anything else.

    Raises:
        WireError: the cluster could not be asked.
    """
    inventory = cluster.inventory(now)
    for error in inventory.silent.values():
        return NotOurs(f"whether it holds more than was sent is not known: {error.what}", False)
    copies = [
        (copy.node, shard_id)
        for shard_id in sorted(sent)
        for copy in inventory.copies.get(shard_id, ())
    ]

    def ask(copy: tuple[str, ShardID]) -> NotOurs | None:
        node, shard_id = copy
        return more_than_sent(cluster, node, shard_id, sent[shard_id])

    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        return next((why for why in pool.map(ask, copies) if why), None)


def more_than_sent(
    cluster: Cluster, node: str, shard_id: ShardID, sent: Collection[FileID]
) -> NotOurs | None:
    """Why a copy must not be removed; None if it holds files that were sent, and no others.

    A busy node leaves out what is in its cache, so files alone prove nothing: their bytes must
    be all that the node says it has on disk, but for what created it in its write-ahead log.

    Source: influxdb 1.8, tsdb/engine/tsm1/engine.go, "Snapshotter busy" and DiskSize.
    """
    where = f"shard {shard_id} on {node}"
    found: NotOurs | None = None
    for _ in range(MAX_ATTEMPTS):
        try:
            if shard_id not in cluster.coordinator(node).list_shards():
                return None
            files = files_there(Server(cluster.snapshotter(node), None), shard_id)
            status = cluster.coordinator(node).list_shards().get(shard_id)
        except WireError as error:
            why = f"whether {where} holds more than was sent is not known: {error.what}"
            found = NotOurs(why, known=False)
            continue
        found = NotOurs(f"{where} holds more than was sent")
        if not {file.id for file in files} <= set(sent):
            return found
        if status is None or status.has_only(sum(file.size_bytes for file in files)):
            return None
    return found
