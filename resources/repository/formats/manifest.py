"""The manifest: the file that makes a backup exist.

Its outer keys are those of the original tools, in their order, so both read each other's
(influxdb cmd/influxd/backup_util, Manifest and Entry). What we know beyond that stands
under keys named `shardkeeper`, which the original tools skip.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from resources.errors import BadReply, ManifestUnreadable
from resources.model import ShardID
from resources.protocol.strict_json import decode_json, is_object
from resources.repository.formats.details import CHECKSUM_SINCE, BackupDetails, ShardDetails
from resources.repository.formats.fields import Fields
from resources.repository.formats.names import check_file_name
from resources.repository.formats.self_checksum import (
    checksum_matches,
    encode_with_checksum,
    has_checksum,
)
from resources.runtime.gc_pause import gc_paused

MAX_MANIFEST_BYTES = 256 << 20
"""A million shards with evidence take less."""
OURS = "shardkeeper"
MOVE_IT = (
    "move it, and its copy if there is one, out of the directory to work with the others; "
    "shardkeeper restore -list shows what they hold"
)


@dataclass(frozen=True, slots=True)
class MetaEntry:
    """The meta file of a backup; `size_bytes` counts the metastore inside it, not the file."""

    file_name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard's archive: always a whole shard, never a difference."""

    database: str
    policy: str
    shard_id: ShardID
    file_name: str
    size_bytes: int
    """Length of the tar inside; 1024 when the shard held nothing."""
    last_modified_ns: int
    """0 from single servers; the ordering key between manifests (`Repository.current`)."""
    details: ShardDetails | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a backup was limited to; all empty: everything."""

    database: str = ""
    policy: str = ""
    shard_id: ShardID | None = None

    def __bool__(self) -> bool:
        return bool(self.database or self.policy or self.shard_id is not None)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one backup run stored."""

    meta: MetaEntry
    files: tuple[ShardEntry, ...]
    limits: Limits = field(default_factory=Limits)
    limited: bool = False
    details: BackupDetails | None = None

    def encode(self) -> bytes:
        """The file's bytes, as the original writes them: two spaces, no final newline."""
        document: dict[str, Any] = {
            "meta": {"fileName": self.meta.file_name, "size": self.meta.size_bytes},
            "limited": self.limited,
            "files": [_encode_entry(entry) for entry in self.files] or None,
        }
        if self.limits.database:
            document["database"] = self.limits.database
        if self.limits.policy:
            document["policy"] = self.limits.policy
        if self.limits.shard_id:
            document["shard_id"] = self.limits.shard_id
        if self.details is not None:
            document[OURS] = self.details.encode()
            return encode_with_checksum(document)
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def decode(cls, raw: bytes, name: str) -> Manifest:
        """Read a manifest that we, `influxd` or `influxd-ctl` wrote.

        Args:
            raw: the file.
            name: what to call it in messages.

        Raises:
            ManifestUnreadable: no JSON, a key of the wrong type or out of range, a duplicate
                key, a shard listed twice, or a seal that does not fit.
            UnsafeName: a file name that could lead outside the directory.
        """
        try:
            with gc_paused():
                found = cls._decode(Fields(_load(raw, name), name), name)
            _check_checksum(raw, found.details, name)
            return found
        except ManifestUnreadable as error:
            error.hint = error.hint or MOVE_IT
            raise

    @classmethod
    def _decode(cls, top: Fields, name: str) -> Manifest:
        meta = top.object("meta")
        files = tuple(_decode_entry(entry) for entry in top.objects("files"))
        ids = [entry.shard_id for entry in files]
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise ManifestUnreadable(f"{name}: lists shard {twice} twice")
        shard_id = top.optional_integer("shard_id")
        return cls(
            meta=MetaEntry(_file_name(meta, ".meta"), meta.integer("size")),
            files=files,
            limits=Limits(
                top.text("database", default=""),
                top.text("policy", default=""),
                None if not shard_id else ShardID(shard_id),
            ),
            limited=top.boolean("limited", default=False),
            details=BackupDetails.decode(ours) if (ours := top.optional_object(OURS)) else None,
        )


def _check_checksum(raw: bytes, details: BackupDetails | None, name: str) -> None:
    """Ours are sealed; a flip in the very key that says whose it is must not pass for theirs."""
    due = has_checksum(raw) if details is None else details.format >= CHECKSUM_SINCE
    if due and not (details is not None and checksum_matches(raw)):
        raise ManifestUnreadable(
            f"{name} is not what was written: its seal does not fit",
            hint="copy it back from elsewhere; or move it and its copy out of the directory and "
            "restore the state before it, or run backup -full there",
        )


def _encode_entry(entry: ShardEntry) -> dict[str, Any]:
    document: dict[str, Any] = {
        "database": entry.database,
        "policy": entry.policy,
        "shardID": entry.shard_id,
        "fileName": entry.file_name,
        "size": entry.size_bytes,
        "lastModified": entry.last_modified_ns,
    }
    if entry.details is not None:
        document[OURS] = entry.details.encode()
    return document


def _decode_entry(entry: Fields) -> ShardEntry:
    return ShardEntry(
        database=entry.text("database", default=""),
        policy=entry.text("policy", default=""),
        shard_id=ShardID(entry.integer("shardID")),
        file_name=_file_name(entry, ".tar.gz"),
        size_bytes=entry.integer("size"),
        last_modified_ns=entry.integer("lastModified", minimum=-(1 << 63), default=0),
        details=ShardDetails.decode(ours) if (ours := entry.optional_object(OURS)) else None,
    )


def _file_name(entry: Fields, suffix: str) -> str:
    name = entry.text("fileName")
    check_file_name(name)
    if not name.endswith(suffix):
        raise ManifestUnreadable(f"{entry.name}: fileName is {name!r}, expected a {suffix} file")
    return name


def _load(raw: bytes, name: str) -> dict[str, Any]:
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestUnreadable(f"{name}: {len(raw)} bytes, more than any manifest")
    try:
        document = decode_json(raw, name)
    except BadReply as error:
        raise ManifestUnreadable(error.what) from None
    if not is_object(document):
        raise ManifestUnreadable(f"{name} is no JSON object")
    return document
