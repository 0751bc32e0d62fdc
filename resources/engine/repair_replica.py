"""An owner that lost its shard gets it back from another owner.

A node that lost a directory answers every query that reaches it with nothing, and no command of
the cluster brings the shard back: `copy-shard` refuses a node that owns it.

All replicas are read first. Only an owner without any file of the shard is filled, so no data can
be lost; the restore refuses to overwrite an owner that has files. The source is a new archive of
the owner that has all points (`replicas`), checked as in every backup. The copy is read back and
compared with the archive, and removed again if a step fails.

Held by tests/wire/test_repair_replica.py.
"""

from __future__ import annotations

import tempfile

from msgspec import Struct

from resources.clients.cluster import Cluster
from resources.engine.backup.run import back_up
from resources.engine.cluster.cluster_shard import ClusterShard
from resources.engine.events import Emit, Run
from resources.engine.options import BackupOptions
from resources.engine.restore.existing_shard import ReplicaThere
from resources.engine.restore.plan import RestoreOptions
from resources.engine.restore.restored import RestoreReport
from resources.engine.restore.run import restore
from resources.engine.restore_target import restore_target
from resources.errors import NothingMatches, PlanError
from resources.model import ShardID, ShardPlace
from resources.repository.formats.manifest import Limits
from resources.repository.repository import BackupRepository


class ReplicaRepair(Struct, frozen=True):
    """The replicas of a shard; the owners without files are to be filled."""

    place: ShardPlace
    copies: tuple[ReplicaThere, ...]

    @property
    def lost(self) -> tuple[ReplicaThere, ...]:
        """Owners that have no file of the shard."""
        return tuple(copy for copy in self.copies if not copy.files)

    @property
    def there(self) -> tuple[ReplicaThere, ...]:
        return tuple(copy for copy in self.copies if copy.files)


def plan_replica_repair(cluster: Cluster, shard_id: ShardID) -> ReplicaRepair:
    """Read every owner's copy of a shard; changes nothing.

    Raises:
        NothingMatches: the cluster has no such shard.
        PlanError: no owner has a file of it.
        WireError: an owner does not answer.
    """
    _, metastore = cluster.metastore()
    place = next((p for p in metastore.places() if p.shard_id == shard_id), None)
    if place is None:
        raise NothingMatches(
            f"{cluster.address} has no shard {shard_id}",
            hint="influxd-ctl show-shards lists them",
        )
    found = ReplicaRepair(place, tuple(ClusterShard(cluster, place).scan()))
    if not found.there:
        raise PlanError(
            f"no owner of shard {shard_id} has a file of it",
            hint=f"restore -shard {shard_id} -newshard {shard_id} fills all of them from a backup",
        )
    return found


def repair_replica(
    cluster: Cluster, repair: ReplicaRepair, scratch_dir: str | None, *, emit: Emit
) -> RestoreReport:
    """Fill the owners that lost the shard, and read their copies back.

    Args:
        scratch_dir: a directory with room for an archive of the shard; None: the system's
            directory for temporary files.

    Raises:
        BackupPartial: no owner has all points, or the only one is damaged.
        TargetNotEmpty: an owner has other points than the one that has all.
        ShardkeeperError: a step failed; the filled copies are removed again, or the error
            names them.
    """
    place = repair.place
    limits = Limits(place.database, place.policy, place.shard_id)
    with tempfile.TemporaryDirectory(prefix="shardkeeper-repair-", dir=scratch_dir) as directory:
        repository = BackupRepository.open(directory)
        options = BackupOptions(limits=limits, full=True)
        report = back_up(cluster, repository, options, Run(emit), command="repair-replica")
        if len(report.failed) > len(report.damaged):
            report.check_complete()
        wanted = RestoreOptions(limits=limits, new_shard_id=place.shard_id)
        into = restore_target(cluster, repository, Run(emit), wanted.new_shard_id)
        return restore(into, repository.current(), wanted)
