"""Which clusters a run is about, whoever launched it and however.

Only jobs have our tag. What *Materialize*, *Execute* and backfills start is a run of Dagster's
own job for assets, which knows nothing but the assets and checks that it was to make.
"""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg

from assets.keys import TAG


def clusters_of(run: dg.DagsterRun, clusters: Collection[str]) -> list[str]:
    """The configured clusters that a run is about; none if it cannot be told."""
    tagged = run.tags.get(TAG)
    if tagged:
        return [tagged]
    keys = [*(run.asset_selection or ())]
    keys += [check.asset_key for check in run.asset_check_selection or ()]
    named = {key.path[0] for key in keys}
    if not named:
        steps = [*(run.step_keys_to_execute or ()), run.job_name]
        named = {_owner(step, clusters) for step in steps}
    return sorted(named & set(clusters))


def _owner(step: str, clusters: Collection[str]) -> str:
    """The cluster whose name a step or a job carries; of `eu` and `eu_west` the longer one."""
    found = [c for c in clusters if step.startswith(f"{c}_") or step.endswith(f"_{c}")]
    return max(found, key=len, default="")
