"""The meta nodes of a cluster as a group: its leader, its metastore, its lagging members.

The group replaces raft. The leader applies a command once, and the result is installed on every
member that is up; a lagging member gets it later. Two outcomes of a real cluster do not occur: an
unknown one, and a panic. A command that would make the original panic, then and at every start, is
refused here and recorded in `poison`.

Source: influxdb-cluster services/meta/store.go, store_fsm.go and raft_state.go.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from resources.embedded.meta.changes import applied
from resources.embedded.meta.edits import CommandRejected
from resources.embedded.meta.state import MetaState, put_file
from resources.errors import BadReply, PeerUnreachable
from resources.model import Metastore
from resources.protocol.commands import Command, decode_command
from resources.protocol.reply_fields import ReplyFields


class NoLeader(PeerUnreachable):
    """Too few meta nodes are up for a majority."""


class Poison(Struct, frozen=True):
    """A command that would have killed a real meta cluster permanently."""

    raw: bytes
    reason: str


class MetaGroup:
    """The members of a meta cluster, by position; safe to share between threads.

    Attributes:
        poison: the refused commands of that kind, in order.
        before_command: called with each command before it is applied; it may send others
            first, so a test can act between a client's read and its SetData.
        release: the reported release of data nodes; None: the modelled one.
        http_scheme: the reported scheme of data nodes on 8086.
    """

    def __init__(
        self, directory: Path, members: Sequence[MetaState], raft_addrs: Sequence[str]
    ) -> None:
        self._path = directory / "raft.json"
        self._members = tuple(members)
        self._raft_addrs = tuple(raft_addrs)
        self._lock = threading.RLock()
        self._up: set[int] = set()
        self._lagging: set[int] = set()
        self.poison: list[Poison] = []
        self.before_command: Callable[[Command], None] | None = None
        self.release: str | None = None
        self.http_scheme = "http"
        index, term = self._remembered()
        self._index = max(index, *(member.metastore.index for member in self._members))
        self._term = term
        self._leader: int | None = None

    @property
    def leader(self) -> int | None:
        """The position of the leader."""
        return self._leader

    @property
    def leader_raft_addr(self) -> str:
        """The leader's raft address; empty without a leader."""
        leader = self._leader
        return "" if leader is None else self._raft_addrs[leader]

    @property
    def metastore(self) -> Metastore:
        """The agreed metastore; without a leader, the newest copy of a member."""
        return self._newest().metastore

    @property
    def encoded(self) -> bytes:
        return self._newest().encoded

    # --- members ----------------------------------------------------------------------------

    def join(self, member: int) -> None:
        """Add a running member; it catches up, and a leader is elected if there is none."""
        with self._lock:
            self._up.add(member)
            if self._leader is not None:
                self._catch_up(member)
            elif self._quorum():
                self._elect(max(self._up, key=lambda m: (self._members[m].metastore.index, -m)))

    def leave(self, member: int) -> None:
        """Remove a stopped member; if it was the leader, another is elected if enough are up."""
        with self._lock:
            self._up.discard(member)
            if not self._quorum():
                self._leader = None
            elif self._leader == member:
                self._elect(min(self._up - self._lagging, default=min(self._up)))

    def move_leader(self, member: int | None = None) -> int:
        """Make another member the leader: this one, or the next.

        Raises:
            NoLeader: the member is down, or too few are up.
        """
        with self._lock:
            others = sorted(self._up - {self._leader})
            chosen = member if member is not None else (others or [None])[0]
            if chosen not in self._up or not self._quorum():
                raise NoLeader("no leader")
            self._elect(chosen)
            return chosen

    def lose_leader(self) -> None:
        """Remove the leader until `move_leader`, although enough members are up."""
        with self._lock:
            self._leader = None

    def lag(self, member: int, lagging: bool) -> None:
        """Make a follower miss changes, or catch up."""
        with self._lock:
            if lagging:
                self._lagging.add(member)
            else:
                self._lagging.discard(member)
                self._catch_up(member)

    # --- commands ---------------------------------------------------------------------------

    def propose(self, raw: bytes) -> int:
        """Apply the bytes of a command; returns the index afterwards.

        Raises:
            CommandRejected: with the original's words, or because the command is poison.
            NoLeader: there is no leader.
        """
        try:
            command = decode_command(raw)
        except BadReply as error:
            self.poison.append(Poison(raw, error.what))
            raise CommandRejected(f"poison command refused: {error.what}") from None
        return self.execute(command)

    def execute(self, command: Command) -> int:
        """Apply a command; a rejected one uses an index, too.

        Raises:
            CommandRejected: with the original's words.
            NoLeader: there is no leader.
        """
        hook = self.before_command
        if hook is not None:
            hook(command)
        with self._lock:
            if self._leader is None:
                raise NoLeader("no leader")
            store = self._members[self._leader].metastore
            self._index += 1
            try:
                changed = applied(store, command, time.time_ns())
                self._install(changed)
            except CommandRejected:
                self._install(store)
                raise
            return self._index

    def change(self, change: Callable[[Metastore], Metastore]) -> int:
        """Replace the metastore by a SetData, as the original's services do.

        Raises:
            NoLeader: there is no leader.
            ShardkeeperError: `change` raises it.
        """
        with self._lock:
            if self._leader is None:
                raise NoLeader("no leader")
            changed = change(self._members[self._leader].metastore)
            self._index += 1
            self._install(changed)
            return self._index

    # --- inside the lock --------------------------------------------------------------------

    def _install(self, store: Metastore) -> None:
        for member in sorted(self._up - self._lagging | {self._leader or 0}):
            self._members[member].install(store, index=self._index, term=self._term)
        self._remember()

    def _catch_up(self, member: int) -> None:
        leader = self._leader
        if leader is None or member == leader or member in self._lagging:
            return
        mine, its = self._members[member], self._members[leader]
        if mine.encoded != its.encoded:
            mine.copy_of(its)

    def _elect(self, member: int) -> None:
        newest = self._newest()
        if self._members[member].metastore.index < newest.metastore.index:
            self._members[member].copy_of(newest)
        self._leader = member
        self._lagging.discard(member)
        # A new leader writes an entry of its own, which is not a command.
        self._term += 1
        self._index += 1
        self._remember()
        for other in self._up:
            self._catch_up(other)

    def _newest(self) -> MetaState:
        if self._leader is not None:
            return self._members[self._leader]
        return max(self._members, key=lambda member: member.metastore.index)

    def _quorum(self) -> bool:
        return 2 * len(self._up) > len(self._members)

    def _remembered(self) -> tuple[int, int]:
        """Index and term of the last entry.

        Raises:
            BadReply: the file has another form.
        """
        if not self._path.exists():
            return 1, 1
        reply = ReplyFields.of(self._path.read_bytes(), str(self._path))
        return reply.uint("index"), reply.uint("term")

    def _remember(self) -> None:
        put_file(self._path, json.dumps({"index": self._index, "term": self._term}).encode())


class LocalMeta:
    """The metastore of a single server: no agreement, term 0, an index per change."""

    def __init__(self, state: MetaState) -> None:
        self._state = state
        self._lock = threading.RLock()

    @property
    def metastore(self) -> Metastore:
        return self._state.metastore

    @property
    def encoded(self) -> bytes:
        return self._state.encoded

    def execute(self, command: Command) -> int:
        """Apply a command; one that changes nothing uses no index.

        Raises:
            CommandRejected: with the original's words.
        """
        return self.change(lambda store: applied(store, command, time.time_ns()))

    def change(self, change: Callable[[Metastore], Metastore]) -> int:
        with self._lock:
            before = self._state.metastore
            changed = change(before)
            if replace(changed, index=before.index) != before:
                self._state.install(changed, index=before.index + 1, term=0)
            return self._state.metastore.index


class NodeView:
    """One data node's copy of the metastore, renewed after each change."""

    def __init__(self, group: MetaGroup) -> None:
        self._delay_s = 0.0
        self._group = group
        self._lock = threading.Lock()
        self._known = self._newest()
        self._heard: tuple[float, tuple[Metastore, bytes]] | None = None

    def delay(self, seconds: float) -> None:
        """Delay the changes of other nodes by that time."""
        self._renew()
        self._delay_s = seconds

    @property
    def metastore(self) -> Metastore:
        return self._read()[0]

    @property
    def encoded(self) -> bytes:
        return self._read()[1]

    def execute(self, command: Command) -> int:
        """As `MetaGroup.execute`; a node's own change is in its copy at once."""
        index = self._group.execute(command)
        self._renew()
        return index

    def change(self, change: Callable[[Metastore], Metastore]) -> int:
        index = self._group.change(change)
        self._renew()
        return index

    def _newest(self) -> tuple[Metastore, bytes]:
        return self._group.metastore, self._group.encoded

    def _renew(self) -> None:
        with self._lock:
            self._known, self._heard = self._newest(), None

    def _read(self) -> tuple[Metastore, bytes]:
        newest, now = self._newest(), time.monotonic()
        with self._lock:
            if not self._delay_s:
                self._known, self._heard = newest, None
            if self._heard is not None and now - self._heard[0] >= self._delay_s:
                self._known, self._heard = self._heard[1], None
            if newest[0].index > self._known[0].index and self._heard is None:
                self._heard = now, newest
            return self._known


SharedMeta = MetaGroup | NodeView | LocalMeta
"""A data node's access to the metadata."""
