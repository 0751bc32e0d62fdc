"""An executed check returns what was evaluated for it, out of all that a look evaluates."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.checks.result import result_of

KEY = dg.AssetKey("a")
FOUND = [
    dg.AssetCheckEvaluation(asset_key=KEY, check_name="one", passed=True, metadata={"n": 1}),
    dg.AssetCheckEvaluation(
        asset_key=KEY,
        check_name="two",
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"n": 2},
    ),
]


def test_the_evaluation_of_that_name_is_returned_as_it_is() -> None:
    result = result_of(FOUND, "two")
    assert not result.passed
    assert result.severity is dg.AssetCheckSeverity.WARN
    assert result.metadata["n"].value == 2
    assert result_of(FOUND, "one").passed


@pytest.mark.parametrize("found", [[], FOUND + FOUND])
def test_a_check_that_was_not_evaluated_once_is_a_bug(
    found: list[dg.AssetCheckEvaluation],
) -> None:
    with pytest.raises(ValueError, match="unpack"):
        result_of(found, "one")
