"""Sends points of an archive to a server, as line protocol."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from resources.clients.http import InfluxHTTP
from resources.engine.merge.compare import KeyFound
from resources.engine.merge.http_endpoints import HttpEndpoints, kind_of_failure
from resources.engine.merge.typed import There, rows_of
from resources.errors import WireError
from resources.points.line_protocol import can_be_written, lines_of
from resources.runtime.failpoints import passing
from resources.tsm.layout import BlockType

BATCH_BYTES = 1 << 20
BATCH_LINES = 5_000
"""A server validates a batch as a whole and writes it at once."""


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
