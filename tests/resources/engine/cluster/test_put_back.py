"""What others changed in a metastore is done once more in one that has lost it."""

from __future__ import annotations

from msgspec.structs import replace

from resources.engine.cluster.put_back import put_back, without_databases
from resources.model import DatabaseInfo, Metastore, NodeID, NodeInfo, UserInfo, UserPrivilege
from resources.protocol import meta_pb2 as pb
from resources.protocol.comparing import comparable
from resources.protocol.meta import decode_metastore, encode_metastore

META = (NodeInfo(NodeID(1), "meta-1:8091", "meta-1:8089"),)
DATA = (NodeInfo(NodeID(2), "data-1:8086", "data-1:8088"),)
ANN, BOB = (UserInfo(name, f"hash of {name}", admin=False) for name in ("ann", "bob"))
HOME, OURS, THEIRS = (DatabaseInfo(name, "rp") for name in ("home", "ours", "theirs"))
BASE = Metastore(2, 50, 8, (HOME,), (ANN,), DATA, META, 2, 20, 40)
NOW = replace(BASE, index=53, databases=(HOME, OURS), max_shard_id=140, max_shard_group_id=120)


def made(theirs: Metastore, now: Metastore = NOW) -> tuple[Metastore, set[str], set[str]]:
    back = put_back(encode_metastore(BASE), encode_metastore(theirs), encode_metastore(now))
    return decode_metastore(back.meta), set(back.names), set(back.conflicts)


def test_what_they_created_dropped_and_changed_is_so_again_beside_ours():
    changed = replace(ANN, hash="another")
    theirs = replace(BASE, databases=(THEIRS,), users=(changed, BOB), max_shard_id=41)
    result, names, conflicts = made(theirs)
    assert set(result.databases) == {OURS, THEIRS}
    assert result.users == (changed, BOB)
    assert (result.max_shard_id, result.max_shard_group_id) == (140, 120)
    assert names == {"database 'theirs'", "database 'home'", "user 'ann'", "user 'bob'"}
    assert not conflicts


def test_nodes_that_came_are_there_again():
    more = (*DATA, NodeInfo(NodeID(3), "data-2:8086", "data-2:8088"))
    result, names, _ = made(replace(BASE, data_nodes=more, max_node_id=3))
    assert (result.data_nodes, result.max_node_id, names) == (more, 3, {"data node 3"})


def test_what_is_so_already_is_not_changed_again():
    assert made(BASE)[0] == NOW
    there = replace(NOW, databases=(HOME, OURS, THEIRS))
    assert made(replace(BASE, databases=(HOME, THEIRS)), there) == (there, set(), set())


def test_what_changed_on_both_sides_stays_as_it_is_now_and_is_named():
    same = replace(HOME, default_retention_policy="other")
    now = replace(NOW, databases=(replace(HOME, default_retention_policy="third"), OURS))
    result, names, conflicts = made(replace(BASE, databases=(same,)), now)
    assert (result, names, conflicts) == (now, set(), {"database 'home'"})
    ours = replace(OURS, default_retention_policy="hers")
    assert made(replace(BASE, databases=(HOME, ours)))[2] == {"database 'ours'"}


def test_fields_that_we_do_not_know_are_kept():
    unknown = pb.Data.FromString(encode_metastore(replace(BASE, databases=(HOME, THEIRS))))
    raw = unknown.SerializeToString() + b"\xa2\x06\x03abc"  # field 100
    back = put_back(encode_metastore(BASE), raw, encode_metastore(NOW) + b"\xa2\x06\x03xyz")
    assert b"\xa2\x06\x03xyz" in back.meta


def test_ours_can_be_taken_out_and_all_else_stays():
    assert decode_metastore(without_databases(encode_metastore(NOW), ["ours"])) == replace(
        NOW, databases=(HOME,)
    )


def test_metastores_are_compared_by_what_they_say():
    grants = (UserPrivilege("a", 1), UserPrivilege("b", 2))
    one, other = (
        encode_metastore(replace(BASE, users=(replace(ANN, privileges=order),)))
        for order in (grants, grants[::-1])
    )
    assert one != other
    assert comparable(one) == comparable(other)
    assert comparable(one) != comparable(one + b"\xa2\x06\x03abc")
    later = encode_metastore(replace(BASE, index=51))
    assert comparable(later) != comparable(encode_metastore(BASE))
    assert comparable(later, timeless=True) == comparable(encode_metastore(BASE), timeless=True)
