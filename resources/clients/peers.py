"""A peer that does not answer delays its own shards only.

Every request to a server or data node runs inside `Peer.exchange`. If the peer does not answer
there, a short probe follows at once. If the probe fails, the peer counts as away: a new request
raises `PeerAway` at once, and requests in progress are broken off, so the peer costs one time-out
in all. It is probed again after growing pauses, or when the run has done everything else
(`Peer.await_return`). A peer that answers the probe but lets two requests time out is away, too.

A server that goes down during the read of a shard may do so because of that shard. After that, each
of the shards that were being read is read alone, so a second crash identifies the cause. That shard
is not read any more (`Crashes`).

Held by tests/resources/clients/test_peers.py; on real servers by tests/faults/peers.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager

from msgspec import Struct, field

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
    counted,
)
from resources.model import ShardID

BRIEFLY_S = 3.0
"""How long a peer may be silent after a probe."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 240.0
"""The pause before the next probe of a peer whose last probe timed out."""
AT_ONCE_S, SHORT_PAUSE_S = 0.5, 0.5
"""A probe that fails within the first may be repeated after the second."""
MAX_SILENCES = 2
MAX_CRASHES = 2
ALONE_WITHIN_S = 120.0
"""How long a reader waits for the other readers of the same server to end."""


class Crashes(Struct):
    """Shards whose reading brought a server down; one for all peers of a source.

    Attributes:
        counts: the number of crashes, by shard.
        alone: the shards among them that were the only one being read.
        left: shards that are not read any more, with the reason.
        where: by shard, the server that went down last.
    """

    counts: dict[ShardID, int] = field(default_factory=dict[ShardID, int])
    alone: set[ShardID] = field(default_factory=set[ShardID])
    left: dict[ShardID, str] = field(default_factory=dict[ShardID, str])
    where: dict[ShardID, str] = field(default_factory=dict[ShardID, str])

    def note(self, address: str, shards: Collection[ShardID]) -> None:
        """Record that a server went down while these shards were being read."""
        for shard_id in shards:
            self.where[shard_id] = address
            self.counts[shard_id] = self.counts.get(shard_id, 0) + 1
            if len(shards) == 1:
                self.alone.add(shard_id)
            if self.counts[shard_id] >= MAX_CRASHES and shard_id in self.alone:
                times = self.counts[shard_id]
                self.left[shard_id] = f"reading it brought its server down {counted(times, 'time')}"

    def suspect(self, shard_id: ShardID, times: int) -> None:
        """Record the crashes of earlier runs, so that the shard is read alone."""
        self.counts.setdefault(shard_id, times)
        self.left.pop(shard_id, None)

    def forget(self, shards: Collection[ShardID]) -> None:
        """Discard the last crash of these shards, since the server had not gone down."""
        for shard_id in shards:
            self.counts[shard_id] = self.counts.get(shard_id, 1) - 1
            if not self.counts[shard_id]:
                self.survived(shard_id)
            self.left.pop(shard_id, None)

    def survived(self, shard_id: ShardID) -> None:
        """Record that the shard was read to its end."""
        self.counts.pop(shard_id, None)
        self.alone.discard(shard_id)

    def require_readable(self, shard_id: ShardID) -> None:
        """Require that reading this shard is allowed.

        Raises:
            ShardLeftAlone: reading it has brought its server down.
        """
        why = self.left.get(shard_id)
        if why is not None:
            raise ShardLeftAlone(
                f"shard {shard_id} is left alone: {why}",
                hint="the server's log says why it went down; -shard reads it anyway",
            )


class Peer:
    """A server or data node and its availability; safe to share between threads.

    Args:
        address: its name in messages.
        answers: sends a short probe; whether the peer answers.
        crashes: the crashes of its source.
    """

    def __init__(
        self, address: str, answers: Callable[[], bool], crashes: Crashes | None = None
    ) -> None:
        self.address = address
        self.crashes = crashes if crashes is not None else Crashes()
        self.restarted: Callable[[], bool | None] = lambda: None
        """Whether its process has restarted; None: unknown."""
        self.went_away: Callable[[], None] = lambda: None
        """Called when the peer begins to count as away."""
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
        """The error after which the peer counts as away; None if it does not."""
        return self._why

    # --- requests ---------------------------------------------------------------------------

    @contextmanager
    def exchange(self, aborted: Callable[[], bool] = lambda: False) -> Generator[None]:
        """Send a request to the peer in the block.

        Args:
            aborted: whether our side has broken off, so that an error does not count.

        Raises:
            PeerAway: the peer did not answer a moment ago.
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
        """Read a shard in the block; `whole` unless the request is for newer files only.

        Raises:
            ShardLeftAlone: reading the shard has brought its server down.
            PeerAway: the peer did not answer a moment ago.
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
        """Require that the peer answers; probes an absent one only if its pause is over.

        Raises:
            PeerAway: the peer does not answer.
        """
        if self._why is None:
            return
        with self._lock:
            if time.monotonic() >= self._ask_at:
                self._ask_again()
        why = self.why_away
        if why is not None:
            raise PeerAway(f"{why.what}; not tried again so soon", hint=why.hint)

    def await_return(self, stop: threading.Event, patience_s: float) -> bool:
        """Wait for a peer that is away; returns whether it answers again.

        Args:
            stop: ends the wait.
            patience_s: the longest wait.
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
                self.crashes.forget(self._suspects)  # only the network had failed
            self._suspects.clear()

    def _is_there(self) -> bool:
        """Probe the peer; if it does not answer, set the time of the next probe."""
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

    # --- failures ---------------------------------------------------------------------------

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
        """Handle a stream that broke off; a shard may have brought the server down."""
        if isinstance(error, (PeerSilent, PeerTooSlow)):
            return
        with self._lock:
            suspects = {shard_id for shard_id, _ in self._reading}
            if self._why is not None:
                if self._suspects:
                    return  # the first stream that broke off has counted the crash
                self._suspects = suspects  # another request met the crash before any stream did
            elif not self._is_there():
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

    # --- readers ----------------------------------------------------------------------------

    @contextmanager
    def _among_readers(self, shard_id: ShardID) -> Generator[None]:
        """Count as a reader in the block; as the only one if the shard is a suspect."""
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
    """Whether every peer is away."""
    return all(peer.why_away is not None for peer in peers)
