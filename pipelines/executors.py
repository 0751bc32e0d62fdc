"""Dagster's executors, as shardkeeper.yaml names them.

Celery: a worker acknowledges a step when it is over, so the step of a dead worker is given to
another one. It is given to another one, too, once it takes longer than `visibility_timeout`: then
two do one batch, which harms nothing, and one of them for nothing. So that time is long.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import dagster as dg

from resources.config.values import EXECUTORS, Executor
from resources.errors import UsageError, shown

PRELOADED = ("assets.lineage", "pipelines.jobs", "pipelines.sensors.change_sensor")
"""What definitions are made of: importing it takes seconds, which a fork server spends once."""
VISIBILITY_TIMEOUT_S = 6 * 3600
DEFAULTS: dict[str, dict[str, Any]] = {
    "multiprocess": {"start_method": {"forkserver": {"preload_modules": list(PRELOADED)}}},
    "celery": {
        "config_source": {
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "worker_prefetch_multiplier": 1,
            "broker_transport_options": {
                "visibility_timeout": VISIBILITY_TIMEOUT_S,
                "unacked_restore_throttle": 1,
            },
        }
    },
}


def executor_definition(settings: Executor) -> dg.ExecutorDefinition:
    """The executor that a configuration names.

    Raises:
        UsageError: it is not installed, or is configured wrongly.
    """
    found = _load(settings.kind)
    config = _merged(DEFAULTS.get(settings.kind, {}), settings.config)
    if not config:
        return found
    try:
        configured = found.configured(config)
        dg.validate_run_config(dg.JobDefinition(graph_def=_EMPTY, executor_def=configured))
    except (dg.DagsterInvalidConfigError, dg.DagsterInvalidDefinitionError) as error:
        raise UsageError(
            f"executor: the configuration of {settings.kind} is wrong: {_first_line(error)}",
            hint="docs/configuration.md has an example; Dagster's documentation has all fields",
        ) from None
    return configured


def _load(kind: str) -> dg.ExecutorDefinition:
    place = EXECUTORS.get(kind, kind)
    module, _, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"executor: {shown(kind)} cannot be loaded: {error}",
            hint=f"pip install {module.replace('_', '-')}, of the release of your Dagster"
            if kind in EXECUTORS
            else "write module:attribute, such as dagster_k8s:k8s_job_executor, and install it",
        ) from None
    if not isinstance(found, dg.ExecutorDefinition):
        raise UsageError(f"executor: {shown(kind)} is not a Dagster executor")
    return found


def _merged(default: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Both, level by level; where they differ, what was chosen."""
    merged = dict(default)
    for key, value in chosen.items():
        before: Any = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict) and key != "start_method"
        merged[key] = _merged(before, value) if both else value
    return merged


def _first_line(error: Exception) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if "Error 1:" in line), str(error))


@dg.graph
def _EMPTY() -> None:
    """A job of no steps, to check an executor's configuration with."""
