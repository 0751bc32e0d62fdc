from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.influxd import Influxd
from tests.pipelines.world import World, at


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def source(influxd_factory: Callable[..., Influxd]) -> Influxd:
    return influxd_factory()


@pytest.fixture
def world(source: Influxd, tmp_path: Path, instance: dg.DagsterInstance) -> World:
    return World(tmp_path, instance, at(source))
