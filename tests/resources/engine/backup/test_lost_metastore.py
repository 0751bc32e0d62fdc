"""A server whose meta.db is gone is told apart from one that is new."""

from __future__ import annotations

import pytest

from resources.engine.backup.lost_metastore import require_metastore, strange
from resources.errors import MetaLost
from resources.model import Metastore, ShardID
from tests import builders as b

ORPHANS = {ShardID(1): "home/autogen", ShardID(2): "home/week", ShardID(3): "_internal/monitor"}
OF_THE_SERVER = {ShardID(3): "_internal/monitor"}


def lost(metastore: Metastore, orphans: dict[ShardID, str], location: str = "") -> MetaLost:
    with pytest.raises(MetaLost) as refused:
        require_metastore(metastore, orphans, "influx:8088", location)
    return refused.value


def test_shards_of_databases_that_an_empty_metastore_does_not_know_stop_the_backup() -> None:
    for known in (b.metastore(), b.metastore(b.database("_internal"))):
        error = lost(known, ORPHANS)
        assert error.what.startswith("influx:8088 has 3 shards on its disk")
        assert "databases 'home':" in error.what


@pytest.mark.parametrize(
    ("metastore", "orphans"),
    [
        (b.metastore(b.database("home")), ORPHANS),
        (b.metastore(b.database("other")), ORPHANS),
        (b.metastore(), {}),
        (b.metastore(), OF_THE_SERVER),
    ],
    ids=["it knows the database", "it knows another", "nothing is on its disk", "only _internal"],
)
def test_a_server_that_knows_a_database_or_has_no_orphans_passes(
    metastore: Metastore, orphans: dict[ShardID, str]
) -> None:
    require_metastore(metastore, orphans, "influx:8088", "/backups")


def test_the_hint_gives_the_metastore_back_if_there_is_a_backup_and_warns_if_not() -> None:
    assert "shardkeeper restore -meta-file meta.db /backups" in (
        lost(b.metastore(), ORPHANS, "/backups").hint
    )
    without = lost(b.metastore(), ORPHANS).hint
    assert "no backup here has its metastore" in without
    assert "write nothing to the server" in without


def test_of_many_databases_the_first_ten_are_named_once_each_in_order() -> None:
    orphans = {ShardID(i): f"db{i // 2:02}/rp" for i in range(24)}
    assert strange(orphans) == [f"db{i:02}" for i in range(12)]
    what = lost(b.metastore(), orphans).what
    assert "'db09' and 2 more:" in what
    assert "db10" not in what
    ten = {ShardID(i): f"db{i}/rp" for i in range(10)}
    assert "more" not in lost(b.metastore(), ten).what
