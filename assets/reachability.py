"""Whether a cluster answers, as the check `reachable` says: written down by whoever asks it.

A look that fails ends its run or its tick, and what it has learned would end with it. The check
keeps it: since when, why and what to do; it turns again with the first answer.
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
    """Write down whether the cluster answers what the block asks it, where that is news."""
    try:
        yield
    except (WireError, UsageError) as error:
        _turn(history, cluster_assets, error)
        raise
    except ShardkeeperError:
        raise  # of the directory of backups, which tells nothing of the cluster
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
    """Of what an attempt to reach the cluster has found; no reason: it answers."""
    return dg.AssetCheckEvaluation(
        asset_key=cluster_assets.meta_snapshot,
        check_name=REACHABLE,
        passed=not why,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"why": why, "since": utc(since), SINCE: float(since)} if why else {},
    )


def since_s(known: dg.AssetCheckEvaluation | None) -> float | None:
    """Since when the cluster has not answered; None: it does."""
    found = known.metadata.get(SINCE) if known is not None and not known.passed else None
    return float(found.value) if found is not None else None  # type: ignore[arg-type]
