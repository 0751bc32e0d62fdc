"""What a server repeats of our credentials is not repeated by us."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from resources.clients.scrubbing import scrubbed
from resources.protocol.jwt import signed_token

SECRET = "p@ss/wörd%41"


@pytest.mark.fault(82)
@pytest.mark.parametrize(
    "said",
    [
        SECRET,
        quote(SECRET, safe=""),
        base64.b64encode(f"admin:{SECRET}".encode()).decode(),
        signed_token("admin", SECRET, 1_600_000_000.0),
    ],
)
def test_a_secret_is_masked_in_every_form_it_had_on_its_way(said: str) -> None:
    assert scrubbed(f"no: {said}, sorry", "admin", SECRET) == "no: ***, sorry"


def test_nothing_else_is() -> None:
    text = "basic authentication of admin: eyJ.no.token, version 1.8.10"
    assert scrubbed(text, "admin", SECRET, "", "on") == text
