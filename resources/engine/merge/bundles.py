"""Arrange a backup's shard groups into bundles, and bundles into windows. Pure.

A group is identified by its ID in the backup, not by its times: two groups of one policy may begin
at the same time, and overlap, after the duration of its groups was changed or a cluster's groups
were truncated. Then a point may be in several of them. The last written value is in the group that
takes writes for that time, which is the first in the metastore's list.

A bundle has the groups that share a group of the live policy, so that each is read only once a
comparison. A window is a time span in which both sides have the same groups throughout.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from resources.engine.merge.merge_plan import MergePlan
from resources.engine.merge.slices import MAX_INT64, MIN_INT64, Span
from resources.engine.restore.plan import ShardRestore
from resources.model import RetentionPolicyInfo, ShardGroupID, ShardGroupInfo

_YEAR_ONE_NS = -62_135_596_800 * 10**9
"""The server aligns the times of groups to this instant (Go, time.Truncate)."""


class BackupGroup(Struct, frozen=True):
    """A shard group of the backup, and the policy its points go to."""

    id: ShardGroupID
    """Its identity: in the backup there is no other group of this ID."""
    rank: int
    """Its position in the metastore's list; the server takes the first group that fits."""
    policy: str
    into_policy: str
    span: Span
    truncated_at_ns: int | None
    shards: tuple[ShardRestore, ...]

    def takes_writes(self, time_ns: int) -> bool:
        """Whether points of a time within its span were written into it before the backup."""
        return self.truncated_at_ns is None or time_ns < self.truncated_at_ns


class Window(Struct, frozen=True):
    """A time span in which both sides have the same groups throughout."""

    span: Span
    groups: tuple[BackupGroup, ...]
    """If several have a point, the first one's value was written last."""
    live: tuple[ShardGroupInfo, ...]


Bundle = tuple[BackupGroup, ...]
"""Groups of one policy, by time."""


TimesOf = Callable[[ShardRestore], tuple[int, int] | None]


def groups_of(plan: MergePlan, times_of: TimesOf) -> list[BackupGroup]:
    """The shard groups of a merge, by policy and time.

    Args:
        times_of: the first and last time of the points in an archive whose manifest does not
            have them, as those of other tools; None: it has no points.
    """
    [database] = plan.restore.databases
    shards: dict[tuple[str, ShardGroupID], list[ShardRestore]] = {}
    for shard in plan.shards:
        shards.setdefault((shard.place.policy, shard.place.group.id), []).append(shard)
    found: list[BackupGroup] = []
    for rp in database.source.retention_policies:
        for rank, group in enumerate(rp.shard_groups):
            if here := shards.get((rp.name, group.id)):
                found.append(
                    BackupGroup(
                        group.id,
                        rank,
                        rp.name,
                        plan.policies[rp.name],
                        _with_all(span_of(group), here, times_of),
                        group.truncated_at_ns,
                        tuple(sorted(here, key=lambda shard: shard.place.shard_id)),
                    )
                )
    return sorted(found, key=lambda group: (group.policy, group.span.start_ns, group.id))


def span_of(group: ShardGroupInfo) -> Span:
    """The times of a group.

    The first possible group begins before the first time that 64 bits hold, so the metastore
    has its start as a time far in the future.
    """
    start_ns = group.start_time_ns
    if start_ns >= group.end_time_ns:
        start_ns = MIN_INT64
    return Span(start_ns, group.end_time_ns)


def bundles_of(groups: Sequence[BackupGroup], live: RetentionPolicyInfo) -> list[Bundle]:
    """The groups of one policy that must be compared together; by time.

    Args:
        live: the policy that receives the points, with its groups; the groups that it will
            create follow from its duration.
    """
    reaches = sorted(
        ((_reach(group.span, live), group) for group in groups),
        key=lambda each: (each[0].start_ns, each[1].id),
    )
    found: list[list[BackupGroup]] = []
    end_ns = MIN_INT64
    for reach, group in reaches:
        if found and reach.start_ns < end_ns:
            found[-1].append(group)
        else:
            found.append([group])
        end_ns = max(end_ns, reach.end_ns)
    return [tuple(sorted(bundle, key=lambda g: (g.span.start_ns, g.id))) for bundle in found]


def windows_of(
    bundle: Bundle, live: Iterable[ShardGroupInfo], asked: Span, *, cuts: Iterable[int] = ()
) -> list[Window]:
    """Divide a bundle's time into windows; times of no group are in no window.

    Args:
        asked: windows lie within it.
        cuts: further times at which to divide.
    """
    there = [(span_of(group), group) for group in live if group.deleted_at_ns is None]
    edges = {*cuts}
    for span in (*(group.span for group in bundle), *(span for span, _ in there), asked):
        edges |= {span.start_ns, span.end_ns}
    edges |= {g.truncated_at_ns for g in bundle if g.truncated_at_ns is not None}
    inside = sorted(edge for edge in edges if asked.start_ns <= edge <= asked.end_ns)
    found: list[Window] = []
    for start_ns, end_ns in itertools.pairwise(inside):
        span = Span(start_ns, end_ns)
        groups = [group for group in bundle if group.span.overlaps(span)]
        if groups:
            around = tuple(group for span_, group in there if span_.overlaps(span))
            found.append(Window(span, _last_written_first(groups, start_ns), around))
    return found


def overlaps_another(group: BackupGroup, bundle: Bundle) -> bool:
    """Whether a statement over its times would also select points of another group."""
    return any(other.id != group.id and other.span.overlaps(group.span) for other in bundle)


def _last_written_first(groups: Iterable[BackupGroup], time_ns: int) -> tuple[BackupGroup, ...]:
    """The groups in the order of writing, newest first.

    While a group takes writes, no point of that time goes into a group behind it: its points
    are older. A group that was truncated before that time is older than all that take writes.
    """
    return tuple(
        sorted(
            groups,
            key=lambda group: (
                not group.takes_writes(time_ns),
                group.rank if group.takes_writes(time_ns) else -group.id,
            ),
        )
    )


def _reach(span: Span, live: RetentionPolicyInfo) -> Span:
    """The span of the live groups that have, or will have, the points of a time."""
    start_ns, end_ns = span.start_ns, span.end_ns
    if length := live.shard_group_duration_ns:
        start_ns = (start_ns - _YEAR_ONE_NS) // length * length + _YEAR_ONE_NS
        end_ns = -((_YEAR_ONE_NS - end_ns) // length) * length + _YEAR_ONE_NS
    for group in live.shard_groups:
        there = span_of(group)
        if group.deleted_at_ns is None and there.overlaps(span):
            start_ns, end_ns = min(start_ns, there.start_ns), max(end_ns, there.end_ns)
    return Span(start_ns, end_ns)


def _with_all(span: Span, shards: Iterable[ShardRestore], times_of: TimesOf) -> Span:
    """The span of a group, extended to the points of its archives."""
    start_ns, end_ns = span.start_ns, span.end_ns
    for shard in shards:
        details = shard.archive.entry.details
        if details is None:
            times = times_of(shard)
        elif details.min_time_ns is None or details.max_time_ns is None:
            times = None
        else:
            times = details.min_time_ns, details.max_time_ns
        if times is not None:
            start_ns = min(start_ns, times[0])
            end_ns = min(max(end_ns, times[1] + 1), MAX_INT64)
    return Span(start_ns, end_ns)
