"""What a manifest says of an archive, and which of a shard's archives it orders last."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.completeness import Sample, Written
from resources.engine.backup.copy_shard import ShardReading, proof_of, shard_entry
from resources.model import ShardID
from resources.repository.archives.archive import ArchiveFacts, StoredArchive
from resources.repository.backup_set import StoredManifest, current_set
from resources.repository.formats.manifest import ShardEntry
from resources.repository.formats.proof import Proof
from tests import builders as b

SAMPLE = Sample(7, b.stats())
PLACE = b.place(7, database="home", policy="week", start_ns=b.DAY_NS)


def made(
    previous_key: int | None = None,
    modified_ns: int | None = None,
    floor_ns: int = 0,
    written: Written | None = None,
) -> ShardEntry:
    previous = None if previous_key is None else b.archive(7, modified_ns=previous_key)
    facts = ArchiveFacts(2048, "b" * 64, "full", (b.file(1),), 1, 10, 3, 4, tombstones=0)
    return shard_entry(
        ShardState(PLACE, "changed", previous, modified_ns=modified_ns),
        StoredArchive(facts, "a" * 64, 99, read_twice=True),
        ShardReading("h:8088", b.clocks(), written, seconds=1.5),
        file_name=f"{b.stamp(9)}.s7.tar.gz",
        floor_ns=floor_ns,
    )


def test_an_entry_names_the_place_the_node_and_the_time_range_of_the_shard() -> None:
    entry = made()
    assert (entry.database, entry.policy, entry.shard_id) == ("home", "week", ShardID(7))
    details = entry.details
    assert details is not None
    assert (details.node, details.stored_bytes, details.read_twice) == ("h:8088", 99, True)
    assert (details.group_start_ns, details.group_end_ns) == (b.DAY_NS, 2 * b.DAY_NS)
    assert details.read_at_ns == b.clocks().server_ns
    assert details.seconds == 1.5


@pytest.mark.parametrize(
    ("written", "complete", "proof"),
    [
        (None, "unknown", None),
        (Written(SAMPLE, at_rest=True), "proven", b.proof()),
        (Written(SAMPLE, at_rest=False), "proven", None),
        (Written(Sample(7, b.stats(cache=b.cache(memory_bytes=1))), at_rest=True), "proven", None),
    ],
)
def test_an_archive_is_complete_if_its_server_wrote_all_and_has_a_proof_if_it_was_at_rest(
    written: Written | None, complete: str, proof: Proof | None
) -> None:
    details = made(written=written).details
    assert details is not None
    assert (details.complete, details.proof) == (complete, proof)


def test_nothing_is_proven_of_a_server_without_a_clock() -> None:
    assert proof_of(None, Written(SAMPLE, at_rest=True)) is None
    assert proof_of(b.clocks(), Written(SAMPLE, at_rest=True)) == b.proof()


@pytest.mark.parametrize(
    ("previous", "modified", "floor", "key"),
    [
        (None, None, 0, 0),  # a server's shards all have 0, as the original writes them
        (0, None, 0, 0),
        (None, 500, 0, 500),
        (300, 500, 0, 500),
        (500, 500, 0, 501),
        (900, 500, 0, 901),  # a node's clock was set back
        (900, None, 0, 901),
        (None, None, 400, 401),  # an archive of that number in an earlier era
        (None, 500, 400, 500),
        (0, None, 400, 0),  # it was copied in this era already
    ],
)
def test_the_ordering_key_is_the_time_of_change_and_exceeds_that_of_the_archive_before(
    previous: int | None, modified: int | None, floor: int, key: int
) -> None:
    assert made(previous, modified, floor).last_modified_ns == key


@settings(max_examples=20)
@given(st.lists(st.none() | st.integers(0, 50), min_size=1, max_size=8))
def test_of_archives_made_one_after_the_other_every_reader_takes_the_last(
    changes: list[int | None],
) -> None:
    manifests: list[StoredManifest] = []
    key: int | None = None
    for second, modified_ns in enumerate(changes):
        key = made(key, modified_ns).last_modified_ns
        manifests.append(b.stored(b.entry(7, second=second, modified_ns=key), second=second))
    names = {m.manifest.files[0].file_name: 1 for m in manifests}
    found = current_set(manifests, names)
    assert found is not None
    assert found.archives[ShardID(7)].manifest_file == manifests[-1].file_name
