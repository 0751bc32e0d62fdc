"""Facts about a server by InfluxQL, where its headers or /debug/vars are hidden or not enough."""

from __future__ import annotations

from resources.clients.http import InfluxHTTP
from resources.errors import BadReply
from resources.model import ShardID


def diagnosed_version(http: InfluxHTTP) -> str:
    """The version from SHOW DIAGNOSTICS, for servers behind a proxy that hides headers.

    Raises:
        BadReply: the reply has no version.
        WireError: as `InfluxHTTP.query`.
    """
    for series in http.query("SHOW DIAGNOSTICS", again=True):
        if series.name == "build" and "Version" in series.columns and series.values:
            version = series.values[0][series.columns.index("Version")]
            if isinstance(version, str) and 0 < len(version) <= 100 and version.isprintable():
                return version.removeprefix("v")
    raise BadReply(f"{http.http_addr}: does not report its version")


def shards_known(http: InfluxHTTP) -> dict[ShardID, str]:
    """`database/policy` of every shard in the server's metastore, by SHOW SHARDS.

    Raises:
        WireError: as `InfluxHTTP.query`.
    """
    found: dict[ShardID, str] = {}
    for series in http.query("SHOW SHARDS", again=True):
        for row in series.values:
            reply = dict(zip(series.columns, row, strict=False))
            shard_id = reply.get("id")
            if isinstance(shard_id, int):
                database, policy = reply.get("database"), reply.get("retention_policy")
                found[ShardID(shard_id)] = f"{database}/{policy}"
    return found
