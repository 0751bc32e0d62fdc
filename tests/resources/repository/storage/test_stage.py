"""Once a stage is revoked, its run can name, delete and set aside nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from resources.errors import LockLost, NameTaken, StoreFailed
from resources.repository.storage.stage import GONE, RUN
from resources.repository.storage.store import DirectoryStore, RevokedStage
from tests.resources.repository.objects import NAME, failing, get, put

BACKUP = "20261122T095100Z"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def stages(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.is_dir())


def test_through_a_stage_everything_is_as_without_it(store: DirectoryStore, tmp_path: Path) -> None:
    stage = store.stage("ab")
    stage.note(BACKUP)
    assert stages(tmp_path) == [f"{RUN}ab.{BACKUP}"]
    assert store.unfinished() == {BACKUP}
    stage.check_writable()
    with stage.create(NAME) as sink:
        sink.write(b"whole")
    batch = stage.batch()
    with batch.create("late") as sink:
        sink.write(b"late")
    batch.finish()
    with pytest.raises(NameTaken), stage.create(NAME):
        pass
    assert store.names() == {NAME: 5, "late": 4}
    assert stage.set_aside("late") == "late.damaged"
    put(store, "late", b"again")
    assert stage.set_aside("late") == "late.damaged-2"
    stage.delete(NAME)
    stage.delete(NAME)
    stage.sync()
    assert list(store.names()) == ["late.damaged", "late.damaged-2"]
    stage.close()
    assert stages(tmp_path) == []
    assert store.unfinished() == set()


@pytest.mark.fault(37)
def test_a_revoked_stage_leads_nowhere(store: DirectoryStore, tmp_path: Path) -> None:
    sleeper, heir = store.stage("ab"), store.stage("cd")
    sleeper.note(BACKUP)
    put(store, NAME, b"the heir's")
    batch = sleeper.batch()
    revoked = list[RevokedStage]()

    def stand_still() -> None:
        with sleeper.create("before") as sink:
            sink.write(b"x")
            revoked.extend(store.revoke_stages(heir.name))

    with pytest.raises(LockLost):
        stand_still()
    assert [stage.backup for stage in revoked] == [BACKUP]
    assert stages(tmp_path) == [f"{GONE}ab.{BACKUP}", heir.name]
    for deed in (
        lambda: sleeper.note(BACKUP),
        lambda: sleeper.delete(NAME),
        lambda: sleeper.delete("nothing"),
        lambda: sleeper.set_aside(NAME),
        sleeper.check_writable,
        lambda: sleeper.create("new").__enter__(),
        lambda: batch.create("new").__enter__(),
    ):
        with pytest.raises(LockLost):
            deed()
    sleeper.close()
    assert store.unfinished() == {BACKUP}
    assert revoked[0].forget()
    assert get(store, NAME) == b"the heir's"
    assert store.names() == {NAME: 10}
    assert stages(tmp_path) == [heir.name]


@pytest.mark.fault(37)
def test_a_stage_that_gets_its_name_amid_the_revoking_is_revoked_as_well(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, heir, rename = store.stage("ab"), store.stage("cd"), os.rename

    def wakes_up(src: str, dst: str, **where: int) -> None:
        monkeypatch.setattr(os, "rename", rename)
        sleeper.note(BACKUP)
        rename(src, dst, **where)

    monkeypatch.setattr(os, "rename", wakes_up)
    [revoked] = store.revoke_stages(heir.name)
    assert revoked.backup == BACKUP
    with pytest.raises(LockLost):
        sleeper.delete(NAME)


@pytest.mark.fault(37)
def test_what_a_sleeper_was_about_to_set_aside_keeps_its_bytes(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, heir, link = store.stage("ab"), store.stage("cd"), os.link
    put(store, NAME, b"damaged")

    def stands_still(*args: object, **options: object) -> None:
        monkeypatch.setattr(os, "link", link)
        store.revoke_stages(heir.name)
        link(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", stands_still)
    with pytest.raises(LockLost):
        sleeper.set_aside(NAME)
    assert store.names() == {f"{NAME}.damaged": 7}


@pytest.mark.fault(31)
def test_a_name_that_is_not_durable_is_taken_away_again(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = store.stage("ab")
    fsync, calls = os.fsync, list[int]()

    def first_only(fd: int) -> None:
        """The file's goes well, and the directory's does not."""
        calls.append(fd)
        (fsync if len(calls) == 1 else failing(errno.EIO))(fd)

    monkeypatch.setattr(os, "fsync", first_only)
    with pytest.raises(StoreFailed), stage.create(NAME) as sink:
        sink.write(b"x")
    assert len(calls) == 2
    assert store.names() == {}
