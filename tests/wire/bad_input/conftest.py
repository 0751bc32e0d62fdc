"""A database of two shards, and its backup to be harmed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.wire.bad_input.refusal import T0, WEEK
from tests.wire.commands import backup
from tests.wire.points import Points, points


@pytest.fixture(scope="module")
def life(source: Influxd) -> Iterator[tuple[str, Points]]:
    """A database of two shards."""
    db = "bad input"
    source.create_database(db)
    source.write(db, [f"m,t={i % 3} v={i} {T0 + i % 2 * WEEK + i}" for i in range(100)])
    yield db, points(source, db)
    source.drop_database(db)


@pytest.fixture(scope="module")
def good(
    source: Influxd, life: tuple[str, Points], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("good")
    backup(source, directory, "-db", life[0])
    return directory


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))
