"""`shardkeeper config check`: find errors in shardkeeper.yaml before Dagster reads it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.render import printable
from resources.config.opening import open_cluster, open_repository
from resources.config.reading import (
    FILE,
    VARIABLE,
    NothingUsable,
    Reading,
    configuration_path,
    read_sound,
)
from resources.config.values import EMBEDDED, EXECUTORS
from resources.errors import ShardkeeperError, UsageError, counted

CONNECT_S = 10.0
"""How long a cluster may be silent before the next one is tried."""


@click.group("config")
def config() -> None:
    """Check shardkeeper.yaml, the file that Dagster reads."""


@config.command(cls=GoFlags)
@click.option(
    "-connect",
    "--connect",
    is_flag=True,
    help="also read the secrets, call each cluster, and check the directories of backups",
)
@click.argument("path", metavar="[<path-to-shardkeeper.yaml>]", default="")
def check(path: str, connect: bool) -> None:
    """Read shardkeeper.yaml and list its errors: file, line, key, next step.

    Without a path, reads the file that SHARDKEEPER_CONFIG names, else the one in this directory.
    An error in one cluster leaves that cluster out of Dagster; the others are still backed up.
    """
    where = Path(path) if path else configuration_path(os.environ, Path.cwd())
    if where.is_dir():
        click.echo(
            f"no file {FILE} in {printable(str(where))}, and {VARIABLE} is not set: Dagster uses "
            f"the embedded clusters below\n  next: write {FILE}, docs/configuration.md has an "
            "example; or name a file: config check PATH",
            err=True,
        )
    try:
        found = read_sound(where)
    except NothingUsable as error:
        _print_errors(error.problems)
        raise UsageError(
            f"{_count(len(error.problems), 'problem')} in {where}, and no cluster is left",
            hint="correct the lines named above, and check again",
        ) from None
    wrong = [problem.error for problem in found.problems] + list(_executor(found))
    for line in _summary(found, embedded=where.is_dir()):
        click.echo(printable(line))
    unreachable = list(_connected(found)) if connect else []
    _print_errors((*wrong, *unreachable))
    if wrong:
        left_out = ", ".join(found.broken) or "no cluster"
        raise UsageError(
            f"{_count(len(wrong), 'problem')} in {where}; left out: {left_out}",
            hint="correct the lines named above, check again, then reload the code location",
        )
    if unreachable:
        raise ShardkeeperError(
            f"{where} is valid, and {_count(len(unreachable), 'place')} in it cannot be reached",
            hint="see above; the account that runs Dagster may have other secrets and mounts",
        )


def _print_errors(errors: Iterable[ShardkeeperError]) -> None:
    for error in errors:
        click.echo(printable(str(error)), err=True)
        if error.hint:
            click.echo(printable(f"  next: {error.hint}"), err=True)


def _summary(found: Reading, *, embedded: bool) -> Iterator[str]:
    clusters = dict(found.configuration.clusters)
    if not embedded:
        clusters.pop(EMBEDDED, None)  # it is always defined, not by the file
    width = max(map(len, (*clusters, *found.broken)))
    for name, settings in clusters.items():
        at = settings.bind or settings.host or f"embedded in {settings.embedded}"
        repository = found.configuration.repositories.get(settings.repository)
        does = f"backed up into {repository.path}" if repository else "a target only"
        yield f"{name:<{width}}  {at}, {does}"
    for name in found.broken:
        yield f"{name:<{width}}  left out"


def _executor(found: Reading) -> Iterator[UsageError]:
    """Executors that are not installed here."""
    configuration = found.configuration
    of_clusters = (configuration.executor_of(name) for name in configuration.backed_up)
    kinds = [one.kind for one in (configuration.executor, *of_clusters)]
    for kind in dict.fromkeys(kinds):
        module = EXECUTORS.get(kind, kind).partition(":")[0]
        try:
            there = find_spec(module) is not None
        except (ImportError, ValueError):
            there = False
        if not there:
            yield UsageError(
                f"executor: {kind!a} is not installed here",
                hint=f"pip install {module.replace('_', '-')}, of the release of your Dagster"
                if kind in EXECUTORS
                else "write module:attribute, such as dagster_k8s:k8s_job_executor, and install it",
            )


def _connected(found: Reading) -> Iterator[ShardkeeperError]:
    """Places that do not answer or do not exist."""
    for name, settings in found.configuration.clusters.items():
        if settings.embedded is not None and not settings.repository:
            continue
        at = settings.bind or settings.host or f"embedded in {settings.embedded}"
        click.echo(printable(f"{name}: trying {at}, for {CONNECT_S:.0f} s at most"))
        try:
            source = open_cluster(found, name, silence_s=CONNECT_S)
            source.metastore()
            click.echo(f"{name}: {source.address} answers")
        except ShardkeeperError as error:
            yield _of(name, error)
        if settings.repository:
            try:
                backups = open_repository(found, name)
                count = sum(one.endswith(".manifest") for one in backups.store.names())
                click.echo(f"{name}: {backups.location} has {_count(count, 'backup')}")
            except ShardkeeperError as error:
                yield _of(name, error)
    for at, one in enumerate(found.configuration.notify):
        try:
            one.url.read()
        except ShardkeeperError as error:
            yield _of(f"notify.{at}", error)


def _of(name: str, error: ShardkeeperError) -> ShardkeeperError:
    return ShardkeeperError(f"{name}: {error}", hint=error.hint)


def _count(number: int, what: str) -> str:
    return counted(number, what)
