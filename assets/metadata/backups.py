"""Metadata of backups: of one archive, and of a whole restore point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import dagster as dg

from assets.metadata.common import Metadata, instant, stamp
from assets.metadata.set_changes import change_facts
from assets.metadata.tables import frame, frame_table, table
from resources.engine.backup.batch import BatchDone
from resources.engine.backup.change_detection import content_version
from resources.engine.backup.damaged import NEXT_STEP, describe_damage
from resources.engine.backup.run import BackupReport
from resources.engine.verify.backup_diff import SetChanges
from resources.engine.workers.steps import BatchStep
from resources.errors import readable_size
from resources.repository.backup_set import StoredManifest
from resources.repository.formats.details import BackupDetails, FailedShard, ShardDetails
from resources.repository.formats.manifest import Manifest, ShardEntry
from resources.repository.formats.names import BackupName, parse_file_name


def archive_facts(
    entry: ShardEntry,
    location: str,
    source: BackupDetails | None,
    *,
    how: str,
    manifest_file: str,
    meta_version: str | None,
) -> Metadata:
    """The metadata of one shard's archive.

    Args:
        source: of the manifest that lists it.
        how: how the archive was made, from the view of the run that records it.
        meta_version: the version of `meta_snapshot` with which the shard was seen; None: none.
    """
    named, details = parse_file_name(entry.file_name), entry.details
    facts: Metadata = {
        "database": entry.database,
        "retention_policy": entry.policy,
        "shard_id": str(entry.shard_id),
        **({"made_at": dg.MetadataValue.timestamp(named.backup.started_at)} if named else {}),
        **(_content(details) if details else {}),
        "tar_bytes": entry.size_bytes,
        "checked": _CHECKED[details.checked if details else None],
        "copied": how,
        "path": dg.MetadataValue.path(f"{location}/{entry.file_name}"),
        "manifest": dg.MetadataValue.path(f"{location}/{manifest_file}"),
    }
    if source is not None and source.source.version:
        facts["server_version"] = source.source.version
    if details is not None:
        facts |= {
            "series_keys": "read twice, the same"
            if details.read_twice
            else "read once; docs/verify.md says what may go unnoticed",
            "seconds": round(details.seconds, 3),
            "files": len(details.files),
            "tombstones_pending": details.tombstones,
            "shard_version": content_version(details),
            "sha256": details.sha256,
        }
        if details.damaged:
            facts["damaged_at_source"] = describe_damage(details.damaged)
            facts["next_step"] = NEXT_STEP
    if meta_version:
        facts["meta_snapshot_version"] = meta_version
    return facts


def _content(details: ShardDetails) -> Metadata:
    """The entries that users read first."""
    return {
        "size": readable_size(details.stored_bytes),
        "bytes": details.stored_bytes,
        **({"values": details.points} if details.points is not None else {}),
        **({"series": details.series} if details.series is not None else {}),
        "first_point": instant(details.min_time_ns),
        "last_point": instant(details.max_time_ns),
        "group_start": instant(details.group_start_ns),
        "group_end": instant(details.group_end_ns),
        "node": details.node,
    }


_CHECKED: dict[str | None, str] = {
    None: "not yet: another tool made it; a restore checks it before it changes the target",
    "full": "full: every block's checksum, its type and both its times; values were not decoded",
    "structure": "structure: headers, indexes and sizes; blocks were not read",
}


def copied_facts(report: BackupReport, gone: Collection[str]) -> Metadata:
    """The server after a backup: every shard that did not fail equals its archive."""
    details = report.manifest.details
    shards = len(report.saved) + len(report.unchanged) + len(report.failed)
    facts: Metadata = {
        "cluster_id": str(report.metastore.cluster_id),
        "databases": len(report.metastore.databases),
        "shards": shards,
        "shards_to_copy": len(report.failed),
        "shards_unchanged": shards - len(report.failed),
        "shards_gone": len(gone),
        "meta_bytes": report.manifest.meta.size_bytes,
        "seen": "by a backup, after its copies",
    }
    if details is not None:
        facts |= {
            "server": details.source.address,
            "server_version": details.source.version or "unknown (no HTTP)",
        }
    return facts


def batch_sizes(batches: Sequence[BatchStep]) -> Metadata:
    """What batches have to copy, as their nodes report it."""
    n_bytes = sum(batch.bytes for batch in batches)
    return {
        "shards": sum(batch.shards for batch in batches),
        "size": readable_size(n_bytes),
        "bytes": n_bytes,
    }


def batch_facts(done: BatchDone) -> Metadata:
    """What a batch did."""
    entries = [one.entry for one in done.outcomes if one.entry is not None]
    kinds = Counter(one.kind for one in done.outcomes)
    n_bytes = sum(entry.details.stored_bytes for entry in entries if entry.details)
    failed = [
        FailedShard(one.shard_id, str(one.error.error())) for one in done.outcomes if one.error
    ]
    return {
        "shards": len(done.outcomes),
        **{f"shards_{kind.replace(' ', '_')}": number for kind, number in sorted(kinds.items())},
        "size": readable_size(n_bytes),
        "bytes": n_bytes,
        "node": ", ".join(sorted({one.node for one in done.outcomes if one.node})) or "-",
        **({"failed": failed_table(failed)} if failed else {}),
    }


def failed_table(failed: Sequence[FailedShard]) -> dg.TableMetadataValue:
    return table([{"shard_id": int(f.shard_id), "why": f.why} for f in failed])


def set_facts(
    stored: StoredManifest,
    location: str,
    kept: int,
    changes: SetChanges,
    meta_version: str | None,
) -> Metadata:
    """The metadata of a whole backup, from its manifest.

    Args:
        kept: how many shards the repository can restore now, from this and earlier backups.
        changes: the changes since the backup before.
        meta_version: of the `meta_snapshot` it was made from; it covers every shard's version.
    """
    manifest_file, manifest = stored.file_name, stored.manifest
    rows = [_row(entry) for entry in manifest.files]
    details = manifest.details
    facts: Metadata = {
        "manifest": dg.MetadataValue.path(f"{location}/{manifest_file}"),
        "restore_point": manifest_file.removesuffix(".manifest"),
        "covers": _covers(manifest),
        **({"meta_snapshot_version": meta_version} if meta_version else {}),
        "made": "by this run",
        **_made_at(manifest_file),
        "shards_copied": len(manifest.files),
        "shards_unchanged": len(details.unchanged) if details else 0,
        "shards_failed": len(details.failed) if details else 0,
        "shards_restorable": kept,
        "size": readable_size(sum(row["bytes"] for row in rows)),
        "bytes": sum(row["bytes"] for row in rows),
        "tar_bytes": sum(entry.size_bytes for entry in manifest.files),
        "values": sum(row["values"] for row in rows),
        "copy_seconds": round(sum(row["seconds"] for row in rows), 3),
        "tombstones_pending": sum(row["tombstones"] for row in rows),
        **change_facts(changes),
    }
    if details is not None:
        facts |= {
            "strategy": details.strategy,
            "server": details.source.address,
            "server_version": details.source.version or "unknown",
        }
    if rows:
        copied = frame(rows)
        per_database = (
            copied.groupby(["database", "policy"], sort=True)
            .agg(shards=("shard", "count"), bytes=("bytes", "sum"), values=("values", "sum"))
            .reset_index()
        )
        facts["by_policy"] = frame_table(per_database)
        facts["shards_of_this_run"] = frame_table(copied)
    return facts


def _made_at(manifest_file: str) -> Metadata:
    named = BackupName.parse(manifest_file.removesuffix(".manifest"))
    return {"made_at": dg.MetadataValue.timestamp(named.started_at)} if named else {}


def _row(entry: ShardEntry) -> Metadata:
    details = entry.details
    return {
        "shard": int(entry.shard_id),
        "database": entry.database,
        "policy": entry.policy,
        "bytes": details.stored_bytes if details else 0,
        "values": (details.points or 0) if details else 0,
        "first point": stamp(details.min_time_ns if details else None),
        "last point": stamp(details.max_time_ns if details else None),
        "tombstones": details.tombstones if details else 0,
        "seconds": round(details.seconds, 3) if details else 0.0,
        "file": entry.file_name,
        "shard version": content_version(details) if details else "none",
    }


def _covers(manifest: Manifest) -> str:
    limits = manifest.limits
    if not manifest.limited:
        return "the whole cluster"
    if not limits:
        return "chosen shards"
    parts = {"database": limits.database, "policy": limits.policy, "shard": limits.shard_id}
    return ", ".join(f"{kind} {value}" for kind, value in parts.items() if value not in ("", None))
