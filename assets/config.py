"""Choices made for one run; the fields are named like the flags of the command line."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from fractions import Fraction

import dagster as dg
from pydantic import Field

from resources.config.values import Cluster
from resources.engine.options import BackupOptions, Retry
from resources.engine.restore.plan import RestoreOptions
from resources.engine.stored.sampling import Sample, today
from resources.model import ShardID
from resources.protocol.durations import parse_duration
from resources.repository.manifest import Limits


class Verify(Enum):
    """How closely an archive is looked at while it is made."""

    inflated = "inflated"
    full = "full"
    structure = "structure"


class CopyConfig(dg.Config):
    """How to copy."""

    full: bool = Field(default=False, description="Copy every shard, changed or not (-full).")
    verify: Verify = Field(
        default=Verify.full,
        description="full: check every block of every TSM file; structure: headers and indexes "
        "only; inflated: every block, and inflate again what was compressed (-verify).",
    )
    attempts: int | None = Field(
        default=None,
        ge=1,
        description="How often a shard is tried before it counts as failed; as configured if left "
        "out.",
    )
    new_directory: bool = Field(
        default=False,
        description="Begin anew in a directory that is empty although backups were made in it. "
        "Otherwise such a directory is taken for a disk that is not mounted.",
    )

    def options(
        self,
        settings: Cluster,
        lock_wait_s: float,
        *,
        remembered: str,
        limits: Limits | None = None,
        only: frozenset[ShardID] | None = None,
    ) -> BackupOptions:
        return BackupOptions(
            limits=limits or Limits(),
            only=only,
            full=self.full,
            checked="structure" if self.verify is Verify.structure else "full",
            proven=self.verify is Verify.inflated,
            parallel=settings.limits.parallel,
            per_node=settings.limits.per_node,
            retry=Retry(attempts=self.attempts or settings.limits.attempts),
            internal=settings.internal,
            require_complete=settings.require_complete,
            remembered="" if self.new_directory else remembered,
            lock_wait_s=lock_wait_s,
        )


class BackUpConfig(CopyConfig):
    """What to back up, and how; by default everything that changed."""

    db: str = Field(default="", description="Only this database (-db).")
    rp: str = Field(default="", description="Only this retention policy; needs db (-rp).")
    shard: int | None = Field(default=None, description="Only the shard of this id (-shard).")

    @property
    def limits(self) -> Limits:
        return Limits(self.db, self.rp, None if self.shard is None else ShardID(self.shard))


class RestoreConfig(dg.Config):
    """What to restore, from when, and under which names; by default everything, the latest."""

    db: str = Field(
        default="",
        description="Only this database (-db). Empty: all, each must not exist on the target.",
    )
    rp: str = Field(default="", description="Only this retention policy; needs db (-rp).")
    shard: int | None = Field(default=None, description="Only the shard of this id (-shard).")
    newdb: str = Field(
        default="", description="Restore under this database name; needs db (-newdb)."
    )
    newrp: str = Field(default="", description="Restore under this policy name; needs rp (-newrp).")
    newrf: int | None = Field(
        default=None,
        ge=1,
        description="How many copies a cluster keeps, at most one on each data node; as many as "
        "the source did if left out (-newrf).",
    )
    newshard: int | None = Field(
        default=None,
        ge=1,
        description="Restore into this shard of the target, which is there and empty; needs shard "
        "(-newshard).",
    )
    newduration: str = Field(
        default="",
        description="How long the restored policies keep points: 10s, 12h, 7d, or 0s for ever; "
        "empty: as they did (-newduration).",
    )
    skip_expired: bool = Field(
        default=False,
        description="Leave out shards that the target's retention would delete at once "
        "(-skip-expired).",
    )
    users: bool = Field(
        default=False,
        description="Create users that the cluster does not have, with the passwords and grants "
        "that they had (-users).",
    )
    as_of: str = Field(
        default="latest",
        description="Which state: latest, or a time in UTC such as 20261122T095100Z or "
        "2026-11-22T09:51:00Z; the newest backup begun by then is taken (-as-of).",
    )
    dry_run: bool = Field(
        default=False,
        description="Change nothing; the plan is a table on an observation of this asset (-plan). "
        "The launchpad proposes true, so that you look before you restore.",
    )
    allow_same_server: bool = Field(
        default=False,
        description="Let the target be the server that was backed up, to restore beside the "
        "original with newdb.",
    )

    @property
    def options(self) -> RestoreOptions:
        """As the engine takes them.

        Raises:
            UsageError: the fields contradict each other, or newduration is no duration.
        """
        options = RestoreOptions(
            limits=Limits(self.db, self.rp, None if self.shard is None else ShardID(self.shard)),
            new_database=self.newdb,
            new_policy=self.newrp,
            new_duration_ns=parse_duration(self.newduration) if self.newduration else None,
            new_replica_n=self.newrf,
            new_shard_id=None if self.newshard is None else ShardID(self.newshard),
            users=self.users,
            skip_expired=self.skip_expired,
            allow_same_server=self.allow_same_server,
        )
        options.check()
        return options


class VerifyConfig(dg.Config):
    """How much to read."""

    sample: float = Field(
        default=100.0,
        gt=0,
        le=100,
        description="Percent of the archives to read, others each day until all had their turn; "
        "100: all.",
    )
    parallel: int = Field(default=2, ge=1, le=64, description="Archives read at once.")

    def choose(self, names: Collection[str], *, always: Collection[str]) -> Collection[str]:
        """The archives to read.

        Args:
            always: those that every sample has.
        """
        if self.sample >= 100:
            return names
        sample = Sample(share=Fraction(str(self.sample)) / 100)
        return {*sample.choose(names, today()), *always}
