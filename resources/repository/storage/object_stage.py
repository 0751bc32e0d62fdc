"""The fence of a run in a bucket, where nothing can be renamed.

A run's stage is one small record. Each change of it is one conditional put, so of a run that goes
on and another one that revokes it, one loses:

    .shardkeeper.run-K    {"state": "open", "backup": ""}    it waits for the lock, or has it
                          {"state": "open", "backup": T}     it makes the backup T
                          {"state": "revoked", …}            its place was taken
                          nothing                            it is over

What a run stores has names that begin with T, which no other run ever uses. So a late put of a run
that was revoked harms nothing, and is deleted by a later run. Its manifest is a conditional put,
and the run that revokes it takes that name first (`resources.repository.formats.revoked`). Deleted
is only what belongs to a T that can never be committed any more.

docs/decisions/0019-object-stores.md says why.
Held by tests/resources/repository/storage/test_object_store.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from resources.errors import BadReply, LockLost, NameTaken, StoreFailed
from resources.protocol.strict_json import Shape, decode_as
from resources.repository.formats.names import BackupName, check_file_name, parse_file_name
from resources.repository.formats.revoked import REVOKED
from resources.repository.storage.bucket import Bucket, Version
from resources.repository.storage.objects import ObjectSink, creating, put_new
from resources.repository.storage.store import Sink
from resources.runtime.clocks import passed_s
from resources.runtime.failpoints import passing

RUN = ".shardkeeper.run-"
RECORDS = ".shardkeeper.records-"
SEEN_FOR_S = 1.0
"""How long it is believed that a stage was open; only what saves useless work relies on it."""
MAX_COPY_BYTES = 5_000_000_000
"""Of an object that S3 copies by itself."""
MAX_STAGE_BYTES = 4096
_NAME = re.compile(re.escape(RUN) + r"[0-9a-f]{1,64}")


class _Shape(Shape, frozen=True):
    state: Literal["open", "revoked"]
    backup: str = ""


class StageRecord(Struct, frozen=True):
    """What is stored of a stage."""

    name: str
    state: Literal["open", "revoked"]
    backup: str
    at: Version

    def encode(self) -> bytes:
        return json.dumps({"state": self.state, "backup": self.backup}).encode() + b"\n"


def read_record(bucket: Bucket, name: str) -> StageRecord | None:
    """The record of a stage; None if there is none.

    Raises:
        StoreFailed: it cannot be read, or is none.
    """
    found = bucket.first_chunk(name)
    if found is None or not found[1]:
        return None
    stored, raw = found
    try:
        shape = decode_as(_Shape, raw[:MAX_STAGE_BYTES], name)
    except BadReply as error:
        raise StoreFailed(
            f"{bucket.url}: {error.what}",
            hint="find out who wrote it, and delete it if no run is at work there",
        ) from None
    backup = shape.backup if BackupName.parse(shape.backup) else ""
    return StageRecord(name, shape.state, backup, stored.at)


def stage_records(bucket: Bucket) -> Iterator[StageRecord]:
    """Of every stage that is not closed."""
    for stored in bucket.listed(RUN):
        if stored.size_bytes and _NAME.fullmatch(stored.name):
            record = read_record(bucket, stored.name)
            if record is not None:
                yield record


class ObjectStage:
    """One run's stage; safe to share between threads.

    Attributes:
        name: of its record.
        lost: what to raise once it is revoked.
    """

    def __init__(self, bucket: Bucket, record: StageRecord) -> None:
        self.name = record.name
        self.lost: Callable[[], LockLost] = _lost
        self.swept: set[str] = set()
        """The backups that this run may sweep, beside its own."""
        self._bucket = bucket
        self._record = record
        self._seen_s = passed_s()
        self._may_commit = False
        self._is_ended = False

    @classmethod
    def make(cls, bucket: Bucket, key: str) -> ObjectStage:
        record = StageRecord(RUN + key, "open", "", Version(None, None))
        version = bucket.put_new(record.name, record.encode())
        if version is None:
            raise NameTaken(f"{bucket.url}: {record.name} exists already")
        return cls(bucket, replace(record, at=version))

    def is_there(self) -> bool:
        record = read_record(self._bucket, self.name)
        if record is None or record.state != "open":
            return False
        self._seen_s = passed_s()
        return True

    def note(self, backup: str) -> None:
        """Have the record say which backup it is about.

        Raises:
            LockLost: another run has taken the lock.
        """
        record = replace(self._record, backup=backup)
        version = self._bucket.put_over(record.name, record.encode(), record.at)
        if version is None:
            raise self.lost()
        self._record, self._seen_s = replace(record, at=version), passed_s()

    @contextmanager
    def create(self, name: str) -> Generator[ObjectSink]:
        """As `Store.create`.

        Raises:
            LockLost: the stage was revoked. What was stored has a name that no run reads.
        """
        check_file_name(name)
        commits = name == f"{self._record.backup}.manifest"
        self._require_open(0.0 if commits else SEEN_FOR_S)
        try:
            with creating(self._bucket, name) as sink:
                yield sink
                if commits:
                    self._may_commit = True
                    passing("bucket.before-commit")
        except NameTaken as error:
            if not self.is_there():
                raise self.lost() from error
            raise

    def batch(self) -> ObjectBatch:
        return ObjectBatch(self.create)

    def delete(self, name: str) -> None:
        """Delete a file of this run's backup, or of one that it sweeps.

        Raises:
            LockLost: it is another run's business.
            StoreFailed: it is of another backup, or this one's manifest may yet be stored.
        """
        check_file_name(name)
        found = parse_file_name(name)
        backup = "" if found is None else str(found.backup)
        if not backup or backup not in (self._record.backup, *self.swept):
            raise StoreFailed(f"{self._bucket.url}: {name} is of no backup that this run may sweep")
        if name == f"{self._record.backup}.manifest":  # ours alone, also without the lock
            if not self._is_ended:
                self._bucket.delete([name])
            return
        self._require_open(SEEN_FOR_S)
        if backup == self._record.backup:
            self._end_for_good()
        self._bucket.delete([name])

    def set_aside(self, name: str) -> str:
        """Give an object that is no good a name that says so; returns that name.

        Raises:
            LockLost: nothing was changed, or the object is there under both names.
        """
        check_file_name(name)
        self._require_open(0.0)
        stored = self._bucket.stat(name)
        if stored is None:
            raise self._bucket.missing(name)
        aside = self._free_name_beside(name)
        if stored.size_bytes > MAX_COPY_BYTES:
            raise StoreFailed(
                f"{self._bucket.url}: {name} has {stored.size_bytes} bytes, more than the store "
                "copies by itself",
                hint=f"copy it to {aside} and delete it, with the store's own tools",
            )
        self._bucket.copy(name, aside)
        # Not deleted: a run that stands still here must not take away what its successor writes.
        if self._bucket.put_over(name, b"", stored.at) is None:
            raise (
                StoreFailed(f"{self._bucket.url}: {name} has just changed")
                if self.is_there()
                else self.lost()
            )
        if not name.endswith((".manifest", ".copy")):  # no run stores such a name again
            with suppress(StoreFailed):
                self._bucket.delete([name])
        return aside

    def sync(self) -> None:
        """What the store has confirmed is durable."""

    def check_writable(self) -> None:
        """Whether the store takes a put is known: the stage itself is one."""
        if not self.is_there():
            raise self.lost()

    def close(self) -> None:
        """Have the record say that the run is over, and delete it, if that is allowed."""
        with suppress(StoreFailed):
            if self._bucket.put_over(self.name, b"", self._record.at) is not None:
                delete_stage(self._bucket, self.name)

    def part(self, batch: str, key: str) -> ObjectPart:
        """The way of this process, the only worker of its run, while it does a batch."""
        self._require_open(SEEN_FOR_S)
        return ObjectPart(self, self._bucket, f"part-{batch}-{key}")

    def revoke_parts(self, batch: str = "", keep: str = "") -> bool:
        """One process does all batches here, so there is no other part."""
        return False

    def _require_open(self, seen_for_s: float) -> None:
        if passed_s() - self._seen_s > seen_for_s and not self.is_there():
            raise self.lost()

    def _end_for_good(self) -> None:
        """Make sure that no manifest appears later, before its archives are deleted."""
        if self._is_ended or not (self._may_commit or self._bucket.uncertain):
            return
        if not revoke_manifest(self._bucket, self._record.backup):
            raise StoreFailed(
                f"{self._bucket.url}: {self._record.backup} is complete: its manifest was stored "
                "although the store reported an error"
            )
        self._is_ended = True

    def _free_name_beside(self, name: str) -> str:
        for n in count(1):
            aside = f"{name}.damaged" + (f"-{n}" if n > 1 else "")
            if self._bucket.stat(aside) is None:
                return aside
        raise AssertionError("some name is free")


class ObjectPart:
    """The part of a stage that is the worker's, while it does a batch."""

    def __init__(self, stage: ObjectStage, bucket: Bucket, name: str) -> None:
        self.name = name
        self.lost = stage.lost
        self._stage = stage
        self._bucket = bucket

    def is_there(self) -> bool:
        return self._stage.is_there()

    def create(self, name: str) -> AbstractContextManager[Sink]:
        return self._stage.create(name)

    def batch(self) -> ObjectBatch:
        return self._stage.batch()

    def delete(self, name: str) -> None:
        self._stage.delete(name)

    def sync(self) -> None:
        """What the store has confirmed is durable."""

    def publish(self, name: str, raw: bytes) -> None:
        """Store a record of the run.

        Raises:
            NameTaken: there is such a record.
            LockLost: another run has the repository.
        """
        check_file_name(name)
        if not self._stage.is_there():
            raise self._stage.lost()
        put_new(self._bucket.within(records_of(self._stage.name)), name, raw)

    def close(self) -> None:
        """Nothing is stored of it."""


class ObjectBatch:
    """A Batch in a bucket: each object is durable once it is stored."""

    def __init__(self, create: Callable[[str], AbstractContextManager[Sink]]) -> None:
        self._create = create

    def create(self, name: str) -> AbstractContextManager[Sink]:
        return self._create(name)

    def finish(self) -> None:
        """Nothing is under way."""

    def abandon(self) -> None:
        """Nothing is under way."""


class RevokedObjectStage:
    """A stage that no run can use any more.

    Attributes:
        backup: the one that it was about; empty if none was begun.
    """

    def __init__(self, bucket: Bucket, record: StageRecord) -> None:
        self.backup = record.backup
        self._bucket = bucket
        self._record = record

    def forget(self) -> bool:
        self._bucket.put_over(self._record.name, b"", self._record.at)
        with suppress(StoreFailed):  # these credentials may not delete; it is closed
            delete_stage(self._bucket, self._record.name)
        return True

    def empty(self) -> None:
        """Nothing is in it that a late put could use."""


def revoke_stages(bucket: Bucket, keep: ObjectStage) -> list[RevokedObjectStage]:
    """Close all stages but `keep`, for good, and take the names of their manifests.

    Raises:
        StoreFailed: one of them is not closed.
    """
    revoked: list[RevokedObjectStage] = []
    for record in stage_records(bucket):
        if record.name == keep.name:
            continue
        now: StageRecord | None = record
        while now is not None and now.state == "open":
            changed = replace(now, state="revoked")
            version = bucket.put_over(now.name, changed.encode(), now.at)
            # None: its run has ended, or has just named it after a backup.
            now = replace(changed, at=version) if version else read_record(bucket, now.name)
        if now is None or now.state != "revoked":
            continue
        passing("bucket.revoked")
        if now.backup and revoke_manifest(bucket, now.backup):
            keep.swept.add(now.backup)
        revoked.append(RevokedObjectStage(bucket, now))
    return revoked


def revoke_manifest(bucket: Bucket, backup: str) -> bool:
    """Take the name of a backup's manifest; False: the backup is complete."""
    name = f"{backup}.manifest"
    while bucket.put_new(name, REVOKED) is None:
        found = bucket.first_chunk(name)
        if found is not None:
            return found[1] == REVOKED
    return True


def delete_stage(bucket: Bucket, name: str) -> None:
    """Delete a stage's record and what only its run needed."""
    records = bucket.within(records_of(name))
    records.delete([stored.name for stored in records.listed()])
    bucket.delete([name])


def records_of(stage: str) -> str:
    """Under which name the records of a run lie."""
    return RECORDS + stage.removeprefix(RUN)


def _lost() -> LockLost:
    return LockLost("another run took this one's place in the repository; nothing was committed")
