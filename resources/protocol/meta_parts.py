"""Splits a metastore into parts, so that several readings of it can be compared.

The message has no checksum: a flipped bit may change a duration, a default policy or a name, and
the message still parses. Readings are independent, so a value in two of them was not changed by
the network. Only the order of privileges differs between readings (Go's maps).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import parse_strictly
from resources.values import repr_without


class MetastoreParts(Struct, frozen=True):
    """One reading, split into parts that clients change independently."""

    parts: frozenset[bytes]
    """Each database, policy, shard group and user, and the rest; unknown fields included."""
    counters: tuple[int, ...]
    """Term, index and the highest ids in use: they only grow."""

    __repr__ = repr_without("parts")

    @classmethod
    def of(cls, raw: bytes) -> MetastoreParts:
        """Split a serialized `Data`.

        Raises:
            BadReply: `raw` is not a metastore.
        """
        data = parse_strictly(pb.Data, raw, "metastore")
        numbers = ("Term", "Index", "MaxNodeID", "MaxShardGroupID", "MaxShardID")
        counters = tuple(int(getattr(data, name)) for name in numbers)
        for name in numbers:
            data.ClearField(name)
        return cls(frozenset(_parts(data)), counters)

    def is_between(self, before: MetastoreParts, after: MetastoreParts) -> bool:
        """Whether each part is in a neighbour, and each part of both neighbours is in this one."""
        grows = all(
            a <= b <= c
            for a, b, c in zip(before.counters, self.counters, after.counters, strict=True)
        )
        return (
            grows
            and self.parts <= before.parts | after.parts
            and before.parts & after.parts <= self.parts
        )


def _parts(data: pb.Data) -> Iterator[bytes]:
    """Yield the parts and remove each from its message; the last part is the rest."""
    for db in data.Databases:
        of_db = repr(db.Name).encode() + b"\0"  # a name that is not UTF-8 is bytes
        for rp in db.RetentionPolicies:
            of_rp = of_db + repr(rp.Name).encode() + b"\0"
            for group in rp.ShardGroups:
                yield b"group\0" + of_rp + group.SerializePartialToString()
            rp.ClearField("ShardGroups")
            yield b"policy\0" + of_db + rp.SerializePartialToString()
        db.ClearField("RetentionPolicies")
        yield b"database\0" + db.SerializePartialToString()
    data.ClearField("Databases")
    for user in data.Users:
        grants = sorted(grant.SerializePartialToString() for grant in user.Privileges)
        user.ClearField("Privileges")
        yield b"\0".join([b"user", user.SerializePartialToString(), *grants])
    data.ClearField("Users")
    yield b"rest\0" + data.SerializePartialToString()
