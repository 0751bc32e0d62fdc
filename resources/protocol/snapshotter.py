"""Requests of the TCP snapshotter service (8088), in both directions.

A connection carries one request:

    0x03 | type, 1 byte | one JSON object and a newline | payload of type 6
    0x03 | 7            | shard ID, uint64 big-endian   | tar stream

The server sends its reply and closes (snapshotter_replies.py); it has no error reply.
`encode()` gives the bytes of Go's client, without the leading 0x03, which belongs to the
multiplexer in front of the service.

Source: influxdb services/snapshotter/service.go and client.go, tcp/mux.go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

from resources.errors import BadReply
from resources.model import ShardID
from resources.protocol.stream import Parsing, StreamReader
from resources.protocol.strict_json import decode_json, is_integer, is_object
from resources.protocol.times import ZERO_TIME, format_time, parse_time

MUX_HEADER = b"\x03"
"""Selects the snapshotter on a port that several services share."""

MAX_UINT64 = 2**64 - 1
MAX_META_BYTES = 64 * 2**20
"""Enough for about two million shards."""

MAX_REQUEST_BYTES = 64 * 2**10
"""A request's JSON holds four names and a few numbers."""


class RequestType(IntEnum):
    """The request's type; the `Type` in its JSON is only for the server's log."""

    SHARD_BACKUP = 0
    METASTORE_BACKUP = 1
    SERIES_FILE_BACKUP = 2
    DATABASE_INFO = 3
    RETENTION_POLICY_INFO = 4
    SHARD_EXPORT = 5
    METASTORE_UPDATE = 6
    SHARD_UPDATE = 7


@dataclass(frozen=True, slots=True)
class ShardBackup:
    """Request the shard's files that changed after `since_ns`; the server flushes its cache."""

    shard_id: ShardID
    since_ns: int | None = None
    database: str = ""
    """Ignored by servers, like `policy`; Go's client fills both."""
    policy: str = ""

    def encode(self) -> bytes:
        return _encode(
            RequestType.SHARD_BACKUP,
            BackupDatabase=self.database,
            BackupRetentionPolicy=self.policy,
            ShardID=self.shard_id,
            Since=format_time(self.since_ns),
        )


@dataclass(frozen=True, slots=True)
class MetastoreBackup:
    """Request the whole metastore, including users with their password hashes."""

    def encode(self) -> bytes:
        return _encode(RequestType.METASTORE_BACKUP)


@dataclass(frozen=True, slots=True)
class SeriesFileBackup:
    """Reserved: no server answers it."""

    def encode(self) -> bytes:
        return _encode(RequestType.SERIES_FILE_BACKUP)


@dataclass(frozen=True, slots=True)
class DatabasePaths:
    """List the shards of a database, or of all when the name is empty."""

    database: str = ""

    def encode(self) -> bytes:
        return _encode(RequestType.DATABASE_INFO, BackupDatabase=self.database)


@dataclass(frozen=True, slots=True)
class RetentionPolicyPaths:
    """List the shards of one retention policy."""

    database: str
    policy: str

    def encode(self) -> bytes:
        return _encode(
            RequestType.RETENTION_POLICY_INFO,
            BackupDatabase=self.database,
            BackupRetentionPolicy=self.policy,
        )


@dataclass(frozen=True, slots=True)
class ShardExport:
    """Request the blocks between two times; the server sends whole blocks.

    Servers up to 1.12 send a single block unless both bounds are given.
    """

    shard_id: ShardID
    start_time_ns: int | None
    end_time_ns: int | None

    def encode(self) -> bytes:
        return _encode(
            RequestType.SHARD_EXPORT,
            ShardID=self.shard_id,
            ExportStart=format_time(self.start_time_ns),
            ExportEnd=format_time(self.end_time_ns),
        )


@dataclass(frozen=True, slots=True)
class MetastoreUpdate:
    """Create the databases, policies, groups and empty shards of another metastore.

    An empty `database` imports all but `_internal`, under their own names. The server does not
    import owners, users and continuous queries.
    """

    database: str
    new_database: str
    policy: str
    new_policy: str
    meta: bytes = field(repr=False)

    def encode(self) -> bytes:
        head = _encode(
            RequestType.METASTORE_UPDATE,
            BackupDatabase=self.database,
            RestoreDatabase=self.new_database,
            BackupRetentionPolicy=self.policy,
            RestoreRetentionPolicy=self.new_policy,
            UploadSize=len(self.meta),
        )
        return head + self.meta


@dataclass(frozen=True, slots=True)
class ShardUpdate:
    """Replace a shard's files by the tar stream that follows."""

    shard_id: ShardID

    def encode(self) -> bytes:
        return bytes([RequestType.SHARD_UPDATE]) + self.shard_id.to_bytes(8, "big")


Request: TypeAlias = (
    ShardBackup
    | MetastoreBackup
    | SeriesFileBackup
    | DatabasePaths
    | RetentionPolicyPaths
    | ShardExport
    | MetastoreUpdate
    | ShardUpdate
)


def request(reader: StreamReader) -> Parsing[Request]:
    """Read a request after the mux header; a tar stream stays in the reader.

    As lenient as the server: keys in any case, unknown keys ignored, missing keys and null
    are zero values, a newline is needed only before a payload. The type byte decides.

    Raises:
        BadReply: an unknown type, no JSON object, a field of the wrong type or out of
            range, a payload beyond MAX_META_BYTES.
        PeerClosedEarly: EOF before the end of the request.

    Source: influxdb services/snapshotter/service.go, readRequest and handleConn.
    """
    number = yield from reader.read_byte("the request type")
    if number == RequestType.SHARD_UPDATE:
        return ShardUpdate(ShardID((yield from reader.read_uint64("the shard ID"))))
    if number > RequestType.SHARD_UPDATE:
        raise BadReply(f"request of unknown type {number}")
    raw = yield from reader.read_json_object("the request", limit=MAX_REQUEST_BYTES)
    asked = _Asked(raw)
    match RequestType(number):
        case RequestType.SHARD_BACKUP:
            return ShardBackup(
                asked.shard_id(),
                asked.time("Since"),
                asked.text("BackupDatabase"),
                asked.text("BackupRetentionPolicy"),
            )
        case RequestType.METASTORE_BACKUP:
            return MetastoreBackup()
        case RequestType.SERIES_FILE_BACKUP:
            return SeriesFileBackup()
        case RequestType.DATABASE_INFO:
            return DatabasePaths(asked.text("BackupDatabase"))
        case RequestType.RETENTION_POLICY_INFO:
            return RetentionPolicyPaths(
                asked.text("BackupDatabase"), asked.text("BackupRetentionPolicy")
            )
        case RequestType.SHARD_EXPORT:
            return ShardExport(asked.shard_id(), asked.time("ExportStart"), asked.time("ExportEnd"))
        case _:
            size = asked.number("UploadSize", limit=MAX_META_BYTES)
            if size:
                # The server skips one byte, of any value, between JSON and payload.
                yield from reader.read_byte("the newline before the payload")
            return MetastoreUpdate(
                database=asked.text("BackupDatabase"),
                new_database=asked.text("RestoreDatabase"),
                policy=asked.text("BackupRetentionPolicy"),
                new_policy=asked.text("RestoreRetentionPolicy"),
                meta=(yield from reader.read_exactly(size, "the payload")),
            )


_ZERO_REQUEST: Mapping[str, object] = {
    "Type": 0,
    "BackupDatabase": "",
    "RestoreDatabase": "",
    "BackupRetentionPolicy": "",
    "RestoreRetentionPolicy": "",
    "ShardID": 0,
    "Since": ZERO_TIME,
    "ExportStart": ZERO_TIME,
    "ExportEnd": ZERO_TIME,
    "UploadSize": 0,
}
"""All keys in Go's order; Go omits none."""


def _encode(kind: RequestType, **asked: object) -> bytes:
    return bytes([kind]) + go_json({**_ZERO_REQUEST, "Type": int(kind), **asked})


def go_json(value: object) -> bytes:
    """One line of JSON as Go's encoder writes it: no spaces, and `<`, `>`, `&` escaped."""
    text = _GO_JSON(value)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode() + b"\n"


_GO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Asked:
    """The JSON of a request, with keys folded as Go folds them."""

    def __init__(self, raw: bytes) -> None:
        decoded = decode_json(raw, "the request")
        if not is_object(decoded):
            raise BadReply("the request is not a JSON object")
        self._values: dict[str, Any] = {key.lower(): value for key, value in decoded.items()}
        for name in _ZERO_REQUEST:
            # The server decodes all fields, so a wrong but unused one fails the request, too.
            if name in ("Since", "ExportStart", "ExportEnd"):
                self.time(name)
            elif name == "Type":
                self.number(name, limit=255)
            elif name == "ShardID":
                self.shard_id()
            elif name == "UploadSize":
                self.number(name, limit=MAX_META_BYTES)
            else:
                self.text(name)

    def text(self, name: str) -> str:
        value = self._values.get(name.lower())
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadReply(f"the request's {name} is not a string")
        return value

    def number(self, name: str, limit: int) -> int:
        value = self._values.get(name.lower())
        if value is None:
            return 0
        if not is_integer(value) or not 0 <= value <= limit:
            raise BadReply(f"the request's {name} is not an integer of 0 to {limit}")
        return value

    def shard_id(self) -> ShardID:
        return ShardID(self.number("ShardID", limit=MAX_UINT64))

    def time(self, name: str) -> int | None:
        if self._values.get(name.lower()) is None:
            return None
        return parse_time(self.text(name), f"the request's {name}")
