"""Examine a single server."""

from __future__ import annotations

import re
from collections.abc import Callable

from resources.clients.http import InfluxHTTP
from resources.clients.http_facts import diagnosed_version
from resources.clients.server import Server
from resources.engine.doctor.finding import Findings
from resources.engine.selection import split_named
from resources.errors import CredentialsRefused, UsageError, WireError, counted, named_few, shown
from resources.model import Metastore, ShardID

TOO_FAR_S = 60
"""If clocks differ by more, times in reports and objectives are hard to read."""
_KNOWN = re.compile(r"1\.([5-9]|1[0-2])(\.|$|[^0-9])")
_LEAKY = re.compile(r"1\.8\.[0-4]([^0-9]|$)")


def examine_server(
    server: Server, found: Findings, clock_ns: Callable[[], int]
) -> Metastore | None:
    """Query both ports; returns the metastore, if it can be read."""
    metastore: Metastore | None = None
    with found.asking("metastore"):
        _, metastore = server.metastore()
        found.ok(
            "metastore",
            f"{counted(len(metastore.databases), 'database')}, "
            f"{counted(sum(1 for _ in metastore.places()), 'shard')}",
        )
    if server.http is None:
        found.warning(
            "HTTP", "is not used, so every backup copies everything", "-http names the address"
        )
    elif examine_http(server.http, found):
        _examine_facts(server, found, clock_ns)
    if metastore is not None:
        with found.asking("shards"):
            examine_shards(metastore, server.shards_on_disk(), found)
        examine_names(metastore, found)
    return metastore


def examine_http(http: InfluxHTTP, found: Findings, *, named: str = "HTTP") -> bool:
    """Check scheme, version and credentials; returns whether an InfluxDB answers."""
    try:
        scheme = http.scheme
        version = _version(http, found, named)
    except WireError as error:
        found.warning(named, f"{error}, so every backup copies everything", error.hint)
        return False
    text = f"{http.http_addr} answers over {scheme}"
    if not version:
        found.warning(
            named,
            f"{text} and does not report its version",
            "have the proxy before it pass X-Influxdb-Version on, or give -user an administrator",
        )
    elif not _KNOWN.match(version):
        found.warning(named, f"{text} as InfluxDB {shown(version)}, which was never tested")
    elif _LEAKY.match(version):
        found.warning(
            named,
            f"{text} as InfluxDB {version}, which leaves a directory behind for each request",
            "upgrade it to 1.8.5 or later",
        )
    else:
        found.ok(named, f"{text} as InfluxDB {version}")
    return _examine_credentials(http, found, named)


def _version(http: InfluxHTTP, found: Findings, named: str) -> str:
    try:
        return http.ping().version
    except CredentialsRefused:
        raise
    except WireError as error:
        try:
            version = diagnosed_version(http)
        except WireError:
            raise error from None
        found.warning(named, f"{error}; a statement reports the version", error.hint)
        return version


def _examine_credentials(http: InfluxHTTP, found: Findings, named: str) -> bool:
    try:
        n_databases = len(http.databases())
    except CredentialsRefused as error:
        found.warning(
            f"{named} credentials",
            f"{error}: a restore that fails could not be undone",
            "-user and -pwd-file of an administrator, or INFLUX_USERNAME and INFLUX_PASSWORD",
        )
        return True
    except WireError as error:
        found.warning(f"{named} credentials", str(error), error.hint)
        return True
    found.ok(f"{named} credentials", f"SHOW DATABASES shows {n_databases}")
    return True


def _examine_facts(server: Server, found: Findings, clock_ns: Callable[[], int]) -> None:
    try:
        facts, silence = server.facts()
    except UsageError as error:
        found.failed("same server", str(error), error.hint)
        return
    if silence is not None:
        found.warning(
            "figures of shards",
            f"{silence}, so every backup copies everything",
            silence.hint or "let /debug/vars through a proxy before it",
        )
        return
    found.ok("figures of shards", f"/debug/vars reports {len(facts.shards)}")
    if facts.clock_ns is not None:
        examine_clock(server.address, facts.clock_ns - clock_ns(), found)
    if facts.orphans:
        found.warning(
            "orphans",
            f"{counted(len(facts.orphans), 'shard on disk is', 'shards on disk are')} not in the "
            "metastore: " + named_few(f"{shown(path)}/{i}" for i, path in facts.orphans.items()),
            "nothing reads them, and they are not backed up; if they are not needed, remove the "
            "directories while the server is stopped",
        )


def examine_clock(address: str, ahead_ns: int, found: Findings) -> None:
    """Compare a server's clock with ours."""
    ahead_s = ahead_ns / 1e9
    side = "ahead of" if ahead_s > 0 else "behind"
    text = f"{address} is {abs(ahead_s):.0f} s {side} this machine"
    if abs(ahead_s) <= TOO_FAR_S:
        found.ok("clock", f"{address} agrees with this machine within {TOO_FAR_S} s")
    else:
        found.warning("clock", text, "synchronize both clocks with NTP")


def examine_shards(metastore: Metastore, on_disk: frozenset[ShardID], found: Findings) -> None:
    """Compare the metastore's shards with those on disk."""
    places = list(metastore.places())
    absent = [place for place in places if place.shard_id not in on_disk]
    text = f"{len(places) - len(absent)} of {len(places)} are on disk"
    if absent:
        found.ok(
            "shards",
            f"{text}; the others were planned ahead, or are empty or lost: "
            + named_few(str(place.shard_id) for place in absent),
        )
    else:
        found.ok("shards", text)


def examine_names(metastore: Metastore, found: Findings) -> None:
    """Find databases whose names no archive can hold."""
    _, odd = split_named(metastore.places())
    if odd:
        found.warning(
            "names",
            f"{counted(len(odd), 'shard')} cannot be saved, since no archive can hold the name: "
            + named_few(sorted({f"{shown(p.database)}.{shown(p.policy)}" for p in odd})),
            "backups save all others and end with 3; copy the points into a database with a sound "
            "name",
        )
