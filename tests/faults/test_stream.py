"""A server, or what answers in its place, sends a stream that it should not."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

import pytest

from resources.clients.http import InfluxHTTP
from resources.clients.server import Server
from resources.clients.snapshotter import SnapshotterClient
from resources.engine.backup.run import back_up
from resources.engine.events import (
    Event,
    Run,
    ShardSaved,
)
from resources.engine.options import BackupOptions, Retry
from resources.protocol.tar import END_MARKER
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from tests.expectation import Expectation
from tests.faults.places import Place
from tests.faults.shards import shards_of, stream_of
from tests.proxy import Act, Instead, Proxy, shard_backups, uploads
from tests.wire.commands import Done, backup, restore, shardkeeper
from tests.wire.points import databases, points


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retry, "pause_s", lambda self, attempt: 0.001)


def members(stream: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def packed(content: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    out = b""
    for info, data in content:
        out += info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
    return out + END_MARKER


def renamed(stream: bytes, name: Callable[[str], str]) -> bytes:
    content = members(stream)
    for info, _ in content:
        info.name = name(info.name)
    return packed(content)


@pytest.fixture
def two_files(server: Place) -> tuple[Expectation, bytes]:
    """A database with one shard of two TSM files, and what the server sends for it."""
    expectation = server.expectation(filled=False)
    stream = b""
    for _ in range(2):
        server.write(expectation, [0])
        [shard] = shards_of(server.source, expectation.database)
        stream = stream_of(server.source, shard)  # writes the cache to a file
    assert len(members(stream)) == 2
    return expectation, stream


BAD: dict[str, Callable[[bytes], bytes]] = {
    "no byte": lambda _: b"",
    "nothing but zeros": lambda good: bytes(len(good)),
    "an empty archive": lambda _: END_MARKER,
    "HTTP": lambda _: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "a TLS alert": lambda _: bytes.fromhex("15030300020228"),
    "noise": lambda good: bytes((i * 7919 + 13) % 256 for i in range(len(good))),
    "itself twice": lambda good: good + good,
    "bytes after its end": lambda good: good + b"x",
    "a block after its end": lambda good: good + b"x" * 512,
    "half of it, then all": lambda good: good[: len(good) // 2] + good,
    "a member twice": lambda good: packed([*members(good), members(good)[0]]),
    "files of unknown kinds": lambda good: renamed(good, lambda name: name + ".sh"),
    "a directory deeper": lambda good: renamed(good, lambda name: "x/" + name),
    "another shard's files": lambda good: renamed(
        good, lambda name: name.rpartition("/")[0] + "0/" + name.rpartition("/")[2]
    ),
    "files that are none": lambda good: packed([(i, bytes(len(d))) for i, d in members(good)]),
}


@pytest.mark.fault(5, 6, 9, 12, 86)
@pytest.mark.parametrize("bad", BAD)
def test_a_stream_that_is_not_the_shard_is_never_kept(
    server: Place, two_files: tuple[Expectation, bytes], bad: str
) -> None:
    expectation, good = two_files
    sent = BAD[bad](good)
    with Proxy(server.source.bind_addr) as proxy:
        to = ("-host", proxy.address)
        proxy.break_all(Instead(sent), chosen=shard_backups)
        done = shardkeeper(
            "backup", *expectation.flags, *to, "-db", expectation.database, expectation.backups
        )
        assert done.code in (1, 13), done
        assert "Traceback" not in done.err
        assert list(expectation.backups.iterdir()) == []
        proxy.heal()
        if bad not in ("HTTP", "a TLS alert"):  # which no retry makes a snapshotter
            proxy.break_next(Instead(sent), chosen=shard_backups)
        flags = ("-db", expectation.database, expectation.backups)
        done = shardkeeper("backup", *expectation.flags, *to, *flags)
        assert done, done
        assert proxy.pending == 0
    [archive] = expectation.backups.glob("*.tar.gz")
    assert gzip.decompress(archive.read_bytes()) == good
    assert expectation.take_note()
    expectation.check_all()


@pytest.mark.fault(13)
def test_a_file_that_a_server_leaves_out_is_missed_and_asked_for_again(
    server: Place, two_files: tuple[Expectation, bytes]
) -> None:
    expectation, good = two_files
    flags = ("-db", expectation.database, expectation.backups)
    with Proxy(server.source.bind_addr) as proxy:
        proxy.break_next(Instead(packed(members(good)[:1])), chosen=shard_backups)
        done = shardkeeper("backup", *expectation.flags, "-host", proxy.address, *flags)
        assert proxy.pending == 0
    assert done, done
    assert "it has 1 TSM files, and the server reports 2" in done.err
    assert expectation.take_note()
    expectation.check_all()


@pytest.mark.fault(13)
def test_figures_of_another_server_prove_nothing(server: Place) -> None:
    """Its HTTP address may lead to another one before everything is copied."""
    expectation, other = server.expectation(), "db-of-another"
    server.target.create_database(other)
    server.target.write(other, ["m v=1 1600000000000000000"])
    source = Server(SnapshotterClient(server.source.bind_addr), InfluxHTTP(server.source.http_addr))
    events: list[str] = []

    def emit(event: Event) -> None:
        events.append(str(event))
        if isinstance(event, ShardSaved):
            source.http = InfluxHTTP(server.target.http_addr)

    repository = BackupRepository.open(expectation.backups)
    options = BackupOptions(Limits(expectation.database), parallel=1)
    report = back_up(source, repository, options, Run(emit))
    server.target.drop_database(other)
    assert len(report.saved) in (1, 2)  # the next one may have been proven already
    assert len(report.saved) + len(report.failed) == 3
    odd = [f.why for f in report.failed if "is not the HTTP address of" not in f.why]
    assert odd == []
    assert len(events) > len(report.saved)


@pytest.mark.fault(16)
def test_a_shard_that_goes_between_the_listing_and_the_copy_is_no_error(server: Place) -> None:
    expectation = server.expectation()
    expectation.back_up()
    server.write(expectation)
    first = min(shards_of(server.source, expectation.database))

    def expire() -> None:
        server.source.query(f"DROP SHARD {first}")

    with Proxy(server.source.bind_addr) as proxy:
        proxy.break_next(
            Act(0, expire, direction="to server"),
            chosen=lambda head: shard_backups(head) and f'"ShardID":{first},'.encode() in head,
        )
        done = shardkeeper(
            "backup", *expectation.flags, "-host", proxy.address, "-full", "-db",
            expectation.database,
            expectation.backups,
        )  # fmt: skip
        assert proxy.pending == 0
    assert done, done
    assert f"shard {first}" in done.err
    assert expectation.take_note()
    expectation.states.pop(
        max(expectation.committed)
    )  # it has the shard's last archive, which is right
    for name, expected in expectation.states.items():
        assert expectation.restored(name) == expected


# --- on the way there ---------------------------------------------------------------------


def restored_through(proxy: Proxy, place: Place, expectation: Expectation, name: str) -> Done:
    return shardkeeper(
        "restore", *place.target_flags, "-host", proxy.address, "-db", expectation.database,
        "-newdb", name, expectation.backups,
    )  # fmt: skip


@pytest.mark.fault(65)
def test_a_database_that_goes_before_its_shards_arrive_is_no_success(server: Place) -> None:
    expectation = server.expectation()
    expectation.back_up()
    name = f"copy-{expectation.database}"
    with Proxy(server.target.bind_addr) as proxy:
        drop = Act(0, lambda: server.target.drop_database(name), direction="to server")
        proxy.break_next(drop, chosen=uploads)
        done = restored_through(proxy, server, expectation, name)
    assert done.code in (1, 13), done
    assert name not in databases(server.target)
    restore(server.target, expectation.backups, "-db", expectation.database, "-newdb", name)
    assert points(server.target, name) == expectation.now()


@pytest.mark.fault(65)
def test_an_upload_that_the_target_swallows_is_no_success(server: Place) -> None:
    """The head of an upload arrives, the target's end of the line closes, and all is silence."""
    expectation = server.expectation()
    expectation.back_up()
    before = databases(server.target)
    with Proxy(server.target.bind_addr) as proxy:
        head = Instead(b"", at=10, direction="to server")
        proxy.break_all(head, chosen=uploads)
        done = restored_through(proxy, server, expectation, f"copy-{expectation.database}")
    assert done.code in (1, 13), done
    assert "rolled back: dropped" in done.err
    assert databases(server.target) == before


@pytest.mark.wire
@pytest.mark.fault(14)
def test_points_written_during_a_backup_are_in_it_or_in_the_next(real: Place) -> None:
    expectation = real.expectation()
    with Proxy(real.source.bind_addr) as proxy:
        proxy.break_next(
            *(Act(600, lambda: real.write(expectation)) for _ in range(3)), chosen=shard_backups
        )
        backup(real.source, expectation.backups, "-db", expectation.database, tcp=proxy.address)
        assert proxy.pending == 0
    backup(real.source, expectation.backups, "-db", expectation.database)
    assert expectation.restored(max(expectation.committed)) == expectation.now()
