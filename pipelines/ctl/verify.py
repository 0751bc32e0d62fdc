"""`shardkeeper verify`: read stored backups, report problems, and repair them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import click

from pipelines.ctl.connection_flags import ConnectionFlags, connection_flags
from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.render import backup_line, printable
from pipelines.ctl.store import open_repository
from pipelines.ctl.verify_render import Asked, render_verify, verify_json
from resources.engine.cluster.restore_journal import unfinished_in_clusters
from resources.engine.events import Event, Repaired, Run, Warned
from resources.engine.merge.merge_journal import unfinished_merges
from resources.engine.restore.server_journal import unfinished_restores
from resources.engine.verify import verify as engine
from resources.engine.verify.repair import (
    Needs,
    download_again,
    manifests_to_repair,
    repair_manifests,
    settle,
    sweep_after_dead_runs,
)
from resources.engine.verify.sampling import Sample, today
from resources.engine.verify.verify import VerifyReport
from resources.errors import BackupIncomplete, BackupPartial, UsageError, counted, named_few
from resources.repository.manifest_replica import unfinished_backups
from resources.repository.repository import BackupRepository


@click.command(cls=GoFlags)
@connection_flags
@click.option(
    "-sample",
    "--sample",
    metavar="<n|n%>",
    help="read only this number or share of the archives, a different part each day until all "
    "were read; manifests, meta files, receipts and sizes are always checked",
)
@click.option(
    "-day",
    "--day",
    type=click.IntRange(min=0),
    metavar="<number>",
    help="with -sample: the day whose part to read (default: today, in days since 1970)",
)
@click.option(
    "-repair",
    "--repair",
    "repairing",
    is_flag=True,
    help="repair damaged manifests from their copies, and copy shards with damaged archives again "
    "from the server that -host or -bind names",
)
@click.option(
    "-json", "--json", "as_json", is_flag=True, help="print one JSON object (docs/verify.md)"
)
@click.argument("path", metavar="<path-to-backup-directory>")
def verify(
    connection: ConnectionFlags,
    path: str,
    *,
    sample: str | None,
    day: int | None,
    repairing: bool,
    as_json: bool,
) -> None:
    """Read everything in a directory of backups, and report what can still be restored.

    Reads every manifest, meta file, archive and receipt, checks every block of every TSM file,
    and compares the files with the manifests. Works on directories of influxd-ctl, of influxd
    backup -portable and of Shardkeeper. Without -repair it changes nothing and contacts no server.
    """
    asked = _asked(sample, day)
    emit = _VerifyOutput(silent=as_json)
    repository = open_repository(path)
    if repairing:
        sweep_after_dead_runs(repository, emit=emit)
        repair_manifests(repository, emit=emit)
    report = engine.verify(repository, choose=_choice(asked), run=Run(emit))
    if repairing and report.problems:
        report = _repair(repository, report, connection, emit)
    for text in () if as_json else _unfinished(repository):
        emit(Warned(text))
    if as_json:
        click.echo(verify_json(report, asked, path, emit.repaired if repairing else None))
    else:
        click.echo(printable(render_verify(report, asked)))
    if report.problems:
        raise BackupIncomplete(
            f"{counted(len(report.problems), 'problem')} in {path}",
            hint=_next(repository, report, connection, repairing),
        )
    if report.damaged_now:
        raise BackupPartial(
            f"{counted(len(report.damaged_now), 'archive')} of the newest state came damaged from "
            f"the server; the first is {report.damaged_now[0]}",
            hint="restoring leaves the damaged parts out; what else is in them comes back",
        )


def _unfinished(repository: BackupRepository) -> Iterator[str]:
    """Warnings about runs that are unfinished or at work: no damage, but worth knowing."""
    for backup in sorted(unfinished_backups(repository.store)):
        if f"{backup}.manifest" not in repository.store.names():
            yield (
                f"{backup} is not finished: a backup is at work, or was killed; the next one "
                "sweeps what it left"
            )
    yield from unfinished_in_clusters(repository.store)
    yield from unfinished_restores(repository.store)
    yield from unfinished_merges(repository.store)


class _VerifyOutput(TerminalOutput):
    """Prints the steps of a repair, and records them for the JSON document at the end."""

    def __init__(self, *, silent: bool) -> None:
        super().__init__(lambda event: None if silent else _line(event))
        self.repaired: list[tuple[str, str]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Repaired):
            self.repaired.append((event.file_name, event.what))
        super().__call__(event)


def _line(event: Event) -> str | None:
    return str(event) if isinstance(event, Repaired) else backup_line(event)


def _repair(
    repository: BackupRepository,
    report: VerifyReport,
    connection: ConnectionFlags,
    emit: _VerifyOutput,
) -> VerifyReport:
    needs, stored = Needs.of(report), list[str]()
    if needs and _is_named(connection):
        downloaded = download_again(connection.source(), repository, needs, emit=emit)
        stored = [saved.entry.file_name for saved in downloaded.saved]
    return settle(repository, report, stored, emit=emit)


def _asked(sample: str | None, day: int | None) -> Asked:
    if sample is None:
        if day is not None:
            raise UsageError("-day goes with -sample")
        return Asked(None, "", 0)
    return Asked(Sample.parse(sample), sample, today() if day is None else day)


def _choice(asked: Asked) -> engine.Choice | None:
    chosen = asked.sample
    if chosen is None:
        return None

    def choose(names: Collection[str]) -> Collection[str]:
        return chosen.choose(names, asked.day)

    return choose


def _is_named(connection: ConnectionFlags) -> bool:
    """Whether a flag names the server: a repair never copies from the default address."""
    return bool(connection.address.host or connection.address.bind)


def _next(
    repository: BackupRepository, report: VerifyReport, connection: ConnectionFlags, repairing: bool
) -> str:
    """Manifests first: without them, nothing is known about the archives that they list."""
    whole_copies = {bad for bad, _ in manifests_to_repair(repository)}
    manifests = [one.file_name for one in report.problems if one.kind in ("manifest", "copy")]
    steps: list[str] = []
    if whole_copies and not repairing:
        steps.append(
            f"verify -repair writes {named_few(sorted(whole_copies), 3)} again from the whole one "
            "of the manifest and its copy, without a server"
        )
    lost = [name for name in manifests if name.endswith(".manifest") and name not in whole_copies]
    if lost:
        steps.append(
            f"copy {named_few(lost, 3)} back from elsewhere; or move it, and its .copy, out of the "
            "directory, and back up: the backup copies the shards again that no manifest lists"
        )
    if not steps and not repairing:
        steps.append(
            "restore -as-of TIME reads an earlier state; verify -repair, with the server's -host "
            "or -bind, copies damaged shards again"
        )
    if repairing and Needs.of(report) and not _is_named(connection):
        steps.append("name the server with -host or -bind, and -repair copies its shards again")
    return "; ".join(steps) or (
        "nothing in the directory or on the server can repair the rest; restore -as-of TIME reads "
        "an earlier state"
    )
