"""The record of archives that a repair could not recover, so that they are known from then on.

Layout: docs/formats.md, "Repair". It has a checksum (`resources.repository.formats.self_checksum`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resources.errors import BadReply, ManifestUnreadable
from resources.protocol.strict_json import decode_json, is_object
from resources.repository.formats import self_checksum
from resources.repository.formats.fields import Fields
from resources.version import VERSION

FORMAT = 1


@dataclass(frozen=True, slots=True)
class LostArchive:
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
    except BadReply as error:
        raise ManifestUnreadable(error.what) from None
    if not is_object(document):
        raise ManifestUnreadable(f"{name} is no JSON object")
    fields = Fields(document, name)
    if fields.integer("format", minimum=1) > FORMAT:
        raise ManifestUnreadable(
            f"{name}: written by version {fields.text('version', default='?')}",
            hint="use that version of shardkeeper, or a newer one",
        )
    return tuple(
        LostArchive(
            file.text("fileName"),
            file.text("listedBy"),
            file.text("why"),
            file.text("setAside", default=""),
        )
        for file in fields.objects("files")
    )
