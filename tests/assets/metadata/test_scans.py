"""What the UI shows of a scan of a cluster, and of archives that were not read since."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from msgspec.structs import replace

from assets.metadata.scans import (
    READ_BACK,
    damage_facts,
    left_facts,
    problem_rows,
    problem_table,
    state_facts,
    unread_archives,
    unread_facts,
)
from resources.engine.backup.change_detection import Reason, ShardState
from resources.engine.verify.inventory import Problem
from resources.tsm.damage import FileDamage
from tests import builders as b


def known(*, passed: bool = True, **metadata: Any) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("a"), check_name="c", passed=passed, metadata=metadata
    )


def read_back(until: str) -> dg.AssetCheckEvaluation:
    metadata: dict[str, Any] = {READ_BACK: until}
    return known(**metadata)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("unchanged", "as in its archive"),
        ("new", "never backed up"),
        ("changed", "changed since its archive"),
        ("archive missing", "its archive is missing in the repository"),
        ("no evidence", "cannot be compared with its archive"),
        ("full", "cannot be compared: the server's HTTP does not answer"),
        ("copies differ", "copies differ"),
    ],
)
def test_the_state_of_a_shard_is_said_in_words(reason: Reason, text: str) -> None:
    assert state_facts(ShardState(b.place(1), reason))["state"] == text


def test_before_any_reading_every_archive_is_unread() -> None:
    archives = [b.archive(1), b.archive(2, second=5)]
    assert unread_archives(archives, None) == archives
    assert unread_archives(archives, read_back("never")) == archives


def test_archives_of_backups_after_the_last_reading_are_unread() -> None:
    before, at, after = (b.archive(i, second=i) for i in (1, 2, 3))
    assert unread_archives([before, at, after], read_back(b.stamp(2))) == [after]
    facts = unread_facts(3, 1, read_back(b.stamp(2)))
    assert facts[READ_BACK] == b.stamp(2)
    assert facts["how"].startswith("of 3 archives, 1 were checked while a backup made them")


def test_problems_that_an_evaluation_lists_are_read_back_from_it() -> None:
    listed = problem_table([Problem("T.s1.tar.gz", "cut")])
    rows = [{"file": "T.s1.tar.gz", "problem": "cut"}]
    assert problem_rows(known(passed=False, problems=listed)) == rows
    assert problem_rows(known(passed=True, problems=listed)) == []
    assert problem_rows(known(passed=False)) == []
    assert problem_rows(known(passed=False, problems="text")) == []
    assert problem_rows(None) == []


def test_damage_at_the_source_is_counted_and_names_the_newest_whole_backup() -> None:
    damaged = tuple(
        replace(b.file(i), damage=FileDamage(1, 10 * i, (), whole))
        for i, whole in ((1, "A.manifest"), (2, "B.manifest"))
    )
    sound, theirs = b.archive(1, b.details(b.file(1))), b.archive(2)
    facts = damage_facts(iter([sound, theirs, b.archive(3, b.details(*damaged))]))
    assert (facts["archives"], facts["archives_damaged"]) == (3, 1)
    assert facts["archives_without_details"] == 1
    [row] = [record.data for record in facts["damaged"].records]
    assert (row["shard_id"], row["lost_bytes"], row["whole_in"]) == ("3", 30, "B")
    assert "damaged" not in damage_facts([sound])


def test_what_a_backup_left_is_listed_by_partition() -> None:
    facts = left_facts(7, [b.place(4, database="a/b")])
    assert (facts["shards"], facts["shards_to_copy"]) == (7, 1)
    assert [record.data["partition"] for record in facts["to_copy"].records] == ["a%2Fb/autogen/4"]
    assert "to_copy" not in left_facts(7, [])
