"""WHERE: a time range, and conditions on tags and fields.

Source: influxql ast.go, ConditionExpr, TimeRange, EvalBool.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from msgspec import Struct

from resources.embedded.influxql.results import Cell
from resources.embedded.influxql.statements import (
    Binary,
    Constant,
    Duration,
    Expression,
    Now,
    Pattern,
    Reference,
)
from resources.embedded.server_errors import StatementFailed
from resources.embedded.shards.line_protocol import MAX_TIME_NS, MIN_TIME_NS
from resources.errors import BadReply
from resources.protocol.times import parse_time

_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?))?(Z?)")


class Unknown:
    """The value of a field while only the series is known."""


UNKNOWN = Unknown()
Lookup: TypeAlias = Callable[[str], "Cell | Unknown"]


class Where(Struct, frozen=True):
    """A condition, split into a time range and the rest."""

    min_time_ns: int = MIN_TIME_NS
    max_time_ns: int = MAX_TIME_NS
    """Both inclusive."""
    rest: Expression | None = None

    @property
    def from_ns(self) -> int:
        """The time of an aggregate without GROUP BY time()."""
        return self.min_time_ns if self.min_time_ns > MIN_TIME_NS else 0

    @property
    def is_timed(self) -> bool:
        return (self.min_time_ns, self.max_time_ns) != (MIN_TIME_NS, MAX_TIME_NS)


def where(condition: Expression | None, now_ns: int) -> Where:
    """Split the times from a condition; as in the server, OR between times is not a union.

    Raises:
        StatementFailed: the expression is not a condition, or compares time with another type.
    """
    if condition is None:
        return Where()
    ranges: list[tuple[int, int]] = []
    rest = _without_times(condition, now_ns, ranges)
    low = max([MIN_TIME_NS, *(first for first, _ in ranges)])
    high = min([MAX_TIME_NS, *(last for _, last in ranges)])
    if isinstance(rest, Reference | Constant) and not (
        isinstance(rest, Constant) and isinstance(rest.value, bool)
    ):
        raise StatementFailed(f"invalid condition expression: {_described(rest)}")
    # Both are limited to int64.
    return Where(min(low, MAX_TIME_NS + 1), max(high, MIN_TIME_NS - 1), rest)


def names(expression: Expression | None) -> set[str]:
    """The fields and tags in an expression."""
    match expression:
        case Reference(name):
            return {name}
        case Binary(_, left, right):
            return names(left) | names(right)
        case _:
            return set()


def holds(expression: Expression | None, lookup: Lookup) -> bool | None:
    """Whether a condition holds; None: it depends on fields that are not known yet.

    Raises:
        StatementFailed: the expression is not a condition.
    """
    if expression is None:
        return True
    value = _value(expression, lookup)
    return None if isinstance(value, Unknown) else value is True


def _value(expression: Expression, lookup: Lookup) -> Cell | Unknown:
    match expression:
        case Reference(name):
            return lookup(name)
        case Constant(value):
            return value
        case Duration(ns):
            return ns
        case Binary(("AND" | "OR") as word, left, right):
            return _both(word, _value(left, lookup), _value(right, lookup))
        case Binary(sign, left, Pattern(regex)):
            text = _value(left, lookup)
            if isinstance(text, Unknown):
                return text
            return isinstance(text, str) and (regex.search(text) is not None) == (sign == "=~")
        case Binary(sign, left, right):
            return _compared(sign, _value(left, lookup), _value(right, lookup))
        case _:
            raise StatementFailed(f"invalid condition expression: {_described(expression)}")


def _both(word: str, left: Cell | Unknown, right: Cell | Unknown) -> bool | Unknown:
    decisive = word == "OR"
    if left is decisive or right is decisive:
        return decisive
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return UNKNOWN
    return not decisive and left is True and right is True


def _compared(sign: str, left: Cell | Unknown, right: Cell | Unknown) -> Cell | Unknown:
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return UNKNOWN
    if left is None or right is None:
        return False if sign in _TURNED else None
    if _kind(left) != _kind(right):
        return False if sign in _TURNED else None
    if sign in ("=", "!="):
        return (left == right) == (sign == "=")
    if sign in _ORDERED:
        return not isinstance(left, bool) and _ORDERED[sign](left, right)
    if isinstance(left, str | bool) or isinstance(right, str | bool):
        return None
    match sign:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right if right else 0.0


def _kind(value: Cell) -> str:
    return type(value).__name__ if isinstance(value, bool | str) else "number"


def _without_times(
    expression: Expression, now_ns: int, ranges: list[tuple[int, int]]
) -> Expression | None:
    match expression:
        case Binary(("AND" | "OR") as word, left, right):
            kept = [_without_times(side, now_ns, ranges) for side in (left, right)]
            one, other = kept
            if one is None or other is None:
                return one if other is None else other
            return Binary(word, one, other)
        case Binary(sign, Reference(name), right) if name.lower() == "time":
            ranges.append(_range(sign, _instant(right, now_ns)))
            return None
        case Binary(sign, left, Reference(name)) if name.lower() == "time":
            ranges.append(_range(_TURNED.get(sign, sign), _instant(left, now_ns)))
            return None
        case _:
            return expression


def _range(sign: str, time_ns: int) -> tuple[int, int]:
    match sign:
        case "=":
            return time_ns, time_ns
        case "<":
            return MIN_TIME_NS, time_ns - 1
        case "<=":
            return MIN_TIME_NS, time_ns
        case ">":
            return time_ns + 1, MAX_TIME_NS
        case ">=":
            return time_ns, MAX_TIME_NS
        case _:
            raise StatementFailed(f"invalid time comparison operator: {sign}")


def _instant(expression: Expression, now_ns: int) -> int:
    match expression:
        case Now():
            return now_ns
        case Duration(ns):
            return ns
        case Constant(bool()):
            pass
        case Constant(int() as number):
            return number
        case Constant(float() as number) if math.isfinite(number):
            return int(number)
        case Constant(str() as text):
            return _parsed(text)
        case Binary("+", left, right):
            return _instant(left, now_ns) + _instant(right, now_ns)
        case Binary("-", left, right):
            return _instant(left, now_ns) - _instant(right, now_ns)
        case _:
            pass
    raise StatementFailed(
        f"invalid operation: time and {_described(expression)} are not compatible"
    )


def _parsed(text: str) -> int:
    match = _DATE.fullmatch(text)
    try:
        if match is not None:
            time_ns = parse_time(f"{match[1]}T{match[2] or '00:00:00'}Z", "a time")
        else:
            time_ns = parse_time(text, "a time")
    except BadReply:
        time_ns = None
    if time_ns is None:
        raise StatementFailed(
            "invalid operation: time and *influxql.StringLiteral are not compatible"
        )
    return time_ns


def _described(expression: Expression) -> str:
    match expression:
        case Reference(name):
            return name
        case Constant(value):
            return str(value)
        case _:
            return type(expression).__name__
