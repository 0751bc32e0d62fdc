"""A cluster whose configuration cannot be is shown in the graph, with the reason."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.left_out import CAN_BE, is_left_out, key_of, left_out_definitions
from resources.errors import UsageError

ERRORS = [UsageError("line 3: bind is no address"), UsageError("line 5: unknown key")]


def asset(name: str) -> dg.AssetSpec:
    found = left_out_definitions(name, ERRORS, "shardkeeper.yaml")
    [spec] = list(found.assets or [])
    assert isinstance(spec, dg.AssetSpec)
    return spec


def test_every_problem_is_in_the_description() -> None:
    text = str(asset("eu").description)
    assert "line 3: bind is no address" in text
    assert "line 5: unknown key" in text


@pytest.mark.parametrize(
    ("name", "group"), [("eu", "eu"), ("a-b", None), ("a/b", "a_b"), ("9a", None)]
)
def test_it_stands_in_the_group_of_its_cluster_if_dagster_takes_the_name(
    name: str, group: str | None
) -> None:
    spec = asset(name)
    assert spec.group_name == group
    assert spec.key == key_of(name)
    assert ("shardkeeper/cluster" in spec.tags) == (group is not None)


def test_the_check_is_red_with_the_reason() -> None:
    found = is_left_out("eu", "line 3: bind is no address")
    assert not found.passed
    assert (found.asset_key, found.check_name) == (key_of("eu"), CAN_BE)
    assert found.metadata["problems"].value == "line 3: bind is no address"
