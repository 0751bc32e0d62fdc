"""A few histories of `python -m tests.wire.merge.histories`, with a new seed each time."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.wire.merge.histories import histories


@pytest.mark.wire
def test_whatever_a_database_went_through_each_value_is_merged_or_named(
    source: Influxd, tmp_path: Path
) -> None:
    seed = secrets.randbits(32)
    assert len(list(histories(4, seed=seed, server=source, directory=tmp_path))) == 4
