"""Turn an evaluation into the result of an executed check."""

from collections.abc import Sequence

import dagster as dg


def result_of(found: Sequence[dg.AssetCheckEvaluation], check: str) -> dg.AssetCheckResult:
    [mine] = [one for one in found if one.check_name == check]
    return dg.AssetCheckResult(passed=mine.passed, severity=mine.severity, metadata=mine.metadata)
