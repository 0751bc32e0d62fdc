"""`make frames N=300`: random databases, restored; their frames are what the server answers.

    python -m tests.faults.frames 300 [seed]

Points of all types of 1.6.7 are written in several rounds, written over and deleted, over three
shards; one field has another type in each. The backup is restored into another real server. There
SELECT * must give the rows and values of the frame, and SHOW FIELD KEYS the types of its columns;
both for each shard alone, and for all together where no field has several types.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import shardkeeper
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.faults.campaign import run_campaign
from tests.influxd import Influxd
from tests.resources.tsm.points import Name, Value, lines
from tests.wire.commands import backup, restore

T0 = 1_600_000_000_000_000_000 // 604_800_000_000_000 * 604_800_000_000_000
WEEK = 604_800_000_000_000
OFFSETS = 4
KINDS = {"Float64": "float", "Int64": "integer", "boolean": "boolean", "string": "string"}

VALUES: dict[str, st.SearchStrategy[Value]] = {
    "f": st.floats(allow_nan=False, allow_infinity=False),
    "i": st.integers(-(2**63), 2**63 - 1),
    "b": st.booleans(),
    "s": st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5),
}
CHANGING = ("f", "i", "s")
"""The type of the field `x` in each week."""


class Point(NamedTuple):
    name: Name
    time_ns: int
    value: Value


class Round(NamedTuple):
    """Points that are written, what is deleted then; whether the cache is emptied before that."""

    points: list[Point]
    deleted: tuple[str, int, int] | None
    flush: bool


@st.composite
def point(draw: st.DrawFn) -> Point:
    week = draw(st.integers(0, 2))
    field = draw(st.sampled_from([*VALUES, "x"]))
    value = draw(VALUES[CHANGING[week] if field == "x" else field])
    tags = draw(st.sampled_from([(), (("k", "a"),), (("k", "b=, ü"),), (("j", "a"), ("k", "a"))]))
    name = Name(draw(st.sampled_from(["m", "m,n $"])), tags, field)
    return Point(name, T0 + week * WEEK + draw(st.integers(0, OFFSETS - 1)), value)


times = st.integers(0, 2).flatmap(
    lambda week: st.integers(0, OFFSETS - 1).map(lambda offset: T0 + week * WEEK + offset)
)
rounds = st.lists(
    st.builds(
        Round,
        st.lists(point(), min_size=1, max_size=25),
        st.none() | st.tuples(st.sampled_from(["k = 'a'", "k = ''"]), times, times),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
)


def check(source: Influxd, target: Influxd, backups: Path, written: Sequence[Round]) -> int:
    """Write, back up, restore, and compare; returns how many rows were the same.

    Raises:
        AssertionError: the frame differs from what the server answers.
    """
    db = f"frames-{secrets.token_hex(5)}"
    directory = backups / db
    directory.mkdir(mode=0o700)
    source.create_database(db)
    for one in written:
        body = [line for p in one.points for line in lines({p.name: [(p.time_ns, p.value)]})]
        source.write(db, body)
        if one.flush:  # before the delete: one that empties the cache keeps its log for ever
            source.flush(db)
        if one.deleted:
            tag, *ends = one.deleted
            query = f"DELETE FROM m WHERE {tag} AND time >= {min(ends)} AND time <= {max(ends)}"
            source.query(query, db=db)
    done = backup(source, directory, "-db", db)
    assert done, done
    done = restore(target, directory, "-db", db)
    assert done, done
    compared = compare(target, directory, db)
    for server in source, target:
        server.drop_database(db)
    return compared


def compare(target: Influxd, directory: Path, db: str) -> int:
    """Compare the frames of a backup with a server that has it restored."""
    opened = shardkeeper.open(directory)
    compared = 0
    for measurement in "m", "m,n $":
        types = {(name, kind) for name, kind in field_keys(target, db, measurement)}
        whole = opened.frame(db, measurement)
        found = {
            ("x" if name.startswith("x") else name, KINDS[str(kind)])
            for name, kind in whole.dtypes.items()
            if str(kind) in KINDS and bool(whole[name].notna().any())
        }
        assert found <= types, (found, types)
        rows = 0
        for week in range(3):
            start, end = T0 + week * WEEK, T0 + (week + 1) * WEEK
            frame = opened.frame(db, measurement, start, end)
            floats = ("f", "x") if CHANGING[week] == "f" else ("f",)
            where = f"time >= {start} AND time < {end}"
            answer = answered(target, db, measurement, where, floats=floats)
            assert in_form(frame) == answer, (measurement, week)
            rows += len(frame)
        assert rows == len(whole)
        fixed = opened.frame(db, measurement, fields=list(VALUES))
        chosen = ", ".join([*(f"{name}::field" for name in VALUES), "j::tag", "k::tag"])
        answer = answered(target, db, measurement, "time >= 0", floats=("f",), chosen=chosen)
        assert in_form(fixed) == answer, measurement
        compared += rows + len(fixed)
    return compared


def field_keys(server: Influxd, db: str, measurement: str) -> list[list[str]]:
    return server.rows(f'SHOW FIELD KEYS FROM "{measurement}"', db=db)


Rows = list[tuple[int, list[tuple[str, str, Value]]]]
"""Times, and what has a value then: name, type and value; sorted."""


def answered(
    server: Influxd,
    db: str,
    measurement: str,
    where: str,
    *,
    floats: Collection[str],
    chosen: str = "*",
) -> Rows:
    """The rows that a server answers; of `floats` it is known that they are."""
    [result] = server.query(f'SELECT {chosen} FROM "{measurement}" WHERE {where}', db=db)
    found: Rows = []
    for series in result.get("series", []):
        names = series["columns"][1:]
        for time_ns, *values in series["values"]:
            cells = [
                (name, *typed(value, is_float=name in floats))
                for name, value in zip(names, values, strict=True)
                if has(name, value)
            ]
            found.append((time_ns, sorted(cells, key=repr)))
    return sorted(found, key=repr)


def has(name: str, value: object) -> bool:
    return value is not None and not (name in ("j", "k") and value == "")


def in_form(frame: pd.DataFrame) -> Rows:
    """The rows of a frame, as `answered` gives those of a server."""
    names = frame.columns[1:].tolist()
    columns = [frame[name].astype(object).tolist() for name in names]
    found: Rows = []
    for i, time_ns in enumerate(frame["time"].astype("int64").tolist()):
        cells = [
            (name, *typed(column[i]))
            for name, column in zip(names, columns, strict=True)
            if not pd.isna(column[i])
        ]
        found.append((time_ns, sorted(cells, key=repr)))
    return sorted(found, key=repr)


def typed(value: Any, *, is_float: bool = False) -> tuple[str, Value]:
    """A value with its type; JSON writes a whole float like an integer, and may lose a -0."""
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, str):
        return "string", value
    if isinstance(value, int) and not is_float:
        return "integer", value
    return "float", float(value) + 0.0


def databases(n: int, number: int | None, one: Callable[[list[Round]], None]) -> None:
    """Run `one` for N random databases."""

    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(rounds)
    def run(written: list[Round]) -> None:
        one(written)

    (seed(number)(run) if number is not None else run)()


def campaign(n: int, number: int, directory: Path) -> Iterator[str]:
    done: list[int] = []
    for name in "source", "target", "backups":
        (directory / name).mkdir(mode=0o700)
    with (
        Influxd(directory / "source", index_version="inmem") as source,
        Influxd(directory / "target", index_version="tsi1") as target,
    ):
        databases(n, number, lambda w: done.append(check(source, target, directory / "backups", w)))
    yield f"{len(done)} databases, {sum(done)} rows compared (seed {number})"


def main(n: str = "20", number: str = "") -> int:
    chosen = int(number) if number else secrets.randbelow(2**32)
    return run_campaign("frames", chosen, lambda at: campaign(int(n), chosen, at))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
