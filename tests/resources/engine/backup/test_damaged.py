"""Which of several damaged replicas is saved, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from resources.engine.backup.damaged import (
    Choice,
    DamagedCopy,
    describe_archive,
    describe_damage,
    describe_left_out,
    lost_bytes,
    require_something_sound,
    with_whole_ones,
)
from resources.errors import ArchiveCorrupt
from resources.model import ShardID
from resources.repository.formats.details import FileFacts
from resources.tsm.damage import Damage, FileDamage
from tests import builders as b

PART = Damage(100, 60, "cpu value", 0, 10**9, "its checksum does not fit")
WHOLE = b.file(1)


def damaged(number: int = 2, lost: int = 60, parts: int = 1, whole_in: str = "") -> FileFacts:
    return replace(b.file(number), damage=FileDamage(parts, lost, (PART,), whole_in))


def choice(*nodes: str) -> Choice:
    return Choice([b.copy(node) for node in nodes])


def none_is_away(_: str) -> bool:
    return False


def away(*nodes: str) -> Callable[[str], bool]:
    return lambda node: node in nodes


def refused(chosen: Choice, node: str, *files: FileFacts) -> bool:
    try:
        chosen.require_best(ShardID(7), node, files)
    except DamagedCopy:
        return True
    return False


def read(chosen: Choice, attempt: int, is_away: Callable[[str], bool] = none_is_away) -> str:
    return chosen.copy(attempt, is_away).node


def test_replicas_take_turns_from_the_best_on() -> None:
    assert [read(choice("a", "b"), attempt) for attempt in (1, 2, 3)] == ["a", "b", "a"]


def test_a_node_that_is_away_is_passed_over_unless_all_are() -> None:
    assert read(choice("a", "b"), 1, away("a")) == "b"
    assert read(choice("a", "b"), 1, away("a", "b")) == "a"


def test_a_damaged_replica_is_not_taken_while_another_was_not_read() -> None:
    chosen = choice("a", "b")
    assert refused(chosen, "a", damaged())
    assert [read(chosen, attempt) for attempt in (1, 2)] == ["b", "b"]
    assert "a: shard 7 is damaged there" in chosen.damaged["a"].what


def test_of_damaged_replicas_the_one_that_lost_least_is_taken() -> None:
    chosen = choice("a", "b")
    assert refused(chosen, "a", damaged(lost=60))
    assert refused(chosen, "b", damaged(lost=70))
    assert read(chosen, 1) == "a"
    assert not refused(chosen, "a", damaged(lost=60))
    assert chosen.others("a") == (chosen.damaged["b"].what,)
    assert chosen.others("b") == (chosen.damaged["a"].what,)


def test_a_replica_that_lost_as_little_as_the_best_is_taken_at_once() -> None:
    chosen = choice("a", "b")
    assert refused(chosen, "a", damaged(lost=60))
    assert not refused(chosen, "b", damaged(lost=60))


def test_the_only_replica_is_taken_as_it_is() -> None:
    assert not refused(choice("a"), "a", damaged())


def test_a_damaged_replica_is_accepted_when_the_others_cannot_be_read() -> None:
    chosen = choice("a", "b", "c")
    assert not chosen.fall_back()  # nothing damaged was found
    assert refused(chosen, "b", damaged(lost=9))
    assert refused(chosen, "a", damaged(lost=8))
    assert chosen.fall_back()
    assert not chosen.fall_back()  # once
    assert read(chosen, 1) == "a"
    assert not refused(chosen, "c", damaged(lost=100))


def test_something_must_be_sound() -> None:
    empty = replace(damaged(), keys=0)
    with pytest.raises(ArchiveCorrupt, match="n:8088: nothing of shard 7 can be read") as caught:
        require_something_sound(ShardID(7), "n:8088", [empty])
    assert "restore the shard from an earlier backup" in caught.value.hint
    tombstone = FileFacts("000000001-000000001.tombstone", 5, 1, keys=3)
    with pytest.raises(ArchiveCorrupt):
        require_something_sound(ShardID(7), "n:8088", [empty, tombstone])
    require_something_sound(ShardID(7), "n:8088", [empty, WHOLE])


def test_what_is_lost_is_added_up_over_the_damaged_files() -> None:
    assert lost_bytes([WHOLE, damaged(lost=60), damaged(3, lost=7)]) == 67


def test_damage_is_told_by_file_part_key_and_time() -> None:
    assert describe_damage([WHOLE, damaged()]) == (
        "000000002-000000001.tsm: 1 damaged part, 60 bytes lost (60 bytes at offset 100 of cpu "
        "value, 1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z: its checksum does not fit)"
    )
    unknown = replace(
        damaged(), damage=FileDamage(3, 9, (replace(PART, key="", max_time_ns=None),))
    )
    assert describe_damage([unknown]).endswith(
        "(60 bytes at offset 100: its checksum does not fit; 2 more)"
    )
    assert "more files" not in describe_damage([damaged(i) for i in range(3)])
    assert describe_damage([damaged(i) for i in range(5)]).endswith("; and 2 more files")
    many = replace(damaged(), damage=FileDamage(4, 9, (PART,) * 4))
    assert describe_damage([many]).count("offset") == 3
    assert "; 1 more)" in describe_damage([many])


def test_a_whole_archive_is_not_described() -> None:
    assert describe_archive(None) == ""
    assert describe_archive(b.details(WHOLE)) == ""


def test_a_damaged_archive_names_the_newest_backup_that_has_the_file_whole() -> None:
    files = damaged(2, whole_in="A.manifest"), damaged(3, whole_in="B.manifest"), damaged(4)
    text = describe_archive(b.details(*files, node="n:8088"))
    assert text.startswith("damaged at n:8088, and saved as it is")
    assert text.endswith("; the backup B has it whole")
    assert "has it whole" not in describe_archive(b.details(damaged()))


def test_a_restore_says_what_it_leaves_out_and_how_to_get_it_whole() -> None:
    text = describe_left_out(b.place(7, database="ho\nme"), [WHOLE, damaged(whole_in="A.manifest")])
    assert "\n" not in text
    assert "000000001-000000001.tsm" not in text
    assert text.endswith("; -as-of A -shard 7 restores it as it was then, whole")
    assert "-as-of" not in describe_left_out(b.place(7), [damaged()])


def test_a_damaged_file_that_an_earlier_backup_has_whole_is_looked_up_by_name_and_size() -> None:
    before = b.archive(7, b.details(b.file(1), b.file(2)), second=1)
    [found, whole] = with_whole_ones([damaged(2), WHOLE], before)
    assert found.damage is not None
    assert found.damage.whole_in == "20261122T095101Z.manifest"
    assert whole is WHOLE
    other_size = replace(damaged(2), size_bytes=99)
    assert with_whole_ones([other_size], before) == (other_size,)
    assert with_whole_ones([damaged(2)], None) == (damaged(2),)
    assert with_whole_ones([damaged(2)], b.archive(7, None)) == (damaged(2),)


def test_a_file_that_was_damaged_before_keeps_the_backup_that_had_it_whole() -> None:
    before = b.archive(7, b.details(damaged(2, whole_in="A.manifest"), damaged(3)), second=5)
    found = with_whole_ones([damaged(2), damaged(3)], before)
    assert [file.damage.whole_in for file in found if file.damage] == ["A.manifest", ""]
