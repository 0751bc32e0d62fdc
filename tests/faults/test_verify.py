"""`verify` says what is wrong, what it costs, and what comes back all the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.engine.verify.sampling import Sample
from tests.expectation import Expectation
from tests.faults.places import Place
from tests.wire.commands import Done, restore, shardkeeper
from tests.wire.points import points


@pytest.fixture(scope="module")
def good(server: Place) -> Iterator[Expectation]:
    """Three backups of three shards: all of them, the first one, none."""
    expectation = server.expectation()
    expectation.back_up()
    server.write(expectation, [0])
    expectation.back_up()
    expectation.back_up()
    expectation.restored(max(expectation.states))  # leaves a receipt
    yield expectation
    server.source.drop_database(expectation.database)


@pytest.fixture
def expectation(good: Expectation, tmp_path: Path) -> Expectation:
    copy = Path(shutil.copytree(good.backups, tmp_path / "copy"))
    return Expectation(good.source, good.flags, good.database, copy, good.target, dict(good.states))


def flip(path: Path, at: float = 0.5) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * at)] ^= 4
    path.write_bytes(raw)


def verified(expectation: Expectation, *flags: object) -> tuple[Done, Any]:
    """What is printed, and the same as JSON says it."""
    done = shardkeeper("verify", *flags, expectation.backups)
    document = json.loads(shardkeeper("verify", "-json", *flags, expectation.backups).out)
    assert document["clean"] == (done.code == 0)
    assert len(document["problems"]) == done.out.count("problem: ")
    return done, document


def archives(expectation: Expectation, backup: str) -> list[Path]:
    """In the order of their shards, of which the hundredth comes after the ninety-ninth."""
    found = expectation.backups.glob(f"{backup}.s*.tar.gz")
    return sorted(found, key=lambda path: int(path.name.split(".")[1][1:]))


def test_good_backups_are_clean_and_all_states_whole(expectation: Expectation) -> None:
    done, document = verified(expectation)
    assert done.code == 0
    read = sum(path.stat().st_size for path in expectation.backups.glob("*.tar.gz"))
    assert done.out == f"3 backups, 4 archives, {read} bytes read: 0 problems\n"
    assert done.err == ""
    assert document["read"] == {
        "backups": 3, "receipts": 1, "archives": 4, "archives_there": 4, "size_bytes": read,
    }  # fmt: skip
    assert [(b["name"], b["whole"], b["lacks"]) for b in document["backups"]] == [
        (name, True, []) for name in sorted(expectation.states)
    ]
    assert document["newest_whole"] == max(expectation.states)
    assert {db["name"]: (db["shards"], db["complete"]) for db in document["databases"]} == {
        expectation.database: (3, True)
    }
    assert document["problems"] == document["known"] == []
    assert document["sample"] is document["repaired"] is None


@pytest.mark.fault(46, 75)
def test_damage_names_the_shard_the_states_it_costs_and_where_else_the_shard_is(
    expectation: Expectation,
) -> None:
    first, second, third = sorted(expectation.states)
    [archive] = archives(expectation, second)
    shard = int(archive.name.split(".")[1][1:])
    flip(archive)
    done, document = verified(expectation)
    assert done.code == 13
    lines = done.out.splitlines()
    assert lines[0].startswith(f"problem: {archive.name}: ")
    assert f"restorable: {first}: everything" in lines
    assert (
        f"restorable: {second} to {third} (2 backups): everything but shard {shard} of "
        f"'{expectation.database}'.'autogen'" in lines
    )
    assert any(f"restorable as it was in {first} (-as-of {first})" in line for line in lines)
    assert f"databases in {third}: '{expectation.database}' without 1 of its 3 shards" in lines
    assert document["newest_whole"] == first
    [gap] = document["backups"][2]["lacks"]
    assert (gap["shard"], gap["file"], gap["instead"]) == (shard, archive.name, first)
    # What it says is so.
    refused = shardkeeper("restore", *at(expectation), "-db", expectation.database, "-newdb",
    "never",
                          expectation.backups)  # fmt: skip
    assert refused.code == 13
    assert expectation.restored(first) == expectation.states[first]
    part = f"part-of-{expectation.database}"
    restore(expectation.target, expectation.backups, "-db", expectation.database, "-newdb", part,
    "-shard",
            shard, "-as-of", first)  # fmt: skip
    assert points(expectation.target, part)
    expectation.target.drop_database(part)


def at(expectation: Expectation) -> tuple[str, ...]:
    return (
        "-host",
        expectation.target.bind_addr,
        "-http",
        f"http://{expectation.target.http_addr}",
    )


@pytest.mark.fault(46, 50)
def test_damage_to_what_is_no_archive_is_found_too(expectation: Expectation) -> None:
    first, second, third = sorted(expectation.states)
    [receipt] = expectation.backups.glob("*.receipt.json")
    (expectation.backups / f"{second}.manifest.copy").unlink()
    for path, at_ in (
        (receipt, 0.3),
        (expectation.backups / f"{first}.manifest", 0.7),
        (expectation.backups / f"{third}.manifest.copy", 0.1),
        (expectation.backups / f"{third}.meta", 0.9),
    ):
        flip(path, at_)
    done, document = verified(expectation)
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
def test_files_and_manifests_are_held_against_each_other_both_ways(
    expectation: Expectation,
) -> None:
    first, second, third = sorted(expectation.states)
    for path in expectation.backups.glob(f"{first}.manifest*"):
        path.unlink()
    archives(expectation, second)[0].unlink()
    shutil.copy(archives(expectation, first)[0], expectation.backups / f"{third}.s999.tar.gz")
    done, document = verified(expectation)
    assert done.code == 13
    assert {(p["kind"], p["file"]) for p in document["problems"]} == {
        ("archive", archives(expectation, first)[0].name.replace(first, second)),
        ("archive", f"{third}.manifest"),  # relies on archives of the first backup
        ("stray", f"{first}.meta"),
        ("stray", f"{third}.s999.tar.gz"),
    }
    assert f"{first}.meta and 3 more: no manifest lists it" in done.out
    assert f"{third}.s999.tar.gz: not listed by {third}.manifest" in done.out


@pytest.mark.fault(50)
def test_a_manifest_that_is_gone_is_a_problem_of_its_own(expectation: Expectation) -> None:
    second, third = sorted(expectation.states)[1:]
    (expectation.backups / f"{third}.manifest").unlink()
    done, document = verified(expectation)
    assert [(p["kind"], p["file"]) for p in document["problems"]] == [
        ("manifest", f"{third}.manifest")
    ]
    assert "its copy is there and whole" in done.out
    assert document["newest_whole"] == second


def test_a_sample_looks_at_everything_and_reads_a_part(expectation: Expectation) -> None:
    damaged, cut = archives(expectation, min(expectation.states))[:2]
    flip(damaged)
    cut.write_bytes(cut.read_bytes()[:-1])
    names = {path.name for path in expectation.backups.glob("*.tar.gz")}
    read: set[str] = set()
    for day in range(4):
        done, document = verified(expectation, "-sample", "25%", "-day", day)
        files = {p["file"] for p in document["problems"]}
        turn = Sample.parse("25%").choose(names, day)
        assert cut.name in files
        assert (damaged.name in files) == (damaged.name in turn)
        assert document["sample"] == {"asked": "25%", "day": day, "days": 4}
        assert document["read"]["archives"] == len(turn)
        assert f" (25% of 4, day {day})" in done.out
        read |= turn
    assert read == names


def test_a_sample_without_a_day_is_todays_and_nonsense_is_refused(expectation: Expectation) -> None:
    done, document = verified(expectation, "-sample", "2")
    assert done.code == 0
    assert document["read"]["archives"] == 2
    for flags in (("-sample", "0"), ("-sample", "x%"), ("-day", "3")):
        assert shardkeeper("verify", *flags, expectation.backups).code == 2


@pytest.mark.fault(34)
def test_a_directory_without_backups_is_none_that_is_clean(tmp_path: Path) -> None:
    done = shardkeeper("verify", tmp_path)
    assert done.code == 10
    assert "is its file system mounted?" in done.err
