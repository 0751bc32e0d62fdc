"""Members belong to one shard's directory, told by the parts of their names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.errors import UnsafeName
from resources.protocol.tar import MemberName, member_place

FILE = "000000001-000000001.tsm"


@pytest.mark.parametrize(
    "database", ["telegraf", "bäse", "dots.and-dash", "sp ace", "日本", "-x", '"; DROP', "L" * 255]
)
def test_a_name_has_four_parts(database: str) -> None:
    name = f"{database}/autogen/18446744073709551615/{FILE}"
    place = member_place(name)
    assert place == MemberName(database, "autogen", 2**64 - 1, FILE)
    assert place.path == name


def test_tombstones_have_a_place_too() -> None:
    assert member_place("db/rp/0/000000001-000000001.tombstone").shard_id == 0


@pytest.mark.fault(86)
def test_a_shard_whose_number_starts_alike_is_another_shard() -> None:
    assert member_place(f"db/rp/397/{FILE}").shard_id != 39


def test_letters_newer_than_our_unicode_are_no_crime() -> None:
    assert member_place(f"\U0001fae8\U0001faff/rp/1/{FILE}").policy == "rp"


@pytest.mark.fault(84)
@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        FILE,
        f"1/{FILE}",
        f"/etc/rp/1/{FILE}",
        f"./db/rp/1/{FILE}",
        f"db/rp/1/../{FILE}",
        f"../rp/1/{FILE}",
        f"db/../1/{FILE}",
        f"./rp/1/{FILE}",
        f"/rp/1/{FILE}",
        f"db//1/{FILE}",
        f"C:\\x/rp/1/{FILE}",
        f"d\\b/rp/1/{FILE}",
        f"d\0b/rp/1/{FILE}",
        f"d\nb/rp/1/{FILE}",
        f"d\x1b[31mb/rp/1/{FILE}",
        f"d\u202eb/rp/1/{FILE}",
        f"d\u00a0b/rp/1/{FILE}",
        f"\ud800/rp/1/{FILE}",
        f"{'ä' * 128}/rp/1/{FILE}",
        f"db/{'r' * 5000}/1/{FILE}",
        f"db/rp/01/{FILE}",
        f"db/rp/+1/{FILE}",
        f"db/rp/-1/{FILE}",
        f"db/rp/1_0/{FILE}",
        f"db/rp/\u0661/{FILE}",
        f"db/rp/18446744073709551616/{FILE}",
        f"db/rp//{FILE}",
        "db/rp/1/",
        "db/rp/1/..",
        "db/rp/1/fields.idx",
        "db/rp/1/index",
        "db/rp/1/000000001-000000001.tsm.tmp",
        "db/rp/1/000000001-000000001.TSM",
        "db/rp/1/000000001-000000001.tsm\n",
        "db/rp/1/000000001.tsm",
        "db/rp/1/x-1.tsm",
        "db/rp/1/-1.tsm",
        "db/rp/1/\u0661-1.tsm",
        f"db/rp/1/{'1' * 21}-1.tsm",
    ],
)
def test_other_names_are_refused_and_shown_escaped(name: str) -> None:
    with pytest.raises(UnsafeName) as caught:
        member_place(name)
    assert caught.value.what.isascii() or "…" in caught.value.what
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 1500


@pytest.mark.fault(84)
@given(st.text(max_size=60))
def test_nothing_but_unsafe_name_escapes(name: str) -> None:
    try:
        place = member_place(name)
    except UnsafeName:
        return
    assert place.path == name
