"""A cluster with an invalid configuration, shown in the graph in red, with the line at fault.

Without this asset the cluster would vanish from the UI as if it had never been backed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from assets.failures import explained
from assets.keys import KINDS, TAG
from resources.config.reading import read_sound
from resources.errors import UsageError

CAN_BE = "can_be"
DESCRIPTION = """
The settings of this cluster in shardkeeper.yaml.

It is not valid, so the cluster is **left out**, and nothing backs it up:

{problems}

The other clusters are backed up. Correct the file, run `shardkeeper config check`, and reload the
code location (**Deployment**, *Reload*); the assets of the cluster come back with their history.
"""


def key_of(name: str) -> dg.AssetKey:
    """The key of the asset that represents a left-out cluster."""
    return dg.AssetKey([name.replace("/", "_"), "configuration"])


def is_left_out(name: str, why: str) -> dg.AssetCheckEvaluation:
    """The check's evaluation until the file is corrected."""
    return dg.AssetCheckEvaluation(
        asset_key=key_of(name), check_name=CAN_BE, passed=False, metadata={"problems": why}
    )


def left_out_definitions(
    name: str, errors: Sequence[UsageError], configuration: str
) -> dg.Definitions:
    """One asset with a failing check, in the group where the cluster's assets would be."""
    key = key_of(name)
    problems = "\n".join(f"    {error.what}" for error in errors)

    @dg.asset_check(
        asset=key,
        name=CAN_BE,
        description="The settings of the cluster are valid. Executing the check reads the file "
        "again.",
    )
    def can_be() -> dg.AssetCheckResult:
        with explained():
            found = read_sound(Path(configuration)).broken.get(name, [])
        message = "\n".join(error.what for error in found)
        return dg.AssetCheckResult(
            passed=not found,
            metadata={"problems": message or "none any more: reload the code location"},
        )

    spec = dg.AssetSpec(
        key,
        description=DESCRIPTION.format(problems=problems),
        group_name=key.path[0] if key.path[0].isidentifier() else None,
        kinds=KINDS,
        tags={TAG: key.path[0]} if key.path[0].isidentifier() else {},
    )
    return dg.Definitions(assets=[spec], asset_checks=[can_be])
