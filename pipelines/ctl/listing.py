"""`restore -list`: the contents of a backup, as a table."""

from __future__ import annotations

from pipelines.ctl.render import instant, printable, table
from resources.engine.backup.damaged import describe_damage
from resources.engine.selection import select
from resources.errors import counted
from resources.model import Metastore, ShardID
from resources.repository.backup_set import Archive, BackupSet
from resources.repository.formats.manifest import Limits

HEAD = ("Shard", "Database", "Policy", "Start", "End", "Values", "Size", "Pending", "File")


def render_list(backup: BackupSet, metastore: Metastore, limits: Limits) -> str:
    """One line for each shard that a restore would read, then notes.

    "Values" counts field values as stored; "Pending" counts deletes that the server had not
    carried out yet. Both are "-" for archives of other tools. "Size" is the tar's, in bytes.
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
                *_details(archive),
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
        if entry.details is not None and entry.details.damaged:
            what = describe_damage(entry.details.damaged)
            lines.append(f"damaged at its source: shard {entry.shard_id}: {printable(what)}")
    details = backup.newest.manifest.details
    for failed in details.failed if details else ():
        if is_saved(backup, failed.shard_id):
            continue
        lines.append(f"not saved by {backup.newest.file_name}: shard {failed.shard_id}")
    if backup.era:
        lines.append(
            f"era: since {backup.era}; backups before it are of another server, or of another "
            "state of this one (-as-of TIME lists and restores them)"
        )
    size = sum(archive.entry.size_bytes for archive in backup.archives.values())
    lines.append(
        f"{counted(len(rows), 'shard')} shown; {counted(len(backup.archives), 'archive')}, {size} "
        "bytes"
    )
    return "\n".join(lines)


def is_saved(backup: BackupSet, shard_id: ShardID) -> bool:
    """Whether the newest backup has an archive of the shard, or found it up to date."""
    newest, archive = backup.newest, backup.archives.get(shard_id)
    details = newest.manifest.details
    unchanged = details is not None and shard_id in details.unchanged
    return archive is not None and (unchanged or archive.manifest_file == newest.file_name)


def _details(archive: Archive) -> tuple[str, str, str, str]:
    entry, details = archive.entry, archive.entry.details
    points = "-" if details is None or details.points is None else str(details.points)
    pending = "-" if details is None else str(details.tombstones)
    return points, str(entry.size_bytes), pending, entry.file_name
