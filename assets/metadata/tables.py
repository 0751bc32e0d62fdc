"""Tables for the UI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 500
"""A run's metadata is read whole by the UI, each time the page is shown."""


def table(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """A table whose columns are the first row's; numbers stay numbers, None shows as nothing.

    Args:
        rows: at least one; those beyond `MAX_ROWS` are left out.
    """
    return frame_table(frame(rows))


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The same rows to reckon with."""
    # Half a second of CPU to import, which loading the location and most ticks need not spend.
    import pandas as pd

    return pd.DataFrame(rows)


def frame_table(data: pd.DataFrame) -> dg.TableMetadataValue:
    """The same of a data frame that has at least one row."""
    columns = [dg.TableColumn(str(name), type=_type(dtype)) for name, dtype in data.dtypes.items()]
    head = data.head(MAX_ROWS).astype(object)
    records = head.where(head.notna(), None).to_dict("records")
    return dg.MetadataValue.table(
        records=[dg.TableRecord({str(k): v for k, v in record.items()}) for record in records],
        schema=dg.TableSchema(columns=columns),
    )


def _type(dtype: Any) -> str:
    return {"b": "bool", "i": "int", "u": "int", "f": "float"}.get(dtype.kind, "string")
