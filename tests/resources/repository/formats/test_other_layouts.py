"""A directory without manifests is described by what it is instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.errors import BackupNotFound
from resources.repository.formats.other_layouts import next_step
from resources.repository.repository import BackupRepository


def made(directory: Path, *files: str) -> Path:
    for name in files:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return directory


@pytest.mark.parametrize(
    ("files", "events"),
    [
        (["2024-01-01/20240101T000000Z.manifest"], "directories below hold backups ('2024-01-01')"),
        (["meta.00", "m.autogen.00001.00"], "legacy backup"),
        (["m.auto.gen.00012.03"], "legacy backup"),
        (["2024-01-01.tar.gz"], "unpack '2024-01-01.tar.gz'"),
        (["a.TGZ", "b.zip", "c.tar", "d.tar.zst"], "unpack 'a.TGZ', 'b.zip', 'c.tar' and 1 more"),
        (["meta/meta.db", "data/m/autogen/1/x.tsm", "wal/m"], "data directory of a server"),
        (["data/m/autogen/1/x.tsm", "wal/m/autogen/1/_1.wal"], "data directory of a server"),
        (["meta.db", "node.json"], "data directory of a server"),
    ],
)
def test_what_there_is_instead_is_named(tmp_path: Path, files: list[str], events: str) -> None:
    assert events in next_step(made(tmp_path, *files))


@pytest.mark.parametrize(
    "files", [[], ["notes.txt"], ["20240101T000000Z.s7.tar.gz"], ["empty/nothing"]]
)
def test_anything_else_says_nothing(tmp_path: Path, files: list[str]) -> None:
    assert next_step(made(tmp_path, *files)) == ""


def test_a_directory_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert next_step(tmp_path / "gone") == ""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    made(tmp_path / "elsewhere", "20240101T000000Z.manifest")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/link").symlink_to(tmp_path / "elsewhere")
    assert next_step(tmp_path / "here") == ""


def test_who_asks_for_backups_there_is_reported(tmp_path: Path) -> None:
    made(tmp_path, "meta.00")
    repository = BackupRepository.open(tmp_path)
    with pytest.raises(BackupNotFound) as refused:
        repository.current()
    assert "legacy backup" in refused.value.hint
