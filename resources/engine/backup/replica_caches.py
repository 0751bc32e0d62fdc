"""Have the nodes written the caches of shards that will be read?

A busy node answers with files and without its cache, so an answer proves nothing. A node that
reports a shard as cold has nothing of it in memory. For the others the nodes' figures are read
over HTTP, for all shards at once, before and after a request for files; `completeness` says what
they prove. What is not proven is requested again, after growing pauses.

Source: influxdb-cluster tsdb/engine/tsm1/engine.go (IsIdle, CreateSnapshot).

Held by: tests/wire/test_cluster_busy.py; the rules by test_completeness.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from msgspec import Struct, field

from resources.clients.source import BackupSource, SourceFacts
from resources.engine.backup.completeness import (
    Sample,
    is_sufficient,
    is_written_out,
    was_written_out,
)
from resources.errors import WireError
from resources.model import ShardID

PATIENCE_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 3.0

Replica = tuple[ShardID, str]
"""A shard and the node that has it."""
WriteOut = Callable[[Collection[Replica]], Collection[Replica]]
"""Makes nodes write out replicas; returns those for which files came."""


class Unproven(Struct, frozen=True):
    """Replicas of which something may be only in memory."""

    busy: frozenset[Replica] = frozenset()
    """Their nodes report so."""
    unknown: frozenset[Replica] = frozenset()
    """Their nodes report no figures."""
    mute: frozenset[str] = field(default_factory=frozenset[str])
    """Nodes that report no figures."""


def unproven(
    source: BackupSource,
    replicas: Iterable[Replica],
    write_out: WriteOut,
) -> Unproven:
    """Have replicas written out until their nodes prove it; returns the unproven ones.

    Args:
        replicas: those that their nodes do not report as at rest.
    """
    pending, unknown = set(replicas), set[Replica]()
    before = _samples(source, {node for _, node in pending})
    pending = {r for r in pending if not _is_written_out(_sample(before, r))}
    deadline, pause_s = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
    while pending:
        answered = set(write_out(pending))
        after = _samples(source, {node for _, node in pending})
        for replica in list(pending):
            first, last = _sample(before, replica), _sample(after, replica)
            if first is None and last is None and not _is_silent(after, replica):
                unknown.add(replica)
                pending.discard(replica)
            elif _is_written_out(last) or (
                replica in answered
                and first is not None
                and last is not None
                and was_written_out(first, last)
            ):
                pending.discard(replica)
        before = after
        if not pending or time.monotonic() > deadline:
            break
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    return Unproven(frozenset(pending), frozenset(unknown), frozenset(node for _, node in unknown))


def _samples(source: BackupSource, nodes: Collection[str]) -> dict[str, SourceFacts | None]:
    """What nodes report of all their shards; None for a node that does not answer."""
    described: dict[str, SourceFacts | None] = {}
    for node in nodes:
        try:
            described[node] = source.figures(node)
        except WireError:
            described[node] = None
    return described


def _is_silent(samples: dict[str, SourceFacts | None], replica: Replica) -> bool:
    """Whether the node reported figures before, and does not at this moment."""
    return samples.get(replica[1]) is None


def _sample(samples: dict[str, SourceFacts | None], replica: Replica) -> Sample | None:
    shard_id, node = replica
    facts = samples.get(node)
    stats = facts.shards.get(shard_id) if facts else None
    if facts is None or facts.started_ns is None or stats is None or not is_sufficient(stats):
        return None
    return Sample(facts.started_ns, stats)


def _is_written_out(sample: Sample | None) -> bool:
    return sample is not None and is_written_out(sample)
