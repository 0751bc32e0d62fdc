r"""Line protocol: bytes → points.

Layout: measurement { , tag = value }* SP field = value { , field = value }* [ SP time ] \n

A backslash escapes a comma or a space, and in tags and fields also an equals sign. Strings are in
quotes and may contain line ends. `#` begins a comment line.

Source: influxdb models/points.go, ParsePointsWithPrecision, scanKey, scanFields, scanNumber.
"""

from __future__ import annotations

import re
from itertools import pairwise

from msgspec import Struct

from resources.embedded.shards.points import Field, FieldValue, Point
from resources.tsm.layout import MAX_KEY_BYTES, BlockType

PRECISIONS_NS = {
    "": 1,
    "n": 1,
    "ns": 1,
    "u": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
"""The values of `precision=`; the server takes any other for nanoseconds."""

MIN_TIME_NS = -(1 << 63) + 2
MAX_TIME_NS = (1 << 63) - 2
"""The server reserves the outermost times (models/time.go)."""

_MIN_INTEGER, _MAX_INTEGER, _MAX_UNSIGNED = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
_MAX_REMEMBERED = 100_000
_MAX_PLAIN_NAME = 1000
_COMMENT, _QUOTE_MARK, _INTEGER_SUFFIX, _HIGHEST_OF_NUMBERS, _BACKSLASH = b'#"i9\\'

_FLOAT, _INTEGER, _BOOLEAN = BlockType.FLOAT, BlockType.INTEGER, BlockType.BOOLEAN
_STRING, _UNSIGNED = BlockType.STRING, BlockType.UNSIGNED
_BOOLEANS = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), True),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), False),
}

# A comma, space or equals sign after a backslash belongs to the name, also after two of them.
_HEAD = re.compile(rb"(?:[^ ]|(?<=\\) )*")
_PART = re.compile(rb"(?:[^,]|(?<=\\),)*")
_TAG = re.compile(rb"((?:[^=]|(?<=\\)=)*)(=?)((?:[^=]|(?<=\\)=)*)(=?)", re.DOTALL)
_NAME = re.compile(rb"(?:[^=, ]|(?<=\\)[=, ])*")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(rb"[^, ]*")
_ANY_MARK = re.compile(rb'["\\]')
_MARK = re.compile(rb'\\.|[ =,"\n]', re.DOTALL)
_ESCAPED_IN_NAME = re.compile(rb'\\([,"\ =])')
_ESCAPED_IN_STRING = re.compile(rb'\\(["\\])')

_PLAIN_FLOAT = re.compile(rb"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_CUT_EXPONENT = re.compile(rb"-?[0-9.]+[eE][-+]?")
_PLAIN_INTEGER = re.compile(rb"-?[0-9]+")
_PLAIN_LINE = re.compile(
    rb"""([^\s"\\,\0\#][^\s"\\]*)[ ]
    ((?:[^\s,="\\]+=(?:
        -?[0-9]{1,18}(?:i|(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,2})?)
        |[tTfF]|[tT]rue|TRUE|[fF]alse|FALSE|"[^"\\]*")
    (?:,(?=[^\s])|(?=[ ])))+)[ ]
    (-?[0-9]{1,19})(?:\n|\Z)""",
    re.VERBOSE,
)
"""Head, fields and time of most lines, which have no escapes."""
_PLAIN_FIELD = re.compile(rb'([^,="]+)=("[^"]*"|[^,]+)')


class Lines(Struct, frozen=True):
    """The points and errors of a body of line protocol."""

    points: list[Point]
    errors: tuple[str, ...]
    """One error for each line that is not a point, in the server's words."""

    @property
    def error(self) -> str | None:
        """The error of status 400, which a server sends after writing the points; None: 204."""
        if not self.errors:
            return None
        text = "\n".join(self.errors)
        return f"partial write: {text} dropped=0" if self.points else text


class _NotAPoint(Exception):
    """The reason why a line is not a point; does not leave this module."""


def parse_lines(
    body: bytes, *, now_ns: int, precision: str = "ns", unsigned: bool = False
) -> Lines:
    """Parse line protocol; bad lines are returned as errors, not raised.

    Args:
        body: lines; empty ones and comments are ignored.
        now_ns: the time of points without one, truncated to the precision.
        precision: the unit of times, a key of PRECISIONS_NS.
        unsigned: whether `5u` is a number; no released 1.x server accepts it.
    """
    parser = _Parser(now_ns, PRECISIONS_NS.get(precision, 1), unsigned)
    points: list[Point] = []
    errors: list[str] = []
    series, quick, plain = parser.series, parser.quick, _PLAIN_LINE.match
    at, end = 0, len(body)
    while at < end:
        found = plain(body, at)
        if found is not None:
            head, text, stamp = found.groups()
            known = series.get(head) or parser.learned(head)
            point = quick(known, text, stamp) if known is not None else None
            if point is not None:
                points.append(point)
                at = found.end()
                continue
        line, at = _line(body, at)
        line = line.lstrip(b" \t\0")
        if line and line[0] != _COMMENT:
            try:
                points.append(parser.point(line))
            except _NotAPoint as reason:
                errors.append(f"unable to parse '{line.decode(errors='replace')}': {reason}")
    return Lines(points, tuple(errors))


def _line(body: bytes, at: int) -> tuple[bytes, int]:
    """The line from a position on, and the next position; a string may contain line ends."""
    end = body.find(b"\n", at)
    if end >= 0 and _ANY_MARK.search(body, at, end):
        end = _end_of_line(body, at)
    return (body[at:end], end + 1) if end >= 0 else (body[at:], len(body))


def _end_of_line(body: bytes, at: int) -> int:
    """The first line end that is not escaped and not in a string of the fields; -1: none.

    Source: influxdb models/points.go, scanLine.
    """
    while body[at : at + 1] in (b" ", b"\t", b"\0"):
        at += 1
    in_fields = quoted = False
    equals = commas = 0
    for found in _MARK.finditer(body, at):
        mark = found[0]
        if mark[0] == _BACKSLASH:
            if found.end() < len(body):
                continue
            mark = mark[1:]
        in_fields = in_fields or mark == b" "
        if in_fields and mark == b"=" and not quoted:
            equals += 1
        elif in_fields and mark == b"," and not quoted:
            commas += 1
        elif in_fields and mark == b'"' and equals > commas:
            quoted = not quoted
        elif mark == b"\n" and not quoted:
            return found.end() - 1
    return -1


class _Parser:
    def __init__(self, now_ns: int, unit_ns: int, unsigned: bool) -> None:
        self._unit_ns = unit_ns
        self._now_ns = now_ns - now_ns % unit_ns
        self._unsigned = unsigned
        self.series: dict[bytes, bytes] = {}
        """The heads so far, without backslashes, and their series keys."""

    def learned(self, head: bytes) -> bytes | None:
        """The series key of a head without backslashes; None: the head is wrong."""
        measurement, *parts = head.split(b",")
        tags: dict[bytes, bytes] = {}
        for part in parts:
            name, _, value = part.partition(b"=")
            if not name or not value or b"=" in value or name in tags:
                return None
            tags[name] = part
        series = b",".join([measurement, *(tags[name] for name in sorted(tags))])
        # Short enough for any field of a line; longer keys are checked field by field.
        if len(series) > MAX_KEY_BYTES // 2:
            return None
        if len(self.series) < _MAX_REMEMBERED:
            self.series[head] = series
        return series

    def quick(self, series: bytes, text: bytes, stamp: bytes) -> Point | None:
        """The point of a known series, from the parts of _PLAIN_LINE; None: its time is invalid."""
        fields: list[Field] = []
        for name, raw in _PLAIN_FIELD.findall(text):
            if len(name) > _MAX_PLAIN_NAME:
                return None
            last = raw[-1]
            if last == _INTEGER_SUFFIX:
                fields.append((name, _INTEGER, int(raw[:-1])))
            elif last == _QUOTE_MARK:
                fields.append((name, _STRING, raw[1:-1]))
            elif last <= _HIGHEST_OF_NUMBERS:
                fields.append((name, _FLOAT, float(raw)))
            else:
                fields.append((name, _BOOLEAN, _BOOLEANS[raw]))
        time_ns = int(stamp) * self._unit_ns
        if not MIN_TIME_NS <= time_ns <= MAX_TIME_NS:
            return None
        return Point(series, time_ns, tuple(fields), text)

    def point(self, line: bytes) -> Point:
        """Parse a line of any form.

        Raises:
            _NotAPoint: the line is not a point; with the reason.
        """
        match = _HEAD.match(line)
        head = match[0] if match is not None else b""
        series = self._series(head)
        start = len(head)
        while line[start : start + 1] == b" ":
            start += 1
        if start == len(head):
            raise _NotAPoint("missing fields")
        fields, end = self._fields(line, start)
        for name, _, _ in fields:
            if len(series) + len(name) + 4 > MAX_KEY_BYTES:
                raise _NotAPoint(f"max key length exceeded: {len(series)} > {MAX_KEY_BYTES}")
        return Point(series, self._time(line[end:].strip(b" ")), fields, line[start:end])

    def _series(self, head: bytes) -> bytes:
        if head[:1] in (b"", b","):
            raise _NotAPoint("missing measurement")
        parts: list[bytes] = []
        at = 0
        while at <= len(head):
            match = _PART.match(head, at)
            part = match[0] if match is not None else b""
            parts.append(part)
            at += len(part) + 1
        tags: list[tuple[bytes, bytes]] = []
        for part in parts[1:]:
            match = _TAG.match(part)
            name, equals, value, more = match.groups() if match is not None else (b"",) * 4
            if not name:
                raise _NotAPoint("missing tag key")
            if not equals or not value:
                raise _NotAPoint("missing tag value")
            if more:
                raise _NotAPoint("invalid tag format")
            tags.append((name, part))
        tags.sort()
        for (one, _), (other, _) in pairwise(tags):
            if one == other:
                raise _NotAPoint("duplicate tags")
        return b",".join([parts[0], *(part for _, part in tags)])

    def _fields(self, line: bytes, at: int) -> tuple[tuple[Field, ...], int]:
        fields: list[Field] = []
        while True:
            match = _NAME.match(line, at)
            name = match[0] if match is not None else b""
            at += len(name)
            if line[at : at + 1] != b"=":
                raise _NotAPoint("invalid field format")
            if not name:
                raise _NotAPoint("missing field key")
            at += 1
            kind, value, at = self._value(line, at)
            fields.append((_ESCAPED_IN_NAME.sub(rb"\1", name), kind, value))
            if line[at : at + 1] != b",":
                break
            at += 1
        if at < len(line) and line[at] != 0x20:
            raise _NotAPoint("invalid field format")
        return tuple(fields), at

    def _value(self, line: bytes, at: int) -> tuple[BlockType, FieldValue, int]:
        if line[at : at + 1] == b'"':
            quoted = _QUOTED.match(line, at)
            if quoted is None:
                raise _NotAPoint("unbalanced quotes")
            return _STRING, _ESCAPED_IN_STRING.sub(rb"\1", quoted[1]), quoted.end()
        match = _BARE.match(line, at)
        raw = match[0] if match is not None else b""
        if not raw:
            raise _NotAPoint("missing field value")
        end = at + len(raw)
        if raw in _BOOLEANS:
            return _BOOLEAN, _BOOLEANS[raw], end
        if raw[0] not in b"0123456789-.nN":
            raise _NotAPoint("invalid boolean")
        return *self._number(raw), end

    def _number(self, raw: bytes) -> tuple[BlockType, FieldValue]:
        digits, suffix = raw[:-1], raw[-1:]
        if _PLAIN_FLOAT.fullmatch(raw):
            value = float(raw)
            if value - value:
                raise _NotAPoint("invalid float")
            return _FLOAT, value
        if not _PLAIN_INTEGER.fullmatch(digits) or suffix not in (b"i", b"u"):
            raise _NotAPoint("invalid float" if _CUT_EXPONENT.fullmatch(raw) else "invalid number")
        if suffix == b"u":
            if not self._unsigned or digits.startswith(b"-"):
                raise _NotAPoint("invalid number")
            if len(digits) > 20 or int(digits) > _MAX_UNSIGNED:
                raise _NotAPoint(_out_of_range("Uint", "unsigned", digits))
            return _UNSIGNED, int(digits)
        if len(digits) > 20 or not _MIN_INTEGER <= int(digits) <= _MAX_INTEGER:
            raise _NotAPoint(_out_of_range("Int", "integer", digits))
        return _INTEGER, int(digits)

    def _time(self, stamp: bytes) -> int:
        if not stamp:
            return self._now_ns
        if b" " in stamp:
            raise _NotAPoint("point is invalid")
        if not _PLAIN_INTEGER.fullmatch(stamp):
            raise _NotAPoint("bad timestamp")
        if len(stamp) > 20 or not _MIN_INTEGER <= int(stamp) <= _MAX_INTEGER:
            raise _NotAPoint(f'strconv.ParseInt: parsing "{stamp.decode()}": value out of range')
        time_ns = int(stamp) * self._unit_ns
        if not MIN_TIME_NS <= time_ns <= MAX_TIME_NS:
            raise _NotAPoint(f"time outside range {MIN_TIME_NS} - {MAX_TIME_NS}")
        return time_ns


def _out_of_range(function: str, kind: str, digits: bytes) -> str:
    reply = digits.decode()
    return (
        f"unable to parse {kind} {reply}: strconv.Parse{function}:"
        f' parsing "{reply}": value out of range'
    )
