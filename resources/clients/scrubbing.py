"""What a server says, without the credentials that it was told a moment before."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote, quote_plus

MIN_MASKED = 4
"""Masking a shorter secret would take single letters out of every message."""
_TOKEN = re.compile(r"eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]{5,}")
"""A JSON Web Token; it lives for minutes, and lets in whoever has it."""


def scrubbed(text: str, user: str, *secrets: str) -> str:
    """`text` with `***` for each secret, however it was written on its way.

    As it is, as in a URL, and as the Basic header of `user` has it; and for every token.
    """
    for secret in secrets:
        if len(secret) < MIN_MASKED:
            continue
        pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
        for form in (secret, quote(secret, safe=""), quote(secret), quote_plus(secret), pair):
            text = text.replace(form, "***")
    return _TOKEN.sub("***", text)
