"""Batches of points as Apache Arrow: tags are dictionaries, times have nanoseconds and UTC.

    time      timestamp[ns, UTC], never null
    tag       dictionary<int32, string>, null without the tag
    field     double, int64, uint64, bool or string, null without a value

The schema's metadata names the backup, database, policy and measurement; that of a column its
kind, its type in InfluxDB and, where the name is no UTF-8, its bytes in hex.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resources.errors import UsageError
from resources.points.batches import Batch, FieldColumn, TagColumn
from resources.points.strings import Strings, require_text
from resources.points.table import TIME, Column, Table
from resources.tsm.layout import BlockType

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "shardkeeper."


def require_pyarrow() -> Any:
    """The module `pyarrow`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise UsageError(
            "Arrow and Parquet need the package pyarrow, which is not installed",
            hint="pip install 'shardkeeper[points]'",
        ) from None
    return pyarrow


def schema_of(table: Table, about: Mapping[str, str], strings: Strings) -> pa.Schema:
    """The schema of a table's batches.

    Args:
        about: what the metadata says, by key.

    Raises:
        UsageError: `pyarrow` is not installed.
    """
    pa = require_pyarrow()
    fields = [pa.field(TIME, pa.timestamp("ns", tz="UTC"), nullable=False)]
    for column in table.columns:
        metadata = {PREFIX + "kind": str(column.kind), PREFIX + "type": column.type_name}
        if column.name.encode() != column.source:
            metadata[PREFIX + "name_hex"] = column.source.hex()
        fields.append(pa.field(column.name, _arrow_type(column, strings), metadata=metadata))
    return pa.schema(
        fields,
        metadata={
            PREFIX + key: text.encode("utf-8", "backslashreplace") for key, text in about.items()
        },
    )


def record_batch(batch: Batch, table: Table, schema: pa.Schema, strings: Strings) -> pa.RecordBatch:
    """A batch as a record batch of this schema; numbers are not copied.

    Raises:
        PointsNotText: `strings` is "str", and a value is no UTF-8.
    """
    pa = require_pyarrow()
    arrays = [pa.Array.from_buffers(schema.types[0], len(batch), [None, pa.py_buffer(batch.times)])]
    for column, found, kind in zip(table.columns, batch.columns, schema.types[1:], strict=True):
        if isinstance(found, TagColumn):
            arrays.append(_dictionary(pa, found, kind, column, strings))
        else:
            arrays.append(_values(pa, found, kind, column, strings))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _arrow_type(column: Column, strings: Strings) -> pa.DataType:
    pa = require_pyarrow()
    text = pa.string() if strings == "str" else pa.binary()
    match column.type:
        case None:
            return pa.dictionary(pa.int32(), text)
        case BlockType.FLOAT:
            return pa.float64()
        case BlockType.INTEGER:
            return pa.int64()
        case BlockType.UNSIGNED:
            return pa.uint64()
        case BlockType.BOOLEAN:
            return pa.bool_()
        case BlockType.STRING:
            return text


def _dictionary(
    pa: Any, found: TagColumn, kind: pa.DictionaryType, column: Column, strings: Strings
) -> pa.Array:
    codes = pa.array(found.codes, mask=found.codes < 0)
    if strings == "str":
        require_text(found.values, column)
    # Checked to be UTF-8, bytes need no way over str.
    values = pa.array(found.values, pa.binary()).cast(kind.value_type)
    return pa.DictionaryArray.from_arrays(codes, values)


def _values(
    pa: Any, found: FieldColumn, kind: pa.DataType, column: Column, strings: Strings
) -> pa.Array:
    values = found.values
    if isinstance(values, list):
        if strings == "str":
            require_text(values, column)
        return pa.array(values, pa.binary()).cast(kind)
    if found.missing is None and values.dtype != np.bool_:
        contiguous: NDArray[np.generic] = np.ascontiguousarray(values)
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(contiguous)])
    return pa.array(values, kind, mask=found.missing)
