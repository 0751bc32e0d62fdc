"""What others changed in a metastore, done once more in one that has lost it; nothing is touched.

Three metastores: `base`, what both began with; `theirs`, what others made of it; `now`, which
knows nothing of that. Databases and users are compared by name, nodes by number.

Held by tests/resources/engine/cluster/test_put_back.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.message import Message
from msgspec import Struct

from resources.errors import shown
from resources.protocol import meta_pb2 as pb
from resources.protocol.comparing import comparable
from resources.protocol.meta import parse_strictly
from resources.values import repr_without


class PutBack(Struct, frozen=True):
    """The metastore with their changes in it.

    Attributes:
        meta: a serialized `Data`.
        names: what was changed: `database 'x'`, `user 'y'`, `data node 4`.
        conflicts: what changed in `now` as well, and so stays as it is there.
    """

    meta: bytes
    names: tuple[str, ...]
    conflicts: tuple[str, ...]

    __repr__ = repr_without("meta")


def put_back(base: bytes, theirs: bytes, now: bytes) -> PutBack:
    """Make their changes in `now`; the numbers given out stay the highest of both.

    Raises:
        BadReply: one of them is no metastore.
    """
    old, new, data = (
        parse_strictly(pb.Data, comparable(raw), "metastore") for raw in (base, theirs, now)
    )
    names: list[str] = []
    conflicts: list[str] = []
    for field_name, kind, key in _FIELDS:
        there: Any = getattr(data, field_name)
        merged, changed, both = _merged(
            getattr(old, field_name), getattr(new, field_name), there, key
        )
        names += [f"{kind} {one}" for one in changed]
        conflicts += [f"{kind} {one}" for one in both]
        if changed:
            del there[:]
            there.extend(merged)
    data.MaxNodeID = max(data.MaxNodeID, new.MaxNodeID)
    data.MaxShardGroupID = max(data.MaxShardGroupID, new.MaxShardGroupID)
    data.MaxShardID = max(data.MaxShardID, new.MaxShardID)
    return PutBack(data.SerializeToString(), tuple(names), tuple(conflicts))


def without_databases(meta: bytes, names: Iterable[str]) -> bytes:
    """A metastore without databases of these names."""
    data = parse_strictly(pb.Data, meta, "metastore")
    gone = set(names)
    kept = list(pb.Data(Databases=[db for db in data.Databases if db.Name not in gone]).Databases)
    del data.Databases[:]
    data.Databases.extend(kept)
    return data.SerializeToString()


def _by_name(message: Any) -> str:
    return shown(str(message.Name))


def _by_id(message: Any) -> str:
    return str(message.ID)


_FIELDS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("Databases", "database", _by_name),
    ("Users", "user", _by_name),
    ("DataNodes", "data node", _by_id),
    ("MetaNodes", "meta node", _by_id),
)


def _merged(
    base: Iterable[Message],
    theirs: Iterable[Message],
    now: Iterable[Message],
    key: Callable[[Any], str],
) -> tuple[list[Message], list[str], list[str]]:
    """What is there then, what of it they changed, and what both did."""
    old, new = {key(one): one for one in base}, {key(one): one for one in theirs}
    result = {key(one): _copy(one) for one in now}
    changed: list[str] = []
    both: list[str] = []
    for name in [*new, *(name for name in old if name not in new)]:
        wanted = new.get(name)
        if _described(wanted) == _described(old.get(name)) or _described(wanted) == _described(
            result.get(name)
        ):
            continue
        if _described(result.get(name)) != _described(old.get(name)):
            both.append(name)
            continue
        changed.append(name)
        if wanted is None:
            del result[name]
        else:
            result[name] = _copy(wanted)
    return list(result.values()), changed, both


def _copy(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _described(message: Message | None) -> bytes | None:
    return None if message is None else message.SerializeToString(deterministic=True)
