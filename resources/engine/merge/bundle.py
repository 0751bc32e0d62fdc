"""Merge one bundle: compare, copy what is missing, compare again, and write what is still missing.

Only comparisons decide what is done. The one before the copy finds the points that are already
there, from an earlier run or from before; the last one finds whether every point is. In between, a
statement copies many points at once inside the server, where it keeps them as they are, and lines
written from the archive bring the others:

- A statement selects a time and not a shard. Where groups of the backup overlap, or a field has
  two types in one group, it would mix them, and turn integers into floats.
- A server drops all fields of a point if one of them has another type in the live shard.
- No answer of the server has names that are not text, or groups whose times exceed 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from resources.engine.merge.bundles import BackupGroup, Bundle, overlaps_another
from resources.engine.merge.compare import BundleComparer, Comparison, KeptFrom, KeyFound
from resources.engine.merge.copy import Copier
from resources.engine.merge.http_endpoints import HttpEndpoints
from resources.engine.merge.lines import LineWriter
from resources.engine.merge.slices import Span, Table
from resources.engine.merge.tally import Tally
from resources.points.series import measurement_of
from resources.runtime.failpoints import passing

MAX_ATTEMPTS = 8
FIRST_PAUSE_S = 0.1
"""Doubles from one comparison to the next: another node of a cluster may have a point a moment
later, and a busy server sends a shard without the points in its memory."""
MAX_STANDSTILLS = 2
"""Comparisons without progress that end the merge after the server has refused something."""


class Places(Struct, frozen=True):
    """Where points are copied from and to."""

    temporary: str
    into: str


class BundleMerged(Struct, frozen=True):
    """The result of a bundle: the comparisons before and after."""

    before: Tally
    after: Tally
    comparison: Comparison
    why: dict[bytes, str]
    """By measurement, the server's message about points that it refused."""


class BundleMerger:
    """Merges bundles into one live database.

    Args:
        places: None: only compare.
        progress: called for each measurement with the number of points found so far.
    """

    def __init__(
        self,
        comparer: BundleComparer,
        copier: Copier,
        endpoints: HttpEndpoints,
        places: Places | None,
        progress: Callable[[bytes, int], None],
    ) -> None:
        self._comparer = comparer
        self._copier = copier
        self._endpoints = endpoints
        self._places = places
        self._progress = progress

    def merge(self, bundle: Bundle, asked: Span, kept_from_ns: KeptFrom) -> BundleMerged:
        """Merge one bundle.

        Raises:
            WireError: the merge cannot continue; merged points stay.
            Stopped: `stop` was set.
        """
        before, comparison = self._compare(bundle, asked, kept_from_ns)
        if not before.open or self._places is None:
            return BundleMerged(before, before, comparison, {})
        if self._copy(bundle, before, self._places):
            passing("merge.copied")
            after, comparison = self._settle(bundle, asked, kept_from_ns)
            if not after.open:
                return BundleMerged(before, after, comparison, {})
        why: dict[bytes, str] = {}
        policy, into = bundle[0].into_policy, self._places.into
        after, standstill, last, pause_s = before, 0, before.open + 1, FIRST_PAUSE_S
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                self._endpoints.pause(pause_s)
                pause_s *= 2
            writer = LineWriter(self._endpoints, into, policy, measurement_of)
            after, comparison = self._compare(bundle, asked, kept_from_ns, writer)
            writer.flush()
            why |= writer.why
            standstill = standstill + 1 if after.open >= last else 0
            last = after.open
            if not after.open or (writer.refused and standstill >= MAX_STANDSTILLS):
                break
        return BundleMerged(before, after, comparison, why)

    def _settle(
        self, bundle: Bundle, asked: Span, kept_from_ns: KeptFrom
    ) -> tuple[Tally, Comparison]:
        """Compare as long as each comparison finds more of the copied points."""
        pause_s = FIRST_PAUSE_S
        found, comparison = self._compare(bundle, asked, kept_from_ns)
        for _ in range(MAX_ATTEMPTS):
            if not found.missing:
                break
            last = found.missing
            self._endpoints.pause(pause_s)
            pause_s *= 2
            found, comparison = self._compare(bundle, asked, kept_from_ns)
            if found.missing >= last:
                break
        return found, comparison

    def _compare(
        self,
        bundle: Bundle,
        asked: Span,
        kept_from_ns: KeptFrom,
        writer: LineWriter | None = None,
    ) -> tuple[Tally, Comparison]:
        tally = Tally()

        def visit(found: KeyFound) -> None:
            tally(found)
            self._progress(measurement_of(found.points.key), tally.same)
            if writer is not None:
                writer(found)

        return tally, self._comparer.compare(bundle, asked, kept_from_ns, visit)

    def _copy(self, bundle: Bundle, before: Tally, places: Places) -> bool:
        """Copy by statement what a statement preserves; returns whether there was any."""
        copied = False
        for group in bundle:
            if overlaps_another(group, bundle):
                continue
            for name, span in _to_copy(group, before):
                self._copier.copy(
                    Table(places.temporary, group.policy, name),
                    Table(places.into, group.into_policy, name),
                    span,
                )
                copied = True
        return copied


def _to_copy(group: BackupGroup, before: Tally) -> list[tuple[str, Span]]:
    """Measurements that a statement can copy, each with the time of its missing points."""
    tally = before.of(group)
    mixed = {measurement for (measurement, _), types in tally.types.items() if len(types) > 1}
    found: list[tuple[str, Span]] = []
    for measurement, open_ in sorted(tally.open.items()):
        if measurement in mixed:
            continue
        try:
            found.append((measurement.decode(), open_.span))
        except UnicodeDecodeError:
            continue  # no statement can name it
    return found
