"""Replies of the TCP snapshotter service, in both directions.

The server writes a reply and closes. It has no error reply: an empty stream is the error,
and only the server's log has the reason. Shard backups are tar streams and upload replies are
empty, so neither needs a parser here.

Source: influxdb services/snapshotter/service.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from resources.errors import BadReply, UnsafeName
from resources.model import ShardID
from resources.protocol.influxql import check_name
from resources.protocol.snapshotter import MAX_META_BYTES, MAX_UINT64, go_json
from resources.protocol.stream import HEAD_BYTES, Parsing, StreamReader
from resources.protocol.strict_json import Json, decode_json, is_array, is_object

BACKUP_MAGIC = 0x59590101
MAX_NODE_BYTES = 64 * 2**10
MAX_PATHS_BYTES = 64 * 2**20
"""Enough for a million shards with names of 30 characters."""

MAX_PAIRS = 2**20
"""The limit of shards in one import: an ID map of 16 MiB."""


@dataclass(frozen=True, slots=True)
class MetastoreReply:
    """The reply to MetastoreBackup; `meta` is a serialized `Data` with password hashes."""

    meta: bytes = field(repr=False)
    node: Json | None = None
    """The server's own node; null in every reply that we have captured."""

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


@dataclass(frozen=True, slots=True)
class ShardPath:
    """The path of a shard on a server; the names are checked, the statement itself is not."""

    database: str
    policy: str
    shard_id: ShardID

    def __str__(self) -> str:
        return f"{self.database}/{self.policy}/{self.shard_id}"


@dataclass(frozen=True, slots=True)
class OddPath:
    """The path of a shard whose database or policy has an invalid name.

    A configuration file can create one (`[[graphite]] database = "dc1/graphite"`): the server
    checks the names in statements only.
    """

    path: str
    shard_id: ShardID


@dataclass(frozen=True, slots=True)
class ShardPaths:
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


@dataclass(frozen=True, slots=True)
class IDMap:
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
