"""One Parquet file, written batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from resources.points.arrow import record_batch, require_pyarrow, schema_of
from resources.points.batches import Batch
from resources.points.strings import Strings
from resources.points.table import Table


class ParquetFile:
    """One file; it is whole after `close`."""

    def __init__(
        self, file: IO[bytes] | Path, table: Table, about: Mapping[str, str], strings: Strings
    ) -> None:
        require_pyarrow()
        from pyarrow import parquet

        self._table = table
        self._strings: Strings = strings
        self._schema = schema_of(table, about, strings)
        self._writer: Any = parquet.ParquetWriter(
            str(file) if isinstance(file, Path) else file, self._schema, compression="zstd"
        )

    def write(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self._writer.write_batch(record_batch(batch, self._table, self._schema, self._strings))

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
