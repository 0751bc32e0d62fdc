"""Directories for backups that are none, another server's, read-only, full or in use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.proxy import Act, Proxy
from tests.wire.bad_input.refusal import T0, Fresh, listing, outside, refused
from tests.wire.commands import Done, at, backup, influxd_ctl, restore, shardkeeper, verify
from tests.wire.points import Points, points

pytestmark = pytest.mark.wire


@pytest.mark.fault(34)
def test_directories_that_are_none(source: Influxd, target: Influxd, tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.write_text("hello")
    for path in (missing, file):
        refused(shardkeeper("backup", *at(source), path), 10, str(path))
    refused(shardkeeper("restore", *at(target), missing), 10, "no such directory")
    refused(shardkeeper("verify", missing), 10, "no such directory")
    refused(shardkeeper("restore", *at(target), file), 2, "is a file")
    refused(shardkeeper("restore", *at(target), "-full", tmp_path / "x.manifest"), 10, "not exist")
    assert influxd_ctl("backup", *at(source), missing).code == 1
    assert not missing.exists()
    assert file.read_text() == "hello"


@pytest.mark.fault(21, 72)
def test_another_servers_directory(
    source: Influxd, target: Influxd, copy: Path, life: tuple[str, Points]
) -> None:
    before = listing(copy)
    refused(shardkeeper("backup", *at(target), copy), 14, "backups of another server")
    assert listing(copy) == before
    assert backup(source, copy, "-db", life[0])


MOUNT_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def on_read_only(directory: Path, *args: object, cwd: Path | None = None) -> Done:
    """`shardkeeper` where a directory is mounted read-only, for that process alone."""
    namespace = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*namespace, MOUNT_READ_ONLY, directory, "true"], check=False).returncode:
        pytest.skip("this needs a read-only mount: run it as root")
    return outside(*args, prefix=[*namespace, MOUNT_READ_ONLY, str(directory)], cwd=cwd)


@pytest.mark.fault(33)
def test_a_directory_that_can_only_be_read(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh, tmp_path: Path
) -> None:
    """Also where files are checked that do not fit into memory."""
    db, name = fresh(), fresh()
    source.create_database(db)
    source.write(db, big_points(400))
    backup(source, backups, "-db", db)
    assert max(path.stat().st_size for path in backups.iterdir()) > 800_000
    before = listing(backups)
    done = on_read_only(backups, "backup", *at(source), "-db", db, backups)
    refused(done, 1, "read-only file system", "mount it writable")
    done = on_read_only(backups, "verify", backups)
    assert done, done
    here = tmp_path / "here"
    here.mkdir()
    flags = ("-db", db, "-newdb", name)
    done = on_read_only(backups, "restore", *at(target), *flags, backups, cwd=here)
    assert done, done
    assert f"the receipt goes into {str(here)!a}" in done.err
    assert list(here.glob("*.receipt.json"))
    assert points(target, name) == points(source, db)
    assert listing(backups) == before


def big_points(n: int) -> list[str]:
    """Points of 4 kB that do not shrink below half of that."""
    return [f'm s="{os.urandom(2000).hex()}" {T0 + i}' for i in range(n)]


def run_limited(*args: object, file_bytes: int) -> Done:
    """`shardkeeper` in a process that may not write larger files: EFBIG, as a full disk."""
    return outside(*args, prefix=["prlimit", f"--fsize={file_bytes}"])


@pytest.mark.fault(30)
@pytest.mark.parametrize("file_bytes", [100, 5000, 70_000])
def test_a_full_disk(
    source: Influxd,
    target: Influxd,
    copy: Path,
    life: tuple[str, Points],
    fresh: Fresh,
    file_bytes: int,
) -> None:
    db, expected = life
    big = fresh()
    source.create_database(big)
    source.write(big, big_points(100))
    before = listing(copy)
    done = run_limited("backup", *at(source), "-db", big, copy, file_bytes=file_bytes)
    refused(done, 15, "file too large")
    assert listing(copy) == before
    name = fresh()
    if file_bytes < 4096:
        flags = (*at(target), "-db", db, "-newdb", name)
        done = run_limited("restore", *flags, copy, file_bytes=file_bytes)
        refused(done, 15, "the receipt would be kept there", "-receipts off")
    restore(target, copy, "-db", db, "-newdb", name)
    assert points(target, name) == expected
    assert backup(source, copy, "-db", big)


@pytest.mark.fault(38)
def test_two_backups_at_once_into_one_directory(
    source: Influxd, target: Influxd, backups: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    db, expected = life
    seen: list[Done] = []
    with Proxy(source.bind_addr) as proxy:
        second = Act(100, lambda: seen.append(outside("backup", *at(source), "-db", db, backups)))
        proxy.break_next(second)
        backup(source, backups, "-db", db, tcp=proxy.address)
    [done] = seen
    refused(done, 11, "the repository is locked by", "wait for that run")
    assert len(list(backups.glob("*.manifest"))) == 1
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == expected


@pytest.mark.fault(36)
def test_two_backups_in_one_second_have_two_names(
    source: Influxd, backups: Path, life: tuple[str, Points]
) -> None:
    for _ in range(3):
        backup(source, backups, "-full", "-db", life[0])
    assert len(list(backups.glob("*.manifest"))) == 3
    assert len(list(backups.glob("*.meta"))) == 3
    assert len(list(backups.glob("*.tar.gz"))) == 6
    verify(backups)
