"""The record of a merge in progress: a second run continues it and knows what to drop.

One object in the repository for each target, JSON:

    {"version": 2, "cluster_id": …, "request": {…}, "temporary": name, "backup": name,
     "into": name, "policies": {policy: live policy}, "shards": [shard ID, …] or null,
     "complete": …, "made": {"policies": [[policy, duration, shard group duration], …],
     "groups": [[policy, start, end, number of shards], …],
     "files": [[file, bytes, crc32], …]} or null}

`shards` is null while the temporary database is being restored. `made` describes what that
database will contain, noted before it exists: a run that finds a database of that name decides by
it whether the database is the merge's own. `complete` is true after every point was found and
before the temporary database is dropped, so parts of it may be gone.

The journal does not record progress: the live database may have changed since, so a run that
continues compares it again. Version 1 recorded progress, as the start of a shard group and a
measurement, in `copied`, `failed` and `points`; these are ignored. It had no `made`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping

from msgspec import Struct, to_builtins

from resources.engine.merge.merge_plan import TEMPORARY, MergeOptions
from resources.engine.merge.own_database import Made
from resources.errors import (
    BadReply,
    LockLost,
    ManifestUnreadable,
    ShardkeeperError,
    shown,
)
from resources.model import ShardID
from resources.protocol.influxql import check_name
from resources.protocol.strict_json import (
    MAX_UINT64,
    Int64,
    Shape,
    UInt,
    WrongVersion,
    decode_record,
    too_great,
)
from resources.repository.formats.names import check_file_name
from resources.repository.storage.record_file import RecordFile
from resources.repository.storage.store import Store

VERSION = 2
MAX_JOURNAL_BYTES = 64 << 20

_PREFIX = ".shardkeeper.merge-"
_NAME = re.compile(re.escape(_PREFIX) + r"([0-9]{1,20})\.json", re.ASCII)
_DRAWN = re.compile(re.escape(TEMPORARY) + "[0-9a-f]{12}", re.ASCII)


class MergeJournal(Struct, frozen=True):
    """A merge that was begun."""

    cluster_id: int
    request: Mapping[str, object]
    """The options that determine what is merged; a run that continues must have the same."""
    temporary: str
    backup: str
    into: str
    policies: Mapping[str, str]
    shards: tuple[ShardID, ...] | None = None
    complete: bool = False
    """Every point was found in the live database; only a hint, they are compared again."""
    made: Made | None = None
    """What the temporary database will contain; None in records of an earlier version."""

    @property
    def asked_for(self) -> str:
        """The request as flags, for messages."""
        given = [(_FLAGS.get(k, k), v) for k, v in self.request.items() if v not in (None, "")]
        return " ".join(f"{flag} {shown(str(value))}" for flag, value in given)

    def encode(self) -> bytes:
        return json.dumps({"version": VERSION, **to_builtins(self)}).encode()

    @classmethod
    def decode(cls, raw: bytes, name: str) -> MergeJournal:
        """Read a record.

        Raises:
            ManifestUnreadable: it is not a valid record.
            UnsafeName: it names an impossible database, policy or file.
        """
        try:
            found = _decode(raw, name)
        except BadReply as error:
            raise _unreadable(name, error.what) from None
        check_file_name(found.backup)
        check_name("database", found.into)
        for policy in itertools.chain(*found.policies.items()):
            check_name("retention policy", policy)
        return found


_FLAGS = {
    "database": "-db",
    "policy": "-rp",
    "shard": "-shard",
    "into": "-newdb",
    "into_policy": "-newrp",
    "start_ns": "-start",
    "end_ns": "-end",
}


def request_of(options: MergeOptions) -> dict[str, object]:
    """The options that must be equal when a merge continues; others may change."""
    limits = options.limits
    return {
        "database": limits.database,
        "policy": limits.policy,
        "shard": limits.shard_id,
        "into": options.database,
        "into_policy": options.into_policy,
        "start_ns": options.start_ns,
        "end_ns": options.end_ns,
    }


class MergeJournalFile:
    """The record for one target; if the store cannot be written, it is only in memory."""

    def __init__(self, store: Store, cluster_id: int) -> None:
        self._cluster_id = cluster_id
        self.name = f".shardkeeper.merge-{cluster_id}.json"
        self._file = RecordFile(store, self.name, max_bytes=MAX_JOURNAL_BYTES)

    def read(self) -> MergeJournal | None:
        """The record, or None.

        Raises:
            ManifestUnreadable: it is not a valid record.
            UnsafeName: it names an impossible database, policy or file.
            StoreFailed: it cannot be read.
        """
        raw = self._file.read()
        if raw is None:
            return None
        journal = MergeJournal.decode(raw, self.name)
        if journal.cluster_id != self._cluster_id:
            raise _unreadable(self.name, f"it is of the target with ID {journal.cluster_id}")
        return journal

    def write(self, journal: MergeJournal) -> None:
        """Write the record in one step; it is durable when this returns.

        Raises:
            LockLost: another run has changed the record.
            StoreFailed: the medium refuses.
        """
        if not self._file.put(journal.encode()):
            raise self._lost()

    def remove(self) -> None:
        """Remove the record that this run has read or written, and no other.

        Raises:
            LockLost: another run has changed it; it stays.
            StoreFailed: the medium refuses.
        """
        if not self._file.remove():
            raise self._lost()

    def _lost(self) -> LockLost:
        return LockLost(
            f"{self.name} was changed by another merge, which took the place of this one",
            hint="wait for that merge, then run this again",
        )


def unfinished_merges(store: Store) -> list[str]:
    """One sentence for each merge that is unfinished or running."""
    messages: list[str] = []
    for name in store.names(_PREFIX):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        try:
            journal = MergeJournalFile(store, int(match[1])).read()
        except ShardkeeperError as error:
            messages.append(error.what)
            continue
        if journal is not None:
            messages.append(
                f"{name}: a merge into {shown(journal.into)} is at work, or was killed; its "
                f"temporary database {journal.temporary} may be there; the same command "
                "continues it, merge -abandon drops it"
            )
    return messages


def _unreadable(name: str, why: str) -> ManifestUnreadable:
    return ManifestUnreadable(
        f"{name} cannot be read ({why}); it is the record of an interrupted merge",
        hint=f"drop databases whose names begin with {TEMPORARY}, then delete the file",
    )


class _MadeShape(Shape, frozen=True, forbid_unknown_fields=True):
    policies: tuple[tuple[str, Int64, Int64], ...]
    groups: tuple[tuple[str, Int64, Int64, UInt], ...]
    files: tuple[tuple[str, UInt, UInt], ...]


class _MergeShape(Shape, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: int
    cluster_id: UInt
    request: dict[str, str | int | None]
    temporary: str
    backup: str
    into: str
    policies: dict[str, str]
    shards: tuple[UInt, ...] | None
    complete: bool


class _MergeShape1(_MergeShape, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record of version 1, which counted in it what it had copied."""

    copied: object
    failed: object
    points: object


class _MergeShape2(_MergeShape, frozen=True, forbid_unknown_fields=True, kw_only=True):
    made: _MadeShape | None


def _decode(raw: bytes, name: str) -> MergeJournal:
    """Read a record of any version.

    Raises:
        BadReply: the record has another form; the message is only the reason.
    """
    try:
        found = decode_record(_MergeShape2, raw, name, version=VERSION)
        made = found.made
    except WrongVersion:
        found, made = decode_record(_MergeShape1, raw, name, version=1), None
    if found.request.keys() != request_of(MergeOptions()).keys():
        raise BadReply("its request has other options")
    numbers = [found.cluster_id, *(found.shards or ())]
    texts = [found.temporary, found.backup, found.into, *itertools.chain(*found.policies.items())]
    if made is not None:
        numbers += [n_shards for *_, n_shards in made.groups]
        numbers += [number for _, *both in made.files for number in both]
        texts += [row[0] for row in (*made.policies, *made.groups, *made.files)]
    if max(numbers) > MAX_UINT64:
        raise too_great("a field")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise BadReply("a name is half a character")
    if not _DRAWN.fullmatch(found.temporary):
        raise BadReply("the temporary database has another one's name")
    if found.shards is None and found.complete:
        raise BadReply("it copied from what was not restored")
    return MergeJournal(
        found.cluster_id,
        found.request,
        found.temporary,
        found.backup,
        found.into,
        found.policies,
        None if found.shards is None else tuple(map(ShardID, found.shards)),
        found.complete,
        None if made is None else Made(made.policies, made.groups, made.files),
    )
