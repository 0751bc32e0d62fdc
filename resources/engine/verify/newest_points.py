"""What would be lost with the source: its newest points, compared with those in the backups.

A policy's newest point is in its latest shard group that holds any. If that shard equals its
archive, the archive has the time of the point. Otherwise the source is queried, group by group,
latest first, and only for points that are newer than those in the archives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.errors import ShardkeeperError
from resources.model import Metastore, ShardID, ShardPlace
from resources.protocol.influxql import quote_identifier
from resources.repository.backup_set import Archive

MAX_POLICIES = 50
"""The limit of policies to query at once; each takes one statement, rarely more."""
MAX_GROUPS = 4
"""The limit of groups to query in a policy; the latest ones may still be empty."""


class Newest(Struct, frozen=True):
    """The newest points of a retention policy."""

    database: str
    policy: str
    changed: int
    """Shards that differ from their archives."""
    saved_ns: int | None
    """In the archives; None if they are empty, or their manifests do not have it."""
    source_ns: int | None
    """At the source; None if it is not known."""
    why: str = ""
    """Why it is not known."""

    @property
    def behind_s(self) -> float | None:
        """How much newer the source is, in seconds; None if it is not known."""
        if self.saved_ns is None or self.source_ns is None:
            return None
        return max(0, self.source_ns - self.saved_ns) / 1e9


def newest_points(
    source: Server | Cluster | None,
    metastore: Metastore,
    places: Iterable[ShardPlace],
    archives: Mapping[ShardID, Archive],
    changed: Collection[ShardID],
) -> list[Newest]:
    """Compare the policies, those with changed shards first.

    Args:
        source: the server or cluster to query; None: no query.
        places: the shards to compare.
        archives: the newest archive of each shard, whole or not.
        changed: shards that differ from their archives.
    """
    policies: dict[tuple[str, str], list[ShardPlace]] = {}
    for place in places:
        policies.setdefault((place.database, place.policy), []).append(place)
    asking = _Asking(source, metastore)
    found = [
        _of_policy(asking, *name, its, archives, [p for p in its if p.shard_id in changed])
        for name, its in policies.items()
    ]
    return sorted(found, key=lambda one: (not one.changed, one.database, one.policy))


def _of_policy(
    asking: _Asking,
    database: str,
    policy: str,
    places: Sequence[ShardPlace],
    archives: Mapping[ShardID, Archive],
    changed: Sequence[ShardPlace],
) -> Newest:
    newest = [_newest_in(archives.get(place.shard_id)) for place in places]
    saved_ns = max((ns for ns in newest if ns is not None), default=None)
    if not changed:
        return Newest(database, policy, 0, saved_ns, saved_ns)
    try:
        newer_ns = asking.newest(database, policy, saved_ns, changed)
    except _Unknown as error:
        return Newest(database, policy, len(changed), saved_ns, None, str(error))
    return Newest(database, policy, len(changed), saved_ns, newer_ns or saved_ns)


def _newest_in(archive: Archive | None) -> int | None:
    details = archive.entry.details if archive else None
    return details.max_time_ns if details else None


class _Unknown(Exception):
    """The newest point is not known; the text is the reason."""


class _Asking:
    """Sends statements over HTTP; an endpoint that fails is not used again."""

    def __init__(self, source: Server | Cluster | None, metastore: Metastore) -> None:
        self._endpoints = list(source.http_endpoints(metastore)) if source else []
        self._silence = "" if self._endpoints else "the source was not queried over HTTP"
        self._left = MAX_POLICIES

    def newest(
        self, database: str, policy: str, after_ns: int | None, changed: Sequence[ShardPlace]
    ) -> int | None:
        """The newest point in these shards that is newer than `after_ns`; None: there is none.

        Raises `_Unknown` if no endpoint answers, or too many queries would be needed.
        """
        if self._silence:
            raise _Unknown(self._silence)
        if not self._left:
            raise _Unknown(f"only {MAX_POLICIES} policies are queried")
        self._left -= 1
        groups = sorted({(p.group.start_time_ns, p.group.end_time_ns) for p in changed})
        groups = [g for g in reversed(groups) if after_ns is None or g[1] > after_ns + 1]
        for start_ns, end_ns in groups[:MAX_GROUPS]:
            first_ns = start_ns if after_ns is None else max(start_ns, after_ns + 1)
            found = self._newest_between(database, policy, first_ns, end_ns)
            if found is not None:
                return found
        if len(groups) > MAX_GROUPS:
            raise _Unknown(f"the latest {MAX_GROUPS} shard groups are empty")
        return None

    def _newest_between(self, database: str, policy: str, start_ns: int, end_ns: int) -> int | None:
        statement = (  # of integers and a quoted name
            f"SELECT * FROM {quote_identifier(policy)}./.*/ "  # noqa: S608
            f"WHERE time >= {start_ns} AND time < {end_ns} ORDER BY time DESC LIMIT 1"
        )
        while True:
            try:
                found = self._endpoints[0].query(statement, database)
            except ShardkeeperError as error:
                del self._endpoints[0]
                if not self._endpoints:
                    self._silence = error.what
                    raise _Unknown(self._silence) from None
                continue
            times = [
                row[series.columns.index("time")]
                for series in found
                if "time" in series.columns
                for row in series.values
            ]
            return max((t for t in times if isinstance(t, int)), default=None)
