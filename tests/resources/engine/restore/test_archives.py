"""A restore reads a backup that holds all it asks for, and nothing of another place."""

from __future__ import annotations

import pytest

from resources.engine.restore.archives import check_places, require_complete_backup
from resources.errors import BackupIncomplete
from resources.model import ShardID
from resources.repository.backup_set import BackupSet
from resources.repository.formats.details import FailedShard
from resources.repository.formats.manifest import Limits
from tests import builders as b

ONE, TWO = b.place(1), b.place(2)


def complaint(backup: BackupSet, *wanted: int, limits: Limits | None = None) -> str:
    """What is incomplete; empty if nothing is."""
    try:
        require_complete_backup(backup, [b.place(i) for i in wanted], limits or Limits())
    except BackupIncomplete as error:
        return f"{error.what}; {error.hint}"
    return ""


def test_a_missing_archive_stops_what_needs_it_and_nothing_else() -> None:
    backup = b.backup_set(b.archive(1), missing=[b.archive(2), b.archive(3)])
    assert complaint(backup, 1) == ""
    text = complaint(backup, 1, 2)
    assert ".s2.tar.gz is listed by 20261122T095100Z.manifest and missing; copy" in text
    assert "missing, and 1 more; copy" in complaint(backup, 2, 3)


def test_a_shard_that_could_not_be_saved_needs_an_earlier_archive() -> None:
    details = b.backup_details(failed=(FailedShard(ShardID(2), "broken"),))
    without = b.backup_set(b.archive(1), details=details)
    assert "is partial: shard 2 could not be saved" in complaint(without, 1, 2)
    assert complaint(without, 1) == ""
    assert complaint(b.backup_set(b.archive(1), b.archive(2), details=details), 1, 2) == ""


def test_an_unchanged_shard_needs_the_backup_that_saved_it() -> None:
    details = b.backup_details(unchanged=(ShardID(2), ShardID(3)))
    backup = b.backup_set(b.archive(1), details=details)
    assert "shard 2 must come from an earlier backup" in complaint(backup, 1, 2)
    assert "shards 2, 3 must come from an earlier backup" in complaint(backup, 2, 3)
    assert complaint(backup, 1) == ""


def test_one_shard_that_is_asked_for_must_have_an_archive() -> None:
    only = Limits(shard_id=ShardID(2))
    without = b.backup_set(b.archive(1))
    assert "the backup holds no archive of shard 2; " in complaint(without, 2, limits=only)
    assert complaint(b.backup_set(b.archive(1)), 2) == ""  # it may have been empty
    assert complaint(b.backup_set(b.archive(2)), 2, limits=only) == ""


@pytest.mark.parametrize("names", [("db", "autogen"), ("", "")])
def test_an_archive_of_the_shards_place_or_without_names_is_taken(names: tuple[str, str]) -> None:
    database, policy = names
    check_places(b.backup_set(b.archive(1, database=database, policy=policy)), [ONE])


@pytest.mark.parametrize("names", [("other", "autogen"), ("db", "other"), ("x\ny", "autogen")])
def test_an_archive_of_another_place_is_refused(names: tuple[str, str]) -> None:
    database, policy = names
    with pytest.raises(BackupIncomplete, match="but shard 1 belongs to 'db'") as refused:
        check_places(b.backup_set(b.archive(1, database=database, policy=policy)), [ONE])
    assert "several servers" in refused.value.hint
    assert "\n" not in refused.value.what


def test_archives_of_shards_that_are_not_restored_do_not_matter() -> None:
    check_places(b.backup_set(b.archive(1), b.archive(2, database="other")), [ONE])
    assert TWO.shard_id == 2
