"""Check what a user entered into the launchpad before anything else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from resources.engine.restore.as_of import LATEST, parse_moment
from resources.errors import UsageError

SECRETS = {"password": "password_file", "secret": "secret_file"}
"""Fields of a target with secrets, and the fields that name a file instead."""


def require_no_plain_secrets(run_config: Mapping[str, Any]) -> None:
    """Require that no secret is in plain: Dagster keeps and shows a run's settings for ever.

    Raises:
        UsageError: one is.
    """
    target = run_config.get("resources", {}).get("target", {}).get("config", {})
    for field, file in SECRETS.items():
        if isinstance(target.get(field), str) and target[field]:
            raise UsageError(
                f"target: {field} is written in plain, and a run's settings are kept and shown",
                hint=f"write {field}: {{env: NAME}} or {file}: PATH; change the {field}, for this "
                "run shows it",
            )


def say_when(log: dg.DagsterLogManager, as_of: str) -> None:
    """Log the moment that `as_of` means, and warn if it lies ahead.

    Raises:
        UsageError: it is not a time.
    """
    if as_of in ("", LATEST):
        return
    moment = parse_moment(as_of)
    if moment > datetime.now(UTC):
        log.warning(f"as_of: {as_of} lies ahead, so it means the latest restore point")
    else:
        log.info(f"as_of: {as_of} is {moment:%Y-%m-%d %H:%M:%S} UTC")
