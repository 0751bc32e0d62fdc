"""One name gives a cluster's assets, jobs and partitions, and no two clusters share any."""

from __future__ import annotations

import pytest

from assets.keys import ClusterAssets
from resources.errors import UsageError


def names(cluster: str) -> set[str]:
    of = ClusterAssets(cluster)
    assets = (of.meta_snapshot, of.shards, of.shard_backup, of.backup_set, of.restored_meta)
    return {
        *(key.to_user_string() for key in (*assets, of.restored_shards)),
        of.back_up_job,
        of.back_up_full_job,
        of.back_up_shards_job,
        of.merge_job,
        of.verify_job,
        of.restore_job,
        of.pool,
        of.gone,
    }


def test_the_names_of_a_cluster_are_all_different() -> None:
    assert len(names("eu")) == 14
    assert "eu/shard_backup" in names("eu")
    assert "back_up_eu_full" in names("eu")


def test_two_clusters_share_no_name() -> None:
    assert names("eu") & names("eu_west") == set()
    assert names("eu") & names("EU") == set()


@pytest.mark.parametrize("name", ["eu", "_", "A9", "x" * 61])
def test_letters_digits_and_underscores_name_a_cluster(name: str) -> None:
    assert ClusterAssets(name).tags == {"shardkeeper/cluster": name}


@pytest.mark.parametrize("name", ["", "9a", "a-b", "a/b", "a b", "ü", "a\n", "x" * 62, "a.b"])
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a cluster's assets") as refused:
        ClusterAssets(name)
    assert "\n" not in refused.value.what
