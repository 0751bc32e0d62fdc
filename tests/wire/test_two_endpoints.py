"""A server has two addresses. When they belong to two servers, nothing may come to harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from resources.clients.http import InfluxHTTP
from resources.clients.server import Server
from resources.clients.snapshotter import SnapshotterClient
from resources.clients.source import SourceFacts
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.errors import WireError
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository
from tests.influxd import Influxd
from tests.wire.commands import shardkeeper

pytestmark = pytest.mark.wire

LINES = [f"m,k=a v={i} {1_600_000_000 + i}" for i in range(10)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def pair(influxd_factory: Callable[..., Influxd]) -> tuple[Influxd, Influxd]:
    here, other = influxd_factory(), influxd_factory()
    for server, databases in ((here, ["precious"]), (other, ["first", "precious"])):
        for name in databases:
            server.create_database(name)
            server.write(name, LINES, "s")
            server.flush(name)
    return here, other


@pytest.mark.fault(21)
def test_a_backup_with_another_servers_http_address_is_refused(
    influxd_factory: Callable[..., Influxd], directory: Path
) -> None:
    here, other = pair(influxd_factory)
    done = shardkeeper("-host", here.bind_addr, "-http", other.http_addr, "backup", str(directory))
    assert done.code == 2
    assert f"{other.http_addr} is not the HTTP address of {here.bind_addr}" in done.err
    assert "-http" in done.err.partition("next:")[2]
    assert not list(directory.iterdir())


def test_without_http_everything_is_copied_and_reported_so(
    influxd_factory: Callable[..., Influxd], directory: Path
) -> None:
    here, _ = pair(influxd_factory)
    for _ in range(2):
        done = shardkeeper("-host", here.bind_addr, "-http", "none", "backup", str(directory))
        assert done.code == 0, done.err
    assert len(list(directory.glob("*.s1.tar.gz"))) == 2


def test_a_backup_asks_what_the_server_is_once_whether_shards_rest_or_not(
    influxd_factory: Callable[..., Influxd], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has to be known of a shard when it is read is asked with its figures."""
    here = influxd_factory()
    here.create_database("precious")
    scans: list[bool] = []
    reading = Server.facts

    def counted(self: Server, *, activity: bool = False) -> tuple[SourceFacts, WireError | None]:
        scans.append(activity)
        return reading(self, activity=activity)

    monkeypatch.setattr(Server, "facts", counted)
    source = Server(SnapshotterClient(here.bind_addr), InfluxHTTP(here.http_addr))
    repository = BackupRepository.open(directory)
    for at_rest in (False, True):
        here.write("precious", LINES, "s")
        if at_rest:
            here.flush("precious")
        scans.clear()
        full = BackupOptions(Limits("precious"), full=True)
        report = back_up(source, repository, full, Run(lambda _: None))
        assert len(report.saved) == 1
        assert len(scans) == 1


@pytest.mark.fault(21, 72)
def test_a_restore_with_another_servers_http_address_touches_neither(
    influxd_factory: Callable[..., Influxd], directory: Path
) -> None:
    here, other = pair(influxd_factory)
    done = shardkeeper("-host", here.bind_addr, "-http", here.http_addr, "backup", str(directory))
    assert done.code == 0, done.err
    here.drop_database("precious")
    before = other.query("SELECT * FROM m", db="precious")
    done = shardkeeper("-host", here.bind_addr, "-http", other.http_addr, "restore", str(directory))
    assert done.code == 2
    assert "is not the HTTP address of" in done.err
    assert ["precious"] not in here.rows("SHOW DATABASES")
    assert other.query("SELECT * FROM m", db="precious") == before
