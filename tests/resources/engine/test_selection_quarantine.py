"""Shards that no archive can hold do not hold up the others."""

from __future__ import annotations

import pytest

from resources.engine.selection import INTO_ANOTHER, describe_orphans, set_aside
from resources.errors import UnsafeName
from resources.model import ShardID
from tests import builders as b

SOUND = b.place(1)
ODD = b.place(2, database="../etc")
ODD_POLICY = b.place(3, policy="a/b")


def test_sound_names_go_on_and_each_other_one_is_named_with_its_reason() -> None:
    named, refused = set_aside([SOUND, ODD, ODD_POLICY], {ShardID(i): () for i in (1, 2, 3)})
    assert named == [SOUND]
    assert [failed.shard_id for failed in refused] == [2, 3]
    assert "database '../etc', policy 'autogen': no archive can hold that name" in refused[0].why
    assert "policy 'a/b'" in refused[1].why


def test_a_shard_that_is_on_no_disk_needs_no_archive_and_is_no_failure() -> None:
    assert set_aside([SOUND, ODD], [ShardID(1)]) == ([SOUND], ())


def test_if_nothing_else_was_asked_for_the_backup_is_refused() -> None:
    with pytest.raises(UnsafeName, match="no statement could have made") as refused:
        set_aside([ODD], [ShardID(2)])
    assert refused.value.hint == INTO_ANOTHER
    assert set_aside([ODD], []) == ([], ())


def test_a_name_cannot_forge_a_line_of_the_log() -> None:
    with pytest.raises(UnsafeName) as refused:
        set_aside([b.place(2, database="a\nERROR all lost")], [ShardID(2)])
    assert "\n" not in refused.value.what


def test_of_many_orphans_the_first_ten_are_listed_in_order() -> None:
    some = describe_orphans({ShardID(i): f"db\n/{i}" for i in (12, 3)})
    assert some.startswith("2 shards are on the server's disk")
    assert "('db\\n/3'/3, 'db\\n/12'/12)" in some
    assert "more" not in some
    assert "\n" not in some
    assert "more" not in describe_orphans({ShardID(i): "db/rp" for i in range(10)})
    assert "and 1 more)" in describe_orphans({ShardID(i): "db/rp" for i in range(11)})
