"""CRC-32 (IEEE) as fast as the machine has it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import cast

Crc32 = Callable[[bytes | memoryview, int], int]

try:
    from isal import isal_zlib
except ImportError:  # no wheel for this machine: right all the same, a tenth of the speed
    crc32: Crc32 = zlib.crc32
else:
    crc32 = cast(Crc32, isal_zlib.crc32)  # pyright: ignore[reportUnknownMemberType]
