"""Metadata of restores and merges: the plan, the result, and the receipts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import dagster as dg
import yaml
from pydantic import BaseModel

from assets.metadata.common import Metadata, stamp
from assets.metadata.tables import table
from resources.engine.merge.merge_plan import MergePlan
from resources.engine.merge.merge_run import MergeReport
from resources.engine.restore.batch import BatchFilled
from resources.engine.restore.plan import RestorePlan
from resources.engine.restore.restored import RestoreReport
from resources.errors import readable_size


def restore_plan_facts(plan: RestorePlan, target: str) -> Metadata:
    """The plan of a restore."""
    facts: Metadata = {
        "target": target,
        "restore_point": _restore_point(plan),
        "meta_file": plan.backup.meta.file_name,
        "databases": ", ".join(
            f"{db.source.name} as {db.name}" if db.renamed else db.name for db in plan.databases
        ),
        "shards": len(plan.shards),
        "size": readable_size(plan.size_bytes),
        "tar_bytes": plan.size_bytes,
    }
    if plan.notes:
        facts["notes"] = "\n".join(plan.notes)
    if plan.shards:
        facts["plan"] = table(
            [
                {
                    "shard": int(shard.place.shard_id),
                    "from": f"{shard.place.database}.{shard.place.policy}",
                    "to": f"{shard.database}.{shard.policy}",
                    "start": stamp(shard.place.group.start_time_ns),
                    "end": stamp(shard.place.group.end_time_ns),
                    "bytes": shard.archive.entry.size_bytes,
                    "file": shard.archive.entry.file_name,
                }
                for shard in plan.shards
            ]
        )
    return facts


def restore_facts(report: RestoreReport, target: str) -> Metadata:
    """The result of a restore, and its receipts."""
    facts = restore_plan_facts(report.plan, target)
    facts.pop("plan", None)
    facts["seconds"] = round(report.seconds, 3)
    facts |= _receipts(report)
    if report.shards:
        facts["shards_restored"] = table(
            [
                {
                    "shard": int(done.restore.place.shard_id),
                    "new shard": int(done.new_shard_id),
                    "from": f"{done.restore.place.database}.{done.restore.place.policy}",
                    "into": f"{done.restore.database}.{done.restore.policy}",
                    "read back": done.receipt.how,
                    "seconds": round(done.seconds, 3),
                    "file": done.restore.archive.entry.file_name,
                    "receipt": done.receipt.content,
                }
                for done in report.shards
            ]
        )
    return facts


def filled_facts(done: BatchFilled) -> Metadata:
    """What a batch of a restore did."""
    receipts = [receipt for one in done.shards for receipt in one.receipts.values()]
    n_bytes = sum(file.size_bytes for receipt in receipts for file in receipt.files)
    facts: Metadata = {
        "shards": len(done.shards),
        "size": readable_size(n_bytes),
        "bytes": n_bytes,
        "node": ", ".join(sorted({receipt.node for receipt in receipts})) or "-",
        "read_back": ", ".join(
            f"{number} {how}" for how, number in Counter(one.how for one in receipts).items()
        ),
        "shards_restored": table(
            [
                {
                    "shard": int(one.shard_id),
                    "new shard": int(receipt.new_shard_id),
                    "node": receipt.node,
                    "read back": receipt.how,
                    "seconds": round(one.seconds, 3),
                }
                for one in done.shards
                for receipt in one.receipts.values()
            ]
        ),
    }
    away = [one for one in done.shards if one.away is not None]
    if away:
        facts["left_for_the_end"] = len(away)
    if not receipts:
        del facts["read_back"], facts["shards_restored"]
    return facts


def restored_shard_facts(report: RestoreReport, target: str) -> Mapping[str, Metadata]:
    """Each restored shard, by the file name of its archive."""
    return {
        done.restore.archive.entry.file_name: {
            "target": target,
            "restore_point": _restore_point(report.plan),
            "shard_id": str(done.restore.place.shard_id),
            "new_shard_id": str(done.new_shard_id),
            "database": done.restore.database,
            "retention_policy": done.restore.policy,
            "archive": done.restore.archive.entry.file_name,
            "tar_bytes": done.restore.archive.entry.size_bytes,
            "seconds": round(done.seconds, 3),
            "read_back": done.receipt.how,
            "receipt": done.receipt.content,
            **_receipts(report),
        }
        for done in report.shards
    }


def _restore_point(plan: RestorePlan) -> str:
    return plan.backup.newest.file_name.removesuffix(".manifest")


def _receipts(report: RestoreReport) -> Metadata:
    """The path of the receipts, if there are any."""
    path = report.receipt_path
    return {"receipts": dg.MetadataValue.path(path)} if path else {}


def merge_plan_facts(plan: MergePlan, target: str) -> Metadata:
    """The plan of a merge."""
    found = restore_plan_facts(plan.restore, target)
    found.pop("databases", None)
    found |= {"into": plan.into, "dry_run": True}
    if plan.points is not None:
        found["values"] = plan.points
    if plan.notes:
        found["notes"] = "\n".join(plan.notes)
    return found


def merge_facts(report: MergeReport, target: str) -> Metadata:
    """The result of a merge."""
    return {
        "target": target,
        "into": report.into,
        "restore_point": report.backup.removesuffix(".manifest"),
        "values": report.points,
        "values_added": report.added,
        "values_replaced": report.replaced,
        "values_expired": report.expired,
        "shard_groups": report.groups,
        "resumed": report.resumed,
        "seconds": round(report.seconds, 3),
    }


def to_launch(
    run_config: Mapping[str, Any], op: str, config: BaseModel, more: Mapping[str, Any]
) -> dg.MetadataValue:
    """The configuration to paste into the launchpad to execute what a run has planned.

    Args:
        run_config: of the planning run; of its target only values other than defaults are kept.
        config: of the step `op`, besides `more`.
    """
    fields = type(config).model_fields
    chosen = {n: v for n, v in config.model_dump().items() if v != fields[n].default}
    launch: dict[str, Any] = {"ops": {op: {"config": {**chosen, **more, "dry_run": False}}}}
    target = run_config.get("resources", {}).get("target", {}).get("config", {})
    named = {n: v for n, v in target.items() if n != "configuration" and v not in ("", None)}
    if named:
        launch["resources"] = {"target": {"config": named}}
    return dg.MetadataValue.md(f"```yaml\n{yaml.safe_dump(launch, sort_keys=False)}```")
