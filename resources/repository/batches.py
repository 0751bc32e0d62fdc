"""The batches of a run: what is on record of them, and claims on them.

A batch B has two records in the stage of its run: `B.todo`, what is to be done, and `B.done`, what
was. What they say is the engine's business. `s7.suspect` says that a server went down while shard 7
was read; it has no content. A worker claims a batch by a lease, `B.claim`, and
does it through a part of the stage; see docs/decisions/0016-plan-batches-commit.md.

Held by tests/resources/repository/test_batches.py.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Literal

from resources.errors import (
    LockLost,
    ManifestUnreadable,
    NameMissing,
    NameTaken,
    RepositoryLocked,
    StoreFailed,
)
from resources.model import ShardID
from resources.repository.storage.lock import ObservedLease, StoreLock
from resources.repository.storage.store import Part, Sink, Stage, Store
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible, undisturbed

TODO, DONE, CLAIM, SUSPECT = ".todo", ".done", ".claim", ".suspect"
PLAN, COMMIT, GIVEN_UP = "plan", "commit", "given-up"
"""The record of the whole plan; what the process claims that commits; why no process may."""
POLL_S = 0.25
MAX_RECORD_BYTES = 256 << 20
_DIGEST_BYTES = 65
"""A SHA-256 in hex and a line feed, before the rest of a record."""
_SUSPECT = re.compile(rf"s([0-9]{{1,20}})\{SUSPECT}")


class ClaimedBatch:
    """A batch in the hands of one worker; its methods may be called from several threads.

    Attributes:
        name: of the batch.
        suspected: shards during whose reading a server went down under an earlier worker.
        part: the worker's way to what it changes.
        again: whether an earlier worker has begun it.
    """

    def __init__(self, name: str, backup: str, part: Part, ours: set[str]) -> None:
        self.name = name
        self.suspected: set[ShardID] = set()
        self.again = False
        self._stem = backup
        self.part = part
        self._batch = part.batch()
        self._ours = ours

    def shard_file(self, shard_id: ShardID) -> str:
        """As `BackupName.shard_file`, which would spell the time each time."""
        return _shard_file(self._stem, shard_id)

    @contextmanager
    def shard(self, shard_id: ShardID) -> Generator[Sink]:
        """A new file for a shard's archive; it is kept if the block succeeds."""
        name = self.shard_file(shard_id)
        self._ours.add(name)  # before it exists, so that no interrupt can strand it
        try:
            with self._batch.create(name) as sink:
                yield sink
        except NameTaken:
            self._ours.discard(name)
            raise
        passing("backup.shard-stored")

    def check_mine(self) -> None:
        """To be called right before something is changed elsewhere.

        Raises:
            LockLost: another worker has the batch, or another run took the place of this one.
        """
        if not self.part.is_there():
            raise self.part.lost()

    def finish(self, done: bytes) -> None:
        """Record what was done, once every archive is durable.

        Raises:
            StoreFailed: an archive is not durable, and never will be.
            LockLost: another worker has the batch, or another run the repository.
        """
        self._batch.finish()
        passing("backup.batch-stored")
        self.part.publish(self.name + DONE, _with_digest(done))
        passing("backup.batch-done")

    def suspect(self, shard_id: ShardID) -> None:
        """Record for the next worker of the batch that a server went down while a shard was read.

        Raises:
            LockLost: another worker has the batch, or another run the repository.
        """
        with suppress(NameTaken):
            self.part.publish(f"s{shard_id}{SUSPECT}", b"")

    def abandon(self) -> None:
        """Wait for what is under way; the archives are going to be deleted."""
        self._batch.abandon()


class RunBatches:
    """The batches of one run, as far as they are on record; not safe between threads.

    Args:
        stage: of the run.
        backup: that the run makes; a restore makes none.
        ours: takes the name of every archive that this process stores.
    """

    def __init__(self, store: Store, stage: Stage, backup: str, ours: set[str]) -> None:
        self._store = store
        self._stage = stage
        self._backup = backup
        self._ours = ours
        self._records = store.records(stage)
        self._observed: dict[str, ObservedLease] = {}

    @property
    def stage_name(self) -> str:
        """By which another process joins the run."""
        return self._stage.name

    @property
    def backup(self) -> str:
        """That the run makes."""
        return self._backup

    def close(self) -> None:
        """Give up the records; they stay where they are."""
        self._records.close()

    def add(self, name: str, todo: bytes) -> None:
        """Record a batch that is to be done; from then on it can be claimed.

        One of that name that an earlier process of the run recorded stays.
        """
        with suppress(NameTaken), self._on_record(), self._records.create(name + TODO) as sink:
            sink.write(_with_digest(todo))
        passing("backup.batch-planned")

    def add_plan(self, plan: bytes) -> None:
        """Record what the process has to know that commits."""
        with self._on_record(), self._records.create(PLAN) as sink:
            sink.write(_with_digest(plan))

    def plan(self) -> bytes:
        """What the process has to know that commits.

        Raises:
            ManifestUnreadable: the record is torn or damaged.
            LockLost: another run has the repository.
        """
        return self._read(PLAN)

    def todo(self, name: str) -> bytes:
        """What is to be done in a batch.

        Raises:
            NameMissing: there is no such batch.
            ManifestUnreadable: the record is torn or damaged.
            LockLost: another run has the repository.
        """
        return self._read(name + TODO)

    def done(self, name: str) -> bytes | None:
        """What was done in a batch; None: it is not done.

        Raises:
            ManifestUnreadable: the record is torn or damaged.
            LockLost: another run has the repository.
        """
        try:
            return self._read(name + DONE)
        except NameMissing:
            return None

    def is_done(self, name: str) -> bool:
        return self._records.has(name + DONE)

    def give_up(self, why: str) -> bool:
        """Record that no batch may be done any more; False: another process has.

        Every worker that is at a batch loses it.

        Raises:
            LockLost: another run has the repository.
        """
        try:
            with self._on_record(), self._records.create(GIVEN_UP) as sink:
                sink.write(_with_digest(why.encode(errors="replace")))
        except NameTaken:
            return False
        self._stage.revoke_parts()
        return True

    def given_up(self) -> str | None:
        """Why no batch may be done any more; None: they may.

        Raises:
            LockLost: another run has the repository.
        """
        try:
            return self._read(GIVEN_UP).decode(errors="replace")
        except NameMissing:
            return None
        except ManifestUnreadable:
            return "the record does not say why"

    def await_others(self, names: Iterable[str]) -> None:
        """Wait until no other worker is at any of these batches.

        Raises:
            LockLost: another run has the repository.
        """
        for name in names:
            while not self.is_done(name):
                with self.claim(name, ()) as claimed:
                    if claimed is not None:
                        break
                time.sleep(POLL_S)

    def states(self) -> dict[str, Literal["free", "claimed", "done"]]:
        """The batches on record, in the order of their names; a claim may be stale.

        Raises:
            LockLost: another run has the repository.
        """
        there = self._records.names()
        if not self._stage.is_there():
            raise self._stage.lost()
        found: dict[str, Literal["free", "claimed", "done"]] = {}
        for name in (one.removesuffix(TODO) for one in there if one.endswith(TODO)):
            claimed = "claimed" if name + CLAIM in there else "free"
            found[name] = "done" if name + DONE in there else claimed
        return found

    def expect(self, shards: Iterable[ShardID]) -> None:
        """Note that other processes store archives of these shards, which are the run's too."""
        self._ours.update(_shard_file(self._backup, shard_id) for shard_id in shards)

    @contextmanager
    def claim(self, name: str, shards: Iterable[ShardID]) -> Generator[ClaimedBatch | None]:
        """Hold a batch for the block; None: it is done, or another worker has it.

        What an earlier worker left of it is deleted. If the block fails, what it stored stays,
        for the next worker or for the end of the run to delete.

        Args:
            shards: of the batch; they are asked for only if another worker had it before.

        Raises:
            LockLost: another run has the repository.
        """
        with undisturbed():
            held = None if self.is_done(name) else self._enter(name)
            if held is None:
                yield None
                return
            lock, part = held
            batch = ClaimedBatch(name, self._backup, part, self._ours)
            try:
                with interruptible():
                    if self._is_left_to_do(name, part, batch, shards):
                        passing("backup.batch-claimed")
                        yield batch
                    else:
                        yield None
            except BaseException:
                batch.abandon()
                raise
            else:
                part.close()
            finally:
                lock.release()

    def _enter(self, name: str) -> tuple[StoreLock, Part] | None:
        """A claim, and a part that was made before it, so that it is closed with the claim."""
        token = os.urandom(8).hex()
        part = self._stage.part(name, token)
        try:
            with self._on_record():
                lock = StoreLock.attempt(
                    self._records,
                    self._observed.setdefault(name, ObservedLease()),
                    command=f"batch {name} of {self._backup or 'a restore'}",
                    name=name + CLAIM,
                    token=token,
                )
        except BaseException:
            part.close()
            raise
        if isinstance(lock, RepositoryLocked):
            part.close()
            return None
        if part.is_there():
            return lock, part
        lock.release()  # the claim before this one has closed what waited for it
        return None

    def _is_left_to_do(
        self, name: str, part: Part, batch: ClaimedBatch, shards: Iterable[ShardID]
    ) -> bool:
        """Whether it is to be done, once no earlier worker can change anything."""
        batch.again = self._stage.revoke_parts(name, keep=part.name)
        if self.is_done(name):
            return False
        for shard_id in shards if batch.again else ():
            self._stage.delete(batch.shard_file(shard_id))
        batch.suspected = self._suspects() if batch.again else set()
        return True

    def _suspects(self) -> set[ShardID]:
        found = (_SUSPECT.fullmatch(name) for name in self._records.names("s"))
        return {ShardID(int(match[1])) for match in found if match}

    @contextmanager
    def _on_record(self) -> Generator[None]:
        """Read or write records; once the stage is gone, none is there, and none can be written."""
        try:
            yield
        except (NameMissing, StoreFailed) as error:
            if isinstance(error, LockLost) or self._stage.is_there():
                raise
            raise self._stage.lost() from error

    def _read(self, name: str) -> bytes:
        with self._on_record(), self._records.open(name) as source:
            if source.size_bytes > MAX_RECORD_BYTES:
                raise ManifestUnreadable(f"{name} has {source.size_bytes} bytes")
            raw = source.read(source.size_bytes + 1)
        return _without_digest(raw, name)


def _shard_file(backup: str, shard_id: ShardID) -> str:
    return f"{backup}.s{shard_id}.tar.gz"


def _with_digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).hexdigest().encode() + b"\n" + raw


def _without_digest(raw: bytes, name: str) -> bytes:
    content = raw[_DIGEST_BYTES:]
    if raw[:_DIGEST_BYTES] != _with_digest(content)[:_DIGEST_BYTES]:
        raise ManifestUnreadable(
            f"{name} is not what was written: its checksum does not match",
            hint="nothing was committed; run it again",
        )
    return content
