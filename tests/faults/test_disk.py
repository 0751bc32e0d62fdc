"""The disk fails at any of its calls, or loses its power after any: what was committed is there."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disk import RecordedDisk
from tests.expectation import Expectation
from tests.faults.places import Place
from tests.wire.commands import Done, shardkeeper

SEED = 20261126


@pytest.fixture
def expectation(server: Place) -> Expectation:
    """One good backup, and something to back up."""
    found = server.expectation()
    found.back_up()
    server.write(found, [0, 2])
    return found


def back_up(expectation: Expectation, *flags: object) -> Done:
    return shardkeeper(
        "backup", *expectation.flags, *flags, "-db", expectation.database, expectation.backups
    )


def calls_of_a_backup(server: Place) -> int:
    """How often a backup as in `expectation` asks the disk for something."""
    sample = server.expectation()
    sample.back_up()
    server.write(sample, [0, 2])
    with RecordedDisk(sample.backups) as disk:
        assert back_up(sample)
    return disk.calls


# --- errors -------------------------------------------------------------------------------


def failing_at(number: int, code: int) -> Callable[[int, str], None]:
    def fail(n: int, _call: str) -> None:
        if n == number:
            raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.fault(30, 31)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_a_disk_that_fails_at_any_call_loses_no_backup(server: Place, code: int) -> None:
    """Once at each call of a backup, from the lock's first byte to the lock's end."""
    expectation = server.expectation()
    expectation.back_up()
    failed = 0
    for number in range(1, calls_of_a_backup(server) + 1):
        server.write(expectation, [0, 2])
        with RecordedDisk(expectation.backups, fail=failing_at(number, code)):
            done = back_up(expectation)
        committed = expectation.take_note()
        if not done:
            failed += 1
            assert done.code == (15 if code == errno.ENOSPC else 1), (number, done)
            assert os.strerror(code) in done.err, (number, done)
            assert "\n  next: " in done.err, (number, done)
            assert not committed, (number, done)
        else:  # the lock could not be renewed or given back, and that harms nothing
            assert committed, (number, done)
        (expectation.backups / ".shardkeeper.lock").unlink(missing_ok=True)
    assert failed > 20
    expectation.back_up()
    expectation.check_all()


@pytest.mark.fault(31)
def test_a_disk_that_fails_for_good_is_reported_and_what_was_stays(
    server: Place, expectation: Expectation
) -> None:
    for call in ("open", "write", "fsync", "link", "close"):

        def fail(_n: int, asked: str, call: str = call) -> None:
            if asked == call:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        with RecordedDisk(expectation.backups, fail=fail):
            done = back_up(expectation)
        assert not done, call
        assert not expectation.take_note()
        (expectation.backups / ".shardkeeper.lock").unlink(missing_ok=True)
        expectation.check_all()


@pytest.mark.fault(31)
def test_a_file_whose_sync_failed_is_thrown_away(server: Place, expectation: Expectation) -> None:
    before = {path.name for path in expectation.backups.iterdir()}
    failed: list[int] = []

    def first_sync_of_an_archive(n: int, call: str) -> None:
        new = {path.name for path in expectation.backups.iterdir()} - before
        if call == "fsync" and not failed and any(".tar.gz" in name for name in new):
            failed.append(n)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with RecordedDisk(expectation.backups, fail=first_sync_of_an_archive):
        done = back_up(expectation)
    assert failed
    assert done.code == 1, done
    assert "syncing" in done.err
    assert {path.name for path in expectation.backups.iterdir()} == before


# --- power --------------------------------------------------------------------------------


def boot_anew(directory: Path) -> None:
    """The run that held the lock is gone: it ran before the machine came up again.

    Its lock is watched for a lease, as another host's is; a short one costs no minutes.
    """
    path = directory / ".shardkeeper.lock"
    if path.exists():
        record = json.loads(path.read_text())
        record |= {"machine": "an earlier boot", "lease_ms": 50}
        record["expires_at"] = "2020-01-01T00:00:00+00:00"
        path.write_text(json.dumps(record))


@pytest.mark.fault(29)
def test_whatever_moment_the_power_fails_committed_backups_are_whole(
    server: Place, expectation: Expectation, tmp_path: Path
) -> None:
    """Every prefix of what the disk was asked, with what was not synced there or not."""
    first = dict(expectation.states)
    with RecordedDisk(expectation.backups) as disk:
        done = back_up(expectation)
    assert done, done
    assert expectation.take_note()
    second = dict(expectation.states)
    rng = random.Random(SEED)
    seen: set[int] = set()
    checked: list[dict[str, bytes]] = []
    for place in range(len(disk.log) + 1):
        for turn in range(2):
            directory = tmp_path / f"{place}-{turn}"
            directory.mkdir(mode=0o700)
            disk.after_power_loss(place, directory, rng)
            left = Expectation(
                expectation.source,
                expectation.flags,
                expectation.database,
                directory,
                expectation.target,
            )
            left.states = dict(second if left.committed == set(second) else first)
            seen.add(len(left.states))
            boot_anew(directory)
            held = {path.name: path.read_bytes() for path in directory.iterdir()}
            if held not in checked:
                checked.append(held)
                left.check_all()
            if turn and place % 5 == 0:
                left.back_up()
                left.check_all()
    assert seen == {1, 2}
    directory = tmp_path / "at the end"
    directory.mkdir()
    disk.after_power_loss(len(disk.log), directory, rng)
    assert {path.stem for path in directory.glob("*.manifest")} == set(second)


def test_the_disk_would_notice_a_name_before_its_bytes(tmp_path: Path) -> None:
    """The double itself: what is not synced can be lost, what is synced cannot."""
    directory = tmp_path / "disk"
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    with RecordedDisk(directory) as disk:
        for name, sync in (("safe", True), ("unsafe", False)):
            file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd)
            os.write(file, b"bytes")
            if sync:
                os.fsync(file)
            os.close(file)
        os.fsync(fd)
    os.close(fd)
    found: set[tuple[bytes, bytes]] = set()
    for seed in range(50):
        elsewhere = tmp_path / str(seed)
        elsewhere.mkdir()
        disk.after_power_loss(len(disk.log), elsewhere, random.Random(seed))
        found.add(((elsewhere / "safe").read_bytes(), (elsewhere / "unsafe").read_bytes()))
    assert {safe for safe, _ in found} == {b"bytes"}
    assert {b"", b"bytes"} <= {unsafe for _, unsafe in found}
