"""What is wrong with the backups of a cluster, told by what is recorded and stored."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from msgspec.structs import replace

from assets.evaluation import ARCHIVES_MATCH, NOTHING_MISSING
from assets.history.asset_history import AssetHistory
from assets.keys import ClusterAssets
from assets.reachability import evaluation
from pipelines.sensors.alerts import LASTING_S, Trouble
from pipelines.sensors.troubles import AWAY, DIRECTORY, OBJECTIVE, troubles
from resources.config.values import Objectives
from resources.errors import ShardkeeperError, StoreFailed
from resources.repository.manifest_cache import ManifestCache
from resources.repository.repository import BackupRepository
from tests import builders as b

DAY_S = 86_400.0


class Found:
    """The troubles of a cluster whose directory of backups is this one."""

    def __init__(self, history: AssetHistory, cluster_assets: ClusterAssets, directory: Path):
        self._history, self.cluster_assets, self._directory = history, cluster_assets, directory

    def now(self, error: ShardkeeperError | None = None, ticking_s: float = 0.0) -> list[Trouble]:
        cached = ManifestCache(BackupRepository.open(self._directory))
        cached.refresh()
        return list(
            troubles(
                self._history,
                self.cluster_assets,
                Objectives(),
                error or cached,
                first_s=time.time() - ticking_s,
            )
        )

    def back_up(self, age_s: float) -> None:
        at = datetime.now(UTC) - timedelta(seconds=age_s)
        name = f"{at:%Y%m%dT%H%M%SZ}"
        made = b.manifest(details=b.backup_details(has_copy=False))
        made = replace(made, meta=replace(made.meta, file_name=f"{name}.meta"))
        (self._directory / f"{name}.manifest").write_bytes(made.encode())

    def failed(self, asset: dg.AssetKey, check: str, metadata: Mapping[str, Any]) -> None:
        self._history.record_checks(
            [dg.AssetCheckEvaluation(asset_key=asset, check_name=check, passed=False,
                                     metadata=metadata)]
        )  # fmt: skip

    def away(self, why: str, since_s: float) -> None:
        self._history.record_checks([evaluation(self.cluster_assets, why, since_s)])


@pytest.fixture
def found(history: AssetHistory, cluster_assets: ClusterAssets, tmp_path: Path) -> Found:
    return Found(history, cluster_assets, tmp_path)


def test_with_a_young_backup_nothing_is_wrong(found: Found) -> None:
    found.back_up(60)
    assert found.now() == []


def test_before_the_first_backup_nothing_is_wrong_for_as_long_as_the_objective(
    found: Found,
) -> None:
    assert found.now(ticking_s=DAY_S - 60) == []
    [one] = found.now(ticking_s=DAY_S)
    assert one.name == OBJECTIVE
    assert one.text.startswith("there is no backup yet, after 1 day\nNext: ")


def test_a_backup_that_is_too_old_is_named_with_its_age(found: Found) -> None:
    found.back_up(2 * DAY_S)
    [one] = found.now()
    assert one.name == OBJECTIVE
    assert one.text.startswith("there is no backup of the last 1 day; the newest restore point is ")
    assert ", 2 days old\nNext: " in one.text


def test_a_cluster_that_does_not_answer_is_a_trouble_that_must_last(found: Found) -> None:
    found.back_up(60)
    found.away("meta-1:8091: refused", 1000.0)
    assert found.now() == [
        Trouble(AWAY, "the cluster does not answer: meta-1:8091: refused", 1000.0, LASTING_S)
    ]
    found.away("", 0.0)
    assert found.now() == []


def test_a_directory_that_cannot_be_read_is_a_trouble_that_must_last(found: Found) -> None:
    [one] = found.now(StoreFailed("backups: no such directory", hint="mount it"))
    assert (one.name, one.since_s, one.lasting_s) == (DIRECTORY, None, LASTING_S)
    assert "backups: no such directory" in one.text
    assert "mount it" in one.text


@pytest.mark.parametrize(
    ("metadata", "what"),
    [
        ({"problems_found": 3}, "has failed: 3 problems\n"),
        ({"missing": 1}, "has failed: 1 problem\n"),
        ({}, "has failed: some problems\n"),
    ],
)
def test_a_check_that_failed_is_a_trouble_at_once(
    found: Found, metadata: dict[str, Any], what: str
) -> None:
    found.back_up(60)
    assets = found.cluster_assets
    found.failed(assets.shard_backup, ARCHIVES_MATCH, metadata)
    found.failed(assets.backup_set, NOTHING_MISSING, metadata)
    names = [(one.name, one.lasting_s) for one in found.now()]
    assert names == [(ARCHIVES_MATCH, 0.0), (NOTHING_MISSING, 0.0)]
    for one in found.now():
        assert what in one.text
        assert f"launch {assets.verify_job} to read everything again" in one.text
