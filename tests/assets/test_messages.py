"""The engine's sentences name flags; a form has fields."""

from __future__ import annotations

import pytest

from assets.messages import in_fields, what_happened
from resources.errors import DatabaseExists, UsageError


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ("-newrp needs -rp", "newrp needs rp"),
        ("name the database to restore with -db", "name the database to restore with db"),
        ("restore beside it with -db house -newdb NAME", "beside it with db: house newdb: NAME"),
        ("-users goes with everything, not with -db", "users goes with everything, not with db"),
        ("-skip-expired leaves them out", "skip_expired leaves them out"),
        ("-newduration 0s keeps them for ever", "newduration: 0s keeps them for ever"),
        ("-host takes the TCP address", "host takes the TCP address"),
        ("another one with -rp and -newrp", "another one with rp and newrp"),
        ("restore an older backup: shardkeeper restore -as-of TIME", "with as_of: TIME in the job"),
        ("whole: shardkeeper restore -db house", "whole: the job restore_… with db: house"),
        ("shardkeeper restore -list shows what it holds", "the newest restore point"),
        (
            "shardkeeper show-shards lists those of a server, restore -list those of a backup",
            "the partitions of shard_backup list them",
        ),
        ("a well-known name, and x -dbase", "a well-known name, and x -dbase"),
        ("2026-11-30T00:00:00Z is -1 of 3", "2026-11-30T00:00:00Z is -1 of 3"),
        ("influxd backup -portable", "influxd backup -portable"),
    ],
)
def test_flags_are_reported_as_fields(flags: str, fields: str) -> None:
    assert fields in in_fields(flags)


def test_what_the_original_says_of_a_target_that_is_not_empty_is_reported_as_what_is_so() -> None:
    error = DatabaseExists(
        "problem setting snapshot: cannot restore into non-empty cluster",
        hint="drill has house already; restore beside it with -db house -newdb NAME, or drop it",
    )
    assert what_happened(error) == (
        "drill has house already\nNext: restore beside it with db: house newdb: NAME, or drop it"
    )
    assert what_happened(UsageError("-newdb needs -db")) == "newdb needs db"
