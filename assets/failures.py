"""Shardkeeper's errors as Dagster failures: what happened, and the next step."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import dagster as dg

from assets.messages import in_fields, what_happened
from resources.errors import ExitCode, LockLost, ShardkeeperError


@contextmanager
def explained(
    again: type[ShardkeeperError] | tuple[()] = (),
) -> Generator[dict[str, dg.MetadataValue]]:
    """Turn a ShardkeeperError into a Failure, with the metadata that the block adds to the dict.

    A bug keeps its traceback. Only our own errors lose theirs: ten frames of Dagster under one
    sentence hide the sentence.

    Args:
        again: errors that another attempt of the step may not meet, beside retryable ones. A run
            that lost its place has none.
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
            allow_retries=error.retryable
            or (isinstance(error, again) and not isinstance(error, LockLost)),
        ) from None
