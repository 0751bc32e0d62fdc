"""What Dagster raises for a definition that it does not take."""

from __future__ import annotations

import dagster as dg


def definition_errors() -> tuple[type[Exception], ...]:
    """Its documented errors, and the one of its own checks, which another version may not have."""
    try:
        from dagster_shared.check import CheckError
    except ImportError:
        return (dg.DagsterError,)
    return (dg.DagsterError, CheckError)
