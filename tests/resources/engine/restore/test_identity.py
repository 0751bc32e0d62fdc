"""Two restores are the same only if they send the same bytes under the same names."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.engine.restore.identity import identity_of
from resources.engine.restore.plan import (
    DatabaseRestore,
    RestoreOptions,
    RestorePlan,
    ShardRestore,
)
from resources.repository.formats.manifest import Limits
from tests.builders import (
    archive,
    backup_set,
    database,
    details,
    file,
    metastore,
    place,
    policy,
)

OPTIONS = RestoreOptions()
SHARD = ShardRestore(place(1), archive(1, details(file())), "db", "autogen")
DATABASE = DatabaseRestore(
    database("db", policy("autogen")), "db", (policy("autogen"),), "", {}, (SHARD,), ()
)
PLAN = RestorePlan(backup_set(), b"meta", metastore(), (DATABASE,))
IDENTITY = identity_of(PLAN, OPTIONS)


def with_shard(shard: ShardRestore) -> RestorePlan:
    return replace(PLAN, databases=(replace(DATABASE, shards=(shard,)),))


def test_what_does_not_change_the_outcome_does_not_matter() -> None:
    assert identity_of(replace(PLAN, notes=("a note",)), OPTIONS) == IDENTITY
    assert identity_of(PLAN, RestoreOptions(parallel=1, receipts=False)) == IDENTITY
    assert identity_of(PLAN, RestoreOptions(Limits("db"))) == IDENTITY


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, meta=b"other"),
        replace(PLAN, databases=()),
        replace(PLAN, databases=(replace(DATABASE, name="copy"),)),
        replace(PLAN, databases=(replace(DATABASE, new_policy="copy"),)),
        replace(PLAN, databases=(replace(DATABASE, durations={"autogen": 5}),)),
        with_shard(replace(SHARD, place=place(2))),
        with_shard(replace(SHARD, policy="copy")),
        with_shard(replace(SHARD, archive=archive(1, details(file()), second=1))),
        with_shard(replace(SHARD, archive=archive(1, details(file(), sha256="c" * 64)))),
        with_shard(replace(SHARD, archive=archive(1))),
    ],
)
def test_other_bytes_or_names_make_another_restore(plan: RestorePlan) -> None:
    assert identity_of(plan, OPTIONS) != IDENTITY


def test_other_replicas_and_other_points_make_another_restore() -> None:
    assert identity_of(PLAN, RestoreOptions(new_replica_n=2)) != IDENTITY
    assert identity_of(PLAN, RestoreOptions(keep_tombstoned=True)) != IDENTITY
