"""What a repository holds is derived from manifests, sizes and receipts, and each grade is told."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.engine.catalog.catalog import (
    Grade,
    grade_of,
    is_there,
    list_backup,
    list_shards,
)
from resources.engine.catalog.restore_proofs import RestoreProof
from resources.model import ShardID
from resources.repository.backup_set import Archive
from resources.repository.formats.details import FailedShard
from resources.tsm.damage import FileDamage
from tests import builders as b

PROOFS = {"a" * 64: RestoreProof(7, "h:8088")}
SOUND = b.archive(1, b.details(b.file(), points=12, sha256="c" * 64))
DAMAGED = b.archive(1, b.details(replace(b.file(1), damage=FileDamage(1, 5, ()))))
SIZES = {SOUND.entry.file_name: 9, "20261122T095100Z.meta": 1}


@pytest.mark.parametrize(
    ("archive", "size_bytes", "grade"),
    [
        (SOUND, 9, "verified"),
        (SOUND, 8, "missing"),
        (SOUND, None, "missing"),
        (b.archive(1, b.details()), 9, "proven"),
        (b.archive(1, b.details(checked="structure", sha256="c" * 64)), 9, "structure"),
        (b.archive(1), 1, "adopted"),
        (b.archive(1), None, "missing"),
        (DAMAGED, 9, "damaged"),  # also after a restore, which left the damaged parts out
    ],
)
def test_each_grade(archive: Archive, size_bytes: int | None, grade: Grade) -> None:
    sizes = {} if size_bytes is None else {archive.entry.file_name: size_bytes}
    assert grade_of(archive, sizes, PROOFS) == grade
    assert is_there(archive.entry, sizes) == (grade != "missing")


def test_a_backup_is_complete_if_nothing_failed_and_everything_is_there() -> None:
    ours = b.backup_details(unchanged=(ShardID(2), ShardID(3)))
    listed = list_backup(b.stored(SOUND.entry, details=ours), SIZES)
    assert (listed.name, listed.unchanged, listed.missing) == ("20261122T095100Z", 2, ())
    assert (listed.stored_bytes, listed.values, listed.is_complete) == (9, 12, True)
    gone = list_backup(b.stored(SOUND.entry, details=ours), {})
    assert gone.missing == ("20261122T095100Z.meta", SOUND.entry.file_name)
    failed = replace(ours, failed=(FailedShard(ShardID(4), "broken"),))
    assert not list_backup(b.stored(SOUND.entry, details=failed), SIZES).is_complete
    assert not list_backup(b.stored(DAMAGED.entry, details=ours), SIZES).is_complete


def test_of_a_backup_by_another_tool_only_its_name_and_files_are_known() -> None:
    listed = list_backup(
        b.stored(b.entry(1)), {b.entry(1).file_name: 3, "20261122T095100Z.meta": 1}
    )
    assert (listed.strategy, listed.source, listed.values) == ("other tool", None, None)
    assert listed.started_ns == 1_795_341_060 * 10**9
    assert listed.missing == ()


def test_a_state_has_each_shard_with_the_archive_that_a_restore_reads() -> None:
    store = b.metastore(b.database("db", b.policy("autogen", b.group(1, 1), b.group(2, 2))))
    gone = b.archive(9, b.details(sha256="d" * 64), second=1)
    state = b.backup_set(SOUND, gone, missing=[b.archive(2)])
    shards = list_shards(state, store, {**SIZES, gone.entry.file_name: 9}, PROOFS)
    assert [(s.shard_id, s.grade, s.place is None) for s in shards] == [
        (1, "verified", False),
        (2, "missing", False),
        (9, "verified", True),  # gone at the source
    ]
    assert [s.backup for s in shards] == [b.stamp(0), b.stamp(0), b.stamp(1)]
