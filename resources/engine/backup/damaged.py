"""A shard that is damaged at its source is saved as it is and marked.

A server reads a block without checking its CRC, and compaction writes the block with a new CRC.
So what the server sends is stored byte for byte: nothing is lost, and a better tool can still try
it. Before that,

- every other owner in a cluster is read: a whole replica is saved, and the damaged one named;
- of damaged replicas, the one that lost least is saved;
- the damaged files are read a second time and must be equal; otherwise the network changed them;
- some series must be sound: a shard without any fails, and its earlier archive stays the newest.

A file that its server lost is marked as damaged in all its parts; see `gone_files`.

The manifest names the damaged parts of each file. The backup ends with status 3, and so does
every later one while that archive is the newest. A restore leaves the damaged parts out.

Held by: tests/wire/test_damaged_blocks.py; tests/resources/tsm/test_sound.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from resources.clients.source import BackupSource, ShardCopy
from resources.engine.backup.second_read import SecondRead, compare
from resources.errors import ArchiveCorrupt, BackupPartial, TSMError, counted, shown
from resources.model import ShardID, ShardPlace
from resources.protocol.times import format_time
from resources.repository.backup_set import Archive
from resources.repository.formats.details import FileFacts, ShardDetails
from resources.tsm.damage import Damage

NAMED_FILES = NAMED_PARTS = 3
NEXT_STEP = (
    "restoring leaves the damaged parts out and says so; the archive keeps the files as they are. "
    "Find out whether the server's disk fails"
)
ACCEPT = (
    "look for a file of that name with .bad behind it at the server, and for 'corrupt tsm file' in "
    "its log; if exactly these points were deleted on purpose, say so once: backup -damaged accept"
)
REFUSED = "-damaged keep saves the shard as it is, with all that is whole in it, and marks it"


class DamagedCopy(TSMError):
    """A replica is damaged, and another one may be whole."""

    def __init__(self, what: str, lost_bytes: int) -> None:
        super().__init__(what)
        self.lost_bytes = lost_bytes


class Choice:
    """The choice of the replica of one shard to read next, and whether damage is accepted.

    Args:
        copies: best first.
    """

    def __init__(self, copies: Sequence[ShardCopy]) -> None:
        self._copies = copies
        self.damaged: dict[str, DamagedCopy] = {}
        self._last_resort = False

    def copy(self, attempt: int, is_away: Callable[[str], bool]) -> ShardCopy:
        """The replica to read at this attempt, counted from 1: each in turn.

        Args:
            is_away: whether a node does not answer at the moment.
        """
        left = [copy for copy in self._copies if copy.node not in self.damaged]
        left = [copy for copy in left if not is_away(copy.node)] or left
        if left and not self._last_resort:
            return left[(attempt - 1) % len(left)]
        return min(
            (copy for copy in self._copies if copy.node in self.damaged),
            key=lambda copy: self.damaged[copy.node].lost_bytes,
        )

    def require_best(self, shard_id: ShardID, node: str, files: Sequence[FileFacts]) -> None:
        """Require that no other replica has, or may have, lost less.

        Raises:
            DamagedCopy: another replica is to be read first.
        """
        found = DamagedCopy(
            f"{node}: shard {shard_id} is damaged there: {describe_damage(files)}",
            lost_bytes(files),
        )
        known = self.damaged.setdefault(node, found) is not found
        if known or self._last_resort:
            return
        others = [copy.node for copy in self._copies if copy.node != node]
        if any(
            other not in self.damaged or self.damaged[other].lost_bytes < found.lost_bytes
            for other in others
        ):
            raise found

    def fall_back(self) -> bool:
        """Accept a damaged replica, because the others cannot be read; False: there is none."""
        if self._last_resort or not self.damaged:
            return False
        self._last_resort = True
        return True

    def others(self, node: str) -> tuple[str, ...]:
        """The damage of the replicas that were not saved, a line each."""
        return tuple(found.what for other, found in self.damaged.items() if other != node)


def require_something_sound(shard_id: ShardID, node: str, files: Sequence[FileFacts]) -> None:
    """Require a file with a sound series; without one there is nothing to restore.

    Raises:
        ArchiveCorrupt: no file has a sound series.
    """
    if not any(file.keys for file in files if file.is_tsm):
        raise ArchiveCorrupt(
            f"{node}: nothing of shard {shard_id} can be read: {describe_damage(files)}",
            hint="run the backup again; if it stays so, find out whether the server's disk fails, "
            "and restore the shard from an earlier backup",
        )


def confirm_damage(
    source: BackupSource,
    shard_id: ShardID,
    node: str,
    files: Sequence[FileFacts],
    buffer: memoryview,
) -> None:
    """Request the damaged files again, and require equal bytes.

    Raises:
        ArchiveCorrupt: the bytes differ, or the files are gone.
        WireError: the second read failed.
    """
    wanted = SecondRead(tuple(files), None, sum(file.size_bytes for file in files))
    with source.open_shard(shard_id, node=node) as stream:
        if not compare(wanted, stream, buffer):
            raise ArchiveCorrupt(
                f"{node}: files of shard {shard_id} were damaged, and are gone when they are read "
                "again",
                hint="run the backup again",
            )


def lost_bytes(files: Iterable[FileFacts]) -> int:
    """Bytes of blocks of which nothing sound is left."""
    return sum(file.damage.lost_bytes for file in files if file.damage is not None)


def describe_damage(files: Iterable[FileFacts]) -> str:
    """Damaged files with keys, times and bytes; the first few of many."""
    damaged = [file for file in files if file.damage is not None]
    texts = [_of_file(file) for file in damaged[:NAMED_FILES]]
    if len(damaged) > NAMED_FILES:
        texts.append(f"and {len(damaged) - NAMED_FILES} more files")
    return "; ".join(texts)


def describe_archive(details: ShardDetails | None) -> str:
    """A message on the damage in a shard's newest archive; empty if there is none."""
    if details is None or not details.damaged:
        return ""
    text = (
        f"damaged at {details.node}, and saved as it is with all that is whole: "
        f"{describe_damage(details.damaged)}"
    )
    earlier = sorted({f.damage.whole_in for f in details.damaged if f.damage} - {""})
    if earlier:
        text += f"; the backup {earlier[-1].removesuffix('.manifest')} has it whole"
    return f"{text}; {ACCEPT}" if details.gone else text


def require_all_there(shard_id: ShardID, node: str, gone: Sequence[FileFacts]) -> None:
    """Require that the server has lost no file of the shard.

    Raises:
        BackupPartial: it has, and a strict backup saves no such shard.
    """
    if gone:
        raise BackupPartial(
            f"{node}: shard {shard_id} has lost files: {describe_damage(gone)}", hint=ACCEPT
        )


def describe_left_out(place: ShardPlace, files: Iterable[FileFacts]) -> str:
    """What a restore of a damaged archive leaves out."""
    damaged = [file for file in files if file.damage is not None]
    earlier = sorted({file.damage.whole_in for file in damaged if file.damage} - {""})
    text = (
        f"shard {place.shard_id} of {shown(place.database)} was damaged at its source, and what is "
        f"damaged is left out: {describe_damage(damaged)}"
    )
    if earlier:
        backup = earlier[-1].removesuffix(".manifest")
        text += f"; -as-of {backup} -shard {place.shard_id} restores it as it was then, whole"
    return text


def with_whole_ones(files: Sequence[FileFacts], previous: Archive | None) -> tuple[FileFacts, ...]:
    """The files; each damaged one names the earlier backup that has it whole, if one does.

    A file does not change while it keeps its name, so an earlier archive has the same one.
    """
    before = previous.entry.details if previous else None
    if before is None or previous is None:
        return tuple(files)
    known = {(file.name, file.size_bytes): file.damage for file in before.files}
    found: list[FileFacts] = []
    for file in files:
        key = (file.name, file.size_bytes)
        if file.damage is not None and key in known:
            earlier = known[key]
            whole_in = previous.manifest_file if earlier is None else earlier.whole_in
            found.append(replace(file, damage=replace(file.damage, whole_in=whole_in)))
        else:
            found.append(file)
    return tuple(found)


def _of_file(file: FileFacts) -> str:
    damage = file.damage
    assert damage is not None  # noqa: S101 - asked of damaged files alone
    if not damage.parts:
        return _of_gone(file)
    text = f"{file.name}: {counted(damage.parts, 'damaged part')}, {damage.lost_bytes} bytes lost"
    named = [_of_part(part) for part in damage.first[:NAMED_PARTS]]
    if damage.parts > len(named):
        named.append(f"{damage.parts - len(named)} more")
    return f"{text} ({'; '.join(named)})"


def _of_gone(file: FileFacts) -> str:
    text = f"{file.name} is gone"
    if file.min_time_ns is not None and file.max_time_ns is not None:
        held = "values" if file.points is None else counted(file.points, "value")
        text += (
            f", with its {held} of {format_time(file.min_time_ns)} to "
            f"{format_time(file.max_time_ns)}"
        )
    return f"{text}, and no compaction took it over"


def _of_part(part: Damage) -> str:
    named = f"{part.size_bytes} bytes at offset {part.offset}"
    if part.key:
        named += f" of {part.key}"
    if part.min_time_ns is not None and part.max_time_ns is not None:
        named += f", {format_time(part.min_time_ns)} to {format_time(part.max_time_ns)}"
    return f"{named}: {part.why}"
