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
from typing import Any

from msgspec import Struct, to_builtins

from resources.engine.merge.merge_plan import TEMPORARY, MergeOptions
from resources.engine.merge.own_database import GroupShape, Made, PolicyShape
from resources.errors import (
    BadReply,
    LockLost,
    ManifestUnreadable,
    ShardkeeperError,
    shown,
)
from resources.model import ShardID
from resources.protocol.influxql import check_name
from resources.protocol.snapshotter import MAX_UINT64
from resources.protocol.strict_json import decode_json, is_array, is_integer, is_object
from resources.repository.formats.details import FileID
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
            document = _object(decode_json(raw, name))
            version = _number(document["version"])
            if version not in (1, VERSION):
                raise ValueError("version")
            if document.keys() != (_KEYS if version == VERSION else _KEYS_IN_1):
                raise KeyError
            shards = document["shards"]
            found = cls(
                _number(document["cluster_id"]),
                _request(document["request"]),
                _text(document["temporary"]),
                _text(document["backup"]),
                _text(document["into"]),
                {_text(key): _text(value) for key, value in _object(document["policies"]).items()},
                None if shards is None else tuple(ShardID(_number(i)) for i in _array(shards)),
                _truth(document["complete"]),
                _made(document.get("made")),
            )
            if not _DRAWN.fullmatch(found.temporary):
                raise ValueError("the temporary database has another one's name")
            if found.shards is None and found.complete:
                raise ValueError("it copied from what was not restored")
        except (BadReply, KeyError, TypeError, ValueError) as error:
            raise _unreadable(name, type(error).__name__) from None
        check_file_name(found.backup)
        check_name("database", found.into)
        for policy in itertools.chain(*found.policies.items()):
            check_name("retention policy", policy)
        return found


_KEYS = {"version", *MergeJournal.__struct_fields__}
_FLAGS = {
    "database": "-db",
    "policy": "-rp",
    "shard": "-shard",
    "into": "-newdb",
    "into_policy": "-newrp",
    "start_ns": "-start",
    "end_ns": "-end",
}
_KEYS_IN_1 = _KEYS - {"made"} | {"copied", "failed", "points"}


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


def _object(value: object) -> dict[str, object]:
    if not is_object(value):
        raise TypeError
    return value


def _array(value: object) -> list[Any]:
    if not is_array(value):
        raise TypeError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # a lone surrogate is no text: UnicodeEncodeError is a ValueError
    return value


def _number(value: object, least: int = 0, most: int = MAX_UINT64) -> int:
    if not is_integer(value):
        raise TypeError
    if not least <= value <= most:
        raise ValueError
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _request(value: object) -> dict[str, object]:
    request = _object(value)
    if request.keys() != request_of(MergeOptions()).keys():
        raise KeyError
    if not all(one is None or isinstance(one, str) or is_integer(one) for one in request.values()):
        raise TypeError
    return request


def _made(value: object) -> Made | None:
    if value is None:
        return None
    made = _object(value)
    if made.keys() != {"policies", "groups", "files"}:
        raise KeyError
    return Made(
        tuple(_policy(row) for row in _array(made["policies"])),
        tuple(_group(row) for row in _array(made["groups"])),
        tuple(_file(row) for row in _array(made["files"])),
    )


def _policy(value: object) -> PolicyShape:
    name, duration_ns, group_ns = _array(value)
    return _text(name), _signed(duration_ns), _signed(group_ns)


def _group(value: object) -> GroupShape:
    policy, start_ns, end_ns, n_shards = _array(value)
    return _text(policy), _signed(start_ns), _signed(end_ns), _number(n_shards)


def _file(value: object) -> FileID:
    name, size_bytes, crc32 = _array(value)
    return _text(name), _number(size_bytes), _number(crc32)


def _signed(value: object) -> int:
    return _number(value, -(2**63), 2**63 - 1)
