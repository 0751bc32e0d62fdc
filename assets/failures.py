"""Errors of ours, as Dagster shows them: what happened, and what to do next."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from resources.errors import ShardkeeperError


@contextmanager
def explained() -> Generator[dict[str, dg.MetadataValue]]:
    """Turn a ShardkeeperError into a Failure; what the block puts into the dict goes with it.

    A bug keeps its traceback: only our own errors are made polite.
    """
    more: dict[str, dg.MetadataValue] = {}
    try:
        yield more
    except ShardkeeperError as error:
        raise dg.Failure(
            description=f"{error}" + (f"\nNext: {error.hint}" if error.hint else ""),
            metadata={
                "kind": type(error).__name__,
                "exit_code": error.exit_code.name,
                **({"next_step": error.hint} if error.hint else {}),
                **more,
            },
            allow_retries=error.retryable,
        ) from error
