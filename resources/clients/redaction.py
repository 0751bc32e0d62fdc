"""Removes credentials from the texts of a server, which may repeat a request's."""

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
"""A JSON Web Token; for minutes, it gives access to any client that has it."""


def redacted(text: str, user: str, *secrets: str) -> str:
    """Replace each secret, in any of its encodings, and every token in `text` by `***`.

    Covers the plain secret, its form in a URL, in JSON, in HTML, in a Go or Python string, in
    hexadecimal and Base64, in UTF-8 read as Latin-1, and the Basic header of `user`.
    """
    for secret in secrets:
        if len(secret) < MIN_MASKED:
            continue
        for pair in (f"{user}:{secret}".encode(), secret.encode()):
            text = _base64_of(pair).sub("***", text)
        # The longest form first: a shorter one would leave a rest of it.
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
    """Match Base64 with `raw` at any byte offset, and the digits that it shares with neighbours."""
    forms: list[str] = []
    for before in range(3):
        digits = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        first, last = (before * 8 + 5) // 6, (before + len(raw)) * 8 // 6
        form = re.escape(digits[first:last]).replace(r"\+", "[+-]").replace("/", "[/_]")
        forms.append(f"{_DIGIT if before else ''}{form}(?:{_DIGIT}=*)?")
    return re.compile("|".join(forms))


def _case(form: str, secret: str) -> re.RegexFlag:
    """Ignore case if `form` has percent or hexadecimal digits."""
    escaped = form != secret and ("%" in form or re.fullmatch(r"[0-9a-f]+", form))
    return re.IGNORECASE if escaped else re.NOFLAG
