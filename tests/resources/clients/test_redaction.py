"""What a server repeats of our credentials is not repeated by us."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest

from resources.clients.redaction import redacted
from resources.protocol.jwt import signed_token

SECRET = "p@ss/wörd%41"


@pytest.mark.fault(82)
@pytest.mark.parametrize(
    "reply",
    [
        SECRET,
        quote(SECRET, safe=""),
        base64.b64encode(f"admin:{SECRET}".encode()).decode(),
        base64.urlsafe_b64encode(f"admin:{SECRET}".encode()).decode().rstrip("="),
        signed_token("admin", SECRET, 1_600_000_000.0),
        quote(SECRET, safe="").lower(),
        json.dumps(SECRET)[1:-1],
        html.escape(SECRET),
        ascii(SECRET)[1:-1],
        SECRET.encode().hex().upper(),
        SECRET.encode().decode("latin-1"),
    ],
)
def test_a_secret_is_masked_in_every_form_it_had_on_its_way(reply: str) -> None:
    assert redacted(f"no: {reply}, sorry", "admin", SECRET) == "no: ***, sorry"


def test_nothing_else_is() -> None:
    text = "basic authentication of admin: eyJ.no.token, version 1.8.10"
    assert redacted(text, "admin", SECRET, "", "on") == text


@pytest.mark.fault(82)
@pytest.mark.parametrize("before", ["", "x", "xy", "xyz"])
def test_a_secret_inside_of_base64_is_masked_wherever_it_begins(before: str) -> None:
    reply = base64.b64encode(f"{before}{SECRET} and more".encode()).decode()
    shown = redacted(reply, "admin", SECRET)
    assert "***" in shown
    for part in shown.split("***"):
        for first in range(4):
            digits = part[first : first + (len(part) - first) // 4 * 4].encode()
            decoded = base64.b64decode(digits + b"=" * (-len(digits) % 4))
            assert not any(SECRET[n : n + 3].encode() in decoded for n in range(len(SECRET) - 2))
