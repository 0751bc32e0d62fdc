"""Batches that are steps of a run: when they are, and how a step finds its batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from resources.engine.workers.sharing import node_of
from resources.errors import UsageError, shown

Item = TypeVar("Item")
_STEP = re.compile(r"(b[0-9]{1,9}n[0-9]{1,9})_([0-9a-f]{16})")


class StepSettings(Struct, frozen=True):
    """When batches are steps, and what may lie between two of them.

    Attributes:
        batch_bytes: what makes a step worth its cost; 0: no batch is a step.
        gap_s: the lease of a run while none of its steps is at work.
        command: what to show to others who meet the lock.
    """

    batch_bytes: int
    gap_s: float
    command: str


class BatchStep(Struct, frozen=True):
    """A batch that is to be done by a step of its own.

    Attributes:
        name: of the step; it tells the batch and the run.
        node: a number for the data node that it reads from or sends to.
    """

    name: str
    node: int
    shards: int
    bytes: int


def batch_steps(
    planned: Mapping[str, Sequence[Item]], key: str, size_of: Callable[[Item], int]
) -> tuple[BatchStep, ...]:
    """The steps of a run, in the order of its batches.

    Args:
        planned: what each batch has to do, by its name.
        key: of the run.
    """
    return tuple(
        BatchStep(f"{name}_{key}", int(node_of(name)), len(items), sum(map(size_of, items)))
        for name, items in planned.items()
    )


def parse_step(step: str) -> tuple[str, str]:
    """The batch that a step does, and the key of its run.

    Raises:
        UsageError: no step has such a name.
    """
    match = _STEP.fullmatch(step)
    if match is None:
        raise UsageError(f"{shown(step)} is no batch of a run")
    return match[1], match[2]
