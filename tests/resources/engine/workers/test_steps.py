"""Batches that are steps: their names and sizes."""

from __future__ import annotations

import pytest

from resources.engine.workers.steps import BatchStep, batch_steps, parse_step
from resources.errors import UsageError

KEY = "0123456789abcdef"


def test_a_step_is_named_after_its_batch_and_its_run() -> None:
    first, second = batch_steps({"b000000n1": [3, 4], "b000001n0": [5]}, KEY, int)
    assert first == BatchStep(f"b000000n1_{KEY}", 1, 2, 7)
    assert second == BatchStep(f"b000001n0_{KEY}", 0, 1, 5)
    assert parse_step(first.name) == ("b000000n1", KEY)


@pytest.mark.parametrize(
    "name",
    ["", "b000000n1", f"b000000n1_{KEY}0", f"../n1_{KEY}", f"b0n1_{KEY}\n", "b0n1_" + "g" * 16],
)
def test_nothing_else_names_a_step(name: str) -> None:
    with pytest.raises(UsageError, match="is no batch"):
        parse_step(name)
