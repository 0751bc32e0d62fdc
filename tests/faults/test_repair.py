"""`verify -repair` puts right what can be put right, and harms nothing that is sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.repository.storage.lock import StoreLock
from resources.repository.storage.store import DirectoryStore
from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.expectation import Expectation
from tests.faults.places import Place
from tests.faults.shards import shards_of
from tests.processes import ForkServer
from tests.resources.embedded.dev_influxd import DevInfluxd
from tests.wire.commands import Done, at, restore, shardkeeper
from tests.wire.points import points

IN_REPAIRS = [name for name in FAILPOINTS if name.startswith("repair.")]

Harm = Callable[[Path], object]


@pytest.fixture(scope="module")
def good(server: Place) -> Iterator[Expectation]:
    """Three backups of three shards: all of them, the first one, the first one again."""
    expectation = server.expectation()
    expectation.back_up()
    for _ in range(2):
        server.write(expectation, [0])
        expectation.back_up()
    yield expectation
    server.source.drop_database(expectation.database)


@pytest.fixture
def expectation(good: Expectation, tmp_path: Path) -> Expectation:
    copy = Path(shutil.copytree(good.backups, tmp_path / "copy"))
    return Expectation(good.source, good.flags, good.database, copy, good.target, dict(good.states))


def flip(path: Path) -> bytes:
    """What it is then."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    return bytes(raw)


def repair(expectation: Expectation, *flags: object) -> Done:
    return shardkeeper("verify", "-repair", *flags, expectation.backups)


def listing(expectation: Expectation) -> dict[str, bytes]:
    files = (path for path in expectation.backups.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in files}


def newest(expectation: Expectation, pattern: str) -> Path:
    return max(expectation.backups.glob(pattern))


def oldest(expectation: Expectation, pattern: str) -> Path:
    return min(expectation.backups.glob(pattern))


def is_clean(expectation: Expectation) -> Done:
    done = shardkeeper("verify", expectation.backups)
    assert done, done
    return done


# --- from the second copy -----------------------------------------------------------------


@pytest.mark.fault(50)
@pytest.mark.parametrize("suffix", ["manifest", "manifest.copy"])
@pytest.mark.parametrize("harm", [flip, Path.unlink], ids=["flipped", "gone"])
def test_a_manifest_and_its_copy_are_written_again_from_each_other(
    expectation: Expectation, harm: Harm, suffix: str
) -> None:
    before = listing(expectation)
    path = newest(expectation, f"*.{suffix}")
    harm(path)
    harmed = path.read_bytes() if path.exists() else b""
    done = repair(expectation)
    assert done, done
    assert f"repaired: {path.name}: written again" in done.out
    after = listing(expectation)
    assert {name: after[name] for name in before} == before
    assert after.get(f"{path.name}.damaged", b"") == harmed
    is_clean(expectation)
    expectation.check_all()


def test_what_is_sound_stays_as_it_is(expectation: Expectation) -> None:
    before = listing(expectation)
    done = repair(expectation)
    assert done, done
    assert "repaired" not in done.out
    assert listing(expectation) == before


@pytest.mark.fault(50)
def test_where_both_are_damaged_nothing_is_done(expectation: Expectation, server: Place) -> None:
    for path in expectation.backups.glob(f"{max(expectation.states)}.manifest*"):
        flip(path)
    flip(oldest(expectation, "*.tar.gz"))
    before = listing(expectation)
    done = repair(expectation, *expectation.flags)
    assert done.code == 13, done
    assert done.out.count("problem: ") == 3
    assert listing(expectation) == before


# --- from the source ----------------------------------------------------------------------


@pytest.mark.fault(46, 47, 48)
@pytest.mark.parametrize(
    "harm", [flip, Path.unlink, lambda path: path.write_bytes(b"")], ids=["flip", "gone", "empty"]
)
def test_an_archive_is_copied_again_and_an_unchanged_shard_heals_every_state(
    expectation: Expectation, harm: Harm
) -> None:
    before = listing(expectation)
    path = newest(expectation, "*.tar.gz")
    harm(path)
    harmed = path.read_bytes() if path.exists() else None
    assert repair(expectation).code == 13
    assert "name the server" in repair(expectation).err
    assert listing(expectation).get(path.name) == harmed
    done = repair(expectation, *expectation.flags)
    assert done, done
    assert done.out.count("Backing up node") == 1
    assert expectation.take_note()
    after = listing(expectation)
    del before[path.name]
    assert {name: after[name] for name in before} == before
    assert after.get(f"{path.name}.damaged") == harmed
    assert path.name not in after
    assert f"known: {path.name}" in is_clean(expectation).out
    expectation.check_all()
    assert "repaired" not in repair(expectation).out


@pytest.mark.fault(46)
def test_a_shard_that_changed_since_is_whole_from_then_on(server: Place, tmp_path: Path) -> None:
    expectation = server.expectation()
    first, second = expectation.back_up(), ""
    server.write(expectation, [0])
    second = expectation.back_up()
    flip(newest(expectation, "*.tar.gz"))
    server.write(expectation, [0])
    done = repair(expectation, *expectation.flags)
    assert done, done
    assert expectation.take_note()
    is_clean(expectation)
    [third] = set(expectation.states) - {first, second}
    for name in (first, third):
        assert expectation.restored(name) == expectation.states[name]
    lost = ("-db", expectation.database, "-newdb", "never", "-as-of", second)
    refused = shardkeeper("restore", *at(expectation.target), *lost, expectation.backups)
    assert refused.code == 13, refused
    document = json.loads(shardkeeper("verify", "-json", expectation.backups).out)
    assert [b["whole"] for b in document["backups"]] == [True, False, True]
    [gap] = document["backups"][1]["lacks"]
    assert gap["instead"] == first
    [known] = document["known"]
    assert known["set_aside"] == f"{known['file']}.damaged"
    assert known["manifest"] == f"{second}.manifest"


@pytest.mark.fault(46)
def test_old_damage_that_nothing_new_needs_is_set_aside_without_a_source(
    expectation: Expectation,
) -> None:
    shard = newest(expectation, "*.tar.gz").name.split(".")[1]
    path = oldest(expectation, f"*.{shard}.tar.gz")
    harmed = flip(path)
    meta = flip(oldest(expectation, "*.meta"))
    done = repair(expectation)
    assert done, done
    after = listing(expectation)
    assert after[f"{path.name}.damaged"] == harmed
    assert after[f"{min(expectation.states)}.meta.damaged"] == meta
    is_clean(expectation)
    for name in sorted(expectation.states)[1:]:
        assert expectation.restored(name) == expectation.states[name]


@pytest.mark.fault(46)
def test_the_metastore_is_read_again(expectation: Expectation) -> None:
    flip(newest(expectation, "*.meta"))
    assert repair(expectation).code == 13
    done = repair(expectation, *expectation.flags)
    assert done, done
    assert done.out.count("Backing up node") == 0
    assert expectation.take_note()
    is_clean(expectation)
    assert expectation.restored(max(expectation.states)) == expectation.now()


def test_a_damaged_receipt_is_set_aside(expectation: Expectation) -> None:
    expectation.restored(max(expectation.states))
    path = newest(expectation, "*.receipt.json")
    flip(path)
    assert shardkeeper("verify", expectation.backups).code == 13
    done = repair(expectation)
    assert done, done
    assert path.with_name(f"{path.name}.damaged").exists()
    is_clean(expectation)


@pytest.mark.fault(16)
def test_a_shard_that_the_source_has_no_more_is_given_up(server: Place) -> None:
    expectation = server.expectation()
    first = expectation.back_up()
    gone = min(shards_of(server.source, expectation.database))
    flip(next(expectation.backups.glob(f"*.s{gone}.tar.gz")))
    server.source.query(f"DROP SHARD {gone}")
    done = repair(expectation, *expectation.flags)
    assert done, done
    assert expectation.take_note()
    is_clean(expectation)
    [second] = set(expectation.states) - {first}
    assert expectation.restored(second) == expectation.now()


def test_a_database_that_was_restored_under_its_name_is_copied_instead(server: Place) -> None:
    """Its shards have other numbers since, so none of the lacking ones is there."""
    expectation = server.expectation()
    first = expectation.back_up()
    server.source.drop_database(expectation.database)
    restore(server.source, expectation.backups, "-db", expectation.database)
    flip(min(expectation.backups.glob("*.tar.gz")))
    done = repair(expectation, *expectation.flags)
    assert done, done
    assert expectation.take_note()
    is_clean(expectation)
    [second] = set(expectation.states) - {first}
    assert expectation.restored(second) == expectation.now()


def test_a_directory_of_everything_gets_a_backup_of_everything(tmp_path: Path) -> None:
    """What has changed meanwhile comes along, so that the newest state is one moment's."""
    backups = tmp_path / "backups"
    backups.mkdir()
    with DevInfluxd(tmp_path / "source") as source, DevInfluxd(tmp_path / "target") as target:
        for db in ("one", "two"):
            source.create_database(db)
            source.write(db, ["m v=1 1600000000000000000"])
        assert shardkeeper("backup", *at(source), backups)
        flip(min(backups.glob("*.tar.gz")))
        source.write("two", ["m v=2 1600000000000000001"])
        done = shardkeeper("verify", "-repair", *at(source), backups)
        assert done, done
        assert done.out.count("Backing up node") == 2
        assert json.loads(max(backups.glob("*.manifest")).read_text())["limited"] is False
        assert shardkeeper("restore", *at(target), backups)
        for db in ("one", "two"):
            assert points(target, db) == points(source, db)


def test_a_cluster_is_asked_as_well(cluster: Place) -> None:
    expectation = cluster.expectation()
    expectation.back_up()
    flip(newest(expectation, "*.tar.gz"))
    done = repair(expectation, *expectation.flags)
    assert done, done
    assert expectation.take_note()
    expectation.check_all()


# --- guards -------------------------------------------------------------------------------


@pytest.mark.fault(21, 38)
def test_another_server_is_refused_and_another_run_waited_for(
    expectation: Expectation, server: Place
) -> None:
    flip(newest(expectation, "*.tar.gz"))
    before = listing(expectation)
    done = repair(expectation, *server.target_flags)
    assert done.code == 14, done
    assert "backups of another server" in done.err
    assert listing(expectation) == before
    lock = StoreLock.acquire(DirectoryStore(expectation.backups), command="another")
    assert repair(expectation, *expectation.flags).code == 11
    flip(oldest(expectation, "*.manifest"))
    assert repair(expectation).code == 11
    lock.release()
    assert repair(expectation, *expectation.flags)


def test_json_says_what_was_done(expectation: Expectation) -> None:
    manifest, archive = newest(expectation, "*.manifest"), newest(expectation, "*.tar.gz")
    flip(manifest)
    flip(archive)
    done = repair(expectation, "-json", *expectation.flags)
    assert done, done
    document = json.loads(done.out)
    assert document["clean"]
    saved = newest(expectation, "*.tar.gz")
    assert [item["file"] for item in document["repaired"]] == [
        manifest.name, saved.name, archive.name, newest(expectation, "*.repair.json").name,
    ]  # fmt: skip
    flip(newest(expectation, "*.repair.json"))
    found = json.loads(shardkeeper("verify", "-json", expectation.backups).out)
    assert {p["kind"] for p in found["problems"]} == {"repair", "archive"}
    assert repair(expectation)
    is_clean(expectation)


# --- killed -------------------------------------------------------------------------------


@pytest.mark.fault(26)
@pytest.mark.parametrize("name", IN_REPAIRS)
def test_a_repair_killed_anywhere_is_finished_by_the_next(
    expectation: Expectation, fork_server: ForkServer, name: str
) -> None:
    flip(oldest(expectation, "*.manifest"))
    flip(newest(expectation, "*.tar.gz"))
    before = listing(expectation)
    flags = ("verify", "-repair", *expectation.flags, expectation.backups)
    done = fork_server.start(*flags, env={VARIABLE: name}).wait()
    assert done.code == -9, done
    assert set(before.values()) <= set(listing(expectation).values())
    again = repair(expectation, *expectation.flags)
    assert again, again
    is_clean(expectation)
    assert expectation.restored(max(expectation.committed)) == expectation.now()


@pytest.mark.fault(37)
def test_what_a_killed_run_left_is_swept_where_nothing_is_to_be_repaired(
    expectation: Expectation, fork_server: ForkServer
) -> None:
    """A repair that is killed when it has done everything leaves its lock and its stage."""
    before = listing(expectation)
    store = DirectoryStore(expectation.backups)
    store.stage("ab12")  # of a run that was killed before it had the lock
    assert repair(expectation)
    assert listing(expectation) == before
    assert not list(expectation.backups.glob(".shardkeeper*"))
    manifest = newest(expectation, "*.manifest")
    sound = manifest.read_bytes()
    flip(manifest)
    command = ("verify", "-repair", expectation.backups)
    killed = fork_server.start(*command, env={VARIABLE: "repair.set-aside"}).wait()
    assert killed.code == -9, killed
    assert list(expectation.backups.glob(".shardkeeper*"))
    manifest.write_bytes(sound)  # as if it had been killed a moment later
    assert repair(expectation)
    assert not list(expectation.backups.glob(".shardkeeper*"))


def test_a_run_at_work_is_left_alone_by_a_repair_of_a_sound_directory(
    expectation: Expectation,
) -> None:
    store = DirectoryStore(expectation.backups)
    lock = StoreLock.acquire(store, command="backup")
    try:
        assert repair(expectation)
        lock.check_still_mine()
    finally:
        lock.release()
