"""The code location `shardkeeper`, and the one place that looks at the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

import dagster as dg

from assets.family import Family
from assets.server import build_assets, build_checks
from pipelines.jobs import back_up_job, restore_job
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import InfluxServerResource

PREFIX = "SHARDKEEPER"
DEFAULT_HOST = "localhost:8088"


def definitions(environment: Mapping[str, str]) -> dg.Definitions:
    """Everything that Dagster is to know, for one server.

    Args:
        environment: `SHARDKEEPER_NAME` prefixes the assets, `_HOST`, `_HTTP`, `_USER` and
            `_PASSWORD` reach the server, `_BACKUPS` is the directory of its backups, and
            `_TARGET_HOST` and so on reach the server that restores go to; it defaults to the
            same one, which restores refuse unless told otherwise.

    Raises:
        UsageError: the name is none that Dagster takes.
    """
    family = Family(environment.get(f"{PREFIX}_NAME", "influxdb"))
    source = _server(environment, PREFIX)
    target = _server(environment, f"{PREFIX}_TARGET")
    if f"{PREFIX}_TARGET_HOST" not in environment:
        target = source
    return dg.Definitions(
        assets=build_assets(family),
        asset_checks=build_checks(family),
        jobs=[back_up_job(family), restore_job(family, target)],
        resources={
            "source": source,
            "backups": BackupRepositoryResource(
                path=environment.get(f"{PREFIX}_BACKUPS", "backups")
            ),
            "target": InfluxServerResource.configure_at_launch(**dict(target)),
        },
    )


def _server(environment: Mapping[str, str], prefix: str) -> InfluxServerResource:
    password = f"{prefix}_PASSWORD"
    return InfluxServerResource(
        host=environment.get(f"{prefix}_HOST", DEFAULT_HOST),
        http=environment.get(f"{prefix}_HTTP", ""),
        user=environment.get(f"{prefix}_USER", ""),
        password=dg.EnvVar(password) if environment.get(password) else "",
    )


@dg.definitions
def defs() -> dg.Definitions:
    return definitions(os.environ)
