"""check_tsm: is this file whole? The question every backup asks of every file it receives.

What is verified, beyond the CRC of every block, is what ties index and blocks together, because
the index has no CRC: the blocks fill the space before it exactly, have the type that it names, and
begin and end at the times that it names, whose differences are added up. Values are not decoded.
Nothing in a file repeats its keys: one that a flipped bit has made another, still in order, passes.

Several ways lead there. numpy looks at many blocks at once, but takes longer to begin than a file
of few blocks takes whole; such a file is accepted in bulk if it is as the server writes it, and
else judged one block after the other.
"""

from __future__ import annotations

from resources.tsm.check_few import check_few
from resources.tsm.check_regular import check_regular
from resources.tsm.facts import TSMFacts as TSMFacts
from resources.tsm.index import index_start
from resources.tsm.source import Source

FEW_INDEX_BYTES = 12 << 10
"""Of about 150 blocks: from there on numpy is faster, once it is loaded."""
FEW_BLOCK_BYTES = 1 << 20
"""They are held as a whole."""


def check_tsm(source: Source, *, blocks: bool = True) -> TSMFacts:
    """Verify a file from header to footer and count what it holds.

    Args:
        source: the file; it is read once, mostly front to back, in pieces of a few 100 KiB.
        blocks: False verifies header, index and footer only, counts no points and holds no type
            and no time of the index against a block.

    Raises:
        BadMagic: not a TSM file of version 1.
        IndexOutOfOrder: keys or entries not in order, or blocks that overlap, leave gaps or
            lie outside.
        BlockChecksumMismatch: a block is damaged.
        BlockUndecodable: a block's head breaks the format or contradicts the index.
        TSMError: anything else; all messages have the offset, and the key if there is one.
    """
    start = index_start(source)
    if source.size - start <= FEW_INDEX_BYTES and start <= FEW_BLOCK_BYTES:
        accepted = check_regular(source, start, blocks=blocks)
        return accepted or check_few(source, start, blocks=blocks)
    from resources.tsm.check_many import check_many

    return check_many(source, start, blocks=blocks)
