"""An HTTP address is host:port or a URL, and what may be a password is never repeated."""

from __future__ import annotations

import pytest

from resources.clients.http_address import http_target
from resources.errors import UsageError


@pytest.mark.parametrize(
    ("address", "where", "password"),
    [
        ("h", " h:8086 ", ""),
        ("h:1", " h:1 ", ""),
        ("https://h/influx/", "https h:8086 /influx", ""),
        ("http://u:p%2Fw%40@h:1", "http h:1 ", "p/w@"),
        ("http://u:a@b@h:1", "http h:1 ", "a@b"),
        ("http://[::1]:1", "http [::1]:1 ", ""),
        ("https://[fe80::1%25eth0]:1", "https [fe80::1%eth0]:1 ", ""),
        ("[fe80::1%eth0]:1", " [fe80::1%eth0]:1 ", ""),
    ],
)
def test_what_an_address_says(address: str, where: str, password: str) -> None:
    target = http_target(address)
    assert f"{target.scheme} {target.address} {target.path}" == where
    assert target.password == password


@pytest.mark.fault(82)
@pytest.mark.parametrize("special", ["/", "?", "#", "[", "]", "\\", " ", "%", "@/", ":/", "\n"])
@pytest.mark.parametrize("form", ["http://u:{}@h:8086", "http://{}:x@h", "u:{}@h", "h:{}"])
def test_a_password_that_breaks_the_address_is_not_repeated(special: str, form: str) -> None:
    address = form.format(f"CaNaRy{special}rest")
    try:
        shown = repr(http_target(address))
    except UsageError as error:
        shown = f"{error} {error.hint} {error.__cause__} {error.__context__ and ''}"
    if "@" in address:
        assert "CaNaRy" not in shown.replace("user='CaNaRy", "user='")
