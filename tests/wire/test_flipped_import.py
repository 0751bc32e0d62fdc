"""A bit that flips in metadata on its way to a target becomes no other database or policy there."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.influxd import Influxd
from tests.proxy import Flip, Proxy, imports
from tests.wire.commands import at, backup, shardkeeper
from tests.wire.points import databases, points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
POLICIES = (
    'CREATE RETENTION POLICY "long" ON "{}" DURATION 1000w REPLICATION 1 SHARD DURATION 3d',
    'CREATE RETENTION POLICY "short" ON "{}" DURATION 9000w REPLICATION 2 DEFAULT',
)


@pytest.fixture(scope="module")
def saved(source: Influxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A database of three policies, and a backup of it."""
    db = f"db-{secrets.token_hex(5)}"
    source.create_database(db)
    for policy in POLICIES:
        source.query(policy.format(db))
    source.write(db, [f"m v=1 {T0}"])
    source.write(db, [f"m v=2 {T0}"], rp="long")
    directory = tmp_path_factory.mktemp("backups")
    backup(source, directory, "-db", db)
    yield db, directory
    source.drop_database(db)


def policies(server: Influxd, db: str) -> list[list[object]]:
    return sorted(server.rows(f'SHOW RETENTION POLICIES ON "{db}"'), key=str)


@pytest.mark.parametrize("part", range(4))
def test_what_the_target_made_is_held_against_what_was_sent(
    part: int,
    source: Influxd,
    target: Influxd,
    saved: tuple[str, Path],
    fresh: Callable[[], str],
) -> None:
    db, directory = saved
    dice = Random(part)
    expected = policies(source, db), points(source, db)
    with Proxy(target.bind_addr) as proxy:
        flags = (*at(target, tcp=proxy.address), "-timeout", "2s")
        for _ in range(8):
            name, before = fresh(), databases(target)
            place = 60 + dice.randrange(400)
            flip = Flip(place, mask=1 << dice.randrange(8), direction="to server")
            proxy.break_next(flip, chosen=imports)
            done = shardkeeper(*flags, "restore", "-db", db, "-newdb", name, directory)
            appeared = databases(target) - before
            if done.code == 0:
                assert appeared == {name}, flip
                assert (policies(target, name), points(target, name)) == expected, flip
            else:
                assert all(f'DROP DATABASE "{left}"' in done.err for left in appeared), (flip, done)
            for left in appeared:
                target.drop_database(left)
