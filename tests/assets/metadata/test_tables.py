"""Tables keep numbers as numbers, show nothing for nothing, and stay small."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.metadata.tables import MAX_ROWS, frame, frame_table, table


def columns(made: dg.TableMetadataValue) -> dict[str, str]:
    return {column.name: column.type for column in made.schema.columns}


def test_the_columns_are_those_of_the_first_row_with_their_types() -> None:
    made = table([{"shard": 1, "bytes": 2.5, "whole": True, "file": "a"}])
    assert columns(made) == {"shard": "int", "bytes": "float", "whole": "bool", "file": "string"}
    assert [record.data for record in made.records] == [
        {"shard": 1, "bytes": 2.5, "whole": True, "file": "a"}
    ]


def test_nothing_is_shown_as_nothing_and_leaves_numbers_whole_where_asked() -> None:
    rows = [{"n": 1, "text": None}, {"n": None, "text": "a"}]
    assert [record.data for record in table(rows).records] == [
        {"n": 1.0, "text": None},
        {"n": None, "text": "a"},
    ]
    whole = frame_table(frame(rows).astype({"n": "Int64"}))
    assert columns(whole)["n"] == "int"
    assert [record.data["n"] for record in whole.records] == [1, None]


@pytest.mark.parametrize(("rows", "shown"), [(MAX_ROWS, MAX_ROWS), (MAX_ROWS + 1, MAX_ROWS)])
def test_rows_beyond_the_limit_are_left_out(rows: int, shown: int) -> None:
    made = table([{"n": i} for i in range(rows)])
    assert len(made.records) == shown
    assert made.records[-1].data["n"] == shown - 1
