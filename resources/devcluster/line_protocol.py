r"""Line protocol: bytes → points.

Layout: measurement { , tag = value }* SP field = value { , field = value }* [ SP time ] \n

A backslash before a comma or a space, and in tags and fields before an equals sign, makes it
part of the name; strings are in quotes and may hold line ends. `#` begins a comment line.

Source: influxdb models/points.go, ParsePointsWithPrecision, scanKey, scanFields, scanNumber.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from resources.devcluster.points import Field, FieldValue, Point
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
"""What `precision=` may say; the server takes anything else for nanoseconds."""

MIN_TIME_NS = -(1 << 63) + 2
MAX_TIME_NS = (1 << 63) - 2
"""The server keeps the outermost times for itself (models/time.go)."""

_MIN_INTEGER, _MAX_INTEGER, _MAX_UNSIGNED = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
_MAX_REMEMBERED = 100_000

_FLOAT, _INTEGER, _BOOLEAN = BlockType.FLOAT, BlockType.INTEGER, BlockType.BOOLEAN
_STRING, _UNSIGNED = BlockType.STRING, BlockType.UNSIGNED
_BOOLEANS = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), True),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), False),
}

# A comma, space or equals sign behind a backslash belongs to the name, whatever is before it.
_HEAD = re.compile(rb"(?:[^ ]|(?<=\\) )*")
_PART = re.compile(rb"(?:[^,]|(?<=\\),)*")
_TAG = re.compile(rb"((?:[^=]|(?<=\\)=)*)(=?)((?:[^=]|(?<=\\)=)*)(=?)", re.DOTALL)
_NAME = re.compile(rb"(?:[^=, ]|(?<=\\)[=, ])*")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(rb"[^, ]*")
_QUOTE = re.compile(rb'\\.|(")', re.DOTALL)
_ESCAPED_IN_NAME = re.compile(rb'\\([,"\ =])')
_ESCAPED_IN_STRING = re.compile(rb'\\(["\\])')

_PLAIN_FLOAT = re.compile(rb"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_CUT_EXPONENT = re.compile(rb"-?[0-9.]+[eE][-+]?")
_PLAIN_INTEGER = re.compile(rb"-?[0-9]+")
_PLAIN_REST = re.compile(
    rb"(?:[^,= \"\\]+=(?:-?[0-9]{1,40}(?:\.[0-9]{0,40})?(?:[eE][-+]?[0-9]{1,2})?|-?[0-9]{1,18}i"
    rb"|[tTfF]|[tT]rue|TRUE|[fF]alse|FALSE)(?:,(?=[^ ])|(?= )))+ -?[0-9]{1,18}"
)
"""Fields and time of most lines that are written."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What a body of line protocol held."""

    points: list[Point]
    errors: tuple[str, ...]
    """One per line that is no point, in the server's words."""

    @property
    def error(self) -> str | None:
        """What a server answers with status 400, having written the points; None: 204."""
        if not self.errors:
            return None
        text = "\n".join(self.errors)
        return f"partial write: {text} dropped=0" if self.points else text


class _NotAPoint(Exception):
    """The reason; never leaves this module."""


def parse_lines(
    body: bytes, *, now_ns: int, precision: str = "ns", unsigned: bool = False
) -> Lines:
    """Parse line protocol; lines that are wrong are told, not raised.

    Args:
        body: lines; empty ones and comments say nothing.
        now_ns: the time of points without one, cut to the precision.
        precision: the unit of times, a key of PRECISIONS_NS.
        unsigned: whether `5u` is a number; no released server of 1.x takes it.
    """
    parser = _Parser(now_ns, PRECISIONS_NS.get(precision, 1), unsigned)
    points: list[Point] = []
    errors: list[str] = []
    series = parser.series
    for line in _lines(body):
        try:
            head, _, rest = line.partition(b" ")
            known = series.get(head)
            point = parser.quick(known, rest) if known is not None else None
            points.append(point if point is not None else parser.point(line))
        except _NotAPoint as reason:
            errors.append(f"unable to parse '{line.decode(errors='replace')}': {reason}")
    return Lines(points, tuple(errors))


def _lines(body: bytes) -> Iterator[bytes]:
    """Lines with something on them; a string may go over several."""
    pieces = iter(body.split(b"\n"))
    quotes = b'"' in body
    for piece in pieces:
        line = piece
        if quotes and b'"' in line:
            while _is_open(line) and (more := next(pieces, None)) is not None:
                line += b"\n" + more
        line = line.lstrip(b" \t\0")
        if line and line[0] != 0x23:
            yield line


def _is_open(line: bytes) -> bool:
    head = _HEAD.match(line.lstrip(b" \t\0"))
    at = head.end() if head is not None else 0
    return sum(1 for found in _QUOTE.finditer(line, at) if found[1]) % 2 == 1


class _Parser:
    def __init__(self, now_ns: int, unit_ns: int, unsigned: bool) -> None:
        self._unit_ns = unit_ns
        self._now_ns = now_ns - now_ns % unit_ns
        self._unsigned = unsigned
        self.series: dict[bytes, bytes] = {}
        """Heads of lines seen so far, without backslashes, and their series keys."""

    def quick(self, series: bytes, rest: bytes) -> Point | None:
        """A line of a known series with numbers, booleans and a time; None for any other."""
        if not _PLAIN_REST.fullmatch(rest):
            return None
        text, _, stamp = rest.partition(b" ")
        fields: list[Field] = []
        for part in text.split(b","):
            name, _, raw = part.partition(b"=")
            last = raw[-1]
            if last == 0x69:
                fields.append((name, _INTEGER, int(raw[:-1])))
            elif last <= 0x39:
                fields.append((name, _FLOAT, float(raw)))
            else:
                fields.append((name, _BOOLEAN, _BOOLEANS[raw]))
        time_ns = int(stamp) * self._unit_ns
        if not MIN_TIME_NS <= time_ns <= MAX_TIME_NS:
            return None
        return Point(series, time_ns, tuple(fields), text)

    def point(self, line: bytes) -> Point:
        """Any line.

        Raises:
            _NotAPoint: why not.
        """
        match = _HEAD.match(line)
        head = match[0] if match is not None else b""
        series = self._series(head)
        if len(self.series) < _MAX_REMEMBERED and b"\\" not in head:
            self.series[head] = series
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
        if len(stamp) > 20:
            raise _NotAPoint(f'strconv.ParseInt: parsing "{stamp.decode()}": value out of range')
        time_ns = int(stamp) * self._unit_ns
        if not MIN_TIME_NS <= time_ns <= MAX_TIME_NS:
            raise _NotAPoint(f"time outside range {MIN_TIME_NS} - {MAX_TIME_NS}")
        return time_ns


def _out_of_range(function: str, kind: str, digits: bytes) -> str:
    said = digits.decode()
    return (
        f"unable to parse {kind} {said}: strconv.Parse{function}:"
        f' parsing "{said}": value out of range'
    )
