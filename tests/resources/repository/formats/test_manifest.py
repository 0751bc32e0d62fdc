"""Manifests: as the original tools write them, and whatever else one may find in their place."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from resources.errors import BadReply, ManifestUnreadable, RepositoryError, UnsafeName
from resources.protocol.strict_json import convert_json
from resources.repository.formats import self_checksum
from resources.repository.formats.details import FileFacts, FileShape
from resources.repository.formats.manifest import Manifest
from tests.resources.repository.manifests import ORIGINAL, OURS


def test_the_original_is_read_and_written_again_byte_for_byte() -> None:
    assert Manifest.decode(ORIGINAL, "m").encode() == ORIGINAL


@pytest.mark.fault(69)
def test_what_we_know_beyond_the_original_survives_a_round_trip() -> None:
    assert Manifest.decode(OURS.encode(), "m") == OURS


def test_the_original_tools_find_their_keys_first_and_in_their_order() -> None:
    document = json.loads(OURS.encode())
    assert list(document) == [
        "meta", "limited", "files", "database", "policy", "shard_id", "shardkeeper",
    ]  # fmt: skip
    assert list(document["files"][0]) == [
        "database", "policy", "shardID", "fileName", "size", "lastModified", "shardkeeper",
    ]  # fmt: skip


def test_no_key_of_ours_is_one_of_theirs_in_another_case() -> None:
    """Go matches keys without case, so such a key would overwrite the original's value."""
    document = json.loads(OURS.encode())
    for level in (document, *document["files"]):
        folded = [key.casefold() for key in level]
        assert len(set(folded)) == len(folded)


def test_nothing_saved_is_written_as_null() -> None:
    empty = replace(OURS, files=())
    assert json.loads(empty.encode())["files"] is None
    assert Manifest.decode(empty.encode(), "m").files == ()


def with_checksum(document: Any) -> bytes:
    """As a program writes it that knows our checksum."""
    document["shardkeeper"][self_checksum.KEY] = self_checksum.BLANK
    return self_checksum.encode_with_checksum(document)


def changed(**paths: Any) -> bytes:
    document = json.loads(OURS.encode())
    for path, value in paths.items():
        *way, last = path.split("__")
        place = document
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = value
    return with_checksum(document)


@pytest.mark.fault(50, 90, 93)
@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"meta": {"fileName": "T.meta", "size": NaN}}',
        b'{"meta": 1, "meta": 2}',
        ORIGINAL[:-1],
        changed(meta=None),
        changed(meta__size=-1),
        changed(meta__size=2**64),
        changed(meta__size="309"),
        changed(meta__size=True),
        changed(files={}),
        changed(files__0__shardID=-1),
        changed(files__0__shardID=1.5),
        changed(files__0__size=-512),
        changed(files__0__fileName="20261122T095100Z.meta"),
        changed(files__0__shardkeeper__sha256="g" * 64),
        changed(files__0__shardkeeper__files__0__crc32="-1"),
        changed(files__1__shardID=2**53 + 1),
        changed(shardkeeper__format=4),
        changed(shardkeeper__format=0),
        changed(shardkeeper__source=None),
    ],
    ids=range(24),
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    with pytest.raises(ManifestUnreadable):
        Manifest.decode(raw, "20261122T095100Z.manifest")


@pytest.mark.fault(87)
@pytest.mark.parametrize(
    "name",
    ["../x.tar.gz", "/etc/x.tar.gz", "a\\b.tar.gz", "x\0.tar.gz", "http://h/x.tar.gz", ".tar.gz/"],
)
def test_a_file_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UnsafeName):
        Manifest.decode(changed(files__0__fileName=name), "m")


def test_the_originals_keys_are_matched_without_case_as_go_does() -> None:
    document = json.loads(ORIGINAL)
    shouted = {key.upper(): value for key, value in document.items()}
    shouted["META"] = {key.swapcase(): value for key, value in document["meta"].items()}
    shouted["FILES"] = [
        {key.upper(): value for key, value in entry.items()} for entry in document["files"]
    ]
    assert Manifest.decode(json.dumps(shouted).encode(), "m") == Manifest.decode(ORIGINAL, "m")


def test_a_key_that_is_spelled_as_the_original_does_counts_before_others() -> None:
    document = json.loads(ORIGINAL)
    document = {"LIMITED": not document["limited"], **document, "Meta": None}
    found = Manifest.decode(json.dumps(document).encode(), "m")
    assert found == Manifest.decode(ORIGINAL, "m")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"files__1__shardID": None}, r"m: files\[1\]\.shardID: expected whole number, found null"),
        ({"files__0__shardkeeper__files__0__size": "9"}, r"files\[0\]\.shardkeeper\.files\[0\]\.s"),
        ({"files__0__shardkeeper__tombstones": 2**64}, "is greater|greater than"),
        ({"meta": {}}, "m: meta: fileName is missing"),
    ],
)
def test_the_path_of_what_is_wrong_is_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ManifestUnreadable, match=complaint) as refused:
        Manifest.decode(changed(**changes), "m")
    assert "move it" in refused.value.hint


@pytest.mark.fault(43)
def test_a_newer_format_says_which_version_wrote_it() -> None:
    with pytest.raises(ManifestUnreadable, match=r"format 4 by version 0\.1\.0"):
        Manifest.decode(changed(shardkeeper__format=4), "m")


def file_facts(document: object) -> FileFacts:
    return FileFacts.decode(convert_json(document, FileShape, "m"), "m")


@pytest.mark.parametrize(
    "times", [{"minTime": -5}, {"maxTime": 7}, {"minTime": 8, "maxTime": 7}], ids=str
)
def test_half_a_range_of_time_and_one_that_ends_before_it_begins_are_refused(
    times: dict[str, int],
) -> None:
    file = {"name": "000000001-000000001.tsm", "size": 472, "crc32": "deadbeef"}
    with pytest.raises(BadReply, match="no range of time"):
        file_facts({**file, **times})
    assert file_facts(file).min_time_ns is None


def test_only_tsm_files_have_keys_and_points() -> None:
    document = {"name": "1.tombstone", "size": 49, "crc32": "00000007", "keys": 6, "points": 14}
    assert file_facts(document) == FileFacts("1.tombstone", 49, 7)


@pytest.mark.fault(50)
def test_a_flip_anywhere_in_a_manifest_of_ours_is_noticed() -> None:
    raw = OURS.encode()
    for place in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[place] ^= 1 << bit
            with pytest.raises(RepositoryError):
                Manifest.decode(bytes(flipped), "m")


def test_a_manifest_of_the_first_format_has_no_checksum_and_is_read() -> None:
    document = json.loads(OURS.encode())
    document["shardkeeper"]["format"] = 1
    del document["shardkeeper"][self_checksum.KEY]
    assert OURS.details is not None
    first = replace(OURS, details=replace(OURS.details, format=1))
    assert Manifest.decode(json.dumps(document).encode(), "m") == first
    assert Manifest.decode(first.encode(), "m") == OURS


@pytest.mark.fault(50)
@pytest.mark.parametrize("cut", range(len(ORIGINAL)))
def test_a_manifest_cut_anywhere_is_noticed(cut: int) -> None:
    with pytest.raises(ManifestUnreadable):
        Manifest.decode(ORIGINAL[:cut], "m")


@given(place=st.integers(0, len(OURS.encode()) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_gives_a_manifest_or_an_error_of_ours(place: int, byte: int) -> None:
    raw = bytearray(OURS.encode())
    raw[place] = byte
    with suppress(RepositoryError):
        Manifest.decode(bytes(raw), "m")


@pytest.mark.fault(93)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_gives_a_manifest_or_an_error_of_ours(value: Any) -> None:
    with suppress(RepositoryError):
        Manifest.decode(json.dumps(value).encode(), "m")
