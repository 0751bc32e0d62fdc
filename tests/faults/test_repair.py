"""`verify -repair` puts right what can be put right, and harms nothing that is sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.failpoints import FAILPOINTS, VARIABLE
from resources.repository.lock import StoreLock
from resources.repository.store import DirectoryStore
from tests.faults.places import Place
from tests.faults.shards import shards_of
from tests.oracle import Witness
from tests.processes import Nursery
from tests.resources.devcluster.dev_influxd import DevInfluxd
from tests.wire.commands import Done, at, restore, shardkeeper
from tests.wire.points import points

IN_REPAIRS = [name for name in FAILPOINTS if name.startswith("repair.")]

Harm = Callable[[Path], object]


@pytest.fixture(scope="module")
def good(server: Place) -> Iterator[Witness]:
    """Three backups of three shards: all of them, the first one, the first one again."""
    witness = server.witness()
    witness.back_up()
    for _ in range(2):
        server.write(witness, [0])
        witness.back_up()
    yield witness
    server.source.drop_database(witness.database)


@pytest.fixture
def witness(good: Witness, tmp_path: Path) -> Witness:
    copy = Path(shutil.copytree(good.backups, tmp_path / "copy"))
    return Witness(good.source, good.flags, good.database, copy, good.target, dict(good.states))


def flip(path: Path) -> bytes:
    """What it is then."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    return bytes(raw)


def repair(witness: Witness, *flags: object) -> Done:
    return shardkeeper("verify", "-repair", *flags, witness.backups)


def listing(witness: Witness) -> dict[str, bytes]:
    files = (path for path in witness.backups.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in files}


def newest(witness: Witness, pattern: str) -> Path:
    return max(witness.backups.glob(pattern))


def oldest(witness: Witness, pattern: str) -> Path:
    return min(witness.backups.glob(pattern))


def is_clean(witness: Witness) -> Done:
    done = shardkeeper("verify", witness.backups)
    assert done, done
    return done


# --- from the second copy -----------------------------------------------------------------


@pytest.mark.fault(50)
@pytest.mark.parametrize("suffix", ["manifest", "manifest.copy"])
@pytest.mark.parametrize("harm", [flip, Path.unlink], ids=["flipped", "gone"])
def test_a_manifest_and_its_copy_are_written_again_from_each_other(
    witness: Witness, harm: Harm, suffix: str
) -> None:
    before = listing(witness)
    path = newest(witness, f"*.{suffix}")
    harm(path)
    harmed = path.read_bytes() if path.exists() else b""
    done = repair(witness)
    assert done, done
    assert f"repaired: {path.name}: written again" in done.out
    after = listing(witness)
    assert {name: after[name] for name in before} == before
    assert after.get(f"{path.name}.damaged", b"") == harmed
    is_clean(witness)
    witness.judge()


def test_what_is_sound_stays_as_it_is(witness: Witness) -> None:
    before = listing(witness)
    done = repair(witness)
    assert done, done
    assert "repaired" not in done.out
    assert listing(witness) == before


@pytest.mark.fault(50)
def test_where_both_are_damaged_nothing_is_done(witness: Witness, server: Place) -> None:
    for path in witness.backups.glob(f"{max(witness.states)}.manifest*"):
        flip(path)
    flip(oldest(witness, "*.tar.gz"))
    before = listing(witness)
    done = repair(witness, *witness.flags)
    assert done.code == 13, done
    assert done.out.count("problem: ") == 3
    assert listing(witness) == before


# --- from the source ----------------------------------------------------------------------


@pytest.mark.fault(46, 47, 48)
@pytest.mark.parametrize(
    "harm", [flip, Path.unlink, lambda path: path.write_bytes(b"")], ids=["flip", "gone", "empty"]
)
def test_an_archive_is_copied_again_and_an_unchanged_shard_heals_every_state(
    witness: Witness, harm: Harm
) -> None:
    before = listing(witness)
    path = newest(witness, "*.tar.gz")
    harm(path)
    harmed = path.read_bytes() if path.exists() else None
    assert repair(witness).code == 13
    assert "name the server" in repair(witness).err
    assert listing(witness).get(path.name) == harmed
    done = repair(witness, *witness.flags)
    assert done, done
    assert done.out.count("Backing up node") == 1
    assert witness.take_note()
    after = listing(witness)
    del before[path.name]
    assert {name: after[name] for name in before} == before
    assert after.get(f"{path.name}.damaged") == harmed
    assert path.name not in after
    assert f"known: {path.name}" in is_clean(witness).out
    witness.judge()
    assert "repaired" not in repair(witness).out


@pytest.mark.fault(46)
def test_a_shard_that_changed_since_is_whole_from_then_on(server: Place, tmp_path: Path) -> None:
    witness = server.witness()
    first, second = witness.back_up(), ""
    server.write(witness, [0])
    second = witness.back_up()
    flip(newest(witness, "*.tar.gz"))
    server.write(witness, [0])
    done = repair(witness, *witness.flags)
    assert done, done
    assert witness.take_note()
    is_clean(witness)
    [third] = set(witness.states) - {first, second}
    for name in (first, third):
        assert witness.restored(name) == witness.states[name]
    lost = ("-db", witness.database, "-newdb", "never", "-as-of", second)
    refused = shardkeeper("restore", *at(witness.target), *lost, witness.backups)
    assert refused.code == 13, refused
    document = json.loads(shardkeeper("verify", "-json", witness.backups).out)
    assert [b["whole"] for b in document["backups"]] == [True, False, True]
    [lack] = document["backups"][1]["lacks"]
    assert lack["instead"] == first
    [known] = document["known"]
    assert known["set_aside"] == f"{known['file']}.damaged"
    assert known["manifest"] == f"{second}.manifest"


@pytest.mark.fault(46)
def test_old_damage_that_nothing_new_needs_is_set_aside_without_a_source(
    witness: Witness,
) -> None:
    shard = newest(witness, "*.tar.gz").name.split(".")[1]
    path = oldest(witness, f"*.{shard}.tar.gz")
    harmed = flip(path)
    meta = flip(oldest(witness, "*.meta"))
    done = repair(witness)
    assert done, done
    after = listing(witness)
    assert after[f"{path.name}.damaged"] == harmed
    assert after[f"{min(witness.states)}.meta.damaged"] == meta
    is_clean(witness)
    for name in sorted(witness.states)[1:]:
        assert witness.restored(name) == witness.states[name]


@pytest.mark.fault(46)
def test_the_metastore_is_read_again(witness: Witness) -> None:
    flip(newest(witness, "*.meta"))
    assert repair(witness).code == 13
    done = repair(witness, *witness.flags)
    assert done, done
    assert done.out.count("Backing up node") == 0
    assert witness.take_note()
    is_clean(witness)
    assert witness.restored(max(witness.states)) == witness.now()


def test_a_damaged_receipt_is_set_aside(witness: Witness) -> None:
    witness.restored(max(witness.states))
    path = newest(witness, "*.receipt.json")
    flip(path)
    assert shardkeeper("verify", witness.backups).code == 13
    done = repair(witness)
    assert done, done
    assert path.with_name(f"{path.name}.damaged").exists()
    is_clean(witness)


@pytest.mark.fault(16)
def test_a_shard_that_the_source_has_no_more_is_given_up(server: Place) -> None:
    witness = server.witness()
    first = witness.back_up()
    gone = min(shards_of(server.source, witness.database))
    flip(next(witness.backups.glob(f"*.s{gone}.tar.gz")))
    server.source.query(f"DROP SHARD {gone}")
    done = repair(witness, *witness.flags)
    assert done, done
    assert witness.take_note()
    is_clean(witness)
    [second] = set(witness.states) - {first}
    assert witness.restored(second) == witness.now()


def test_a_database_that_was_restored_under_its_name_is_copied_instead(server: Place) -> None:
    """Its shards have other numbers since, so none of the lacking ones is there."""
    witness = server.witness()
    first = witness.back_up()
    server.source.drop_database(witness.database)
    restore(server.source, witness.backups, "-db", witness.database)
    flip(min(witness.backups.glob("*.tar.gz")))
    done = repair(witness, *witness.flags)
    assert done, done
    assert witness.take_note()
    is_clean(witness)
    [second] = set(witness.states) - {first}
    assert witness.restored(second) == witness.now()


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
    witness = cluster.witness()
    witness.back_up()
    flip(newest(witness, "*.tar.gz"))
    done = repair(witness, *witness.flags)
    assert done, done
    assert witness.take_note()
    witness.judge()


# --- guards -------------------------------------------------------------------------------


@pytest.mark.fault(21, 38)
def test_another_server_is_refused_and_another_run_waited_for(
    witness: Witness, server: Place
) -> None:
    flip(newest(witness, "*.tar.gz"))
    before = listing(witness)
    done = repair(witness, *server.target_flags)
    assert done.code == 14, done
    assert "backups of another server" in done.err
    assert listing(witness) == before
    lock = StoreLock.acquire(DirectoryStore(witness.backups), command="another")
    assert repair(witness, *witness.flags).code == 11
    flip(oldest(witness, "*.manifest"))
    assert repair(witness).code == 11
    lock.release()
    assert repair(witness, *witness.flags)


def test_json_says_what_was_done(witness: Witness) -> None:
    manifest, archive = newest(witness, "*.manifest"), newest(witness, "*.tar.gz")
    flip(manifest)
    flip(archive)
    done = repair(witness, "-json", *witness.flags)
    assert done, done
    document = json.loads(done.out)
    assert document["clean"]
    saved = newest(witness, "*.tar.gz")
    assert [item["file"] for item in document["repaired"]] == [
        manifest.name, saved.name, archive.name, newest(witness, "*.repair.json").name,
    ]  # fmt: skip
    flip(newest(witness, "*.repair.json"))
    found = json.loads(shardkeeper("verify", "-json", witness.backups).out)
    assert {p["kind"] for p in found["problems"]} == {"repair", "archive"}
    assert repair(witness)
    is_clean(witness)


# --- killed -------------------------------------------------------------------------------


@pytest.mark.fault(26)
@pytest.mark.parametrize("name", IN_REPAIRS)
def test_a_repair_killed_anywhere_is_finished_by_the_next(
    witness: Witness, nursery: Nursery, name: str
) -> None:
    flip(oldest(witness, "*.manifest"))
    flip(newest(witness, "*.tar.gz"))
    before = listing(witness)
    flags = ("verify", "-repair", *witness.flags, witness.backups)
    done = nursery.start(*flags, env={VARIABLE: name}).wait()
    assert done.code == -9, done
    assert set(before.values()) <= set(listing(witness).values())
    again = repair(witness, *witness.flags)
    assert again, again
    is_clean(witness)
    assert witness.restored(max(witness.committed)) == witness.now()
