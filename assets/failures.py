"""Errors of ours, as Dagster shows them: what happened, and what to do next."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from assets.messages import in_fields, what_happened
from resources.errors import ExitCode, ShardkeeperError


@contextmanager
def explained() -> Generator[dict[str, dg.MetadataValue]]:
    """Turn a ShardkeeperError into a Failure; what the block puts into the dict goes with it.

    A bug keeps its traceback: only our own errors are made polite, and only they hide the way
    they came: ten frames of Dagster's under a sentence keep people from reading it.
    """
    more: dict[str, dg.MetadataValue] = {}
    try:
        yield more
    except ShardkeeperError as error:
        emit_to = error.exit_code is not ExitCode.FAILED
        raise dg.Failure(
            description=what_happened(error),
            metadata={
                "kind": type(error).__name__,
                **({"exit_code": error.exit_code.name} if emit_to else {}),
                **({"next_step": in_fields(error.hint)} if error.hint else {}),
                **more,
            },
            allow_retries=error.retryable,
        ) from None
