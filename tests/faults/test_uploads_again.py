"""An upload whose end says nothing is decided by reading back; no wait is without an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from resources.clients.snapshotter import SnapshotterClient
from resources.engine.options import Retry
from resources.engine.restore import upload
from resources.errors import PeerClosedEarly
from resources.model import ShardID
from tests.faults.places import SHARDS, Place
from tests.faults.shards import shards_of, stream_of
from tests.faults.test_lost_places import lease_is_over, lock_of_restore, stopped, woken
from tests.processes import ForkServer
from tests.proxy import Act, Cut, Fault, Proxy, Reset, uploads
from tests.wire.commands import Done, shardkeeper
from tests.wire.points import databases, points

pytestmark = pytest.mark.fault(64)

LOST = 11
HELD = "is neither handed out nor taken in"
AT_THE_END = 1 << 20
"""No archive here is so long: where the stream ends."""


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once, and small archives are soon in their place."""
    monkeypatch.setattr(Retry, "pause_s", lambda self, attempt: 0.01)
    monkeypatch.setattr(upload, "SETTLES_S", 1.0)


def hold(server: str, shard: ShardID, stack: ExitStack) -> None:
    """Have an upload begin and not end, so that the server keeps the shard to itself."""
    client = SnapshotterClient(server)
    stack.enter_context(client.upload(shard)).sendall(b"a tar archive, so far")
    until_held(client, shard)


def until_held(client: SnapshotterClient, *shards: ShardID) -> None:
    """Until the server keeps one of these to itself."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for shard in shards:
            try:
                with client.open_shard(shard) as stream:
                    stream.recv_into(memoryview(bytearray(4096)))
            except PeerClosedEarly:
                return
        time.sleep(0.01)
    raise AssertionError(f"none of {shards} is held")


def shard_in(head: bytes) -> ShardID:
    return ShardID(int.from_bytes(head[2:10], "big"))


def restored(server: Place, proxy: Proxy) -> tuple[str, Callable[[], Done]]:
    """A new name, and a restore of a new database under it through a proxy, when it is called."""
    expectation = server.expectation()
    expectation.back_up()
    name = f"copy-of-{expectation.database}"
    flags = (*server.target_flags, "-host", proxy.address, "-db", expectation.database)

    def run() -> Done:
        done = shardkeeper("restore", *flags, "-newdb", name, expectation.backups)
        if done:
            assert points(server.target, name) == expectation.now()
        return done

    return name, run


@pytest.mark.parametrize(
    "fault", [Reset(AT_THE_END, or_end=True), Cut(0), Reset(10, "to server")], ids=str
)
def test_what_arrived_all_the_same_is_not_sent_again(server: Place, fault: Fault) -> None:
    with Proxy(server.target.bind_addr) as proxy:
        name, run = restored(server, proxy)
        proxy.break_next(fault, chosen=uploads)
        done = run()
        sent = sum(uploads(head) for head in proxy.heads)
    assert done, done
    if fault == Reset(AT_THE_END, or_end=True):
        assert "attempt 2 starts" in done.err
        assert sent == SHARDS
    server.target.drop_database(name)


def test_a_shard_that_is_never_handed_out_again_ends_the_restore_soon(server: Place) -> None:
    """Another connection has it open; it is waited for once, and not in each attempt."""
    with Proxy(server.target.bind_addr) as proxy, ExitStack() as stack:
        name, run = restored(server, proxy)
        met = list[ShardID]()

        def first(head: bytes) -> bool:
            if not uploads(head) or met:
                return False
            met.append(shard_in(head))
            return True

        act = Act(0, lambda: hold(server.target.bind_addr, met[0], stack), "to server")
        proxy.break_next(act, chosen=first)
        began = time.monotonic()
        done = run()
        assert time.monotonic() - began < 60
    assert done.code == 1, done
    assert f"shard {met[0]} on {proxy.address} {HELD}" in done.err
    assert "rolled back: dropped" in done.err
    assert name not in databases(server.target)
    again = run_directly(server, name)
    assert again, again


def run_directly(server: Place, name: str) -> Done:
    database = name.removeprefix("copy-of-")
    backups = server.directory / f"backups-{database}"
    to = (*server.target_flags, "-db", database, "-newdb", name)
    done = shardkeeper("restore", *to, backups)
    server.target.drop_database(name)
    return done


@pytest.mark.fault(37, 63)
def test_a_shard_that_a_sleeper_sends_to_has_all_begin_anew(
    server: Place, fork_server: ForkServer
) -> None:
    """The server holds it as long as the sleeper's connection lives."""
    expectation, target = server.expectation(), server.target
    expectation.back_up()
    before, name = databases(target), f"copy-of-{expectation.database}"
    to = (*server.target_flags, "-db", expectation.database, "-newdb", name)
    flags = ("restore", *to, expectation.backups)
    sleeper = stopped(fork_server, "restore.mid-upload", *flags[:-1], "-parallel", 1, flags[-1])
    until_held(SnapshotterClient(target.bind_addr), *map(ShardID, shards_of(target, name)))
    lease_is_over(expectation.backups, lock_of_restore(expectation.backups))
    heir = shardkeeper(*flags)
    assert heir, heir
    assert HELD in heir.err
    assert "all begins anew" in heir.err
    assert woken(sleeper).code == LOST
    assert points(target, name) == expectation.now()
    assert databases(target) - before == {name}
    assert not list(expectation.backups.glob(".shardkeeper*"))
    target.drop_database(name)


@pytest.mark.wire
@pytest.mark.fault(37, 63)
def test_a_server_that_says_nothing_of_a_shard_that_a_sleeper_sends_to_is_not_to_blame(
    real: Place, fork_server: ForkServer
) -> None:
    """It says nothing of itself either meanwhile, so that nothing can begin anew."""
    expectation, target = real.expectation(), real.target
    expectation.back_up()
    name = f"copy-of-{expectation.database}"
    to = (*real.target_flags, "-timeout", "500ms", "-db", expectation.database, "-newdb", name)
    flags = ("restore", *to, expectation.backups)
    sleeper = stopped(fork_server, "restore.mid-upload", *flags[:-1], "-parallel", 1, flags[-1])
    lease_is_over(expectation.backups, lock_of_restore(expectation.backups))
    heir = shardkeeper(*flags)
    assert heir.code == 1, heir
    assert HELD in heir.err.partition("exited with error")[2], heir
    assert "end the run that was stopped" in heir.err
    assert f"database '{name}' was created and is left there" in heir.err
    assert woken(sleeper).code == LOST
    again = shardkeeper(*flags)
    assert again, again
    assert points(target, name) == expectation.now()
    assert not list(expectation.backups.glob(".shardkeeper*"))
    target.drop_database(name)


@pytest.mark.fault(37, 63)
def test_a_sleeper_sends_nothing_more_into_what_another_run_has_gone_on_with(
    server: Place, fork_server: ForkServer
) -> None:
    """They are the same shards, and may have writers since."""
    expectation, target = server.expectation(), server.target
    expectation.back_up()
    name = f"copy-of-{expectation.database}"
    to = (*server.target_flags, "-db", expectation.database, "-newdb", name)
    with Proxy(target.bind_addr) as proxy:
        through = ("-host", proxy.address, "-parallel", 1)
        sleeper = stopped(
            fork_server, "restore.read-back", "restore", *to, *through, expectation.backups
        )
        lease_is_over(expectation.backups, lock_of_restore(expectation.backups))
        heir = shardkeeper("restore", *to, expectation.backups)
        assert heir, heir
        assert "this run continues it" in heir.err
        streams = [stream_of(target, shard) for shard in shards_of(target, name)]
        assert woken(sleeper).code == LOST
        assert sum(uploads(head) for head in proxy.heads) == 1
    assert [stream_of(target, shard) for shard in shards_of(target, name)] == streams
    assert points(target, name) == expectation.now()
    target.drop_database(name)
