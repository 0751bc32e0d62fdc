"""A database whose points were lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.wire.commands import backup
from tests.wire.merge.scenario import T0, WEEK_NS
from tests.wire.points import Points, points

ODD = [
    'we\\ ird\\,"x,ta\\ g=v"\\,\\=w fi\\ eld=1,s="a\nb"',
    "häßlich☃,tág=ü ☃=1i",
    "select,from=where into=t",
    r"back\slash,k=c:\dir v=1",
    "both,host=a host=5",
    "'quote',k='v' v=\"'\"",
]


@pytest.fixture
def lost(source: Influxd, backups: Path, fresh: Callable[[], str]) -> tuple[str, Points]:
    """A database that was backed up and dropped; its clients have made it anew since."""
    db = fresh()
    source.create_database(db)
    lines = [
        f'cpu,host=h{host} f={host}.5,i={2**53 + host}i,b={host % 2 == 0},s="h {host}" '
        f"{T0 + week * WEEK_NS + host}"
        for host in range(20)
        for week in range(3)
    ]
    source.write(db, [*lines, *(f"{line} {T0}" for line in ODD)])
    source.query(f'CREATE RETENTION POLICY "kept for ever" ON "{db}" DURATION INF REPLICATION 1')
    source.write(db, [f"mem used={n}i {T0 + n}" for n in range(10)], rp="kept for ever")
    backup(source, backups)
    before = points(source, db)
    source.drop_database(db)
    source.create_database(db)
    source.query(f'CREATE RETENTION POLICY "kept for ever" ON "{db}" DURATION INF REPLICATION 1')
    return db, before
