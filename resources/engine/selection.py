"""Select the shards that a request names. Pure: values in, values out.

A shard that no archive can hold is set aside, so that the others can be saved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from resources.errors import NothingMatches, UnsafeName, UsageError, counted, named_few, shown
from resources.model import INTERNAL_DATABASE, Metastore, ShardID, ShardLocation, ShardPlace
from resources.protocol.influxql import objection_to
from resources.repository.formats.details import FailedShard
from resources.repository.formats.manifest import Limits

MAX_LISTED = 10
INTO_ANOTHER = "copy its points into a database with a sound name: SELECT * INTO"
NO_ARCHIVE = "no archive can hold that name, which no statement could have made"
DATABASE_FLAGS = ("-db", "-newdb")


def check_limits(limits: Limits) -> None:
    """Require a database when a policy is given.

    Raises:
        UsageError: `-rp` without `-db`.
    """
    if limits.policy and not limits.database:
        raise UsageError("-rp needs -db", hint="name the database that the policy belongs to")


def select(metastore: Metastore, limits: Limits) -> list[ShardPlace]:
    """The shards of the metastore within `limits`, in the metastore's order.

    A database or policy without shards matches and gives an empty list.

    Raises:
        NothingMatches: no such database, policy or shard; the hint lists the existing ones.
    """
    check_limits(limits)
    if limits.database:
        database = metastore.database(limits.database)
        if database is None:
            raise NothingMatches(
                f"database {shown(limits.database)} does not exist",
                hint=_there_are("databases", [db.name for db in metastore.databases]),
            )
        if limits.policy and database.retention_policy(limits.policy) is None:
            raise NothingMatches(
                f"database {shown(database.name)} has no retention policy {shown(limits.policy)}",
                hint=_there_are("policies", [rp.name for rp in database.retention_policies]),
            )
    places = [place for place in metastore.places() if _meant(place, limits)]
    if limits.shard_id is not None and not places:
        within = f" in {limits.database}" if limits.database else ""
        within += f".{limits.policy}" if limits.policy else ""
        raise NothingMatches(
            f"shard {limits.shard_id} does not exist{within}",
            hint="shardkeeper show-shards lists those of a server, restore -list those of a backup",
        )
    return places


def check_new_name(flag: str, name: str) -> None:
    """Require a new name that the server accepts and does not use itself.

    Raises:
        UsageError: it is not such a name; the message escapes it.
    """
    if objection := objection_to(name):
        raise UsageError(
            f"{flag} {name[:120]!a} {objection}", hint="choose a name that a server takes"
        )
    if flag in DATABASE_FLAGS and name == INTERNAL_DATABASE:
        raise UsageError(
            f"{flag} {name}: the server keeps this database for itself, and writes and drops it",
            hint="choose another name",
        )


def split_named(places: Iterable[ShardPlace]) -> tuple[list[ShardPlace], list[ShardPlace]]:
    """(shards that an archive can hold, shards whose names it cannot hold).

    `[[graphite]] database = "dc1/graphite"` creates such a database: its shards are in
    directories of their own, which the server itself does not find when it starts again.
    """
    named: list[ShardPlace] = []
    odd: list[ShardPlace] = []
    for place in places:
        (odd if objection_to(place.database) or objection_to(place.policy) else named).append(place)
    return named, odd


def choose(places: list[ShardPlace], only: Collection[ShardLocation] | None) -> list[ShardPlace]:
    """The places that are in `only`, or all of them if it is None.

    Raises:
        NothingMatches: none of the places is in `only`.
    """
    if only is None:
        return places
    chosen = [place for place in places if ShardLocation.of(place) in only]
    if not chosen:
        raise not_there(only, places)
    return chosen


def not_there(
    wanted: Iterable[ShardLocation], places: Iterable[ShardPlace], so: str = ""
) -> NothingMatches:
    """An error that says why requested shards are not among those of the source.

    Args:
        wanted: shards that are missing, or are in another database or policy.
        places: all shards that the source has or plans.
        so: a clause about the other shards.
    """
    by_id = {place.shard_id: ShardLocation.of(place) for place in places}
    elsewhere = [one for one in sorted(wanted) if by_id.get(one.shard_id, one) != one]
    gone = [str(one.shard_id) for one in sorted(wanted) if one not in elsewhere]
    message = [
        f"shard {one.shard_id} belongs to {_policy_of(by_id[one.shard_id])}, "
        f"not to {_policy_of(one)}"
        for one in elsewhere[:MAX_LISTED]
    ]
    if gone:
        numbers = ", ".join(gone[:MAX_LISTED]) + (" …" if len(gone) > MAX_LISTED else "")
        message.append(f"the server has no shard {numbers}")
    if not message:
        message.append("no shard was requested")
    hint = (
        "choose each shard by the database and the policy that it belongs to"
        if elsewhere
        else "it was dropped or has expired; what is backed up of it stays restorable"
    )
    return NothingMatches("; ".join(message) + so, hint=hint)


def _policy_of(location: ShardLocation) -> str:
    return f"policy {shown(location.policy)} of {shown(location.database)}"


def _meant(place: ShardPlace, limits: Limits) -> bool:
    return (
        (not limits.database or place.database == limits.database)
        and (not limits.policy or place.policy == limits.policy)
        and (limits.shard_id is None or place.shard_id == limits.shard_id)
    )


def _there_are(kind: str, names: Sequence[str]) -> str:
    if not names:
        return f"there are no {kind}"
    return f"{kind}: {named_few(map(shown, names))}"


def overlapping(
    places: Sequence[ShardPlace], start_ns: int | None, end_ns: int | None
) -> list[ShardPlace]:
    """Shards whose group overlaps `start_ns` (inclusive) to `end_ns` (exclusive), nanoseconds.

    Raises:
        UsageError: the end is not after the start.
    """
    if start_ns is not None and end_ns is not None and end_ns <= start_ns:
        raise UsageError(
            "-end is not after -start", hint="-start names the earlier time, -end the later one"
        )
    return [
        place
        for place in places
        if (start_ns is None or place.group.end_time_ns > start_ns)
        and (end_ns is None or place.group.start_time_ns < end_ns)
    ]


def split_present(
    places: Sequence[ShardPlace], on_disk: Collection[ShardID]
) -> tuple[list[ShardPlace], list[ShardPlace]]:
    """(on the server's disk, only in its metastore); a server plans shards ahead of time."""
    present = [place for place in places if place.shard_id in on_disk]
    absent = [place for place in places if place.shard_id not in on_disk]
    return present, absent


def set_aside(
    wanted: Sequence[ShardPlace], on_disk: Collection[ShardID]
) -> tuple[list[ShardPlace], tuple[FailedShard, ...]]:
    """(shards that an archive can hold, failures for the others that are on disk).

    Raises:
        UnsafeName: only such shards were requested.
    """
    named, odd = split_named(wanted)
    refused = tuple(
        FailedShard(
            place.shard_id,
            f"database {shown(place.database)}, policy {shown(place.policy)}: {NO_ARCHIVE}",
        )
        for place in odd
        if place.shard_id in on_disk
    )
    if refused and not named:
        raise UnsafeName(refused[0].why, hint=INTO_ANOTHER)
    return named, refused


def describe_orphans(orphans: Mapping[ShardID, str]) -> str:
    """A warning about shards that are on the disk and not in the metastore."""
    listed = named_few(f"{shown(orphans[i])}/{i}" for i in sorted(orphans))
    return (
        f"{counted(len(orphans), 'shard is', 'shards are')} on the server's disk and not in its "
        f"metastore ({listed}): nothing reads or writes them, and they are not backed up"
    )
