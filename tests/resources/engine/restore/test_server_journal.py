"""What a restore into a single server has created is on record, which is read with care."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.engine.events import Event
from resources.engine.restore.server_journal import (
    LOCK,
    SUFFIX,
    CreatedDatabase,
    ServerJournal,
    claim_journal,
    keeping_journal,
    left_journals,
    read_journal,
    unfinished_restores,
)
from resources.errors import LockLost, ManifestUnreadable, RepositoryLocked, RestoreFailed
from resources.model import ShardID
from resources.repository.storage.lock import StoreLock
from resources.repository.storage.store import DirectoryStore

MADE = CreatedDatabase(
    (("autogen", 1, 2, 1),), {ShardID(2**53 + 1): frozenset({("000000001-000000001.tsm", 9, 7)})}
)
JOURNAL = ServerJournal(7, "127.0.0.1:8088", 12, {"d": MADE, "e": CreatedDatabase(())})


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_a_record_survives_writing() -> None:
    assert ServerJournal.decode(JOURNAL.encode(), "n") == JOURNAL


def test_it_is_there_while_the_restore_is_at_work_and_gone_when_nothing_is_left(
    store: DirectoryStore,
) -> None:
    events: list[Event] = []
    with keeping_journal(store, ServerJournal(7, "a", None), emit=events.append) as journal:
        assert left_journals(store, 7) == []
        journal.add("d", CreatedDatabase(()))
        [name] = left_journals(store, 7)
        journal.add("d", MADE)
        assert read_journal(store, name) == journal.journal
        assert "of 'd' is at work, or was killed" in unfinished_restores(store)[0]
        with pytest.raises(RepositoryLocked):
            StoreLock.acquire(store, command="another", name=name.removesuffix(SUFFIX) + LOCK)
        journal.forget("d")
        assert "when nothing of it was there" in unfinished_restores(store)[0]
    with keeping_journal(store, ServerJournal(7, "a", None), emit=events.append) as journal:
        journal.add("d", MADE)
        journal.complete()
        assert "of 'd' is complete, and was killed before" in unfinished_restores(store)[0]
    assert store.names() == {}
    assert events == []


def test_it_stays_while_a_database_is_left(store: DirectoryStore) -> None:
    def fail() -> None:
        with keeping_journal(store, ServerJournal(7, "a", None), emit=print) as journal:
            journal.add("d", MADE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    [name] = store.names()
    assert name.endswith(SUFFIX)


def test_of_being_complete_and_being_taken_back_only_one_happens(store: DirectoryStore) -> None:
    with keeping_journal(store, ServerJournal(7, "a", None), emit=print) as journal:
        journal.add("d", MADE)
        [name] = left_journals(store, 7)
        claimed = claim_journal(store, name)
        assert claimed is not None
        assert claimed.taken_back
        assert claim_journal(store, name) == claimed
        with pytest.raises(LockLost, match="another run took its place"):
            journal.complete()
    store.delete(name)
    with keeping_journal(store, ServerJournal(7, "a", None), emit=print) as journal:
        journal.add("d", MADE)
        [name] = left_journals(store, 7)
        journal.complete()
        claimed = claim_journal(store, name)
        assert claimed is not None
        assert (claimed.complete, claimed.taken_back) == (True, False)
    assert claim_journal(store, name) is None


def test_nobody_changes_anything_once_the_lock_beside_the_record_is_anothers(
    store: DirectoryStore,
) -> None:
    with keeping_journal(store, ServerJournal(7, "a", None), emit=print) as journal:
        journal.add("d", MADE)
        journal.check_still_ours()
        [name] = left_journals(store, 7)
        store.delete(name.removesuffix(SUFFIX) + LOCK)
        assert not journal.is_still_ours()
        failed = RestoreFailed("it failed")
        failed.add_note("d is left there")
        with pytest.raises(LockLost) as caught:
            journal.explain(failed)
        assert "d is left there" in str(caught.value)


def test_a_repository_that_cannot_be_written_to_is_no_reason_to_do_without_the_restore(
    store: DirectoryStore, tmp_path: Path
) -> None:
    events: list[Event] = []
    tmp_path.rmdir()
    with keeping_journal(store, ServerJournal(7, "a", None), emit=events.append) as journal:
        journal.add("d", MADE)
        journal.complete()
    assert "no record says what to remove" in str(events[0])


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(sorted(json.loads(JOURNAL.encode()))), inner, max_size=7
    ),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestUnreadable, match="cannot be read"):
        ServerJournal.decode(raw, "n")
