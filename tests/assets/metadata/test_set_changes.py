"""What the UI shows of a restore point beside the one before."""

from __future__ import annotations

from typing import Any

from assets.metadata.set_changes import change_facts
from resources.engine.verify.backup_diff import SetChanges, ShardChange
from resources.model import ShardID
from tests import builders as b

OLD = b.entry(1, b.details(points=10), size_bytes=1000)
NEW = b.entry(1, b.details(points=12), second=1, size_bytes=2000)
CHANGED = ShardChange("changed", ShardID(1), "db", "rp", OLD, NEW)
CAME = ShardChange("new", ShardID(2), "db", "rp", None, b.entry(2, size_bytes=3000))
GONE = ShardChange("gone", ShardID(3), "db", "rp", b.entry(3, size_bytes=4000), None)


def rows(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(record.data) for record in facts["changes"].records]


def test_each_kind_of_change_is_counted() -> None:
    facts = change_facts(SetChanges("T.manifest", (GONE, CAME, CHANGED, CHANGED)))
    assert facts["since"] == "T"
    assert (facts["shards_new"], facts["shards_changed"], facts["shards_gone"]) == (1, 2, 1)
    assert "shards_gone_unknown" not in facts


def test_a_table_has_what_was_before_and_what_is_now() -> None:
    [gone, came, changed] = rows(change_facts(SetChanges("T.manifest", (GONE, CAME, CHANGED))))
    assert (changed["tar bytes before"], changed["tar bytes now"]) == (1000, 2000)
    assert (changed["values before"], changed["values now"]) == (10, 12)
    assert (came["tar bytes before"], came["tar bytes now"]) == (None, 3000)
    assert (gone["tar bytes before"], gone["tar bytes now"]) == (4000, None)
    assert came["values now"] is None  # another tool wrote the archive


def test_the_first_restore_point_says_so_and_without_changes_there_is_no_table() -> None:
    facts = change_facts(SetChanges("", ()))
    assert facts["since"] == "the beginning; this is the first"
    assert "changes" not in facts


def test_why_it_is_not_known_what_is_gone_is_shown() -> None:
    facts = change_facts(SetChanges("T.manifest", (), "T.meta is damaged"))
    assert facts["shards_gone_unknown"] == "T.meta is damaged"
