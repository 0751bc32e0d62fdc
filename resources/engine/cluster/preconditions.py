"""The metastore of a cluster can only be set as a whole, so what others do meanwhile may be lost.

These guards look before and afterwards what it did; `setting` keeps the moment short.

Source: influxdb-cluster services/meta/store_fsm.go, applySetDataCommand.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from resources.clients.cluster import Cluster
from resources.engine.cluster.atomic_commit import WasSet, make_good
from resources.engine.cluster.metastore_reading import confirmed_reading, databases_of, nodes_of
from resources.engine.cluster.own_shards import shards_of
from resources.engine.cluster.rollback import persistently
from resources.engine.cluster.target_plan import ClusterChange
from resources.engine.events import Emit, Run, Warned
from resources.errors import RestoreFailed, WireError
from resources.model import Metastore, ShardID
from resources.protocol.commands import DropDatabase


def shards_on_disk(cluster: Cluster) -> frozenset[ShardID]:
    """Every shard on any data node, known to the metastore or not.

    Raises:
        WireError: a data node does not answer.
    """
    inventory = cluster.inventory(confirmed_reading(cluster, about=nodes_of).metastore)
    for error in inventory.silent.values():
        error.hint = error.hint or "all data nodes must be up for a restore"
        raise error
    return frozenset(inventory.copies)


def bring_index_up(cluster: Cluster) -> int:
    """Have the metastore's index be the last one that the meta nodes gave; returns it.

    An election takes indexes too, and the metastore gets them only with the next command. So that
    they do not look like a client's change, this sends a command that changes nothing: it drops a
    database that does not exist. A reading with a lower index is certainly stale.

    Raises:
        WireError: the meta nodes did not take it.
    """
    return persistently(cluster, DropDatabase(f"shardkeeper-{secrets.token_hex(16)}"))


def has_all_of(change: ClusterChange, now: Metastore) -> bool:
    """Whether a metastore has the databases of a change with all their shards."""
    there = {place.shard_id for place in now.places() if place.database in change.databases}
    names = {database.name for database in now.databases}
    return set(change.databases) <= names and change.shard_ids <= there


def check_what_was_set(cluster: Cluster, change: ClusterChange, was: WasSet, run: Run) -> None:
    """Is the metastore what was set, and was nothing lost on the way?

    There is no way to set it only if it has not changed, so this is looked at afterwards.

    Raises:
        RestoreFailed: it is not; or shards of the same numbers may have been lost.
        WireError: the leader could not be asked.
    """
    make_good(cluster, was, ours=change.databases, emit=run.emit)
    about = databases_of(change.databases)
    now = confirmed_reading(cluster, about=about, at_least=was.index, stop=run.stop)
    if not has_all_of(change, now.metastore):
        raise RestoreFailed(
            "the cluster's metastore is not what was set; another client changes it",
            hint="look at the meta nodes' logs, then run restore again",
        )
    if was.unseen and change.kept_ids and change.shards:
        # A command that was lost may have given these very numbers to other shards.
        raise RestoreFailed(
            "the meta nodes did something else while the restore began",
            hint="run restore again, when no client changes databases",
        )


def require_free_ids(cluster: Cluster, change: ClusterChange) -> None:
    """Insist that no node has a shard of a number that was just made up.

    Raises:
        RestoreFailed: one has.
        WireError: one could not be asked.
    """
    taken = sorted(change.shard_ids & shards_on_disk(cluster))
    if taken:
        raise RestoreFailed(
            f"shard {taken[0]} is on a data node already, although the restore has just chosen "
            "its number",
            hint="run restore again, when no client changes databases",
        )


def warn_of_lost_updates(
    cluster: Cluster, change: ClusterChange, before: Collection[ShardID], *, emit: Emit
) -> None:
    """Shards that were made while the metastore was replaced, and that it forgot so."""
    try:
        _, now = cluster.metastore()
        inventory = cluster.inventory(now)
    except WireError as error:
        emit(Warned(f"{error.what}; whether a change was lost was not looked at"))
        return
    known = {shard for database in now.databases for shard in shards_of(database)}
    for shard_id in sorted(inventory.copies.keys() - known - set(before) - change.shard_ids):
        if shard_id > change.before.max_shard_id:
            nodes = ", ".join(copy.node for copy in inventory.copies[shard_id])
            emit(
                Warned(
                    f"SHARD {shard_id} ON {nodes} IS IN NO DATABASE: it was created in the "
                    "very moment in which this restore changed the metastore, which lost it; "
                    "its points are on disk and no query finds them. influxd backup -host "
                    f"of that node with -shard {shard_id} saves them"
                )
            )
