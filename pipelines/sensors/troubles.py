"""The troubles with the backups of a cluster, as far as they are known without contacting it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg

from assets.evaluation import ARCHIVES_MATCH, NOTHING_MISSING, CheckEvaluator
from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from assets.messages import what_happened
from assets.metadata.common import for_people
from assets.reachability import REACHABLE, since_s
from pipelines.sensors.alerts import LASTING_S, Trouble
from resources.config.values import Objectives
from resources.errors import ShardkeeperError, counted
from resources.repository.manifest_cache import ManifestCache

AWAY, DIRECTORY, OBJECTIVE = "source", "directory", "objective"


def troubles(
    history: AssetHistory,
    cluster_assets: ClusterAssets,
    objectives: Objectives,
    cached: ManifestCache | ShardkeeperError,
    *,
    first_s: float,
) -> Iterator[Trouble]:
    """The troubles now; raises none of our errors, as an unreadable directory is a trouble itself.

    Args:
        cached: the directory of backups, or why it cannot be read.
        first_s: the time of the first tick; before the first backup nothing else is known.
    """
    away = history.last_evaluation(cluster_assets.meta_snapshot, REACHABLE)
    began = since_s(away)
    if away is not None and began is not None:
        why = str(away.metadata["why"].value)
        yield Trouble(AWAY, f"the cluster does not answer: {why}", began, LASTING_S)
    if isinstance(cached, ShardkeeperError):
        yield Trouble(DIRECTORY, what_happened(cached), lasting_s=LASTING_S)
    else:
        yield from _objective(cluster_assets, objectives, cached, first_s)
    for asset, check in (
        (cluster_assets.shard_backup, ARCHIVES_MATCH),
        (cluster_assets.backup_set, NOTHING_MISSING),
    ):
        known = history.last_evaluation(asset, check)
        if known is not None and not known.passed:
            yield Trouble(check, _failed(cluster_assets, known))


def _objective(
    cluster_assets: ClusterAssets, objectives: Objectives, cached: ManifestCache, first_s: float
) -> Iterator[Trouble]:
    goal, now_s = for_people(objectives.recovery_point), time.time()
    hint = f"Next: see why {cluster_assets.back_up_job} made no newer one, or launch it"
    if cached.newest is None:
        if now_s - first_s >= objectives.recovery_point:
            yield Trouble(OBJECTIVE, f"there is no backup yet, after {goal}\n{hint}")
        return
    try:
        places = cached.covered()
    except ShardkeeperError:  # a damaged metastore, which a check reports
        places = []
    found = CheckEvaluator(cluster_assets, objectives).within_objective(cached, places)
    if found.passed:
        return
    late, newest = int(str(found.metadata["shards_late"].value)), cached.last_whole
    all_ = f"of {counted(len(places), 'shard')}"
    which = counted(late, f"{all_} is in no backup", f"{all_} are in no backup")
    which = which if late else "there is no backup"
    age = f", {for_people(now_s - newest.started_at.timestamp())} old" if newest else ""
    yield Trouble(
        OBJECTIVE,
        f"{which} of the last {goal}; the newest restore point is {newest or 'none'}{age}\n{hint}",
    )


def _failed(cluster_assets: ClusterAssets, known: dg.AssetCheckEvaluation) -> str:
    asset = known.asset_key.path[-1]
    counts = [known.metadata[n].value for n in ("problems_found", "missing") if n in known.metadata]
    found = counted(int(str(counts[0])), "problem") if counts else "some problems"
    return (
        f"the check {known.check_name} of {asset} has failed: {found}\n"
        f"Next: the check lists them; launch {cluster_assets.verify_job} to read everything again"
    )
