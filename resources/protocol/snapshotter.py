"""Requests and replies of the TCP snapshotter service (8088), in both directions.

A connection carries one request:

    0x03 | type, 1 byte | one JSON object and a newline | payload of type 6
    0x03 | 7            | shard ID, uint64 big-endian   | tar stream

The server sends its reply and closes. It has no error reply: an empty stream is the error, and only
the server's log has the reason. Shard backups are tar streams and upload replies are empty, so
neither needs a parser here.

`encode()` gives the bytes of Go's client, without the leading 0x03, which belongs to the
multiplexer in front of the service.

Source: influxdb services/snapshotter/service.go and client.go, tcp/mux.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Any, TypeAlias

from msgspec import Struct

from resources.errors import BadReply, UnsafeName
from resources.model import ShardID
from resources.protocol.influxql import check_name
from resources.protocol.stream import HEAD_BYTES, Parsing, StreamReader
from resources.protocol.strict_json import Json, decode_json, is_array, is_integer, is_object
from resources.protocol.times import ZERO_TIME, format_time, parse_time
from resources.values import repr_without

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


class ShardBackup(Struct, frozen=True):
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
            Since=ZERO_TIME if self.since_ns is None else format_time(self.since_ns),
        )


class MetastoreBackup(Struct, frozen=True):
    """Request the whole metastore, including users with their password hashes."""

    def encode(self) -> bytes:
        return _encode(RequestType.METASTORE_BACKUP)


class SeriesFileBackup(Struct, frozen=True):
    """Reserved: no server answers it."""

    def encode(self) -> bytes:
        return _encode(RequestType.SERIES_FILE_BACKUP)


class DatabasePaths(Struct, frozen=True):
    """List the shards of a database, or of all when the name is empty."""

    database: str = ""

    def encode(self) -> bytes:
        return _encode(RequestType.DATABASE_INFO, BackupDatabase=self.database)


class RetentionPolicyPaths(Struct, frozen=True):
    """List the shards of one retention policy."""

    database: str
    policy: str

    def encode(self) -> bytes:
        return _encode(
            RequestType.RETENTION_POLICY_INFO,
            BackupDatabase=self.database,
            BackupRetentionPolicy=self.policy,
        )


class ShardExport(Struct, frozen=True):
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


class MetastoreUpdate(Struct, frozen=True):
    """Create the databases, policies, groups and empty shards of another metastore.

    An empty `database` imports all but `_internal`, under their own names. The server does not
    import owners, users and continuous queries.
    """

    database: str
    new_database: str
    policy: str
    new_policy: str
    meta: bytes

    __repr__ = repr_without("meta")

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


class ShardUpdate(Struct, frozen=True):
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


# --- replies ----------------------------------------------------------------------------------

BACKUP_MAGIC = 0x59590101
MAX_NODE_BYTES = 64 * 2**10
MAX_PATHS_BYTES = 64 * 2**20
"""Enough for a million shards with names of 30 characters."""

MAX_PAIRS = 2**20
"""The limit of shards in one import: an ID map of 16 MiB."""


class MetastoreReply(Struct, frozen=True):
    """The reply to MetastoreBackup; `meta` is a serialized `Data` with password hashes."""

    meta: bytes
    node: Json | None = None
    """The server's own node; null in every reply that we have captured."""

    __repr__ = repr_without("meta")

    def encode(self) -> bytes:
        node = go_json(self.node)
        return (
            BACKUP_MAGIC.to_bytes(8, "big")
            + len(self.meta).to_bytes(8, "big")
            + self.meta
            + len(node).to_bytes(8, "big")
            + node
        )


def metastore_reply(reader: StreamReader) -> Parsing[MetastoreReply]:
    """Read the answer to MetastoreBackup.

    Wire, integers big-endian uint64:
        magic 0x59590101 | n | meta, n bytes | k | node, k bytes of JSON | EOF

    The part from k on may be missing as a whole: no reader of portable backups uses it.

    Raises:
        BadReply: wrong magic, a length beyond its limit, no JSON, or bytes after the end.
        PeerClosedEarly: EOF inside one of the parts.

    Source: influxdb services/snapshotter/service.go, writeMetaStore.
    """
    yield from _magic(reader)
    meta = yield from reader.read_block("meta", limit=MAX_META_BYTES)
    if (yield from reader.at_eof()):
        return MetastoreReply(meta)
    raw = yield from reader.read_block("node", limit=MAX_NODE_BYTES)
    yield from reader.expect_eof()
    node = decode_json(raw, "node")
    if node is not None and not is_object(node):
        raise BadReply("node is not a JSON object")
    return MetastoreReply(meta, node)


class ShardPath(Struct, frozen=True):
    """The path of a shard on a server; the names are checked, the statement itself is not."""

    database: str
    policy: str
    shard_id: ShardID

    def __str__(self) -> str:
        return f"{self.database}/{self.policy}/{self.shard_id}"


class OddPath(Struct, frozen=True):
    """The path of a shard whose database or policy has an invalid name.

    A configuration file can create one (`[[graphite]] database = "dc1/graphite"`): the server
    checks the names in statements only.
    """

    path: str
    shard_id: ShardID


class ShardPaths(Struct, frozen=True):
    """The reply to DatabasePaths and RetentionPolicyPaths: the shards on this server."""

    paths: tuple[ShardPath, ...]
    odd: tuple[OddPath, ...] = ()
    """Shards whose names no archive can have."""

    def encode(self) -> bytes:
        paths = [str(path) for path in self.paths] + [one.path for one in self.odd]
        return go_json({"Paths": paths or None})


def shard_paths(reader: StreamReader) -> Parsing[ShardPaths]:
    r"""Read a list of shards, in the metastore's order; shards of deleted groups are included.

    Wire:
        {"Paths":["db/rp/7","db/rp/8"]}, or null for none | newline | EOF

    A server on Windows separates the parts by \.

    Raises:
        BadReply: JSON of another form, a path of less than three parts, an ID that is not a uint64.
        PeerClosedEarly: EOF before the newline.

    Source: influxdb services/snapshotter/service.go, writeDatabaseInfo.
    """
    line = yield from reader.read_line("the shard paths", limit=MAX_PATHS_BYTES)
    yield from reader.expect_eof()
    reply = decode_json(line, "the shard paths")
    if not is_object(reply) or "Paths" not in reply:
        raise BadReply("the shard paths are not a JSON object with Paths")
    paths: object = reply["Paths"]
    if paths is None:
        return ShardPaths(())
    if not is_array(paths):
        raise BadReply("Paths is not an array")
    read = [_shard_path(path) for path in paths]
    return ShardPaths(
        tuple(path for path in read if isinstance(path, ShardPath)),
        tuple(path for path in read if isinstance(path, OddPath)),
    )


DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}")


def _shard_path(path: object) -> ShardPath | OddPath:
    if not isinstance(path, str):
        raise BadReply("a shard path is not a string")
    parts = re.split(r"[/\\]", path)
    if len(parts) < 3:
        raise BadReply(f"a shard path has {len(parts)} parts instead of 3: {path[:120]!a}")
    if not DECIMAL.fullmatch(parts[-1]) or int(parts[-1]) > MAX_UINT64:
        raise BadReply(f"a shard path ends in no shard ID: {path[:120]!a}")
    shard_id = ShardID(int(parts[-1]))
    if len(parts) > 3:
        return OddPath(path, shard_id)
    database, policy, _ = parts
    try:
        check_name("database", database)
        check_name("retention policy", policy)
    except UnsafeName:
        return OddPath(path, shard_id)
    return ShardPath(database, policy, shard_id)


class IDMap(Struct, frozen=True):
    """The new id of each imported shard; a server refuses an import by a map without pairs."""

    pairs: tuple[tuple[ShardID, ShardID], ...]

    def encode(self) -> bytes:
        flat = [number for pair in self.pairs for number in pair]
        return b"".join(
            number.to_bytes(8, "big") for number in (BACKUP_MAGIC, len(self.pairs), *flat)
        )


def id_map(reader: StreamReader) -> Parsing[IDMap]:
    """Read the answer to MetastoreUpdate.

    Wire, integers big-endian uint64; pairs unordered:
        magic 0x59590101 | n | n times: old shard ID, new shard ID | EOF

    Raises:
        BadReply: wrong magic, more than MAX_PAIRS, an ID twice, or bytes after the end.
        PeerClosedEarly: EOF before the last pair.

    Source: influxdb services/snapshotter/service.go, respondIDMap.
    """
    yield from _magic(reader)
    n_pairs = yield from reader.read_uint64("the number of pairs")
    if n_pairs > MAX_PAIRS:
        raise BadReply(f"the ID map claims {n_pairs} pairs, at most {MAX_PAIRS} are accepted")
    raw = yield from reader.read_exactly(16 * n_pairs, "the ID map")
    yield from reader.expect_eof()
    numbers = [ShardID(int.from_bytes(raw[at : at + 8], "big")) for at in range(0, len(raw), 8)]
    olds, news = numbers[::2], numbers[1::2]
    if len(set(olds)) != n_pairs or len(set(news)) != n_pairs:
        raise BadReply("the ID map names a shard twice")
    return IDMap(tuple(zip(olds, news, strict=True)))


_HTTP_REPLY = re.compile(rb"HTTP/1\.[01] [0-9]{3}[^\x00\r\n]*\r\n")
_PAGE = re.compile(rb"<(?:!doctype|html)", re.IGNORECASE)
"""Replies without a status line, by HTTP servers that take the request for HTTP/0.9."""
_TLS_ALERT = re.compile(rb"\x15\x03[\x00-\x04]\x00\x02")


def what_answered_instead(head: bytes) -> str:
    """Name the protocol of a reply that is not the snapshotter's; empty if it is unknown.

    A tar member may begin with "HTTP/1.1", too, but no name in it has a line break.
    """
    if _HTTP_REPLY.match(head):
        return "this is an HTTP port; the snapshotter listens on another, 8088 by default"
    if _TLS_ALERT.match(head):
        return "this port speaks TLS, and the snapshotter is expected to speak plain TCP"
    return ""


class Stranger(Enum):
    """Other kinds of servers that may answer a request for the metastore."""

    HTTP = "http"
    TLS = "tls"
    NOBODY = "nobody"
    """The connection was closed without an answer."""


def who_answers(reader: StreamReader) -> Parsing[MetastoreReply | Stranger]:
    """Read the reply of any kind of server to MetastoreBackup.

    Raises:
        BadReply: as `metastore_reply`; also if the protocol is unknown.
        PeerClosedEarly: as `metastore_reply`.
    """
    if (yield from reader.at_eof()):
        return Stranger.NOBODY
    arrived = 0
    while _undecided(reader.head) and len(reader.head) > arrived:
        arrived = len(reader.head)
        yield
    if _HTTP_REPLY.match(reader.head) or _PAGE.match(reader.head):
        return Stranger.HTTP
    if _TLS_ALERT.match(reader.head):
        return Stranger.TLS
    return (yield from metastore_reply(reader))


def _undecided(head: bytes) -> bool:
    """Whether more bytes may show another protocol."""
    if b"\n" in head or len(head) >= HEAD_BYTES:
        return False
    return b"HTTP/".startswith(head[:5]) or (head[:1] == b"\x15" and len(head) < 7)


def _magic(reader: StreamReader) -> Parsing[None]:
    magic = yield from reader.read_uint64("magic")
    if magic != BACKUP_MAGIC:
        raise BadReply(f"expected magic {BACKUP_MAGIC:#010x}, got {magic:#x}")
