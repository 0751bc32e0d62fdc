"""`restore -list` shows what a restore would read, and what it would not find."""

from __future__ import annotations

from msgspec.structs import replace

from pipelines.ctl.listing import is_saved, render_list
from resources.model import ShardID
from resources.repository.formats.details import FailedShard
from resources.repository.formats.manifest import Limits
from resources.tsm.damage import FileDamage
from tests import builders as b

STORE = b.metastore(
    b.database("home", b.policy("week", b.group(1, 1), b.group(2, 2, start_ns=b.DAY_NS))),
    b.database("other", b.policy("rp", b.group(3, 3))),
)
OURS = b.archive(1, b.details(points=12, tombstones=3), database="home", policy="week")
THEIRS = b.archive(2, database="home", policy="week", second=1)


def lines(*archives: object, limits: Limits | None = None, **of_set: object) -> list[str]:
    backup = b.backup_set(*archives, **of_set)  # type: ignore[arg-type]
    return render_list(backup, STORE, limits or Limits()).splitlines()


def test_each_archive_has_a_line_with_what_is_known_of_it() -> None:
    shown = lines(OURS, THEIRS)
    assert shown[1].split() == [
        "1", "home", "week", "1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", "12", "2048", "3",
        "20261122T095100Z.s1.tar.gz",
    ]  # fmt: skip
    assert shown[2].split()[5:8] == ["-", "2048", "-"]  # another tool wrote it
    assert shown[-1] == "2 shards shown; 2 archives, 4096 bytes"


def test_limits_narrow_the_table_and_not_the_sum() -> None:
    shown = lines(OURS, b.archive(3), limits=Limits("other"))
    assert [line.split()[0] for line in shown[1:-1]] == ["3"]
    assert shown[-1] == "1 shard shown; 2 archives, 4096 bytes"


def test_an_archive_of_a_shard_that_is_gone_at_the_source_is_named() -> None:
    assert "gone at the source since: shards 9 (-as-of TIME" in "\n".join(lines(b.archive(9)))
    assert "gone at the source" not in "\n".join(lines(b.archive(9), limits=Limits("home")))
    assert lines()[0] == "no shards"


def test_what_is_missing_or_damaged_is_named() -> None:
    shown = "\n".join(lines(OURS, missing=[THEIRS]))
    assert f"missing: {THEIRS.entry.file_name}, listed by {THEIRS.manifest_file}" in shown
    damaged = b.archive(1, b.details(replace(b.file(1), damage=FileDamage(1, 5, ()))))
    assert "damaged at its source: shard 1: 000000001-000000001.tsm: 1 damaged part" in "\n".join(
        lines(damaged)
    )


def test_a_shard_that_the_newest_backup_could_not_save_is_named_unless_it_did_later() -> None:
    failed = (FailedShard(ShardID(1), "broken"), FailedShard(ShardID(2), "broken"))
    details = b.backup_details(failed=failed)
    shown = "\n".join(lines(b.archive(1, second=9), THEIRS, second=9, details=details))
    assert "not saved by 20261122T095109Z.manifest: shard 2" in shown
    assert "shard 1\n" not in shown


def test_a_shard_is_saved_if_the_newest_backup_has_it_or_found_it_unchanged() -> None:
    unchanged = b.backup_details(unchanged=(ShardID(1),))
    assert is_saved(b.backup_set(OURS, second=9, details=unchanged), ShardID(1))
    assert not is_saved(b.backup_set(OURS, second=9, details=b.backup_details()), ShardID(1))
    assert is_saved(b.backup_set(OURS, second=0), ShardID(1))
    assert not is_saved(b.backup_set(second=9, details=unchanged), ShardID(1))


def test_a_later_era_says_since_when_it_is_one() -> None:
    shown = "\n".join(lines(OURS, details=b.backup_details(era="20261122T095100Z")))
    assert "era: since 20261122T095100Z; backups before it are of another server" in shown


def test_names_with_control_characters_stay_on_their_line() -> None:
    store = b.metastore(b.database("a\nb\x1b[2J", b.policy("rp", b.group(1, 1))))
    text = render_list(b.backup_set(b.archive(1)), store, Limits())
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3
