"""check_tsm: verifies that a file is whole; every backup checks every file it receives.

The check covers the CRC of every block. Since the index has no CRC, it also compares index and
blocks: the blocks fill the space before the index exactly, and each has the type and the first and
last times of its entry, where the last time is the sum of all differences. Values are not decoded.
Nothing in a file repeats its keys, so a key that a flipped bit has changed passes if it is still
in order.

There are two implementations. numpy checks many blocks at once, but its start takes longer than
the whole check of a file with few blocks.
"""

from __future__ import annotations

from resources.tsm.check_few import check_few
from resources.tsm.facts import TSMFacts as TSMFacts
from resources.tsm.index import index_start
from resources.tsm.source import Source

FEW_INDEX_BYTES = 12 << 10
"""The index of about 150 blocks; for more of them numpy is faster, once it is loaded."""
FEW_BLOCK_BYTES = 1 << 20
"""The blocks of a small file are read as a whole."""


def check_tsm(source: Source, *, blocks: bool = True) -> TSMFacts:
    """Verify a file from header to footer and count what it holds.

    Args:
        source: the file; it is read once, mostly front to back, in pieces of a few 100 KiB.
        blocks: False verifies header, index and footer only, counts no points, and compares no
            type and no time of the index with a block.

    Raises:
        BadMagic: the file is not a TSM file of version 1.
        IndexOutOfOrder: keys or entries are not in order, or blocks overlap, leave gaps or
            are outside of their space.
        BlockChecksumMismatch: a block is damaged.
        BlockUndecodable: a block's head breaks the format or contradicts the index.
        TSMError: any other fault; all messages have the offset, and the key if there is one.
    """
    start = index_start(source)
    if source.size - start <= FEW_INDEX_BYTES and start <= FEW_BLOCK_BYTES:
        return check_few(source, start, blocks=blocks)
    from resources.tsm.check_many import check_many

    return check_many(source, start, blocks=blocks)
