"""Names and values that a statement, a line or an answer in JSON may make something else of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.influxd import Influxd
from tests.wire.commands import backup
from tests.wire.merge.scenario import T0, WEEK_NS, leftovers, merge
from tests.wire.merge.stored import stored

pytestmark = pytest.mark.wire

VALUES = [
    *(b"%di" % value for value in (0, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63))),
    *(
        b"0.0",
        b"-0.0",
        b"5e-324",
        b"-5e-324",
        b"1.7976931348623157e308",
        b"0.1",
        b"9007199254740992",
    ),
    *(b"true", b"false"),
    *(b'""', b'"1"', b'"true"', b'"a\nb"', b'"q\\"\\\\"', b'"\\\\\\\\n"', b'"\xff\x00\x80z"'),
    '"häß☃\u2028"'.encode(),
]
SERIES = [
    b"m.*[a]$|^(x)+?{1}",
    b".*",
    b"/m/",
    b"m\\,\\ with\\=,k\\ \\,\\==\\,v\\ \\=",
    b'"quoted",\'k\'="v"',
    "häßlich☃,tág=ü".encode(),
    b"back\\slash,k=c:\\dir\\x",
    b"select,from=where",
    b"t,k=a\\\nb",
    b"bytes,k=\xff\x80",
    b"time,host=a",
    b";\\ DROP\\ DATABASE\\ x,k=--",
]


def test_every_value_comes_back_bit_by_bit_under_every_name(
    source: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db = fresh()
    source.create_database(db)
    lines = [
        b"%s f%d=%s %d" % (series, at, value, T0)
        for series in SERIES
        for at, value in enumerate(VALUES)
    ]
    source.write(db, b"\n".join(lines))
    before = stored(source.bind_addr, db)
    assert len(before) == len(SERIES) * len(VALUES)
    backup(source, backups)
    source.drop_database(db)
    source.create_database(db)
    done = merge(source, backups, "-db", db)
    assert done, done
    assert f"Merged {len(before)} values" in done.out
    assert stored(source.bind_addr, db) == before
    assert leftovers(source, backups) == []


def test_a_field_with_another_type_in_each_shard_keeps_them_all(
    source: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db = fresh()
    source.create_database(db)
    values = (b"9007199254740993i", b"-0.0", b"true", b'"9007199254740993"')
    for week, value in enumerate(values):
        source.write(db, b"m v=%s,w=%di %d" % (value, week, T0 + week * WEEK_NS))
    before = stored(source.bind_addr, db)
    backup(source, backups)
    source.drop_database(db)
    source.create_database(db)
    done = merge(source, backups, "-db", db)
    assert done, done
    assert stored(source.bind_addr, db) == before
    again = merge(source, backups, "-db", db)
    assert again, again
    assert f"Merged {len(before)} values" in again.out
    assert " 0 new, 0 replaced" in again.out
    assert leftovers(source, backups) == []


def test_a_point_in_the_way_with_another_type_costs_that_field_alone_and_is_named(
    source: Influxd, backups: Path, fresh: Callable[[], str]
) -> None:
    db = fresh()
    source.create_database(db)
    source.write(db, [f"m v={2**53 + 1}i,w={n}i {T0 + n}" for n in range(3)])
    before = stored(source.bind_addr, db)
    backup(source, backups)
    source.drop_database(db)
    source.create_database(db)
    source.write(db, f"m v={2.0**53} {T0 + 1}")
    own = stored(source.bind_addr, db)
    done = merge(source, backups, "-db", db)
    assert done.code == 3, done
    assert "3 values were not merged" in done.err
    assert "field type conflict" in done.err
    kept = {key: value for key, value in before.items() if key[1].endswith(b"w")}
    assert stored(source.bind_addr, db) == kept | own
    assert merge(source, backups, "-abandon")
    assert leftovers(source, backups) == []
