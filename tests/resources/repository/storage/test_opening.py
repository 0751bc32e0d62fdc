"""A path or a URL leads to a store; what no store can open is refused with a next step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resources.errors import RepositoryMissing, UsageError
from resources.repository.repository import BackupRepository
from resources.repository.storage.opening import open_store


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_a_directory(tmp_path: Path, kind: type[str] | type[Path]) -> None:
    (tmp_path / "a:b").mkdir()
    store = open_store(kind(tmp_path / "a:b"))
    assert store.scratch_dir == str(tmp_path / "a:b")
    assert store.names() == {}


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RepositoryMissing, match="no such directory"):
        open_store(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_url_of_a_file_is_its_path(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    repository = BackupRepository.open(f"file://{tmp_path}/a%20b")
    assert (repository.location, repository.scratch_dir) == (str(tmp_path / "a b"),) * 2


def test_a_bucket_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "resources.repository.storage.object_store", raising=False)
    for name in [name for name in sys.modules if name.startswith("obstore.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("objects", "object_stage", "object_errors", "bucket"):
        monkeypatch.delitem(sys.modules, f"resources.repository.storage.{name}", raising=False)
    with pytest.raises(UsageError, match="needs the package obstore") as refused:
        open_store("s3://bucket/backups")
    assert "shardkeeper[object-store]" in refused.value.hint


@pytest.mark.parametrize("url", ["ftp://host/backups", "https://host/backups", "file://srv"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="backups cannot be stored at") as refused:
        open_store(url)
    assert "name a directory" in refused.value.hint


def test_a_repository_has_the_name_that_the_user_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    repository = BackupRepository.open("here")
    assert (repository.location, repository.scratch_dir) == ("here", "here")
