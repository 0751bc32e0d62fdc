"""What a repair gave up is remembered, and a hostile record is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.engine.verify.repair_record import (
    FORMAT,
    LostArchive,
    encode_lost_archives,
    read_lost_archives,
)
from resources.errors import ManifestUnreadable
from resources.repository.formats.self_checksum import checksum_matches

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LOST = st.builds(LostArchive, TEXTS, TEXTS, TEXTS, TEXTS)


@settings(max_examples=10)
@given(st.lists(LOST, max_size=3))
def test_losses_come_back_as_they_were_written(lost: list[LostArchive]) -> None:
    raw = encode_lost_archives(lost, at_ns=5)
    assert read_lost_archives(raw, "T.repair.json") == tuple(lost)
    assert checksum_matches(raw)


def record(**changed: Any) -> bytes:
    one = {"fileName": "a", "listedBy": "m", "why": "cut", "setAside": ""}
    return json.dumps({"format": FORMAT, "version": "9", "files": [one], **changed}).encode()


def test_a_record_without_what_a_file_is_called_now_means_that_it_was_missing() -> None:
    bare = [{"fileName": "a", "listedBy": "m", "why": "cut"}]
    assert read_lost_archives(record(files=bare), "x") == (LostArchive("a", "m", "cut", ""),)
    assert read_lost_archives(record(files=None), "x") == ()


def test_a_record_of_a_newer_version_names_it() -> None:
    with pytest.raises(ManifestUnreadable, match="x: written by version 9") as refused:
        read_lost_archives(record(format=FORMAT + 1), "x")
    assert "use that version of shardkeeper" in refused.value.hint


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        record(format=0),
        record(format="1"),
        record(files={}),
        record(files=[1]),
        record(files=[{"fileName": "a"}]),
        b'{"format": 1, "format": 1}',
    ],
)
def test_another_shape_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestUnreadable):
        read_lost_archives(raw, "T.repair.json")
