"""The records of a restore's batches: what one process writes another one reads, and no more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from resources.engine.restore.batch import (
    BatchFilled,
    ClusterPlace,
    RestoreBatch,
    ServerPlace,
    ShardFilled,
    ToFill,
)
from resources.engine.restore.check import ArchiveContents
from resources.engine.restore.plan import RestoreOptions, ShardRestore
from resources.engine.restore.receipt import Receipt
from resources.engine.workers.records import StoredError
from resources.errors import ManifestUnreadable, PeerClosedEarly, UnsafeName
from resources.model import ShardID
from resources.repository.backup_set import Archive
from resources.repository.formats.manifest import Limits
from tests import builders as b

NODES = ("data-1:8088", "data-2:8088")


def receipt(new_id: int, node: str) -> Receipt:
    files = (b.file(),)
    return Receipt(ShardID(new_id), node, "identical", "c0", files, 3, 60, 1, 2, 0, 0.5)


def item(number: int) -> ToFill:
    archive = Archive(b.entry(number, b.details(b.file())), f"{b.stamp(0)}.manifest")
    restore = ShardRestore(b.place(number, 1), archive, "new", "kept")
    kept = {NODES[0]: receipt(100 + number, NODES[0])}
    return ToFill(restore, ShardID(100 + number), NODES, frozenset(NODES[1:]), kept)


def filled(one: ToFill, *nodes: str, away: StoredError | None = None) -> ShardFilled:
    return ShardFilled(one.shard_id, {n: receipt(one.new_id, n) for n in nodes}, 0.5, away)


ITEMS = (item(1), item(2))
BATCH = RestoreBatch(
    ITEMS,
    {one.shard_id: ArchiveContents((b.file(),), 3, 1) for one in ITEMS},
    RestoreOptions(Limits(database="d"), "new", workers=None),
    ClusterPlace(owned=True),
    beside_others=True,
)
PLACES = [ClusterPlace(owned=False), ServerPlace(5, ("lock", "token")), ServerPlace(None, None)]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_what_is_to_be_done_arrives_as_it_was(place: ServerPlace | ClusterPlace) -> None:
    batch = replace(BATCH, place=place)
    assert RestoreBatch.decode(batch.encode(), "b0") == batch
    assert ITEMS[0].left == [NODES[1]]


def named(name: str) -> RestoreBatch:
    archive = ITEMS[0].restore.archive
    changed = replace(archive, entry=replace(archive.entry, file_name=name))
    return replace(
        BATCH,
        shards=(replace(ITEMS[0], restore=replace(ITEMS[0].restore, archive=changed)), ITEMS[1]),
    )


@pytest.mark.parametrize(
    "batch",
    [
        replace(BATCH, shards=(ITEMS[0], ITEMS[0])),
        replace(BATCH, shards=(ITEMS[0], replace(ITEMS[1], new_id=ITEMS[0].new_id))),
        replace(BATCH, contents={}),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused(batch: RestoreBatch) -> None:
    with pytest.raises(ManifestUnreadable):
        RestoreBatch.decode(batch.encode(), "b0")


def test_a_batch_with_a_hostile_name_is_refused() -> None:
    with pytest.raises(UnsafeName):
        RestoreBatch.decode(named("../../etc/passwd").encode(), "b0")


def test_what_was_done_arrives_as_it_was() -> None:
    away = StoredError.of(PeerClosedEarly("away"))
    done = BatchFilled((filled(ITEMS[0], *NODES), filled(ITEMS[1], NODES[0], away=away)))
    again = BatchFilled.decode(done.encode(), "b0", ITEMS)
    assert again == done
    [restored] = [one.restored(ITEMS[0]) for one in again.shards if one.away is None]
    assert [one.node for one in restored.receipts] == [*NODES]


WRONG: dict[str, Callable[[], tuple[ShardFilled, ...]]] = {
    "a shard is missing": lambda: (filled(ITEMS[0], *NODES),),
    "a shard comes twice": lambda: (filled(ITEMS[0], *NODES), filled(ITEMS[0], *NODES)),
    "a node has no receipt": lambda: (filled(ITEMS[0], NODES[0]), filled(ITEMS[1], *NODES)),
    "a receipt is of another node": lambda: (
        filled(ITEMS[0], *NODES),
        filled(ITEMS[1], *NODES, "else:8088"),
    ),
    "a receipt is of another shard": lambda: (
        replace(filled(ITEMS[0], *NODES), shard_id=ITEMS[1].shard_id),
        filled(ITEMS[0], *NODES),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_record_that_does_not_prove_every_shard_is_refused(what: str) -> None:
    with pytest.raises(ManifestUnreadable):
        BatchFilled.decode(BatchFilled(WRONG[what]()).encode(), "b0", ITEMS)
