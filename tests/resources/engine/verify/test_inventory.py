"""What a look at a directory of many backups asks of the file system."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from resources.engine.verify.inventory import take_inventory
from resources.protocol.meta import encode_metastore
from resources.repository.formats.manifest import Manifest
from resources.repository.repository import BackupRepository
from resources.repository.storage.store import DirectoryStore
from tests.resources.engine.verify.test_restore_points import metastore

BEGAN = datetime(2026, 11, 22, 9, 51, tzinfo=UTC)


class CountingStore(DirectoryStore):
    """A directory that counts how often it is listed."""

    listed = 0

    def names(self, prefix: str = "") -> dict[str, int]:
        self.listed += 1
        return super().names(prefix)


def listings(path: Path, n_backups: int) -> int:
    """How often an inventory of `n` backups lists their directory."""
    path.mkdir()
    raw = encode_metastore(metastore(1, 2))
    for n in range(n_backups):
        moment = BEGAN + timedelta(minutes=n)
        repository = BackupRepository.open(path, clock=lambda at=moment: at)
        with repository.begin(command="test") as writer:
            meta, _ = writer.put_meta(raw, 0)
            writer.commit(Manifest(meta, ()))
    store = CountingStore(path)
    found = take_inventory(BackupRepository(store, str(path)))
    assert len(found.manifests) == n_backups
    assert found.metas == {}
    return store.listed


def test_the_directory_is_listed_as_often_for_many_backups_as_for_few(tmp_path: Path) -> None:
    assert listings(tmp_path / "few", 2) == listings(tmp_path / "many", 20)


def test_a_damaged_meta_file_among_equal_ones_is_found(tmp_path: Path) -> None:
    listings(tmp_path / "backups", 3)
    damaged = sorted((tmp_path / "backups").glob("*.meta"))[1]
    damaged.write_bytes(damaged.read_bytes()[:-3])
    repository = BackupRepository(DirectoryStore(tmp_path / "backups"), "backups")
    found = take_inventory(repository)
    assert list(found.metas) == [damaged.name.replace(".meta", ".manifest")]
