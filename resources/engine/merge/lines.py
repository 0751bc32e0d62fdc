r"""Points of an archive as line protocol, typed and exact, and a writer that sends them.

One value a line: series key SP field = value SP time in ns. The key is taken from the file, where
it is escaped as in line protocol.

Source: influxdb models/points.go, scanLine, scanKey, scanFields; Point.AppendString.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np

from resources.clients.http import InfluxHTTP
from resources.engine.merge.compare import KeyFound
from resources.engine.merge.http_endpoints import HttpEndpoints, kind_of_failure
from resources.engine.merge.typed import There, rows_of
from resources.errors import WireError
from resources.runtime.failpoints import passing
from resources.tsm.layout import BlockType, split_key
from resources.tsm.merge import SeriesPoints

BATCH_BYTES = 1 << 20
BATCH_LINES = 5_000
"""A server validates a batch as a whole and writes it at once."""

_IN_FIELD = re.compile(rb'([,"= ])')
_IN_STRING = re.compile(rb'(["\\])')
_ATOM = rb"(?:[^\\,= \x00-\x1f]|\\[,= \n]|\\(?=[^\\,= \x00-\x1f]))"
_SERIES = re.compile(rb"(?!#)(?:%s|=)+(?:,%s+=%s+)*" % (_ATOM, _ATOM, _ATOM))
_FIELD = re.compile(rb'(?:[^\\\x00-\x1f]|\\(?=[^\\,= "\x00-\x1f]))+')
"""Names that servers read as written; servers also take other names, but change them."""


def can_be_written(key: bytes) -> bool:
    """Whether a line can express this key, so that a server reads exactly the same key from it.

    A file may have names that no line can express: they begin like a comment, hold control
    characters, end with a backslash, or have a backslash where it would escape what follows.

    Raises:
        TSMError: it is not a key.
    """
    series, field = split_key(key)
    return bool(_SERIES.fullmatch(series) and _FIELD.fullmatch(field))


def lines_of(points: SeriesPoints) -> Iterator[bytes]:
    """One line, with its end, for each point."""
    series, field = split_key(points.key)
    head = series + b" " + _IN_FIELD.sub(rb"\\\1", field) + b"="
    for time_ns, value in zip(points.times.tolist(), _texts(points), strict=True):
        yield b"%s%s %d\n" % (head, value, time_ns)


def _texts(points: SeriesPoints) -> Iterator[bytes]:
    values = points.values
    if isinstance(values, list):
        return (b'"' + _IN_STRING.sub(rb"\\\1", value) + b'"' for value in values)
    each = values.tolist()
    match points.type:
        case BlockType.BOOLEAN:
            return (b"true" if value else b"false" for value in each)
        case BlockType.FLOAT:
            return (repr(value).encode() for value in each)  # the shortest that reads back equal
        case BlockType.UNSIGNED:
            return (b"%du" % value for value in each)
        case _:
            return (b"%di" % value for value in each)


class LineWriter:
    """Writes missing points; a visitor of a comparison.

    A refusal of the server is no error here: a later comparison finds what is missing, and
    `why` has the server's message.
    """

    def __init__(
        self,
        endpoints: HttpEndpoints,
        database: str,
        policy: str,
        measurement_of: Callable[[bytes], bytes],
    ) -> None:
        self._endpoints = endpoints
        self._database = database
        self._policy = policy
        self._measurement_of = measurement_of
        self._lines: list[bytes] = []
        self._n_bytes = 0
        self._unsigned = False
        self._measurements: set[bytes] = set()
        self.refused = False
        self.why: dict[bytes, str] = {}
        """By measurement, why its lines were refused, or could not be made."""

    def __call__(self, found: KeyFound) -> None:
        (rows,) = np.nonzero(found.codes != There.SAME)
        if not len(rows):
            return
        measurement = self._measurement_of(found.points.key)
        if not can_be_written(found.points.key):
            self.refused = True
            self.why.setdefault(measurement, "line protocol cannot express a name in it")
            return
        unsigned = found.points.type is BlockType.UNSIGNED
        if unsigned != self._unsigned:  # most servers refuse every line with one
            self.flush()
            self._unsigned = unsigned
        for line in lines_of(rows_of(found.points, rows)):
            self._measurements.add(measurement)
            self._lines.append(line)
            self._n_bytes += len(line)
            if len(self._lines) >= BATCH_LINES or self._n_bytes >= BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Send the collected lines.

        Raises:
            WireError: the connection broke, or the server refused for another reason than lines.
            Stopped: `stop` was set.
        """
        if not self._lines:
            return
        lines, measurements = self._lines, self._measurements
        self._lines, self._n_bytes, self._measurements = [], 0, set()
        self._send(lines, measurements)
        passing("merge.lines-written")

    def _send(self, lines: list[bytes], measurements: set[bytes]) -> None:
        body = b"".join(lines)

        def write(http: InfluxHTTP) -> None:
            http.write(body, self._database, self._policy)

        try:
            self._endpoints.through(write)
        except WireError as error:
            called_for = kind_of_failure(error)
            if called_for == "smaller" and len(lines) > 1:
                half = len(lines) // 2
                self._send(lines[:half], measurements)
                self._send(lines[half:], measurements)
                return
            if called_for != "refused":
                raise
            self.refused = True
            for measurement in measurements:
                self.why.setdefault(measurement, error.what)
