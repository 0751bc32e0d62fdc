"""Commands to the meta nodes of a cluster (POST /execute), in both directions.

A meta node looks at the outside of a command only, writes it to the log that all of them
share, and then applies it. What it cannot apply, such as a payload without a required field,
a missing payload, or a type without a handler, makes every meta node panic, and panic again
at each start. So a command decodes its own bytes strictly before it gives them away, and
types that are not here cannot be written.

Wire, protobuf:
    1 type | 100 + type: payload

Source: influxdb-cluster services/meta/internal/meta.proto and store_fsm.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from google.protobuf.message import Message

from resources.errors import BadReply, PlanError
from resources.model import NodeID, ShardGroupID, ShardID
from resources.protocol import commands_pb2 as pb
from resources.protocol.influxql import check_name
from resources.protocol.meta import decode_metastore, parse_strictly
from resources.protocol.records import OF, parse_known, read_record, write_record
from resources.protocol.storable import check_storable

_FIRST_PAYLOAD = 100


@dataclass(frozen=True, slots=True)
class Command:
    """What all commands share; only the kinds below can be encoded."""

    TYPE: ClassVar[int] = 0

    def encode(self) -> bytes:
        """The bytes to send, decoded once already.

        Raises:
            UnsafeName: it would create something under a name that no server takes.
            PlanError: a value is out of range, or the cluster would not survive it.
        """
        if BY_TYPE.get(self.TYPE) is not type(self):
            raise PlanError(f"{type(self).__name__} is no command")
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
        """Refuse what a meta node would take and the cluster regret."""


@dataclass(frozen=True, slots=True)
class RetentionPolicySpec:
    """A policy as a command describes it."""

    name: str
    duration_ns: int
    """0: for ever."""
    shard_group_duration_ns: int
    replica_n: int


# --- databases and policies ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateDatabase(Command):
    """Without a policy the cluster makes `autogen`; a database that is there stays as it is."""

    TYPE = 3
    name: str
    policy: RetentionPolicySpec | None = field(default=None, metadata={OF: RetentionPolicySpec})

    def check(self) -> None:
        check_name("database", self.name)
        if self.policy is not None:
            check_name("retention policy", self.policy.name)


@dataclass(frozen=True, slots=True)
class DropDatabase(Command):
    """Only the metadata goes: the data nodes keep the shards on disk."""

    TYPE = 4
    name: str


@dataclass(frozen=True, slots=True)
class CreateRetentionPolicy(Command):
    """One that is there and equal is left alone; one that differs is an error."""

    TYPE = 5
    database: str
    policy: RetentionPolicySpec = field(metadata={OF: RetentionPolicySpec})
    default: bool = False

    def check(self) -> None:
        check_name("database", self.database)
        check_name("retention policy", self.policy.name)


@dataclass(frozen=True, slots=True)
class DropRetentionPolicy(Command):
    """Only the metadata goes, as with a database."""

    TYPE = 6
    database: str
    name: str


@dataclass(frozen=True, slots=True)
class UpdateRetentionPolicy(Command):
    """What is `None` stays."""

    TYPE = 8
    database: str
    name: str
    new_name: str | None = None
    duration_ns: int | None = None
    replica_n: int | None = None
    shard_group_duration_ns: int | None = None
    default: bool = False

    def check(self) -> None:
        if self.new_name is not None:
            check_name("retention policy", self.new_name)


# --- shard groups and shards --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateShardGroup(Command):
    """The group that covers an instant; the cluster decides its shards and their owners."""

    TYPE = 9
    database: str
    policy: str
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class DeleteShardGroup(Command):
    """Marks a group; data nodes delete its files within half an hour."""

    TYPE = 10
    database: str
    policy: str
    group_id: ShardGroupID


@dataclass(frozen=True, slots=True)
class DropShard(Command):
    """Takes a shard out of its group; a group without shards counts as deleted."""

    TYPE = 30
    shard_id: ShardID


@dataclass(frozen=True, slots=True)
class TruncateShardGroups(Command):
    """Ends the groups that reach beyond an instant there, so that writes begin new ones."""

    TYPE = 31
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class PruneShardGroups(Command):
    """Forgets groups that were deleted two weeks ago."""

    TYPE = 32


@dataclass(frozen=True, slots=True)
class CopyShardOwner(Command):
    """Adds an owner; only the metadata changes, and whether the node exists is not checked."""

    TYPE = 33
    shard_id: ShardID
    node_id: NodeID


@dataclass(frozen=True, slots=True)
class RemoveShardOwner(Command):
    """Takes an owner away; without its last owner a shard is gone."""

    TYPE = 34
    shard_id: ShardID
    node_id: NodeID


# --- continuous queries and users ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateContinuousQuery(Command):
    """`query` is the whole CREATE statement."""

    TYPE = 11
    database: str
    name: str
    query: str


@dataclass(frozen=True, slots=True)
class DropContinuousQuery(Command):
    TYPE = 12
    database: str
    name: str


@dataclass(frozen=True, slots=True)
class CreateUser(Command):
    """`hash` is bcrypt, and a secret."""

    TYPE = 13
    name: str
    hash: str = field(repr=False)
    admin: bool


@dataclass(frozen=True, slots=True)
class DropUser(Command):
    TYPE = 14
    name: str


@dataclass(frozen=True, slots=True)
class UpdateUser(Command):
    """Sets another password; `hash` is bcrypt, and a secret."""

    TYPE = 15
    name: str
    hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SetPrivilege(Command):
    """A grant: 0 none, 1 read, 2 write, 3 all."""

    TYPE = 16
    user: str
    database: str
    privilege: int


@dataclass(frozen=True, slots=True)
class SetAdminPrivilege(Command):
    TYPE = 18
    user: str
    admin: bool


# --- everything at once -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetData(Command):
    """Replaces the whole metastore, what others changed meanwhile included.

    `meta` is a serialized `Data`, sent as it is; term and index become the command's own.
    """

    TYPE = 17
    meta: bytes = field(repr=False)

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
    """Read a command more strictly than a meta node does, so that none is harmed by it.

    Raises:
        BadReply: it does not parse, its type is not one of ours, its payload is missing,
            another's, incomplete or more than complete; SetData's metastore alike.
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


@dataclass(frozen=True, slots=True)
class Response:
    """What a meta node says to a command: an index if it was applied, else an error.

    Wire, protobuf: 1 OK, bool, always false | 2 Error, string | 3 Index, uint64

    Source: influxdb-cluster services/meta/handler.go, serveExec.
    """

    index: int | None = None
    """The metastore's index afterwards, not less than the command's own."""
    error: str | None = None

    def encode(self) -> bytes:
        return pb.Response(OK=False, Error=self.error, Index=self.index).SerializeToString()


def decode_response(raw: bytes) -> Response:
    """Read the answer to a command.

    Raises:
        BadReply: no such message, or neither index nor error in it.
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
    """Whether it is certain that no other command came between a snapshot and ours.

    The next command's index is one more than the snapshot's. A larger one proves nothing:
    elections and changes of membership take indexes too.
    """
    return response_index == snapshot_index + 1
