"""A place of each kind and a nursery for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import need_influxd
from tests.faults.places import Place, dev_cluster, dev_server, real_server
from tests.processes import ForkServer


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two embedded servers."""
    with dev_server(tmp_path_factory.mktemp("dev-server")) as place:
        yield place


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two real influxd."""
    need_influxd()
    with real_server(tmp_path_factory.mktemp("influxd")) as place:
        yield place


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An embedded cluster, and an embedded server that its backups are restored into."""
    with dev_cluster(tmp_path_factory.mktemp("dev-cluster")) as place:
        yield place
