"""`shardkeeper inspect`: which measurements a backup holds, with series, fields and times."""

from __future__ import annotations

import json

import click

from pipelines.ctl.go_flags import GoFlags
from pipelines.ctl.output import TerminalOutput
from pipelines.ctl.point_flags import PointFlags, point_flags, require_undamaged
from pipelines.ctl.render import instant, printable, table
from pipelines.ctl.store import open_repository
from resources.engine.events import Run
from resources.engine.export.export import Export, ExportReport
from resources.engine.export.measurements import MeasurementFacts, Measurements
from resources.errors import counted

FORMAT = 1
HEAD = ("Database", "Policy", "Measurement", "Series", "Values", "From", "To", "Fields")
MAX_FIELDS = 8

Found = dict[tuple[str, str, bytes], MeasurementFacts]


@click.command(cls=GoFlags)
@point_flags
@click.option("-json", "--json", "as_json", is_flag=True, help="one JSON object (docs/export.md)")
@click.argument("path", metavar="<path-to-backup-directory>")
def inspect(path: str, *, points: PointFlags, as_json: bool) -> None:
    """List the measurements of a backup: series, values, times, fields and their types.

    Reads the archives, and decodes every chosen point; contacts no server.
    """
    limits, wanted, as_of = points.limits(), points.filter(), points.as_of
    repository = open_repository(path)
    plan = Export.plan(repository, limits, wanted, as_of=as_of)
    measurements = Measurements()
    report = plan.read(repository, measurements, Run(TerminalOutput()))
    show = _as_json if as_json else render_measurements
    click.echo(show(measurements.found, report))
    require_undamaged(report)


def render_measurements(found: Found, report: ExportReport) -> str:
    """One line for each measurement, then the totals."""
    rows = [
        (
            printable(database),
            printable(policy),
            _name(measurement),
            str(len(facts.series)),
            str(facts.values),
            instant(facts.min_time_ns),
            instant(facts.max_time_ns),
            _fields(facts),
        )
        for (database, policy, measurement), facts in sorted(found.items())
    ]
    lines = [table(HEAD, rows) if rows else "no points"]
    lines.append(
        f"{counted(len(rows), 'measurement')}, {counted(report.values, 'value')} in "
        f"{counted(report.shards, 'shard')}, as of backup {report.backup}"
    )
    return "\n".join(lines)


def _fields(facts: MeasurementFacts) -> str:
    named = [
        f"{_name(name)} {'|'.join(sorted(kind.name.lower() for kind in one.types))}"
        for name, one in sorted(facts.fields.items())
    ]
    more = f", and {len(named) - MAX_FIELDS} more" if len(named) > MAX_FIELDS else ""
    return ", ".join(named[:MAX_FIELDS]) + more


def _as_json(found: Found, report: ExportReport) -> str:
    document = {
        "format": FORMAT,
        "backup": report.backup,
        "shards": report.shards,
        "damaged": report.damaged,
        "measurements": [
            {
                "database": database,
                "policy": policy,
                "measurement": _name(measurement),
                "series": len(facts.series),
                "values": facts.values,
                "minTime": facts.min_time_ns,
                "maxTime": facts.max_time_ns,
                "fields": [
                    {
                        "name": _name(name),
                        "types": sorted(kind.name.lower() for kind in one.types),
                        "values": one.values,
                    }
                    for name, one in sorted(facts.fields.items())
                ],
            }
            for (database, policy, measurement), facts in sorted(found.items())
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _name(raw: bytes) -> str:
    return printable(raw.decode("utf-8", "backslashreplace"))
