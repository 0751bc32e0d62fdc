"""A merge goes shard group by shard group, and in each measurement by measurement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.events import PROGRESS_EVERY_S, GroupMerged, MergeProgress, Tell, Warned
from resources.engine.merge.copy import Copied, Copier, Watch
from resources.engine.merge.doors import Doors
from resources.engine.merge.journal import MergeJournal, Unit
from resources.engine.merge.plan import EXPIRY_MARGIN_NS, MergeOptions
from resources.engine.merge.slices import Span, Table
from resources.errors import shown
from resources.model import DatabaseInfo, Metastore, ShardID
from resources.protocol.influxql import quote_identifier
from resources.repository.repository import BackupRepository
from resources.repository.unpacked import UnpackedShard

BUFFER_BYTES = 256 << 10

Where = tuple[int, int]
"""How many groups are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Group:
    """A shard group of the temporary database."""

    policy: str
    into_policy: str
    span: Span
    shards: tuple[ShardID, ...]


@dataclass(frozen=True, slots=True)
class GroupsCopied:
    """The sums over all groups of one run, and how far the merge is now."""

    journal: MergeJournal | None = None
    groups: int = 0
    added: int = 0
    replaced: int = 0
    lost: int = 0
    expired: int = 0


class GroupCopier:
    """Copies what an earlier run has not.

    Args:
        note: keeps the journal, which is told after each measurement of a group.
    """

    def __init__(
        self,
        target: Server | Cluster,
        repository: BackupRepository,
        doors: Doors,
        options: MergeOptions,
        note: Callable[[MergeJournal], None],
        tell: Tell,
    ) -> None:
        self._target = target
        self._repository = repository
        self._doors = doors
        self._options = options
        self._note = note
        self._tell = tell
        self._copier = Copier(doors, options.most_points)
        self._doubtful: dict[tuple[str, str], set[str]] = {}
        """By policy and measurement, fields that have another type somewhere."""
        self._watch = Watch(PROGRESS_EVERY_S)

    def copy(self, journal: MergeJournal, now: Metastore, *, clock_ns: int) -> GroupsCopied:
        """Copy all groups.

        Args:
            journal: the merge, with its temporary database restored.
            now: the target's metastore.
            clock_ns: the target's clock.

        Raises:
            WireError, Stopped: it cannot go on; the journal knows how far it got.
        """
        measurements = self._measurements(journal.temporary)
        self._compare_types(journal)
        groups = groups_of(journal, now)
        began = time.monotonic()
        total = GroupsCopied(journal)
        for index, group in enumerate(groups):
            # One that an earlier run has finished tells that by its last measurement.
            wanted = [m for m in measurements if not journal.is_done(_unit(group, m))]
            if not wanted:
                continue
            passed_ns = round((time.monotonic() - began) * 10**9)
            limit_ns = kept_from_ns(journal, now, clock_ns + passed_ns).get(group.into_policy)
            journal, done = self._group(
                journal, group, measurements, limit_ns, (index, len(groups))
            )
            total = replace(
                total,
                journal=journal,
                groups=total.groups + 1,
                added=total.added + done.added,
                replaced=total.replaced + done.replaced,
                lost=total.lost + done.lost,
                expired=total.expired + done.expired,
            )
        return total

    def _group(
        self,
        journal: MergeJournal,
        group: Group,
        measurements: Sequence[str],
        kept_from_ns: int | None,
        where: Where,
    ) -> tuple[MergeJournal, GroupsCopied]:
        began = time.monotonic()
        asked = group.span.within(self._options.start_ns, self._options.end_ns)
        span = asked.within(kept_from_ns, None)
        gone = Span(asked.start_ns, min(asked.end_ns, span.start_ns))
        tables = [Table(journal.temporary, group.policy, name) for name in measurements]
        seen = sum(self._copier.count(table, group.span) for table in tables)
        expired = 0 if gone.empty else sum(self._copier.count(table, gone) for table in tables)
        wanted = [name for name in measurements if not journal.is_done(_unit(group, name))]
        if span.empty:
            wanted = []
        sums = Copied()
        for measurement in wanted:
            copied = self._measurement(journal, group, measurement, span, where)
            sums += copied
            journal = journal.with_done(_unit(group, measurement), copied.points, copied.why)
            self._note(journal)
        journal, hidden = self._look_for_hidden(journal, group, seen)
        self._tell_what_stayed_away(journal, group, expired)
        self._tell(
            GroupMerged(
                group.policy,
                group.into_policy,
                group.span.start_ns,
                group.span.end_ns,
                len(wanted),
                sums.points,
                sums.added,
                sums.replaced,
                time.monotonic() - began,
            )
        )
        return journal, GroupsCopied(
            None, 1, sums.added, sums.replaced, sums.lost + hidden, expired
        )

    def _measurement(
        self, journal: MergeJournal, group: Group, measurement: str, span: Span, where: Where
    ) -> Copied:
        table = Table(journal.temporary, group.policy, measurement)
        live = Table(journal.into, group.into_policy, measurement)
        doubtful = self._doubtful.get((group.policy, measurement), set[str]())
        copied = Copied()
        for slice_ in self._copier.copy(table, live, span, doubtful=doubtful):
            copied += slice_
            if self._watch.due():
                points = journal.points + copied.points
                self._tell(MergeProgress(*where, measurement, points))
        return copied

    def _tell_what_stayed_away(self, journal: MergeJournal, group: Group, expired: int) -> None:
        if expired:
            self._tell(
                Warned(
                    f"{expired} points of {shown(group.policy)} are older than "
                    f"{shown(journal.into)}.{shown(group.into_policy)} keeps points: left out"
                )
            )
        for failed in journal.failed:
            if failed.unit[:2] == (group.policy, group.span.start_ns):
                self._tell(Warned(f"{shown(failed.unit[2])}: {failed.why}"))

    # --- what statements cannot see ---------------------------------------------------------

    def _look_for_hidden(
        self, journal: MergeJournal, group: Group, seen: int
    ) -> tuple[MergeJournal, int]:
        """Hold what the server shows of a group against what its shards hold.

        A field that has two types in shards of one group, or a name that is no text, is in the
        files and in no answer of the server.
        """
        stored = sum(self._points(shard_id) for shard_id in group.shards)
        unit = _unit(group, "")
        hidden = max(0, stored - seen)
        why = (
            f"the restored shards hold {stored} points and the server shows {seen} of them: a "
            "field has two types, or a name is no text"
            if hidden
            else ""
        )
        if why or any(failed.unit == unit for failed in journal.failed):
            journal = journal.with_done(unit, 0, why)
            self._note(journal)
        return journal, hidden

    def _points(self, shard_id: ShardID) -> int:
        """How many points a temporary shard has, by its files."""
        node = ""
        if isinstance(self._target, Cluster):
            copies = self._target.holdings(self._target.metastore()[1]).copies
            if shard_id not in copies:
                return 0  # it was empty at the source, and nobody has written it
            node = copies[shard_id][0].node
        buffer = memoryview(bytearray(BUFFER_BYTES))
        with (
            UnpackedShard(self._repository.scratch_dir) as unpacked,
            self._target.open_shard(shard_id, node=node) as stream,
        ):
            while n := stream.recv_into(buffer):
                unpacked.feed(buffer[:n])
                self._doors.check_stop()
            unpacked.finish()
            return unpacked.digest(apply_tombstones=True).points

    # --- what there is ----------------------------------------------------------------------

    def _measurements(self, temporary: str) -> list[str]:
        found = self._doors.query(f"SHOW MEASUREMENTS ON {quote_identifier(temporary)}")
        return sorted(str(row[0]) for series in found for row in series.values)

    def _field_types(self, database: str, policy: str) -> dict[tuple[str, str], set[str]]:
        types: dict[tuple[str, str], set[str]] = {}
        name = quote_identifier(database)
        q = f"SHOW FIELD KEYS ON {name} FROM {name}.{quote_identifier(policy)}./.*/"
        for series in self._doors.query(q):
            for field, kind in series.values:
                types.setdefault((series.name, str(field)), set()).add(str(kind))
        return types

    def _compare_types(self, journal: MergeJournal) -> None:
        """A field keeps its type within a shard, so the server will refuse some points."""
        for policy, into_policy in sorted(journal.policies.items()):
            live = self._field_types(journal.into, into_policy)
            restored = self._field_types(journal.temporary, policy)
            for (measurement, field), kinds in sorted(restored.items()):
                there = live.get((measurement, field))
                if there and there != kinds:
                    self._doubtful.setdefault((policy, measurement), set()).add(field)
                if there and not kinds <= there:
                    self._tell(
                        Warned(
                            f"{shown(measurement)}.{shown(field)} is {'/'.join(sorted(kinds))} in "
                            f"the backup and {'/'.join(sorted(there))} in {shown(journal.into)}; "
                            "points that fall into a shard of the other type are refused"
                        )
                    )


def groups_of(journal: MergeJournal, now: Metastore) -> list[Group]:
    """The shard groups of the temporary database, in the order in which they are copied."""
    database = now.database(journal.temporary)
    found: list[Group] = []
    for rp in database.retention_policies if database else ():
        for group in rp.shard_groups:
            if group.deleted_at_ns is None and rp.name in journal.policies:
                shards = tuple(shard.id for shard in group.shards)
                span = Span(group.start_time_ns, group.end_time_ns)
                found.append(Group(rp.name, journal.policies[rp.name], span, shards))
    return sorted(found, key=lambda group: (group.policy, group.span.start_ns))


def kept_from_ns(journal: MergeJournal, now: Metastore, clock_ns: int) -> dict[str, int]:
    """By live policy with a duration: the oldest point that it surely still takes."""
    live: DatabaseInfo | None = now.database(journal.into)
    return {
        rp.name: clock_ns - rp.duration_ns + EXPIRY_MARGIN_NS
        for rp in (live.retention_policies if live else ())
        if rp.duration_ns
    }


def _unit(group: Group, measurement: str) -> Unit:
    return group.policy, group.span.start_ns, measurement
