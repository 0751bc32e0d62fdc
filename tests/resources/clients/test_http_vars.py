"""/debug/vars: the server's time, and its shards out of many other figures."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.clients.http import InfluxHTTP
from resources.errors import BadReply, PeerRefused
from resources.model import ShardID
from resources.protocol.server_vars import CacheStats, ServerVars, ShardStats, server_vars
from tests.resources.clients.http_peer import CANARY, reply
from tests.resources.clients.peer import answers, peer

DATE = "Mon, 23 Nov 2026 00:51:03 GMT"


def entry(name: str, shard_id: object, **values: object) -> dict[str, object]:
    return {"name": name, "tags": {"id": shard_id, "path": "/d"}, "values": values}


VARS: dict[str, Any] = {
    "system": {
        "currentTime": "2026-11-23T00:51:03.442150109Z",
        "started": "2026-11-23T00:51:03.402597923Z",
        "uptime": 0,
    },
    "cmdline": ["influxd"],
    "memstats": None,
    "httpd:127.0.0.1:8086": {"name": "httpd", "tags": {"bind": ":8086"}, "values": {"req": 1}},
    "shard:/d/1:1": entry("shard", "1", writePointsOk=12, diskBytes=42),
    "tsm1_filestore:/d/1:1": entry("tsm1_filestore", "1", numFiles=2, diskBytes=101),
    "tsm1_filestore:/d/2:2": entry("tsm1_filestore", str(2**64 - 1), numFiles=1),
    "shard:/d/3:3": entry("shard", "3", writePointsOk=1),
}


def test_debug_vars_report_time_and_shards() -> None:
    with peer(answers(reply(VARS))) as addr:
        message = InfluxHTTP(addr).server_vars()
    assert message.current_time_ns == 1_795_395_063_442_150_109
    assert message.started_ns == 1_795_395_063_402_597_923
    assert message.shards == {
        ShardID(1): ShardStats(num_files=2, disk_bytes=101, write_points_ok=12),
        ShardID(2**64 - 1): ShardStats(num_files=1, disk_bytes=0, write_points_ok=0),
    }


def test_debug_vars_report_what_of_a_shard_is_in_memory() -> None:
    events = {
        "system": VARS["system"],
        "tsm1_engine:/d/1:1": entry(
            "tsm1_engine", "1", tsmLevel1Compactions=2, tsmFullCompactions=1, cacheCompactions=9
        ),
        "tsm1_cache:/d/1:1": entry(
            "tsm1_cache", "1", memBytes=7, diskBytes=5, snapshotCount=1, cachedBytes=99
        ),
        "tsm1_filestore:/d/1:1": entry("tsm1_filestore", "1", numFiles=2, diskBytes=101),
        "tsm1_wal:/d/1:1": entry(
            "tsm1_wal", "1", currentSegmentDiskBytes=11, oldSegmentsDiskBytes=22, writeOk=4
        ),
        # What a figure is missing of must not pass for nothing in memory.
        "tsm1_cache:/d/2:2": entry("tsm1_cache", "2", memBytes=0, diskBytes=0, snapshotCount=0),
        "tsm1_filestore:/d/2:2": entry("tsm1_filestore", "2", numFiles=1, diskBytes=3),
    }
    with peer(answers(reply(events))) as addr:
        shards = InfluxHTTP(addr).server_vars(activity=False).shards
    one, two = shards[ShardID(1)], shards[ShardID(2)]
    assert one.cache == CacheStats(7, 5, 1, 99)
    assert CacheStats(7, 5, 1, 99).is_snapshotting
    assert (one.wal_bytes, one.wal_segment_bytes, one.wal_writes, one.compactions) == (33, 11, 4, 3)
    assert two.cache is None
    assert (two.wal_bytes, two.wal_segment_bytes, two.compactions) == (None, None, None)


@pytest.mark.parametrize("system", [None, 7, {}, {"currentTime": 7}, {"currentTime": "now"}])
def test_the_date_header_less_a_second_stands_in_for_the_time(system: object) -> None:
    with peer(answers(reply({"system": system}, Date=DATE))) as addr:
        message = InfluxHTTP(addr).server_vars()
    assert message.current_time_ns == 1_795_395_062_000_000_000
    assert message.started_ns is None


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}, {"Date": ""}])
def test_without_any_time_there_are_no_vars(headers: dict[str, str]) -> None:
    timeless = answers(reply({}, **headers))
    with peer(timeless) as addr, pytest.raises(BadReply, match="has no server time"):
        InfluxHTTP(addr).server_vars()


@pytest.mark.parametrize(
    "odd",
    [
        entry("tsm1_filestore", 1, numFiles=1),
        entry("tsm1_filestore", "-1", numFiles=1),
        entry("tsm1_filestore", "\u0661", numFiles=1),
        entry("tsm1_filestore", str(2**64), numFiles=1),
        entry("tsm1_filestore", "9" * 5000, numFiles=1),
        {"name": "tsm1_filestore", "tags": [], "values": {}},
        {"name": "tsm1_filestore", "tags": {"id": "1"}, "values": 7},
        "tsm1_filestore",
    ],
)
def test_odd_entries_are_left_out(odd: object) -> None:
    body = {"system": VARS["system"], "odd": odd}
    with peer(answers(reply(body))) as addr:
        assert InfluxHTTP(addr).server_vars().shards == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["name", "tags", "values"]), json_values))
def test_any_entry_is_survived(odd: dict[str, object]) -> None:
    body = json.dumps({"a": {"name": "tsm1_filestore", **odd}}).encode()
    shards = server_vars([body], lambda: 0).shards
    assert all(isinstance(stats.num_files, int) for stats in shards.values())


def as_influxd_writes(members: dict[str, object]) -> bytes:
    lines = (
        f'"{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in members.items()
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def test_the_lines_of_influxd_and_any_other_layout_say_the_same() -> None:
    layouts = [
        as_influxd_writes(VARS),
        json.dumps(VARS).encode(),
        json.dumps(VARS, indent=1).encode(),
    ]
    message: list[ServerVars] = []
    for layout in layouts:
        with peer(answers(reply(layout))) as addr:
            message.append(InfluxHTTP(addr).server_vars())
    assert message[0].shards.keys() == {1, 2**64 - 1}
    assert message[0] == message[1] == message[2]


def test_a_line_that_is_no_member_is_left_out_and_a_reply_without_its_end_is_none() -> None:
    lines = as_influxd_writes(VARS)
    odd = lines.replace(b'/d/1:1"', b'/d": /1:1"')
    with peer(answers(reply(odd))) as addr:
        assert InfluxHTTP(addr).server_vars().shards.keys() == {2**64 - 1}
    for cut in (lines.removesuffix(b"}\n"), lines[: lines.rindex(b",")]):
        with peer(answers(reply(cut))) as addr, pytest.raises(BadReply, match="does not end"):
            InfluxHTTP(addr).server_vars()


def test_an_error_instead_of_figures_is_reported_without_the_password() -> None:
    with peer(answers(reply({"error": f"no, {CANARY}"}))) as addr, pytest.raises(PeerRefused) as no:
        InfluxHTTP(addr, user="u", password=CANARY).server_vars()
    assert str(no.value) == f"{addr}: no, ***"


def test_only_what_matters_of_many_figures_is_kept() -> None:
    members: dict[str, object] = {"system": VARS["system"]}
    for i in range(3000):
        filler = dict.fromkeys("abcdefghijklmnopqrstuvw", i)
        for name in ("tsm1_filestore", "tsm1_cache", "tsm1_engine", "shard", "tsm1_wal"):
            members[f"{name}:/d/{i}"] = entry(name, str(i), numFiles=1, **filler)
    lines = as_influxd_writes(members).splitlines(keepends=True)
    tracemalloc.start()
    shards = server_vars(iter(lines), lambda: 0).shards
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(shards) == 3000
    assert peak < 1000 * len(shards)
