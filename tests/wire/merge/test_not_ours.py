"""A database of the temporary name is dropped if it is provably ours; else it stays, and is named.

Held here: what resources/engine/merge/own_database.py says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.runtime.failpoints import VARIABLE
from tests.influxd import Influxd
from tests.wire.commands import Done, at, shardkeeper
from tests.wire.merge.scenario import T0, WEEK_NS
from tests.wire.points import databases

LINES = [f"m,k=k{n} v={n}i {T0 + week * WEEK_NS + n}" for n in range(9) for week in range(2)]
THEIRS = f"theirs v=1 {T0}\ntheirs v=2 {T0 + WEEK_NS}"
MAIN = "from pipelines.ctl.main import shardkeeper; shardkeeper()"


class Target(Protocol):
    """A server or a cluster with a database `db`, which was backed up and lost."""

    backups: Path
    words: tuple[str, ...]
    db: str

    def query(self, q: str, db: str = "") -> Any: ...
    def write(self, db: str, lines: str) -> None: ...
    def names(self) -> set[str]: ...


class OnServer:
    """A real influxd."""

    def __init__(self, server: Influxd, backups: Path, db: str) -> None:
        self._server = server
        self.backups, self.db = backups, db
        self.words = at(server)

    def query(self, q: str, db: str = "") -> Any:
        return self._server.query(q, db=db or None)

    def write(self, db: str, lines: str) -> None:
        self._server.write(db, lines)

    def names(self) -> set[str]:
        return databases(self._server)


class OnCluster:
    """The embedded cluster."""

    def __init__(self, cluster: EmbeddedCluster, backups: Path, db: str) -> None:
        self._cluster = cluster
        self.backups, self.db = backups, db
        self.words = ("-bind", cluster.meta[0].http_addr)

    def query(self, q: str, db: str = "") -> Any:
        return self._cluster.query(q, database=db)["results"]

    def write(self, db: str, lines: str) -> None:
        self._cluster.write(db, lines)

    def names(self) -> set[str]:
        [found] = self.query("SHOW DATABASES")
        return {name for [name] in found["series"][0].get("values", [])}


@pytest.fixture(params=[pytest.param("server", marks=pytest.mark.wire), "cluster"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path, backups: Path, fresh: Callable[[], str]
) -> Iterator[Target]:
    if request.param == "server":
        yield _lost(OnServer(request.getfixturevalue("source"), backups, fresh()))
        return
    backups.chmod(0o700)
    with EmbeddedCluster(tmp_path / "cluster", meta_nodes=1, data_nodes=2) as cluster:
        yield _lost(OnCluster(cluster, backups, "db"))


def _lost(target: Target) -> Target:
    target.query(f'CREATE DATABASE "{target.db}"')
    target.write(target.db, "\n".join(LINES))
    done = shardkeeper(*_placed(target, "backup"), target.backups)
    assert done, done
    target.query(f'DROP DATABASE "{target.db}"')
    target.query(f'CREATE DATABASE "{target.db}"')
    return target


def _placed(target: Target, command: str, *flags: str) -> tuple[str, ...]:
    return command, *target.words, *flags


def _merge(target: Target) -> Done:
    return shardkeeper(*_placed(target, "merge", "-db", target.db), target.backups)


def _died(target: Target, point: str) -> str:
    """A merge that is killed at a point; returns the name of its temporary database."""
    words = _placed(target, "merge", "-db", target.db)
    process = subprocess.run(
        [sys.executable, "-c", MAIN, *words, str(target.backups)],
        capture_output=True,
        env={
            **os.environ,
            VARIABLE: point,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        check=False,
        timeout=120,
    )
    assert process.returncode == -signal.SIGKILL, process
    return json.loads(_journal(target).read_bytes())["temporary"]


def _journal(target: Target) -> Path:
    [path] = target.backups.glob(".shardkeeper.merge-*.json")
    return path


def _as_if_it_died_earlier(target: Target) -> None:
    """As if it had been killed before it noted what it had restored."""
    output = json.loads(_journal(target).read_bytes())
    _journal(target).write_text(json.dumps({**output, "shards": None, "complete": False}))


def _theirs(target: Target, db: str) -> list[Any]:
    [found] = target.query("SELECT v FROM theirs", db)
    return [row[1] for series in found.get("series", []) for row in series["values"]]


def _count(target: Target) -> int:
    [found] = target.query("SELECT count(v) FROM m", target.db)
    return found["series"][0]["values"][0][1]


def _another(target: Target, name: str) -> None:
    """Another client makes one of that name, with shard groups of the same times."""
    target.query(f'DROP DATABASE "{name}"')
    target.query(f'CREATE DATABASE "{name}"')
    target.write(name, THEIRS)


def _beside(target: Target, name: str) -> None:
    """Another client writes into what was restored, and into no shard group of its own."""
    target.write(name, THEIRS)


def _later(target: Target, name: str) -> None:
    """Another client writes into what was restored, where it had no shard group."""
    target.write(name, f"theirs v=1 {T0 + 9 * WEEK_NS}\ntheirs v=2 {T0 + 10 * WEEK_NS}")


Doing = Callable[[Target, str], None]


@pytest.mark.parametrize("do", [_another, _beside, _later])
def test_what_somebody_else_has_a_part_in_stays_and_the_merge_goes_on_without_it(
    target: Target, do: Doing
) -> None:
    name = _died(target, "merge.restored")
    _as_if_it_died_earlier(target)
    do(target, name)
    given_up = shardkeeper(*_placed(target, "merge", "-abandon"), target.backups)
    assert given_up.code == 1, given_up
    assert f"database {name} is left there" in given_up.err
    assert _journal(target).exists()
    done = _merge(target)
    assert done, done
    assert f"database {name} has the name that an unfinished merge had noted" in done.err
    assert _count(target) == len(LINES)
    assert _theirs(target, name) == [1, 2]
    left = {each for each in target.names() if each.startswith("shardkeeper_merge")}
    assert left == {name}
    assert list(target.backups.glob(".shardkeeper.merge*")) == []
    target.query(f'DROP DATABASE "{name}"')


@pytest.mark.parametrize("do", [_another, _later])
@pytest.mark.parametrize("point", ["merge.restored", "merge.before-drop"])
def test_shards_that_were_not_restored_are_not_dropped_after_that_was_noted(
    target: Target, do: Doing, point: str
) -> None:
    name = _died(target, point)
    do(target, name)
    done = _merge(target)
    assert done, done
    assert f"database {name} has the name that an unfinished merge had noted" in done.err
    assert _count(target) == len(LINES)
    assert _theirs(target, name) == [1, 2]
    target.query(f'DROP DATABASE "{name}"')


def test_what_is_ours_is_dropped_though_nobody_noted_that_it_was_restored(target: Target) -> None:
    name = _died(target, "merge.restored")
    _as_if_it_died_earlier(target)
    assert name in target.names()
    done = shardkeeper(*_placed(target, "merge", "-abandon"), target.backups)
    assert done, done
    assert name not in target.names()
    assert list(target.backups.glob(".shardkeeper.merge*")) == []
