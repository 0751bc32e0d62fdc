"""Two servers for the whole session, of which one is backed up; a cluster; a directory."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from tests.conftest import need_influxd
from tests.influxd import Influxd


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """A server with the index in memory; each test uses a database of its own."""
    need_influxd()
    with Influxd(tmp_path_factory.mktemp("source"), index_version="inmem") as server:
        yield server


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """A server with the index in files; restores go under new names."""
    need_influxd()
    with Influxd(tmp_path_factory.mktemp("target"), index_version="tsi1") as server:
        yield server


@pytest.fixture
def fresh() -> Callable[[], str]:
    """Names of databases that are free."""
    return lambda: f"db-{secrets.token_hex(5)}"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """An empty directory for backups."""
    directory = tmp_path / "backups"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """A cluster with a meta node and three data nodes."""
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=3) as running:
        yield running


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("here") / "backups"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def here(directory: Path) -> Path:
    """An empty directory, and the same for all: a restore from another one waits a minute."""
    for path in directory.iterdir():
        path.unlink()
    return directory
