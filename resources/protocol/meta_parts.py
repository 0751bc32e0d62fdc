"""A metastore taken apart, so that readings of it can be held against each other.

The message has no checksum: a bit that flips on the way may leave another duration, default
policy or name, and parse. Readings are independent of each other, so what two of them say was
not made by the way between. The order in which a server writes privileges differs from reading
to reading (Go's maps), and nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from resources.protocol import meta_pb2 as pb
from resources.protocol.meta import parse_strictly


@dataclass(frozen=True, slots=True)
class MetastoreParts:
    """One reading: what others may change apart, apart."""

    parts: frozenset[bytes] = field(repr=False)
    """Each database, policy, shard group, user, and all the rest; unknown fields included."""
    counters: tuple[int, ...]
    """Term, index and the highest numbers given: they only grow."""

    @classmethod
    def of(cls, raw: bytes) -> MetastoreParts:
        """Take a serialized `Data` apart.

        Raises:
            BadReply: it is none.
        """
        data = parse_strictly(pb.Data, raw, "metastore")
        numbers = ("Term", "Index", "MaxNodeID", "MaxShardGroupID", "MaxShardID")
        counters = tuple(int(getattr(data, name)) for name in numbers)
        for name in numbers:
            data.ClearField(name)
        return cls(frozenset(_parts(data)), counters)

    def is_between(self, before: MetastoreParts, after: MetastoreParts) -> bool:
        """Whether all of this stands in a neighbour, and all that both have stands in this."""
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
    """Whatever is yielded leaves its message, so that the last part is the rest."""
    for db in data.Databases:
        of_db = repr(db.Name).encode() + b"\0"  # not UTF-8, it comes as bytes
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
