"""What is wrong with the backups of a cluster now, as far as is known without asking it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg

from assets.evaluation import ARCHIVES_MATCH, NOTHING_MISSING, Judge
from assets.history.asset_history import Ledger
from assets.keys import Family
from assets.messages import what_happened
from assets.metadata.common import for_people
from assets.reachability import REACHABLE, since_s
from pipelines.sensors.alerts import LASTING_S, Trouble
from resources.config.values import Objectives
from resources.errors import ShardkeeperError
from resources.repository.watched import WatchedRepository

AWAY, DIRECTORY, OBJECTIVE = "source", "directory", "objective"


def troubles(
    ledger: Ledger,
    family: Family,
    objectives: Objectives,
    watched: WatchedRepository | ShardkeeperError,
    *,
    first_s: float,
) -> Iterator[Trouble]:
    """Raises nothing of ours: whatever cannot be read is a trouble itself.

    Args:
        watched: the directory of backups, or why it cannot be read.
        first_s: since when somebody looks; before the first backup nothing else is known.
    """
    away = ledger.verdict(family.meta_snapshot, REACHABLE)
    began = since_s(away)
    if away is not None and began is not None:
        why = str(away.metadata["why"].value)
        yield Trouble(AWAY, f"the cluster does not answer: {why}", began, LASTING_S)
    if isinstance(watched, ShardkeeperError):
        yield Trouble(DIRECTORY, what_happened(watched), lasting_s=LASTING_S)
    else:
        yield from _objective(family, objectives, watched, first_s)
    for asset, check in (
        (family.shard_backup, ARCHIVES_MATCH),
        (family.backup_set, NOTHING_MISSING),
    ):
        known = ledger.verdict(asset, check)
        if known is not None and not known.passed:
            yield Trouble(check, _failed(family, known))


def _objective(
    family: Family, objectives: Objectives, watched: WatchedRepository, first_s: float
) -> Iterator[Trouble]:
    goal, now_s = for_people(objectives.recovery_point), time.time()
    hint = f"Next: see why the last runs of {family.back_up_job} failed, or launch it"
    if watched.newest is None:
        if now_s - first_s >= objectives.recovery_point:
            yield Trouble(OBJECTIVE, f"there is no backup yet, after {goal}\n{hint}")
        return
    try:
        places = watched.covered()
    except ShardkeeperError:  # a damaged metastore, of which a check tells
        places = []
    found = Judge(family, objectives).within_objective(watched, places)
    if found.passed:
        return
    late, newest = found.metadata["shards_late"].value, watched.last_whole
    which = f"{late} of {len(places)} shards are in no backup" if late else "there is no backup"
    age = f", {for_people(now_s - newest.started_at.timestamp())} old" if newest else ""
    yield Trouble(
        OBJECTIVE,
        f"{which} of the last {goal}; the newest restore point is {newest or 'none'}{age}\n{hint}",
    )


def _failed(family: Family, known: dg.AssetCheckEvaluation) -> str:
    asset = known.asset_key.path[-1]
    counts = [known.metadata[n].value for n in ("problems_found", "missing") if n in known.metadata]
    count = counts[0] if counts else "some"
    return (
        f"the check {known.check_name} of {asset} has failed: {count} problems\n"
        f"Next: the check lists them; launch {family.verify_job} to read everything again"
    )
