"""Before a shard is read, make its node write everything acknowledged to files, and verify it.

The archive is read after that, because a shard may take long to read and need not be read twice;
see `completeness` for the proof. The request that makes a node write its cache asks for files
newer than any, so it costs next to nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from resources.clients.source import BackupSource, SourceFacts
from resources.engine.backup.completeness import (
    Sample,
    Written,
    is_sufficient,
    is_written_out,
    written,
)
from resources.errors import NotWrittenOut, PeerClosedEarly, ShardBusy, Stopped
from resources.model import ShardID

FAR_FUTURE_NS = 9_214_646_400_000_000_000
"""2262-01-01: no file is newer, so a request for newer ones only writes the cache out."""
PATIENCE_S = 60.0
"""How long a node may take to write a shard's cache out before the shard counts as failed."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class Samples:
    """Reads nodes' figures; concurrent threads share an answer.

    A node reports the figures of all its shards at once, which takes a second for ten thousand.
    """

    def __init__(self, source: BackupSource) -> None:
        self._source = source
        self._mutex = threading.Lock()
        self._nodes: dict[str, _Node] = {}

    def fresh(self, node: str) -> SourceFacts:
        """The node's figures, from a request that began after this call did.

        Raises:
            WireError: it does not answer.
        """
        with self._mutex:
            asked = self._nodes.setdefault(node, _Node())
        ticket = asked.begun
        with asked.lock:
            if asked.answer is None or asked.answered <= ticket:
                number = asked.begun = asked.begun + 1
                asked.answer = None
                asked.answer = self._source.figures(node)
                asked.answered = number
            return asked.answer


class _Node:
    """The last answer of a node, and the number of its request."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.begun = 0
        self.answered = 0
        self.answer: SourceFacts | None = None


def sample_of(facts: SourceFacts | None, shard_id: ShardID) -> Sample | None:
    """A shard's sample; None if its node does not report enough."""
    stats = facts.shards.get(shard_id) if facts else None
    if facts is None or facts.started_ns is None or stats is None or not is_sufficient(stats):
        return None
    return Sample(facts.started_ns, stats)


class WriteOut:
    """Makes nodes write shards to files; one instance serves all threads of a run.

    Args:
        first: what nodes reported when the run began, by address; another node is asked anew.
        stop: ends the waiting.
    """

    def __init__(
        self, source: BackupSource, first: Mapping[str, SourceFacts], stop: threading.Event
    ) -> None:
        self._source = source
        self._samples = Samples(source)
        self._first = first
        self._stop = stop

    def before_reading(self, shard_id: ShardID, node: str) -> Written | None:
        """Wait until everything acknowledged before this call is in the shard's files.

        Returns the node's last sample; None if it reports none, so that nothing is proven.

        Raises:
            NotWrittenOut: the node did not finish in time.
            ShardBusy: the node refuses, or the shard is gone.
            Stopped: `stop` was set.
            WireError: the node does not answer.
        """
        before = sample_of(self._first.get(node), shard_id)
        before = before or sample_of(self._samples.fresh(node), shard_id)
        if before is None:
            return None
        if is_written_out(before):
            return Written(before, at_rest=True)
        deadline, pause_s = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
        while True:
            self._ask_for_nothing(shard_id, node)
            after = sample_of(self._samples.fresh(node), shard_id)
            if after is None:
                return None
            if proven := written(before, after):
                return proven
            if time.monotonic() > deadline:
                raise _not_done(shard_id, node, after)
            if self._stop.wait(pause_s):
                raise Stopped("stopped before the backup was complete")
            before, pause_s = after, min(2 * pause_s, LONGEST_PAUSE_S)

    def after_reading(self, shard_id: ShardID, node: str) -> Sample | None:
        """What the node reports now; None if it reports nothing.

        Raises:
            WireError: it does not answer.
        """
        return sample_of(self._samples.fresh(node), shard_id)

    def _ask_for_nothing(self, shard_id: ShardID, node: str) -> None:
        """Make the node write the shard's cache."""
        buffer = bytearray(4096)
        try:
            with self._source.open_shard(shard_id, node=node, since_ns=FAR_FUTURE_NS) as stream:
                while stream.recv_into(buffer):
                    pass
        except PeerClosedEarly as error:
            raise ShardBusy(error.what, hint=error.hint) from None


def _not_done(shard_id: ShardID, node: str, last: Sample) -> NotWrittenOut:
    cache = last.stats.cache
    assert cache is not None  # noqa: S101 - `sample_of` skips nodes that report no caches
    what = f"{cache.memory_bytes} bytes of it are in memory"
    if cache.is_snapshotting:
        what = f"a snapshot of {cache.snapshot_bytes} bytes is being written, or failed"
    return NotWrittenOut(
        f"{node} did not write shard {shard_id} to files within {PATIENCE_S:.0f} s: {what}; "
        'look for "snapshot" in its log',
        hint="is its disk full or slow, or does another backup run? Then run this one again",
    )
