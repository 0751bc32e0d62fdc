"""One peer's trouble delays its own shards only.

Whoever talks to a server or data node does so within `Peer.exchange`. If it does not answer there,
it is asked at once, briefly, whether it is still there. If not, it counts as away. Nobody waits for
it again: who wants something of it hears so at once (`PeerAway`), and what others wait for is
broken off, so that it costs one time-out, whenever each of them began. Its turn comes again with
growing pauses, or when a run has done everything else (`Peer.await_return`). A peer that answers
briefly and lets two requests run into their time-outs is away, too.

A server that goes down while one of its shards is read may do so because of it. The shards that
were being read are read alone then, so that the second time it is known which one it was; that one
is not read any more (`Crashes`).

Held by tests/resources/clients/test_peers.py; on real servers by tests/faults/peers.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

from resources.errors import (
    ArchiveCorrupt,
    PeerAway,
    PeerSilent,
    PeerTooSlow,
    PeerUnreachable,
    ShardkeeperError,
    ShardLeftAlone,
    UnknownOutcome,
    WireError,
)
from resources.model import ShardID

BRIEFLY_S = 3.0
"""How long a peer may be silent that is asked whether it is there."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 240.0
"""How long a peer that is away is not asked, if asking takes time."""
AT_ONCE_S, SHORT_PAUSE_S = 0.5, 0.5
"""Who refuses within the first may be asked again after the second."""
MAX_SILENCES = 2
MAX_CRASHES = 2
ALONE_WITHIN_S = 120.0
"""How long a reader waits until nobody else reads from the same server."""


@dataclass(slots=True)
class Crashes:
    """Shards whose reading brought a server down; one for all peers of a source.

    Attributes:
        counts: how often, by shard.
        alone: of these, shards that were the only one being read.
        left: shards that are not to be read, and why.
        where: by shard, the server that went down last.
    """

    counts: dict[ShardID, int] = field(default_factory=dict[ShardID, int])
    alone: set[ShardID] = field(default_factory=set[ShardID])
    left: dict[ShardID, str] = field(default_factory=dict[ShardID, str])
    where: dict[ShardID, str] = field(default_factory=dict[ShardID, str])

    def note(self, address: str, shards: Collection[ShardID]) -> None:
        """A server went down while these were read."""
        for shard_id in shards:
            self.where[shard_id] = address
            self.counts[shard_id] = self.counts.get(shard_id, 0) + 1
            if len(shards) == 1:
                self.alone.add(shard_id)
            if self.counts[shard_id] >= MAX_CRASHES and shard_id in self.alone:
                times = self.counts[shard_id]
                self.left[shard_id] = f"reading it brought its server down {times} times"

    def suspect(self, shard_id: ShardID, times: int) -> None:
        """It has brought servers down in earlier runs: it is read alone."""
        self.counts.setdefault(shard_id, times)
        self.left.pop(shard_id, None)

    def forget(self, shards: Collection[ShardID]) -> None:
        """The server had not gone down after all."""
        for shard_id in shards:
            self.counts[shard_id] = self.counts.get(shard_id, 1) - 1
            if not self.counts[shard_id]:
                self.survived(shard_id)
            self.left.pop(shard_id, None)

    def survived(self, shard_id: ShardID) -> None:
        """It was read to its end."""
        self.counts.pop(shard_id, None)
        self.alone.discard(shard_id)

    def require_readable(self, shard_id: ShardID) -> None:
        """Raises: ShardLeftAlone."""
        why = self.left.get(shard_id)
        if why is not None:
            raise ShardLeftAlone(
                f"shard {shard_id} is left alone: {why}",
                hint="the server's log says why it went down; -shard reads it all the same",
            )


class Peer:
    """A server or data node, and whether it answers; safe to share between threads.

    Args:
        address: what to call it.
        answers: asks briefly whether it is there.
        crashes: of the source that it belongs to.
    """

    def __init__(
        self, address: str, answers: Callable[[], bool], crashes: Crashes | None = None
    ) -> None:
        self.address = address
        self.crashes = crashes if crashes is not None else Crashes()
        self.restarted: Callable[[], bool | None] = lambda: None
        """Whether it answers as another process than before; None: it does not say."""
        self.went_away: Callable[[], None] = lambda: None
        """Called when it counts as away from now on."""
        self._answers = answers
        self._lock = threading.Lock()
        self._why: PeerUnreachable | None = None
        self._silences = 0
        self._ask_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._suspects: set[ShardID] = set()
        self._reading: list[tuple[ShardID, int]] = []
        self._readers = threading.Condition()

    @property
    def why_away(self) -> PeerUnreachable | None:
        """What was wrong when it was asked last; None if it counts as there."""
        return self._why

    # --- talking ----------------------------------------------------------------------------

    @contextmanager
    def exchange(self, aborted: Callable[[], bool] = lambda: False) -> Generator[None]:
        """Talk to it in the block.

        Args:
            aborted: whether we have broken off ourselves, which says nothing of the peer.

        Raises:
            PeerAway: it did not answer a moment ago.
        """
        self.require_answering()
        try:
            yield
        except PeerAway:
            raise
        except (PeerUnreachable, UnknownOutcome) as error:
            if not aborted():
                self._note(error)
            raise

    @contextmanager
    def reading(
        self, shard_id: ShardID, *, whole: bool, aborted: Callable[[], bool] = lambda: False
    ) -> Generator[None]:
        """Read a shard in the block; `whole` unless only newer files are asked for.

        Raises:
            ShardLeftAlone: its reading has brought a server down.
            PeerAway: it did not answer a moment ago.
        """
        self.crashes.require_readable(shard_id)
        with self._among_readers(shard_id), self.exchange(aborted):
            try:
                yield
            except (WireError, ArchiveCorrupt) as error:
                if not aborted() and not isinstance(error, (PeerAway, ShardLeftAlone)):
                    self._note_break(error)
                raise
        if whole:
            self.crashes.survived(shard_id)

    def require_answering(self) -> None:
        """Raises: PeerAway, at once, unless its turn has come again and it answers."""
        if self._why is None:
            return
        with self._lock:
            if time.monotonic() >= self._ask_at:
                self._ask_again()
        why = self.why_away
        if why is not None:
            raise PeerAway(f"{why.what}, and not asked again so soon", hint=why.hint)

    def await_return(self, stop: threading.Event, patience_s: float) -> bool:
        """Wait for a peer that is away; whether it answers again.

        Args:
            stop: ends the waiting.
        """
        deadline, pause_s = time.monotonic() + patience_s, min(0.5, patience_s / 8)
        while True:
            with self._lock:
                self._ask_again()
            if self._why is None:
                return True
            if time.monotonic() >= deadline or stop.wait(pause_s):
                return False
            pause_s = min(2 * pause_s, max(deadline - time.monotonic(), 0.01))

    def _ask_again(self) -> None:
        if self._why is None or self._is_there():
            self._why = None
            self._silences = 0
            if self._suspects and self.restarted() is False:
                self.crashes.forget(self._suspects)  # it was the way to it
            self._suspects.clear()

    def _is_there(self) -> bool:
        """Ask, and if not, say when its turn comes again."""
        began = time.monotonic()
        if self._answers():
            return True
        ended = time.monotonic()
        if ended - began < AT_ONCE_S:
            self._ask_at = ended + SHORT_PAUSE_S
        else:
            self._ask_at = ended + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return False

    # --- trouble ----------------------------------------------------------------------------

    def _note(self, error: ShardkeeperError) -> None:
        with self._lock:
            if self._why is not None:
                return
            if isinstance(error, (PeerSilent, PeerTooSlow)):
                self._silences += 1
            if not self._is_there():
                self._set_away(error)
            elif self._silences >= MAX_SILENCES:
                self._ask_at = time.monotonic() + self._pause_s
                self._set_away(error)

    def _note_break(self, error: ShardkeeperError) -> None:
        """A stream broke off: if the server is not there any more, a shard may be the cause."""
        if isinstance(error, (PeerSilent, PeerTooSlow)):
            return
        with self._lock:
            if self._why is not None:
                return
            suspects = {shard_id for shard_id, _ in self._reading}
            if not self._is_there():
                self._set_away(error)
                self._suspects = suspects
            elif not self.restarted():
                return
            self.crashes.note(self.address, suspects)

    def _set_away(self, error: ShardkeeperError) -> None:
        what = (
            error.what if error.what.startswith(self.address) else f"{self.address}: {error.what}"
        )
        self._why = PeerUnreachable(what, hint=error.hint)
        self.went_away()

    # --- who reads --------------------------------------------------------------------------

    @contextmanager
    def _among_readers(self, shard_id: ShardID) -> Generator[None]:
        """Be counted as a reader; alone, if the shard is under suspicion."""
        me = threading.get_ident()
        with self._readers:
            self._readers.wait_for(lambda: self._may_read(shard_id, me), timeout=ALONE_WITHIN_S)
            self._reading.append((shard_id, me))
        try:
            yield
        finally:
            with self._readers:
                self._reading.remove((shard_id, me))
                self._readers.notify_all()

    def _may_read(self, shard_id: ShardID, me: int) -> bool:
        others = [reading for reading, thread in self._reading if thread != me]
        suspects = self.crashes.counts
        return not others or not (shard_id in suspects or any(i in suspects for i in others))


def all_away(peers: Iterable[Peer]) -> bool:
    """Whether nobody of them is there."""
    return all(peer.why_away is not None for peer in peers)
