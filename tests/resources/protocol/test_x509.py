"""Until when a certificate is good, out of its bytes; hostile bytes are refused in our words."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BadReply
from resources.protocol.x509 import not_after

SEQUENCE, INTEGER, VERSION, UTC_TIME, TIME = 0x30, 0x02, 0xA0, 0x17, 0x18


def element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def certificate(
    end: bytes, *, tag: int = UTC_TIME, version: bytes = element(VERSION, b"\x02\x01\x02"),
    issuer: bytes = b"",
) -> bytes:  # fmt: skip
    validity = element(UTC_TIME, b"200101000000Z") + element(tag, end)
    body = (
        version
        + element(INTEGER, b"\x01")
        + element(SEQUENCE, b"")
        + element(SEQUENCE, issuer)
        + element(SEQUENCE, validity)
    )
    return element(SEQUENCE, element(SEQUENCE, body) + b"signature")


GOOD = certificate(b"301231235959Z")


def test_both_forms_of_time_are_read() -> None:
    assert not_after(GOOD) == datetime(2030, 12, 31, 23, 59, 59, tzinfo=UTC)
    late = certificate(b"20991231235959Z", tag=TIME)
    assert not_after(late) == datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_certificates_of_version_1_have_no_version() -> None:
    assert not_after(certificate(b"301231235959Z", version=b"")) == not_after(GOOD)


def test_a_long_issuer_has_a_long_length() -> None:
    assert not_after(certificate(b"301231235959Z", issuer=b"x" * 300)) == not_after(GOOD)


@pytest.mark.parametrize("at", range(0, len(GOOD) - len(b"signature")))
def test_a_certificate_that_is_cut_anywhere_is_refused(at: int) -> None:
    with pytest.raises(BadReply):
        not_after(GOOD[:at])


@pytest.mark.parametrize("end", [b"991331000000Z", b"never", b"\xff" * 13, b""])
def test_a_last_day_of_no_calendar_is_refused(end: bytes) -> None:
    with pytest.raises(BadReply):
        not_after(certificate(end))


@settings(max_examples=40)
@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: GOOD[:20] + tail))
def test_any_bytes_give_a_time_or_our_error(der: bytes) -> None:
    with contextlib.suppress(BadReply):
        assert not_after(der).tzinfo is UTC
