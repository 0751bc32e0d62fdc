"""The record of a restore into a single server: earlier versions' records are read."""

from __future__ import annotations

import pytest

from resources.engine.restore.record import CreatedDatabase, ServerJournal
from resources.errors import ManifestUnreadable
from resources.model import ShardID

FULL = (
    b'{"version": 1, "cluster_id": 18446744073709551615, "address": "db:8088", '
    b'"server_started_ns": 1600000000000000000, "complete": false, "taken_back": false, '
    b'"plan": "p", "proved": {"3": 1600000000000000001}, "life": "l", '
    b'"databases": {"home": {"groups": [["autogen", -5, 10, 1]], "ids": [[7, 3]], '
    b'"shards": {"3": [["000000001-000000001.tsm", 90, 4294967295]]}}}}'
)
OLDEST = (
    b'{"version": 1, "cluster_id": 7, "address": "db:8088", "server_started_ns": null, '
    b'"complete": true, "databases": {"home": {"shards": null, "groups": []}}}'
)


def test_a_record_is_stored_as_it_always_was() -> None:
    journal = ServerJournal.decode(FULL, "j.json")
    assert journal.encode() == FULL
    assert journal.databases["home"] == CreatedDatabase(
        (("autogen", -5, 10, 1),),
        {ShardID(3): frozenset({("000000001-000000001.tsm", 90, 4294967295)})},
        {ShardID(7): ShardID(3)},
    )
    assert journal.proved == {ShardID(3): 1600000000000000001}


def test_a_record_without_what_later_versions_added_is_read() -> None:
    journal = ServerJournal.decode(OLDEST, "j.json")
    assert journal == ServerJournal(7, "db:8088", None, {"home": CreatedDatabase(())}, True)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b'"version": 1', b'"version": 2', "version 2"),
        (b'"address": "db:8088", ', b"", "address is missing"),
        (b'"shards": null', b'"shards": []', r"databases.*shards: expected"),
        (b'"cluster_id": 7', b'"cluster_id": "7"', "cluster_id: expected whole number, found text"),
        (b'"complete": true', b'"complete": 1', "complete: expected true or false"),
        (b'"cluster_id": 7', b'"cluster_id": 7, "cluster_id": 8', "a key occurs twice"),
        (b"]}}}", b"]}}", "ends early"),
    ],
)
def test_what_is_wrong_in_a_record_is_named(old: bytes, new: bytes, why: str) -> None:
    with pytest.raises(ManifestUnreadable, match=rf"^j\.json cannot be read \(.*{why}") as caught:
        ServerJournal.decode(OLDEST.replace(old, new), "j.json")
    assert "drop them, then delete the file" in caught.value.hint
