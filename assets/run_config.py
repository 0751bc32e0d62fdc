"""The configuration of a single run; the fields are named like the flags of the command line.

The launchpad checks only names and types. So a number out of its range is a `UsageError` of the
step; a constraint of the field would end in a traceback after the run has started. A run changes a
server only if its configuration has `dry_run: false`; any other launch only plans.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from enum import Enum
from fractions import Fraction

import dagster as dg
from pydantic import Field

from resources.config.values import Cluster
from resources.engine.merge.merge_plan import MAX_POINTS, MergeOptions
from resources.engine.options import BackupOptions, Retry
from resources.engine.restore.as_of import LATEST, parse_moment
from resources.engine.restore.plan import RestoreOptions
from resources.engine.verify.sampling import Sample, today
from resources.errors import UsageError
from resources.model import ShardID, ShardLocation
from resources.protocol.durations import parse_duration
from resources.repository.formats.manifest import Limits

MAX_ATTEMPTS = 100
MAX_AT_ONCE = 64
MAX_NODES = 1000
MAX_SHARD_ID = 2**63 - 1
MAX_POINTS_AT_ONCE = 100_000_000
"""Points of one statement; the server works on it without a pause before it answers."""


class Verify(Enum):
    """How closely an archive is checked while it is made."""

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
        description="Attempts for a shard before it counts as failed, 1 to 100. If left out, the "
        "configured number.",
    )
    new_era: bool = Field(
        default=False,
        description="Set once, after the server was set up anew, put back to an earlier state or "
        "replaced by a copy: copies everything beside the existing backups, which stay restorable "
        "(-new-era).",
    )
    accept_gone: bool = Field(
        default=False,
        description="Once, after files of a shard were lost, or exactly their points were deleted "
        "on purpose: name them no more (-damaged accept).",
    )
    new_directory: bool = Field(
        default=False,
        description="Start in a directory that is empty although backups were made in it. Without "
        "this, such a directory counts as a disk that is not mounted.",
    )

    @property
    def limits(self) -> Limits:
        """The part of the cluster to copy; here no limits."""
        return Limits()

    def options(
        self,
        settings: Cluster,
        lock_wait_s: float,
        *,
        remembered: str,
        only: frozenset[ShardLocation] | None = None,
    ) -> BackupOptions:
        """The engine's options.

        Raises:
            UsageError: a number is out of its range.
        """
        check_number("attempts", self.attempts, 1, MAX_ATTEMPTS)
        return BackupOptions(
            limits=self.limits,
            only=only,
            full=self.full,
            checked="structure" if self.verify is Verify.structure else "full",
            proven=self.verify is Verify.inflated,
            parallel=settings.limits.parallel,
            per_node=settings.limits.per_node,
            workers=settings.limits.workers,
            retry=Retry(attempts=self.attempts or settings.limits.attempts),
            internal=settings.internal,
            require_complete=settings.require_complete,
            damaged="accept" if self.accept_gone else settings.damaged,
            new_era=self.new_era,
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
        """The part of the cluster to copy.

        Raises:
            UsageError: no shard has such a number.
        """
        return Limits(self.db, self.rp, shard_id("shard", self.shard))


class RestoreConfig(dg.Config):
    """What to restore, from when, and under which names; by default everything, the latest."""

    db: str = Field(
        default="",
        description="Only this database (-db). Empty: all; none of them may exist on the target.",
    )
    rp: str = Field(default="", description="Only this retention policy; needs db (-rp).")
    shard: int | None = Field(default=None, description="Only the shard of this id (-shard).")
    newdb: str = Field(
        default="", description="Restore under this database name; needs db (-newdb)."
    )
    newrp: str = Field(default="", description="Restore under this policy name; needs rp (-newrp).")
    newrf: int | None = Field(
        default=None,
        description="The number of copies that a cluster keeps, at most one on each data node "
        "(-newrf). If left out, as many as the source.",
    )
    newshard: int | None = Field(
        default=None,
        description="Restore into this existing and empty shard of the target; needs shard "
        "(-newshard).",
    )
    newduration: str = Field(
        default="",
        description="How long the restored policies keep points: 10s, 12h, 7d, or 0s for ever "
        "(-newduration). Empty: as in the backup.",
    )
    skip_expired: bool = Field(
        default=False,
        description="Leave out shards that the target's retention would delete at once "
        "(-skip-expired).",
    )
    users: bool = Field(
        default=False,
        description="Create users that the cluster does not have, with their passwords and grants "
        "from the backup (-users).",
    )
    as_of: str = Field(
        default="latest",
        description="The state to restore: latest, or a time in UTC such as 20261122T095100Z or "
        "2026-11-22T09:51:00Z, which selects the newest backup that began by then (-as-of).",
    )
    dry_run: bool = Field(
        default=True,
        description="true: change nothing and show the plan, a table on an observation of "
        "restored_meta (-plan); false: restore.",
    )
    allow_same_server: bool = Field(
        default=False,
        description="Allow the server that was backed up as the target, to restore beside the "
        "original with newdb.",
    )

    @property
    def options(self) -> RestoreOptions:
        """The engine's options.

        Raises:
            UsageError: the fields contradict each other, a number is out of its range, or
                newduration is not a duration.
        """
        check_number("newrf", self.newrf, 1, MAX_NODES)
        return RestoreOptions(
            limits=Limits(self.db, self.rp, shard_id("shard", self.shard)),
            new_database=self.newdb,
            new_policy=self.newrp,
            new_duration_ns=parse_duration(self.newduration) if self.newduration else None,
            new_replica_n=self.newrf,
            new_shard_id=shard_id("newshard", self.newshard),
            users=self.users,
            skip_expired=self.skip_expired,
            allow_same_server=self.allow_same_server,
        )


class MergeConfig(dg.Config):
    """What to merge, and into which live database."""

    db: str = Field(default="", description="The database in the backup (-db); required.")
    newdb: str = Field(
        default="",
        description="The live database to merge into; empty: the one of the same name (-newdb).",
    )
    rp: str = Field(default="", description="Only this retention policy (-rp).")
    newrp: str = Field(default="", description="The live policy to merge into; needs rp (-newrp).")
    shard: int | None = Field(
        default=None, description="Only the shard that has this id in the backup (-shard)."
    )
    start: str = Field(
        default="",
        description="Only points from this time on, in UTC: 2026-11-22T09:51:00Z (-start).",
    )
    end: str = Field(default="", description="Only points before this time (-end).")
    as_of: str = Field(
        default=LATEST,
        description="The state to merge: latest, or a time in UTC such as 20261122T095100Z, which "
        "selects the newest backup that began by then (-as-of).",
    )
    skip_expired: bool = Field(
        default=False,
        description="Leave out shards that are older than the live policy keeps points "
        "(-skip-expired).",
    )
    points: int = Field(
        default=MAX_POINTS,
        description="The limit of points that one statement copies (-points).",
    )
    dry_run: bool = Field(
        default=True,
        description="true: change nothing and show the plan, a table on an observation of "
        "restored_meta (-plan); false: merge.",
    )
    abandon: bool = Field(
        default=False,
        description="Drop the temporary database of an unfinished merge; points that it copied "
        "stay (-abandon).",
    )

    @property
    def options(self) -> MergeOptions:
        """The engine's options.

        Raises:
            UsageError: a time is not valid, or a number is out of its range.
        """
        check_number("points", self.points, 1, MAX_POINTS_AT_ONCE)
        return MergeOptions(
            limits=Limits(self.db, self.rp, shard_id("shard", self.shard)),
            into_database=self.newdb,
            into_policy=self.newrp,
            start_ns=_ns(self.start),
            end_ns=_ns(self.end),
            as_of=None if self.as_of in ("", LATEST) else parse_moment(self.as_of),
            skip_expired=self.skip_expired,
            most_points=self.points,
        )


class VerifyConfig(dg.Config):
    """How much to read."""

    sample: float = Field(
        default=100.0,
        description="The percentage of archives to read, more than 0 and at most 100. A different "
        "part is read each day, until all were read; 100: all.",
    )
    parallel: int = Field(default=2, description="Archives to read at once, 1 to 64.")

    def check(self) -> None:
        """Require numbers in their ranges.

        Raises:
            UsageError: one is out of its range.
        """
        if not 0 < self.sample <= 100:  # NaN fails this, too
            raise UsageError(
                f"sample is {self.sample:g}, and a share has more than 0 and at most 100 percent",
                hint="sample: 10 reads a tenth, sample: 100 everything",
            )
        check_number("parallel", self.parallel, 1, MAX_AT_ONCE)

    def choose(self, names: Collection[str], *, always: Collection[str]) -> Collection[str]:
        """The archives to read.

        Args:
            always: archives that belong to every sample.
        """
        if self.sample >= 100:
            return names
        sample = Sample(share=Fraction(str(self.sample)) / 100)
        return {*sample.choose(names, today()), *always}


def check_number(name: str, number: float | None, least: int, most: int) -> None:
    """Require a number in its range; None: it was left out.

    Raises:
        UsageError: it is out of its range.
    """
    if number is None or (not math.isnan(number) and least <= number <= most):
        return
    raise UsageError(
        f"{name} is {number}, which is not among {least} to {most}",
        hint=f"write a number from {least} to {most} there, or leave the line out",
    )


def shard_id(name: str, number: int | None) -> ShardID | None:
    """Check the id of a shard that a user entered.

    Raises:
        UsageError: no server uses such an id.
    """
    if number is None:
        return None
    if not 1 <= number <= MAX_SHARD_ID:
        raise UsageError(
            f"{name} is {number}, and shards are numbered from 1 on",
            hint="the partitions of shard_backup end with the shard's number",
        )
    return ShardID(number)


def _ns(text: str) -> int | None:
    if not text:
        return None
    since = parse_moment(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1) * 1000
