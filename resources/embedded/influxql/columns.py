"""Resolves the columns of a SELECT for known measurements: wildcards, names, types.

Source: influxql ast.go, RewriteFields, ColumnNames; influxdb query/compile.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from resources.embedded.influxql import aggregates
from resources.embedded.influxql.data import Schema
from resources.embedded.influxql.statements import Call, Column, Reference, Select, Wildcard
from resources.embedded.server_errors import StatementFailed


class Output(Struct, frozen=True):
    """One column of the result."""

    name: str
    of: Literal["field", "tag", "nothing"]
    key: str
    """The field or tag."""
    function: str = ""
    """The name of its aggregate."""


def outputs(select: Select, schemas: Sequence[Schema], dimensions: Iterable[str]) -> list[Output]:
    """The columns after `time`.

    Raises:
        StatementFailed: a function is unknown, or aggregates are mixed with other columns.
    """
    grouped = frozenset(dimensions)
    found: list[tuple[Output, bool]] = []
    for column in select.columns:
        found += [(output, bool(column.alias)) for output in _expanded(column, schemas, grouped)]
    calls = [output for output, _ in found if output.function]
    one_selector = len(calls) == 1 and calls[0].function in aggregates.SELECTORS
    if calls and len(calls) < len(found) and not one_selector:
        raise StatementFailed("mixing aggregate and non-aggregate queries is not supported")
    return _named(found)


def _expanded(column: Column, schemas: Sequence[Schema], grouped: frozenset[str]) -> list[Output]:
    match column.what:
        case Call(function, argument):
            if function not in aggregates.FUNCTIONS:
                raise StatementFailed(f"undefined function {function}()")
            return _calls(column.alias or function, function, argument, schemas)
        case Reference("time"):
            return []
        case Reference(name):
            return [Output(column.alias or name, _what(name, schemas), name)]
        case Wildcard(of):
            return _all(of, schemas, grouped)


def _what(name: str, schemas: Sequence[Schema]) -> Literal["field", "tag", "nothing"]:
    if any(name in schema.fields for schema in schemas):
        return "field"
    return "tag" if any(name in schema.tags for schema in schemas) else "nothing"


def _all(of: str, schemas: Sequence[Schema], grouped: frozenset[str]) -> list[Output]:
    fields = {name for schema in schemas for name in schema.fields} if of != "tag" else set[str]()
    tags = {name for schema in schemas for name in schema.tags} if of != "field" else set[str]()
    # A field comes before a tag of the same name.
    both = [*((name, 0) for name in fields), *((name, 1) for name in tags - grouped)]
    return [Output(name, "tag" if is_tag else "field", name) for name, is_tag in sorted(both)]


def _calls(
    name: str, function: str, argument: Reference | Wildcard, schemas: Sequence[Schema]
) -> list[Output]:
    if isinstance(argument, Reference):
        what = _what(argument.name, schemas)
        of = "field" if what == "field" else "nothing"
        return [Output(name, of, argument.name, function)]
    fields = {
        key
        for schema in schemas
        for key, kind in schema.fields.items()
        if aggregates.takes(function, kind)
    }
    return [Output(f"{name}_{key}", "field", key, function) for key in sorted(fields)]


def _named(found: Sequence[tuple[Output, bool]]) -> list[Output]:
    """Number the derived names that occur more than once."""
    taken = {output.name for output, aliased in found if aliased}
    numbers: dict[str, int] = {}
    named: list[Output] = []
    for output, aliased in found:
        name = output.name
        while not aliased and name in taken:
            numbers[output.name] = numbers.get(output.name, 0) + 1
            name = f"{output.name}_{numbers[output.name]}"
        taken.add(name)
        named.append(Output(name, output.of, output.key, output.function))
    return named
