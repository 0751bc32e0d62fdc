"""The aggregates count, sum, mean, min, max, first and last of columns of points.

Source: influxdb query/functions.gen.go, query/call_iterator.go.
"""

from __future__ import annotations

import numpy as np

from resources.embedded.influxql.results import Cell
from resources.embedded.server_errors import StatementFailed
from resources.tsm.arrays import Ints
from resources.tsm.blocks import Values
from resources.tsm.layout import BlockType

SELECTORS = frozenset(("first", "last", "min", "max"))
FUNCTIONS = SELECTORS | {"count", "sum", "mean"}

_TYPES = {
    "count": frozenset(BlockType),
    "first": frozenset(BlockType),
    "last": frozenset(BlockType),
    "min": frozenset(BlockType) - {BlockType.STRING},
    "max": frozenset(BlockType) - {BlockType.STRING},
    "sum": frozenset(BlockType) - {BlockType.STRING, BlockType.BOOLEAN},
    "mean": frozenset(BlockType) - {BlockType.STRING, BlockType.BOOLEAN},
}


def takes(function: str, kind: BlockType) -> bool:
    """Whether a function accepts values of a type."""
    return kind in _TYPES[function]


def check(function: str, kind: BlockType) -> None:
    """Require that a function accepts values of a type.

    Raises:
        StatementFailed: the function does not accept them.
    """
    if not takes(function, kind):
        raise StatementFailed(
            f"unsupported {function} iterator type: *query.{kind.name.lower()}InterruptIterator"
        )


def cell(values: Values, row: int) -> Cell:
    """One value as a Python value; strings that are not UTF-8 get surrogate escapes."""
    if isinstance(values, list):
        return values[row].decode("utf-8", "surrogateescape")
    found: Cell = values[row].item()
    return found


def aggregate(function: str, times: Ints, values: Values) -> tuple[Cell, int]:
    """The value, and the row of the selected point; row 0 if the function selects none.

    Args:
        function: a member of FUNCTIONS.
        times: ascending, equal ones allowed; at least one.
        values: one per time.
    """
    if function == "count":
        return len(times), 0
    if function in ("first", "last"):
        row = _outermost(times, values, last=function == "last")
        return cell(values, row), row
    if isinstance(values, list):
        raise StatementFailed(f"unsupported {function} of strings")
    if function in ("min", "max"):
        # Of equal values both select the first, which is the earliest.
        row = int(values.argmin() if function == "min" else values.argmax())
        return cell(values, row), row
    # np.sum would add in another order than the server.
    total = np.cumsum(values)[-1].item()
    return (total if function == "sum" else total / len(times)), 0


def _outermost(times: Ints, values: Values, *, last: bool) -> int:
    """The row of the first or last time; of several rows with it, that of the largest value."""
    n_equal = int(np.count_nonzero(times == times[-1 if last else 0]))
    candidates = range(len(times) - n_equal, len(times)) if last else range(n_equal)
    if isinstance(values, list) or values.dtype != np.bool_ or last:
        return max(candidates, key=lambda row: values[row])
    return min(candidates, key=lambda row: values[row])
