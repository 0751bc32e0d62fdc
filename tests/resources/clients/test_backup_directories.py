"""InfluxDB 1.8.0 to 1.8.4 leave directories behind, so their shards are exported."""

from __future__ import annotations

import pytest

from resources.clients.backup_directories import EARLIEST_NS, LATEST_NS, Leftovers, range_of
from resources.model import ShardID

SEVEN = ShardID(7)


def of_release(version: str) -> Leftovers:
    found = Leftovers()
    found.learn(version)
    return found


@pytest.mark.parametrize(
    ("version", "leaves"),
    [
        ("1.8.0", True),
        ("1.8.4", True),
        ("v1.8.3", True),
        ("1.8.3-c1.2.0", True),
        ("1.8.3+dirty\n", True),
        ("1.8.5", False),
        ("1.8.10", False),
        ("1.8.33", False),
        ("1.8.3.1", False),
        ("1.7.11", False),
        ("11.8.3", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_the_releases_that_leave_something_are_known(version: str, leaves: bool) -> None:
    found = of_release(version)
    assert found.expected is leaves
    assert found.exports(SEVEN) is leaves


def test_a_shard_that_cannot_be_exported_is_backed_up_and_what_that_leaves_is_counted() -> None:
    found = of_release("1.8.3")
    assert found.message() == ""
    found.with_deletes.add(SEVEN)
    assert not found.exports(SEVEN)
    assert not found.exports(SEVEN)
    assert found.exports(ShardID(8))
    assert found.left == {SEVEN: 4}
    assert "InfluxDB 1.8.3 leaves directories" in found.message()
    assert "4 in shards 7; its next start removes them" in found.message()


def test_another_release_leaves_nothing_whatever_is_read() -> None:
    found = of_release("1.8.10")
    found.with_deletes.add(SEVEN)
    assert not found.exports(SEVEN)
    assert found.message() == ""


def test_of_many_shards_the_first_ten_are_named() -> None:
    found = of_release("1.8.3")
    found.left = {ShardID(i): 2 for i in range(12, 0, -1)}
    assert "24 in shards 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 …" in found.message()


def test_an_export_is_of_all_time_or_of_none() -> None:
    assert range_of(None) == (EARLIEST_NS, LATEST_NS)
    assert range_of(0) == (EARLIEST_NS, EARLIEST_NS)
