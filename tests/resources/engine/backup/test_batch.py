"""What a batch has to do and what it did are the same after they were stored."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.clients.peers import Crashes
from resources.clients.source import SourceFacts
from resources.engine.backup.batch import BackupBatch, BatchDone, ShardOutcome
from resources.engine.backup.batch_plan import batch_of as planned
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.damaged import DamagedCopy
from resources.engine.backup.idle_replicas import Comparison
from resources.engine.backup.plan import BackupPlan, Era
from resources.engine.options import BackupOptions
from resources.engine.workers.records import StoredError
from resources.errors import (
    ManifestUnreadable,
    PeerClosedEarly,
    ShardkeeperError,
    TSMError,
    UnsafeName,
)
from resources.model import ShardID, ShardLocation
from resources.repository.formats.owner_facts import OwnerFacts
from resources.repository.formats.proof import ProvenAgain
from resources.tsm.damage import FileDamage
from tests import builders as b

BACKUP = b.stamp(0)


def state(number: int) -> ShardState:
    damaged = replace(b.file(number), damage=FileDamage(1, 20, (), "T.manifest"))
    details = b.details(b.file(), damaged, proof=b.proof(), gone=(damaged,), complete="proven")
    return ShardState(
        b.place(number, 4, 5),
        "changed",
        b.archive(number, details, second=1),
        "figures-0",
        (b.copy(), b.copy("data-5:8088", None, None)),
        owners=(OwnerFacts("data-4:8088", 100, 500, True, 200),),
    )


def batch_of(*numbers: int) -> BackupBatch:
    first = SourceFacts("1.8.10", 5, 6, {ShardID(1): b.stats(), ShardID(9): b.stats()})
    plan = BackupPlan(
        b"",
        b.metastore(),
        SourceFacts(),
        (),
        (),
        (),
        Comparison(),
        "h:8088",
        None,  # type: ignore[arg-type]
        b.clocks(),
        {"h:8088": first},
        Era(begins=True, floors={ShardID(1): 7, ShardID(9): 8}),
    )
    options = BackupOptions(only=frozenset({ShardLocation("d", "p", ShardID(1))}), level="speedy")
    crashes = Crashes({ShardID(1): 1, ShardID(9): 1})
    return planned(plan, [state(number) for number in numbers], options, crashes)


def test_a_batch_has_what_concerns_its_shards_and_nothing_else() -> None:
    batch = batch_of(1, 2)
    assert BackupBatch.decode(batch.encode(), "b0.todo") == batch
    assert batch.shards == [1, 2]
    assert list(batch.first["h:8088"].shards) == [1]
    assert (batch.floors, batch.suspects) == ({1: 7}, {1: 1})
    assert (batch.options.level, batch.options.only) == ("speedy", None)


def test_a_batch_without_shards_twice_and_without_paths() -> None:
    with pytest.raises(ManifestUnreadable, match="a shard twice"):
        BackupBatch.decode(batch_of(1, 1).encode(), "b0.todo")
    raw = batch_of(1).encode().replace(f"{b.stamp(1)}.s1.tar.gz".encode(), b"../../etc/passwd")
    with pytest.raises(UnsafeName):
        BackupBatch.decode(raw, "b0.todo")


DONE = BatchDone(
    (
        ShardOutcome(ShardID(2), "gone"),
        ShardOutcome(
            ShardID(1), "saved", b.entry(1, b.details(b.file())), "data-4:8088", 0.1, 2, ("x",)
        ),
        ShardOutcome(ShardID(3), "read again", proven=ProvenAgain(ShardID(3), "b" * 64, b.proof())),
        ShardOutcome(ShardID(4), "away", error=StoredError.of(PeerClosedEarly("away"))),
    ),
    {ShardID(4): 1},
    {ShardID(4): "data-4:8088"},
    {ShardID(1): 2},
)


def decoded(done: BatchDone) -> BatchDone:
    return BatchDone.decode(done.encode(), "b0.done", batch_of(1, 2, 3, 4), BACKUP)


def test_what_a_batch_did_is_the_same_after_it_was_stored() -> None:
    assert decoded(DONE) == DONE


@pytest.mark.parametrize(
    "outcomes",
    [
        DONE.outcomes[:3],
        (*DONE.outcomes, DONE.outcomes[0]),
        (*DONE.outcomes[:3], ShardOutcome(ShardID(5), "gone")),
        (*DONE.outcomes[:3], ShardOutcome(ShardID(4), "saved")),
        (*DONE.outcomes[:3], ShardOutcome(ShardID(4), "read again")),
        (*DONE.outcomes[:3], ShardOutcome(ShardID(4), "failed")),
        (*DONE.outcomes[:3], ShardOutcome(ShardID(4), "saved", b.entry(4, second=1))),
        (*DONE.outcomes[:3], ShardOutcome(ShardID(4), "saved", b.entry(3))),
    ],
)
def test_a_record_that_leaves_a_shard_open_or_names_what_is_not_of_this_batch_is_refused(
    outcomes: tuple[ShardOutcome, ...],
) -> None:
    with pytest.raises(ManifestUnreadable):
        decoded(BatchDone(outcomes))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b'{"outcomes": 3}', b"[" * 100_000])
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestUnreadable):
        BatchDone.decode(raw, "b0.done", batch_of(1), BACKUP)
    with pytest.raises(ManifestUnreadable):
        BackupBatch.decode(raw, "b0.todo")


def test_another_process_raises_the_same_error() -> None:
    error = PeerClosedEarly("it hung up", hint="its log says why")
    error.add_note("attempt 6 of 6")
    again = StoredError.of(error).error()
    assert (type(again), str(again), again.hint) == (
        PeerClosedEarly,
        "it hung up (attempt 6 of 6)",
        "its log says why",
    )
    assert type(StoredError.of(DamagedCopy("x", 3)).error()) is TSMError
    assert type(StoredError("ExitCode", "x", "").error()) is ShardkeeperError
