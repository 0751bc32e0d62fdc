"""The HTTP endpoints that a merge uses, and the treatment of their refusals.

A single server has one endpoint, a cluster one at each data node. A merge waits for a server that
does not answer for a moment; every statement of a merge may be sent twice without harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from resources.clients.http import InfluxHTTP
from resources.clients.target import Target
from resources.engine.events import (
    Run,
    Warned,
)
from resources.errors import (
    CredentialsRefused,
    PeerRefused,
    PeerSilent,
    PeerUnreachable,
    UsageError,
    WireError,
    shown,
)
from resources.model import ShardID
from resources.protocol.query_results import Series

T = TypeVar("T")

PATIENCE_S = 60.0
PAUSE_S = 1.0
POLL_S = 0.1
MAX_ATTEMPTS = 3

FailureKind = Literal["smaller", "later", "refused", "fatal"]
_BY_TEXT: tuple[tuple[tuple[str, ...], FailureKind], ...] = (
    (("partial write", "field type conflict", "unable to parse", "invalid UTF-8"), "refused"),
    (("max-concurrent-queries", "cache-max-memory-size"), "later"),
    (("query interrupted", "query killed"), "later"),
    (("query-timeout limit", "max-select-point limit", "timeout"), "smaller"),
)


def kind_of_failure(error: WireError) -> FailureKind:
    """The treatment that a failed statement needs.

    "smaller": the same over a shorter time; "later": the same in a moment; "refused": the
    server does not take some of the points; "fatal": none.

    Source: influxdb 1.6 to 1.8, influxql/query/monitor.go and compile.go, tsdb/store.go,
    tsdb/engine/tsm1/cache.go, coordinator/points_writer.go.
    """
    if isinstance(error, PeerSilent):
        return "smaller"
    if isinstance(error, PeerUnreachable):
        return "later"
    if not isinstance(error, PeerRefused) or isinstance(error, CredentialsRefused):
        return "fatal"
    for texts, called_for in _BY_TEXT:
        if any(text in error.what for text in texts):
            return called_for
    return "fatal"


class HttpEndpoints:
    """All HTTP endpoints of a target.

    Raises:
        UsageError: the target has none.
    """

    def __init__(self, target: Target, run: Run) -> None:
        self.all = target.http_endpoints()
        if not self.all:
            raise UsageError(
                "a merge copies with statements over HTTP, and -http is none",
                hint="name the server's HTTP address with -http",
            )
        self._run = run
        self._first = 0

    def query(self, q: str) -> list[Series]:
        """Run a statement at the first endpoint that answers.

        Raises:
            WireError: none answered for a minute, or the server refused.
            Stopped: `stop` was set.
        """
        return self.through(lambda http: http.query(q))

    def through(self, do: Callable[[InfluxHTTP], T], *, only: InfluxHTTP | None = None) -> T:
        """Call `do` with one endpoint, and with the next ones while it does not answer.

        Args:
            do: may be called several times.
            only: the endpoint to use; None: any.

        Raises:
            WireError: none answered for a minute, or the server refused.
            Stopped: `stop` was set.
        """
        deadline = time.monotonic() + PATIENCE_S
        attempt, at_once = 0, 1 if only else len(self.all)
        while True:
            self.check_stop()
            try:
                return do(only or self.all[self._first])
            except WireError as error:
                if kind_of_failure(error) != "later" or time.monotonic() > deadline:
                    raise
                why = error.what
            self._first = (self._first + 1) % len(self.all)
            attempt += 1
            if attempt == at_once:
                self._run.emit(Warned(f"{why}; trying again for {PATIENCE_S:.0f} s"))
            if attempt % at_once == 0:
                self._run.stop.wait(PAUSE_S)

    def check_stop(self) -> None:
        """Stop the merge if requested.

        Raises:
            Stopped: the run was stopped.
        """
        self._run.check("the merge was complete")

    def pause(self, seconds: float) -> None:
        """Wait, unless stopped."""
        self._run.stop.wait(seconds)
        self.check_stop()

    def check_live(self, target: Target, database: str) -> None:
        """Require, before anything is changed, that every endpoint belongs to the target.

        Another server with an empty database of the same name cannot be distinguished here; the
        temporary database shows it later.

        Raises:
            UsageError: one belongs to another server.
        """
        for http in self.all:
            for attempt in range(MAX_ATTEMPTS):
                ids = _ids_of(target, database)
                names = self.through(InfluxHTTP.databases, only=http)
                found = self._ids_at(http, database)
                if ids is None or (database in names and found == ids):
                    break  # else a shard may just have come or gone: compare again
                if attempt == MAX_ATTEMPTS - 1:
                    raise _elsewhere(http, target, database)
                self.pause(PAUSE_S)

    def await_owners(self, target: Target, database: str) -> None:
        """Wait until every data node knows the owners of a database's shards.

        Nodes receive a change of the metastore a moment later, and until then find no points.
        `check_shards` finds an endpoint of another server, which never receives it.

        Raises:
            WireError: no endpoint answers.
            Stopped: `stop` was set.
        """
        deadline = time.monotonic() + PATIENCE_S
        for http in self.all:
            while True:
                _, now = target.metastore()
                if not now.data_nodes:
                    return  # a single server's shards have no owners
                wanted = {
                    place.shard_id: ",".join(str(owner.node_id) for owner in place.shard.owners)
                    for place in now.places()
                    if place.database == database
                }
                if self._owners_at(http, database) == wanted or time.monotonic() > deadline:
                    break
                self.pause(POLL_S)

    def check_shards(self, target: Target, database: str, ids: Iterable[ShardID]) -> None:
        """Require that every endpoint belongs to the target: it has exactly these shards.

        Raises:
            UsageError: one belongs to another server.
        """
        for http in self.all:
            if self._ids_at(http, database) != set(ids):
                raise _elsewhere(http, target, database)

    def _ids_at(self, http: InfluxHTTP, database: str) -> set[int]:
        return set(self._owners_at(http, database))

    def _owners_at(self, http: InfluxHTTP, database: str) -> dict[int, str]:
        """Shards of a database as one endpoint lists them, with their owners: `6,4`."""
        found: dict[int, str] = {}
        for series in self.through(
            lambda endpoint: endpoint.query("SHOW SHARDS", again=True), only=http
        ):
            if series.name == database and "id" in series.columns:
                for row in series.values:
                    reported = dict(zip(series.columns, row, strict=True))
                    if isinstance(reported["id"], int):
                        found[reported["id"]] = str(reported.get("owners", ""))
        return found


def _ids_of(target: Target, database: str) -> set[int] | None:
    """The shards of a database; None if it does not exist, which later steps report better."""
    _, now = target.metastore()
    if now.database(database) is None:
        return None
    return {place.shard_id for place in now.places() if place.database == database}


def _elsewhere(http: InfluxHTTP, target: Target, database: str) -> UsageError:
    return UsageError(
        f"{http.http_addr} is not an HTTP address of {target.address}: its database "
        f"{shown(database)} is another one",
        hint="name the right one with -http",
    )
