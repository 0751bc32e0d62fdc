"""A data node's HTTP API (8086): /ping, /write, /query and /debug/vars.

Source: influxdb services/httpd/handler.go.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from resources.embedded.data.copies import WriteFailed
from resources.embedded.data.executor import Executor
from resources.embedded.data.writes import NoSuchDatabase, NoSuchPolicy, PointsWriter
from resources.embedded.meta.auth import MetaAuth
from resources.embedded.meta.group import NoLeader, SharedMeta
from resources.embedded.server_errors import QueryUnparsable
from resources.embedded.shards.shard import MemoryFigures
from resources.embedded.shards.store import ShardStore
from resources.embedded.web import JSON, Reply, Request, error_reply, text_error
from resources.errors import ShardkeeperError
from resources.protocol.snapshotter import go_json
from resources.protocol.times import format_time

JSON_UTF8 = "application/json; charset=utf-8"


def _as_json(reply: object) -> bytes:
    """Encode JSON as Go does: bytes that are not UTF-8 become U+FFFD."""
    try:
        return go_json(reply)
    except UnicodeEncodeError:
        text = json.dumps(reply, ensure_ascii=False)
        return go_json(
            json.loads(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        )


def _error(status: int, text: str) -> Reply:
    return error_reply(status, text, end=b"\n")


class Settings(Struct, frozen=True):
    """The settings of a node."""

    version: str
    """The version that the node reports."""
    auth: MetaAuth
    """The authentication of HTTP on 8086; the TCP port has none."""


class DataHTTP:
    """Answers the requests to one data node's HTTP port; uses no sockets."""

    def __init__(
        self,
        store: ShardStore,
        meta: SharedMeta,
        writer: PointsWriter,
        executor: Executor,
        settings: Settings,
    ) -> None:
        self._store = store
        self._meta = meta
        self._writer = writer
        self._executor = executor
        self._settings = settings
        self.started_ns = time.time_ns()
        self._routes: Mapping[tuple[str, str], Callable[[Request], Reply]] = {
            ("GET", "/ping"): lambda _: Reply(204, b"", JSON),
            ("HEAD", "/ping"): lambda _: Reply(204, b"", JSON),
            ("GET", "/status"): lambda _: Reply(204, b"", JSON),
            ("HEAD", "/status"): lambda _: Reply(204, b"", JSON),
            ("POST", "/write"): self._write,
            ("GET", "/query"): self._query,
            ("POST", "/query"): self._query,
            ("GET", "/debug/vars"): self._vars,
        }

    def answer(self, request: Request) -> Reply:
        """Answer a request; adds the headers of all replies."""
        serve = self._routes.get((request.method, request.path))
        server = {"X-Influxdb-Build": "OSS", "X-Influxdb-Version": self._settings.version}
        if serve is None:
            return self._unrouted(request, server)
        given = request.headers
        request_id = given.get("X-Request-Id") or given.get("Request-Id") or str(uuid.uuid1())
        common = {
            "Request-Id": request_id,
            "X-Request-Id": request_id,
            **server,
        }
        open_to_all = request.path in ("/ping", "/status", "/debug/vars")
        auth, store = self._settings.auth, self._meta.metastore
        objection = None if open_to_all else auth.objection(request, store)
        if objection is not None and objection[0] == 400 and request.path == "/query":
            objection = None  # before there is an administrator, any client may create one
        reply = _error(*objection) if objection is not None else serve(request)
        return replace(reply, headers={**common, **reply.headers})

    def _unrouted(self, request: Request, server: Mapping[str, str]) -> Reply:
        allowed = [method for method, path in self._routes if path == request.path]
        if not allowed:
            reply = text_error(404, "404 page not found")
            return replace(reply, headers={**server, **reply.headers})
        reply = text_error(405, "Method Not Allowed")
        allow = {"Allow": ", ".join(["OPTIONS", *allowed])}
        return replace(reply, headers={**server, **allow, **reply.headers})

    def _write(self, request: Request) -> Reply:
        try:
            self._writer.write_body(request.body, request.values())
        except NoSuchDatabase as error:
            return _error(404, str(error))
        except (NoSuchPolicy, WriteFailed, NoLeader) as error:
            return _error(500, str(error))
        except ShardkeeperError as error:
            return _error(400, str(error))
        return Reply(204, b"", JSON)

    def _query(self, request: Request) -> Reply:
        form = request.form()
        text = form.get("q", "")
        if not text:
            return _error(400, 'missing required parameter "q"')
        try:
            reply = self._executor.run(
                text,
                database=form.get("db", ""),
                policy=form.get("rp", ""),
                epoch=form.get("epoch", ""),
            )
        except QueryUnparsable as error:
            return _error(400, str(error))
        return Reply(200, _as_json(reply), JSON)

    def _vars(self, _: Request) -> Reply:
        """The figures of every shard; a key is name, path and ID."""
        now_ns = time.time_ns()
        reply: dict[str, object] = {
            "system": {
                "currentTime": format_time(now_ns),
                "started": format_time(self.started_ns),
                "uptime": (now_ns - self.started_ns) // 10**9,
            },
            "cmdline": ["influxd"],
        }
        for shard in self._store.shards().values():
            path = self._store.directory / "data" / shard.database / shard.policy / str(shard.id)
            tags = {
                "database": shard.database,
                "engine": "tsm1",
                "id": str(shard.id),
                "path": str(path),
                "retentionPolicy": shard.policy,
            }
            files = {"diskBytes": shard.disk_bytes, "numFiles": shard.num_files}
            points = {"diskBytes": shard.disk_bytes, "writePointsOk": shard.write_points_ok}
            figures = {"tsm1_filestore": files, "shard": points, **_memory(shard.memory)}
            for name, values in figures.items():
                reply[f"{name}:{path}:{shard.id}"] = {"name": name, "tags": tags, "values": values}
        return Reply(200, go_json(reply), JSON_UTF8)


def _memory(reported: MemoryFigures) -> dict[str, dict[str, int]]:
    return {
        "tsm1_cache": {
            "memBytes": reported.memory_bytes,
            "diskBytes": reported.snapshot_bytes,
            "snapshotCount": reported.snapshot_attempts,
            "cachedBytes": reported.taken_bytes,
        },
        "tsm1_engine": {"tsmFullCompactions": reported.compactions},
        "tsm1_wal": {
            "currentSegmentDiskBytes": reported.wal_bytes,
            "oldSegmentsDiskBytes": 0,
            "writeOk": reported.wal_writes,
        },
    }
