"""Which shard of the target takes the points of one archive (`-newshard`); nothing is touched.

Series are dealt to the shards of a group by a hash, and groups are found by time. So the shard
must be of the right database and policy, of a group that covers the whole time of the old one,
and at a place in its group that the hash gives to the same series: else queries or later writes
would look for the points elsewhere.

Source: influxdb-cluster services/meta/data.go, ShardFor: the hash of the series key modulo the
number of shards.
"""

from __future__ import annotations

from resources.engine.restore.target_state import TargetState
from resources.errors import TargetUnsuitable, WouldExpire, shown
from resources.model import Metastore, ShardGroupInfo, ShardID, ShardPlace
from resources.protocol.times import format_time


def find_shard(
    target: TargetState,
    shard_id: ShardID,
    source: ShardPlace,
    *,
    database: str,
    policy: str,
) -> ShardPlace:
    """Find a shard of the target, and require that it has a place for what `source` held.

    Another step checks that it is empty.

    Args:
        source: the shard in the backup.
        database, policy: where its points are to be.

    Raises:
        TargetUnsuitable: the target has no such shard, or the shard belongs to something else,
            is for another time, or has no owner.
        WouldExpire: the target's retention would delete it at once.
    """
    place = next((place for place in target.metastore.places() if place.shard_id == shard_id), None)
    if place is None:
        raise TargetUnsuitable(
            f"{target.name} has no shard {shard_id}",
            hint="-newshard takes the number of a shard that is there; influxd-ctl show-shards "
            "lists them",
        )
    if (place.database, place.policy) != (database, policy):
        raise TargetUnsuitable(
            f"shard {shard_id} of {target.name} belongs to {shown(place.database)}."
            f"{shown(place.policy)}, not to {shown(database)}.{shown(policy)}",
            hint="another database is named with -db and -newdb, another policy with -rp and "
            "-newrp",
        )
    _check_time(place, source, target)
    _check_position(place, source, target)
    _check_retention(place, target)
    if target.metastore.data_nodes:
        _check_owners(place, target)
    return place


def _check_time(place: ShardPlace, source: ShardPlace, target: TargetState) -> None:
    here, there = place.group, source.group
    if here.start_time_ns <= there.start_time_ns and _end_ns(there) <= _end_ns(here):
        return
    raise TargetUnsuitable(
        f"shard {place.shard_id} of {target.name} is for points from {_times(here)}, and shard "
        f"{source.shard_id} holds points from {_times(there)}",
        hint="influxd-ctl show-shards lists the time of each shard; shardkeeper merge chooses "
        "shards by time itself",
    )


def _end_ns(group: ShardGroupInfo) -> int:
    return group.end_time_ns if group.truncated_at_ns is None else group.truncated_at_ns


def _times(group: ShardGroupInfo) -> str:
    return f"{format_time(group.start_time_ns)} to {format_time(_end_ns(group))}"


def _check_position(place: ShardPlace, source: ShardPlace, target: TargetState) -> None:
    """The hash modulo few shards follows from the one modulo many if these are a multiple."""
    at, n = _position(place)
    old_at, old_n = _position(source)
    if old_n % n == 0 and old_at % n == at:
        return
    raise TargetUnsuitable(
        f"shard {place.shard_id} of {target.name} is number {at + 1} of {n} in its shard group, "
        f"and shard {source.shard_id} was number {old_at + 1} of {old_n}: each series belongs to "
        "one of these numbers",
        hint="choose the shard of the same number in its group, or use shardkeeper merge, which "
        "writes each series to its shard",
    )


def _position(place: ShardPlace) -> tuple[int, int]:
    ids = [shard.id for shard in place.group.shards]
    return ids.index(place.shard_id), len(ids)


def _check_retention(place: ShardPlace, target: TargetState) -> None:
    duration_ns = kept_for_ns(target.metastore, place)
    if duration_ns and place.group.end_time_ns + duration_ns < target.now_ns:
        raise WouldExpire(
            f"shard {place.shard_id} of {target.name} is older than {shown(place.database)}."
            f"{shown(place.policy)} keeps points; it would be deleted within minutes",
            hint="ALTER RETENTION POLICY on the target keeps points longer",
        )


def kept_for_ns(target: Metastore, place: ShardPlace) -> int:
    """How long the target's policy keeps points; 0 is for ever."""
    database = target.database(place.database)
    policy = database.retention_policy(place.policy) if database else None
    return policy.duration_ns if policy else 0


def _check_owners(place: ShardPlace, target: TargetState) -> None:
    members = {node.id for node in target.metastore.data_nodes}
    owners = {owner.node_id for owner in place.shard.owners}
    if not owners:
        raise TargetUnsuitable(
            f"shard {place.shard_id} of {target.name} has no owner, so no query would find it",
            hint="restore its database under a new name (-newdb) instead",
        )
    if not owners <= members:
        raise TargetUnsuitable(
            f"shard {place.shard_id} of {target.name} is owned by node "
            f"{min(owners - members)}, which is no data node of it",
            hint="influxd-ctl copy-shard and remove-shard give it other owners",
        )
