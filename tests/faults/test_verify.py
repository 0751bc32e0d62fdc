"""`verify` says what is wrong, what it costs, and what comes back all the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.engine.stored.sampling import Sample
from tests.faults.places import Place
from tests.oracle import Witness
from tests.wire.commands import Done, restore, shardkeeper
from tests.wire.points import points


@pytest.fixture(scope="module")
def good(server: Place) -> Iterator[Witness]:
    """Three backups of three shards: all of them, the first one, none."""
    witness = server.witness()
    witness.back_up()
    server.write(witness, [0])
    witness.back_up()
    witness.back_up()
    witness.restored(max(witness.states))  # leaves a receipt
    yield witness
    server.source.drop_database(witness.database)


@pytest.fixture
def witness(good: Witness, tmp_path: Path) -> Witness:
    copy = Path(shutil.copytree(good.backups, tmp_path / "copy"))
    return Witness(good.source, good.flags, good.database, copy, good.target, dict(good.states))


def flip(path: Path, at: float = 0.5) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * at)] ^= 4
    path.write_bytes(raw)


def verified(witness: Witness, *flags: object) -> tuple[Done, Any]:
    """What is printed, and the same as JSON says it."""
    done = shardkeeper("verify", *flags, witness.backups)
    document = json.loads(shardkeeper("verify", "-json", *flags, witness.backups).out)
    assert document["clean"] == (done.code == 0)
    assert len(document["problems"]) == done.out.count("problem: ")
    return done, document


def archives(witness: Witness, backup: str) -> list[Path]:
    """In the order of their shards, of which the hundredth comes after the ninety-ninth."""
    found = witness.backups.glob(f"{backup}.s*.tar.gz")
    return sorted(found, key=lambda path: int(path.name.split(".")[1][1:]))


def test_good_backups_are_clean_and_all_states_whole(witness: Witness) -> None:
    done, document = verified(witness)
    assert done.code == 0
    read = sum(path.stat().st_size for path in witness.backups.glob("*.tar.gz"))
    assert done.out == f"3 backups, 4 archives, {read} bytes read: 0 problems\n"
    assert done.err == ""
    assert document["read"] == {
        "backups": 3, "receipts": 1, "archives": 4, "archives_there": 4, "size_bytes": read,
    }  # fmt: skip
    assert [(b["name"], b["whole"], b["lacks"]) for b in document["backups"]] == [
        (name, True, []) for name in sorted(witness.states)
    ]
    assert document["newest_whole"] == max(witness.states)
    assert {db["name"]: (db["shards"], db["complete"]) for db in document["databases"]} == {
        witness.database: (3, True)
    }
    assert document["problems"] == document["known"] == []
    assert document["sample"] is document["repaired"] is None


@pytest.mark.fault(46, 75)
def test_damage_names_the_shard_the_states_it_costs_and_where_else_the_shard_is(
    witness: Witness,
) -> None:
    first, second, third = sorted(witness.states)
    [archive] = archives(witness, second)
    shard = int(archive.name.split(".")[1][1:])
    flip(archive)
    done, document = verified(witness)
    assert done.code == 13
    lines = done.out.splitlines()
    assert lines[0].startswith(f"problem: {archive.name}: ")
    assert f"restorable: {first}: everything" in lines
    assert (
        f"restorable: {second} to {third} (2 backups): everything but shard {shard} of "
        f"'{witness.database}'.'autogen'" in lines
    )
    assert any(f"restorable as it was in {first} (-as-of {first})" in line for line in lines)
    assert f"databases in {third}: '{witness.database}' without 1 of its 3 shards" in lines
    assert document["newest_whole"] == first
    [lack] = document["backups"][2]["lacks"]
    assert (lack["shard"], lack["file"], lack["instead"]) == (shard, archive.name, first)
    # What it says is so.
    refused = shardkeeper("restore", *at(witness), "-db", witness.database, "-newdb", "never",
                          witness.backups)  # fmt: skip
    assert refused.code == 13
    assert witness.restored(first) == witness.states[first]
    part = f"part-of-{witness.database}"
    restore(witness.target, witness.backups, "-db", witness.database, "-newdb", part, "-shard",
            shard, "-as-of", first)  # fmt: skip
    assert points(witness.target, part)
    witness.target.drop_database(part)


def at(witness: Witness) -> tuple[str, ...]:
    return ("-host", witness.target.bind_addr, "-http", f"http://{witness.target.http_addr}")


@pytest.mark.fault(46, 50)
def test_damage_to_what_is_no_archive_is_found_too(witness: Witness) -> None:
    first, second, third = sorted(witness.states)
    [receipt] = witness.backups.glob("*.receipt.json")
    (witness.backups / f"{second}.manifest.copy").unlink()
    for path, at_ in (
        (receipt, 0.3),
        (witness.backups / f"{first}.manifest", 0.7),
        (witness.backups / f"{third}.manifest.copy", 0.1),
        (witness.backups / f"{third}.meta", 0.9),
    ):
        flip(path, at_)
    done, document = verified(witness)
    assert done.code == 13
    assert [(p["kind"], p["file"]) for p in document["problems"]] == [
        ("manifest", f"{first}.manifest"),
        ("copy", f"{second}.manifest.copy"),
        ("copy", f"{third}.manifest.copy"),
        ("meta", f"{third}.meta"),
        ("receipt", receipt.name),
    ]
    assert [b["trouble"] is None for b in document["backups"]] == [True, True, False]
    assert document["newest_whole"] == second
    assert f"not restorable: {third}: {third}.meta" in done.out


@pytest.mark.fault(51)
def test_files_and_manifests_are_held_against_each_other_both_ways(witness: Witness) -> None:
    first, second, third = sorted(witness.states)
    for path in witness.backups.glob(f"{first}.manifest*"):
        path.unlink()
    archives(witness, second)[0].unlink()
    shutil.copy(archives(witness, first)[0], witness.backups / f"{third}.s999.tar.gz")
    done, document = verified(witness)
    assert done.code == 13
    assert {(p["kind"], p["file"]) for p in document["problems"]} == {
        ("archive", archives(witness, first)[0].name.replace(first, second)),
        ("archive", f"{third}.manifest"),  # relies on archives of the first backup
        ("stray", f"{first}.meta"),
        ("stray", f"{third}.s999.tar.gz"),
    }
    assert f"{first}.meta and 3 more: no manifest lists it" in done.out
    assert f"{third}.s999.tar.gz: not listed by {third}.manifest" in done.out


@pytest.mark.fault(50)
def test_a_manifest_that_is_gone_is_a_problem_of_its_own(witness: Witness) -> None:
    second, third = sorted(witness.states)[1:]
    (witness.backups / f"{third}.manifest").unlink()
    done, document = verified(witness)
    assert [(p["kind"], p["file"]) for p in document["problems"]] == [
        ("manifest", f"{third}.manifest")
    ]
    assert "its copy is there and whole" in done.out
    assert document["newest_whole"] == second


def test_a_sample_looks_at_everything_and_reads_a_part(witness: Witness) -> None:
    damaged, cut = archives(witness, min(witness.states))[:2]
    flip(damaged)
    cut.write_bytes(cut.read_bytes()[:-1])
    names = {path.name for path in witness.backups.glob("*.tar.gz")}
    read: set[str] = set()
    for day in range(4):
        done, document = verified(witness, "-sample", "25%", "-day", day)
        files = {p["file"] for p in document["problems"]}
        turn = Sample.parse("25%").choose(names, day)
        assert cut.name in files
        assert (damaged.name in files) == (damaged.name in turn)
        assert document["sample"] == {"asked": "25%", "day": day, "days": 4}
        assert document["read"]["archives"] == len(turn)
        assert f"archives (25% of 4, day {day})" in done.out
        read |= turn
    assert read == names


def test_a_sample_without_a_day_is_todays_and_nonsense_is_refused(witness: Witness) -> None:
    done, document = verified(witness, "-sample", "2")
    assert done.code == 0
    assert document["read"]["archives"] == 2
    for flags in (("-sample", "0"), ("-sample", "x%"), ("-day", "3")):
        assert shardkeeper("verify", *flags, witness.backups).code == 2


@pytest.mark.fault(34)
def test_a_directory_without_backups_is_none_that_is_clean(tmp_path: Path) -> None:
    done = shardkeeper("verify", tmp_path)
    assert done.code == 10
    assert "is its file system mounted?" in done.err
