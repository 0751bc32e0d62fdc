"""`restore -meta-only-overwrite-force`: replace the cluster's metastore by a backup's."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path

import click
from msgspec import Struct

from pipelines.ctl import render
from pipelines.ctl.connection_flags import ConnectionFlags
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.planning import JSON_VERSION
from pipelines.ctl.store import choose, open_repository
from resources.clients.cluster import Cluster
from resources.engine.events import (
    MetaRestored,
    Run,
    SourceChosen,
)
from resources.engine.overwrite.overwrite_plan import Overwrite
from resources.engine.overwrite.overwrite_run import overwrite, prepare_overwrite, read_meta_file
from resources.errors import PlanError, ShardkeeperError, UsageError, counted
from resources.model import ShardPlace
from resources.repository.backup_set import BackupSet
from resources.repository.repository import BackupRepository
from resources.repository.storage.places import is_object, split

META = ".meta"


class Wanted(Struct, frozen=True):
    """The request.

    Attributes:
        path: a directory of backups, with `full` a manifest, or a `.meta` file alone.
        plan, as_json: only show what would change, as text or as JSON.
    """

    path: str
    full: bool
    as_of: datetime | None
    plan: bool
    as_json: bool

    def check(self) -> None:
        """Require flags that do not contradict each other.

        Raises:
            UsageError: they do.
        """
        if self.as_json and not self.plan:
            raise UsageError("-json goes with -plan")
        if self.full and self.as_of is not None:
            raise UsageError("-full reads one manifest, so -as-of has nothing to choose from")

    def choose(self) -> tuple[BackupRepository, BackupSet, SourceChosen]:
        """The backup, and an event that describes it."""
        repository, backup, directory = choose(self.path, full=self.full, as_of=self.as_of)
        manifest = self.path if self.full else ""
        return repository, backup, SourceChosen(directory, manifest, backup.meta.file_name)


def overwrite_metastore(connection: ConnectionFlags, wanted: Wanted, *, skip_expired: bool) -> None:
    """Replace the metastore, or show what would change.

    Raises:
        UsageError: the target is a single server.
        ShardkeeperError: as `prepare_overwrite` and `overwrite`.
    """
    began = time.monotonic()
    repository, meta, chosen = _source(wanted)
    emit = TerminalOutput(render.restore_line)
    if not wanted.as_json:
        emit(chosen)
    target = connection.source()
    if not isinstance(target, Cluster):
        raise UsageError(
            f"{target.address} is a single server: its metastore cannot be replaced",
            hint="restore without -meta-only-overwrite-force creates databases with their points",
        )
    if wanted.plan:
        _show(target, chosen, meta, wanted, skip_expired=skip_expired)
        return
    try:
        overwrite(target, repository, meta, skip_expired=skip_expired, run=Run(emit))
    except ShardkeeperError:
        if not emit.emitted(MetaRestored):
            click.echo("Restoring meta data... Error.")
        raise
    click.echo(render.restored(chosen.directory, time.monotonic() - began, len(meta)))


def _source(wanted: Wanted) -> tuple[BackupRepository, bytes, SourceChosen]:
    path = wanted.path
    if path.endswith(META) and is_object(path, ending=META):
        if wanted.full or wanted.as_of is not None:
            raise UsageError(f"{path} is one metastore: -full and -as-of have nothing to choose")
        directory, name = split(path)
        return (
            open_repository(directory),
            read_meta_file(path),
            SourceChosen(directory, "", name),
        )
    repository, backup, chosen = wanted.choose()
    return repository, repository.read_meta(backup), chosen


def _show(
    cluster: Cluster, chosen: SourceChosen, meta: bytes, wanted: Wanted, *, skip_expired: bool
) -> None:
    plan, conflict = None, None
    try:
        plan = prepare_overwrite(cluster, meta, skip_expired=skip_expired)
    except PlanError as error:
        conflict = error
    if wanted.as_json:
        click.echo(_json(cluster.address, chosen, plan, conflict))
    elif plan is not None:
        click.echo(_text(cluster.address, meta, plan))
    if conflict is not None:
        raise conflict


def _text(target: str, meta: bytes, plan: Overwrite) -> str:
    lines = [f"note: {render.printable(note)}" for note in plan.notes]
    lines.append(
        f"{counted(len(plan.after.databases), 'database')} and "
        f"{counted(len(plan.shards), 'shard')}, {len(meta)} bytes of metastore, into {target}: "
        f"{counted(len(plan.recovered), 'shard comes', 'shards come')} back, {len(plan.forgotten)} "
        f"forgotten, {len(plan.without_files)} without files; nothing was changed"
    )
    return "\n".join(lines)


def _json(
    target: str, chosen: SourceChosen, plan: Overwrite | None, conflict: PlanError | None
) -> str:
    """The schema is docs/restore-plan.md."""
    conflicts = [conflict] if conflict else []
    return json.dumps(
        {
            "version": JSON_VERSION,
            "possible": not conflicts,
            "target": {"kind": "cluster", "address": target},
            "backup": {
                "manifest": Path(chosen.manifest).name or None,
                "meta": chosen.meta_file,
            },
            "conflicts": [
                {"what": str(error), "hint": error.hint, "status": int(error.exit_code)}
                for error in conflicts
            ],
            "overwrite": plan
            and {
                "changes": list(plan.notes),
                "recovered": [_shard(place) for place in plan.recovered],
                "forgotten": [_shard(place) for place in plan.forgotten],
                "without_files": [_shard(place) for place in plan.without_files],
            },
        },
        indent=2,
    )


def _shard(place: ShardPlace) -> dict[str, object]:
    return {"shard": place.shard_id, "database": place.database, "policy": place.policy}
