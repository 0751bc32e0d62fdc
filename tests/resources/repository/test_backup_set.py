"""Which archive of a shard counts, over all manifests of a directory."""

from __future__ import annotations

from resources.model import ShardID
from resources.repository.backup_set import StoredManifest, current_set, single_set
from tests import builders as b


def stored(second: int, *shards: tuple[int, int]) -> StoredManifest:
    """A backup of that second, of (shard id, last modified)."""
    entries = (b.entry(i, second=second, modified_ns=at) for i, at in shards)
    return b.stored(*entries, second=second)


def sizes(*manifests: StoredManifest, without: str = "") -> dict[str, int]:
    files = [entry.file_name for m in manifests for entry in m.manifest.files]
    return {name: 1 for name in files if name != without}


def chosen(*manifests: StoredManifest, without: str = "") -> dict[int, str]:
    found = current_set(manifests, sizes(*manifests, without=without))
    assert found is not None
    return {shard: archive.manifest_file for shard, archive in found.archives.items()}


def test_no_manifest_is_no_set() -> None:
    assert current_set([], {}) is None


def test_the_newest_manifest_gives_the_meta_file_in_whatever_order_they_come() -> None:
    old, new = stored(1, (1, 0)), stored(2)
    for order in ([old, new], [new, old]):
        found = current_set(order, sizes(old, new))
        assert found is not None
        assert found.meta.file_name == "20261122T095102Z.meta"


def test_among_equal_keys_the_newest_manifest_wins() -> None:
    old, new = stored(1, (1, 0), (2, 0)), stored(2, (1, 0))
    assert chosen(old, new) == {1: new.file_name, 2: old.file_name}


def test_a_greater_key_wins_over_a_newer_manifest_as_in_the_original() -> None:
    old, new = stored(1, (1, 7)), stored(2, (1, 0))
    assert chosen(old, new) == {1: old.file_name}


def test_a_missing_archive_is_listed_and_the_older_one_is_kept() -> None:
    old, new = stored(1, (1, 0)), stored(2, (1, 0))
    gone = new.manifest.files[0].file_name
    found = current_set([old, new], sizes(old, new, without=gone))
    assert found is not None
    assert found.archives[ShardID(1)].manifest_file == old.file_name
    assert [archive.entry.file_name for archive in found.missing] == [gone]


def test_an_old_archive_that_is_missing_and_not_needed_is_no_matter() -> None:
    old, new = stored(1, (1, 0)), stored(2, (1, 0))
    found = current_set([old, new], sizes(old, new, without=old.manifest.files[0].file_name))
    assert found is not None
    assert found.missing == ()


def test_a_single_set_reads_nothing_but_its_manifest() -> None:
    old, new = stored(1, (1, 0), (2, 0)), stored(2, (1, 0))
    found = single_set(new, sizes(old, new))
    assert set(found.archives) == {1}
