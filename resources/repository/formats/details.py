"""What we know about a backup beyond the original manifest, and how we came to know it.

All of it can be checked again by anyone: digests with `sha256sum`, counts and times with
`shardkeeper restore -list` or a TSM reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, field

from resources.errors import BadReply, ManifestUnreadable
from resources.model import ShardID
from resources.protocol.strict_json import MAX_UINT64, Int64, Shape, UInt, too_great
from resources.repository.formats import self_checksum
from resources.repository.formats.damage_record import (
    FileDamageShape,
    decode_damage,
    encode_damage,
)
from resources.repository.formats.owner_facts import OwnerFacts, OwnerShape
from resources.repository.formats.proof import Clocks, ClocksShape, Proof, ProofShape, ProvenAgain
from resources.tsm.damage import FileDamage

FORMAT = 2
"""Raised when a reader of an older version would misunderstand the evidence."""
FORMAT_WITH_ERAS = 3
"""Of manifests that belong to a later era than the first: older readers would mix their shards."""
CHECKSUM_SINCE = 2
"""From this format on a manifest has a checksum of itself, and without one it is damaged."""

MAX_MILLISECONDS = 1 << 50
"""Which seconds, as a float, hold exactly."""
Checked = Literal["full", "structure"]
Strategy = Literal["full", "incremental", "only-meta"]
Completeness = Literal["", "proven", "unknown"]
"""Whether everything that the server had acknowledged is in the archive; empty: not checked."""
TSM = ".tsm"
_CRC32, _SHA256 = re.compile("[0-9a-f]{8}"), re.compile("[0-9a-f]{64}")
_Milliseconds = Annotated[int, Meta(ge=0, le=MAX_MILLISECONDS)]

FileID: TypeAlias = tuple[str, int, int]
"""Name, size, CRC-32."""


class FileShape(Shape, frozen=True):
    """A file of a shard."""

    name: str
    size: UInt
    crc32: str
    keys: UInt | None = None
    points: UInt | None = None
    min_time: Int64 | None = field(name="minTime", default=None)
    max_time: Int64 | None = field(name="maxTime", default=None)
    damaged: FileDamageShape | None = None


class ShardShape(Shape, frozen=True):
    """What stands under the key `shardkeeper` of a shard."""

    sha256: str
    stored_bytes: UInt = field(name="storedSize")
    content: str
    checked: str
    tombstones: UInt
    node: str
    milliseconds: _Milliseconds
    group_start: Int64 = field(name="groupStart")
    group_end: Int64 = field(name="groupEnd")
    series: UInt | None = None
    points: UInt | None = None
    min_time: Int64 | None = field(name="minTime", default=None)
    max_time: Int64 | None = field(name="maxTime", default=None)
    read_at: UInt | None = field(name="readAt", default=None)
    modified_at: UInt | None = field(name="modifiedAt", default=None)
    complete: str | None = None
    proof: ProofShape | None = None
    owners: tuple[OwnerShape, ...] | None = None
    read_twice: bool | None = field(name="readTwice", default=None)
    files: tuple[FileShape, ...] | None = None
    gone: tuple[FileShape, ...] | None = None


class SourceShape(Shape, frozen=True):
    """Where a backup comes from."""

    kind: str
    address: str
    version: str
    cluster_id: UInt = field(name="clusterID")
    started_at: UInt | None = field(name="startedAt", default=None)
    clocks: ClocksShape | None = None
    boot_id: str | None = field(name="bootID", default=None)


class FailedShape(Shape, frozen=True):
    """A shard that was not saved."""

    shard_id: UInt = field(name="shardID")
    why: str


class ProvenShape(Shape, frozen=True):
    """A shard that was read again and found to be as in its archive."""

    shard_id: UInt = field(name="shardID")
    content: str
    proof: ProofShape


class BackupShape(Shape, frozen=True):
    """What stands under the key `shardkeeper` of a manifest."""

    format: Annotated[int, Meta(ge=1)]
    version: str
    strategy: str
    started_at: UInt = field(name="startedAt")
    source: SourceShape
    meta_sha256: str = field(name="metaSHA256")
    unchanged: tuple[UInt, ...] | None = None
    failed: tuple[FailedShape, ...] | None = None
    proven_again: tuple[ProvenShape, ...] | None = field(name="provenAgain", default=None)
    has_copy: bool | None = field(name="copy", default=None)
    era: str | None = None


class FileFacts(Struct, frozen=True):
    """One file of a shard, as it was inside the archive."""

    name: str
    """`000000001-000000001.tsm` or `….tombstone`, without the path."""
    size_bytes: int
    crc32: int
    keys: int = 0
    points: int | None = None
    """None when only the structure was checked, and for tombstones."""
    min_time_ns: int | None = None
    max_time_ns: int | None = None
    damage: FileDamage | None = None
    """Of a file that came damaged from its server; keys, points and times are of what is sound."""

    @property
    def id(self) -> FileID:
        return self.name, self.size_bytes, self.crc32

    @property
    def is_tsm(self) -> bool:
        return self.name.endswith(TSM)

    def encode(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.size_bytes,
            "crc32": f"{self.crc32:08x}",
            **({"keys": self.keys, "points": self.points} if self.is_tsm else {}),
            **times(self.min_time_ns, self.max_time_ns),
            **({"damaged": encode_damage(self.damage)} if self.damage else {}),
        }

    @classmethod
    def decode(cls, shape: FileShape, name: str) -> FileFacts:
        """Read it from a manifest.

        Raises:
            BadReply: a value is out of range.
        """
        if not _CRC32.fullmatch(shape.crc32):
            raise BadReply(f"{name}: crc32 is {shape.crc32[:20]!a}")
        if max(shape.size, shape.keys or 0, shape.points or 0) > MAX_UINT64:
            raise too_great(name)
        first_ns, last_ns = _time_range(shape, name)
        is_tsm = shape.name.endswith(TSM)
        return cls(
            shape.name,
            shape.size,
            int(shape.crc32, 16),
            shape.keys or 0 if is_tsm else 0,
            shape.points if is_tsm else None,
            first_ns,
            last_ns,
            None if shape.damaged is None else decode_damage(shape.damaged, name),
        )


class ShardDetails(Struct, frozen=True):
    """What was found in a shard's archive, where it came from, and when."""

    sha256: str
    """Of the stored file, in hex."""
    stored_bytes: int
    content: str
    """SHA-256 over names, sizes and CRC-32s of the shard's files: equal content, equal digest."""
    checked: Checked
    files: tuple[FileFacts, ...]
    series: int | None
    """None if several TSM files may repeat each other's series."""
    points: int | None
    """As stored; None if the blocks were not read."""
    min_time_ns: int | None
    max_time_ns: int | None
    tombstones: int
    """Deleted ranges that the server had not yet removed from its files."""
    node: str
    """TCP address the shard was read from."""
    read_at_ns: int | None
    """The server's clock before it was read; None if the server did not tell."""
    modified_ns: int | None
    """When the shard was last modified, as its nodes said before it was read; a single server
    keeps no such time."""
    seconds: float
    group_start_ns: int
    group_end_ns: int
    complete: Completeness = ""
    proof: Proof | None = None
    """None if it is not known, or if points were written all the while."""
    owners: tuple[OwnerFacts, ...] = ()
    """A cluster's nodes that have the shard; a single server has none."""
    gone: tuple[FileFacts, ...] = ()
    """Files of earlier archives that the server lost; each has `damage`, which names the archive
    that has it."""
    read_twice: bool = False
    """Whether every TSM file came twice and the same, so that no key was changed on its way."""

    @property
    def damaged(self) -> tuple[FileFacts, ...]:
        """Files that came damaged from the server, as they are in the archive; and lost ones."""
        return (*(file for file in self.files if file.damage is not None), *self.gone)

    @property
    def tsm_files(self) -> int:
        return sum(file.is_tsm for file in self.files)

    def encode(self) -> dict[str, Any]:
        return {
            "sha256": self.sha256,
            "storedSize": self.stored_bytes,
            "content": self.content,
            "checked": self.checked,
            "series": self.series,
            "points": self.points,
            **times(self.min_time_ns, self.max_time_ns),
            "tombstones": self.tombstones,
            "node": self.node,
            "readAt": self.read_at_ns,
            **({} if self.modified_ns is None else {"modifiedAt": self.modified_ns}),
            "milliseconds": round(self.seconds * 1000),
            "groupStart": self.group_start_ns,
            "groupEnd": self.group_end_ns,
            **({"complete": self.complete} if self.complete else {}),
            **({} if self.proof is None else {"proof": self.proof.encode()}),
            **({"owners": [owner.encode() for owner in self.owners]} if self.owners else {}),
            **({"readTwice": True} if self.read_twice else {}),
            "files": [file.encode() for file in self.files],
            **({"gone": [file.encode() for file in self.gone]} if self.gone else {}),
        }

    @classmethod
    def decode(cls, shape: ShardShape, name: str) -> ShardDetails:
        """Read it from a manifest.

        Raises:
            BadReply: a value is out of range.
        """
        counts = shape.stored_bytes, shape.tombstones, shape.series or 0, shape.points or 0
        if max(*counts, shape.read_at or 0, shape.modified_at or 0) > MAX_UINT64:
            raise too_great(name)
        first_ns, last_ns = _time_range(shape, name)
        return cls(
            sha256=_digest(shape.sha256, name, "sha256"),
            stored_bytes=shape.stored_bytes,
            content=_digest(shape.content, name, "content"),
            checked="full" if shape.checked == "full" else "structure",
            files=tuple([FileFacts.decode(file, name) for file in shape.files or ()]),
            series=shape.series,
            points=shape.points,
            min_time_ns=first_ns,
            max_time_ns=last_ns,
            tombstones=shape.tombstones,
            node=shape.node,
            read_at_ns=shape.read_at,
            modified_ns=shape.modified_at,
            seconds=shape.milliseconds / 1000,
            group_start_ns=shape.group_start,
            group_end_ns=shape.group_end,
            complete=_completeness(shape.complete),
            proof=None if shape.proof is None else Proof.decode(shape.proof, name),
            owners=tuple([OwnerFacts.decode(owner, name) for owner in shape.owners or ()]),
            gone=tuple([_gone(file, name) for file in shape.gone or ()]),
            read_twice=bool(shape.read_twice),
        )


class SourceInfo(Struct, frozen=True):
    """The server or cluster a backup was taken from."""

    kind: Literal["server", "cluster"]
    address: str
    version: str
    """As the server says; empty if it did not."""
    cluster_id: int
    """The metastore's own number, chosen at random when the server first started."""
    started_ns: int | None = None
    """When a server's process started, by its own clock; None if it did not tell."""
    clocks: Clocks | None = None
    """When it told that; None if it did not."""


class FailedShard(Struct, frozen=True):
    """A shard that a run should have saved and could not."""

    shard_id: ShardID
    why: str


class BackupDetails(Struct, frozen=True):
    """How a backup came about."""

    tool_version: str
    strategy: Strategy
    started_at_ns: int
    source: SourceInfo
    meta_sha256: str
    """Of the stored meta file."""
    unchanged: tuple[ShardID, ...] = ()
    """Shards whose earlier archives are still current."""
    failed: tuple[FailedShard, ...] = ()
    proven_again: tuple[ProvenAgain, ...] = ()
    """Some of the unchanged ones."""
    format: int = FORMAT
    """Of the file it was read from."""
    has_copy: bool = True
    """Whether a second copy of the manifest was stored; versions that stored none did not say."""
    era: str = ""
    """The backup that its era began with; empty in the first one."""

    def encode(self) -> dict[str, Any]:
        """The self-checksum is left blank, as `encode_with_checksum` takes it."""
        started, clocks = self.source.started_ns, self.source.clocks
        return {
            "format": FORMAT_WITH_ERAS if self.era else FORMAT,
            "version": self.tool_version,
            "strategy": self.strategy,
            "startedAt": self.started_at_ns,
            "source": {
                "kind": self.source.kind,
                "address": self.source.address,
                "version": self.source.version,
                "clusterID": self.source.cluster_id,
                **({} if started is None else {"startedAt": started}),
                **({} if clocks is None else clocks.encode()),
            },
            **({"era": self.era} if self.era else {}),
            "metaSHA256": self.meta_sha256,
            "unchanged": list(self.unchanged),
            "failed": [{"shardID": f.shard_id, "why": f.why} for f in self.failed],
            **_proven_again(self.proven_again),
            "copy": self.has_copy,
            self_checksum.KEY: self_checksum.BLANK,
        }

    @classmethod
    def decode(cls, shape: BackupShape, name: str) -> BackupDetails:
        """Read what a manifest says of its backup.

        Raises:
            BadReply: a value is out of range.
            ManifestUnreadable: a newer version wrote it.
        """
        check_format(shape.format, shape.version, name)
        source = shape.source
        numbers = shape.started_at, source.cluster_id, source.started_at or 0
        if max(*numbers, *(shape.unchanged or ())) > MAX_UINT64:
            raise too_great(name)
        return cls(
            tool_version=shape.version,
            strategy=_strategy(shape.strategy),
            started_at_ns=shape.started_at,
            source=SourceInfo(
                kind="cluster" if source.kind == "cluster" else "server",
                address=source.address,
                version=source.version,
                cluster_id=source.cluster_id,
                started_ns=source.started_at,
                clocks=None
                if source.clocks is None
                else Clocks.decode(source.clocks, source.boot_id, name),
            ),
            meta_sha256=_digest(shape.meta_sha256, name, "metaSHA256"),
            unchanged=tuple(ShardID(i) for i in shape.unchanged or ()),
            failed=tuple(_failed(shard, name) for shard in shape.failed or ()),
            proven_again=tuple(_proven(shard, name) for shard in shape.proven_again or ()),
            format=shape.format,
            has_copy=bool(shape.has_copy),
            era=shape.era or "",
        )


def check_format(written: int, version: str, name: str) -> None:
    """Check that this version knows the format of a manifest.

    Raises:
        ManifestUnreadable: a newer version wrote it.
    """
    if written > FORMAT_WITH_ERAS:
        raise ManifestUnreadable(
            f"{name}: written in format {written} by version {version[:40]}; this version reads "
            f"up to {FORMAT_WITH_ERAS}",
            hint="use that version of shardkeeper, or a newer one",
        )


def _failed(shape: FailedShape, name: str) -> FailedShard:
    if shape.shard_id > MAX_UINT64:
        raise too_great(name)
    return FailedShard(ShardID(shape.shard_id), shape.why)


def _proven(shape: ProvenShape, name: str) -> ProvenAgain:
    if shape.shard_id > MAX_UINT64:
        raise too_great(name)
    content = _digest(shape.content, name, "content")
    return ProvenAgain(ShardID(shape.shard_id), content, Proof.decode(shape.proof, name))


def _proven_again(shards: Iterable[ProvenAgain]) -> dict[str, Any]:
    listed = [
        {"shardID": s.shard_id, "content": s.content, "proof": s.proof.encode()} for s in shards
    ]
    return {"provenAgain": listed} if listed else {}


def _completeness(text: str | None) -> Completeness:
    match text:
        case "proven":
            return "proven"
        case "unknown":
            return "unknown"
        case _:
            return ""


def _strategy(text: str) -> Strategy:
    match text:
        case "full":
            return "full"
        case "only-meta":
            return "only-meta"
        case _:
            return "incremental"


def _gone(shape: FileShape, name: str) -> FileFacts:
    if shape.damaged is None:
        raise BadReply(f"{name}: damaged is missing")
    return FileFacts.decode(shape, name)


def _digest(text: str, name: str, key: str) -> str:
    if not _SHA256.fullmatch(text):
        raise BadReply(f"{name}: {key} is not a SHA-256 in hex")
    return text


def times(first: int | None, last: int | None) -> dict[str, int]:
    """The two keys of a time range, or none of them."""
    return {} if first is None or last is None else {"minTime": first, "maxTime": last}


def _time_range(shape: FileShape | ShardShape, name: str) -> tuple[int | None, int | None]:
    """A time range, or none at all.

    Raises:
        BadReply: half of one, or one that ends before it begins.
    """
    first, last = shape.min_time, shape.max_time
    if first is None and last is None:
        return None, None
    if first is None or last is None or first > last:
        raise BadReply(f"{name}: {first} to {last} is no range of time")
    return first, last
