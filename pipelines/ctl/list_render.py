"""The output of `shardkeeper list`, as tables and as JSON; pure functions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from pipelines.ctl.render import instant, printable, table
from resources.engine.catalog.catalog import Catalog, Grade, ListedBackup, ListedShard
from resources.errors import counted, readable_size
from resources.repository.formats.manifest import Limits

FORMAT = 1
BACKUPS = (
    "Backup",
    "Age",
    "Kind",
    "Of",
    "Source",
    "Copied",
    "Unchanged",
    "Stored",
    "Values",
    "State",
)
POLICIES = ("Database", "Policy", "Shards", "Stored", "Values", "From", "To", "Grade")
SHARDS = (
    "Shard", "Database", "Policy", "Start", "End", "Stored", "Values", "From", "To", "Backup",
    "Age", "Grade",
)  # fmt: skip
NUMBERS = frozenset(("Age", "Copied", "Shards", "Stored", "Unchanged", "Values"))
ORDER: tuple[Grade, ...] = ("missing", "damaged", "adopted", "structure", "verified", "proven")
"""What a reader must know comes first."""
SECOND_NS = 1_000_000_000


def render_catalog(catalog: Catalog, limits: Limits, now_ns: int, *, by_shard: bool) -> str:
    """The backups, then the state by policy or by shard, then what is unreadable.

    Args:
        limits: the database and policy whose shards are shown.
        now_ns: the time that ages are counted to.
    """
    parts = [_table(BACKUPS, [_backup(one, now_ns) for one in catalog.backups])]
    shards = chosen(catalog.shards, limits)
    if by_shard and shards:
        parts.append(_table(SHARDS, [_shard(one, now_ns) for one in shards]))
    elif shards:
        by_policy = groupby(shards, key=lambda shard: (shard.database, shard.policy))
        rows = [_policy(database, policy, [*found]) for (database, policy), found in by_policy]
        parts.append(_table(POLICIES, rows))
    elif catalog.shards:
        parts.append(
            f"no shard of {printable(limits.database)} {printable(limits.policy)}".rstrip()
        )
    gone = [shard for shard in shards if shard.place is None]
    if gone:
        parts.append(
            f"{counted(len(gone), 'shard is', 'shards are')} gone at the source; a restore with "
            "-as-of brings back what was there then"
        )
    parts += [f"unreadable: {name}: {printable(why)}" for name, why in catalog.unreadable.items()]
    return "\n\n".join(parts)


def catalog_json(catalog: Catalog, limits: Limits, now_ns: int) -> str:
    """The same as one JSON object; its keys are in docs/list.md."""
    document = {
        "format": FORMAT,
        "listedAt": now_ns,
        "backups": [_backup_json(one) for one in catalog.backups],
        "unreadable": dict(catalog.unreadable),
        "shards": [_shard_json(one) for one in chosen(catalog.shards, limits)],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def chosen(shards: Iterable[ListedShard], limits: Limits) -> list[ListedShard]:
    return [
        shard
        for shard in shards
        if (not limits.database or shard.database == limits.database)
        and (not limits.policy or shard.policy == limits.policy)
    ]


# --- tables -------------------------------------------------------------------------------


def age(seconds: int) -> str:
    """A duration in its largest unit: `40 s`, `90 min`, `36 h`, `12 d`."""
    if seconds < 0:
        return f"in {age(-seconds)}"
    for length, unit in (86_400, "d"), (3_600, "h"), (60, "min"):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _backup(backup: ListedBackup, now_ns: int) -> tuple[str, ...]:
    source, limits = backup.source, backup.limits
    of = "/".join(filter(None, (limits.database, limits.policy))) or "everything"
    if limits.shard_id is not None:
        of += f" shard {limits.shard_id}"
    return (
        backup.name,
        _age(backup.started_ns, now_ns),
        backup.strategy,
        printable(of),
        printable(source.address) if source else "-",
        str(len(backup.entries)),
        str(backup.unchanged) if source else "-",
        "-" if backup.stored_bytes is None else readable_size(backup.stored_bytes),
        _count(backup.values),
        state(backup),
    )


def state(backup: ListedBackup) -> str:
    """What is wrong with a backup, or that nothing is known to be."""
    damaged = sum(bool(e.details and e.details.damaged) for e in backup.entries)
    found = [
        counted(len(backup.failed), "shard failed", "shards failed") if backup.failed else "",
        counted(len(backup.missing), "file missing", "files missing") if backup.missing else "",
        counted(damaged, "shard damaged at the source", "shards damaged at the source")
        if damaged
        else "",
        "manifest read from its copy" if backup.damage else "",
    ]
    wrong = ", ".join(filter(None, found))
    return wrong or ("complete" if backup.source else "not checked")


def _policy(database: str, policy: str, shards: Sequence[ListedShard]) -> tuple[str, ...]:
    details = [shard.entry.details for shard in shards]
    known = [d for d in details if d is not None]
    is_known = len(known) == len(details)
    values = [d.points for d in known if d.points is not None]
    first = [d.min_time_ns for d in known if d.min_time_ns is not None]
    last = [d.max_time_ns for d in known if d.max_time_ns is not None]
    grades = Counter(shard.grade for shard in shards)
    return (
        printable(database),
        printable(policy),
        str(len({shard.shard_id for shard in shards})),
        readable_size(sum(d.stored_bytes for d in known)) if is_known else "-",
        _count(sum(values) if len(values) == len(details) else None),
        instant(min(first, default=None)),
        instant(max(last, default=None)),
        ", ".join(f"{grades[grade]} {grade}" for grade in ORDER if grades[grade]),
    )


def _shard(shard: ListedShard, now_ns: int) -> tuple[str, ...]:
    details, group = shard.entry.details, shard.place.group if shard.place else None
    proof = shard.proof
    grade = (
        f"proven {instant(proof.finished_ns)}" if shard.grade == "proven" and proof else shard.grade
    )
    return (
        str(shard.shard_id),
        printable(shard.database),
        printable(shard.policy),
        instant(group.start_time_ns) if group else "gone",
        instant(group.end_time_ns) if group else "gone",
        readable_size(details.stored_bytes) if details else "-",
        _count(details.points if details else None),
        instant(details.min_time_ns if details else None),
        instant(details.max_time_ns if details else None),
        shard.backup,
        "-" if details is None or details.read_at_ns is None else _age(details.read_at_ns, now_ns),
        grade,
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns of numbers are aligned to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    aligned = [
        [
            cell.rjust(width) if name in NUMBERS else cell
            for name, cell, width in zip(head, line, widths, strict=True)
        ]
        for line in lines
    ]
    return table(aligned[0], aligned[1:])


def _age(at_ns: int, now_ns: int) -> str:
    return age((now_ns - at_ns) // SECOND_NS)


def _count(count: int | None) -> str:
    return "-" if count is None else str(count)


# --- JSON ---------------------------------------------------------------------------------


def _backup_json(backup: ListedBackup) -> dict[str, Any]:
    source, limits = backup.source, backup.limits
    return {
        "name": backup.name,
        "startedAt": backup.started_ns,
        "strategy": backup.strategy,
        "limits": {
            "database": limits.database,
            "policy": limits.policy,
            "shardID": limits.shard_id,
        },
        "source": None
        if source is None
        else {
            "kind": source.kind,
            "address": source.address,
            "version": source.version,
            "clusterID": source.cluster_id,
        },
        "era": backup.era,
        "copied": [entry.shard_id for entry in backup.entries],
        "unchanged": backup.unchanged,
        "failed": list(backup.failed),
        "missing": list(backup.missing),
        "storedBytes": backup.stored_bytes,
        "values": backup.values,
        "complete": backup.is_complete,
        "damage": backup.damage,
    }


def _shard_json(shard: ListedShard) -> dict[str, Any]:
    details, group, proof = shard.entry.details, shard.place and shard.place.group, shard.proof
    return {
        "shardID": shard.shard_id,
        "database": shard.database,
        "policy": shard.policy,
        "groupStart": group.start_time_ns if group else None,
        "groupEnd": group.end_time_ns if group else None,
        "goneAtSource": group is None,
        "backup": shard.backup,
        "file": shard.entry.file_name,
        "tarBytes": shard.entry.size_bytes,
        "storedBytes": details.stored_bytes if details else None,
        "sha256": details.sha256 if details else None,
        "series": details.series if details else None,
        "values": details.points if details else None,
        "minTime": details.min_time_ns if details else None,
        "maxTime": details.max_time_ns if details else None,
        "node": details.node if details else None,
        "readAt": details.read_at_ns if details else None,
        "grade": shard.grade,
        "provenAt": proof.finished_ns if proof else None,
        "provenOn": proof.target if proof else None,
    }
