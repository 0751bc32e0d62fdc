"""Tables for the UI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 500
"""The UI loads a run's whole metadata each time it shows the page."""


def table(rows: Sequence[dict[str, Any]]) -> dg.TableMetadataValue:
    """A table with the columns of the first row; numbers stay numbers, None shows as empty.

    Args:
        rows: at least one; those beyond `MAX_ROWS` are left out.
    """
    return frame_table(frame(rows))


def frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The same rows for calculations."""
    # The import takes half a second of CPU, which loading the location and most ticks do not need.
    import pandas as pd

    return pd.DataFrame(rows)


def frame_table(data: pd.DataFrame) -> dg.TableMetadataValue:
    """A table from a data frame that has at least one row."""
    columns = [dg.TableColumn(str(name), type=_type(dtype)) for name, dtype in data.dtypes.items()]
    head = data.head(MAX_ROWS).astype(object)
    records = head.where(head.notna(), None).to_dict("records")
    return dg.MetadataValue.table(
        records=[dg.TableRecord({str(k): v for k, v in record.items()}) for record in records],
        schema=dg.TableSchema(columns=columns),
    )


def _type(dtype: Any) -> str:
    return {"b": "bool", "i": "int", "u": "int", "f": "float"}.get(dtype.kind, "string")
