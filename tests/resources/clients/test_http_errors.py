"""Each way in which an HTTP request fails has its words, and none repeats a secret."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import ssl

import pytest

from resources.clients.http_errors import (
    HTTPReply,
    is_broken_off,
    is_cut,
    is_half_asked,
    is_unsent,
    refusal,
    unreachable,
    wants_tls,
)
from resources.clients.http_wire import HTTPFailure, Stage
from resources.errors import (
    BadReply,
    ConnectionCut,
    CredentialsRefused,
    PeerRefused,
    PeerSilent,
    PeerUnreachable,
    WireError,
)

CANARY = "c4n4ry-secret"
URL = f"http://h:8086/query?u=ann&p={CANARY}"


def reply(status: int, body: bytes = b"", **headers: str) -> HTTPReply:
    return HTTPReply(status, headers, body)


def refused(status: int, body: bytes = b"", **headers: str) -> WireError:
    return refusal("h:8086", reply(status, body, **headers), lambda value: ascii(str(value))[:200])


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (400, PeerRefused, ""),
        (401, CredentialsRefused, "check user and password"),
        (403, CredentialsRefused, "try an admin"),
        (404, PeerRefused, ""),
        (500, PeerRefused, ""),
        (502, PeerUnreachable, "is not ready"),
        (503, PeerUnreachable, "is not ready"),
        (504, PeerUnreachable, "is not ready"),
    ],
)
def test_a_status_decides_the_kind_and_the_servers_reason_is_said(
    status: int, kind: type[WireError], hint: str
) -> None:
    error = refused(status, json.dumps({"error": "no such thing"}).encode())
    assert type(error) is kind
    assert error.what == f"h:8086: 'no such thing' (HTTP {status})"
    assert hint in error.hint


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"x": 1}', b"\xff"])
def test_an_answer_that_is_not_influxdbs_asks_who_answers(body: bytes) -> None:
    error = refused(404, body)
    assert "no reason (HTTP 404)" in error.what
    assert "InfluxDB" in error.hint


def test_a_redirect_is_not_followed_and_its_target_is_named_if_it_is_sound() -> None:
    error = refused(307, Location="https://new.example:9999/query?p=x")
    assert isinstance(error, BadReply)
    assert "redirect (HTTP 307) to https://new.example:9999" in error.what
    assert "-http https://new.example:9999" in error.hint
    assert "https://new.example:443" in refused(301, Location="https://new.example/").what


@pytest.mark.parametrize(
    "location",
    ["", "/query", "ftp://x", f"http://ann:{CANARY}@h/", "http://h:bad/", "http://\xfc/",
     "http://" + "x" * 400, "http://h\x1b[2J/"],
)  # fmt: skip
def test_a_redirect_to_something_odd_is_told_without_its_target(location: str) -> None:
    error = refused(302, Location=location)
    assert error.what == "h:8086: answers with a redirect (HTTP 302)"
    assert CANARY not in str(error) + error.hint


@pytest.mark.parametrize(
    "body",
    [
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<center>The plain HTTP request was sent to HTTPS port</center>",
    ],
)
def test_an_https_server_that_was_asked_in_plain_is_recognized(body: bytes) -> None:
    assert wants_tls(400, body)
    assert not wants_tls(500, body)
    error = refused(400, body)
    assert "speaks https" in error.what
    assert "https://h:8086" in error.hint


def test_a_server_that_saw_half_a_request_was_cut_off() -> None:
    assert isinstance(refused(400, b"400 Bad Request"), ConnectionCut)
    assert not is_half_asked(400, b"400 Bad Request: unsupported")
    assert not is_half_asked(500, b"400 Bad Request")


def failed(stage: Stage, cause: Exception) -> HTTPFailure:
    return HTTPFailure(stage, cause)


NO_CONNECTION = failed("connecting", ConnectionRefusedError(URL))
CUT = failed("asking", ConnectionResetError(URL))
SILENT = failed("asking", TimeoutError(URL))


@pytest.mark.parametrize(
    ("failure", "kind", "what"),
    [
        (failed("connecting", TimeoutError(URL)), PeerUnreachable, "does not answer in time"),
        (SILENT, PeerSilent, "does not answer in time"),
        (failed("answering", TimeoutError(URL)), PeerSilent, "does not answer in time"),
        (NO_CONNECTION, PeerUnreachable, "no HTTP connection"),
        (failed("connecting", socket.gaierror(URL)), PeerUnreachable, "unknown host"),
        (failed("connecting", UnicodeError(URL)), PeerUnreachable, "unknown host"),
        (CUT, ConnectionCut, "or it broke"),
        (failed("asking", OSError(errno.EHOSTUNREACH, URL)), ConnectionCut, "or it broke"),
        (failed("asking", http.client.BadStatusLine(URL)), ConnectionCut, "or it broke"),
        (failed("answering", http.client.IncompleteRead(b"", 5)), ConnectionCut, "or it broke"),
        (failed("answering", ssl.SSLEOFError(8, "EOF")), ConnectionCut, "TLS failed"),
        (failed("asking", ssl.SSLCertVerificationError(1, "no")), PeerUnreachable, "TLS failed"),
        (failed("asking", http.client.InvalidURL(URL)), ConnectionCut, "or it broke"),
    ],
)
def test_the_causes_of_a_failure_are_told_apart_and_never_with_the_url(
    failure: HTTPFailure, kind: type[WireError], what: str
) -> None:
    found = unreachable("h:8086", failure)
    assert type(found) is kind
    assert what in found.what
    assert CANARY not in str(found) + found.hint + str(failure) + repr(failure)


def test_only_what_surely_was_not_sent_counts_as_unsent() -> None:
    assert is_unsent(NO_CONNECTION)
    assert is_unsent(failed("connecting", TimeoutError()))
    assert not any(map(is_unsent, (CUT, SILENT, failed("answering", OSError()))))


def test_a_connection_that_broke_was_there_before() -> None:
    assert is_cut(CUT)
    assert not is_cut(NO_CONNECTION)
    assert not is_cut(SILENT)
    assert is_broken_off(CUT)
    assert not is_broken_off(SILENT)
    assert not is_broken_off(NO_CONNECTION)
    assert not is_broken_off(failed("answering", ConnectionResetError()))
