"""The output of `show` and `show-shards`, as pure functions: the original's layout, byte for byte.

It differs in two points: control characters and line breaks are escaped, and the shards of a
single server are listed too.

Source: InfluxDB Enterprise docs, influxd-ctl show and show-shards; influxdb-cluster 1.8.11's
influxd-ctl, observed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pipelines.ctl.render import printable
from resources.errors import counted
from resources.model import Metastore
from resources.protocol.meta_api import ClusterMembers, OwnerStatus, ShardStatus
from resources.protocol.times import format_time

MEMBER_HEAD = ("ID", "TCP Address", "Version")
SHARD_HEAD = (
    "ID",
    "Database",
    "Retention Policy",
    "Desired Replicas",
    "Shard Group",
    "Start",
    "End",
    "Expires",
    "Owners",
)
TAB = 8
GAP = 2
"""The least number of columns between the widest cell and the next one."""

_NS_PER_S = 1_000_000_000


def render_members(members: ClusterMembers) -> str:
    """Data nodes by TCP address, then meta nodes by HTTP address, each in the order given.

    The version comes by gossip. It is empty while a meta node has no recent news of a node: later
    than half a minute after the node went down, and now and then while it is up.
    """
    data = [(node.id, node.tcp_addr, node.version) for node in members.data]
    meta = [(node.id, node.addr, node.version) for node in members.meta]
    return _nodes("Data Nodes", data) + "\n" + _nodes("Meta Nodes", meta)


def render_shards(shards: Iterable[ShardStatus], *, verbose: bool) -> str:
    """One line for each shard, in the order given.

    Times are cut to the second, except the end of a truncated shard group: it is the time of
    truncation, to the nanosecond, with a star. A shard without a group has no times.
    """
    owner = _owner_and_copy if verbose else _owner
    rows = [
        (
            str(shard.id),
            _cell(shard.database),
            _cell(shard.policy),
            str(shard.replica_n),
            str(shard.group_id),
            _to_the_second(shard.start_time_ns) if shard.group_id else "",
            _end(shard) if shard.group_id else "",
            "" if shard.expire_time_ns is None else _to_the_second(shard.expire_time_ns),
            "[" + " ".join(owner(each) for each in shard.owners) + "]",
        )
        for shard in shards
    ]
    return _title("Shards") + _aligned((SHARD_HEAD, *rows), _spaces)


def shards_of(metastore: Metastore) -> tuple[ShardStatus, ...]:
    """A single server's shards in the form of a meta node's list, without owners.

    Unlike a meta node's, they may have expired: the server removes such a shard at its next
    retention check.
    """
    policies = {
        (db.name, rp.name): rp for db in metastore.databases for rp in db.retention_policies
    }
    shards: list[ShardStatus] = []
    for place in metastore.places():
        policy, group = policies[place.database, place.policy], place.group
        shards.append(
            ShardStatus(
                id=place.shard_id,
                database=place.database,
                policy=place.policy,
                replica_n=policy.replica_n,
                group_id=group.id,
                start_time_ns=group.start_time_ns,
                end_time_ns=group.end_time_ns,
                expire_time_ns=group.end_time_ns + policy.duration_ns
                if policy.duration_ns
                else None,
                truncated_at_ns=group.truncated_at_ns,
                owners=(),
            )
        )
    return tuple(shards)


def render_single(address: str, metastore: Metastore) -> str:
    n_shards = sum(1 for _ in metastore.places())
    return (
        f"{_cell(address)} is a single server and no member of a cluster; show-shards lists its "
        f"{counted(n_shards, 'shard')}\n"
    )


def _nodes(title: str, nodes: Iterable[tuple[int, str, str]]) -> str:
    rows = ((str(node_id), _cell(addr), _cell(version)) for node_id, addr, version in nodes)
    return _title(title) + _aligned((MEMBER_HEAD, *rows), _tabs)


def _title(text: str) -> str:
    return f"{text}\n==========\n"


def _aligned(lines: Sequence[Sequence[str]], fill: Callable[[str, int], str]) -> str:
    """Lines with aligned columns; the last column has no width.

    A character counts as one column, whatever its width on a terminal.
    """
    widths = [max(map(len, column)) + GAP for column in zip(*lines, strict=True)][:-1]
    return "".join("".join(map(fill, line[:-1], widths)) + line[-1] + "\n" for line in lines)


def _spaces(cell: str, width: int) -> str:
    return cell.ljust(width)


def _tabs(cell: str, width: int) -> str:
    """Fill with tabs only, up to the first tab stop that is wide enough."""
    stops = -(-width // TAB) * TAB - len(cell)
    return cell + "\t" * -(-stops // TAB)


def _end(shard: ShardStatus) -> str:
    if shard.truncated_at_ns is None:
        return _to_the_second(shard.end_time_ns)
    return format_time(shard.truncated_at_ns) + "*"


def _to_the_second(time_ns: int) -> str:
    return format_time(time_ns // _NS_PER_S * _NS_PER_S)


def _owner(owner: OwnerStatus) -> str:
    return f"{{ID:{owner.id} TCPAddr:{_cell(owner.tcp_addr)}}}"


def _owner_and_copy(owner: OwnerStatus) -> str:
    return (
        f"{{ID:{owner.id} TCPAddr:{_cell(owner.tcp_addr)} State:{_cell(owner.state)} "
        f"LastModified:{format_time(owner.last_modified_ns)} Size:{owner.size_bytes} "
        f"Err:{_cell(owner.err) or 'nil'}}}"
    )


def _cell(text: str) -> str:
    """Text without line breaks."""
    return text if text.isprintable() else printable(text).replace("\n", "\\n")
