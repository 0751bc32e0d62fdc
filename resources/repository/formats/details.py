"""What we know about a backup beyond the original manifest, and how we came to know it.

All of it can be checked again by anyone: digests with `sha256sum`, counts and times with
`shardkeeper restore -list` or a TSM reader.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from resources.errors import ManifestUnreadable
from resources.model import ShardID
from resources.repository.formats import self_checksum
from resources.repository.formats.damage_record import decode_damage, encode_damage
from resources.repository.formats.fields import Fields
from resources.repository.formats.owner_facts import OwnerFacts
from resources.repository.formats.proof import Clocks, Proof, ProvenAgain
from resources.tsm.damage import FileDamage

FORMAT = 2
"""Raised when a reader of an older version would misunderstand the evidence."""
FORMAT_WITH_ERAS = 3
"""Of manifests that belong to a later era than the first: older readers would mix their shards."""
CHECKSUM_SINCE = 2
"""From this format on a manifest has a seal, and without one it is damaged."""

MIN_TIME_NS = -(1 << 63)
MAX_MILLISECONDS = 1 << 50
"""Which seconds, as a float, hold exactly."""
Checked = Literal["full", "structure"]
Strategy = Literal["full", "incremental", "only-meta"]
Completeness = Literal["", "proven", "unknown"]
"""Whether everything that the server had acknowledged is in the archive; empty: nobody looked."""
TSM = ".tsm"
_CRC32, _SHA256 = re.compile("[0-9a-f]{8}"), re.compile("[0-9a-f]{64}")

FileID: TypeAlias = tuple[str, int, int]
"""Name, size, CRC-32."""


@dataclass(frozen=True, slots=True)
class FileFacts:
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
    def decode(cls, fields: Fields) -> FileFacts:
        name, crc32 = fields.text("name"), fields.text("crc32")
        if not _CRC32.fullmatch(crc32):
            raise ManifestUnreadable(f"{fields.name}: crc32 is {crc32[:20]!a}")
        first_ns, last_ns = times_in(fields)
        is_tsm = name.endswith(TSM)
        return cls(
            name,
            fields.integer("size"),
            int(crc32, 16),
            fields.integer("keys", default=0) if is_tsm else 0,
            fields.optional_integer("points") if is_tsm else None,
            first_ns,
            last_ns,
            decode_damage(damaged) if (damaged := fields.optional_object("damaged")) else None,
        )


def content_of(files: Iterable[FileFacts]) -> str:
    """SHA-256 over lines `name size crc32`, in the order given."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.size_bytes} {file.crc32:08x}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ShardDetails:
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
    read_twice: bool = False
    """Whether every TSM file came twice and the same, so that no key was changed on its way."""

    @property
    def damaged(self) -> tuple[FileFacts, ...]:
        """Files that came damaged from the server, as they are in the archive."""
        return tuple(file for file in self.files if file.damage is not None)

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
        }

    @classmethod
    def decode(cls, fields: Fields) -> ShardDetails:
        first_ns, last_ns = times_in(fields)
        return cls(
            sha256=_digest(fields, "sha256"),
            stored_bytes=fields.integer("storedSize"),
            content=_digest(fields, "content"),
            checked="full" if fields.text("checked") == "full" else "structure",
            files=tuple(FileFacts.decode(file) for file in fields.objects("files")),
            series=fields.optional_integer("series"),
            points=fields.optional_integer("points"),
            min_time_ns=first_ns,
            max_time_ns=last_ns,
            tombstones=fields.integer("tombstones"),
            node=fields.text("node"),
            read_at_ns=fields.optional_integer("readAt"),
            modified_ns=fields.optional_integer("modifiedAt"),
            seconds=fields.integer("milliseconds", maximum=MAX_MILLISECONDS) / 1000,
            group_start_ns=fields.integer("groupStart", minimum=MIN_TIME_NS),
            group_end_ns=fields.integer("groupEnd", minimum=MIN_TIME_NS),
            complete=_completeness(fields),
            proof=Proof.decode(proof) if (proof := fields.optional_object("proof")) else None,
            owners=tuple(map(OwnerFacts.decode, fields.objects("owners")))
            if "owners" in fields.document
            else (),
            read_twice=fields.boolean("readTwice", default=False),
        )


@dataclass(frozen=True, slots=True)
class Source:
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


@dataclass(frozen=True, slots=True)
class FailedShard:
    """A shard that a run should have saved and could not."""

    shard_id: ShardID
    why: str


@dataclass(frozen=True, slots=True)
class BackupDetails:
    """How a backup came about."""

    tool_version: str
    strategy: Strategy
    started_at_ns: int
    source: Source
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
        """The seal is left blank, as `encode_with_checksum` takes it."""
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
    def decode(cls, fields: Fields) -> BackupDetails:
        written = fields.integer("format", minimum=1)
        if written > FORMAT_WITH_ERAS:
            raise ManifestUnreadable(
                f"{fields.name}: written in format {written} by version "
                f"{fields.text('version', default='?')}; this version reads up to "
                f"{FORMAT_WITH_ERAS}",
                hint="use that version of shardkeeper, or a newer one",
            )
        source = fields.object("source")
        return cls(
            tool_version=fields.text("version"),
            strategy=_strategy(fields),
            started_at_ns=fields.integer("startedAt"),
            source=Source(
                kind="cluster" if source.text("kind") == "cluster" else "server",
                address=source.text("address"),
                version=source.text("version"),
                cluster_id=source.integer("clusterID"),
                started_ns=source.optional_integer("startedAt"),
                clocks=Clocks.decode(source) if "clocks" in source.document else None,
            ),
            meta_sha256=_digest(fields, "metaSHA256"),
            unchanged=tuple(ShardID(i) for i in fields.integers("unchanged")),
            failed=tuple(
                FailedShard(ShardID(f.integer("shardID")), f.text("why"))
                for f in fields.objects("failed")
            ),
            proven_again=tuple(
                ProvenAgain(
                    ShardID(f.integer("shardID")),
                    _digest(f, "content"),
                    Proof.decode(f.object("proof")),
                )
                for f in fields.objects("provenAgain")
            ),
            format=written,
            has_copy=fields.boolean("copy", default=False),
            era=fields.text("era", default=""),
        )


def _proven_again(shards: Iterable[ProvenAgain]) -> dict[str, Any]:
    listed = [
        {"shardID": s.shard_id, "content": s.content, "proof": s.proof.encode()} for s in shards
    ]
    return {"provenAgain": listed} if listed else {}


def _completeness(fields: Fields) -> Completeness:
    match fields.text("complete", default=""):
        case "proven":
            return "proven"
        case "unknown":
            return "unknown"
        case _:
            return ""


def _strategy(fields: Fields) -> Strategy:
    match fields.text("strategy"):
        case "full":
            return "full"
        case "only-meta":
            return "only-meta"
        case _:
            return "incremental"


def _digest(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if not _SHA256.fullmatch(text):
        raise ManifestUnreadable(f"{fields.name}: {key} is not a SHA-256 in hex")
    return text


def times(first: int | None, last: int | None) -> dict[str, int]:
    """The two keys of a time range, or none of them."""
    return {} if first is None or last is None else {"minTime": first, "maxTime": last}


def times_in(fields: Fields) -> tuple[int, int] | tuple[None, None]:
    """A time range, or none at all.

    Raises:
        ManifestUnreadable: half of one, or one that ends before it begins.
    """
    first = fields.optional_integer("minTime", minimum=MIN_TIME_NS)
    last = fields.optional_integer("maxTime", minimum=MIN_TIME_NS)
    if first is None and last is None:
        return None, None
    if first is None or last is None or first > last:
        raise ManifestUnreadable(f"{fields.name}: {first} to {last} is no range of time")
    return first, last
