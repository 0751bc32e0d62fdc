"""The clusters that a run is about, however it was launched.

Only jobs have our tag. *Materialize*, *Execute* and backfills start a run of Dagster's own asset
job, which knows only the selected assets and checks.
"""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg

from assets.keys import TAG


def clusters_of(run: dg.DagsterRun, clusters: Collection[str]) -> list[str]:
    """The configured clusters that a run is about; none if they cannot be determined."""
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
    """The cluster whose name is in a step or a job; of `eu` and `eu_west` the longer one."""
    found = [c for c in clusters if step.startswith(f"{c}_") or step.endswith(f"_{c}")]
    return max(found, key=len, default="")
