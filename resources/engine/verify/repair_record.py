"""The record of archives that a repair could not recover, so that they are known from then on.

Layout: docs/formats.md, "Repair". It has a checksum (`resources.repository.formats.self_checksum`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from resources.errors import BadReply, ManifestUnreadable
from resources.protocol.strict_json import Shape, convert_json, decode_json, is_integer, is_object
from resources.repository.formats import self_checksum
from resources.version import VERSION

FORMAT = 1


class _LostShape(Shape, frozen=True):
    file_name: str = field(name="fileName")
    listed_by: str = field(name="listedBy")
    why: str
    set_aside: str | None = field(name="setAside", default=None)


class _RepairShape(Shape, frozen=True):
    format: Annotated[int, Meta(ge=1)]
    files: tuple[_LostShape, ...] | None = None


class LostArchive(Struct, frozen=True):
    """A file that a manifest lists and that is not there as it was stored.

    Attributes:
        listed_by: the manifest.
        why: the problem of the file.
        set_aside: its new name; empty if it was missing.
    """

    file_name: str
    listed_by: str
    why: str
    set_aside: str

    def encode(self) -> dict[str, Any]:
        return {
            "fileName": self.file_name,
            "listedBy": self.listed_by,
            "why": self.why,
            "setAside": self.set_aside,
        }


def encode_lost_archives(lost_archives: Sequence[LostArchive], *, at_ns: int) -> bytes:
    """The file of one repair at the time `at_ns`."""
    return self_checksum.encode_with_checksum(
        {
            "format": FORMAT,
            "version": VERSION,
            "repairedAt": at_ns,
            "files": [lost.encode() for lost in lost_archives],
            self_checksum.KEY: self_checksum.BLANK,
        }
    )


def read_lost_archives(raw: bytes, name: str) -> tuple[LostArchive, ...]:
    """Read a repair record.

    Raises:
        ManifestUnreadable: it is not a valid record, or is of a newer version.
    """
    try:
        document = decode_json(raw, name)
        if is_object(document) and is_integer(written := document.get("format")):
            _check_format(written, str(document.get("version") or "?"), name)
        shape = convert_json(document, _RepairShape, name)
    except BadReply as error:
        raise ManifestUnreadable(error.what) from None
    return tuple(
        LostArchive(file.file_name, file.listed_by, file.why, file.set_aside or "")
        for file in shape.files or ()
    )


def _check_format(written: int, version: str, name: str) -> None:
    if written > FORMAT:
        raise ManifestUnreadable(
            f"{name}: written by version {version[:40]}",
            hint="use that version of shardkeeper, or a newer one",
        )
