"""Merge a backup into a database that lives on, as the step of a job."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from pydantic import Field

from assets.config import check_number, shard_id
from assets.facts.restores import merge_facts, merge_plan_facts, to_launch
from assets.facts.values import Metadata
from assets.failures import explained
from assets.family import Family
from assets.launching import refuse_plain_secrets, say_when
from assets.telling import telling
from resources.backup_repository import BackupRepositoryResource
from resources.cluster import TargetResource
from resources.engine.merge.abandon import abandon_merge
from resources.engine.merge.plan import MOST_POINTS, MergeOptions
from resources.engine.merge.run import merge, prepare_merge
from resources.engine.restore.as_of import LATEST, parse_moment
from resources.errors import UsageError
from resources.repository.manifest import Limits

MOST_AT_ONCE = 100_000_000
"""Points of one statement; a server answers it with nothing, but works on it without a pause."""


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
        default="", description="Only points from this time on, in UTC: 2026-11-22T09:51:00Z."
    )
    end: str = Field(default="", description="Only points before this time (-end).")
    as_of: str = Field(
        default=LATEST,
        description="Which state: latest, or a time in UTC such as 20261122T095100Z; the newest "
        "backup begun by then is taken (-as-of).",
    )
    skip_expired: bool = Field(
        default=False,
        description="Leave out shards older than the live policy keeps points (-skip-expired).",
    )
    points: int = Field(
        default=MOST_POINTS,
        description="How many points to copy with one statement, at most (-points).",
    )
    dry_run: bool = Field(
        default=True,
        description="true changes nothing and shows the plan, a table on an observation of "
        "restored_meta (-plan); false merges.",
    )
    abandon: bool = Field(
        default=False,
        description="Drop the temporary database of an unfinished merge; points that it copied "
        "stay (-abandon).",
    )

    @property
    def options(self) -> MergeOptions:
        """As the engine takes them.

        Raises:
            UsageError: a time is none, or a number is out of its range.
        """
        check_number("points", self.points, 1, MOST_AT_ONCE)
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


def _ns(text: str) -> int | None:
    if not text:
        return None
    since = parse_moment(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1) * 1000


def build_merge_op(family: Family) -> dg.OpDefinition:
    """The step; what it did is an observation of `restored_meta`."""

    @dg.op(
        name=f"{family.name}_merge_backup",
        out=dg.Out(dg.Nothing),
        description="Restore beside the live database, copy point by point, look for every one, "
        "drop the copy. An interrupted merge is continued by the next one with these settings.",
    )
    def merge_backup(
        context: dg.OpExecutionContext,
        config: MergeConfig,
        repository: BackupRepositoryResource,
        target: TargetResource,
    ) -> None:
        with explained():
            refuse_plain_secrets(context.run.run_config)
            options = config.options
            if config.abandon and config.dry_run:
                raise UsageError(
                    "abandon drops the temporary database, and dry_run is to change nothing",
                    hint="set dry_run: false to give the merge up",
                )
            if not config.abandon:
                options.check()
            backups, live = repository.open(family.name), target.open()
            tell = telling(context.log)
            if config.abandon:
                dropped = abandon_merge(live, backups, tell=tell)
                found: Metadata = {"target": live.address, "abandoned": dropped}
            elif config.dry_run:
                say_when(context.log, config.as_of)
                plan = prepare_merge(live, backups, options)
                found = merge_plan_facts(plan, live.address)
                found["to_merge"] = to_launch(context.run.run_config, context.op.name, config, {})
                context.log.warning("nothing is merged: this was the plan; dry_run: false merges")
            else:
                found = merge_facts(merge(live, backups, options, tell=tell), live.address)
        context.log_event(dg.AssetObservation(family.restored_meta, metadata=found))

    return merge_backup
