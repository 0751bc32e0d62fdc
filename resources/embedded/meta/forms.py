"""Reads requests to a meta node and checks them against its metastore; a refusal is a text.

Source: influxdb-cluster services/meta/handler.go: serveExec, serveUser, serveCopyShard,
serveRemoveShard, serveTruncateShards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.message import DecodeError
from msgspec import Struct

from resources.embedded.meta.passwords import hashed
from resources.errors import BadReply, UsageError
from resources.model import Metastore, NodeID, NodeInfo, ShardPlace
from resources.protocol import commands, commands_pb2
from resources.protocol.durations import parse_duration
from resources.protocol.snapshotter import MAX_UINT64
from resources.protocol.strict_json import decode_json, is_object

_USER_ACTIONS = ("create", "delete", "change-password", "add-permissions", "remove-permissions")


def outer_objection(raw: bytes) -> str:
    """The original's error for a command before it is in the log; it checks little."""
    message = commands_pb2.Command()
    try:
        message.ParseFromString(raw)
    except DecodeError:
        # In the original the payloads are extensions, which its parser takes as bytes.
        if raw[:1] == b"\x08" and len(raw) > 1 and raw[1] < 0x80 and _framed(raw[2:]):
            return ""
        return "unexpected EOF"
    return "" if message.HasField("type") else 'proto: required field "type" not set'


def _framed(raw: bytes) -> bool:
    """Whether bytes are one length-delimited field with any content."""
    at = 0
    numbers: list[int] = []
    while at < len(raw) and len(numbers) < 2:
        value = shift = 0
        while at < len(raw) and shift < 64:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append(value)
    return len(numbers) == 2 and numbers[0] & 7 == 2 and len(raw) - at == numbers[1]


class ShardMove(Struct, frozen=True):
    """A shard's replica on a node."""

    place: ShardPlace
    source: str
    source_id: NodeID


class ShardCopy(ShardMove, frozen=True):
    """A replica, and the node that shall get one, too."""

    target: str
    target_id: NodeID


def shard_copy(form: Mapping[str, str], store: Metastore) -> ShardCopy | str:
    source, target = form.get("src", ""), form.get("dest", "")
    for name, value in (("src", source), ("dest", target)):
        if not value:
            return f"'{name}' is a required parameter"
    if source == target:
        return "dest and src are the same"
    giver, taker = _data_node(store, source), _data_node(store, target)
    if giver is None or taker is None:
        return f'unable to find node for "{source if giver is None else target}"'
    place = _shard(form.get("shard", ""), store)
    if isinstance(place, str):
        return place
    if all(owner.node_id != giver.id for owner in place.shard.owners):
        return f'"{source}" is not an owner of shard {place.shard_id}'
    return ShardCopy(place, source, giver.id, target, taker.id)


def shard_removal(form: Mapping[str, str], store: Metastore) -> ShardMove | str:
    source = form.get("src", "")
    if not source:
        return "'src' is a required parameter"
    node = _data_node(store, source)
    if node is None:
        return f'unable to find node for "{source}"'
    place = _shard(form.get("shard", ""), store)
    return place if isinstance(place, str) else ShardMove(place, source, node.id)


def delay_ns(text: str) -> int | str:
    negative = text.startswith("-")
    try:
        return parse_duration(text.lstrip("-+")) * (-1 if negative else 1)
    except UsageError:
        return f'time: invalid duration "{text}"'


def user_change(raw: bytes, store: Metastore) -> Callable[[], commands.Command | None] | str:
    """A function that makes the command later, since hashing takes time; or an error text."""
    try:
        reply = decode_json(raw, "the request")
    except BadReply as error:
        return error.what
    if not is_object(reply):
        return "the request is not a JSON object"
    action, user = reply.get("action"), reply.get("user")
    if action not in _USER_ACTIONS:
        return f"invalid action: {action or ''}"
    if not is_object(user):
        return "invalid user"
    name, password = user.get("name"), user.get("password")
    if not isinstance(name, str) or not name:
        return "username required"
    text = password if isinstance(password, str) else ""
    known = any(present.name == name for present in store.users)
    if action == "create":
        if not text:
            return "password or hash required"
        if known:
            return "user already exists"
        return lambda: commands.CreateUser(name, hashed(text), admin=True)
    if action in ("delete", "change-password") and not known:
        return "user not found"
    if action == "delete":
        return lambda: commands.DropUser(name)
    if action == "change-password":
        if not text:
            return "password or hash required"
        return lambda: commands.UpdateUser(name, hashed(text))
    return lambda: None


def _data_node(store: Metastore, tcp_addr: str) -> NodeInfo | None:
    return next((node for node in store.data_nodes if node.tcp_addr == tcp_addr), None)


def _shard(text: str, store: Metastore) -> ShardPlace | str:
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_UINT64:
        return f"error converting shard to int: {text}"
    if int(text) == 0:
        return "invalid parameter value for 'shard': shard id must be greater than 0"
    for place in store.places():
        if place.shard_id == int(text):
            return place
    return f"shard not found for id: {text}"
