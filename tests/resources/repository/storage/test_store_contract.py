"""What every kind of store does: whole objects or none, nothing overwritten, swaps in one step.

The bucket is one of a server in this process (tests/s3_server.py), or a real one:
SHARDKEEPER_STORE_URL=s3://bucket/prefix, with the environment that it needs; see `make store`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from resources.errors import LockLost, NameMissing, NameTaken, UnsafeName
from resources.repository.storage.opening import open_store
from resources.repository.storage.store import Store
from tests.resources.repository.objects import NAME, get, put, put_late
from tests.s3_server import S3Server

BACKUP = "20261122T095100Z"
Another = Callable[[], Store]


@pytest.fixture(scope="module")
def bucket() -> Generator[str]:
    if url := os.environ.get("SHARDKEEPER_STORE_URL"):
        yield url
        return
    with S3Server() as server, server.environment():
        yield "s3://bucket/deep/er"


@pytest.fixture(params=["directory", "bucket"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Another:
    """Opens the same place anew, as another process would."""
    if request.param == "directory":
        return lambda: open_store(tmp_path)
    url = f"{request.getfixturevalue('bucket')}/{os.urandom(6).hex()}"
    return lambda: open_store(url)


@pytest.fixture
def store(another: Another) -> Store:
    return another()


def test_what_was_written_is_read(store: Store, another: Another) -> None:
    with store.create(NAME) as sink:
        sink.write(b"one ")
        sink.write(memoryview(b"-two-")[1:4])
        sink.write(bytearray(b" three"))
        assert sink.size_bytes == 13
        assert not another().has(NAME)
    with another().open(NAME) as source:
        assert source.size_bytes == 13
        assert source.read(4) == b"one "
        buffer = bytearray(100)
        assert source.readinto(buffer) == 9
        assert buffer[:9] == b"two three"
        assert source.read(1) == b""
        assert source.readinto(buffer) == 0


@pytest.mark.parametrize("through", ["store", "stage", "batch"])
def test_a_long_archive_is_read_as_it_was_written(store: Store, through: str) -> None:
    pieces = [bytes([number]) * (3 << 20) for number in range(12)]
    stage = store.stage("ab")
    stage.note(BACKUP)
    create = {"store": store.create, "stage": stage.create, "batch": stage.batch().create}[through]
    with create(NAME) as sink:
        for piece in pieces:
            sink.write(piece)
    assert store.names()[NAME] == 36 << 20
    read = list[bytes]()
    with store.open(NAME) as source:
        while piece := source.read(5 << 20):
            read.append(piece)
    assert b"".join(read) == b"".join(pieces)
    stage.delete(NAME)
    stage.close()


@pytest.mark.parametrize("size", [5, 20 << 20])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_an_object_whose_block_fails_was_never_there(
    store: Store, failure: type[BaseException], size: int
) -> None:
    def deed() -> None:
        with store.create(NAME) as sink:
            sink.write(bytes(size))
            raise failure

    with pytest.raises(failure):
        deed()
    assert store.names("2") == {}
    put(store, NAME, b"whole")
    assert get(store, NAME) == b"whole"


def test_nothing_is_ever_overwritten(store: Store) -> None:
    put(store, NAME, b"first")
    with pytest.raises(NameTaken, match="exists already"), store.create(NAME):
        pytest.fail("this is said before anything is written")
    assert get(store, NAME) == b"first"
    with pytest.raises(NameTaken):
        put_late(store, "late", lambda: put(store, "late", b"earlier"))
    assert get(store, "late") == b"earlier"


def test_of_many_who_create_one_name_one_succeeds(another: Another) -> None:
    start = threading.Barrier(8)
    wins: list[int] = []

    def race(number: int) -> None:
        mine = another()
        start.wait()
        try:
            put(mine, NAME, b"%d" % number)
        except NameTaken:
            return
        wins.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [get(another(), NAME)] == [b"%d" % number for number in wins]


def test_names_are_listed_by_what_they_begin_with(store: Store) -> None:
    for name in ("a-1", "a-2", "b-1", "a.0", ".shardkeeper.lock", "a-10"):
        put(store, name, name.encode())
    assert list(store.names("a-").items()) == [("a-1", 3), ("a-10", 4), ("a-2", 3)]
    assert store.names("b-1") == {"b-1": 3}
    assert store.names("c") == {}
    assert [n for n in store.names() if n != ".shardkeeper.probe"] == [
        ".shardkeeper.lock",
        "a-1",
        "a-10",
        "a-2",
        "a.0",
        "b-1",
    ]


def test_deleting_twice_is_fine(store: Store) -> None:
    put(store, NAME, b"x")
    store.delete(NAME)
    store.delete(NAME)
    assert not store.has(NAME)
    with pytest.raises(NameMissing), store.open(NAME):
        pass


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc/x", "a/b", "a\0b", "x" * 300])
def test_no_method_takes_a_name_that_leads_elsewhere(store: Store, name: str) -> None:
    stage = store.stage("ab")
    for deed in (
        lambda: store.create(name).__enter__(),
        lambda: store.open(name).__enter__(),
        lambda: store.delete(name),
        lambda: store.swap(name, b"", None),
        lambda: store.has(name),
        lambda: stage.create(name).__enter__(),
        lambda: stage.delete(name),
        lambda: stage.set_aside(name),
    ):
        with pytest.raises(UnsafeName):
            deed()
    stage.close()


def test_swap_replaces_only_what_it_was_told(store: Store) -> None:
    assert not store.swap("r", b"", b"new")
    put(store, "r", b"old")
    assert not store.swap("r", b"ol", b"new")
    assert not store.swap("r", b"old ", b"new")
    assert store.swap("r", b"old", b"newer")
    assert get(store, "r") == b"newer"
    assert not store.swap("r", b"old", None)
    assert store.swap("r", b"newer", None)
    assert "r" not in store.names()
    assert not store.has("r")
    with pytest.raises(NameMissing):
        get(store, "r")
    put(store, "r", b"again")
    with pytest.raises(NameTaken):
        put(store, "r", b"and again")
    assert get(store, "r") == b"again"


def test_swaps_that_compete_lose_no_step(another: Another) -> None:
    put(another(), "n", b"0")

    def count() -> None:
        mine = another()
        done = 0
        while done < 10:
            now = get(mine, "n")
            done += mine.swap("n", now, b"%d" % (int(now) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get(another(), "n") == b"40"


def test_through_a_stage_everything_is_as_without_it(store: Store, another: Another) -> None:
    stage = store.stage("ab")
    stage.note(BACKUP)
    assert another().unfinished() == {BACKUP}
    assert another().has_stages()
    stage.check_writable()
    with stage.create(NAME) as sink:
        sink.write(b"whole")
    with pytest.raises(NameTaken), stage.create(NAME) as sink:
        sink.write(b"other")
    put(store, f"{BACKUP}.meta", b"damaged")
    assert stage.set_aside(f"{BACKUP}.meta") == f"{BACKUP}.meta.damaged"
    put(store, f"{BACKUP}.meta", b"again")
    assert stage.set_aside(f"{BACKUP}.meta") == f"{BACKUP}.meta.damaged-2"
    assert get(store, f"{BACKUP}.meta.damaged-2") == b"again"
    stage.delete(NAME)
    stage.delete(NAME)
    stage.sync()
    assert list(another().names("2")) == [f"{BACKUP}.meta.damaged", f"{BACKUP}.meta.damaged-2"]
    stage.close()
    assert another().unfinished() == set()
    assert not another().has_stages()


def test_records_of_a_run_go_with_its_stage(store: Store, another: Another) -> None:
    stage = store.stage("ab")
    records = store.records(stage)
    put(records, "b0.todo", b"1")
    assert records.names() == {"b0.todo": 1}
    assert "b0.todo" not in another().names()
    part = stage.part("b0", "cd")
    part.publish("b0.done", b"22")
    with pytest.raises(NameTaken):
        part.publish("b0.done", b"33")
    assert records.names() == {"b0.done": 2, "b0.todo": 1}
    part.close()
    stage.close()
    assert not another().has_stages()


def test_a_revoked_stage_leads_nowhere(store: Store, another: Another) -> None:
    sleeper, heir = store.stage("ab"), another()
    mine = heir.stage("cd")
    sleeper.note(BACKUP)
    batch = sleeper.batch()
    with batch.create(NAME) as sink:
        sink.write(b"x")
    [revoked] = heir.revoke_stages(mine.name)
    assert revoked.backup == BACKUP
    assert not sleeper.is_there()
    put(heir, "foreign", b"the heir's")

    def commit() -> None:
        with sleeper.create(f"{BACKUP}.manifest") as sink:
            sink.write(b"{}")

    for deed in (
        lambda: sleeper.note(BACKUP),
        commit,
        sleeper.check_writable,
        lambda: sleeper.set_aside("foreign"),
    ):
        with pytest.raises(LockLost):
            deed()
    sleeper.close()
    assert heir.unfinished() == {BACKUP}
    assert get(heir, "foreign") == b"the heir's"
    mine.delete(NAME)
    assert revoked.forget()
    assert list(heir.names("2")) == []
    mine.close()
    assert not another().has_stages()
