"""What verify says can be restored is what a restore would find."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resources.engine.verify.inventory import Inventory
from resources.engine.verify.restore_points import RestorePoint, newest_whole, restore_points
from resources.errors import ManifestUnreadable
from resources.model import Metastore, ShardID
from resources.repository.backup_set import Archive, StoredManifest, current_set, with_substitutes
from resources.repository.formats.details import FailedShard
from tests import builders as b

BACKUP = b.backup_details()
MISSING, DAMAGED = "missing", "damaged"
stamp = b.stamp


def metastore(*shards: int) -> Metastore:
    groups = (b.group(i, i, start_ns=10 * i, length_ns=10) for i in shards)
    return b.metastore(b.database("d", b.policy("r", *groups, group_ns=10)))


def stored(
    second: int, content: dict[int, str], unchanged: tuple[int, ...] = (), modified: int = 0
) -> StoredManifest:
    """A backup that saved these shards, each with this content."""
    entries = (
        b.entry(
            i,
            b.details(content=text * 64),
            second=second,
            database="d",
            policy="r",
            modified_ns=modified,
        )
        for i, text in content.items()
    )
    details = replace(BACKUP, unchanged=tuple(ShardID(i) for i in unchanged))
    return b.stored(*entries, second=second, details=details)


def inventory(*manifests: StoredManifest, bad: dict[str, str] | None = None) -> Inventory:
    """A directory with these backups, some archives of which are missing or damaged."""
    bad = bad or {}
    found = Inventory({m.file_name: 1 for m in manifests}, sorted(manifests, key=_name))
    for one in manifests:
        for entry in one.manifest.files:
            found.archives[entry.file_name] = Archive(entry, one.file_name)
            if bad.get(entry.file_name) != MISSING:
                found.sizes[entry.file_name] = 9
    found.bad = dict(bad)
    return found


def _name(one: StoredManifest) -> str:
    return one.file_name


def points_of(found: Inventory, *shards: int) -> tuple[RestorePoint, ...]:
    return restore_points(found, lambda _: metastore(*shards))[0]


def unrestorable(point: RestorePoint) -> dict[int, str]:
    """File by shard."""
    return {gap.shard_id: gap.file_name for gap in point.gaps}


A1, A2, A3 = (stored(1, {1: "a", 2: "b"}), stored(2, {1: "c"}, (2,)), stored(3, {}, (1, 2)))


def test_without_damage_every_state_is_whole() -> None:
    points = points_of(inventory(A1, A2, A3), 1, 2)
    assert [point.name for point in points] == [stamp(1), stamp(2), stamp(3)]
    assert all(point.whole for point in points)
    assert newest_whole(points) == stamp(3)


def test_damage_to_the_newest_archive_leaves_the_states_before_it() -> None:
    file = f"{stamp(2)}.s1.tar.gz"
    points = points_of(inventory(A1, A2, A3, bad={file: DAMAGED}), 1, 2)
    assert [unrestorable(point) for point in points] == [{}, {1: file}, {1: file}]
    assert {gap.instead for point in points for gap in point.gaps} == {stamp(1)}
    assert (points[2].gaps[0].start_ns, points[2].gaps[0].end_ns) == (10, 20)
    assert newest_whole(points) == stamp(1)


def test_damage_to_an_old_archive_ends_where_the_shard_was_saved_again() -> None:
    file = f"{stamp(1)}.s1.tar.gz"
    points = points_of(inventory(A1, A2, A3, bad={file: DAMAGED}), 1, 2)
    assert [unrestorable(point) for point in points] == [{1: file}, {}, {}]
    assert points[0].gaps[0].instead == ""


def test_a_shard_that_was_dropped_is_not_lacking() -> None:
    points = points_of(inventory(A1, A2, A3, bad={f"{stamp(1)}.s2.tar.gz": DAMAGED}), 1)
    assert all(point.whole for point in points)


def test_an_archive_in_a_backup_that_is_not_here_is_lacking() -> None:
    points, databases = restore_points(inventory(A2, A3), lambda _: metastore(1, 2))
    assert [unrestorable(point) for point in points] == [{2: ""}, {2: ""}]
    [database] = databases
    assert (database.name, database.shards, database.unrestorable) == ("d", 2, 1)


def test_a_shard_that_never_could_be_saved_is_lacking() -> None:
    failed = replace(BACKUP, failed=(FailedShard(ShardID(3), "why"),))
    one = replace(A1, manifest=replace(A1.manifest, details=failed))
    assert unrestorable(points_of(inventory(one), 1, 2, 3)[0]) == {3: ""}


def test_a_substitute_stands_in_for_what_is_missing_and_not_for_what_is_damaged() -> None:
    same = stored(2, {1: "a"}, (2,))
    file = f"{stamp(1)}.s1.tar.gz"
    assert all(p.whole for p in points_of(inventory(A1, same, bad={file: MISSING}), 1, 2))
    points = points_of(inventory(A1, same, bad={file: DAMAGED}), 1, 2)
    assert [unrestorable(point) for point in points] == [{1: file}, {}]


def test_nothing_is_restored_past_a_manifest_that_nobody_can_read() -> None:
    found = inventory(A1, A3)
    found.broken[A2.file_name] = "no JSON"
    points = points_of(found, 1, 2)
    assert [(point.name, point.trouble) for point in points] == [
        (stamp(1), ""), (stamp(2), "no JSON"), (stamp(3), "no JSON"),
    ]  # fmt: skip
    assert newest_whole(points) == stamp(1)


def test_a_meta_file_that_is_damaged_costs_its_own_state_only() -> None:
    found = inventory(A1, A2, A3, bad={f"{stamp(2)}.s1.tar.gz": DAMAGED})
    found.metas[A2.file_name] = "cut"

    def read(one: StoredManifest) -> Metastore:
        if one is A2:
            raise ManifestUnreadable("cut")
        return metastore(1, 2)

    points, databases = restore_points(found, read)
    assert [point.trouble for point in points] == ["", "cut", ""]
    assert unrestorable(points[1]) == {1: f"{stamp(2)}.s1.tar.gz"}
    assert [db.unrestorable for db in databases] == [1]


SHARDS = (1, 2, 3)
HISTORIES = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(SHARDS), st.sampled_from("abc"), max_size=3),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(HISTORIES, st.data())
def test_what_is_reported_to_be_whole_is_what_a_restore_would_read(
    history: list[tuple[dict[int, str], int]], data: st.DataObject
) -> None:
    manifests = [
        stored(second, content, modified=at) for second, (content, at) in enumerate(history)
    ]
    files = [entry.file_name for one in manifests for entry in one.manifest.files]
    bad = data.draw(
        st.dictionaries(st.sampled_from(files), st.sampled_from([MISSING, DAMAGED]), max_size=4)
        if files
        else st.just({})
    )
    found = inventory(*manifests, bad=bad)
    for at, point in enumerate(points_of(found, *SHARDS)):
        chosen = current_set(manifests[: at + 1], found.sizes)
        assert chosen is not None
        chosen = with_substitutes(chosen, manifests, found.sizes)
        refused = {a.entry.shard_id for a in chosen.missing}
        refused |= {i for i, a in chosen.archives.items() if a.entry.file_name in bad}
        assert set(unrestorable(point)) == refused
