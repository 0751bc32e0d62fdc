"""Fill the shards of a restore on a single server, but for those that a killed run proved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from resources.clients.peers import Peer
from resources.clients.server import Server
from resources.engine.events import RestoreGoesOn
from resources.engine.restore.batch import RestoreBatch, ServerPlace, ShardFilled, ToFill
from resources.engine.restore.check import CheckedRestore
from resources.engine.restore.filling import Filling, Place
from resources.engine.restore.plan import ShardRestore
from resources.engine.restore.read_back import receipt_of
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.server_journal import JournalWriter, lost
from resources.engine.restore.target_replicas import ServerReplicas, TargetReplicas
from resources.engine.restore.unfinished import Unfinished, still_empty, untouched
from resources.engine.restore.upload import would_send
from resources.errors import StoreFailed
from resources.model import ShardID
from resources.protocol.server_vars import ServerVars
from resources.repository.storage.lock import is_held_as
from resources.repository.storage.store import Store


class OneServer:
    """A single server, as shards are sent to it.

    Args:
        store: the one with the lock that says whether another run took this one's place.
    """

    nodes_may_be_away = False

    def __init__(self, server: Server, store: Store) -> None:
        self._server = server
        self._store = store

    def server(self, node: str) -> Server:
        return self._server

    def peer(self, node: str) -> Peer:
        return self._server.peer()

    def replicas(
        self, node: str, batch: RestoreBatch, check_may_send: Callable[[], None]
    ) -> TargetReplicas:
        place = batch.place
        assert isinstance(place, ServerPlace)  # noqa: S101 - its other process has said so

        def check() -> None:
            require_held(self._store, place.held_as)
            check_may_send()

        return ServerReplicas(self._server, place.started_ns, check)

    def abort(self) -> None:
        self._server.abort()


def require_held(store: Store, held_as: tuple[str, str] | None) -> None:
    """Require that no other run took the place of a restore, by looking alone.

    That is cheap enough to come before each upload. A run that stands still while it renews its
    lock keeps others from taking it over; this renews nothing.

    Args:
        held_as: name and token of its lock; None: it has none.

    Raises:
        LockLost: another run has taken the lock.
    """
    try:
        mine = held_as is None or is_held_as(store, *held_as)
    except StoreFailed:
        return  # a directory that fails now keeps others out as well
    if not mine:
        raise lost(held_as[0] if held_as is not None else "")


class ServerUpload:
    """Fills the shards of one restore.

    Args:
        id_map: the server's shard for each of the backup's.
        reported: what the server told of itself before this run changed anything, or nothing.
    """

    def __init__(
        self,
        server: Server,
        checked: CheckedRestore,
        id_map: Mapping[ShardID, ShardID],
        journal: JournalWriter,
        reported: ServerVars | None,
    ) -> None:
        self._server = server
        self._checked = checked
        self._id_map = id_map
        self._journal = journal
        self._reported = reported

    def run(
        self, shards: Sequence[ShardRestore], goes_on: Unfinished | None
    ) -> list[RestoredShard]:
        """Fill those that are not there yet; returns all, in their order."""
        items, kept = self.to_fill(shards, goes_on)
        filled = self.filling(len(kept)).fill([item for item in items if item.left])
        done = {restored.restore.place.shard_id: restored for restored in (*kept, *filled)}
        return [done[shard.place.shard_id] for shard in shards]

    def to_fill(
        self, shards: Sequence[ShardRestore], goes_on: Unfinished | None
    ) -> tuple[list[ToFill], list[RestoredShard]]:
        """What is to be filled, of all shards, and those of them that are there already."""
        begun, done = frozenset[ShardID](), dict[ShardID, RestoredShard]()
        if goes_on is not None:
            begun = goes_on.shard_ids
            done = self._there_already([s for s in shards if self._new_id(s) in begun])
            if goes_on.kept.is_over:  # else it may have sent some of it
                begun -= still_empty(self._reported, self._journal.journal, begun)
            self._checked.run.emit(RestoreGoesOn(len(done), len(shards)))
        here = self._server.address
        items = [
            ToFill(
                shard,
                self._new_id(shard),
                (here,),
                frozenset({here} if self._new_id(shard) in begun else ()),
                {here: there.receipt} if (there := done.get(shard.place.shard_id)) else {},
            )
            for shard in shards
        ]
        return items, list(done.values())

    def filling(self, n_before: int = 0) -> Filling:
        """What fills them.

        Args:
            n_before: how many shards of the plan were in their place before.
        """
        return Filling(
            self._checked,
            self._place(),
            on_filled=self._on_filled,
            idle=self._journal.keep_up,
            n_before=n_before,
        )

    def _place(self) -> Place:
        server, journal = self._server, self._journal
        on_record = ServerPlace(journal.journal.server_started_ns, journal.held_as)
        receivers = OneServer(server, self._checked.repository.store)
        key = journal.key if journal.store is not None else ""
        return Place(receivers, on_record, server.reached_by, key)

    def _on_filled(self, item: ToFill, filled: ShardFilled) -> None:
        """Put it on record, for the case that this run is killed."""
        started_ns = self._reported.started_ns if self._reported is not None else None
        proved = all(receipt.how == "identical" for receipt in filled.receipts.values())
        if started_ns is not None and proved:
            self._journal.prove(item.new_id, started_ns)

    def _new_id(self, shard: ShardRestore) -> ShardID:
        return self._id_map[shard.place.shard_id]

    def _there_already(self, shards: Sequence[ShardRestore]) -> dict[ShardID, RestoredShard]:
        """Those that the killed run has proved, and that have not changed since."""
        wanted = {self._new_id(shard): would_send(self._checked, shard) for shard in shards}
        files = {new_id: sent.files for new_id, sent in wanted.items()}
        kept = untouched(self._reported, self._journal.journal, files)
        return {
            shard.place.shard_id: RestoredShard(
                shard,
                new_id,
                (receipt_of(self._server, new_id, wanted[new_id], "identical"),),
                0.0,
            )
            for shard in shards
            if (new_id := self._new_id(shard)) in kept
        }
