"""The check `reachable` shows the doctor's table, and is red when a backup could not be made."""

from __future__ import annotations

from typing import Any

import dagster as dg

from assets.reachability import REACHABLE
from resources.embedded.cluster import EmbeddedCluster
from tests.pipelines.harness import CLUSTER_ASSETS, DagsterHarness


def questions(harness: DagsterHarness) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The check's latest evaluation, and its table by question."""
    found = harness.check(CLUSTER_ASSETS.meta_snapshot, REACHABLE)
    table = found.metadata["questions"]
    assert isinstance(table, dg.TableMetadataValue)
    return found, {str(row.data["question"]): dict(row.data) for row in table.records}


def ask(harness: DagsterHarness) -> None:
    key = dg.AssetCheckKey(CLUSTER_ASSETS.meta_snapshot, REACHABLE)
    job = dg.define_asset_job("ask", selection=dg.AssetSelection.checks(key))
    with_job = dg.Definitions.merge(harness.defs, dg.Definitions(jobs=[job]))
    assert with_job.resolve_job_def("ask").execute_in_process(instance=harness.instance).success


def test_a_node_that_is_down_turns_the_check_red_with_the_next_step(
    cluster: EmbeddedCluster, over_cluster: DagsterHarness
) -> None:
    harness = over_cluster
    ask(harness)
    found, rows = questions(harness)
    assert found.passed
    assert {row["status"] for row in rows.values()} == {"ok"}
    cluster.stop_node(1)
    ask(harness)
    found, rows = questions(harness)
    assert not found.passed
    down = rows[f"data node {cluster.data[1].tcp_addr}"]
    assert down["status"] == "failed"
    assert found.metadata["next_step"].value == down["next_step"]
    assert next(iter(rows)) == down["question"]  # what is wrong comes first
