"""Tables for the UI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd

MOST_ROWS = 500
"""A run's metadata is read whole by the UI, each time the page is shown."""


def table(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """A table whose columns are the first row's; numbers stay numbers, None shows as nothing.

    Args:
        rows: at least one; those beyond `MOST_ROWS` are left out.
    """
    return frame_table(pd.DataFrame(rows))


def frame_table(frame: pd.DataFrame) -> dg.TableMetadataValue:
    """The same of a data frame that has at least one row."""
    columns = [dg.TableColumn(str(name), type=_type(dtype)) for name, dtype in frame.dtypes.items()]
    head = frame.head(MOST_ROWS).astype(object)
    records = head.where(head.notna(), None).to_dict("records")
    return dg.MetadataValue.table(
        records=[dg.TableRecord({str(k): v for k, v in record.items()}) for record in records],
        schema=dg.TableSchema(columns=columns),
    )


def _type(dtype: Any) -> str:
    if pd.api.types.is_bool_dtype(dtype):
        return "bool"
    if pd.api.types.is_integer_dtype(dtype):
        return "int"
    return "float" if pd.api.types.is_float_dtype(dtype) else "string"
