"""Shards that are in the metastore and on no node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resources.engine.backup.absent import Absence, absence, named_unknown
from resources.model import ShardGroupID, ShardGroupInfo, ShardID, ShardInfo, ShardPlace
from resources.repository.backup_set import Archive
from resources.repository.formats.manifest import ShardEntry

NOW_NS = 1_000
SHARD = ShardInfo(ShardID(7), ())
GROUP = ShardGroupInfo(ShardGroupID(3), 0, 500, None, None, (SHARD,))
PAST = ShardPlace("db", "rp", GROUP, SHARD)
FUTURE = replace(PAST, group=replace(GROUP, start_time_ns=1_001, end_time_ns=1_501))
ARCHIVE = Archive(ShardEntry("db", "rp", ShardID(7), "T.s7.tar.gz", 2048, 0), "T.manifest")


@pytest.mark.parametrize(
    ("place", "archive", "group_is_there", "expected"),
    [
        (PAST, ARCHIVE, False, "lost"),
        (FUTURE, ARCHIVE, False, "lost"),
        (FUTURE, None, False, "planned"),
        (FUTURE, None, True, "unknown"),
        (PAST, None, False, "unknown"),
        (PAST, None, True, "unknown"),
    ],
    ids=[
        "an archive says that it was there",
        "so it does when the metastore's times were changed",
        "planned",
        "others of its group are written to already",
        "a group that is over",
        "a group that is over and was written to",
    ],
)
def test_a_shard_that_is_nowhere(
    place: ShardPlace, archive: Archive | None, group_is_there: bool, expected: Absence
) -> None:
    found = absence(place, archive, group_is_there=group_is_there, now_ns=NOW_NS)
    assert found == expected


def test_one_warning_names_some_and_says_how_many() -> None:
    places = [replace(PAST, shard=ShardInfo(ShardID(i), ())) for i in range(1, 13)]
    assert "12 shards are in the metastore and on no node: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 …" in (
        named_unknown(places)
    )
