"""A sensor's cursor survives versions and edits; what it says is written down once."""

from __future__ import annotations

import json

import pytest

from pipelines.sensors.cursor import SensorCursor

WRITTEN = SensorCursor(False, 3, 7, adopted="20261122T095100Z.manifest 5")


def test_a_cursor_comes_back_as_it_was_written() -> None:
    assert SensorCursor.of(WRITTEN.cursor) == WRITTEN
    assert SensorCursor.of(SensorCursor().cursor) == SensorCursor()


@pytest.mark.parametrize("cursor", [None, "", "{}"])
def test_without_one_nothing_is_known(cursor: str | None) -> None:
    assert SensorCursor.of(cursor) == SensorCursor()


def test_the_text_of_early_versions_is_how_far_adoption_has_come() -> None:
    assert SensorCursor.of("20261122T095100Z.manifest").adopted == "20261122T095100Z.manifest"


@pytest.mark.parametrize(
    "cursor",
    [
        "{",
        "{]",
        '{"unknown": 1}',
        '{"looks": "7"}',
        '{"looks": null}',
        '{"late": true}',
        '{"passed": "yes"}',
        '{"adopted": 5}',
        '{"looks": -1}',
    ],
)
def test_a_cursor_of_another_version_or_one_that_was_edited_is_as_none(cursor: str) -> None:
    assert SensorCursor.of(cursor) == SensorCursor()


def test_keys_of_the_file_stay() -> None:
    """Cursors are stored by one version and read by the next."""
    assert json.loads(WRITTEN.cursor) == {
        "passed": False,
        "late": 3,
        "looks": 7,
        "told": False,
        "adopted": "20261122T095100Z.manifest 5",
    }
