"""A receipt proves an archive if every replica was read back, and if its checksum matches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resources.engine.catalog.restore_proofs import RestoreProof, add_proofs, restore_proofs
from resources.errors import BadReply
from resources.repository.formats.self_checksum import BLANK, KEY, encode_with_checksum
from resources.repository.repository import BackupRepository


def receipt(*shards: dict[str, Any], finished_at: int = 5) -> bytes:
    target = {"kind": "server", "address": "h:8088", "version": "", "clusterID": 1}
    return encode_with_checksum(
        {"format": 1, "finishedAt": finished_at, "target": target, "shards": [*shards], KEY: BLANK}
    )


def shard(sha256: str | None, *read_back: str) -> dict[str, Any]:
    return {"sha256": sha256, "shardID": 1, "copies": [{"readBack": how} for how in read_back]}


def proofs(*receipts: bytes) -> dict[str, RestoreProof]:
    found: dict[str, RestoreProof] = {}
    for raw in receipts:
        add_proofs(found, raw, "a receipt")
    return found


@pytest.mark.parametrize(
    ("read_back", "is_proof"),
    [
        (["identical"], True),
        (["identical", "same points"], True),
        (["identical", "not read back"], False),
        (["something new"], False),
        ([], False),
    ],
)
def test_every_replica_must_have_been_read_back(read_back: list[str], is_proof: bool) -> None:
    assert bool(proofs(receipt(shard("a", *read_back)))) == is_proof


def test_the_newest_restore_counts_and_archives_of_other_tools_have_no_digest() -> None:
    old, new = (receipt(shard("a", "identical"), finished_at=at) for at in (5, 6))
    assert proofs(old, new)["a"].finished_ns == proofs(new, old)["a"].finished_ns == 6
    assert not proofs(receipt(shard(None, "identical")))


def test_a_receipt_that_was_changed_proves_nothing(tmp_path: Path) -> None:
    raw = receipt(shard("a", "identical"))
    assert not proofs(raw.replace(b'"a"', b'"b"'))
    with pytest.raises(BadReply, match="shards"):
        proofs(encode_with_checksum({"finishedAt": 1, "target": {"address": "h"}, KEY: BLANK}))
    (tmp_path / "20261122T095100Z.receipt.json").write_bytes(raw)
    (tmp_path / "20261122T095101Z.receipt.json").write_bytes(raw[:-9])
    (tmp_path / "notes.receipt.json").write_bytes(receipt(shard("c", "identical")))
    assert restore_proofs(BackupRepository.open(tmp_path)).keys() == {"a"}
