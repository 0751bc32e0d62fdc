"""What a killed merge leaves behind about how far it is, and what is no such thing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from resources.engine.merge.merge_journal import (
    MergeJournal,
    MergeJournalFile,
    request_of,
    unfinished_merges,
)
from resources.engine.merge.merge_plan import MergeOptions
from resources.engine.merge.own_database import Made
from resources.errors import (
    LockLost,
    ManifestUnreadable,
    ShardkeeperError,
    UnsafeName,
)
from resources.model import ShardID
from resources.repository.formats.manifest import Limits
from resources.repository.storage.store import DirectoryStore

BEGUN = MergeJournal(
    8,
    request_of(MergeOptions(Limits("home", "day", ShardID(3)), start_ns=-5, end_ns=10**18)),
    "shardkeeper_merge_0123456789ab",
    "20261122T095100Z.manifest",
    "home",
    {"day": "kept for ever"},
)
HALF = replace(
    BEGUN,
    shards=(ShardID(2**64 - 1), ShardID(4)),
    made=Made(
        (("day", 0, 86_400 * 10**9),),
        (("day", -(2**63), 2**63 - 1, 2),),
        (("000000001-000000001.tsm", 77, 2**32 - 1),),
    ),
)
RAW = HALF.encode()
DOCUMENT: dict[str, Any] = json.loads(RAW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    store = DirectoryStore(tmp_path)
    yield store
    store.close()


@pytest.mark.parametrize("journal", [BEGUN, HALF, replace(HALF, complete=True, shards=())])
def test_a_journal_is_read_as_it_was_written(store: DirectoryStore, journal: MergeJournal) -> None:
    MergeJournalFile(store, 8).write(journal)
    assert MergeJournalFile(store, 8).read() == journal


def test_each_target_has_a_journal_of_its_own(store: DirectoryStore) -> None:
    MergeJournalFile(store, 8).write(BEGUN)
    assert MergeJournalFile(store, 9).read() is None


def test_the_journal_of_another_target_is_refused(store: DirectoryStore, tmp_path: Path) -> None:
    MergeJournalFile(store, 8).write(BEGUN)
    other = MergeJournalFile(store, 9)
    (tmp_path / MergeJournalFile(store, 8).name).rename(tmp_path / other.name)
    with pytest.raises(ManifestUnreadable, match="target with ID 8"):
        other.read()


def test_one_that_another_merge_has_written_is_not_taken_away(store: DirectoryStore) -> None:
    mine, theirs = MergeJournalFile(store, 8), MergeJournalFile(store, 8)
    mine.write(BEGUN)
    theirs.read()
    theirs.write(HALF)
    with pytest.raises(LockLost):
        mine.remove()
    assert theirs.read() == HALF
    theirs.remove()
    mine.remove()  # it is gone, whatever removed it


def test_whoever_looks_is_reported_of_an_unfinished_merge(store: DirectoryStore) -> None:
    assert unfinished_merges(store) == []
    MergeJournalFile(store, 8).write(HALF)
    [message] = unfinished_merges(store)
    assert HALF.temporary in message
    assert "merge -abandon" in message


def test_there_is_none_after_it_was_removed(store: DirectoryStore) -> None:
    file = MergeJournalFile(store, 8)
    file.write(BEGUN)
    file.remove()
    file.remove()
    assert file.read() is None
    file.write(HALF)
    assert file.read() == HALF


def test_a_journal_that_somebody_else_changed_is_not_written_over(store: DirectoryStore) -> None:
    mine, theirs = MergeJournalFile(store, 8), MergeJournalFile(store, 8)
    mine.write(BEGUN)
    assert theirs.read() == BEGUN
    theirs.write(HALF)
    with pytest.raises(LockLost, match="changed by another merge"):
        mine.write(replace(BEGUN, backup="other"))
    assert theirs.read() == HALF


def test_a_file_beyond_belief_is_refused_unread(store: DirectoryStore, tmp_path: Path) -> None:
    file = MergeJournalFile(store, 8)
    with (tmp_path / file.name).open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(ManifestUnreadable, match=f"{1 << 40} bytes"):
        file.read()


# --- what it says -------------------------------------------------------------------------


def test_how_far_an_earlier_version_was_is_read_over() -> None:
    earlier = {
        **{key: value for key, value in DOCUMENT.items() if key != "made"},
        "version": 1,
        "copied": ["day", -(2**63), "cpu ☃"],
        "failed": [["day", 0, 'm"', "field type conflict"]],
        "points": 7,
    }
    found = MergeJournal.decode(json.dumps(earlier).encode(), "j.json")
    assert found == replace(HALF, made=None)


def test_how_a_merge_is_done_may_change_between_its_runs_and_what_it_merges_may_not() -> None:
    options = MergeOptions(Limits("home"))
    hows = [replace(options, most_points=1), replace(options, parallel=9, skip_expired=True)]
    whats = [
        replace(options, into_database="x"),
        replace(options, into_policy="x"),
        replace(options, limits=Limits("home", "day")),
        replace(options, start_ns=0),
        replace(options, end_ns=0),
    ]
    assert all(request_of(how) == request_of(options) for how in hows)
    assert all(request_of(what) != request_of(options) for what in whats)


# --- hostile bytes ------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(len(RAW)))
def test_a_journal_cut_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(ManifestUnreadable, match=r"^j\.json cannot be read"):
        MergeJournal.decode(RAW[:cut], "j.json")


@pytest.mark.parametrize("at", range(len(RAW)))
def test_a_journal_with_any_byte_changed_is_refused_or_one_that_can_be_written(at: int) -> None:
    for byte in {RAW[at] ^ 1, RAW[at] ^ 128, 0, ord('"'), ord("9"), ord("\\")}:
        raw = RAW[:at] + bytes([byte]) + RAW[at + 1 :]
        try:
            found = MergeJournal.decode(raw, "j.json")
        except ShardkeeperError:
            continue
        assert MergeJournal.decode(found.encode(), "j.json") == found


STRANGE: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    2**64,
    10**4000,
    "",
    "a\x1b[2J",
    "\ud800",
    "../x",
    [],
    [[]],
    ["day", 0],
    ["day", 0, "m", "why", "more"],
    ["day", 2**63, "m"],
    [["day", 0, "m", "\x1b[2J"]],
    [["day", 0, "m", "\ud800"]],
    [["day", "0", "m", "why"]],
    [2**64],
    [True],
    {},
    {"a": 1},
    {"a": None},
    {"../a": "b"},
    {"a": "b\n"},
    {"database": "x"},
]
TAKEN: dict[str, list[Any]] = {
    "version": [],
    "cluster_id": [0],
    "request": [],
    "temporary": [],
    "backup": [],
    "into": [],
    "policies": [{}, {"database": "x"}],
    "shards": [None, []],
    "complete": [True],
    "made": [None],
}


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: ascii(value)[:30])
@pytest.mark.parametrize("key", DOCUMENT)
def test_a_value_of_another_kind_is_refused(key: str, value: Any) -> None:
    raw = json.dumps({**DOCUMENT, key: value}).encode()
    if any(type(one) is type(value) and one == value for one in TAKEN[key]):
        MergeJournal.decode(raw, "j.json")
        return
    with pytest.raises((ManifestUnreadable, UnsafeName)):
        MergeJournal.decode(raw, "j.json")


@pytest.mark.parametrize("key", DOCUMENT)
def test_a_journal_that_misses_a_key_is_refused(key: str) -> None:
    raw = json.dumps({k: v for k, v in DOCUMENT.items() if k != key}).encode()
    with pytest.raises(ManifestUnreadable):
        MergeJournal.decode(raw, "j.json")


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 1},
        {"version": 3},
        {"copied": None},
        {"version": 1.0},
        {"version": True},
        {"version": "1"},
        {"more": 1},
        {"request": {**DOCUMENT["request"], "more": 1}},
        {"request": {**DOCUMENT["request"], "database": ["home"]}},
        {"request": {**DOCUMENT["request"], "shard": True}},
        {"temporary": "telegraf"},
        {"temporary": "shardkeeper_merge_"},
        {"temporary": "shardkeeper_merge_of_my_own"},
        {"temporary": "shardkeeper_merge_0123456789ab\n"},
        {"temporary": "shardkeeper_merge_\u0660123456789ab"},
        {"shards": None, "complete": True},
        {"made": {**DOCUMENT["made"], "more": []}},
        {"made": {"policies": [], "groups": []}},
        {"made": {**DOCUMENT["made"], "policies": [["day", 0]]}},
        {"made": {**DOCUMENT["made"], "policies": [["day", 0, 2**63]]}},
        {"made": {**DOCUMENT["made"], "groups": [["day", 0, 1, -1]]}},
        {"made": {**DOCUMENT["made"], "groups": [[7, 0, 1, 1]]}},
        {"made": {**DOCUMENT["made"], "files": [["a.tsm", 1, True]]}},
        {"made": {**DOCUMENT["made"], "files": [["a.tsm", 1, 2, 3]]}},
    ],
    ids=lambda changed: ascii(changed)[:60],
)
def test_what_no_merge_writes_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ManifestUnreadable):
        MergeJournal.decode(json.dumps({**DOCUMENT, **changed}).encode(), "j.json")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version":' * 50_000,
        RAW + b"{}",
        RAW.replace(b'"into": "home"', b'"into": "home", "into": "home"'),
        RAW.replace(b'"cluster_id": 8', b'"cluster_id": NaN'),
        RAW.replace(b'"cluster_id": 8', b'"cluster_id": 1e999'),
        RAW.replace(b'"cluster_id": 8', b'"cluster_id": ' + b"9" * 100_000),
        RAW.replace(b'"version": 2', b'"version": ' + b"[" * 900 + b"]" * 900),
    ],
    ids=range(15),
)
def test_what_is_no_journal_is_reported_to_be_none(raw: bytes) -> None:
    with pytest.raises(ManifestUnreadable, match=r"^j\.json cannot be read") as caught:
        MergeJournal.decode(raw, "j.json")
    assert "delete the file" in caught.value.hint
