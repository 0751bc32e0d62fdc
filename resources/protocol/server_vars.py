"""A server's /debug/vars: its clock, its age, and figures of its shards.

Source: influxdb services/httpd/handler.go, serveExpvar; tsdb/shard.go, Statistics;
tsdb/engine/tsm1/{cache,engine,file_store,wal}.go, Statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from msgspec import Struct

from resources.errors import BadReply
from resources.model import ShardID
from resources.protocol.reply_fields import ErrorInstead
from resources.protocol.snapshotter import MAX_UINT64
from resources.protocol.strict_json import decode_json, is_integer, is_object
from resources.protocol.times import parse_time


class CacheStats(Struct, frozen=True):
    """The part of a shard that is in its server's memory: the live store and the snapshot.

    To write its cache to files, a server turns the whole live store into a snapshot, writes that,
    and removes it when the files are in place. These figures include the snapshot meanwhile, and
    after a failed attempt.
    """

    memory_bytes: int
    """Live store and snapshot."""
    snapshot_bytes: int
    """The size of the snapshot that is being written, or whose writing failed; 0: none."""
    snapshot_attempts: int
    """The number of attempts to write it; 0: none."""
    taken_bytes: int
    """The size of all snapshots since the server's start."""

    @property
    def is_snapshotting(self) -> bool:
        """Whether a snapshot is being written, or waits for another attempt."""
        return self.snapshot_bytes != 0 or self.snapshot_attempts != 0


class ShardStats(Struct, frozen=True):
    """Figures of one shard; the counters restart at zero with the server."""

    num_files: int
    disk_bytes: int
    """The size of its TSM files, without WAL and cache."""
    write_points_ok: int
    wal_bytes: int | None = None
    """The size of its WAL, which gets deletes as well as points; 0 at rest."""
    database: str = ""
    policy: str = ""
    cache: CacheStats | None = None
    """None if the server does not report it."""
    wal_segment_bytes: int | None = None
    """The size of the WAL's current segment; 0: nothing was logged since the cache was written."""
    wal_writes: int | None = None
    """A counter of writes of points to the WAL; deletes do not change it."""
    compactions: int | None = None
    """A counter of compactions that replaced files."""
    compaction_errors: int = 0
    """A counter of compactions that failed; some servers take a file away then."""


class ServerVars(Struct, frozen=True):
    """The values from /debug/vars."""

    current_time_ns: int
    """The server's own clock."""
    started_ns: int | None
    shards: Mapping[ShardID, ShardStats]
    uptime_s: int | None = None
    """The age of the process; changes of the clock do not affect it."""


def server_vars(
    lines: Iterable[bytes], fallback_ns: Callable[[], int], *, activity: bool = True
) -> ServerVars:
    """Read the values from a reply, given line by line; unexpected values are left out.

    Wire:
        {
        "name:path:id": {"name":…,"tags":{…},"values":{…}},
        …
        }

    Only the needed lines are decoded, since there are five a shard. JSON in another layout is
    decoded as a whole.

    Args:
        fallback_ns: gives the server's time if the reply does not.
        activity: whether to read counters of writes, too; else the figures of files only.

    Raises:
        BadReply: the reply is not a JSON object, or is cut.
        ErrorInstead: the reply is an error.
    """
    reply = _VarsReader()
    for key, value in _members(iter(lines), _FILES + _ACTIVITY if activity else _FILES):
        reply.take(key, value)
    now_ns = reply.now_ns if reply.now_ns is not None else fallback_ns()
    return ServerVars(now_ns, reply.started_ns, reply.shards(), reply.uptime_s)


_FILES = (b'"system"', b'"tsm1_')
_ACTIVITY = (b'"shard',)


def _members(lines: Iterator[bytes], matters: tuple[bytes, ...]) -> Iterator[tuple[str, object]]:
    opening, first = next(lines, b""), next(lines, b"")
    if opening.strip() != b"{" or _member(first) is None:
        yield from _whole(b"\n".join([opening, first, *lines]))
        return
    last = first
    for line in chain([first], lines):
        if line.startswith(matters):
            member = _member(line)
            if member is not None:
                yield member
        last = line if line.strip() else last
    if last.strip() != b"}":
        raise BadReply("its reply does not end")


def _member(line: bytes) -> tuple[str, object] | None:
    """Decode a line of the form `"key": value,`; None: the line has another form."""
    quoted, colon, value = line.strip().removesuffix(b",").partition(b'": ')
    if not colon or not quoted.startswith(b'"'):
        return None
    try:
        return quoted[1:].decode("utf-8", "replace"), decode_json(value, "a value")
    except BadReply:
        return None


def _whole(raw: bytes) -> Iterator[tuple[str, object]]:
    reply = decode_json(raw, "its reply")
    if not is_object(reply):
        raise BadReply("unexpected reply: it is not an object")
    if "error" in reply:
        raise ErrorInstead(reply["error"])
    yield from reply.items()


class _VarsReader:
    """Collects the entries named tsm1_… and shard, by shard."""

    def __init__(self) -> None:
        self.now_ns: int | None = None
        self.started_ns: int | None = None
        self.uptime_s: int | None = None
        self._written: dict[ShardID, int] = {}
        self._logs: dict[ShardID, tuple[int, int, int]] = {}
        self._caches: dict[ShardID, CacheStats] = {}
        self._compactions: dict[ShardID, int] = {}
        self._errors: dict[ShardID, int] = {}
        self._files: dict[ShardID, tuple[int, int]] = {}
        self._places: dict[ShardID, tuple[str, str]] = {}

    def take(self, key: str, value: object) -> None:
        if not is_object(value):
            return
        if key == "system":
            self.now_ns = _time_or_none(value.get("currentTime"))
            self.started_ns = _time_or_none(value.get("started"))
            uptime = value.get("uptime")
            self.uptime_s = uptime if is_integer(uptime) and uptime >= 0 else None
            return
        tags, values = value.get("tags"), value.get("values")
        if not is_object(tags) or not is_object(values):
            return
        shard_id = _shard_id(tags.get("id"))  # a decimal string
        if shard_id is None:
            return
        match value.get("name"):
            case "tsm1_filestore":
                files = _count(values.get("numFiles")), _count(values.get("diskBytes"))
                self._files[shard_id] = files
                place = _text(tags.get("database")), _text(tags.get("retentionPolicy"))
                self._places[shard_id] = place
            case "shard":
                self._written[shard_id] = _count(values.get("writePointsOk"))
            case "tsm1_wal":
                current, old = ("currentSegmentDiskBytes", "oldSegmentsDiskBytes")
                self._logs[shard_id] = (
                    _count(values.get(current)),
                    _count(values.get(old)),
                    _count(values.get("writeOk")),
                )
            case "tsm1_cache":
                cache = _cache(values)
                if cache is not None:
                    self._caches[shard_id] = cache
            case "tsm1_engine":
                self._compactions[shard_id] = sum(_count(values.get(key)) for key in _COMPACTIONS)
                self._errors[shard_id] = sum(_count(values.get(key)) for key in _ERRORS)
            case _:
                pass

    def shards(self) -> dict[ShardID, ShardStats]:
        return {shard_id: self._shard(shard_id) for shard_id in self._files}

    def _shard(self, shard_id: ShardID) -> ShardStats:
        num_files, disk_bytes = self._files[shard_id]
        database, policy = self._places[shard_id]
        current, old, writes = self._logs.get(shard_id, (None, None, None))
        return ShardStats(
            num_files=num_files,
            disk_bytes=disk_bytes,
            write_points_ok=self._written.get(shard_id, 0),
            wal_bytes=None if current is None or old is None else current + old,
            database=database,
            policy=policy,
            cache=self._caches.get(shard_id),
            wal_segment_bytes=current,
            wal_writes=writes,
            compactions=self._compactions.get(shard_id),
            compaction_errors=self._errors.get(shard_id, 0),
        )


_COMPACTIONS = (
    "tsmLevel1Compactions",
    "tsmLevel2Compactions",
    "tsmLevel3Compactions",
    "tsmOptimizeCompactions",
    "tsmFullCompactions",
)
_ERRORS = tuple(name.removesuffix("s") + "Err" for name in _COMPACTIONS)


def _cache(values: Mapping[str, object]) -> CacheStats | None:
    """The cache's figures; None unless all are there, since a missing one is not zero."""
    reported = [values.get(k) for k in ("memBytes", "diskBytes", "snapshotCount", "cachedBytes")]
    counts = [figure for figure in reported if is_integer(figure)]
    return CacheStats(*counts) if len(counts) == len(reported) else None


def _shard_id(text: object) -> ShardID | None:
    if not isinstance(text, str) or not text.isascii() or not text.isdecimal() or len(text) > 20:
        return None
    return ShardID(int(text)) if int(text) <= MAX_UINT64 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if is_integer(value) else 0


def _time_or_none(value: object) -> int | None:
    try:
        return parse_time(value, "a time") if isinstance(value, str) else None
    except BadReply:
        return None
