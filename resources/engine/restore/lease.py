"""One restore at a time: a name that the cluster's leader gives away for about a minute.

Only Shardkeeper uses the name, and another leader forgets it; so it separates two runs of ours, and
nothing else. A leader knows one request, which takes a name or returns its holder. So a run can
neither ask for a name without taking it, nor give it back. Two rules make up for that:

- A run that ends leaves a **mark**: it takes the first free name of a row, `shardkeeper-R-1` and
  so on, under its own number with other upper bits. A run that waits walks along that row and takes
  the free names, which have no meaning. If the name before the one that it took is a mark of the
  holder, the holder has ended, and the waiting run inherits the lease: it renews the lease under
  the number of the holder, so no other run ever finds it free.
- R follows from the holder's number and the end of its lease, which the leader returns to each run
  that does not get the lease. So each renewal begins a new row without names of earlier runs.
- A run that was killed leaves none. Its number is in the directory that it read, so the next run
  from there renews the lease under it, and does not wait. The directory's own lock keeps those
  two apart. A run that ends takes the number away before it leaves its mark: a number is in use
  by one run, ever.

Names of the row end with the lease, in the order in which they were taken. So who finds the mark
still standing after it took the name behind it is the only heir.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from zlib import crc32

from resources.clients.meta import MetaClient
from resources.engine.events import LeaseAwaited, Run, Warned
from resources.engine.restore.receipt import Receipt
from resources.engine.restore.step_run import close_records, proofs_left
from resources.errors import (
    RecordHeld,
    RepositoryError,
    RepositoryLocked,
    Stopped,
    TargetBusy,
    UnknownOutcome,
    WireError,
)
from resources.model import NodeID, ShardID
from resources.protocol.meta_api import Lease
from resources.repository.storage.lock import StoreLock, usual_lease_s
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import Store
from resources.runtime.clocks import passed_s
from resources.runtime.interrupts import interruptible, undisturbed

NAME = "shardkeeper"
NUMBER_FILE = ".shardkeeper.lease"
STEPS_LOCK = ".shardkeeper.lease.lock"
"""Held by a restore into a cluster that is left to steps, none of which may be at work."""
POLL_S = 1.0
BITS = 48
"""Of a run's number; no data node has such a one."""
MARK_BITS = 15
ROWS = 4096
MARK_WITHIN_S, MARK_PAUSE_S = 5.0, 0.5
PLACES = 64
"""Names in the row: a run that waits takes one a second, for a lease at most."""
LEASE_S = 60
"""How long the leader gives a name away for, unless it is configured otherwise."""
NOT_GIVEN_BACK = (
    "the meta nodes do not take back this run's lease of the cluster; another restore begun within "
    "a minute waits for its end"
)
LOST_AFTER_S = LEASE_S * 5 / 6
RENEW_EVERY_S = LEASE_S / 3


class HeldLease:
    """The lease of a run, while it is held.

    Attributes:
        number: under which it is renewed.
        goes_on: whether other steps of the run renew it from now on.
        lost_after_s: without a renewal for so long, it may be another's.
        renew_every_s: how often it is renewed.
    """

    def __init__(self, meta: MetaClient, number: NodeID, renewed_s: float | None = None) -> None:
        self.number = number
        self.goes_on = False
        self._meta = meta
        self._renewed_s = passed_s() if renewed_s is None else renewed_s
        self._is_anothers = False
        share = usual_lease_s(LEASE_S) / LEASE_S
        self.lost_after_s, self.renew_every_s = LOST_AFTER_S * share, RENEW_EVERY_S * share

    @property
    def taken(self) -> tuple[int, float]:
        """Its number, and when it was renewed last, for `sharing_lease` on this machine."""
        return self.number, self._renewed_s

    def check(self) -> None:
        """To be called right before something that others must not do at the same time.

        Raises:
            TargetBusy: this run stood still for so long that another may have begun.
        """
        if self._is_anothers:
            raise TargetBusy(
                f"{self._meta.bind}: the leader says that another restore holds the lease of the "
                "cluster now, as when the leader was restarted; this one changes nothing more",
                hint="run it again when the other restore has ended",
            )
        still_s = passed_s() - self._renewed_s
        if still_s > self.lost_after_s:
            raise TargetBusy(
                f"{self._meta.bind}: this run stood still or was cut off for {still_s:.0f} s, and "
                "lost its lease of the cluster; another restore may have begun since, so this one "
                "changes nothing more",
                hint="run it again; if machines sleep or are cut off often, find out why",
            )

    def renew(self) -> bool:
        """Whether it is still ours."""
        began_s = passed_s()
        if began_s - self._renewed_s > self.lost_after_s:
            return False
        try:
            held = self._meta.lease(NAME, self.number).owner == self.number
        except WireError:
            return True
        if held:
            self._renewed_s = began_s
        else:
            self._is_anothers = True
        return held

    def leave_mark(self) -> bool:
        """Leave the mark that this run has ended; without it the next runs wait for a minute.

        Returns whether no run has to wait. The request is repeated for some seconds, through any
        meta node: it matters most for a run that failed because the leader was slow or gone.
        """
        if self._is_anothers:
            return True
        asking, mark = self._marks()
        began_s = passed_s()
        while passed_s() - self._renewed_s <= self.lost_after_s:
            try:
                now = self._meta.lease(NAME, asking, once=True)
                # `asking` has it if the leader is a new one, which did not know of our lease.
                ours = now.owner in (self.number, asking)
                return not ours or self._is_marked(row_of(now), mark)
            except WireError:
                if passed_s() - began_s > MARK_WITHIN_S:
                    return False
                time.sleep(MARK_PAUSE_S)
        return True

    def _marks(self) -> tuple[NodeID, NodeID]:
        """Two of the numbers that say of ours that it has ended."""
        ours = self.number & (2**BITS - 1)
        upper = secrets.SystemRandom().sample(range(1, 2**MARK_BITS), 3)
        first, second, *_ = (
            n for n in (NodeID(ours | u << BITS) for u in upper) if n != self.number
        )
        return first, second

    def _is_marked(self, row: str, mark: NodeID) -> bool:
        """Take the first free name of the row."""
        return any(
            self._meta.lease(f"{row}-{place}", mark, once=True).owner == mark
            for place in range(1, PLACES + 1)
        )


@contextmanager
def holding_lease(
    meta: MetaClient, store: Store, run: Run, *, lost: Callable[[], None] = lambda: None
) -> Generator[HeldLease]:
    """Hold the name for the block; when it is another's, the run is to stop.

    Then `lost` is called, from a thread. A block that ends in order all the same has done
    everything it was for, so the run is not to stop any more afterwards.

    While the block runs, `meta` and the clients of its cluster change nothing once this run stood
    still past its lease: each asks `HeldLease.check` right before.

    The lease of a killed run stays taken until it expires, so this waits until then unless a run
    renews it. It does not wait for a run that has ended.

    Raises:
        TargetBusy: another run holds and renews it.
        WireError: the leader could not be asked.
        Stopped: the run is to end early.
    """
    with undisturbed("giving up the lease of the cluster"), _numbers(meta, store) as numbers:
        try:
            with interruptible():
                held = _take(meta, numbers, run)
        except (TargetBusy, Stopped):
            numbers.forget()  # it holds nothing
            raise
        with _holding(meta, held, numbers, run, lost):
            yield held


@contextmanager
def holding_lease_again(
    meta: MetaClient, store: Store, number: int, run: Run, *, lost: Callable[[], None]
) -> Generator[HeldLease]:
    """As `holding_lease`, for the step that ends a restore, whose number it is.

    Raises:
        TargetBusy: another run has taken it meanwhile, and renews it.
        WireError: the leader could not be asked.
        Stopped: the run is to end early.
    """
    with undisturbed("giving up the lease of the cluster"):
        numbers = _Numbers(store, NodeID(number))
        with interruptible():
            held = _take(meta, numbers, run, inherits=False)
        with _holding(meta, held, numbers, run, lost):
            yield held


def taken_again(meta: MetaClient, number: int, run: Run) -> tuple[int, float]:
    """Take the lease of a restore again for a step that does a batch: `HeldLease.taken`.

    Several steps may have it at once; it may have ended since the last one was at work.

    Raises:
        TargetBusy: another run has taken it meanwhile, and renews it.
        WireError: the leader could not be asked.
        Stopped: the run is to end early.
    """
    return _take(meta, _Numbers(None, NodeID(number)), run, inherits=False).taken


@contextmanager
def _holding(
    meta: MetaClient, held: HeldLease, numbers: _Numbers, run: Run, lost: Callable[[], None]
) -> Generator[None]:
    """Renew a lease for the block, and give it up; signals wait but for the block."""
    done, is_lost, gone = threading.Event(), threading.Event(), threading.Event()

    def lose() -> None:
        gone.set()
        if not run.stop.is_set():
            is_lost.set()
            run.stop.set()
        lost()

    thread = threading.Thread(target=_renew, args=(held, done, lose), name="lease", daemon=True)
    thread.start()
    try:
        with meta.guarded(held.check), interruptible():
            yield
    except (Stopped, WireError) as failure:
        if isinstance(failure, Stopped) or gone.is_set():
            _require_held(held, failure)
        raise
    finally:
        done.set()
        thread.join()
        if not held.goes_on and numbers.forget() and not held.leave_mark():
            run.emit(Warned(NOT_GIVEN_BACK))
    if is_lost.is_set():
        run.stop.clear()
        run.emit(Warned("all was done when the lease of the cluster was lost"))


@contextmanager
def sharing_lease(
    meta: MetaClient, taken: tuple[int, float], lost: Callable[[], None]
) -> Generator[None]:
    """Renew, as a worker, the lease that its run holds; within the block `meta` asks for it.

    A worker has a clock of its own for that, so it changes nothing once it stood still past the
    lease, whatever has become of its run.

    Args:
        taken: as `HeldLease.taken` was for the run.
        lost: called from a thread when the lease is another's.
    """
    held, done = HeldLease(meta, NodeID(taken[0]), taken[1]), threading.Event()
    thread = threading.Thread(target=_renew, args=(held, done, lost), name="lease", daemon=True)
    thread.start()
    try:
        with meta.guarded(held.check):
            yield
    finally:
        done.set()
        thread.join()


def _require_held(held: HeldLease, failure: Stopped | WireError) -> None:
    """Name the lost lease as the reason: requests under way are broken off when it is lost.

    That it is unknown whether a command took effect stays the error.

    Raises:
        TargetBusy: the lease is lost.
    """
    if isinstance(failure, UnknownOutcome):
        return
    try:
        held.check()
    except TargetBusy as error:
        for note in getattr(failure, "__notes__", ()):
            error.add_note(note)
        raise error from failure


# --- numbers ------------------------------------------------------------------------------


class _Numbers:
    """Under which number a run asks, and the note of it in the directory.

    Args:
        store: where the note is; None: there is none, since nothing keeps two runs apart there.
        number: the run's, if it has one.
    """

    def __init__(self, store: Store | None, number: NodeID | None = None) -> None:
        self._file = None if store is None else RecordFile(store, NUMBER_FILE)
        self.first = number or self._noted() or NodeID(1 + secrets.randbelow(2**BITS - 1))
        self._is_noted = False

    def note(self, number: NodeID) -> None:
        """Note the number for the next run from this directory, in case this one is killed."""
        if self._file is None:
            return
        with suppress(RepositoryError):
            self._file.put(b"%d\n" % number)
        self._is_noted = True

    def forget(self) -> bool:
        """Whether no later run will use the number."""
        if self._file is None or not self._is_noted:
            return True
        try:
            self._file.remove()
        except RepositoryError:
            return False
        return True

    def _noted(self) -> NodeID | None:
        try:
            raw = None if self._file is None else self._file.read()
        except RepositoryError:
            return None
        if raw is None:
            return None
        number = int(raw) if raw.strip().isdigit() and len(raw) < 20 else 0
        return NodeID(number) if 0 < number < 2 ** (BITS + MARK_BITS) else None


@contextmanager
def _numbers(meta: MetaClient, store: Store) -> Generator[_Numbers]:
    with ExitStack() as stack:
        try:
            alone = stack.enter_context(store.exclusive())
        except RecordHeld:
            raise _busy(meta) from None
        if alone:
            end_dead_steps(meta, store)
        yield _Numbers(store if alone else None)


def end_dead_steps(meta: MetaClient, store: Store) -> Mapping[ShardID, tuple[Receipt, ...]]:
    """Take the place of a restore that was left to steps; returns what they proved, as it says.

    Raises:
        TargetBusy: it is at work, or was a moment ago.
        StoreFailed: the store failed.
    """
    if not store.has(STEPS_LOCK):
        return {}
    try:
        lock = StoreLock.acquire(store, command="restore", name=STEPS_LOCK)
    except RepositoryLocked:
        raise _busy(meta) from None
    with lock:
        proofs = proofs_left(store, lock.stale)
        close_records(store, lock.stale)
        return proofs


# --- taking it ----------------------------------------------------------------------------


def _busy(meta: MetaClient) -> TargetBusy:
    return TargetBusy(
        f"{meta.bind}: another restore into this cluster is at work",
        hint="wait until it is done, then try again",
    )


def _take(meta: MetaClient, numbers: _Numbers, run: Run, *, inherits: bool = True) -> HeldLease:
    first: Lease | None = None
    number, row = numbers.first, _Row(meta)
    numbers.note(number)
    while True:
        held = HeldLease(meta, number)
        now = meta.lease(NAME, number)
        if now.owner == number:
            break
        if first is not None and (now.owner, now.expiration_ns) != (
            first.owner,
            first.expiration_ns,
        ):
            raise _busy(meta)
        if inherits and row.inherits_from(now):
            number = now.owner
            numbers.note(number)
            continue
        left_s = _left_s(now)
        if first is None:
            first = now
            run.emit(Warned(_why_wait(left_s)))
        run.emit(LeaseAwaited(left_s))
        run.stop.wait(POLL_S)
        run.check("anything was changed")
    if first is not None:
        run.emit(Warned("the other restore's lease has ended; going on"))
    return held


class _Row:
    """The walk of one who waits along the row of names."""

    def __init__(self, meta: MetaClient) -> None:
        self._meta = meta
        self._ours = NodeID(1 + secrets.randbelow(2**BITS - 1))
        self._next = 1

    def inherits_from(self, held: Lease) -> bool:
        """Whether the holder has ended and this run comes after it; walks on to a free name."""
        row, mark = row_of(held), None
        while self._next <= PLACES:
            place = self._next
            owner = self._ask(row, place)
            self._next += 1
            if owner == self._ours:
                return mark is not None and self._ask(row, place - 1) == mark
            mark = owner if _is_mark(owner, held.owner) else None
        return False

    def _ask(self, row: str, place: int) -> NodeID:
        return self._meta.lease(f"{row}-{place}", self._ours).owner


def row_of(held: Lease) -> str:
    """How the names begin under which who has this lease leaves its mark.

    A leader never forgets a name, so there are not more rows than ROWS.
    """
    return f"{NAME}-{crc32(f'{held.owner} {held.expiration_ns}'.encode()) % ROWS}"


def _is_mark(owner: NodeID, holder: NodeID) -> bool:
    return owner >> BITS != 0 and (owner ^ holder) & (2**BITS - 1) == 0 and owner != holder


def _left_s(lease: Lease) -> int | None:
    """Whole seconds until a lease ends; None if the leader's clock is far from ours."""
    left_ns = (lease.expiration_ns or 0) - time.time_ns()
    left_s = math.ceil(left_ns / 1_000_000_000)
    return left_s if 0 <= left_s <= LEASE_S else None


def _why_wait(left_s: int | None) -> str:
    when = "within a minute" if left_s is None else f"in {left_s} s"
    return (
        "another restore into this cluster, from another directory or machine, was at work a "
        f"moment ago or was killed; waiting for its lease, which ends {when} unless it is renewed"
    )


def _renew(held: HeldLease, done: threading.Event, lost: Callable[[], None]) -> None:
    while not done.wait(held.renew_every_s):
        if not held.renew():
            lost()
            return
