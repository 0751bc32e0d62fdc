"""Shards that are in the metastore and on no node."""

from __future__ import annotations

import pytest

from resources.engine.backup.absent import Absence, absence, named_unknown
from resources.model import ShardPlace
from resources.repository.backup_set import Archive
from tests import builders as b

NOW_NS = 1_000
PAST = b.place(7, length_ns=500)
FUTURE = b.place(7, start_ns=1_001, length_ns=500)
ARCHIVE = b.archive(7)


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
    places = [b.place(i) for i in range(1, 13)]
    assert (
        "12 shards are in the metastore and on no node: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more"
        in (named_unknown(places))
    )
