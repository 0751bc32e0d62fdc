"""Nodes answer to /status with the bytes that real ones answered with."""

from __future__ import annotations

import json
from typing import Any

from resources.embedded.status import DataNodeStatus, MetaNodeStatus
from tests.resources.protocol.test_meta_api import recorded


def fields(raw: bytes, node: str) -> dict[str, Any]:
    found = json.loads(raw)
    assert found.pop("nodeType") == node
    return found


def test_a_meta_node_answers_as_a_real_one() -> None:
    status, body = recorded("status.http")
    has = fields(body, "meta")
    made = MetaNodeStatus(has["leader"], has["httpAddr"], has["raftAddr"], tuple(has["peers"]))
    assert status == 200
    assert made.encode() == body


def test_a_data_node_answers_as_a_real_one() -> None:
    status, body = recorded("data-status.http")
    has = fields(body, "data")
    made = DataNodeStatus(
        has["hostname"],
        has["tcpBind"],
        has["tcpAddr"],
        has["httpAddr"],
        has["nodeStatus"],
        tuple(has["metaAddrs"]),
    )
    assert status == 200
    assert made.encode() == body


def test_a_meta_node_without_peers_answers_null() -> None:
    assert b'"peers":null' in MetaNodeStatus("", "m:8091", "m:8089", ()).encode()
