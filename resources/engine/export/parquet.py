"""Points as Parquet: a measurement in one file, or all measurements in a partitioned folder.

    <folder>/policy=autogen/measurement=cpu/7.parquet    shard 7

A folder's names are percent-encoded, as Hive partitions are read. Each measurement has the same
columns in all files of its folder. Row groups are batches, so memory does not grow with a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import IO
from urllib.parse import quote

from resources.engine.events import Run
from resources.engine.export.export import Export, ExportReport
from resources.engine.export.tables import MeasurementKey, Names, read_names
from resources.errors import UsageError, counted, named_few, shown
from resources.model import ShardPlace
from resources.points.arrow import require_pyarrow
from resources.points.batches import Batches
from resources.points.parquet import ParquetFile
from resources.points.series import measurement_of
from resources.points.strings import Strings
from resources.repository.repository import BackupRepository
from resources.tsm.merge import SeriesPoints


def write_file(
    plan: Export, repository: BackupRepository, file: IO[bytes], strings: Strings, run: Run
) -> ExportReport:
    """Write the one measurement that a plan is about.

    Raises:
        UsageError: it is in several policies; or pyarrow is not installed.
        PointsNotText: `strings` is "str", and a value is no UTF-8.
        ShardkeeperError: an archive cannot be read.
    """
    require_pyarrow()
    found = read_names(plan, repository, run)
    if len(found) > 1:
        raise UsageError(
            f"the measurement is in {counted(len(found), 'policy', 'policies')}: "
            f"{named_few(shown(policy) for _, policy, _ in sorted(found))}",
            hint="choose one with -rp, or leave -measurement out to write a folder",
        )
    report = plan.report()
    key, names = next(iter(found.items()), (("", "", plan.wanted.measurement or b""), Names()))
    table = names.table()
    with ParquetFile(file, table, _about(plan, key), strings) as writer:
        batches = Batches(table)
        for _, points in plan.series(repository, report, run):
            writer.write(batches.of(points))
            writer.write(batches.finish())
    return report


def write_folder(
    plan: Export, repository: BackupRepository, folder: Path, strings: Strings, run: Run
) -> ExportReport:
    """Write all measurements of a plan into a folder; raises as `write_file`.

    Raises:
        OSError: a file cannot be written.
    """
    require_pyarrow()
    found = read_names(plan, repository, run)
    tables = {key: names.table() for key, names in found.items()}
    report = plan.report()
    for place, points in plan.series(repository, report, run):
        parts: dict[bytes, int] = {}
        # The series of a measurement are not all adjacent: `m$` is between `m` and `m,tag=a`.
        for measurement, series in groupby(points, key=_measurement):
            key = place.database, place.policy, measurement
            part = parts[measurement] = parts.get(measurement, -1) + 1
            path = folder / _place_of(place, measurement, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            batches = Batches(tables[key])
            with ParquetFile(path, tables[key], _about(plan, key), strings) as writer:
                writer.write(batches.of(series))
                writer.write(batches.finish())
            _sync(path)
    return report


def _measurement(fields: Sequence[SeriesPoints]) -> bytes:
    return measurement_of(fields[0].key)


def _place_of(place: ShardPlace, measurement: bytes, part: int) -> Path:
    policy = place.policy.encode("utf-8", "surrogateescape")
    name = f"{place.shard_id}{f'-{part}' if part else ''}.parquet"
    return Path(
        f"policy={quote(policy, safe='')}", f"measurement={quote(measurement, safe='')}", name
    )


def _about(plan: Export, key: MeasurementKey) -> dict[str, str]:
    database, policy, measurement = key
    return {
        "backup": plan.report().backup,
        "database": database,
        "policy": policy,
        "measurement": measurement.decode("utf-8", "backslashreplace"),
    }


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
