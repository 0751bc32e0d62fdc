"""Whether a cluster answers: runs and sensors that query it record that in the check `reachable`.

A scan that fails ends its run or its tick. The check keeps the cause, since when, and the next
step; the next answer turns it green again.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from assets.messages import what_happened
from assets.metadata.common import utc
from resources.errors import ShardkeeperError, UsageError, WireError

REACHABLE = "reachable"
SINCE = "since_seconds"


@contextmanager
def reached(history: AssetHistory, cluster_assets: ClusterAssets) -> Generator[None]:
    """Record whether the cluster answers the requests of the block, if that has changed."""
    try:
        yield
    except (WireError, UsageError) as error:
        _turn(history, cluster_assets, error)
        raise
    except ShardkeeperError:
        raise  # an error of the directory of backups, which says nothing about the cluster
    _turn(history, cluster_assets, None)


def _turn(
    history: AssetHistory, cluster_assets: ClusterAssets, error: ShardkeeperError | None
) -> None:
    known = history.last_evaluation(cluster_assets.meta_snapshot, REACHABLE)
    why = what_happened(error) if error else ""
    if known is not None:
        before = known.metadata.get("why")
        if known.passed == (error is None) and (before is None or before.value == why):
            return
    history.record_checks([evaluation(cluster_assets, why, since_s(known) or time.time())])


def evaluation(cluster_assets: ClusterAssets, why: str, since: float) -> dg.AssetCheckEvaluation:
    """The check's evaluation after an attempt to reach the cluster; an empty `why`: it answers."""
    return dg.AssetCheckEvaluation(
        asset_key=cluster_assets.meta_snapshot,
        check_name=REACHABLE,
        passed=not why,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"why": why, "since": utc(since), SINCE: float(since)} if why else {},
    )


def since_s(known: dg.AssetCheckEvaluation | None) -> float | None:
    """Since when the cluster has not answered; None: it answers."""
    found = known.metadata.get(SINCE) if known is not None and not known.passed else None
    value = found.value if found is not None else None
    return value if isinstance(value, float) else None
