"""The metastore of a cluster can only be set as a whole, so what others do meanwhile may be lost.

These guards keep the moment short, and look afterwards what it did.

Source: influxdb-cluster services/meta/store_fsm.go, applySetDataCommand.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection
from contextlib import suppress

from resources.clients.cluster import Cluster
from resources.engine.cluster.rollback import persistently, shards_of
from resources.engine.cluster.target_plan import ClusterChange, same_but_for_time
from resources.engine.events import Tell, Warned
from resources.errors import RestoreFailed, UnknownOutcome, WireError
from resources.model import ShardID
from resources.protocol.commands import DropDatabase, SetData, nothing_between
from resources.protocol.meta import decode_metastore

LOOKS = 10
LOOK_EVERY_S = 1.0


def shards_on_disk(cluster: Cluster) -> frozenset[ShardID]:
    """Every shard on any data node, known to the metastore or not.

    Raises:
        WireError: a data node does not answer.
    """
    _, now = cluster.metastore()
    holdings = cluster.holdings(now)
    for error in holdings.silent.values():
        error.hint = error.hint or "all data nodes must be up for a restore"
        raise error
    return frozenset(holdings.copies)


def bring_index_up(cluster: Cluster) -> None:
    """Have the metastore's index be the last one that the meta nodes gave.

    An election takes indexes too, and the metastore learns of them only with the next command.
    So that they are not taken for somebody's change, here is one that changes nothing: it drops
    a database that nobody has.

    Raises:
        WireError: the meta nodes did not take it.
    """
    persistently(cluster, DropDatabase(f"shardkeeper-{secrets.token_hex(16)}"))


def set_metastore(cluster: Cluster, change: ClusterChange, stop: threading.Event) -> int:
    """Set the metastore; returns its index then, or 0 if it was set and nobody told it.

    Raises:
        UnknownOutcome: it may be set, or not, or will be.
        WireError, PlanError: it was not set.
    """
    try:
        return cluster.meta.execute(SetData(change.meta))
    except UnknownOutcome as error:
        return _was_it_set(cluster, change, error, stop)


def _was_it_set(
    cluster: Cluster, change: ClusterChange, error: UnknownOutcome, stop: threading.Event
) -> int:
    """Wait for a command that may have been lost to show; its index is not known then."""
    for _ in range(LOOKS):
        with suppress(WireError):
            _, now = cluster.metastore()
            if set(change.databases) <= {database.name for database in now.databases}:
                return 0
        stop.wait(LOOK_EVERY_S)
    raise error


def look_at_what_was_set(
    cluster: Cluster, change: ClusterChange, index: int, *, tell: Tell
) -> None:
    """Is the metastore what was set, and was nothing lost on the way?

    There is no way to set it only if it has not changed, so this is looked at afterwards.

    Raises:
        RestoreFailed: it is not; or shards of the same numbers may have been lost.
        WireError: the leader could not be asked.
    """
    _, now = cluster.metastore()
    if not same_but_for_time(now, decode_metastore(change.meta)):
        there = {p.shard_id for p in now.places() if p.database in change.databases}
        if not change.shard_ids <= there:
            raise RestoreFailed(
                "the cluster's metastore is not what was set; somebody else changes it",
                hint="look at the meta nodes' logs, then run restore again",
            )
    if nothing_between(change.before.index, index):
        return
    if change.kept_ids and change.shards:
        # A command that was lost may have given these very numbers to other shards.
        raise RestoreFailed(
            "the meta nodes did something else while the restore began",
            hint="run restore again, when nobody changes databases",
        )
    warn_of_gap(change.before.index, index, tell=tell)


def warn_of_gap(before_index: int, index: int, *, tell: Tell) -> None:
    """Say so if another command may have come between a look and what was set, and be lost.

    Args:
        index: of what was set; 0: not known.
    """
    if nothing_between(before_index, index):
        return
    tell(
        Warned(
            f"between indexes {before_index} and {index} another change of the "
            "metastore may have been lost (or the meta nodes chose a leader, which is "
            "harmless): if somebody changed a database, a user or a node just now, look "
            "whether it is there"
        )
    )


def refuse_taken_ids(cluster: Cluster, change: ClusterChange) -> None:
    """Insist that no node has a shard of a number that was just made up.

    Raises:
        RestoreFailed: one has.
        WireError: one could not be asked.
    """
    taken = sorted(change.shard_ids & shards_on_disk(cluster))
    if taken:
        raise RestoreFailed(
            f"shard {taken[0]} is on a data node already, though it was just made up",
            hint="run restore again, when nobody changes databases",
        )


def warn_of_casualties(
    cluster: Cluster, change: ClusterChange, before: Collection[ShardID], *, tell: Tell
) -> None:
    """Shards that were made while the metastore was replaced, and that it forgot so."""
    try:
        _, now = cluster.metastore()
        holdings = cluster.holdings(now)
    except WireError as error:
        tell(Warned(f"{error.what}; whether a change was lost was not looked at"))
        return
    known = {shard for database in now.databases for shard in shards_of(database)}
    for shard_id in sorted(holdings.copies.keys() - known - set(before) - change.shard_ids):
        if shard_id > change.before.max_shard_id:
            nodes = ", ".join(copy.node for copy in holdings.copies[shard_id])
            tell(
                Warned(
                    f"SHARD {shard_id} ON {nodes} IS IN NO DATABASE: it was created in the "
                    "very moment in which this restore changed the metastore, which lost it; "
                    "its points are on disk and no query finds them. influxd backup -host "
                    f"of that node with -shard {shard_id} saves them"
                )
            )
