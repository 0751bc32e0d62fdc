"""What the commands print, held against the original's own lines."""

from __future__ import annotations

import pytest

from pipelines.ctl import render
from resources.engine.events import (
    MetaRestored,
    MetaSaved,
    ShardRestored,
    ShardSaved,
    SourceChosen,
)
from resources.model import ShardID
from resources.repository.formats.manifest import ShardEntry


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.000000001, "1ns"),
        (0.0000015, "1.5µs"),
        (0.903539567, "903.539567ms"),
        (0.008, "8ms"),
        (1.293710883, "1.293710883s"),
        (60.0, "1m0s"),
        (62.5, "1m2.5s"),
        (3600.0, "1h0m0s"),
        (86_399.25, "23h59m59.25s"),
    ],
)
def test_durations_look_as_go_prints_them(seconds: float, text: str) -> None:
    assert render.go_duration(seconds) == text


def test_a_backup_prints_the_originals_lines() -> None:
    entry = ShardEntry("telegraf", "autogen", ShardID(4), "T.s4.tar.gz", 307712, 0)
    assert render.backup_line(MetaSaved(421)) == (
        "Backing up meta data... Done. 421 bytes transferred"
    )
    assert render.backup_line(ShardSaved("7ba671c7644b:8088", entry, 0.903539567)) == (
        "Backing up node 7ba671c7644b:8088, db telegraf, rp autogen, shard 4... Done. "
        "Backed up in 903.539567ms, 307712 bytes transferred"
    )
    assert render.backed_up(".", 1.293710883, 441765) == (
        "Backed up to . in 1.293710883s, transferred 441765 bytes"
    )


def test_a_restore_prints_the_originals_lines() -> None:
    assert render.restore_line(SourceChosen(".", "", "20170130T231333Z.meta")) == (
        "Using backup directory: .\nUsing meta backup: 20170130T231333Z.meta"
    )
    manifest = "my-full-backup/20170131T020341Z.manifest"
    assert render.restore_line(SourceChosen("my-full-backup", manifest, "T.meta")) == (
        f"Using manifest: {manifest}"
    )
    assert render.restore_line(MetaRestored(1, 0.021373019)) == (
        "Restoring meta data... Done. Restored in 21.373019ms, 1 shards mapped"
    )
    event = ShardRestored(
        "telegraf", "autogen", ShardID(2), ShardID(4), ("h:8088", "i:8088"), 588800, 0.05789687
    )
    assert render.restore_line(event) == (
        "Restoring db telegraf, rp autogen, shard 2 to shard 4...\n"
        "Copying data to h:8088... Copying data to i:8088... Done. "
        "Restored shard 2 into shard 4 in 57.89687ms, 588800 bytes transferred"
    )
    assert render.restored(".", 0.066715524, 588800) == (
        "Restored from . in 66.715524ms, transferred 588800 bytes"
    )


@pytest.mark.fault(98)
def test_names_cannot_command_the_terminal() -> None:
    assert render.printable("a\x1b[31mb\u202e\nc") == "a\\x1b[31mb\\u202e\nc"


def test_times_beyond_the_calendar_stay_numbers() -> None:
    assert render.instant(1_600_000_000_000_000_000) == "2020-09-13T12:26:40Z"
    assert render.instant(None) == "-"
    assert render.instant(-(1 << 63)) in ("1677-09-21T00:12:43Z", f"{-(1 << 63)} ns")
