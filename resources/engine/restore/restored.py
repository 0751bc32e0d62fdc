"""What a restore has done."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from resources.engine.events import ShardRestored
from resources.engine.restore.plan import RestorePlan, ShardRestore
from resources.engine.restore.receipt import NOT_READ_BACK, Receipt
from resources.errors import RestorePartial, ShardkeeperError
from resources.model import ShardID


class RestoredShard(Struct, frozen=True):
    """A shard that is on the target, proved by reading every copy back."""

    restore: ShardRestore
    new_shard_id: ShardID
    receipts: tuple[Receipt, ...]
    """One for each copy; a single server has one."""
    seconds: float

    @property
    def receipt(self) -> Receipt:
        """Of the copy that was made last."""
        return self.receipts[-1]

    def event(self, nodes: Sequence[str]) -> ShardRestored:
        """What is told of it; `nodes` have a copy each."""
        place = self.restore.place
        return ShardRestored(
            database=place.database,
            policy=place.policy,
            shard_id=place.shard_id,
            new_shard_id=self.new_shard_id,
            nodes=tuple(nodes),
            size_bytes=self.restore.archive.entry.size_bytes,
            seconds=self.seconds,
            read_back=self.receipt.how != NOT_READ_BACK,
        )


class RestoreReport(Struct, frozen=True):
    """What a restore did."""

    plan: RestorePlan
    shards: tuple[RestoredShard, ...]
    seconds: float
    receipt_path: str = ""
    """Where the receipt is; empty if nothing was read back."""
    left_out: tuple[str, ...] = ()
    """What was damaged at the source, a line for each shard."""

    def check_complete(self) -> None:
        """Raise RestorePartial if something was damaged at the source, and so left out."""
        for first in self.left_out:
            more = f" (and {len(self.left_out) - 1} more)" if len(self.left_out) > 1 else ""
            raise RestorePartial(
                f"everything else is restored, and read back: {first}{more}",
                hint="what is left out is in the archives still, byte for byte as it came",
            )

    @property
    def bytes_transferred(self) -> int:
        """Tar bytes, as the original counts them."""
        return sum(shard.restore.archive.entry.size_bytes for shard in self.shards)


@contextmanager
def noting_completion() -> Generator[threading.Event]:
    """Have an interrupt that comes once the event is set say that everything is restored."""
    is_complete = threading.Event()
    try:
        yield is_complete
    except BaseException as error:
        if is_complete.is_set() and not isinstance(error, ShardkeeperError):
            error.add_note("everything is restored all the same, and stays")
        raise
