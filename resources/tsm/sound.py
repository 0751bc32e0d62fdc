"""SoundFile: reads the undamaged parts of a TSM file as if it had no others.

    file = SoundFile(source)
    for key in file.index():
        ...                       keys with sound blocks only
    file.damage                   the damaged parts, after a walk over all keys

A server trusts the index and never checks a CRC. It returns the values that a damaged block
decodes to, and the next compaction writes them with a matching CRC. So a block counts as whole if
its CRC matches; then its own times and type are right, even if the index differs. An entry with a
wrong place is corrected if its neighbours leave only one place for its block. No checksum covers
a key: a key that is out of order is left out.

Probed on influxd 1.6.7, 1.8 and 1.12. After a flipped value the mean was wrong, and stayed wrong
with a matching CRC. After a flipped type all blocks of the key were dropped. After a flipped
offset 1.6.7 panicked, and after a flipped key 1.12 did.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from msgspec import Struct

from resources.errors import BlockUndecodable
from resources.tsm.damage import MAX_NAMED, Damage, FileDamage
from resources.tsm.facts import TSMFacts
from resources.tsm.layout import HEADER, BlockType, IndexEntry, IndexKey, shown, split_key
from resources.tsm.reader import TSMFile
from resources.tsm.sound_index import Hole, Record, SoundIndex, sound_block
from resources.tsm.source import ByteSource
from resources.tsm.time_counts import HEAD_BYTES, MAX_WORD, count_timestamps, time_span
from resources.tsm.varint import uvarint

LAST_TYPE = int(max(BlockType))


class _Block(NamedTuple):
    """A whole block, with its own type and times."""

    type: BlockType
    entry: IndexEntry
    points: int


class _Counts(Struct):
    keys: int = 0
    series: int = 0
    blocks: int = 0
    points: int = 0
    size_bytes: int = 0
    min_time_ns: int = (1 << 63) - 1
    max_time_ns: int = -(1 << 63)
    parts: int = 0


class SoundFile(TSMFile):
    """A TSM file without its damaged parts; a `TSMFile` that skips damage and does not raise.

    Raises:
        StoreFailed: a method cannot read the source.
    """

    def __init__(self, source: ByteSource) -> None:  # the base's requires a whole file
        self._source = source
        self._sound = SoundIndex(source)
        self.size_bytes = source.size
        self.index_start = self._sound.start
        self._counts = _Counts()
        self._named: list[Damage] = []

    def index(self) -> Iterator[IndexKey]:
        """Yield the keys with sound blocks, in ascending order, with these blocks only."""
        self._counts, self._named = _Counts(), []
        self._note_ends()
        previous = b""
        held: Record | None = None
        behind = len(HEADER)
        for record in self._in_order():
            if held is not None:
                behind = yield from self._of(held, behind, record.entries[0].offset, previous)
                previous = split_key(held.key)[0]
            held = record
        if held is not None:
            yield from self._of(held, behind, self.index_start, previous)

    def keys(self) -> Iterator[bytes]:
        for found in self.index():
            yield found.key

    @property
    def damage(self) -> FileDamage:
        """The damage that the last walk of the index found; complete after a whole walk."""
        blocks_bytes = max(self.index_start - len(HEADER), 0)
        lost = blocks_bytes - self._counts.size_bytes
        return FileDamage(self._counts.parts, max(lost, 0), tuple(self._named))

    @property
    def facts(self) -> TSMFacts:
        """The counts of the last walk of the index."""
        counts = self._counts
        return TSMFacts(
            size_bytes=self.size_bytes,
            keys=counts.keys,
            series=counts.series,
            blocks=counts.blocks,
            points=counts.points,
            min_time_ns=counts.min_time_ns,
            max_time_ns=counts.max_time_ns,
        )

    # --- keys --------------------------------------------------------------------------------

    def _in_order(self) -> Iterator[Record]:
        """Yield records with ascending keys; of two in the wrong order, the next one decides."""
        last = b""
        held: Record | None = None
        doubted: Record | None = None
        for record in self._records():
            if doubted is not None and held is not None:
                if record.key <= held.key:
                    self._drop(held)  # only this one is out of order
                    held = doubted
                else:
                    self._drop(held)
                    self._drop(doubted)
                    held = None
                doubted = None
            if held is None and record.key > last:
                held = record
            elif held is not None and record.key > held.key:
                yield held
                last, held = held.key, record
            elif held is not None and record.key > last:
                doubted = record
            else:
                self._drop(record)
        for one in (held, doubted):
            if one is not None and doubted is not None:
                self._drop(one)
            elif one is not None:
                yield one

    def _records(self) -> Iterator[Record]:
        for found in self._sound.records():
            if isinstance(found, Hole):
                why = f"{found.size_bytes} bytes of the index, with the keys there, cannot be read"
                self._note(Damage(found.offset, 0, "", None, None, why))
            else:
                yield found

    def _drop(self, record: Record) -> None:
        first, size_bytes = record.entries[0], sum(entry.size for entry in record.entries)
        self._note(
            Damage(
                record.offset,
                size_bytes,
                shown(record.key),
                first.min_time,
                record.entries[-1].max_time,
                "its key is out of order in the index: a bit of it, or of its neighbour, flipped",
            )
        )

    # --- blocks ------------------------------------------------------------------------------

    def _of(
        self, record: Record, behind: int, following: int, previous: bytes
    ) -> Generator[IndexKey, None, int]:
        """The key of a record, if it has a sound block, and the end of its last block."""
        found: list[_Block] = []
        entries = record.entries
        for i, entry in enumerate(entries):
            next_at = entries[i + 1].offset if i + 1 < len(entries) else following
            block = self._block(entry, behind, next_at)
            if block is not None and found and block.type is not found[0].type:
                block = None
            if block is None:
                self._note(_lost(record, entry))
                behind = next_at if behind < next_at <= self.index_start else behind
                continue
            if block.entry != entry:
                self._note(_mended(record, block.entry))
            behind = block.entry.offset + block.entry.size
            found.append(block)
        if found:
            self._count(record.key, found, previous)
            ordered = tuple(sorted(block.entry for block in found))
            yield IndexKey(record.key, found[0].type, ordered)
        return behind

    def _block(self, entry: IndexEntry, behind: int, next_at: int) -> _Block | None:
        """Find the block of an entry, at its offset or in the gap between its neighbours."""
        places = dict.fromkeys(
            (
                (entry.offset, entry.size),
                (behind, entry.size),
                (entry.offset, next_at - entry.offset),
                (behind, next_at - behind),
            )
        )
        for offset, size_bytes in places:
            if len(HEADER) <= offset and offset + size_bytes <= self.index_start:
                data = sound_block(self._source, offset, size_bytes)
                block = None if data is None else _read(data, offset, size_bytes)
                # At a place that only the entry names, the times must match, too.
                if block is not None and (offset == behind or _agree(block.entry, entry)):
                    return block
        return None

    def _count(self, key: bytes, found: list[_Block], previous: bytes) -> None:
        counts = self._counts
        counts.keys += 1
        counts.series += split_key(key)[0] != previous
        counts.blocks += len(found)
        for block in found:
            counts.points += block.points
            counts.size_bytes += block.entry.size
            counts.min_time_ns = min(counts.min_time_ns, block.entry.min_time)
            counts.max_time_ns = max(counts.max_time_ns, block.entry.max_time)

    def _note_ends(self) -> None:
        head = bytes(self._source.pread(0, len(HEADER)))
        if head != HEADER:
            why = f"the file begins with {head.hex()}, a TSM file with {HEADER.hex()}"
            self._note(Damage(0, 0, "", None, None, why))
        if self._sound.footer:
            self._note(Damage(self._sound.start, 0, "", None, None, self._sound.footer))

    def _note(self, damage: Damage) -> None:
        self._counts.parts += 1
        if len(self._named) < MAX_NAMED:
            self._named.append(damage)


def salvaged(source: ByteSource, why: str) -> tuple[TSMFacts, FileDamage]:
    """The counts of the sound parts of a damaged file, and its damage.

    Args:
        why: the first error of `check_tsm`, for damage that loses no block.
    """
    file = SoundFile(source)
    for _ in file.index():
        pass
    damage = file.damage
    if not damage.parts:
        damage = FileDamage(1, damage.lost_bytes, (Damage(0, 0, "", None, None, why),))
    return file.facts, damage


def _read(data: bytes, offset: int, size_bytes: int) -> _Block | None:
    """Read type and times of a block with a matching CRC; None: it is not a block."""
    try:
        length, at = uvarint(data, 1, len(data))
        if data[0] > LAST_TYPE or not HEAD_BYTES <= length < len(data) - at:
            return None
        times = data[at : at + length]
        points = count_timestamps(times)
        first = int.from_bytes(times[1:HEAD_BYTES], signed=True)
        last = (first + time_span(times)) & MAX_WORD
    except BlockUndecodable:
        return None
    last -= (last >> 63) << 64
    if not points or last < first:
        return None
    return _Block(BlockType(data[0]), IndexEntry(first, last, offset, size_bytes), points)


def _agree(found: IndexEntry, reported: IndexEntry) -> bool:
    return found.min_time == reported.min_time or found.max_time == reported.max_time


def _lost(record: Record, entry: IndexEntry) -> Damage:
    return Damage(
        entry.offset,
        entry.size,
        shown(record.key),
        entry.min_time,
        entry.max_time,
        "its CRC-32 does not fit its bytes",
    )


def _mended(record: Record, entry: IndexEntry) -> Damage:
    return Damage(
        entry.offset,
        0,
        shown(record.key),
        entry.min_time,
        entry.max_time,
        "the index says other times or another place; the block itself is whole",
    )
