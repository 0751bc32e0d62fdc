"""Tokens of InfluxQL, with their positions.

Every method of `Tokens` that takes a token may raise QueryUnparsable.

Source: influxql scanner.go, token.go.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from resources.embedded.server_errors import QueryUnparsable

_WORDS = (
    "ALL ALTER ANALYZE AND ANY AS ASC BEGIN BY CARDINALITY CREATE CONTINUOUS DATABASE DATABASES"
    " DEFAULT DELETE DESC DESTINATIONS DIAGNOSTICS DISTINCT DROP DURATION END EVERY EXACT EXPLAIN"
    " FALSE FIELD FOR FROM GRANT GRANTS GROUP GROUPS IN INF INSERT INTO KEY KEYS KILL LIMIT"
    " MEASUREMENT MEASUREMENTS NAME OFFSET ON OR ORDER PASSWORD POLICY POLICIES PRIVILEGES QUERIES"
    " QUERY READ REPLICATION RESAMPLE RETENTION REVOKE SELECT SERIES SET SHARD SHARDS SHOW SLIMIT"
    " SOFFSET STATS SUBSCRIPTION SUBSCRIPTIONS TAG TO TRUE USER USERS VALUES WHERE WITH WRITE"
)
KEYWORDS = frozenset(_WORDS.split())

_UNITS_NS = {
    "ns": 1,
    "u": 1_000,
    "µ": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |"(?P<quoted>(?:[^"\\\n]|\\.)*)"
    |'(?P<string>(?:[^'\\\n]|\\.)*)'
    |(?P<duration>(?:[0-9]+(?:ns|ms|[uµsmhdw]))+)
    |(?P<number>[0-9]*\.[0-9]+|[0-9]+\.?)
    |(?P<sign>=~|!~|!=|<>|<=|>=|::|[-+*/%=<>(),;.:&|^])
    |(?P<open>["'])(?P<unclosed>[^\n]*)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
_REGEX = re.compile(r"\s*/((?:[^/\\\n]|\\.)*)/")
_DURATION_PART = re.compile(r"([0-9]+)(ns|ms|[uµsmhdw])")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Kind(Enum):
    """The kind of a token."""

    KEYWORD = "keyword"
    IDENTIFIER = "identifier"
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    DURATION = "duration"
    SIGN = "sign"
    BAD = "bad"
    END = "end"


class Token(NamedTuple):
    """One token."""

    kind: Kind
    text: str
    """Keywords in upper case; names and strings without their quotes."""
    at: int
    """The number of characters before it."""
    end: int


class Tokens:
    """The tokens of a text, read one by one; regular expressions only by `regex`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        """The position after the last taken token."""
        self._bare_end = -1

    def peek(self) -> Token:
        at = self.at
        while True:
            match = _TOKEN.match(self.text, at)
            if match is None:
                # The server counts the end twice after a bare word.
                extra = 1 if self._bare_end == len(self.text) else 0
                return Token(Kind.END, "EOF", len(self.text) + extra, len(self.text))
            if match.lastgroup != "blank":
                return _token(match)
            at = match.end()

    def take(self) -> Token:
        token = self.peek()
        self.at = token.end
        if token.kind is Kind.KEYWORD or self.text[token.at : token.end] == token.text:
            self._bare_end = token.end if token.text[:1].isalpha() else -1
        return token

    def regex(self) -> re.Pattern[str] | None:
        """Take a regular expression between slashes, if one is next.

        Raises:
            QueryUnparsable: the expression is malformed.
        """
        match = _REGEX.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        try:
            return re.compile(match[1].replace(r"\/", "/"))
        except (re.error, OverflowError) as error:
            raise QueryUnparsable(f"error parsing query: error parsing regexp: {error}") from None

    def next_is(self, *words: str) -> bool:
        """Whether the next token is one of these keywords or signs."""
        token = self.peek()
        return token.kind in (Kind.KEYWORD, Kind.SIGN) and token.text in words

    def take_if(self, *words: str) -> bool:
        """Take these keywords or signs if they are next, all of them or none."""
        before = self.at, self._bare_end
        for word in words:
            if not self.next_is(word):
                self.at, self._bare_end = before
                return False
            self.take()
        return True

    def expect(self, *words: str) -> None:
        """Take these keywords or signs.

        Raises:
            QueryUnparsable: the next tokens are others.
        """
        for word in words:
            if not self.next_is(word):
                raise self.unexpected(word)
            self.take()

    def identifier(self, *, expected: str = "identifier") -> str:
        """Take a name."""
        if self.peek().kind is not Kind.IDENTIFIER:
            raise self.unexpected(expected)
        return self.take().text

    def string(self) -> str:
        """Take a string."""
        if self.peek().kind is not Kind.STRING:
            raise self.unexpected("string")
        return self.take().text

    def integer(self, low: int = 0, high: int = (1 << 63) - 1) -> int:
        """Take an integer from `low` to `high`."""
        token = self.peek()
        if token.kind is not Kind.INTEGER:
            raise self.unexpected("integer")
        value = int(token.text) if len(token.text) < 30 else high + 1
        if not low <= value <= high:
            raise QueryUnparsable(
                f"error parsing query: invalid value {value}: must be {low} <= n <= {high}"
                f" {self._place(token)}"
            )
        self.take()
        return value

    def duration(self) -> int:
        """Take a duration; INF is 0."""
        if self.take_if("INF"):
            return 0
        if self.peek().kind is not Kind.DURATION:
            raise self.unexpected("duration")
        ns = nanoseconds(self.peek().text)
        if ns >= 1 << 63:
            raise self.unexpected("duration")
        self.take()
        return ns

    def unexpected(self, *expected: str) -> QueryUnparsable:
        """The server's error for the next token."""
        token = self.peek()
        return QueryUnparsable(
            f"error parsing query: found {token.text}, expected {', '.join(expected)}"
            f" {self._place(token)}"
        )

    def _place(self, token: Token) -> str:
        line = self.text.count("\n", 0, token.at)
        start = self.text.rfind("\n", 0, token.at) + 1
        return f"at line {line + 1}, char {token.at - start + 1}"


def nanoseconds(duration: str) -> int:
    """The nanoseconds of a duration token."""
    return sum(int(n[:30]) * _UNITS_NS[unit] for n, unit in _DURATION_PART.findall(duration))


def _token(match: re.Match[str]) -> Token:
    at, end = match.span()
    text = match[0]
    match match.lastgroup:
        case "word" if text.upper() in KEYWORDS:
            return Token(Kind.KEYWORD, text.upper(), at, end)
        case "word":
            return Token(Kind.IDENTIFIER, text, at, end)
        case "quoted":
            return Token(Kind.IDENTIFIER, _unescaped(match["quoted"]), at, end)
        case "string":
            return Token(Kind.STRING, _unescaped(match["string"]), at, end)
        case "duration":
            return Token(Kind.DURATION, text, at, end)
        case "number":
            kind = Kind.INTEGER if text.isdecimal() else Kind.NUMBER
            return Token(kind, text, at, end)
        case "sign":
            return Token(Kind.SIGN, "!=" if text == "<>" else text, at, end)
        case "unclosed":
            # The server reports the position before an unclosed string.
            return Token(Kind.BAD, match["unclosed"], max(at - 1, 0), end)
        case _:
            return Token(Kind.BAD, text, at, end)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)
