"""A file with its checksum cannot change unnoticed, wherever it does."""

from __future__ import annotations

import hashlib

import pytest

from resources.repository.formats import self_checksum

CHECKSUMMED = self_checksum.encode_with_checksum(
    {"a": 1, "b": {"name": 'x"seal": "', self_checksum.KEY: self_checksum.BLANK}}
)


def test_a_checksummed_file_fits_its_checksum():
    assert self_checksum.has_checksum(CHECKSUMMED)
    assert self_checksum.checksum_matches(CHECKSUMMED)


def test_the_checksum_can_be_checked_with_sha256sum():
    digits = CHECKSUMMED[-72:-6].split(b'"')[1]
    assert digits.decode() == hashlib.sha256(CHECKSUMMED.replace(digits, b"0" * 64)).hexdigest()


@pytest.mark.parametrize("at", range(len(CHECKSUMMED)))
def test_a_flip_anywhere_breaks_it(at: int):
    for bit in range(8):
        flipped = bytearray(CHECKSUMMED)
        flipped[at] ^= 1 << bit
        assert not self_checksum.checksum_matches(bytes(flipped))


@pytest.mark.parametrize("length", range(len(CHECKSUMMED)))
def test_a_cut_anywhere_breaks_it(length: int):
    assert not self_checksum.checksum_matches(CHECKSUMMED[:length])


def test_a_file_without_one_has_none():
    assert not self_checksum.has_checksum(b'{"a": 1}')


def test_a_document_is_checksummed_at_its_end_or_not_at_all():
    with pytest.raises(ValueError, match="last key"):
        self_checksum.encode_with_checksum({self_checksum.KEY: self_checksum.BLANK, "a": 1})
