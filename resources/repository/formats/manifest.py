"""The manifest: the file that makes a backup exist.

Its outer keys are those of the original tools, in their order, so both read each other's
(influxdb cmd/influxd/backup_util, Manifest and Entry). What we know beyond that stands
under keys named `shardkeeper`, which the original tools skip.

A manifest whose own checksum fits is byte for byte what was written, so msgspec decodes it straight
into `ManifestShape`: a third of the time, and there may be ten thousand shards in it. Every other
one, such as those of the original tools, is read strictly first: a key that occurs twice is
refused, and the original's keys are matched without case, as Go's decoder does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct, field

from resources.errors import BadReply, ManifestUnreadable
from resources.model import ShardID
from resources.protocol.strict_json import (
    MAX_UINT64,
    Int64,
    Json,
    Shape,
    UInt,
    convert_json,
    decode_json,
    is_array,
    is_integer,
    is_object,
    too_great,
)
from resources.repository.formats.details import (
    CHECKSUM_SINCE,
    BackupDetails,
    BackupShape,
    ShardDetails,
    ShardShape,
    check_format,
)
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


class MetaShape(Shape, frozen=True):
    """The meta file."""

    file_name: str = msgspec.field(name="fileName")
    size: UInt


class EntryShape(Shape, frozen=True):
    """A shard's archive."""

    shard_id: UInt = msgspec.field(name="shardID")
    file_name: str = msgspec.field(name="fileName")
    size: UInt
    database: str | None = None
    policy: str | None = None
    last_modified: Int64 | None = msgspec.field(name="lastModified", default=None)
    shardkeeper: ShardShape | None = None


class ManifestShape(Shape, frozen=True):
    """The whole file."""

    meta: MetaShape
    files: tuple[EntryShape, ...] | None = None
    limited: bool | None = None
    database: str | None = None
    policy: str | None = None
    shard_id: UInt | None = None
    shardkeeper: BackupShape | None = None


_DECODER = msgspec.json.Decoder(ManifestShape)
_TOP = ("meta", "limited", "files", "database", "policy", "shard_id", OURS)
_ENTRY = ("database", "policy", "shardID", "fileName", "size", "lastModified", OURS)
_META = ("fileName", "size")


class MetaEntry(Struct, frozen=True):
    """The meta file of a backup; `size_bytes` counts the metastore inside it, not the file."""

    file_name: str
    size_bytes: int


class ShardEntry(Struct, frozen=True):
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


class Limits(Struct, frozen=True):
    """What a backup was limited to; all empty: everything."""

    database: str = ""
    policy: str = ""
    shard_id: ShardID | None = None

    def __bool__(self) -> bool:
        return bool(self.database or self.policy or self.shard_id is not None)


class Manifest(Struct, frozen=True):
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
                key, a shard listed twice, or a checksum that does not match.
            UnsafeName: a file name that could lead outside the directory.
        """
        checksum_fits = checksum_matches(raw)
        try:
            with gc_paused():
                found = cls._of(_read(raw, name, checksum_fits=checksum_fits), name)
            _check_checksum(raw, found.details, name, checksum_fits=checksum_fits)
            return found
        except BadReply as error:
            raise ManifestUnreadable(error.what, hint=MOVE_IT) from None
        except ManifestUnreadable as error:
            error.hint = error.hint or MOVE_IT
            raise

    @classmethod
    def _of(cls, shape: ManifestShape, name: str) -> Manifest:
        if max(shape.meta.size, shape.shard_id or 0) > MAX_UINT64:
            raise too_great(name)
        files = tuple([_decode_entry(entry, name) for entry in shape.files or ()])
        ids = [entry.shard_id for entry in files]
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise ManifestUnreadable(f"{name}: lists shard {twice} twice")
        ours = shape.shardkeeper
        return cls(
            meta=MetaEntry(_file_name(shape.meta.file_name, ".meta", name), shape.meta.size),
            files=files,
            limits=Limits(
                shape.database or "",
                shape.policy or "",
                ShardID(shape.shard_id) if shape.shard_id else None,
            ),
            limited=bool(shape.limited),
            details=None if ours is None else BackupDetails.decode(ours, name),
        )


def _check_checksum(
    raw: bytes, details: BackupDetails | None, name: str, *, checksum_fits: bool
) -> None:
    """Check the self-checksum of a manifest of ours.

    A flip in the key that marks it as ours must not make it pass for another tool's.
    """
    due = has_checksum(raw) if details is None else details.format >= CHECKSUM_SINCE
    if due and not (details is not None and checksum_fits):
        raise ManifestUnreadable(
            f"{name} was changed after it was written: its checksum does not match",
            hint="copy it back from elsewhere; or move it and its copy out of the directory and "
            "restore the state before it, or run backup -full",
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


def _decode_entry(shape: EntryShape, name: str) -> ShardEntry:
    if max(shape.shard_id, shape.size) > MAX_UINT64:
        raise too_great(name)
    ours = shape.shardkeeper
    return ShardEntry(
        database=shape.database or "",
        policy=shape.policy or "",
        shard_id=ShardID(shape.shard_id),
        file_name=_file_name(shape.file_name, ".tar.gz", name),
        size_bytes=shape.size,
        last_modified_ns=shape.last_modified or 0,
        details=None if ours is None else ShardDetails.decode(ours, f"{name}: {shape.file_name}"),
    )


def _file_name(file_name: str, suffix: str, name: str) -> str:
    check_file_name(file_name)
    if not file_name.endswith(suffix):
        raise ManifestUnreadable(f"{name}: fileName is {file_name!r}, expected a {suffix} file")
    return file_name


def _read(raw: bytes, name: str, *, checksum_fits: bool) -> ManifestShape:
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestUnreadable(
            f"{name}: {len(raw)} bytes, and manifests have at most {MAX_MANIFEST_BYTES}"
        )
    if checksum_fits:
        try:
            return _DECODER.decode(raw)
        except (RecursionError, ValueError):
            pass  # the strict reader says where and why, or that a newer version wrote it
    document = decode_json(raw, name)
    if not is_object(document):
        raise ManifestUnreadable(f"{name} is JSON, and not a manifest: it has no keys")
    document = _folded(document)
    ours = document.get(OURS)
    if is_object(ours) and is_integer(written := ours.get("format")):
        check_format(written, str(ours.get("version") or "?"), name)
    return convert_json(document, ManifestShape, name)


def _folded(document: Json) -> Json:
    """A manifest with the original's keys as the original writes them."""
    top = _with_keys(document, _TOP)
    meta, files = top.get("meta"), top.get("files")
    if is_object(meta):
        top["meta"] = _with_keys(meta, _META)
    if is_array(files):
        top["files"] = [_with_keys(one, _ENTRY) if is_object(one) else one for one in files]
    return top


def _with_keys(values: Json, keys: Iterable[str]) -> Json:
    """`values` with each key in the spelling of `keys`; one that is spelled so counts first."""
    missing = {key.casefold(): key for key in keys if key not in values}
    if not missing:
        return values
    found: Json = {}
    for key, value in values.items():
        spelled = missing.pop(key.casefold(), key) if key not in keys else key
        found[spelled] = value
    return found
