"""What a server says, without the credentials that it was told a moment before."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

MIN_MASKED = 4
"""Masking a shorter secret would take single letters out of every message."""
_DIGIT = "[A-Za-z0-9+/_-]"
_TOKEN = re.compile(r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]{5,}")
"""A JSON Web Token; it lives for minutes, and lets in whoever has it."""


def redacted(text: str, user: str, *secrets: str) -> str:
    """`text` with `***` for each secret, however it was written on its way; and for every token.

    Covers the secret as it is, as part of a URL, of JSON, of HTML, of a Go or Python string, in
    hexadecimal and Base64 digits, in UTF-8 that is read as Latin-1, and the Basic header of `user`.
    """
    for secret in secrets:
        if len(secret) < MIN_MASKED:
            continue
        for pair in (f"{user}:{secret}".encode(), secret.encode()):
            text = _base64_of(pair).sub("***", text)
        # The longest first: what is left of a longer form would show that it was one.
        for form in sorted(set(_forms(secret)), key=len, reverse=True):
            text = re.sub(re.escape(form), "***", text, flags=_case(form, secret))
    return _TOKEN.sub("***", text)


def _forms(secret: str) -> Iterator[str]:
    raw = secret.encode()
    yield secret
    yield raw.decode("latin-1")
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield ascii(secret)[1:-1]
    yield repr(raw)[2:-1]
    yield html.escape(secret)
    yield raw.hex()


def _base64_of(raw: bytes) -> re.Pattern[str]:
    """Base64 in which `raw` begins at any byte, with the digits that it shares with others."""
    forms: list[str] = []
    for before in range(3):
        digits = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        first, last = (before * 8 + 5) // 6, (before + len(raw)) * 8 // 6
        form = re.escape(digits[first:last]).replace(r"\+", "[+-]").replace("/", "[/_]")
        forms.append(f"{_DIGIT if before else ''}{form}(?:{_DIGIT}=*)?")
    return re.compile("|".join(forms))


def _case(form: str, secret: str) -> re.RegexFlag:
    """Percent and hexadecimal digits come in both cases."""
    escaped = form != secret and ("%" in form or re.fullmatch(r"[0-9a-f]+", form))
    return re.IGNORECASE if escaped else re.NOFLAG
