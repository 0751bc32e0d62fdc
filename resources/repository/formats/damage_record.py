"""What is damaged in an archive's files, as manifests have it, and what is said of it."""

from __future__ import annotations

from typing import Any

from resources.repository.formats.fields import Fields
from resources.tsm.damage import Damage, FileDamage

_MIN_TIME_NS = -(1 << 63)


def encode_damage(damage: FileDamage) -> dict[str, Any]:
    """As an object of JSON."""
    return {
        "parts": damage.parts,
        "lostBytes": damage.lost_bytes,
        "first": [_encode(part) for part in damage.first],
        **({"wholeIn": damage.whole_in} if damage.whole_in else {}),
    }


def decode_damage(fields: Fields) -> FileDamage:
    """Raises: ManifestUnreadable."""
    return FileDamage(
        fields.integer("parts"),
        fields.integer("lostBytes"),
        tuple(_decode(part) for part in fields.objects("first")),
        fields.text("wholeIn", default=""),
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


def _decode(part: Fields) -> Damage:
    return Damage(
        part.integer("offset"),
        part.integer("size"),
        part.text("key", default=""),
        part.optional_integer("minTime", minimum=_MIN_TIME_NS),
        part.optional_integer("maxTime", minimum=_MIN_TIME_NS),
        part.text("why", default=""),
    )
