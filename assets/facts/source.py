"""What the UI shows of a cluster as it was seen: its shards, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from assets.facts.values import Metadata, place_facts
from assets.tables import table
from resources.engine.changes import ShardState
from resources.engine.inventory import Problem
from resources.engine.plan import BackupPlan
from resources.engine.restore_points import newest_whole
from resources.engine.verify import VerifyReport
from resources.model import Metastore, ShardPlace
from resources.repository.watched import WatchedRepository


def state_facts(state: ShardState) -> Metadata:
    """A shard at the source, and how it compares with its archive."""
    return {
        **place_facts(state.place),
        "state": "as in its archive" if not state.stale else _WHY.get(state.reason, state.reason),
    }


_WHY = {
    "new": "never backed up",
    "changed": "changed since its archive",
    "archive missing": "its archive is missing in the repository",
    "no evidence": "cannot be compared with its archive",
    "full": "cannot be compared: the server's HTTP does not answer",
}


def look_facts(plan: BackupPlan, partitions: Sequence[str]) -> Metadata:
    """A look at a whole server."""
    facts: Metadata = {
        "server": plan.address,
        "server_version": plan.facts.version or "unknown (no HTTP)",
        "cluster_id": str(plan.metastore.cluster_id),
        "databases": len(plan.metastore.databases),
        "shards": len(plan.states),
        "shards_to_copy": len(plan.to_copy),
        "shards_unchanged": len(plan.unchanged),
        "shards_planned_ahead": len(plan.absent),
        "shards_gone": len(partitions) - len(plan.states),
        "meta_bytes": len(plan.meta),
    }
    if plan.to_copy:
        facts["to_copy"] = table([state_facts(state) for state in plan.to_copy])
    return facts


def current_facts(plan: BackupPlan) -> Metadata:
    """How many shards are in their archives as they are, and which are not."""
    facts: Metadata = {"shards": len(plan.states), "shards_to_copy": len(plan.to_copy)}
    if plan.to_copy:
        facts["to_copy"] = table([state_facts(state) for state in plan.to_copy])
    return facts


def left_facts(shards: int, left: Sequence[ShardPlace]) -> Metadata:
    """The same after a backup: what it left, as far as looks have told."""
    facts: Metadata = {"shards": shards, "shards_to_copy": len(left)}
    if left:
        facts["to_copy"] = table([place_facts(place) for place in left])
    return facts


def glance_facts(metastore: Metastore, shards: int, changed: Sequence[ShardPlace]) -> Metadata:
    """What a sensor saw, which asks less than a look does."""
    return {
        "seen": "by the sensor",
        "cluster_id": str(metastore.cluster_id),
        "databases": len(metastore.databases),
        **left_facts(shards, changed),
    }


def copies_table(states: Sequence[ShardState]) -> dg.TableMetadataValue:
    """Shards whose copies differ, and what each owner says."""
    return table(
        [
            {
                **place_facts(state.place),
                "copies": ", ".join(
                    f"{copy.node}: {copy.size_bytes} bytes" for copy in state.copies
                ),
            }
            for state in states
        ]
    )


def gone_facts(gone: Sequence[ShardState]) -> Metadata:
    """Archives that a look missed."""
    problems = [
        Problem(state.previous.entry.file_name, "missing, or not as long as it was stored")
        for state in gone
        if state.previous is not None
    ]
    return {"problems_found": len(problems), "problems": problem_table(problems)}


def problem_table(problems: Sequence[Problem]) -> dg.TableMetadataValue:
    return table([{"file": one.file_name, "problem": one.what} for one in problems])


def verify_facts(report: VerifyReport) -> Metadata:
    """What was read, and what was found."""
    found: Metadata = {
        "manifests": report.manifests,
        "archives": report.listed,
        "archives_read": report.archives,
        "bytes_read": report.size_bytes,
        "problems_found": len(report.problems),
    }
    if report.problems:
        found["problems"] = problem_table(report.problems)
        found["newest_whole_restore_point"] = newest_whole(report.points) or "none"
    return found


def late_table(late: Sequence[ShardPlace], watched: WatchedRepository) -> dg.TableMetadataValue:
    """Shards without a backup that is young enough, and their last one."""
    return table(
        [
            {**place_facts(p), "last_backup": str(watched.last_covered(p.shard_id) or "none")}
            for p in late
        ]
    )
