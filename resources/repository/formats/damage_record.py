"""What is damaged in an archive's files, as manifests have it, and what is said of it."""

from __future__ import annotations

from typing import Any

from msgspec import field

from resources.protocol.strict_json import MAX_UINT64, Int64, Shape, UInt, too_great
from resources.tsm.damage import Damage, FileDamage


class DamageShape(Shape, frozen=True):
    """A damaged part of a file."""

    offset: UInt
    size: UInt
    key: str | None = None
    min_time: Int64 | None = field(name="minTime", default=None)
    max_time: Int64 | None = field(name="maxTime", default=None)
    why: str | None = None


class FileDamageShape(Shape, frozen=True):
    """The damage of a file."""

    parts: UInt
    lost_bytes: UInt = field(name="lostBytes")
    first: tuple[DamageShape, ...] | None = None
    whole_in: str | None = field(name="wholeIn", default=None)


def encode_damage(damage: FileDamage) -> dict[str, Any]:
    """As an object of JSON."""
    return {
        "parts": damage.parts,
        "lostBytes": damage.lost_bytes,
        "first": [_encode(part) for part in damage.first],
        **({"wholeIn": damage.whole_in} if damage.whole_in else {}),
    }


def decode_damage(shape: FileDamageShape, name: str) -> FileDamage:
    """Read it from a manifest.

    Raises:
        BadReply: a value is out of range.
    """
    if max(shape.parts, shape.lost_bytes) > MAX_UINT64:
        raise too_great(name)
    return FileDamage(
        shape.parts,
        shape.lost_bytes,
        tuple(_decode(part, name) for part in shape.first or ()),
        shape.whole_in or "",
    )


def _encode(part: Damage) -> dict[str, Any]:
    known = part.min_time_ns is not None and part.max_time_ns is not None
    return {
        "offset": part.offset,
        "size": part.size_bytes,
        "key": part.key,
        **({"minTime": part.min_time_ns, "maxTime": part.max_time_ns} if known else {}),
        "why": part.why,
    }


def _decode(part: DamageShape, name: str) -> Damage:
    if max(part.offset, part.size) > MAX_UINT64:
        raise too_great(name)
    return Damage(
        part.offset, part.size, part.key or "", part.min_time, part.max_time, part.why or ""
    )
