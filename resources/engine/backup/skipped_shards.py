"""A shard whose reading brought its server down twice is skipped for a growing time.

The backup saves the others. Every run names the shard as not saved. The crashes are recorded
beside the backups (see `crash_record`), because the run that saw them may save nothing at all.
`-shard` reads the shard in spite of the record.

Held by tests/faults/test_crashing_shard.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from resources.clients.source import BackupSource
from resources.engine.backup.crash_record import TIMES_LEFT, Crash, CrashRecord
from resources.engine.events import Emit, Warned
from resources.errors import counted, named_few
from resources.model import ShardID
from resources.protocol.times import format_time
from resources.repository.storage.store import Store

LOG_HINT = "the server's log says why; -shard reads it all the same"


class LeftAlone:
    """The skipped shards of one run."""

    def __init__(self, source: BackupSource, store: Store, cluster_id: int) -> None:
        self._source = source
        self._record = CrashRecord(store, cluster_id)
        self._known = self._record.read()

    def skipped(self, asked: ShardID | None) -> dict[ShardID, str]:
        """The shards that are not to be read yet, with the reason; marks others as suspects.

        Args:
            asked: a shard that is read in spite of the record.
        """
        now_ns = time.time_ns()
        found: dict[ShardID, str] = {}
        for shard_id, crash in self._known.items():
            if crash.until_ns > now_ns and shard_id != asked:
                found[shard_id] = (
                    f"shard {shard_id} is left alone until {format_time(crash.until_ns)[:19]}Z: "
                    f"reading it brought its server down {counted(crash.crashes, 'time')}; "
                    f"{LOG_HINT}"
                )
            else:
                self._source.crashes.suspect(shard_id, crash.crashes)
        return found

    def note(self, *, emit: Emit) -> None:
        """Record new crashes, and warn of each once."""
        counts = self._source.crashes.counts
        now = {i: c for i, c in self._known.items() if c.until_ns > time.time_ns() or i in counts}
        new: list[ShardID] = []
        for shard_id, times in counts.items():
            before = self._known.get(shard_id)
            if before is None or times > before.crashes:
                now[shard_id] = Crash(times, time.time_ns())
                new.append(shard_id)
        if now == self._known:
            return
        self._known = now
        self._record.write(now)
        if new:
            emit(
                Warned(_described(self._source.crashes.where.get(new[0], ""), new, counts[new[0]]))
            )


def _described(address: str, shards: Sequence[ShardID], times: int) -> str:
    named = named_few(sorted(shards))
    if len(shards) == 1 and times >= TIMES_LEFT:
        return (
            f"{address} went down {counted(times, 'time')} while shard {named} was read, so that "
            f"shard is left alone for a while; {LOG_HINT}"
        )
    return (
        f"{address} went down while shards were read: {named}; each of them is read alone next, to "
        "find out whether it is the cause"
    )
