"""Columns have names of their own, whatever tags and fields are called."""

from __future__ import annotations

from resources.points.table import Table
from resources.tsm.layout import BlockType


def test_tags_come_before_fields_each_by_name() -> None:
    table = Table.of({b"z", b"a"}, {b"v": {BlockType.FLOAT}, b"b": {BlockType.STRING}})
    assert [column.name for column in table.columns] == ["a", "z", "b", "v"]
    assert [column.type_name for column in table.columns] == ["tag", "tag", "string", "float"]


def test_a_field_has_a_column_for_each_of_its_types() -> None:
    types = {BlockType.STRING, BlockType.INTEGER, BlockType.FLOAT}
    table = Table.of((), {b"v": types, b"v_string": {BlockType.BOOLEAN}})
    names = {column.name: column.type for column in table.columns}
    assert names == {
        "v": BlockType.FLOAT,
        "v_string": BlockType.BOOLEAN,
        "v_integer": BlockType.INTEGER,
        "v_string_field": BlockType.STRING,
    }


def test_names_that_clash_get_an_ending() -> None:
    table = Table.of(
        {b"time", b"k", b"\xff"},
        {b"time": {BlockType.FLOAT}, b"k": {BlockType.FLOAT}, b"\\xff": {BlockType.FLOAT}},
    )
    assert [(column.name, column.source) for column in table.columns] == [
        ("k", b"k"),
        ("time_tag", b"time"),
        ("\\xff", b"\xff"),
        ("\\xff_field", b"\\xff"),
        ("k_field", b"k"),
        ("time_field", b"time"),
    ]
