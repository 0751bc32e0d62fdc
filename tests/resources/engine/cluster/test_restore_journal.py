"""What a killed restore leaves behind about what it made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.engine.cluster.restore_journal import Journal, JournalFile
from resources.errors import ManifestUnreadable, TargetBusy
from resources.model import ShardID
from resources.repository.storage.store import DirectoryStore

MADE = Journal(
    8,
    {"home": (ShardID(3), ShardID(4)), "hollow": ()},
    {ShardID(3): ("a:8088", "b:8088"), ShardID(4): ("b:8088", "c:8088")},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DirectoryStore]:
    store = DirectoryStore(tmp_path)
    yield store
    store.close()


def test_a_journal_is_read_as_it_was_written(store: DirectoryStore):
    file = JournalFile(store, 8)
    file.write(MADE)
    assert JournalFile(store, 8).read() == MADE


def test_a_journal_is_nobody_elses_to_read(store: DirectoryStore, tmp_path: Path):
    file = JournalFile(store, 8)
    file.write(MADE)
    assert (tmp_path / file.name).stat().st_mode & 0o777 == 0o600


def test_another_journal_replaces_the_first(store: DirectoryStore):
    file = JournalFile(store, 8)
    file.write(Journal(8, {}, {}))
    file.write(MADE)
    assert file.read() == MADE


def test_clusters_have_journals_of_their_own(store: DirectoryStore):
    JournalFile(store, 8).write(MADE)
    assert JournalFile(store, 9).read() is None


def test_there_is_none_after_it_was_removed(store: DirectoryStore):
    file = JournalFile(store, 8)
    file.write(MADE)
    file.remove()
    file.remove()
    assert file.read() is None


def test_the_record_of_a_run_that_came_after_is_neither_replaced_nor_removed(
    store: DirectoryStore,
):
    """This run stood still past its lease; what the other one creates stays on record."""
    mine, theirs = JournalFile(store, 8), JournalFile(store, 8)
    mine.write(MADE)
    theirs.read()
    other = Journal(8, {"other": ()}, {})
    theirs.write(other)
    with pytest.raises(TargetBusy, match="took the place of this one"):
        mine.write(Journal(8, {}, {}))
    mine.remove()
    assert JournalFile(store, 8).read() == other


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 2, "cluster_id": 8, "databases": {}, "copies": {}}',
        b'{"version": 1, "cluster_id": 8, "databases": {"a": [{}]}, "copies": {}}',
        b'{"version": 1, "cluster_id": 8, "databases": [], "copies": {}}',
        b'{"version": 1, "cluster_id": 8, "databases": {}, "copies": {"x": []}}',
        b'{"version": 1, "cluster_id": 8, "databases": {}, "copies": {"1": [2]}}',
        b'{"version": 1, "cluster_id": 8, "databases": {}, "copies": {"1": 2}}',
        b'{"version": 1, "cluster_id": Infinity, "databases": {}, "copies": {}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_what_is_no_journal_is_reported_to_be_none(raw: bytes):
    with pytest.raises(ManifestUnreadable, match=r"j\.json cannot be read"):
        Journal.decode(raw, "j.json")


FULL = (
    b'{"version": 1, "cluster_id": 8, "databases": {"home": [3]}, "copies": {"3": ["d1:8088"]}, '
    b'"by_command": true, "proved": null, "policies": {"home": [["autogen", 0, 10]]}, '
    b'"sent": {"3": [["000000001-000000001.tsm", 90, 4294967295]]}, "plan": "p", '
    b'"ids": [[7, 3]], "filled": {"3": ["d1:8088"]}}'
)


def test_a_journal_is_stored_as_it_always_was():
    journal = Journal.decode(FULL, "j")
    assert journal.encode() == FULL
    assert journal.ids == {ShardID(7): ShardID(3)}
    assert journal.sent == {ShardID(3): (("000000001-000000001.tsm", 90, 4294967295),)}


def test_a_journal_without_what_later_versions_added_is_read():
    raw = b'{"version": 1, "cluster_id": 8, "databases": {"home": []}, "copies": {}}'
    assert Journal.decode(raw, "j") == Journal(8, {"home": ()}, {}, proved=None)


def test_what_is_wrong_in_a_journal_is_named():
    raw = FULL.replace(b'"home": [3]', b'"home": ["3"]')
    with pytest.raises(ManifestUnreadable, match=r"^j cannot be read \(databases.*whole number"):
        Journal.decode(raw, "j")
