"""A mount point of /etc/fstab without a file system is told from a directory like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.repository.storage import mounts

FSTAB = r"""
# device  mount point  type  options  dump  pass
UUID=1    /            ext4  defaults 0 1
UUID=2    none         swap  sw 0 0
UUID=3    {mnt}/backups/      xfs  defaults 0 2
UUID=4    {mnt}/with\040space xfs  user 0 2
UUID=6    {mnt}/on-demand     xfs  noauto,user 0 2
#UUID=5   {mnt}/commented     xfs  defaults 0 2
broken
"""
MOUNTINFO = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n25 22 0:5 / /proc rw - proc proc rw\n"


@pytest.fixture
def mnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with some in it, and an fstab that speaks of three of them."""
    for name in ("backups/eu", "backups-2", "with space", "commented", "on-demand"):
        (tmp_path / "mnt" / name).mkdir(parents=True)
    monkeypatch.setattr(mounts, "FSTAB", tmp_path / "fstab")
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "mountinfo")
    (tmp_path / "fstab").write_text(FSTAB.replace("{mnt}", str(tmp_path / "mnt")))
    mount(tmp_path / "mnt")
    return tmp_path / "mnt"


def mount(mnt: Path, *names: str) -> None:
    lines = [f"30 22 8:2 / {mnt / name} rw - xfs /dev/sdb1 rw\n" for name in names]
    (mnt.parent / "mountinfo").write_text(MOUNTINFO + "".join(lines).replace("h s", r"h\040s"))


@pytest.mark.fault(34)
@pytest.mark.parametrize("name", ["backups", "backups/eu", "with space"])
def test_a_directory_below_a_mount_point_without_a_file_system(mnt: Path, name: str) -> None:
    point = str(mnt / name.partition("/")[0])
    assert mounts.unmounted_above(mnt / name) == point
    mount(mnt, name.partition("/")[0])
    assert mounts.unmounted_above(mnt / name) == ""


def test_what_is_mounted_on_demand_alone_is_not_due(mnt: Path) -> None:
    assert mounts.unmounted_above(mnt / "on-demand") == ""
    assert mounts.unmounted_above(mnt / "on-demand", on_demand=True) == str(mnt / "on-demand")
    assert mounts.unmounted_above(mnt / "backups", on_demand=True) == ""
    mount(mnt, "on-demand")
    assert mounts.unmounted_above(mnt / "on-demand", on_demand=True) == ""


@pytest.mark.fault(34)
def test_a_link_is_followed_to_where_it_leads(mnt: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(mnt / "backups" / "eu")
    assert mounts.unmounted_above(tmp_path / "link") == str(mnt / "backups")


@pytest.mark.parametrize("name", ["", "backups-2", "commented"])
def test_other_directories_are_like_any(mnt: Path, name: str) -> None:
    assert mounts.unmounted_above(mnt / name) == ""


def test_a_file_system_that_is_mounted_further_down_is_good_enough(mnt: Path) -> None:
    mount(mnt, "backups/eu")
    assert mounts.unmounted_above(mnt / "backups" / "eu") == ""
    assert mounts.unmounted_above(mnt / "backups") == str(mnt / "backups")


def test_a_system_that_reports_nothing_refuses_nothing(mnt: Path, tmp_path: Path) -> None:
    (tmp_path / "fstab").unlink()
    assert mounts.unmounted_above(mnt / "backups") == ""
    assert mounts.unmounted_above(mnt / "not there") == ""


def test_this_machine_can_be_asked() -> None:
    assert mounts.unmounted_above(Path("/")) == ""
