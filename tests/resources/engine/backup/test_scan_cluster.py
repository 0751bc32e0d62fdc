"""Which shards of a cluster have changed, by what its nodes report of their replicas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from resources.clients.source import BackupSource, ReplicaInventory, ShardCopy, SourceFacts
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.observed import SourceState
from resources.engine.backup.replica_files import files_of
from resources.engine.backup.scan_cluster import scan_cluster
from resources.engine.events import Event
from resources.engine.options import BackupOptions
from resources.errors import PeerUnreachable, ShardkeeperError
from resources.model import ShardID, ShardPlace
from resources.repository.backup_set import Archive
from resources.repository.formats.owner_facts import OwnerFacts
from resources.repository.known_archives import KnownArchives
from resources.repository.repository import BackupRepository
from tests import builders as b
from tests.resources.engine.backup.streams import SendingSource, tar

PEEK = BackupOptions(peek=True)
ONE = ShardID(1)
FIRST, SECOND = "data-4:8088", "data-5:8088"
FILES = tar({"000000001-000000001.tsm": b"points"})
SAME_FILES = files_of(cast("BackupSource", SendingSource(FILES)), FIRST, ONE)
HERE = (b.copy(FIRST), b.copy(SECOND))
NOTED = tuple(OwnerFacts(node, 100, 500, True, 90, SAME_FILES) for node in (FIRST, SECOND))


def archive(owners: Sequence[OwnerFacts] = NOTED, **changed: Any) -> Archive:
    made = b.details(b.file(1, 500), stored_bytes=3, node=FIRST, modified_ns=100)
    return b.archive(1, replace(made, owners=tuple(owners), **changed))


class Scan:
    """A scan of one shard, which nodes 4 and 5 own."""

    def __init__(
        self,
        directory: Path,
        previous: Archive | None,
        copies: Sequence[ShardCopy] = HERE,
        *,
        is_there: bool = True,
        options: BackupOptions = PEEK,
        place: ShardPlace | None = None,
        silent: Sequence[str] = (),
        broken: Mapping[str, str] | None = None,
        reply: bytes | ShardkeeperError = FILES,
    ) -> None:
        place = place or b.place(1, 4, 5)
        if previous is not None and is_there:
            (directory / previous.entry.file_name).write_bytes(b"abc")
        backups = None if previous is None else b.backup_set(previous)
        known = KnownArchives(BackupRepository.open(directory), backups)
        group = replace(place.group, shards=(place.shard,))
        policy = b.policy(place.policy, group)
        metastore = b.metastore(b.database(place.database, policy), nodes=[4, 5])
        nodes = {node.id: node.tcp_addr for node in metastore.data_nodes}
        assert list(nodes.values()) == [FIRST, SECOND]
        inventory = ReplicaInventory(
            {ONE: tuple(copies)} if copies else {},
            {node: PeerUnreachable(f"{node}: refused", hint="start it") for node in silent},
            {ONE: broken} if broken else {},
        )
        self.source = SendingSource(reply)
        self.events: list[Event] = []
        self.states, self.absent, _ = scan_cluster(
            cast("BackupSource", self.source),
            SourceState(metastore, inventory, SourceFacts(), None, None),
            [place],
            known,
            options,
            emit=self.events.append,
        )

    @property
    def state(self) -> ShardState:
        [state] = self.states
        return state

    @property
    def warnings(self) -> str:
        return "\n".join(map(str, self.events))


def reason(*args: Any, **kwargs: Any) -> str:
    return Scan(*args, **kwargs).state.reason


def test_a_shard_is_unchanged_if_every_owner_reports_what_was_noted(tmp_path: Path) -> None:
    found = Scan(tmp_path, archive())
    assert (found.state.reason, found.state.gaps, found.state.owners) == ("unchanged", "", NOTED)
    assert found.state.modified_ns == 100
    assert found.source.asked == []
    assert found.events == []


@pytest.mark.parametrize(
    "copies",
    [
        (b.copy(FIRST, 501), b.copy(SECOND)),
        (b.copy(FIRST), b.copy(SECOND, 499)),
        (b.copy(FIRST, 501, 101), b.copy(SECOND)),
    ],
)
def test_another_size_is_a_change_without_a_request(
    tmp_path: Path, copies: Sequence[ShardCopy]
) -> None:
    found = Scan(tmp_path, archive(), copies)
    assert (found.state.reason, found.source.asked) == ("changed", [])
    assert found.state.news == f"modified-{max(copy.last_modified_ns or 0 for copy in copies)}"


MOVED = (b.copy(FIRST), b.copy(SECOND, 500, 101))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (FILES, "unchanged"),
        (tar({"000000001-000000001.tsm": b"other!"}), "changed"),
        (FILES[:700], "changed"),
        (PeerUnreachable("away"), "changed"),  # the download reports it
    ],
)
def test_where_only_the_time_moved_the_files_decide(
    tmp_path: Path, reply: bytes | ShardkeeperError, expected: str
) -> None:
    found = Scan(tmp_path, archive(), MOVED, reply=reply)
    assert found.state.reason == expected
    assert [one.node for one in found.source.asked] == [SECOND]
    if expected == "unchanged":
        assert found.state.owners == NOTED


def test_files_are_not_requested_of_replicas_that_were_never_compared(tmp_path: Path) -> None:
    other = (NOTED[0], replace(NOTED[1], size_bytes=400))
    copies = (b.copy(FIRST), b.copy(SECOND, 400, 101))
    found = Scan(tmp_path, archive(other), copies)
    assert (found.state.reason, found.source.asked) == ("changed", [])


@pytest.mark.parametrize(
    ("holds", "expected", "gap"),
    [("", "copies differ", False), ("same", "unchanged", False), ("other", "unchanged", True)],
)
def test_replicas_of_different_sizes_are_compared_once(
    tmp_path: Path, holds: Any, expected: str, gap: bool
) -> None:
    noted = (NOTED[0], replace(NOTED[1], size_bytes=400, holds=holds))
    state = Scan(tmp_path, archive(noted), (b.copy(FIRST), b.copy(SECOND, 400))).state
    assert (state.reason, SECOND in state.gaps) == (expected, gap)


def test_what_would_prove_it_unchanged_must_be_there(tmp_path: Path) -> None:
    assert reason(tmp_path, None) == "new"
    assert reason(tmp_path, archive(), options=replace(PEEK, full=True)) == "full"
    assert reason(tmp_path, archive(modified_ns=None)) == "no evidence"
    assert reason(tmp_path, b.archive(1)) == "no evidence"  # made by the original tool
    assert reason(tmp_path, archive(stored_bytes=4)) == "archive missing"


@pytest.mark.parametrize(
    ("modified_ns", "sizes", "expected"),
    [
        (100, (500, 500), "unchanged"),
        (101, (500, 500), "changed"),
        (99, (500, 500), "changed"),
        (100, (501, 501), "changed"),
        (100, (500, 400), "copies differ"),
    ],
)
def test_an_archive_of_an_earlier_version_has_one_time_and_a_size(
    tmp_path: Path, modified_ns: int, sizes: tuple[int, int], expected: str
) -> None:
    copies = [b.copy(n, s, modified_ns) for n, s in zip((FIRST, SECOND), sizes, strict=True)]
    assert reason(tmp_path, archive([]), copies) == expected
    assert reason(tmp_path, archive([]), copies[1:]) == "changed"  # the node it came from is away


@pytest.mark.parametrize(
    ("modified_ns", "expected"), [(100, "unchanged"), (110, "unchanged"), (111, "changed")]
)
def test_changes_within_the_threshold_are_left_and_named(
    tmp_path: Path, modified_ns: int, expected: str
) -> None:
    copies = (b.copy(FIRST, 600, modified_ns), b.copy(SECOND, 600, modified_ns))
    if modified_ns == 100:
        copies = HERE
    found = Scan(tmp_path, archive(), copies, options=replace(PEEK, staleness_ns=10))
    assert found.state.reason == expected
    assert ("not copied: shards 1" in found.warnings) == (modified_ns == 110)


# --- nodes that do not answer, and shards that no node has ----------------------------------------


def test_a_shard_whose_owners_are_silent_cannot_be_read(tmp_path: Path) -> None:
    found = Scan(tmp_path, None, (), silent=[SECOND])
    assert found.state.trouble == f"no node that answers has it, and {SECOND} may"
    assert f"data node {SECOND} does not answer: {SECOND}: refused (start it)" in found.warnings


def test_a_shard_that_its_owner_cannot_read_says_why(tmp_path: Path) -> None:
    state = Scan(tmp_path, None, (), broken={FIRST: "its index is cut"}).state
    assert state.trouble == f"{FIRST} has it and cannot read it: its index is cut"


def test_a_shard_that_one_owner_has_can_be_read(tmp_path: Path) -> None:
    found = Scan(tmp_path, None, HERE[:1])
    assert (found.state.trouble, found.state.copies) == ("", HERE[:1])
    assert f"{SECOND} owns it and has nothing of it, {FIRST} has it" in found.warnings


@pytest.mark.parametrize("beside", [{"silent": [SECOND]}, {"broken": {SECOND: "cut"}}])
def test_an_owner_that_is_silent_or_cannot_read_it_is_no_missing_replica(
    tmp_path: Path, beside: dict[str, Any]
) -> None:
    found = Scan(tmp_path, None, HERE[:1], **beside)
    assert "has nothing of it" not in found.warnings


def test_a_replica_on_a_node_that_is_no_owner_is_not_read(tmp_path: Path) -> None:
    found = Scan(tmp_path, None, HERE, place=b.place(1, 4))
    assert found.state.copies == HERE[:1]


def test_a_lost_shard_is_a_gap_while_its_archive_is_whole(tmp_path: Path) -> None:
    state = Scan(tmp_path, archive(), ()).state
    assert (state.reason, state.trouble) == ("unchanged", "")
    assert state.gaps.startswith("no node has it any more")


def test_a_lost_shard_without_its_archive_is_a_trouble(tmp_path: Path) -> None:
    state = Scan(tmp_path, archive(), (), is_there=False).state
    assert (state.reason, state.gaps) == ("archive missing", "")
    assert state.trouble.startswith("no node has it any more")


def test_a_shard_of_the_future_is_planned_and_an_older_one_unknown(tmp_path: Path) -> None:
    future = b.place(1, 4, 5, start_ns=9_000_000_000 * 10**9)
    planned = Scan(tmp_path, None, (), place=future)
    assert (planned.states, planned.absent, planned.events) == ([], [future], [])
    unknown = Scan(tmp_path, None, ())
    assert (unknown.states, unknown.absent) == ([], [b.place(1, 4, 5)])
    assert "1 shard is in the metastore and on no node: 1" in unknown.warnings
    internal = Scan(tmp_path, None, (), place=b.place(1, 4, 5, database="_internal"))
    assert internal.events == []


def test_the_preferred_node_is_read(tmp_path: Path) -> None:
    assert Scan(tmp_path, None).state.copies[0].node == FIRST
    preferred = replace(PEEK, prefer=SECOND)
    assert Scan(tmp_path, None, options=preferred).state.copies[0].node == SECOND
