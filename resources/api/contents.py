"""What a backup holds, as values of the Python API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from msgspec import Struct

from resources.engine.export.tables import MeasurementKey
from resources.model import ShardPlace
from resources.points.table import Table
from resources.repository.backup_set import Archive

if TYPE_CHECKING:
    import pandas as pd


class Shard(Struct, frozen=True):
    """A shard with its archive."""

    id: int
    database: str
    policy: str
    start_ns: int
    """The first time of its shard group, inclusive."""
    end_ns: int
    """The end of its shard group, exclusive."""
    backup: str
    """The backup that stored the archive."""
    file: str
    stored_bytes: int | None
    """None: not known."""
    series: int | None
    values: int | None
    """Field values as they are stored; one that was written twice may count twice."""

    @property
    def start(self) -> pd.Timestamp:
        """`start_ns` as a Timestamp in UTC."""
        return _timestamp(self.start_ns)

    @property
    def end(self) -> pd.Timestamp:
        """`end_ns` as a Timestamp in UTC."""
        return _timestamp(self.end_ns)

    @classmethod
    def of(cls, place: ShardPlace, archive: Archive) -> Self:
        details = archive.entry.details
        return cls(
            place.shard_id,
            place.database,
            place.policy,
            place.group.start_time_ns,
            place.group.end_time_ns,
            archive.manifest_file.removesuffix(".manifest"),
            archive.entry.file_name,
            details.stored_bytes if details else None,
            details.series if details else None,
            details.points if details else None,
        )


class Measurement(Struct, frozen=True):
    """A measurement of a policy, with its columns."""

    database: str
    policy: str
    name: str
    """Bytes that are no UTF-8 are shown as `\\\\xff`."""
    tags: tuple[str, ...]
    fields: dict[str, str]
    """The type of each column: float, integer, unsigned, boolean or string."""
    raw_name: bytes
    """The name as the server keeps it, which `frame` and `batches` take, too."""

    @classmethod
    def of(cls, key: MeasurementKey, table: Table) -> Self:
        database, policy, raw = key
        return cls(
            database,
            policy,
            raw.decode("utf-8", "backslashreplace"),
            tuple(column.name for column in table.tags),
            {column.name: column.type_name for column in table.fields},
            raw,
        )


def _timestamp(time_ns: int) -> pd.Timestamp:
    import pandas as pd

    return pd.Timestamp(time_ns, unit="ns", tz="UTC")  # type: ignore[return-value]
