"""Every point of a database, read over HTTP by the server's code alone.

Our parsers have no part in this, so a mistake of theirs cannot hide itself: source and
target of a restore are compared by what a user of the database would see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import requests

from tests.influxd import Influxd, InfluxdFailed, wait_until

Series: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...]]
"""Retention policy, measurement, tags."""
Row: TypeAlias = tuple[int, Mapping[str, Any]]
"""Time in ns, and the fields that have a value at that time."""
Points: TypeAlias = dict[Series | tuple[str, str], Any]
"""Rows by series; besides, the field types of each measurement under ("types", measurement)."""


def points(server: Influxd, db: str, *, policies: Mapping[str, str] | None = None) -> Points:
    """Read all points of a database.

    Args:
        policies: other names for its policies, to compare with a database that has those.
    """
    found: Points = {}
    quoted = _quoted(db)
    for measurement, keys in _named(server, f"SHOW FIELD KEYS ON {quoted}"):
        found["types", measurement] = sorted((name, kind) for name, kind in keys)
    names = [
        name for _, rows in _named(server, f"SHOW MEASUREMENTS ON {quoted}") for [name] in rows
    ]
    for [policy, *_] in server.rows(f"SHOW RETENTION POLICIES ON {quoted}"):
        called = policies.get(policy, policy) if policies else policy
        for name in names:
            q = f"SELECT * FROM {quoted}.{_quoted(policy)}.{_quoted(name)} GROUP BY *"
            for series in _series(server, q):
                # No tag has an empty value; an index in memory lists other series' tags so.
                tags = tuple(sorted((k, v) for k, v in series.get("tags", {}).items() if v))
                fields = series["columns"][1:]
                rows: list[Row] = found.setdefault((called, name, tags), [])
                for time, *values in series["values"]:
                    there = zip(fields, values, strict=True)
                    rows.append((time, {f: v for f, v in there if v is not None}))
    return found


def databases(server: Influxd) -> set[str]:
    [result] = server.query("SHOW DATABASES")
    return {name for [name] in result["series"][0].get("values", [])}


def count(found: Points) -> int:
    """How many points: values that have a series, a field and a time."""
    return sum(
        len(fields) for key, rows in found.items() if key[0] != "types" for _, fields in rows
    )


def wait_for_points(
    server: Influxd, db: str, expected: Points, *, policies: Mapping[str, str] | None = None
) -> None:
    """Wait until a database holds exactly these points: `influxd restore` ends too early."""

    def there() -> bool:
        try:
            return points(server, db, policies=policies) == expected
        except InfluxdFailed:  # "shard is disabled"
            return False

    with suppress(InfluxdFailed):
        wait_until(there, within_s=10, what=f"the points of {db}")
    assert points(server, db, policies=policies) == expected


def _named(server: Influxd, q: str) -> Iterator[tuple[str, list[list[Any]]]]:
    [result] = server.query(q)
    for series in result.get("series", []):
        yield series["name"], series["values"]


def _series(server: Influxd, q: str) -> Iterator[dict[str, Any]]:
    params = {"epoch": "ns", "chunked": "true", "chunk_size": "5000"}
    with requests.post(
        f"{server.url}/query",
        params=params,
        data={"q": q},
        auth=server.credentials,
        stream=True,
        timeout=60,
    ) as response:
        for line in response.iter_lines():
            if not line:
                continue
            chunk = json.loads(line)
            assert "error" not in chunk, chunk
            for result in chunk["results"]:
                assert "error" not in result, result
                yield from result.get("series", [])


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
