"""A sealed file cannot change unnoticed, wherever it does."""

from __future__ import annotations

import hashlib

import pytest

from resources.repository import seal

SEALED = seal.encode_sealed({"a": 1, "b": {"name": 'x"seal": "', seal.KEY: seal.BLANK}})


def test_a_sealed_file_fits_its_seal():
    assert seal.has_seal(SEALED)
    assert seal.seal_fits(SEALED)


def test_the_seal_can_be_checked_with_sha256sum():
    digits = SEALED[-72:-6].split(b'"')[1]
    assert digits.decode() == hashlib.sha256(SEALED.replace(digits, b"0" * 64)).hexdigest()


@pytest.mark.parametrize("at", range(len(SEALED)))
def test_a_flip_anywhere_breaks_it(at: int):
    for bit in range(8):
        flipped = bytearray(SEALED)
        flipped[at] ^= 1 << bit
        assert not seal.seal_fits(bytes(flipped))


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_a_cut_anywhere_breaks_it(length: int):
    assert not seal.seal_fits(SEALED[:length])


def test_a_file_without_one_has_none():
    assert not seal.has_seal(b'{"a": 1}')


def test_a_document_is_sealed_at_its_end_or_not_at_all():
    with pytest.raises(ValueError, match="last key"):
        seal.encode_sealed({seal.KEY: seal.BLANK, "a": 1})
