"""A part of `make memory`: a shard some hundred times as large takes no more memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.memory import MAX_BYTES, backup_cost


@pytest.mark.fault(25, 28)
def test_the_size_of_a_shard_costs_no_memory(tmp_path: Path) -> None:
    small, large = (backup_cost(tmp_path, size) for size in (2 << 20, 200 << 20))
    assert large.shard_bytes > 90 * small.shard_bytes
    assert large.peak_bytes < small.peak_bytes + MAX_BYTES, (small, large)
