"""A merge processes the shard groups of the backup bundle by bundle."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.events import PROGRESS_EVERY_S, Emit, GroupMerged, MergeProgress, Warned
from resources.engine.merge.bundle import BundleMerged, BundleMerger, Places
from resources.engine.merge.bundles import BackupGroup, Bundle, bundles_of, groups_of
from resources.engine.merge.compare import BundleComparer
from resources.engine.merge.copy import Copier
from resources.engine.merge.http_endpoints import HttpEndpoints
from resources.engine.merge.merge_plan import EXPIRY_MARGIN_NS, MergeOptions, MergePlan
from resources.engine.merge.slices import MAX_INT64, MIN_INT64, Span
from resources.errors import counted, shown
from resources.model import RetentionPolicyInfo, ShardID
from resources.protocol.influxql import quote_identifier
from resources.repository.repository import BackupRepository


class Lost(Struct, frozen=True):
    """Points of a measurement that are not in the live database."""

    into_policy: str
    measurement: str
    points: int
    why: str

    def __str__(self) -> str:
        return f"{shown(self.measurement)}: {self.why}"


class GroupsMerged(Struct, frozen=True):
    """The sums over all groups, as one run found them in the live database."""

    groups: int = 0
    """Groups of which points were missing."""
    points: int = 0
    added: int = 0
    replaced: int = 0
    expired: int = 0
    lost: tuple[Lost, ...] = ()
    live: frozenset[ShardID] = field(default_factory=frozenset[ShardID])
    """The live shards in which the points were found."""

    @property
    def n_lost(self) -> int:
        return sum(lost.points for lost in self.lost)


class GroupMerger:
    """Merges missing points, and verifies that every point arrived.

    Args:
        clock_ns: the target's clock now.
    """

    def __init__(
        self,
        target: Server | Cluster,
        repository: BackupRepository,
        endpoints: HttpEndpoints,
        options: MergeOptions,
        *,
        clock_ns: int,
        emit: Emit,
    ) -> None:
        self._target = target
        self._repository = repository
        self._endpoints = endpoints
        self._options = options
        self._emit = emit
        self._clock_ns = clock_ns - time.monotonic_ns()
        self._progress_timer = ProgressTimer(PROGRESS_EVERY_S)
        self._copier = Copier(endpoints, options.most_points)

    def merge(self, plan: MergePlan, temporary: str | None) -> GroupsMerged:
        """Merge all groups.

        Args:
            temporary: the database to copy from; None: only compare, and write nothing.

        Raises:
            WireError: the merge cannot continue; merged points stay.
            Stopped: `stop` was set.
            NothingMatches: the live database or a policy is gone.
        """
        places = None if temporary is None else Places(temporary, plan.into)
        if temporary is not None:
            self._compare_types(plan, temporary)
        comparer = BundleComparer(self._target, self._repository, self._endpoints, plan.into)
        total = GroupsMerged()
        try:
            groups = groups_of(plan, comparer.times_of)
            for bundle in self._bundles(groups, comparer):
                began, here = time.monotonic(), total

                def progress(
                    measurement: bytes, points: int, here: GroupsMerged = here, at: Bundle = bundle
                ) -> None:
                    if self._progress_timer.due():
                        name = measurement.decode(errors="replace")
                        done = groups.index(at[0])
                        self._emit(MergeProgress(done, len(groups), name, here.points + points))

                merger = BundleMerger(comparer, self._copier, self._endpoints, places, progress)
                merged = merger.merge(bundle, self._asked(), self._kept_from_ns)
                if places is not None:
                    self._emit_progress(plan, bundle, merged, time.monotonic() - began)
                total = _sum(total, bundle, merged)
        finally:
            comparer.close()
        return total

    def _bundles(self, groups: Sequence[BackupGroup], comparer: BundleComparer) -> list[Bundle]:
        by_policy: dict[str, list[BackupGroup]] = {}
        for group in groups:
            by_policy.setdefault(group.into_policy, []).append(group)
        return [
            bundle
            for name, here in by_policy.items()
            for bundle in bundles_of(here, comparer.policy(name))
        ]

    def _asked(self) -> Span:
        return Span(MIN_INT64, MAX_INT64).within(self._options.start_ns, self._options.end_ns)

    def _kept_from_ns(self, live: RetentionPolicyInfo) -> int | None:
        now_ns = self._clock_ns + time.monotonic_ns()
        return now_ns - live.duration_ns + EXPIRY_MARGIN_NS if live.duration_ns else None

    # --- events -----------------------------------------------------------------------------

    def _emit_progress(
        self, plan: MergePlan, bundle: Bundle, merged: BundleMerged, seconds: float
    ) -> None:
        into = f"{shown(plan.into)}.{shown(bundle[0].into_policy)}"
        comparison = merged.comparison
        if comparison.expired:
            self._emit(
                Warned(
                    f"{counted(comparison.expired, 'value')} of {shown(bundle[0].policy)} left "
                    f"out: older than {into} keeps points"
                )
            )
        if comparison.overwritten:
            self._emit(
                Warned(
                    f"{counted(comparison.overwritten, 'value differs', 'values differ')} between "
                    f"shards of the backup whose groups overlap; {into} has the one that was "
                    "written last"
                )
            )
        if comparison.twofold:
            self._emit(
                Warned(
                    f"{counted(comparison.twofold, 'value is', 'values are')} in {into} as in the "
                    "backup, and with another value in a second shard group of the same time; "
                    "queries show both"
                )
            )
        for lost in _lost(bundle, merged):
            self._emit(Warned(str(lost)))
        for group in bundle:
            before, after = merged.before.of(group), merged.after.of(group)
            added, replaced = _changes(group, merged)
            self._emit(
                GroupMerged(
                    group.policy,
                    group.into_policy,
                    group.span.start_ns,
                    group.span.end_ns,
                    len(before.open),
                    after.same,
                    added,
                    replaced,
                    seconds / len(bundle),
                )
            )

    def _compare_types(self, plan: MergePlan, temporary: str) -> None:
        """Warn of fields with another type: the server refuses points for shards of that type."""
        for policy, into_policy in sorted(plan.policies.items()):
            live = self._field_types(plan.into, into_policy)
            restored = self._field_types(temporary, policy)
            for (measurement, name), kinds in sorted(restored.items()):
                there = live.get((measurement, name))
                if there and not kinds <= there:
                    self._emit(
                        Warned(
                            f"{shown(measurement)}.{shown(name)} is {'/'.join(sorted(kinds))} in "
                            f"the backup and {'/'.join(sorted(there))} in {shown(plan.into)}; "
                            "points that fall into a shard of the other type are refused"
                        )
                    )

    def _field_types(self, database: str, policy: str) -> dict[tuple[str, str], set[str]]:
        types: dict[tuple[str, str], set[str]] = {}
        name = quote_identifier(database)
        q = f"SHOW FIELD KEYS ON {name} FROM {name}.{quote_identifier(policy)}./.*/"
        for series in self._endpoints.query(q):
            for key, kind in series.values:
                types.setdefault((series.name, str(key)), set()).add(str(kind))
        return types


class ProgressTimer:
    """Limits how often progress is reported."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._last = time.monotonic()

    def due(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._every_s:
            return False
        self._last = now
        return True


def _changes(group: BackupGroup, merged: BundleMerged) -> tuple[int, int]:
    """How many points were added and replaced; an estimate for groups that are incomplete."""
    before, after = merged.before.of(group), merged.after.of(group)
    arrived = max(0, after.same - before.same)
    added = min(before.missing, arrived)
    return added, min(before.other, arrived - added)


def _lost(bundle: Bundle, merged: BundleMerged) -> list[Lost]:
    found: dict[bytes, Lost] = {}
    for group in bundle:
        for measurement, open_ in sorted(merged.after.of(group).open.items()):
            message = merged.why.get(
                measurement,
                f"{counted(open_.points, 'value is', 'values are')} not there after copying",
            )
            lost = found.get(measurement)
            found[measurement] = Lost(
                group.into_policy,
                measurement.decode(errors="replace"),
                open_.points + (lost.points if lost else 0),
                lost.why if lost else f"{message}; {open_.example} {open_.verb}",
            )
    return list(found.values())


def _sum(total: GroupsMerged, bundle: Bundle, merged: BundleMerged) -> GroupsMerged:
    changes = [_changes(group, merged) for group in bundle]
    lost = {(each.into_policy, each.measurement): each for each in total.lost}
    for each in _lost(bundle, merged):
        earlier = lost.get((each.into_policy, each.measurement))
        points = each.points + (earlier.points if earlier else 0)
        lost[each.into_policy, each.measurement] = replace(earlier or each, points=points)
    return GroupsMerged(
        total.groups + sum(bool(merged.before.of(group).open) for group in bundle),
        total.points + merged.after.same,
        total.added + sum(added for added, _ in changes),
        total.replaced + sum(replaced for _, replaced in changes),
        total.expired + merged.comparison.expired,
        tuple(lost.values()),
        total.live | merged.comparison.live,
    )
