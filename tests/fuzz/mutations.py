"""Hostile bytes: real files, changed by a few strokes, as a strategy of Hypothesis.

Lengths, counts and offsets are where parsers break, so most strokes put numbers there that
are too small, too large, negative, or just right.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, *(
    (1 << bits) - less for bits in (31, 32, 63, 64) for less in (0, 1)
))  # fmt: skip
FORMATS = ("<B", ">H", "<H", ">I", "<I", ">Q", "<Q")
TEXTS = (
    b"", b"\0", b"../", b"/", b"\\", b"\xff\xfe", b"NaN", b"-1", b"1e999", b"[" * 200, b"{", b'"',
    b"\n", b"0" * 40, b"7777777", b"\x80" * 11, b"\x1f\x8b\x08", b"\x16\xd1\x16\xd1",
)  # fmt: skip
MAX_STROKES = 4

Stroke = Callable[[bytearray], None]


@st.composite
def strokes(draw: st.DrawFn, size: int) -> Stroke:
    """One change of something about `size` bytes long."""
    at = draw(st.integers(0, max(0, size - 1)))
    kind = draw(st.sampled_from(("flip", "number", "text", "cut", "drop", "twice", "bytes")))
    if kind == "flip":
        bit = draw(st.integers(0, 7))
        return lambda raw: _flip(raw, at, bit)
    if kind == "number":
        form = draw(st.sampled_from(FORMATS))
        bits = 8 * struct.calcsize(form)
        value = draw(st.sampled_from(NUMBERS)) & ((1 << bits) - 1)
        new = struct.pack(form, value)
        return lambda raw: _over(raw, at, new)
    if kind in ("text", "bytes"):
        new = draw(st.sampled_from(TEXTS) if kind == "text" else st.binary(max_size=40))
        insert = draw(st.booleans())
        return lambda raw: _insert(raw, at, new) if insert else _over(raw, at, new)
    length = draw(st.integers(1, 600))
    if kind == "cut":
        return lambda raw: _drop(raw, at, len(raw))
    if kind == "drop":
        return lambda raw: _drop(raw, at, at + length)
    return lambda raw: _insert(raw, at, bytes(raw[at : at + length]))


@st.composite
def changed(
    draw: st.DrawFn, corpus: Sequence[bytes], repair: Callable[[bytes, bytes], bytes]
) -> bytes:
    """One of the corpus after some strokes; every other time its checksums are made right.

    Args:
        repair: given what was and what became of it, makes checksums fit again.
    """
    seed = draw(st.sampled_from(corpus))
    raw = bytearray(seed)
    for stroke in draw(st.lists(strokes(len(seed)), min_size=1, max_size=MAX_STROKES)):
        stroke(raw)
    return repair(seed, bytes(raw)) if draw(st.booleans()) else bytes(raw)


def _flip(raw: bytearray, at: int, bit: int) -> None:
    if at < len(raw):
        raw[at] ^= 1 << bit


def _over(raw: bytearray, at: int, new: bytes) -> None:
    raw[at : at + len(new)] = new


def _insert(raw: bytearray, at: int, new: bytes) -> None:
    raw[at:at] = new


def _drop(raw: bytearray, start: int, end: int) -> None:
    del raw[start:end]
