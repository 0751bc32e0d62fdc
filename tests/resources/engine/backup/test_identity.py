"""Which differences make a source another one."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resources.engine.backup.identity import diverged
from resources.repository.formats.details import FileFacts
from resources.tsm.damage import FileDamage
from tests import builders as b

A1 = FileFacts("000000001-000000001.tsm", 100, 1)
A2 = FileFacts("000000002-000000001.tsm", 100, 2)
B2 = replace(A2, crc32=3)
NEW = FileFacts("000000003-000000001.tsm", 50, 9)
COMPACTED = FileFacts("000000002-000000002.tsm", 180, 7)
DAMAGE = FileDamage(1, 10, ())


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ([A1, A2], [A1, B2], B2.name),
        ([A1, A2], [A1, A2, NEW], ""),  # went on
        ([A1, A2], [COMPACTED, NEW], ""),
        ([A1, A2], [A1], ""),  # all points of one file were deleted
        ([A2], [B2], ""),  # a file set that began anew has none of the old files
        ([A1, A2], [A1, replace(B2, damage=DAMAGE)], ""),  # the disk has changed it
        ([A1, replace(A2, damage=DAMAGE)], [A1, B2], ""),  # and was mended
    ],
)
def test_a_file_that_changed_beside_others_that_did_not_is_a_copys(
    before: list[FileFacts], now: list[FileFacts], found: str
) -> None:
    assert diverged(b.details(*before), now) == found
