"""What a reader has to open does not grow, and what has a test of its own does not shrink."""

from __future__ import annotations

from tests.count_modules import (
    has_own_test,
    mirrored,
    modules,
    newdb_on_a_server,
    shard_backup,
)

MIN_MIRRORED = 212
MAX_FOR_ONE_SHARD = 25
MAX_FOR_NEWDB = 4
MAX_NAMES_OF_NEWDB = 1


def test_modules_with_a_test_of_their_own_do_not_become_fewer() -> None:
    assert len(mirrored()) >= MIN_MIRRORED


def test_a_test_is_a_modules_own_if_it_mirrors_its_path() -> None:
    assert has_own_test("resources/protocol/tar.py")
    assert has_own_test("resources/protocol/snapshotter.py")
    assert not has_own_test("resources/protocol/ta.py")
    assert not has_own_test("resources/tar.py")
    assert not has_own_test("resources/version.py")


def test_the_backup_of_one_shard_leads_through_no_more_modules() -> None:
    found = shard_backup()
    assert "resources/engine/backup/download.py" in found
    assert "resources/repository/archives/archive.py" in found
    assert not any("embedded" in module for module in found)
    assert set(found) <= set(modules())
    assert len(found) <= MAX_FOR_ONE_SHARD, "\n".join(found)


def test_the_name_of_a_new_database_passes_through_no_more_modules() -> None:
    found, names = newdb_on_a_server()
    assert "pipelines/ctl/restore.py" in found
    assert len(found) <= MAX_FOR_NEWDB, "\n".join(found)
    assert len(names) <= MAX_NAMES_OF_NEWDB, names
