"""What a server tells about itself at /debug/vars: its clock, its age, its shards' figures.

Source: influxdb services/httpd/handler.go, serveExpvar; tsdb/shard.go and
tsdb/engine/tsm1/file_store.go, Statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resources.errors import BadReply
from resources.model import ShardID
from resources.protocol.snapshotter import MAX_UINT64
from resources.protocol.strict_json import is_integer, is_object
from resources.protocol.times import parse_time


@dataclass(frozen=True, slots=True)
class ShardStats:
    """Figures of one shard; the counter starts again at zero with the server."""

    num_files: int
    disk_bytes: int
    """Of its TSM files, without WAL and cache."""
    write_points_ok: int
    wal_bytes: int = 0
    """Of its write-ahead log, which takes deletes as well as points."""
    database: str = ""
    policy: str = ""


@dataclass(frozen=True, slots=True)
class ServerVars:
    """What /debug/vars tells."""

    current_time_ns: int
    """The server's own clock."""
    started_ns: int | None
    shards: Mapping[ShardID, ShardStats]


def server_vars(said: Mapping[str, Any], fallback_ns: Callable[[], int]) -> ServerVars:
    """Pick the values out of decoded JSON; what is not as expected is left out.

    `fallback_ns` gives the server's time when the JSON does not.
    """
    system = said.get("system")
    now_ns = started_ns = None
    if is_object(system):
        now_ns = _time_or_none(system.get("currentTime"))
        started_ns = _time_or_none(system.get("started"))
    return ServerVars(
        now_ns if now_ns is not None else fallback_ns(), started_ns, shard_stats(said)
    )


def shard_stats(said: Mapping[str, Any]) -> dict[ShardID, ShardStats]:
    """Collect the entries named tsm1_filestore and shard by their `id` tag, a decimal string."""
    written: dict[ShardID, int] = {}
    logged: dict[ShardID, int] = {}
    files: dict[ShardID, Mapping[str, Any]] = {}
    places: dict[ShardID, tuple[str, str]] = {}
    for entry in said.values():
        if not is_object(entry):
            continue
        tags, values = entry.get("tags"), entry.get("values")
        shard_id = _shard_id(tags.get("id")) if is_object(tags) else None
        if shard_id is None or not is_object(values):
            continue
        if entry.get("name") == "tsm1_filestore" and is_object(tags):
            files[shard_id] = values
            places[shard_id] = (_text(tags.get("database")), _text(tags.get("retentionPolicy")))
        elif entry.get("name") == "shard":
            written[shard_id] = _count(values.get("writePointsOk"))
        elif entry.get("name") == "tsm1_wal":
            sizes = (values.get("currentSegmentDiskBytes"), values.get("oldSegmentsDiskBytes"))
            logged[shard_id] = sum(map(_count, sizes))
    return {
        shard_id: ShardStats(
            num_files=_count(values.get("numFiles")),
            disk_bytes=_count(values.get("diskBytes")),
            write_points_ok=written.get(shard_id, 0),
            wal_bytes=logged.get(shard_id, 0),
            database=places[shard_id][0],
            policy=places[shard_id][1],
        )
        for shard_id, values in files.items()
    }


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
