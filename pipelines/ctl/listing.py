"""`restore -list`: what a backup holds, as a table."""

from __future__ import annotations

from pipelines.ctl.render import instant, printable, table
from resources.engine.backup.damaged import said_of_damage
from resources.engine.selection import select
from resources.model import Metastore, ShardID
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.manifest import Limits

HEAD = ("Shard", "Database", "Policy", "Start", "End", "Points", "Size", "Pending", "File")


def render_list(backup: BackupSet, metastore: Metastore, limits: Limits) -> str:
    """One line for each shard that a restore would read, then what there is to know.

    "Points" are as stored, "Pending" counts deletes that the server had not carried out yet;
    both are "-" for archives that other tools wrote. "Size" is the tar's, in bytes.
    """
    places = {place.shard_id: place for place in select(metastore, limits)}
    rows: list[tuple[str, ...]] = []
    for shard_id, archive in sorted(backup.archives.items()):
        place = places.get(shard_id)
        if place is None:
            continue
        group = place.group
        rows.append(
            (
                str(shard_id),
                printable(place.database),
                printable(place.policy),
                instant(group.start_time_ns),
                instant(group.end_time_ns),
                *_evidence(archive),
            )
        )
    lines = [table(HEAD, rows) if rows else "no shards"]
    for archive in backup.missing:
        lines.append(f"missing: {archive.entry.file_name}, listed by {archive.manifest_file}")
    lines += [f"damaged: {stored.note}" for stored in backup.from_copies]
    known = {place.shard_id for place in metastore.places()}
    gone = sorted(backup.archives.keys() - known)
    if gone and not limits:
        ids = ", ".join(str(i) for i in gone[:20]) + (" …" if len(gone) > 20 else "")
        lines.append(f"gone at the source since: shards {ids} (-as-of TIME lists earlier states)")
    for _, archive in sorted(backup.archives.items()):
        entry = archive.entry
        if entry.evidence is not None and entry.evidence.damaged:
            what = said_of_damage(entry.evidence.files)
            lines.append(f"damaged at its source: shard {entry.shard_id}: {printable(what)}")
    evidence = backup.newest.manifest.evidence
    for failed in evidence.failed if evidence else ():
        if is_saved(backup, failed.shard_id):
            continue
        lines.append(f"not saved by {backup.newest.file_name}: shard {failed.shard_id}")
    if backup.era:
        lines.append(
            f"era: since {backup.era}; backups before it are of another server, or of another "
            "state of this one (-as-of TIME lists and restores them)"
        )
    size = sum(archive.entry.size_bytes for archive in backup.archives.values())
    lines.append(f"{len(rows)} shards shown; {len(backup.archives)} archives, {size} bytes")
    return "\n".join(lines)


def is_saved(backup: BackupSet, shard_id: ShardID) -> bool:
    """Whether the newest backup has an archive of the shard, or found it up to date."""
    newest, archive = backup.newest, backup.archives.get(shard_id)
    evidence = newest.manifest.evidence
    unchanged = evidence is not None and shard_id in evidence.unchanged
    return archive is not None and (unchanged or archive.manifest_file == newest.file_name)


def _evidence(archive: Archive) -> tuple[str, str, str, str]:
    entry, evidence = archive.entry, archive.entry.evidence
    points = "-" if evidence is None or evidence.points is None else str(evidence.points)
    pending = "-" if evidence is None else str(evidence.tombstones)
    return points, str(entry.size_bytes), pending, entry.file_name
