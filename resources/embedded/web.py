"""The nodes' HTTP: requests and replies, with the behaviour of Go's server.

Source: Go, net/http (status lines, header order, plain text errors); influxdb services/httpd.
"""

from __future__ import annotations

import gzip
import html
import re
import zlib
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct, field

from resources.embedded.listener import Line
from resources.protocol.meta_api import encode_error

MAX_BODY_BYTES = 64 * 2**20
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})[^\r\n]*\r?\n")


class Request(Struct, frozen=True):
    """One complete request."""

    method: str
    path: str
    query_text: str
    headers: Message[str, str]
    body: bytes = b""

    def values(self) -> dict[str, str]:
        """The first value of each parameter in the URL."""
        return _firsts(self.query_text)

    def form(self) -> dict[str, str]:
        """The values of the form in the body, then those in the URL."""
        values = self.values()
        kind = self.headers.get_content_type()
        if kind == "application/x-www-form-urlencoded":
            values |= _firsts(self.body.decode("utf-8", "replace"))
        return values


class Reply(Struct, frozen=True):
    """A node's reply; sending it adds Date and Content-Length."""

    status: int = 200
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class BadRequest(Exception):
    """A malformed request, with the status to answer; does not leave this module."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def error_reply(status: int, text: str, end: bytes = b"") -> Reply:
    """A node's error; data nodes add a newline."""
    body = encode_error(text) + end
    if status == 401:
        return Reply(401, body, JSON, {"WWW-Authenticate": 'Basic realm="InfluxDB"'})
    header = text.replace("\r", " ").replace("\n", " ").encode()[:1024].decode("latin-1")
    return Reply(status, body, JSON, {"X-Influxdb-Error": header})


def text_error(status: int, text: str) -> Reply:
    """An error in the form of Go's http.Error."""
    return Reply(status, f"{text}\n".encode(), TEXT, {"X-Content-Type-Options": "nosniff"})


def redirect(location: str, *, get: bool) -> Reply:
    """Status 307, with the link that Go adds to replies to GET."""
    link = f'<a href="{html.escape(location)}">Temporary Redirect</a>.\n\n'
    body, kind = (link.encode(), "text/html; charset=utf-8") if get else (b"", "")
    return Reply(307, body, kind, {"Location": location})


def serve_http(line: Line, answer: Callable[[Request], Reply]) -> None:
    """Answer requests on a connection until either side closes it.

    Raises:
        OSError: the peer is gone.
    """
    _Exchange(line, answer)


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = None

    def __init__(self, line: Line, answer: Callable[[Request], Reply]) -> None:
        self._line = line
        self._answer = answer
        super().__init__(line, ("127.0.0.1", 0), None)  # pyright: ignore[reportArgumentType]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._respond
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the nodes have no access log."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer bytes that are not HTTP as Go does, for every version of HTTP."""
        self.close_connection = True
        reason = f"{code} {self.responses.get(code, ('', ''))[0]}"
        head = f"HTTP/1.1 {reason}\r\nContent-Type: {TEXT}\r\nConnection: close\r\n\r\n"
        self._line.sendall((head + reason).encode())

    def _respond(self) -> None:
        try:
            parts = urlsplit(self.path)
            body = self._body()
        except BadRequest as error:
            self.close_connection = True
            self._send(error_reply(error.status, str(error)))
            return
        except ValueError:  # urlsplit raises it
            self.close_connection = True
            self._send(text_error(400, "400 Bad Request"))
            return
        self._send(self._answer(Request(self.command, parts.path, parts.query, self.headers, body)))

    def _send(self, reply: Reply) -> None:
        body, headers = reply.body, dict(reply.headers)
        accepts = self.headers.get("Accept-Encoding", "")
        if body and reply.status not in (204, 307) and "gzip" in accepts:
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        headers["Date"] = self.date_time_string()
        if reply.status != 204:
            headers["Content-Length"] = str(len(body))
        if self.request_version == "HTTP/1.0" or self.close_connection:
            self.close_connection = True
            if self.request_version != "HTTP/1.0":
                headers["Connection"] = "close"
        version = "HTTP/1.0" if self.request_version == "HTTP/1.0" else "HTTP/1.1"
        reason = self.responses.get(reply.status, ("", ""))[0]
        head = [f"{version} {reply.status} {reason}"]
        head += [f"{name}: {value}".rstrip() for name, value in sorted(headers.items())]
        raw = "\r\n".join([*head, "", ""]).encode("latin-1", "replace")
        self._line.sendall(raw if self.command == "HEAD" else raw + body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = self._chunks()
        else:
            length = self.headers.get("Content-Length", "0")
            if not length.isascii() or not length.isdigit() or len(length) > 18:
                raise BadRequest(400, "bad Content-Length")
            if int(length) > MAX_BODY_BYTES:
                raise BadRequest(413, "Request Entity Too Large")
            raw = self.rfile.read(int(length))
            if len(raw) < int(length):
                raise BadRequest(400, "unexpected EOF")
        if self.headers.get("Content-Encoding") != "gzip":
            return raw
        inflating = zlib.decompressobj(wbits=31)
        try:
            plain = inflating.decompress(raw, MAX_BODY_BYTES + 1)
        except zlib.error:
            raise BadRequest(400, "gzip: invalid header") from None
        if len(plain) > MAX_BODY_BYTES:
            raise BadRequest(413, "Request Entity Too Large")
        if not inflating.eof:
            raise BadRequest(400, "unexpected EOF")
        return plain

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            match = _CHUNK.fullmatch(self.rfile.readline(1024))
            if match is None:
                raise BadRequest(400, "malformed chunked encoding")
            size = int(match[1], 16)
            if len(body) + size > MAX_BODY_BYTES:
                raise BadRequest(413, "Request Entity Too Large")
            if size == 0:
                while self.rfile.readline(1024).strip():
                    pass
                return bytes(body)
            body += self.rfile.read(size)
            self.rfile.readline(1024)


def _firsts(text: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(text, keep_blank_values=True).items()}
