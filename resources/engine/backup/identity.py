"""Is this the server of the repository's newest backup, and has it not gone back in time?

Shard ids mean nothing between servers, so archives of two servers must never be mixed. The number
in its metastore identifies a server. A copy of the server has the same number, and so has the
server after it was put back to an earlier state. But then at least one of these holds:

- its metastore has counted fewer changes than in the backup (`index` only grows);
- a shard belongs to another database, policy or time than the archive with its number;
- its process was already running when the backup was made, and did not serve that backup;
- a shard has a file of the same name with other bytes, beside files that are equal: a file never
  changes under its name, and a new file set has none of the old files.

`-new-era` confirms such a server and begins a new era in the same repository: its first backup
copies everything, and no reader ever takes an archive of one era for a shard of another. See
docs/decisions/0015-a-repository-holds-eras.md; held by tests/wire/test_eras.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resources.clients.source import SourceFacts
from resources.engine.backup.clocks import MARGIN_NS, passed_ns
from resources.engine.backup.lost_metastore import meta_lost, strange
from resources.errors import RepositoryError, SourceChanged, WireError, counted, shown
from resources.model import Metastore, ShardID, ShardPlace
from resources.protocol.meta import decode_metastore
from resources.protocol.times import format_time
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.formats.details import FileFacts, ShardDetails, SourceInfo
from resources.repository.formats.proof import Clocks
from resources.repository.repository import BackupRepository

CONFIRM = (
    "to continue here with this server, confirm it once: backup -new-era (new_era: true in "
    "Dagster) copies everything beside the existing backups, which stay restorable"
)


def check_identity(
    repository: BackupRepository,
    backups: BackupSet,
    metastore: Metastore,
    facts: SourceFacts,
    clocks: Clocks | None,
    address: str,
) -> str:
    """Require that the source is the one of the newest backup; returns a warning, or nothing.

    Args:
        facts: what a single server reports of itself.
        clocks: its clock and ours at that moment.

    Raises:
        SourceChanged: it is another server, a copy, or an earlier state of it.
    """
    details = backups.newest.manifest.details
    known = _known(repository, backups)
    number = known.cluster_id if known else details.source.cluster_id if details else None
    if number is not None and number != metastore.cluster_id:
        if strange(facts.orphans):
            raise meta_lost(facts.orphans, address, repository.location)
        raise _another(repository, backups, metastore, number, address)
    _check_places(backups, metastore.places(), address)
    if details is not None:
        _check_process(details.source, facts, clocks, address)
    if known is None or metastore.index >= known.index:
        return ""
    put_back = (
        f"the metastore of {address} has counted {counted(metastore.index, 'change')}, and had "
        f"counted {known.index} when {backups.newest.file_name} was made"
    )
    if metastore.data_nodes or metastore.meta_nodes:
        return f"{put_back}: is a meta node behind, or was the cluster put back?"
    raise SourceChanged(
        f"{put_back}: it was put back to an earlier state, or is a copy of the server that was "
        "backed up",
        hint=CONFIRM,
    )


def diverged(previous: ShardDetails, files: Sequence[FileFacts]) -> str:
    """A file whose bytes changed under its name, beside files that did not; empty: none."""
    before = {f.name: f.id for f in previous.files if f.is_tsm and f.damage is None}
    now = [f for f in files if f.is_tsm and f.damage is None and f.name in before]
    if not any(before[f.name] == f.id for f in now):
        return ""
    return next((f.name for f in now if before[f.name] != f.id), "")


def describe_divergence(shard_id: ShardID, address: str, file: str) -> SourceChanged:
    return SourceChanged(
        f"shard {shard_id} on {address}: {file} is not the file of that name that was backed up, "
        "while others are the same: this is a copy of the server that was backed up, or its "
        "files were rewritten",
        hint=CONFIRM,
    )


def _known(repository: BackupRepository, backups: BackupSet) -> Metastore | None:
    try:
        return decode_metastore(repository.read_meta(backups), groups=False)
    except (RepositoryError, WireError):
        if backups.newest.manifest.details is None:
            raise
        return None


def _another(
    repository: BackupRepository,
    backups: BackupSet,
    metastore: Metastore,
    number: int,
    address: str,
) -> SourceChanged:
    since = backups.newest.file_name.removesuffix(".manifest")
    return SourceChanged(
        f"{repository.location} holds backups of another server (its number is {number}, {address} "
        f"has {metastore.cluster_id}; the newest backup is {since}): it was set up anew, or this "
        "is the wrong directory",
        hint=f"use one directory for each server; {CONFIRM}",
    )


def _check_places(backups: BackupSet, places: Iterable[ShardPlace], address: str) -> None:
    for place in places:
        archive = backups.archives.get(place.shard_id)
        if archive is None or _is_of(archive, place):
            continue
        entry = archive.entry
        raise SourceChanged(
            f"shard {place.shard_id} of {address} is {shown(place.database)}.{shown(place.policy)} "
            f"from {format_time(place.group.start_time_ns)} on, and the archive of that number, "
            f"{entry.file_name}, is of {shown(entry.database)}.{shown(entry.policy)}"
            f"{_from(entry.details)}: a server uses a number once, so it was put back to an "
            "earlier state, or is a copy that has changed since",
            hint=CONFIRM,
        )


def _is_of(archive: Archive, place: ShardPlace) -> bool:
    entry = archive.entry
    if not entry.database:  # influxd 1.6 leaves both names empty when only -shard is given
        return True
    start_ns = entry.details.group_start_ns if entry.details else place.group.start_time_ns
    named = (entry.database, entry.policy, start_ns)
    return named == (place.database, place.policy, place.group.start_time_ns)


def _from(details: ShardDetails | None) -> str:
    return f" from {format_time(details.group_start_ns)} on" if details else ""


def _check_process(
    source: SourceInfo, facts: SourceFacts, clocks: Clocks | None, address: str
) -> None:
    """Require that the process did not run beside the one that was backed up."""
    if None in (source.started_ns, source.clocks, facts.started_ns, facts.uptime_s, clocks):
        return
    assert source.clocks is not None  # noqa: S101
    assert clocks is not None  # noqa: S101
    assert facts.uptime_s is not None  # noqa: S101
    if facts.started_ns == source.started_ns:
        return
    age_ns = facts.uptime_s * 1_000_000_000
    if age_ns > passed_ns(source.clocks, clocks) + MARGIN_NS:
        raise SourceChanged(
            f"{address} has the number of the server that was backed up as {source.address}, and "
            f"ran beside it: that one's process started at {_time(source.started_ns)}, this one's "
            f"at {_time(facts.started_ns)}, before the backup was made; one is a copy of the other",
            hint=f"give the copy a directory of its own; {CONFIRM}",
        )


def _time(ns: int | None) -> str:
    return "an unknown time" if ns is None else format_time(ns)
