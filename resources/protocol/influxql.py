"""Names and strings in InfluxQL: which names are valid, and how to quote them."""

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
    r"""Require that a server accepts `name` for a database or retention policy.

    The server's rule: not empty, not `.` or `..`, neither `/` nor `\`, every character
    printable by Go's definition, no space except the ASCII one; at most 255 bytes.
    Characters that our Unicode tables do not have pass: the server's tables may be newer.

    Raises:
        UnsafeName: the name breaks the rule; the message has it escaped.

    Source: influxdb services/meta/data.go, ValidName; Go, unicode.IsPrint.
    """
    reason = _objection(name)
    if reason:
        # ascii() leaves no control characters for a terminal or a log.
        raise UnsafeName(f"{kind} name {name[:120]!a} {reason}")


def objection_to(name: str) -> str:
    """The reason why a server refuses `name` for a database or retention policy; empty: none.

    A server may still have such a database: a configuration file creates one without the check.
    """
    return _objection(name)


def quote_identifier(name: str) -> str:
    r"""Quote the name of a database, policy, measurement, user or tag key.

    Source: influxql, QuoteIdent: `"` and `\` and the newline are escaped.
    """
    return f'"{_escaped(name, quote=chr(34))}"'


def check_continuous_query(statement: str) -> None:
    """Require that text from a metastore is exactly one CREATE CONTINUOUS QUERY.

    Raises:
        UnsafeName: the text is another statement, or several.
    """
    body = _QUOTED.sub('""', statement)
    if not _CONTINUOUS_QUERY.match(body) or any(mark in body for mark in (";", "--", "/*")):
        raise UnsafeName(
            f"{statement[:120]!a} is not one CREATE CONTINUOUS QUERY",
            hint="check where this backup comes from",
        )


def _escaped(text: str, quote: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace(quote, f"\\{quote}")


@lru_cache(maxsize=4096)
def _objection(name: str) -> str:
    """Cached, since thousands of shards belong to one database."""
    if not name:
        return "is empty"
    if name in (".", ".."):
        return "is a special directory"
    if not _SEPARATORS.isdisjoint(name):
        return "holds a path separator"
    plain = name.isascii() and name.isprintable()  # saves the check of each character
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
