"""What a restore leaves out is said before it begins, each thing once."""

from __future__ import annotations

from msgspec.structs import replace

from resources.engine.restore.notes import note_left_out, note_write_limits
from resources.model import Metastore, ShardID, UserInfo
from resources.repository.backup_set import BackupSet
from resources.repository.formats.details import FailedShard
from resources.repository.formats.manifest import Limits
from resources.tsm.damage import FileDamage
from tests import builders as b

OURS = b.backup_details()
STORE = b.metastore(b.database("db", b.policy("autogen", b.group(1, 1), b.group(2, 2))))


def notes(
    backup: BackupSet,
    found: tuple[int, ...] = (1,),
    *,
    wanted: tuple[int, ...] = (1, 2),
    store: Metastore = STORE,
    limits: Limits | None = None,
) -> str:
    made: list[str] = []
    asked, kept = ([b.place(i) for i in ids] for ids in (wanted, found))
    note_left_out(backup, store, asked, kept, limits or Limits(), made)
    return "\n".join(made)


def test_a_restore_of_everything_from_a_whole_backup_leaves_nothing_out() -> None:
    assert notes(b.backup_set(b.archive(1), b.archive(2), details=OURS), (1, 2)) == ""


def test_shards_without_an_archive_are_named_where_the_backup_cannot_say_that_they_are_empty() -> (
    None
):
    theirs = b.backup_set(b.archive(1))
    assert "shards 2 are left out" in notes(theirs)
    assert notes(b.backup_set(b.archive(1), details=OURS)) == ""
    assert notes(theirs, limits=Limits(shard_id=ShardID(1))) == ""


def test_only_shards_of_restored_databases_that_have_no_archive_at_all_are_named() -> None:
    made: list[str] = []
    elsewhere = b.place(3, database="other")
    backup = b.backup_set(b.archive(1), b.archive(2))
    asked = [*map(b.place, (1, 2, 4)), elsewhere]
    note_left_out(backup, STORE, asked, [b.place(1), b.place(4)], Limits(), made)
    assert "left out" not in "\n".join(made)  # 2 has an archive, 3 is of another database


def test_ten_shards_without_archives_are_named() -> None:
    theirs = b.backup_set(b.archive(1))
    ten = ", ".join(map(str, range(2, 12)))
    assert f"shards {ten} are left out" in notes(theirs, wanted=tuple(range(1, 12)))
    assert f"shards {ten} … are left out" in notes(theirs, wanted=tuple(range(1, 13)))


def test_an_identical_archive_that_takes_the_place_of_a_missing_one_is_named() -> None:
    backup = replace(b.backup_set(b.archive(1, second=3), details=OURS), replaced=(b.archive(1),))
    text = notes(backup, wanted=(1,))
    assert "095100Z.s1.tar.gz is missing; 20261122T095103Z.s1.tar.gz has the same content" in text
    assert notes(backup, (), wanted=()) == ""


def test_a_shard_that_the_newest_backup_could_not_save_comes_from_an_earlier_one() -> None:
    failed = b.backup_details(failed=(FailedShard(ShardID(1), "why it failed"),))
    earlier = b.backup_set(b.archive(1, second=1), second=5, details=failed)
    assert "shard 1 comes from an earlier backup, 20261122T095101Z.manifest" in notes(earlier)
    partly = b.backup_set(b.archive(1, second=5), second=5, details=failed)
    assert "shard 1 is not whole: why it failed" in notes(partly)
    assert notes(earlier, (), wanted=()) == ""


def test_damage_is_told_once_though_the_shard_failed_too() -> None:
    damaged = b.details(replace(b.file(1), damage=FileDamage(1, 5, ())))
    failed = b.backup_details(failed=(FailedShard(ShardID(1), "damaged"),))
    text = notes(b.backup_set(b.archive(1, damaged), details=failed))
    assert text.count("shard 1") == 1
    assert "what is damaged is left out" in text


def test_archives_of_shards_that_are_gone_are_counted_unless_limits_explain_them() -> None:
    backup = b.backup_set(b.archive(1), b.archive(8), b.archive(9), details=OURS)
    assert "2 archives of shards that were gone at the source" in notes(backup)
    assert notes(backup, limits=Limits("db")) == ""


def test_users_are_named_without_their_hashes() -> None:
    store = replace(STORE, users=(UserInfo("ann\n", "$2a$10$secret", admin=True),))
    text = notes(b.backup_set(b.archive(1), details=OURS), store=store)
    assert "the restore leaves out 1 user ('ann\\n')" in text
    assert "secret" not in text


def test_write_limits_that_an_older_target_does_not_know_are_named() -> None:
    limited = replace(b.policy("a"), future_write_limit_ns=1)
    also = replace(b.policy("b"), past_write_limit_ns=1)
    made: list[str] = []
    note_write_limits([b.policy("c")], made)
    assert made == []
    note_write_limits([limited, b.policy("c"), also], made)
    assert "write limits of 'a', 'b' are lost" in made[0]
