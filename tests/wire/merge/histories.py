"""Random lives of a database, backed up, lost, made anew and merged; held against a model.

    python -m tests.wire.merge.histories 200 [seed]

The model knows what a server has acknowledged: each value in a request of its own. Policies change
the duration of their shard groups, so that groups overlap and begin at the same time. Names
and values are nasty, and fields have different types in different groups. After a merge each value
of the backup is in the live shards with its type and bits, or it is lost: then the merge has
counted it and named its measurement, and the shard that takes writes of its time knows the field
with another type, be it only by points that were deleted since: servers remember it. What the
live database had of its own stays.
"""

from __future__ import annotations

import random
import secrets
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resources.clients.snapshotter import SnapshotterClient
from resources.errors import counted, shown
from resources.model import ShardID
from resources.points.series import measurement_of
from resources.protocol.meta import decode_metastore
from resources.tsm.layout import BlockType
from tests.influxd import Influxd, InfluxdFailed
from tests.wire.commands import Done, backup
from tests.wire.merge.scenario import leftovers, merge
from tests.wire.merge.stored import Key, Value, by_shard, typed

DAY_NS = 86_400 * 10**9
MONDAY_NS = 1_641_168_000 * 10**9
DURATIONS = ("1h", "1d", "2d", "7d", "10d", "30d")
POLICIES = ("autogen", "for ever; --")
SERIES = [
    b"m",
    b"m,k=v",
    b"m,k=v,l=w",
    b"m.*[a]$,k=v",
    "häßlich☃,tág=ü".encode(),
    b'we\\ ird\\,"x,ta\\ g=v\\,\\=w',
    b"back\\slash,k=c:\\dir",
    b"'q',k='v'",
    b"t,k=a\\\nb",
    b"\\#c",
    b"select,from=where",
    b"m=n,k=v",
]
FIELDS = [(b"v", b"v"), (b"w", b"w"), (b"a\\ b\\,c\\=", b"a b,c="), (b"k", b"k")]
"""As in line protocol, and as stored."""
VALUES: list[tuple[BlockType, Any]] = [
    *((BlockType.INTEGER, value) for value in (0, 1, 2, 2**53 + 1, -(2**63), 2**63 - 1)),
    *((BlockType.FLOAT, value) for value in (0.0, -0.0, 1.0, 0.1, 5e-324, 1.7e308, 2.0**53)),
    *((BlockType.BOOLEAN, value) for value in (True, False)),
    *((BlockType.STRING, value) for value in (b"", b"1", b"true", b"a\nb", b'q"\\', b"\xff\x00z")),
]
EXTREMES = [-(2**63) + 2, -1, 0, 2**63 - 2]


@dataclass
class Model:
    """What a database should hold."""

    name: str
    points: dict[Key, Value] = field(default_factory=dict[Key, Value])


class History:
    """One life of one database on one server."""

    def __init__(self, server: Influxd, directory: Path, draw: random.Random) -> None:
        self.server = server
        self.directory = directory
        self.draw = draw
        self.live = Model(f"db-{draw.getrandbits(40):x}")
        self.extreme = draw.random() < 0.2
        self.mixed = draw.random() < 0.5
        self.kinds: dict[tuple[bytes, bytes], BlockType] = {}
        self.remembered: dict[tuple[ShardID, bytes, bytes], set[BlockType]] = {}
        """By shard, measurement and field: the types of all points that were ever written."""

    def run(self) -> str:
        """Live, back up, lose, live on, merge; returns what happened, in a line."""
        self.create()
        self.lives(self.draw.randrange(20, 90))
        backup(self.server, self.directory)
        before = dict(self.live.points)
        if self.draw.random() < 0.7:
            self.server.drop_database(self.live.name)
            self.live.points.clear()
            self.remembered.clear()
            self.create()
        self.lives(self.draw.randrange(0, 40))
        own = dict(self.live.points)
        done = merge(self.server, self.directory, "-db", self.live.name, *self.flags())
        output = self.check_all(before, own, done)
        if done.code == 3:
            assert merge(self.server, self.directory, "-abandon")
        else:
            again = merge(self.server, self.directory, "-db", self.live.name)
            assert again, again
            assert " 0 new, 0 replaced" in again.out or not before
        assert leftovers(self.server, self.directory) == []
        self.server.drop_database(self.live.name)
        return output

    def create(self) -> None:
        duration = self.draw.choice(DURATIONS)
        self.server.create_database(
            self.live.name, with_=f'DURATION INF SHARD DURATION {duration} NAME "autogen"'
        )
        duration = self.draw.choice(DURATIONS)
        self.server.query(
            f'CREATE RETENTION POLICY "{POLICIES[1]}" ON "{self.live.name}" DURATION INF '
            f"REPLICATION 1 SHARD DURATION {duration}"
        )

    def lives(self, steps: int) -> None:
        for _ in range(steps):
            what = self.draw.random()
            if what < 0.88:
                self.write()
            elif what < 0.95:
                policy, duration = self.draw.choice(POLICIES), self.draw.choice(DURATIONS)
                self.server.query(
                    f'ALTER RETENTION POLICY "{policy}" ON "{self.live.name}" '
                    f"SHARD DURATION {duration}"
                )
            else:
                self.delete()

    def write(self) -> None:
        series = self.draw.choice(SERIES)
        name, as_stored = self.draw.choice(FIELDS)
        kind, value = self.draw.choice(VALUES)
        if not self.mixed:
            wanted = self.kinds.setdefault((series, name), kind)
            kind, value = self.draw.choice([each for each in VALUES if each[0] is wanted])
        policy, time = self.draw.choice(POLICIES), self.time()
        line = b"%s %s=%s %d" % (series, name, _text(kind, value), time)
        if not self.is_taken(line, policy):
            return
        key = series + b"#!~#" + as_stored
        self.live.points[policy, key, time] = typed(kind, value)
        for shard_id in self.shards_for(policy, time):
            known = self.remembered.setdefault((shard_id, *_field_of(key)), set())
            known.add(kind)

    def is_taken(self, line: bytes, policy: str) -> bool:
        """Whether the server takes a line; it may be written twice, if the server is slow."""
        for _ in range(5):
            try:
                self.server.write(self.live.name, line, rp=policy)
            except InfluxdFailed as refused:
                if "field type conflict" in str(refused):
                    return False
                if '"timeout"' not in str(refused):
                    raise
            else:
                return True
        raise InfluxdFailed("the server is too slow")

    def delete(self) -> None:
        low = MONDAY_NS + self.draw.randrange(-10, 20) * DAY_NS
        high = low + self.draw.randrange(1, 5) * DAY_NS
        self.server.query(
            f'DELETE FROM "m" WHERE time >= {low} AND time < {high}', db=self.live.name
        )
        for key in list(self.live.points):
            if low <= key[2] < high and key[1].startswith((b"m,", b"m#")):
                del self.live.points[key]

    def time(self) -> int:
        if self.extreme and self.draw.random() < 0.1:
            return self.draw.choice(EXTREMES)
        return MONDAY_NS + self.draw.randrange(-10, 20) * DAY_NS + self.draw.choice((-1, 0, 1))

    def flags(self) -> list[object]:
        return ["-points", self.draw.choice((1, 7, 200_000))]

    def shards_for(self, policy: str, time: int) -> tuple[ShardID, ...]:
        """The shard that takes writes of a time: that of the first group of the list.

        Nothing for a time whose group has bounds beyond 64 bits.
        """
        raw = SnapshotterClient(self.server.bind_addr).metastore()
        database = decode_metastore(raw).database(self.live.name)
        found = None if database is None else database.retention_policy(policy)
        assert found is not None
        for group in found.shard_groups:
            if group.deleted_at_ns is None and group.start_time_ns <= time < group.end_time_ns:
                return tuple(shard.id for shard in group.shards)
        return ()

    def check_all(self, before: dict[Key, Value], own: dict[Key, Value], done: Done) -> str:
        assert done.code in (0, 3), done
        there = by_shard(self.server.bind_addr, self.live.name)
        values: dict[Key, set[Value]] = {}
        for shard in there.values():
            for key, value in shard.items():
                values.setdefault(key, set()).add(value)
        lost = [key for key, value in before.items() if value not in values.get(key, ())]
        assert bool(lost) == bool(done.code), (lost, done)
        self.check_lost(lost, before, there, done)
        changed = [k for k, v in own.items() if k not in before and v not in values.get(k, ())]
        assert not changed, changed
        assert not values.keys() - before.keys() - own.keys()
        return f"{len(before)} points, {len(own)} live, {len(lost)} lost for their type"

    def check_lost(
        self,
        lost: list[Key],
        before: dict[Key, Value],
        there: dict[ShardID, dict[Key, Value]],
        done: Done,
    ) -> None:
        """Exactly the lost points were refused, each for a type that its shard knows."""
        if lost:
            how_many = counted(len(lost), "value was", "values were")
            assert f"{how_many} not merged" in done.err, (lost, done)
        events = [line for line in done.err.splitlines() if "field type conflict" in line]
        names = {shown(_field_of(key)[0].decode(errors="replace")) for _, key, _ in lost}
        for name in {shown(_field_of(s)[0].decode(errors="replace")) for s in SERIES}:
            named = any(f"warning: {name}: " in line for line in events)
            assert named == (name in names), (name, lost, done)
        types: dict[tuple[ShardID, bytes, bytes], set[BlockType]] = {}
        for shard_id, found in there.items():
            for (_, key, _), (kind, _) in found.items():
                types.setdefault((shard_id, *_field_of(key)), set()).add(kind)
        for policy, key, time in lost:
            kind, _ = before[policy, key, time]
            for shard_id in self.shards_for(policy, time):
                place = shard_id, *_field_of(key)
                stored, remembered = types.get(place, set()), self.remembered.get(place, set())
                assert kind not in stored, ("it takes this type", policy, key, time, done)
                assert (stored | remembered) - {kind}, ("no other type", policy, key, time, done)


def _field_of(key: bytes) -> tuple[bytes, bytes]:
    """Measurement and field of a TSM key."""
    return measurement_of(key), key.partition(b"#!~#")[2]


def _text(kind: BlockType, value: Any) -> bytes:
    match kind:
        case BlockType.STRING:
            return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        case BlockType.INTEGER:
            return b"%di" % value
        case BlockType.BOOLEAN:
            return b"true" if value else b"false"
        case _:
            return repr(value).encode()


def histories(n: int, *, seed: int, server: Influxd, directory: Path) -> Iterator[str]:
    """Live `n` lives, one after the other; the same seed lives the same."""
    for index in range(n):
        place = directory / f"{index}"
        place.mkdir(mode=0o700)
        try:
            yield History(server, place, random.Random(f"{seed} {index}")).run()
        except AssertionError as failure:
            failure.add_note(f"history {index} of seed {seed}")
            raise


def main() -> int:
    """Print what happens, and the seed."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(32)
    sys.stdout.write(f"seed {seed}\n")
    with (
        tempfile.TemporaryDirectory(prefix="shardkeeper-histories-") as directory,
        Influxd(Path(directory) / "influxd") as server,
    ):
        for index, line in enumerate(
            histories(n, seed=seed, server=server, directory=Path(directory))
        ):
            sys.stdout.write(f"{index}: {line}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
