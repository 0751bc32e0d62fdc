"""What a restore leaves out, said before it begins."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from resources.engine.backup.damaged import describe_left_out
from resources.errors import counted, shown
from resources.model import Metastore, RetentionPolicyInfo, ShardID, ShardPlace
from resources.repository.backup_set import BackupSet
from resources.repository.formats.manifest import Limits


def note_left_out(
    backup: BackupSet,
    metastore: Metastore,
    wanted: Sequence[ShardPlace],
    found: Sequence[ShardPlace],
    limits: Limits,
    notes: list[str],
) -> None:
    """Shards without archives, archives without shards, users; and manifests that are damaged."""
    kept = {place.shard_id for place in found}
    notes += [stored.note for stored in backup.from_copies]
    for gone in backup.replaced:
        if gone.entry.shard_id in kept:
            substitute = backup.archives[gone.entry.shard_id].entry
            notes.append(
                f"{gone.entry.file_name} is missing; {substitute.file_name} has the same content "
                "and is "
                "taken in its place"
            )
    if limits.shard_id is None:
        notes += _without_archives(backup, wanted, found)
    for place in found:
        archive = backup.archives.get(place.shard_id)
        contents = archive.entry.details if archive else None
        if contents is not None and contents.damaged:
            notes.append(describe_left_out(place, contents.damaged))
    notes += _not_saved(backup, kept)
    old = len(backup.archives.keys() - {place.shard_id for place in metastore.places()})
    if old and not limits:
        notes.append(
            f"the restore leaves out {counted(old, 'archive')} of shards that were gone at the "
            "source when this backup was made; -as-of TIME restores an earlier state"
        )
    if metastore.users and not limits:
        names = ", ".join(shown(user.name) for user in metastore.users[:10])
        notes.append(
            f"the restore leaves out {counted(len(metastore.users), 'user')} ({names}): the backup "
            "has hashes of passwords, not the passwords; CREATE USER makes them anew, or -users in "
            "a cluster"
        )


def _without_archives(
    backup: BackupSet, wanted: Sequence[ShardPlace], found: Sequence[ShardPlace]
) -> Iterator[str]:
    """One line for shards that the backup knows and may have passed over."""
    if backup.newest.manifest.details is not None and not backup.newest.manifest.limited:
        return  # it covers all
    chosen, kept = {place.database for place in found}, {place.shard_id for place in found}
    without = [
        p
        for p in wanted
        if p.database in chosen and p.shard_id not in kept and p.shard_id not in backup.archives
    ]
    if without:
        ids = ", ".join(str(p.shard_id) for p in without[:10]) + (" …" if len(without) > 10 else "")
        yield (
            f"shards {ids} are left out: the backup knows them and holds no archive of them (they "
            "may have been empty)"
        )


def _not_saved(backup: BackupSet, kept: Collection[ShardID]) -> Iterator[str]:
    """A line for each shard that the newest backup could not save whole."""
    details = backup.newest.manifest.details
    for failed in details.failed if details else ():
        archive = backup.archives.get(failed.shard_id)
        if archive is None or failed.shard_id not in kept:
            continue
        if archive.entry.details is not None and archive.entry.details.damaged:
            continue  # said above
        if archive.manifest_file == backup.newest.file_name:
            yield f"shard {failed.shard_id} is not whole: {failed.why}"
        else:
            yield (
                f"shard {failed.shard_id} comes from an earlier backup, {archive.manifest_file}: "
                f"{backup.newest.file_name} could not save it"
            )


def note_write_limits(policies: Sequence[RetentionPolicyInfo], notes: list[str]) -> None:
    """InfluxDB 1.12 limits how far from now points may lie; earlier servers cannot."""
    limited = [rp.name for rp in policies if rp.future_write_limit_ns or rp.past_write_limit_ns]
    if limited:
        names = ", ".join(shown(name) for name in limited[:10])
        notes.append(f"write limits of {names} are lost: the target is older than InfluxDB 1.12")
