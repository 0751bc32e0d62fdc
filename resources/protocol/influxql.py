"""Names and strings in InfluxQL: which names there are, and how to quote them."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from resources.errors import UnsafeName

MAX_NAME_BYTES = 255
"""The server's limit (services/meta, MaxNameLen), and that of common file systems."""

_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*")|('(?:[^'\\]|\\.)*')""", re.DOTALL)
_CONTINUOUS_QUERY = re.compile(r"\s*CREATE\s+CONTINUOUS\s+QUERY\s", re.IGNORECASE)
_SEPARATORS = frozenset("/\\")
_PRINTABLE = frozenset("LMNPS")
"""General categories: letters, marks, numbers, punctuation, symbols."""


def check_name(kind: str, name: str) -> None:
    r"""Insist that a server could have let `name` in as a database or retention policy.

    The server's rule: not empty, not `.` or `..`, neither `/` nor `\`, and every character
    printable as Go sees it, the ASCII space being the only space; at most 255 bytes.
    What Unicode's tables here do not know yet passes: the server's may be newer.

    Raises:
        UnsafeName: with the name escaped.

    Source: influxdb services/meta/data.go, ValidName; Go, unicode.IsPrint.
    """
    reason = _objection(name)
    if reason:
        # ascii() leaves nothing that a terminal or a log would obey.
        raise UnsafeName(f"{kind} name {name[:120]!a} {reason}")


def objection_to(name: str) -> str:
    """Why no server lets `name` in as a database or retention policy; empty: it may.

    A server may have one all the same: a configuration file makes databases without the check.
    """
    return _objection(name)


def quote_identifier(name: str) -> str:
    r"""Quote a database, policy, measurement, user or tag key; nothing in it stays special.

    Source: influxql, QuoteIdent: `"` and `\` and the newline are escaped.
    """
    return f'"{_escaped(name, quote=chr(34))}"'


def quote_string(text: str) -> str:
    """Quote a string literal, such as a password or a tag value."""
    return f"'{_escaped(text, quote=chr(39))}'"


def check_continuous_query(statement: str) -> None:
    """Insist that text from a metastore is one CREATE CONTINUOUS QUERY and nothing more.

    Raises:
        UnsafeName: it is something else, or several statements.
    """
    body = _QUOTED.sub('""', statement)
    if not _CONTINUOUS_QUERY.match(body) or any(mark in body for mark in (";", "--", "/*")):
        raise UnsafeName(
            f"{statement[:120]!a} is not one CREATE CONTINUOUS QUERY",
            hint="look at where this backup comes from",
        )


def _escaped(text: str, quote: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace(quote, f"\\{quote}")


@lru_cache(maxsize=4096)
def _objection(name: str) -> str:
    """Remembered: a thousand shards are of one database."""
    if not name:
        return "is empty"
    if name in (".", ".."):
        return "is a directory of its own kind"
    if not _SEPARATORS.isdisjoint(name):
        return "holds a path separator"
    plain = name.isascii() and name.isprintable()  # a look at each letter is for the others
    if not plain and not all(_is_print(char) for char in name):
        return "holds a character that is not printable"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return ""


def _is_print(char: str) -> bool:
    category = unicodedata.category(char)
    if category == "Cn":
        return ord(char) & 0xFFFE != 0xFFFE and not 0xFDD0 <= ord(char) <= 0xFDEF
    return category[0] in _PRINTABLE or char == " "
