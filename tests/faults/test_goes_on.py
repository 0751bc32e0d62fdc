"""A restore that was killed goes on where it was; nothing is passed over on a record's word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resources.model import ShardID
from resources.runtime.failpoints import VARIABLE
from tests.faults.places import SHARDS, Place
from tests.processes import ForkServer
from tests.proxy import Proxy, uploads
from tests.wire.commands import Done, shardkeeper
from tests.wire.points import databases, points

pytestmark = pytest.mark.fault(63)

KILLED = -9
GOES_ON = "a run of this restore was killed; this run continues it"
ANEW = "removed first"

Record = dict[str, Any]


@pytest.fixture(params=["server", "real", "cluster"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each kind of target; `real` is left out where no influxd is installed."""
    found: Place = request.getfixturevalue(request.param)
    if found.cluster is not None:
        for node in found.cluster.meta:
            node.leases.forget()  # else the last test's directory would be waited for
    return found


class Restore:
    """One restore under a new name, as often as it is started."""

    def __init__(self, place: Place, fork_server: ForkServer) -> None:
        self.place, self._fork_server = place, fork_server
        self.expectation = place.expectation()
        self.expectation.back_up()
        self.name = f"copy-of-{self.expectation.database}"
        self.server = place.source if place.cluster else place.target

    @property
    def flags(self) -> tuple[object, ...]:
        place = self.place
        to = place.source_flags if place.cluster else place.target_flags
        return ("restore", *to, "-parallel", 1, "-db", self.expectation.database)

    def killed(self, where: str, *flags: object) -> None:
        done = self._fork_server.start(
            *self.flags,
            "-newdb",
            self.name,
            *flags,
            self.expectation.backups,
            env={VARIABLE: where},
        ).wait()
        assert done.code == KILLED, done

    def again(self, *flags: object, name: str = "") -> Done:
        done = shardkeeper(
            *self.flags, "-newdb", name or self.name, *flags, self.expectation.backups
        )
        assert done, done
        return done

    @property
    def copies(self) -> int:
        return 2 if self.place.cluster else 1

    @property
    def last_upload(self) -> str:
        """Where a run dies that has all copies but one, which is not read back yet."""
        return f"restore.uploaded:{self.copies * SHARDS}"

    @property
    def noted(self) -> dict[str, Any]:
        """The shards that are proved, as the record says."""
        record = json.loads(self.record.read_bytes())
        return record["filled" if self.place.cluster else "proved"]

    @property
    def record(self) -> Path:
        [path] = self.expectation.backups.glob(".shardkeeper.*restore-*.json")
        return path

    def change(self, change: Callable[[Record], None]) -> None:
        record = json.loads(self.record.read_bytes())
        change(record)
        self.record.write_text(json.dumps(record))

    def require_restored(self, name: str = "") -> None:
        assert points(self.server, name or self.name) == self.expectation.now()
        assert not list(self.expectation.backups.glob(".shardkeeper.*restore-*"))
        self.server.drop_database(name or self.name)


@pytest.fixture
def restore(place: Place, fork_server: ForkServer) -> Restore:
    return Restore(place, fork_server)


def test_what_is_proved_and_noted_is_not_read_again(restore: Restore) -> None:
    """The last shard was under way; of those before some are noted, as the record says."""
    restore.killed(restore.last_upload)
    noted = len(restore.noted)
    assert noted
    done = restore.again()
    assert f"{GOES_ON}: {noted} of {SHARDS} shards on the target" in done.err
    restore.require_restored()


def test_only_what_is_left_goes_over_the_wire(real: Place, fork_server: ForkServer) -> None:
    restore = Restore(real, fork_server)
    restore.killed(restore.last_upload)
    with Proxy(real.target.bind_addr) as proxy:
        restore.again("-host", proxy.address)
        sent = [head for head in proxy.heads if uploads(head)]
    assert len(sent) <= 1
    restore.require_restored()


def test_nothing_is_passed_over_on_the_records_word(restore: Restore) -> None:
    """It says that all is there; nothing is."""
    where = "restore.after-metadata" if not restore.place.cluster else "cluster.shards-created"
    restore.killed(where)

    def lie(record: Record) -> None:
        started = record.get("server_started_ns")
        if started is not None:
            [database] = record["databases"].values()
            record["proved"] = dict.fromkeys(database["shards"], started)
        else:
            record["filled"] = record["copies"]

    restore.change(lie)
    done = restore.again()
    assert f"{GOES_ON}: 0 of {SHARDS}" in done.err
    restore.require_restored()


def test_another_state_is_not_mixed_up_with_it(restore: Restore) -> None:
    restore.killed("restore.uploaded:2")
    restore.place.write(restore.expectation)
    restore.expectation.back_up()
    done = restore.again()
    assert ANEW in done.err
    assert GOES_ON not in done.err
    restore.require_restored()


@pytest.mark.parametrize("flags", [("-newduration", "5000d"), ("-keep-tombstoned",)])
def test_another_outcome_is_not_mixed_up_with_it(restore: Restore, flags: tuple[str, ...]) -> None:
    restore.killed("restore.uploaded:2")
    done = restore.again(*flags)
    assert ANEW in done.err
    restore.require_restored()


def test_another_name_is_not_mixed_up_with_it(restore: Restore) -> None:
    restore.killed("restore.uploaded:2")
    done = restore.again(name="other")
    assert ANEW in done.err
    assert restore.name not in databases(restore.server)
    restore.require_restored("other")


def test_a_database_that_somebody_changed_is_not_gone_on_with(restore: Restore) -> None:
    """Its policy is no more the one that was sent: then it is not what this restore makes."""
    restore.killed("restore.uploaded:2")
    restore.server.query(f'ALTER RETENTION POLICY autogen ON "{restore.name}" DURATION 7000d')
    done = shardkeeper(*restore.flags, "-newdb", restore.name, restore.expectation.backups)
    assert GOES_ON not in done.err
    if restore.place.cluster:  # another client's change stays
        assert done.code == 14, done
        assert "another client has changed its retention policies" in done.err
        restore.server.drop_database(restore.name)
        restore.again()
    restore.require_restored()


def test_a_server_that_was_started_since_has_counted_nothing(
    real: Place, fork_server: ForkServer
) -> None:
    """So every shard is read, and none is sent that is there."""
    restore = Restore(real, fork_server)
    restore.killed(f"restore.read-back:{SHARDS - 1}")
    real.target.restart()
    with Proxy(real.target.bind_addr) as proxy:
        done = restore.again("-host", proxy.address)
        sent = [head for head in proxy.heads if uploads(head)]
    assert f"{GOES_ON}: 0 of {SHARDS}" in done.err
    assert len(sent) <= 1
    restore.require_restored()


def test_a_copy_that_a_node_lost_is_made_anew(cluster: Place, fork_server: ForkServer) -> None:
    restore = Restore(cluster, fork_server)
    assert cluster.cluster is not None
    for node in cluster.cluster.meta:
        node.leases.forget()
    restore.killed(restore.last_upload)
    filled = restore.noted
    node = cluster.cluster.data[0]
    lost = next(int(shard) for shard, nodes in filled.items() if node.tcp_addr in nodes)
    node.store.remove(ShardID(lost))
    done = restore.again()
    assert f"{GOES_ON}: {len(filled) - 1} of {SHARDS}" in done.err
    restore.require_restored()


def test_a_restore_that_is_killed_again_and_again_comes_to_its_end(restore: Restore) -> None:
    for _ in range(SHARDS):
        restore.killed(f"restore.read-back:{restore.copies}")  # each life does one shard
    restore.again()
    restore.require_restored()
