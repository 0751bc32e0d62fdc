"""An empty directory where backups should be is not taken for a new one unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.repository.storage import mounts
from tests.faults.places import Place
from tests.wire.commands import influxd_ctl, shardkeeper


@pytest.mark.fault(34)
def test_a_mount_point_without_a_file_system_gets_no_first_backup(
    server: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expectation = server.expectation()
    fstab = tmp_path / "fstab"
    fstab.write_text(f"UUID=1 {expectation.backups} xfs defaults 0 2\n")
    flags = (*expectation.flags, "-db", expectation.database, expectation.backups)
    expectation.back_up()  # there are backups, so what fstab says is no matter
    monkeypatch.setattr(mounts, "FSTAB", fstab)
    expectation.back_up()
    mounted = expectation.backups.rename(tmp_path / "not mounted")
    expectation.backups.mkdir()
    for command, full in ((shardkeeper, ()), (shardkeeper, ("-full",)), (influxd_ctl, ())):
        done = command("backup", *full, *flags)
        assert done.code == (1 if command is influxd_ctl else 10), done
        assert f"nothing is mounted on {str(expectation.backups)!r}" in done.err
        assert "\n  next: mount" in done.err
        assert list(expectation.backups.iterdir()) == []
    expectation.backups.rmdir()
    mounted.rename(expectation.backups)
    expectation.back_up()
    expectation.check_all()


@pytest.mark.fault(34)
def test_a_first_backup_is_reported_unless_a_full_one_was_asked_for(server: Place) -> None:
    expectation = server.expectation()
    flags = (*expectation.flags, "-db", expectation.database)
    events = "holds no backup yet"
    for number, (command, full, says) in enumerate(
        (
            (shardkeeper, (), True),
            (shardkeeper, ("-full",), False),
            (influxd_ctl, (), False),  # prints what the original prints, and no more
        )
    ):
        directory = expectation.backups / str(number)
        directory.mkdir()
        done = command("backup", *flags, *full, directory)
        assert done, done
        assert (events in done.err) == says, done
        assert events not in command("backup", *flags, *full, directory).err
