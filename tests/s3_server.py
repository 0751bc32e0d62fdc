"""A server that speaks S3, in this process: what Shardkeeper asks of a bucket, and how it fails.

It keeps objects in memory and answers as SeaweedFS and S3 do: conditional puts in one step, parts,
ranges, pages of listings. `make store` runs the same tests against a real one. `fault` is asked at
each request what to do instead of answering it.

    with S3Server() as server, server.environment():
        store = open_store("s3://bucket/prefix")
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
KEY, SECRET = "AKIDEXAMPLE", "S3CR3T-CANARY-0123456789"

Fault = Literal["", "500", "503", "cut", "lost", "half", "stall", "deny", "skew"]
"""cut: no answer, nothing done; lost: done, no answer; half: an answer that ends early."""
STATUS = {
    "500": "InternalError",
    "503": "SlowDown",
    "deny": "AccessDenied",
    "skew": "RequestTimeTooSkewed",
}


@dataclass
class Stored:
    content: bytes
    tag: str
    metadata: dict[str, str]
    at: float = field(default_factory=time.time)


class S3Server:
    """Listens on a port of its own until the end of the block.

    Attributes:
        objects: by key.
        uploads: parts of uploads that were not completed, by their ids.
        requests: method and key of each request so far.
        conditions: whether it keeps the conditions of puts.
        page: how many objects a listing's page has.
        fault: what to do instead of answering; it gets the method and the key.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        self.conditions = True
        self.page = 1000
        self.may_delete = True
        self.fault: Callable[[str, str], Fault] = lambda _method, _key: ""
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"s3": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def variables(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
        }

    @contextmanager
    def environment(self) -> Generator[None]:
        before = dict(os.environ)
        os.environ.update(self.variables())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up has closed its end."""


class _Handler(BaseHTTPRequestHandler):
    s3: S3Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing."""

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        bucket, _, key = unquote(url.path)[1:].partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.s3.requests.append((self.command, key))
        fault = self.s3.fault(self.command, key)
        if fault in ("cut", "stall"):
            time.sleep(30 if fault == "stall" else 0)
            self.close_connection = True
            return
        if fault in STATUS:
            self._error(int(fault) if fault.isdigit() else 403, STATUS[fault])
            return
        if KEY not in self.headers.get("Authorization", ""):
            self._error(403, "InvalidAccessKeyId")
            return
        if bucket != BUCKET:
            self._error(404, "NoSuchBucket")
            return
        with self.s3.lock:
            answer = self._answer(key, query, body)
        if fault == "lost":
            self.close_connection = True
            return
        self._reply(*answer, half=fault == "half")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    Answer = tuple[int, Mapping[str, str], bytes]

    def _answer(self, key: str, query: Mapping[str, str], body: bytes) -> Answer:
        match self.command:
            case "GET" if "list-type" in query:
                return 200, {}, self._listing(query)
            case "GET" | "HEAD":
                return self._get(key)
            case "PUT" if "partNumber" in query:
                self.s3.uploads[query["uploadId"]][int(query["partNumber"])] = body
                return 200, {"ETag": _tag(body)}, b""
            case "PUT" if "x-amz-copy-source" in self.headers:
                source = unquote(self.headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
                self.s3.objects[key] = self.s3.objects[source]
                tag = self.s3.objects[key].tag
                return 200, {}, _xml("CopyObjectResult", f"<ETag>{escape(tag)}</ETag>")
            case "PUT":
                return self._put(key, body, _tag(body))
            case "POST" if "uploads" in query:
                upload = os.urandom(8).hex()
                self.s3.uploads[upload] = {}
                self.s3.uploads[upload + "/metadata"] = self._metadata()  # type: ignore[assignment]
                return 200, {}, _xml("R", f"<Key>{key}</Key><UploadId>{upload}</UploadId>")
            case "POST" if "uploadId" in query:
                return self._complete(key, query["uploadId"])
            case "POST" if "delete" in query:
                return self._delete_many(body)
            case "DELETE" if "uploadId" in query:
                self.s3.uploads.pop(query["uploadId"], None)
                self.s3.uploads.pop(query["uploadId"] + "/metadata", None)
                return 204, {}, b""
            case _:
                return self._code(405, "MethodNotAllowed")

    def _get(self, key: str) -> Answer:
        found = self.s3.objects.get(key)
        if found is None:
            return self._code(404, "NoSuchKey")
        if self.headers.get("If-Match", found.tag) != found.tag:
            return self._code(412, "PreconditionFailed")
        headers = {
            "ETag": found.tag,
            "Last-Modified": formatdate(found.at, usegmt=True),
            **{f"x-amz-meta-{name}": value for name, value in found.metadata.items()},
        }
        size, span = (
            len(found.content),
            re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")),
        )
        if span is None:
            return 200, headers, found.content
        start, end = int(span[1]), min(int(span[2]) + 1, size)
        if start >= size:
            return self._code(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return 206, headers, found.content[start:end]

    def _put(self, key: str, body: bytes, tag: str) -> Answer:
        there = self.s3.objects.get(key)
        if self.s3.conditions:
            match = self.headers.get("If-Match")
            if match is not None and there is None:
                return self._code(404, "NoSuchKey")
            if (match is not None and there and match != there.tag) or (
                there and self.headers.get("If-None-Match") == "*"
            ):
                return self._code(412, "PreconditionFailed")
        self.s3.objects[key] = Stored(body, tag, self._metadata())
        return 200, {"ETag": tag}, b""

    def _complete(self, key: str, upload: str) -> Answer:
        parts = self.s3.uploads.pop(upload, None)
        metadata = self.s3.uploads.pop(upload + "/metadata", None)
        if parts is None or metadata is None:
            return self._code(404, "NoSuchUpload")
        pieces = [parts[number] for number in sorted(parts)]
        digests = b"".join(hashlib.md5(piece).digest() for piece in pieces)
        tag = f'"{hashlib.md5(digests).hexdigest()}-{len(pieces)}"'
        self.s3.objects[key] = Stored(b"".join(pieces), tag, metadata)  # type: ignore[arg-type]
        return 200, {}, _xml("R", f"<ETag>{escape(tag)}</ETag><Key>{key}</Key>")

    def _delete_many(self, body: bytes) -> Answer:
        keys = re.findall(r"<Key>([^<]*)</Key>", body.decode())
        if not self.s3.may_delete:
            denied = "<Code>AccessDenied</Code><Message>Access Denied</Message>"
            return (
                200,
                {},
                _xml(
                    "DeleteResult",
                    "".join(f"<Error><Key>{key}</Key>{denied}</Error>" for key in keys),
                ),
            )
        for key in keys:
            self.s3.objects.pop(key, None)
        return (
            200,
            {},
            _xml("DeleteResult", "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)),
        )

    def _listing(self, query: Mapping[str, str]) -> bytes:
        after = query.get("continuation-token") or query.get("start-after", "")
        keys = [
            k
            for k in sorted(self.s3.objects)
            if k > after and k.startswith(query.get("prefix", ""))
        ]
        page = keys[: self.s3.page]
        more = len(keys) > len(page)
        rows = "".join(_row(key, self.s3.objects[key]) for key in page)
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        return _xml("ListBucketResult", f"<Name>{BUCKET}</Name>{truncated}{token}{rows}")

    def _metadata(self) -> dict[str, str]:
        start = "x-amz-meta-"
        return {
            name.lower().removeprefix(start): value
            for name, value in self.headers.items()
            if name.lower().startswith(start)
        }

    def _code(self, status: int, code: str) -> Answer:
        message = f"{code} for {KEY}"
        return status, {}, _xml("Error", f"<Code>{code}</Code><Message>{message}</Message>")

    def _error(self, status: int, code: str) -> None:
        self._reply(*self._code(status, code))

    def _reply(
        self, status: int, headers: Mapping[str, str], body: bytes, *, half: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            self.close_connection = True


def _row(key: str, stored: Stored) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.at))
    return (
        f"<Contents><Key>{key}</Key><Size>{len(stored.content)}</Size>"
        f"<ETag>{escape(stored.tag)}</ETag><LastModified>{at}</LastModified></Contents>"
    )


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _xml(name: str, inside: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name}>{inside}</{name}>'.encode()
