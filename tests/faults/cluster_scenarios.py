"""Runs that are interrupted, and that only a cluster has: restores into it, and overwrites."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from tests.faults.scenarios import (
    SILENT,
    Args,
    Backup,
    End,
    Merge,
    Repair,
    Restore,
    Scenario,
    forget_leases,
)
from tests.wire.points import databases, points


class ClusterRestore(Scenario):
    """Into the cluster that the backup is of, after the database was dropped."""

    points_at = ("cluster.",)

    def prepare(self) -> None:
        self.expected = self.commit_what_is_there()
        self.elsewhere = _elsewhere(self.backups)
        self.place.source.drop_database(self.expectation.database)
        self.before -= {self.expectation.database}
        if self.dead:
            self.die(self.rng.choice(self.failpoints()), *self.command())

    def command(self) -> Args:
        flags = (*SILENT, "-db", self.expectation.database)
        return ("restore", *self.expectation.flags, *flags, self.backups)

    def beside(self) -> Args:
        there = ("-newdb", f"other-{self.expectation.database}", self.elsewhere)
        return self.rng.choice((self.command(), (*self.command()[:-1], *there), self.verify()))

    def is_whole(self, name: str) -> bool:
        return points(self.place.source, name) == self.expected

    def settle(self, ends: list[End]) -> None:
        self.check_ends(ends)
        self.check_all_named(ends)
        cluster, database = self.place.cluster, self.expectation.database
        assert cluster is not None
        other = f"other-{database}"
        if any(end.done.code == 0 and other in end.args for end in ends):
            assert points(self.place.source, other) == self.expected, ends
        if any(end.done.code == 0 and end.args == self.command() for end in ends):
            assert points(self.place.source, database) == self.expected, ends
        forget_leases(self.place)
        again = self.run(*self.command())
        assert again.code in (0, 14), (again, ends)
        assert points(self.place.source, database) == self.expected, (again, ends)
        assert not list(self.backups.glob(".shardkeeper.restore-*"))
        known = {at.shard_id for at in cluster.group.metastore.places()}
        on_disk = {shard for node in cluster.data for shard in node.store.shards()}
        assert on_disk <= known, (on_disk - known, ends)
        assert self.new_databases() <= {database, other}, ends
        if other in self.new_databases():
            self.place.source.drop_database(other)
        shutil.rmtree(self.elsewhere)
        self.check_all()


class Overwrite(Scenario):
    """Of a cluster's metastore, in which another client has made a database since."""

    points_at = ("overwrite.", "cluster.before-setting")

    def prepare(self) -> None:
        self.commit()  # a restore since the last one has given its shards other numbers
        self.expected = self.expectation.now()
        self.elsewhere = _elsewhere(self.backups)
        self.since = f"since-{secrets.token_hex(5)}"
        self.place.source.create_database(self.since)
        if self.dead:
            self.die(self.rng.choice(self.failpoints()), *self.command())

    def command(self) -> Args:
        return self._from(self.backups)

    def _from(self, backups: Path) -> Args:
        return (*self.expectation.flags, "restore", "-meta-only-overwrite-force", backups)

    def beside(self) -> Args:
        return self.rng.choice((self.command(), self._from(self.elsewhere), self.verify()))

    def settle(self, ends: list[End]) -> None:
        self.check_ends(ends)
        is_set = self.since not in databases(self.place.source)
        if any(end.done.code == 0 and "verify" not in end.args for end in ends):
            assert is_set, ends
        kept = [*self.backups.glob("*.replaced.meta"), *self.elsewhere.glob("*.replaced.meta")]
        assert kept or not is_set, ends
        forget_leases(self.place)
        again = self.run(*self.command())
        assert again, (again, ends)
        assert self.since not in databases(self.place.source)
        assert points(self.place.source, self.expectation.database) == self.expected, ends
        assert not list(self.backups.glob(".shardkeeper*")), ends
        for path in self.backups.glob("*.replaced.meta"):
            path.unlink()
        shutil.rmtree(self.elsewhere)
        self.check_all()


ON_A_SERVER: tuple[type[Scenario], ...] = (Backup, Restore, Merge, Repair)
ON_A_CLUSTER: tuple[type[Scenario], ...] = (Backup, ClusterRestore, Merge, Repair, Overwrite)


def _elsewhere(backups: Path) -> Path:
    """The backups in another directory, as on another file system."""
    copy = backups.with_name(f"{backups.name}-elsewhere-{secrets.token_hex(3)}")
    return Path(shutil.copytree(backups, copy, ignore=shutil.ignore_patterns(".shardkeeper*")))
