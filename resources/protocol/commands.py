"""Commands to the meta nodes of a cluster (POST /execute), in both directions.

A meta node checks only the outside of a command, writes it to the log that all of them share,
and then applies it. A command that cannot be applied makes every meta node panic, and panic
again at each start: a payload without a required field, a missing payload, or a type without a
handler. So `encode` decodes its own bytes strictly before it returns them, and types that are
not here cannot be written.

Wire, protobuf:
    1 type | 100 + type: payload

Source: influxdb-cluster services/meta/internal/meta.proto and store_fsm.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from google.protobuf.message import Message
from msgspec import Struct

from resources.errors import BadReply, PlanError
from resources.model import NodeID, ShardGroupID, ShardID
from resources.protocol import commands_pb2 as pb
from resources.protocol.influxql import check_name
from resources.protocol.meta import decode_metastore, parse_strictly
from resources.protocol.records import Nested, parse_known, read_record, write_record
from resources.protocol.storable import check_storable
from resources.values import repr_without

_FIRST_PAYLOAD = 100


class Command(Struct, frozen=True):
    """The base of all commands; only the kinds below can be encoded."""

    TYPE: ClassVar[int] = 0
    NESTED: ClassVar[Nested] = {}

    def encode(self) -> bytes:
        """The bytes to send, checked by decoding them.

        Raises:
            UnsafeName: the command would create a name that no server accepts.
            PlanError: a value is out of range, or would damage the cluster.
        """
        if BY_TYPE.get(self.TYPE) is not type(self):
            raise PlanError(f"{type(self).__name__} is not a command")
        self.check()
        message = pb.Command(type=self.TYPE)
        payload: Message = getattr(message, _payload_name(self.TYPE))
        payload.SetInParent()
        write_record(self, payload)
        raw = message.SerializePartialToString()
        if decode_command(raw) != self:
            raise PlanError(f"{type(self).__name__} does not survive being written and read")
        return raw

    def check(self) -> None:
        """Refuse values that a meta node accepts and that damage the cluster."""


class RetentionPolicySpec(Struct, frozen=True):
    """The retention policy in a command."""

    name: str
    duration_ns: int
    """0: no expiry."""
    shard_group_duration_ns: int
    replica_n: int


# --- databases and policies ---------------------------------------------------------------


class CreateDatabase(Command, frozen=True):
    """Creates a database, with `autogen` if no policy is given; keeps an existing one."""

    TYPE = 3
    NESTED = {"policy": RetentionPolicySpec}
    name: str
    policy: RetentionPolicySpec | None = None

    def check(self) -> None:
        check_name("database", self.name)
        if self.policy is not None:
            check_name("retention policy", self.policy.name)


class DropDatabase(Command, frozen=True):
    """Drops the metadata only: the data nodes keep the shards on disk."""

    TYPE = 4
    name: str


class CreateRetentionPolicy(Command, frozen=True):
    """Creates a policy; keeps an equal existing one, and fails if the existing one differs."""

    TYPE = 5
    NESTED = {"policy": RetentionPolicySpec}
    database: str
    policy: RetentionPolicySpec
    default: bool = False

    def check(self) -> None:
        check_name("database", self.database)
        check_name("retention policy", self.policy.name)


class DropRetentionPolicy(Command, frozen=True):
    """Drops the metadata only, as `DropDatabase` does."""

    TYPE = 6
    database: str
    name: str


class UpdateRetentionPolicy(Command, frozen=True):
    """Changes a policy; a field of `None` keeps its value."""

    TYPE = 8
    database: str
    name: str
    new_policy: str | None = None
    duration_ns: int | None = None
    replica_n: int | None = None
    shard_group_duration_ns: int | None = None
    default: bool = False

    def check(self) -> None:
        if self.new_policy is not None:
            check_name("retention policy", self.new_policy)


# --- shard groups and shards --------------------------------------------------------------


class CreateShardGroup(Command, frozen=True):
    """Creates the group that covers an instant; the cluster chooses its shards and owners."""

    TYPE = 9
    database: str
    policy: str
    timestamp_ns: int


class DeleteShardGroup(Command, frozen=True):
    """Marks a group; data nodes delete its files within half an hour."""

    TYPE = 10
    database: str
    policy: str
    group_id: ShardGroupID


class DropShard(Command, frozen=True):
    """Removes a shard from its group; a group without shards counts as deleted."""

    TYPE = 30
    shard_id: ShardID


class TruncateShardGroups(Command, frozen=True):
    """Ends the groups that reach beyond an instant at that instant; writes begin new ones."""

    TYPE = 31
    timestamp_ns: int


class PruneShardGroups(Command, frozen=True):
    """Removes groups that were deleted at least two weeks ago."""

    TYPE = 32


class CopyShardOwner(Command, frozen=True):
    """Adds an owner; only the metadata changes, and the node may be unknown."""

    TYPE = 33
    shard_id: ShardID
    node_id: NodeID


class RemoveShardOwner(Command, frozen=True):
    """Removes an owner; removing the last one removes the shard."""

    TYPE = 34
    shard_id: ShardID
    node_id: NodeID


# --- continuous queries and users ---------------------------------------------------------


class CreateContinuousQuery(Command, frozen=True):
    """`query` is the whole CREATE statement."""

    TYPE = 11
    database: str
    name: str
    query: str


class DropContinuousQuery(Command, frozen=True):
    TYPE = 12
    database: str
    name: str


class CreateUser(Command, frozen=True):
    """`hash` is bcrypt, and a secret."""

    TYPE = 13
    name: str
    hash: str
    admin: bool

    __repr__ = repr_without("hash")


class DropUser(Command, frozen=True):
    TYPE = 14
    name: str


class UpdateUser(Command, frozen=True):
    """Sets another password; `hash` is bcrypt, and a secret."""

    TYPE = 15
    name: str
    hash: str

    __repr__ = repr_without("hash")


class SetPrivilege(Command, frozen=True):
    """A grant: 0 none, 1 read, 2 write, 3 all."""

    TYPE = 16
    user: str
    database: str
    privilege: int


class SetAdminPrivilege(Command, frozen=True):
    TYPE = 18
    user: str
    admin: bool


# --- everything at once -------------------------------------------------------------------


class SetData(Command, frozen=True):
    """Replaces the whole metastore, including changes that other clients made meanwhile.

    `meta` is a serialized `Data`, sent unchanged; the cluster sets term and index.
    """

    TYPE = 17
    meta: bytes

    __repr__ = repr_without("meta")

    def check(self) -> None:
        check_storable(self.meta)


BY_TYPE: Mapping[int, type[Command]] = {
    kind.TYPE: kind
    for kind in (
        CreateDatabase,
        DropDatabase,
        CreateRetentionPolicy,
        DropRetentionPolicy,
        UpdateRetentionPolicy,
        CreateShardGroup,
        DeleteShardGroup,
        CreateContinuousQuery,
        DropContinuousQuery,
        CreateUser,
        DropUser,
        UpdateUser,
        SetPrivilege,
        SetData,
        SetAdminPrivilege,
        DropShard,
        TruncateShardGroups,
        PruneShardGroups,
        CopyShardOwner,
        RemoveShardOwner,
    )
}


def decode_command(raw: bytes) -> Command:
    """Read a command more strictly than a meta node does, so that it can harm none.

    Raises:
        BadReply: the command does not parse, its type is unknown, or its payload is missing,
            of another type, incomplete or has unknown fields; the same holds for SetData's
            metastore.
    """
    message = parse_known(pb.Command, raw, "command")
    kind = BY_TYPE.get(message.type)
    if kind is None:
        raise BadReply(f"command of unknown type {message.type}")
    name = _payload_name(kind.TYPE)
    if {its.name for its, _ in message.ListFields()} != {"type", name}:
        raise BadReply(f"a {kind.__name__} has one payload, its own")
    command = read_record(kind, getattr(message, name))
    if isinstance(command, SetData):
        decode_metastore(command.meta)
    return command


def _payload_name(type_: int) -> str:
    return pb.Command.DESCRIPTOR.fields_by_number[_FIRST_PAYLOAD + type_].name


# --- the reply ----------------------------------------------------------------------------


class Response(Struct, frozen=True):
    """A meta node's reply to a command: an index if it was applied, else an error.

    Wire, protobuf: 1 OK, bool, always false | 2 Error, string | 3 Index, uint64

    Source: influxdb-cluster services/meta/handler.go, serveExec.
    """

    index: int | None = None
    """The metastore's index afterwards, at least the command's own."""
    error: str | None = None

    def encode(self) -> bytes:
        return pb.Response(OK=False, Error=self.error, Index=self.index).SerializeToString()


def decode_response(raw: bytes) -> Response:
    """Read the answer to a command.

    Raises:
        BadReply: the message does not parse, or has neither index nor error.
    """
    message = parse_strictly(pb.Response, raw, "response")
    error = message.Error if message.HasField("Error") else None
    index = message.Index if message.HasField("Index") else None
    if error is None and index is None:
        raise BadReply("response with neither index nor error")
    if not isinstance(error, str | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadReply("response holds text that is not UTF-8")
    return Response(index, error)


def nothing_between(snapshot_index: int, response_index: int) -> bool:
    """Whether certainly no other command came between a snapshot and ours.

    The index of the next command is one more than the snapshot's. A larger one proves nothing,
    since elections and changes of membership use indexes, too.
    """
    return response_index == snapshot_index + 1
