"""Set a whole metastore, which undoes whatever others changed in between, and lose nothing by it.

There is no way to set it only if it is what it was. So everything is encoded before the last
look, the leader that gave that look has to take it itself, every meta node is watched from
before that look on, and afterwards it is read back. What others changed in the moment between,
and the watch saw, is put back; what it did not see is told.

From the moment in which it is sent until that is put back no signal is heard, and a lease that
was lost meanwhile is no reason to leave it: callers hold `undisturbed` around both.

Held by tests/wire/cluster_restore/test_beside_others.py.

Source: influxdb-cluster services/meta/store_fsm.go, applySetDataCommand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from resources.clients.address import HostPort
from resources.clients.cluster import Cluster
from resources.clients.meta_nodes import meta_addresses
from resources.engine.cluster.metastore_reading import (
    MetastoreReading,
    confirmed_reading,
    read_metastore,
)
from resources.engine.cluster.put_back import PutBack, put_back, without_databases
from resources.engine.cluster.redo import redo
from resources.engine.events import Emit, Warned
from resources.errors import (
    BadReply,
    PeerUnreachable,
    PlanError,
    RestoreFailed,
    UnknownOutcome,
    WireError,
    shown,
)
from resources.protocol.commands import SetData, nothing_between
from resources.protocol.comparing import comparable
from resources.protocol.storable import check_storable
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible

SEEN_WITHIN_S = 3.0
SHOWS_WITHIN_S = 10.0
PAUSE_S = 0.5
TRIES = 40
BACK_OFF_S = 0.05


class WasSet(Struct, frozen=True):
    """What came of setting it.

    Attributes:
        index: the command's, or a later one.
        before: what it was set on.
        wanted: what was sent.
        shown: the first look that has it; None if no meta node was seen in time.
        undone: what others had made of it by then, which setting it undid; None if nothing
            was seen.
    """

    index: int
    before: MetastoreReading
    wanted: bytes
    shown: MetastoreReading | None
    undone: MetastoreReading | None

    @property
    def is_damaged(self) -> bool:
        """Whether the cluster has something else than was sent, with no change in between."""
        return (
            self.shown is not None
            and nothing_between(self.before.index, self.shown.index)
            and self.shown.timeless != comparable(self.wanted, timeless=True)
        )

    @property
    def unseen(self) -> tuple[int, int] | None:
        """Indexes between which others, or an election, may have come, if there are some."""
        first = (self.undone or self.before).index
        last = self.shown.index if self.shown else self.index
        return None if nothing_between(first, last) else (first, last)


class _Observer:
    """Follows what every meta node makes of the metastore, from an index on."""

    def __init__(self, cluster: Cluster, since: MetastoreReading) -> None:
        self._meta = cluster.meta
        self._since = since.index
        self._seen: dict[int, MetastoreReading] = {}
        self._changed = threading.Condition()
        self._done = False
        for node in {since.node, *meta_addresses(since.metastore.meta_nodes)}:
            threading.Thread(target=self._follow, args=(node,), name="watch", daemon=True).start()

    def _follow(self, node: HostPort) -> None:
        index = self._since
        with suppress(WireError):
            while not self._done:
                raw, now = self._meta.metastore_of(node, after=index)
                if now.index <= index:
                    return
                index = now.index
                with self._changed:
                    self._seen.setdefault(index, MetastoreReading(node, raw, now))
                    self._changed.notify_all()

    def end(self, reached: int) -> dict[int, MetastoreReading]:
        """What the pollers saw, by index, after one of them has seen this index."""
        with self._changed:
            self._changed.wait_for(
                lambda: any(index >= reached for index in self._seen), timeout=SEEN_WITHIN_S
            )
            self._done = True
            return dict(self._seen)


def set_metastore(
    cluster: Cluster,
    before: MetastoreReading,
    meta: bytes,
    *,
    is_set: Callable[[MetastoreReading], bool],
    sending: Callable[[], None],
    stop: threading.Event,
) -> WasSet | None:
    """Set it if it is what `before` showed; None if it has changed or no node took it.

    Args:
        is_set: whether a look shows what was to be set, whatever else is in it.
        sending: called right before it is sent: from then on it may be set.

    Raises:
        UnknownOutcome: it may be set, or not, or will be.
        WireError, PlanError: it was not set.
        TargetBusy: it was not set, since this run stood still past its lease.
    """
    command = SetData(meta).encode()
    with interruptible():
        observer = _Observer(cluster, before)
        now = read_metastore(cluster)
        if now.content != before.content:
            return None
        passing("cluster.before-setting")
        cluster.meta.check_may_change()
    sending()
    try:
        index = cluster.meta.execute_on(now.node, command)
    except PeerUnreachable:  # it was not taken: another leads now
        stop.wait(PAUSE_S)
        return None
    except UnknownOutcome as error:
        index = _when_it_shows(cluster, before, is_set, stop)
        if not index:
            raise error
    seen = sorted(observer.end(index).items())
    shown_by = next((one for _, one in seen if is_set(one)), None)
    if shown_by is None and nothing_between(before.index, index):
        shown_by = dict(seen).get(index)  # whatever it shows, it is what was set
    until = shown_by.index if shown_by else index
    others = [one for at, one in seen if before.index < at < until]
    return WasSet(index, before, meta, shown_by, others[-1] if others else None)


def _when_it_shows(
    cluster: Cluster,
    before: MetastoreReading,
    is_set: Callable[[MetastoreReading], bool],
    stop: threading.Event,
) -> int:
    """Wait for a command that may have been lost to show; the index then, or 0."""
    deadline = time.monotonic() + SHOWS_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(WireError):
            now = read_metastore(cluster)
            if now.index > before.index and is_set(now):
                return now.index
        if stop.wait(PAUSE_S):
            break
    return 0


def make_good(cluster: Cluster, was: WasSet, *, ours: Collection[str], emit: Emit) -> None:
    """Put back what setting it undid, and set right what arrived damaged.

    A run that has lost its lease by now, or is to stop, does this too: no other run knows of it.

    Args:
        ours: the databases that were new in it.

    Raises:
        RestoreFailed: it could not be put back; or what others did and what was set exclude
            each other: theirs is back then, and ours is not there any more.
        WireError: the leader could not be asked, or a change is not put back.
    """
    with cluster.meta.guarded(_whoever_holds_the_lease):
        _make_good(cluster, was, ours, emit)


def _whoever_holds_the_lease() -> None:
    """Nothing stands against it."""


def _make_good(cluster: Cluster, was: WasSet, ours: Collection[str], emit: Emit) -> None:
    _redo(cluster, was, emit)
    for attempt in range(TRIES):
        if not was.is_damaged and was.undone is None:
            return
        time.sleep(attempt * BACK_OFF_S)
        try:
            again = _make_good_once(cluster, was, ours=ours, emit=emit)
        except BadReply:  # others change it faster than it can be looked at twice
            continue
        if again is not None:
            was = again
            _redo(cluster, was, emit)
    if was.is_damaged or was.undone is not None:
        raise RestoreFailed(
            f"others change the metastore, and what setting it undid is not put back: "
            f"{', '.join(_undone_names(cluster, was))}",
            hint="look at these; what is missing has to be created once more",
        )


def _redo(cluster: Cluster, was: WasSet, emit: Emit) -> None:
    """Warn of changes that no poll saw, and repeat the lost ones that commands can make."""
    if was.unseen:
        warn_of_gap(*was.unseen, emit=emit)
    if was.undone is not None and not was.is_damaged:
        _, now = cluster.metastore()
        redone = redo(cluster, was.before.metastore, was.undone.metastore, now)
        if redone:
            emit(Warned(describe_put_back(redone)))


def _make_good_once(
    cluster: Cluster, was: WasSet, *, ours: Collection[str], emit: Emit
) -> WasSet | None:
    """Once more; None if it has changed, and nothing was sent."""
    now = confirmed_reading(cluster, at_least=was.index)
    again = _once_more(was, now)
    theirs_only = False
    try:
        if {f"database {shown(name)}" for name in ours} & {*again.conflicts}:
            raise PlanError("a database of this name was created in the same moment")
        check_storable(again.meta)
    except PlanError:
        theirs_only = True
        again = _once_more(was, replace(now, raw=without_databases(now.raw, ours)))
    wanted = comparable(again.meta, timeless=True)
    if wanted != now.timeless:
        came = set_metastore(
            cluster,
            now,
            again.meta,
            is_set=lambda seen: seen.timeless == wanted,
            sending=lambda: None,
            stop=threading.Event(),
        )
        if came is None:
            return None
    else:
        came = WasSet(now.index, now, now.raw, now, None)
    what = ", ".join(again.names) or "a number"
    if was.is_damaged:
        emit(Warned(f"the metastore arrived damaged on its way ({what}) and was set once more"))
    elif again.names:
        emit(Warned(describe_put_back(again.names)))
    for name in again.conflicts:
        emit(Warned(f"{name} was changed twice in the same moment; look whether it is right"))
    if theirs_only:
        raise RestoreFailed(
            "another client created a database or shards at the same moment as this restore; the "
            "client's are there, and the restore's are not",
            hint="run restore again",
        )
    return came


def describe_put_back(names: Sequence[str]) -> str:
    return (
        f"while the restore set the metastore, another client changed {', '.join(names)}; setting "
        "it undid that change, and the restore has made it again"
    )


def _undone_names(cluster: Cluster, was: WasSet) -> Sequence[str]:
    with suppress(WireError):
        return _once_more(was, read_metastore(cluster)).names or ("nothing that is missing now",)
    return ("it is not known what",)


def _once_more(was: WasSet, now: MetastoreReading) -> PutBack:
    """What was undone, in what is there now; or what was sent, in what arrived."""
    if was.is_damaged and was.shown is not None:
        back = put_back(was.shown.raw, was.wanted, now.raw)
        whole = now.timeless == was.shown.timeless
        return replace(back, meta=was.wanted) if whole else back
    assert was.undone is not None  # noqa: S101 - else there is nothing to put back
    return put_back(was.before.raw, was.undone.raw, now.raw)


def warn_of_gap(before_index: int, index: int, *, emit: Emit) -> None:
    """Say that another command may have come between two that were seen, and be lost."""
    emit(
        Warned(
            f"between indexes {before_index} and {index} another change of the "
            "metastore may have been lost (or the meta nodes chose a leader, which is "
            "harmless): if a client changed a database, a user or a node just now, check "
            "that the change is there"
        )
    )
