"""A batch is done once, even if workers are killed or stand still meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resources.errors import BatchTaken, LockLost, ManifestUnreadable, NameMissing
from resources.model import ShardID
from resources.repository.batches import ClaimedBatch, RunBatches
from resources.repository.storage.stage import GONE, PART
from resources.repository.storage.store import DirectoryStore, Stage
from tests.resources.repository.objects import get, in_child, put

BACKUP = "20261122T095100Z"
SHARDS = [ShardID(1), ShardID(2)]
FIRST, SECOND = f"{BACKUP}.s1.tar.gz", f"{BACKUP}.s2.tar.gz"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


@pytest.fixture
def stage(store: DirectoryStore) -> Iterator[Stage]:
    stage = store.stage("ab")
    stage.note(BACKUP)
    yield stage
    stage.close()


def worker(store: DirectoryStore, stage: Stage) -> RunBatches:
    """As another process of the run has it."""
    return RunBatches(store, store.join(stage.name), BACKUP, set())


def archive(batch: ClaimedBatch, shard_id: ShardID, content: bytes = b"archive") -> None:
    with batch.shard(shard_id) as sink:
        sink.write(content)


def do(batches: RunBatches, name: str = "b0", content: bytes = b"archive") -> bool:
    """Do a batch of two shards; whether it was left to do."""
    with batches.claim(name, SHARDS) as batch:
        if batch is None:
            return False
        for shard_id in SHARDS:
            archive(batch, shard_id, content)
        batch.finish(b"what was done")
    return True


def test_a_batch_is_done_by_one_worker_and_is_on_record_for_all(
    store: DirectoryStore, stage: Stage
) -> None:
    one, other = worker(store, stage), worker(store, stage)
    one.add("b0", b"what to do")
    assert (other.todo("b0"), other.done("b0")) == (b"what to do", None)
    assert other.states() == {"b0": "free"}
    assert do(other)
    assert one.states() == {"b0": "done"}
    assert not do(one)
    assert one.done("b0") == b"what was done"
    assert list(store.names()) == [FIRST, SECOND]


def test_a_stage_takes_its_records_and_parts_with_it(store: DirectoryStore, tmp_path: Path) -> None:
    stage = store.stage("cd")
    batches = worker(store, stage)
    batches.add("b0", b"")
    stage.part("b0", "12")
    stage.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LockLost):
        store.join(stage.name)
    for deed in RECORD_DEEDS.values():
        with pytest.raises(LockLost):
            deed(batches)


RECORD_DEEDS: dict[str, Callable[[RunBatches], object]] = {
    "plan": lambda batches: batches.add("b1", b""),
    "read a plan": lambda batches: batches.todo("b0"),
    "read what was done": lambda batches: batches.done("b0"),
    "list": lambda batches: batches.states(),
    "do": do,
}


@pytest.mark.fault(37)
@pytest.mark.parametrize("deed", RECORD_DEEDS)
def test_a_run_whose_stage_was_taken_away_and_emptied_says_that_it_lost_its_place(
    store: DirectoryStore, stage: Stage, deed: str
) -> None:
    sleeper = worker(store, stage)
    sleeper.add("b0", b"what to do")
    [revoked] = store.revoke_stages("none")
    assert revoked.forget()
    with pytest.raises(LockLost):
        RECORD_DEEDS[deed](sleeper)


def test_a_batch_that_was_not_planned_has_no_record(store: DirectoryStore, stage: Stage) -> None:
    batches = worker(store, stage)
    with pytest.raises(NameMissing):
        batches.todo("b0")
    assert batches.done("b0") is None


@pytest.mark.parametrize("name", ["..", "x/../..", ".shardkeeper.lock", f"{GONE}ab.{BACKUP}"])
def test_only_a_stage_is_joined(store: DirectoryStore, stage: Stage, name: str) -> None:
    with pytest.raises(LockLost):
        store.join(name)


def test_a_batch_that_another_worker_does_is_left_alone(
    store: DirectoryStore, stage: Stage
) -> None:
    one, other = worker(store, stage), worker(store, stage)
    one.add("b0", b"")
    with one.claim("b0", SHARDS) as batch:
        assert batch is not None
        archive(batch, SHARDS[0])
        assert not do(other)
        assert other.states() == {"b0": "claimed"}
        archive(batch, SHARDS[1])
        batch.finish(b"")
    assert len(store.names()) == 2


def killed(store: DirectoryStore, stage: Stage, when: str) -> None:
    """A worker of its own process dies amid a batch."""

    def work() -> None:
        with worker(store, stage).claim("b0", SHARDS) as batch:
            assert batch is not None
            archive(batch, SHARDS[0], b"of the dead one")
            batch.suspect(SHARDS[1])
            batch.suspect(SHARDS[1])
            if when == "done":
                archive(batch, SHARDS[1])
                batch.finish(b"what was done")
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == ""


@pytest.mark.fault(26)
def test_the_batch_of_a_dead_worker_is_done_again_from_its_start(
    store: DirectoryStore, stage: Stage
) -> None:
    killed(store, stage, "amid")
    assert list(store.names()) == [FIRST]
    assert do(worker(store, stage))
    assert get(store, FIRST) == b"archive"


@pytest.mark.fault(26)
def test_the_next_worker_knows_which_shards_the_dead_one_suspected(
    store: DirectoryStore, stage: Stage
) -> None:
    killed(store, stage, "amid")
    with worker(store, stage).claim("b0", SHARDS) as batch:
        assert batch is not None
        assert batch.suspected == {SHARDS[1]}


@pytest.mark.fault(26)
def test_a_batch_whose_worker_died_after_its_record_is_done(
    store: DirectoryStore, stage: Stage
) -> None:
    killed(store, stage, "done")
    heir = worker(store, stage)
    assert not do(heir)
    assert get(store, FIRST) == b"of the dead one"
    assert heir.done("b0") == b"what was done"


def test_a_batch_that_failed_is_done_again_from_its_start(
    store: DirectoryStore, stage: Stage
) -> None:
    batches = worker(store, stage)

    def fail() -> None:
        with batches.claim("b0", SHARDS) as batch:
            assert batch is not None
            archive(batch, SHARDS[0], b"of the first attempt")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert do(batches)
    assert get(store, FIRST) == b"archive"


def taken_over(store: DirectoryStore, stage: Stage, tmp_path: Path) -> None:
    """Another worker does the batch: the claim was not renewed, here since it was deleted."""
    (tmp_path / stage.name / "b0.claim").unlink()
    assert do(worker(store, stage), content=b"the heir's")


DEEDS: dict[str, Callable[[ClaimedBatch], None]] = {
    "another archive": lambda batch: archive(batch, ShardID(3)),
    "the same archive": lambda batch: archive(batch, SHARDS[1]),
    "the record": lambda batch: batch.finish(b"of the sleeper"),
    "a suspicion": lambda batch: batch.suspect(SHARDS[1]),
}


@pytest.mark.fault(37)
@pytest.mark.parametrize("deed", DEEDS)
def test_a_worker_that_lost_its_batch_changes_nothing(
    store: DirectoryStore, stage: Stage, tmp_path: Path, deed: str
) -> None:
    sleeper = worker(store, stage)

    def stand_still() -> None:
        with sleeper.claim("b0", SHARDS) as batch:
            assert batch is not None
            archive(batch, SHARDS[0])
            taken_over(store, stage, tmp_path)
            DEEDS[deed](batch)

    with pytest.raises(BatchTaken):
        stand_still()
    assert get(store, FIRST) == get(store, SECOND) == b"the heir's"
    assert list(store.names()) == [FIRST, SECOND]
    assert sleeper.done("b0") == b"what was done"


@pytest.mark.fault(37)
def test_a_worker_that_stands_still_amid_an_archive_does_not_name_it(
    store: DirectoryStore, stage: Stage, tmp_path: Path
) -> None:
    sleeper = worker(store, stage)

    def stand_still() -> None:
        with sleeper.claim("b0", SHARDS) as batch:
            assert batch is not None
            with batch.shard(SHARDS[0]) as sink:
                sink.write(b"of the sleeper")
                taken_over(store, stage, tmp_path)

    with pytest.raises(BatchTaken):
        stand_still()
    assert get(store, FIRST) == b"the heir's"


@pytest.mark.fault(37)
def test_a_worker_whose_run_lost_the_repository_changes_nothing(
    store: DirectoryStore, stage: Stage
) -> None:
    sleeper = worker(store, stage)

    def stand_still() -> None:
        with sleeper.claim("b0", SHARDS) as batch:
            assert batch is not None
            [revoked] = store.revoke_stages("none")
            assert revoked.forget()
            archive(batch, SHARDS[0])

    with pytest.raises(LockLost) as lost:
        stand_still()
    assert not isinstance(lost.value, BatchTaken)
    assert store.names() == {}
    with pytest.raises(LockLost), sleeper.claim("b1", SHARDS):
        pass


def test_the_end_of_a_run_closes_the_parts_of_all_its_workers(
    store: DirectoryStore, stage: Stage, tmp_path: Path
) -> None:
    def end_meanwhile() -> None:
        with worker(store, stage).claim("b0", SHARDS) as batch:
            assert batch is not None
            assert stage.revoke_parts()
            archive(batch, SHARDS[0])

    with pytest.raises(BatchTaken):
        end_meanwhile()
    assert store.names() == {}
    assert not list((tmp_path / stage.name).glob(f"{PART}*"))


def test_many_workers_do_each_of_many_batches_once(store: DirectoryStore, stage: Stage) -> None:
    names = [f"b{number}" for number in range(12)]

    def work(_: int) -> list[str]:
        batches, mine = worker(store, stage), list[str]()
        while not all(batches.is_done(name) for name in names):
            for name in names:
                with batches.claim(name, []) as batch:
                    if batch is not None:
                        archive(batch, ShardID(int(name[1:])))
                        batch.finish(b"")
                        mine.append(name)
        return mine

    with ThreadPoolExecutor(4) as pool:
        done = [name for mine in pool.map(work, range(4)) for name in mine]
    assert sorted(done) == sorted(names)
    assert len(store.names()) == len(names)


@pytest.mark.fault(51)
@pytest.mark.parametrize("n_bytes", [0, 1, 64, 65, 70])
def test_a_record_that_a_power_cut_tore_is_not_read(
    store: DirectoryStore, stage: Stage, tmp_path: Path, n_bytes: int
) -> None:
    batches = worker(store, stage)
    batches.add("b0", b"what to do")
    record = tmp_path / stage.name / "b0.todo"
    record.write_bytes(record.read_bytes()[:n_bytes])
    with pytest.raises(ManifestUnreadable, match="not what was written"):
        batches.todo("b0")


def test_a_name_in_use_is_left_alone(store: DirectoryStore, stage: Stage) -> None:
    put(store, FIRST, b"somebody's")
    ours = set[str]()
    batches = RunBatches(store, stage, BACKUP, ours)

    def fail() -> None:
        with batches.claim("b0", SHARDS) as batch:
            assert batch is not None
            archive(batch, SHARDS[0])

    with pytest.raises(Exception, match="exists already"):
        fail()
    assert ours == set()
    assert get(store, FIRST) == b"somebody's"


def test_once_a_run_is_given_up_its_workers_lose_their_batches_and_are_waited_for(
    store: DirectoryStore, stage: Stage
) -> None:
    first, second = worker(store, stage), worker(store, stage)
    first.add("b0", b"what is to be done")
    first.add("b1", b"what is to be done")
    assert do(first, "b1")
    with ThreadPoolExecutor(1) as threads:
        with first.claim("b0", SHARDS) as batch:
            assert batch is not None
            assert second.given_up() is None
            assert second.give_up("the disk failed")
            waiting = threads.submit(second.await_others, ["b0", "b1"])
            assert first.given_up() == "the disk failed"
            assert not first.give_up("something else")
            assert not waiting.done()
            with pytest.raises(BatchTaken):
                batch.check_mine()
        waiting.result(20)
    assert second.given_up() == "the disk failed"
    stage.close()
    with pytest.raises(LockLost):
        second.given_up()
    with pytest.raises(LockLost):
        second.give_up("too late")
