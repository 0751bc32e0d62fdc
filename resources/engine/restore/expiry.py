"""Which shards the target's retention service would delete within minutes of a restore."""

from __future__ import annotations

from resources.errors import WouldExpire, counted
from resources.model import Metastore, ShardPlace


def without_expired(
    found: list[ShardPlace],
    metastore: Metastore,
    new_duration_ns: int | None,
    *,
    skip: bool,
    now_ns: int,
    notes: list[str],
) -> list[ShardPlace]:
    """Those of `found` that the target would keep for a while.

    Args:
        metastore: the source's, which has the policies' durations.
        new_duration_ns: what becomes of those; None: they stay.
        skip: whether the others are left out, with a note, or stop everything.

    Raises:
        WouldExpire: there are others.
    """
    expired: list[ShardPlace] = []
    for place in found:
        duration_ns = new_duration_ns
        if duration_ns is None:
            database = metastore.database(place.database)
            policy = database.retention_policy(place.policy) if database else None
            duration_ns = policy.duration_ns if policy else 0
        if duration_ns and place.group.end_time_ns + duration_ns < now_ns:
            expired.append(place)
    if not expired:
        return found
    first = expired[0]
    all_ = f"of {counted(len(found), 'shard')}"
    text = (
        f"{counted(len(expired), f'{all_} is', f'{all_} are')} older than their retention policy "
        f"keeps points (the first is shard {first.shard_id} of {first.database}.{first.policy})"
    )
    if not skip:
        raise WouldExpire(
            f"{text}; the target would delete them within minutes",
            hint="-newduration 0s keeps them for ever, -skip-expired leaves them out",
        )
    notes.append(f"{text}: left out")
    gone = {place.shard_id for place in expired}
    return [place for place in found if place.shard_id not in gone]
