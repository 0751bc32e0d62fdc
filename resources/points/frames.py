"""Batches of points as a pandas DataFrame, in types that have missing values of their own.

Times are datetime64[ns, UTC]; tags are categories; fields are Float64, Int64, UInt64, boolean, and
string, or object for bytes. A row without a value has <NA> there; its tag is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.points.batches import Batch, FieldColumn, TagColumn
from resources.points.strings import Strings, text_of
from resources.points.table import TIME, Column, Table

if TYPE_CHECKING:
    import pandas as pd


def frame_of(batch: Batch, table: Table, strings: Strings) -> pd.DataFrame:
    """A frame of these rows.

    Raises:
        PointsNotText: `strings` is "str", and a value is no UTF-8.
    """
    import pandas as pd

    columns: dict[str, Any] = {
        TIME: pd.DatetimeIndex(batch.times.view("datetime64[ns]")).tz_localize("UTC")
    }
    for column, found in zip(table.columns, batch.columns, strict=True):
        if isinstance(found, TagColumn):
            columns[column.name] = _categories(found, column, strings)
        else:
            columns[column.name] = _values(found, column, strings)
    return pd.DataFrame(columns)


def _categories(found: TagColumn, column: Column, strings: Strings) -> Any:
    import pandas as pd

    # Sorted, so that equal points give equal frames.
    order = sorted(range(len(found.values)), key=found.values.__getitem__)
    names: Sequence[str | bytes] = [found.values[i] for i in order]
    if strings == "str":
        names = [text_of(found.values[i], column) for i in order]
    ranks = np.empty(len(order) + 1, np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    ranks[-1] = -1
    index = pd.Index(names, dtype="object" if strings == "bytes" else "str")
    return pd.Categorical.from_codes(ranks[found.codes], categories=index)


def _values(found: FieldColumn, column: Column, strings: Strings) -> Any:
    import pandas as pd

    values = found.values
    if isinstance(values, list):
        if strings == "bytes":
            objects = np.empty(len(values), dtype=object)
            objects[:] = values
            return objects
        texts = [pd.NA if value is None else text_of(value, column) for value in values]
        return pd.array(texts, dtype=pd.StringDtype("python"))
    missing = np.zeros(len(values), np.bool_) if found.missing is None else found.missing
    array: Any = {
        "f": pd.arrays.FloatingArray,
        "i": pd.arrays.IntegerArray,
        "u": pd.arrays.IntegerArray,
        "b": pd.arrays.BooleanArray,
    }[values.dtype.kind]
    return array(values, missing)
