"""When replicas are as noted, which must be asked for their files, and which is read first."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.clients.source import ShardCopy
from resources.engine.backup.replicas import best_first, moved, seen_ns
from resources.repository.formats.owner_facts import OwnerFacts

NOTED = OwnerFacts("a", 100, 500, at_rest=True, seen_ns=50, files="all 1")
OTHER = OwnerFacts("b", 101, 500, at_rest=True, seen_ns=40, files="first 2")
AS_NOTED = ShardCopy("a", 500, 100, is_at_rest=True)
ITS_REPLICA = ShardCopy("b", 500, 101, is_at_rest=True)


def test_replicas_that_are_as_noted_have_not_moved() -> None:
    assert moved((NOTED, OTHER), "a", (AS_NOTED, ITS_REPLICA)) == ()
    assert moved((NOTED, OTHER), "a", (ITS_REPLICA,)) == ()


def test_a_time_alone_is_asked_about() -> None:
    touched, substitute = (
        replace(AS_NOTED, last_modified_ns=200),
        replace(ITS_REPLICA, last_modified_ns=9),
    )
    assert moved((NOTED, OTHER), "a", (touched, substitute)) == (touched, substitute)


@pytest.mark.parametrize(
    "change",
    [
        {"size_bytes": 501},
        {"size_bytes": 499, "last_modified_ns": 100},
        {"last_modified_ns": 200, "is_at_rest": False},
    ],
    ids=["written while the clock was behind", "files put back", "hot, of which little is known"],
)
def test_anything_else_is_a_change(change: dict[str, int | bool]) -> None:
    moved_copy = replace(ITS_REPLICA, **change)  # pyright: ignore[reportArgumentType]
    assert moved((NOTED, OTHER), "a", (AS_NOTED, moved_copy)) is None


def test_a_cache_that_filled_is_asked_about_though_time_and_size_stand_still() -> None:
    hot = replace(AS_NOTED, is_at_rest=False)
    assert moved((NOTED,), "a", (hot,)) == (hot,)


def test_a_replica_of_which_nothing_was_noted_counts_if_it_is_alike_and_at_rest() -> None:
    back = ShardCopy("c", 500, 7, is_at_rest=True)
    assert moved((NOTED,), "a", (AS_NOTED, back)) == ()
    assert moved((NOTED,), "a", (AS_NOTED, replace(back, size_bytes=400))) is None
    assert moved((NOTED,), "a", (AS_NOTED, replace(back, is_at_rest=False))) is None
    assert moved((NOTED,), "a", ()) is None


def test_what_a_backup_moved_is_not_taken_for_a_change_by_others() -> None:
    assert seen_ns(AS_NOTED, (NOTED, OTHER)) == 50
    assert seen_ns(replace(AS_NOTED, last_modified_ns=300), (NOTED, OTHER)) == 300
    assert seen_ns(AS_NOTED, ()) == 100


def test_the_replica_that_others_wrote_last_is_read_first() -> None:
    """A node that was down looks newest once a backup has had its cache written out."""
    assert best_first((ITS_REPLICA, AS_NOTED), (NOTED, OTHER), "") == (AS_NOTED, ITS_REPLICA)
    assert best_first((AS_NOTED, ITS_REPLICA), (NOTED, OTHER), "b") == (ITS_REPLICA, AS_NOTED)
    empty = replace(AS_NOTED, size_bytes=0)
    assert best_first((empty, ITS_REPLICA), (NOTED, OTHER), "") == (ITS_REPLICA, empty)
