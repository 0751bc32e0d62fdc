"""The errors that Dagster raises for a definition that it rejects."""

from __future__ import annotations

import dagster as dg


def definition_errors() -> tuple[type[Exception], ...]:
    """Dagster's documented errors, and that of its internal checks if this version has it."""
    try:
        from dagster_shared.check import CheckError
    except ImportError:
        return (dg.DagsterError,)
    return (dg.DagsterError, CheckError)
