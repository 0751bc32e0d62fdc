"""File names say which backup, and names from strangers are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import UnsafeName
from resources.model import ShardID
from resources.repository.formats.names import (
    BackupName,
    FileName,
    check_file_name,
    parse_file_name,
    parse_shard_id,
)

NAME = BackupName(datetime(2016, 8, 3, 22, 23, 10, tzinfo=UTC))


def test_a_backup_is_named_after_its_second_in_utc() -> None:
    assert str(NAME) == "20160803T222310Z"
    east = timezone(timedelta(hours=2))
    assert BackupName.of(datetime(2016, 8, 4, 0, 23, 10, 999_999, tzinfo=east)) == NAME
    assert BackupName.parse("20160803T222310Z") == NAME
    assert NAME.meta_file == "20160803T222310Z.meta"
    assert NAME.manifest_file == "20160803T222310Z.manifest"
    assert NAME.shard_file(ShardID(2**64 - 1)) == "20160803T222310Z.s18446744073709551615.tar.gz"


def test_a_time_without_a_zone_names_nothing() -> None:
    with pytest.raises(ValueError, match="zone"):
        BackupName.of(datetime(2016, 8, 3))  # noqa: DTZ001
    with pytest.raises(ValueError, match="whole second"):
        BackupName(datetime(2016, 8, 3, 0, 0, 0, 1, tzinfo=UTC))


@given(st.datetimes(max_value=datetime(9999, 12, 31, 23, 59, 58)))  # noqa: DTZ001
def test_names_sort_like_their_times(at: datetime) -> None:
    name = BackupName.of(at.replace(tzinfo=UTC))
    assert BackupName.parse(str(name)) == name
    assert name < name.next()
    assert str(name) < str(name.next())


def test_after_the_last_second_there_is_none() -> None:
    last = BackupName.parse("99991231T235959Z")
    assert last is not None
    with pytest.raises(UnsafeName):
        last.next()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20160803T222310",
        "20160803t222310z",
        "20160803T222310Z\n",
        "20161303T222310Z",
        "20160230T222310Z",
        "20160803T242310Z",
        "20160803T222360Z",
        "00000101T000000Z",
        "２0160803T222310Z",  # noqa: RUF001
    ],
)
def test_other_text_names_no_backup(text: str) -> None:
    assert BackupName.parse(text) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("20160803T222310Z.meta", FileName(NAME, "meta")),
        ("20160803T222310Z.manifest", FileName(NAME, "manifest")),
        ("20160803T222310Z.s1.tar.gz", FileName(NAME, "shard", ShardID(1))),
        ("20160803T222310Z.1.tar.gz", FileName(NAME, "shard", ShardID(1))),
        ("20160803T222310Z.s0.tar.gz", FileName(NAME, "shard", ShardID(0))),
        (
            "20160803T222310Z.s18446744073709551615.tar.gz",
            FileName(NAME, "shard", ShardID(2**64 - 1)),
        ),
    ],
)
def test_files_of_the_vendor_tools_are_recognized(name: str, found: FileName) -> None:
    assert parse_file_name(name) == found
    assert check_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "20160803T222310Z",
        "20160803T222310Z.s01.tar.gz",
        "20160803T222310Z.s-1.tar.gz",
        "20160803T222310Z.s18446744073709551616.tar.gz",
        "20160803T222310Z.s\u0661.tar.gz",
        "20160803T222310Z.s1.tar.gz.pending",
        "20160803T222310Z.s1.tar",
        "20161303T222310Z.meta",
        "x20160803T222310Z.meta",
        "20160803T222310Z.meta\n",
        "meta.00",
        "telegraf.autogen.00001.00",
    ],
)
def test_other_files_are_not_ours(name: str) -> None:
    assert parse_file_name(name) is None


@pytest.mark.parametrize("digits", ["", "x", "01", "+1", "1_0", "\u0661", "18446744073709551616"])
def test_shard_ids_are_plain_unsigned_numbers(digits: str) -> None:
    assert parse_shard_id(digits) is None


@pytest.mark.fault(87)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        (".", "dots"),
        ("..", "dots"),
        ("...", "dots"),
        ("../../secret", "separator"),
        ("/etc/passwd", "separator"),
        ("a\\b", "separator"),
        ("C:\\x", "separator"),
        ("https://example.com/x", "URL"),
        ("a\0b", "characters"),
        ("a\nb", "characters"),
        ("a b", "characters"),
        ("-rf", "characters"),
        ("ä", "characters"),
        ("C:x", "characters"),
        ("a.", "ends with a dot"),
        ("a" * 201, "201 characters"),
        ("20160803T222310Z.s1.tar.gz.pending", "unfinished"),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, reason: str) -> None:
    with pytest.raises(UnsafeName, match=reason) as caught:
        check_file_name(name)
    assert caught.value.what.isprintable()


@given(st.text(max_size=30))
def test_what_passes_is_one_harmless_component(name: str) -> None:
    try:
        check_file_name(name)
    except UnsafeName:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\: ")
    assert name.strip(".")
