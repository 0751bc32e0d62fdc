"""InfluxQL as far as the dev cluster speaks it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.embedded.influxql.parser import parse
from resources.embedded.influxql.statements import (
    AlterRetentionPolicy,
    Binary,
    Call,
    Column,
    Constant,
    CreateContinuousQuery,
    CreateDatabase,
    CreateRetentionPolicy,
    CreateUser,
    Delete,
    DropContinuousQuery,
    DropDatabase,
    DropMeasurement,
    DropRetentionPolicy,
    DropShard,
    DropUser,
    Duration,
    Grant,
    Now,
    Reference,
    Select,
    SetAdmin,
    SetPassword,
    ShowRetentionPolicies,
    Source,
    Statement,
    Wildcard,
)
from resources.embedded.server_errors import QueryUnparsable
from tests.resources.embedded.influxql.single import SingleNode
from tests.resources.embedded.influxql.wrong import WRONG

H = 3_600_000_000_000
ALL = (Column(Wildcard()),)


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("select * from cpu", Select(ALL, (Source("cpu"),))),
        ('SELECT * FROM "d b".."c\\"pu"', Select(ALL, (Source('c"pu', "d b"),))),
        ("select * from d.r.m limit 3", Select(ALL, (Source("m", "d", "r"),), limit=3)),
        (
            "select * into d.r.:measurement from m",
            Select(ALL, (Source("m"),), into=Source("", "d", "r")),
        ),
        (
            "select count(v) as n from m where time > now() - 1h group by *",
            Select(
                (Column(Call("count", Reference("v")), "n"),),
                (Source("m"),),
                Binary(">", Reference("time"), Binary("-", Now(), Duration(H))),
                by_all_tags=True,
            ),
        ),
        (
            "select v from m where a = 'x' or b > -2 and c",
            Select(
                (Column(Reference("v")),),
                (Source("m"),),
                Binary(
                    "OR",
                    Binary("=", Reference("a"), Constant("x")),
                    Binary("AND", Binary(">", Reference("b"), Constant(-2)), Reference("c")),
                ),
            ),
        ),
        (
            "select v from m group by time(1h30m), a fill(0) order by time desc slimit 2",
            Select(
                (Column(Reference("v")),),
                (Source("m"),),
                tags=("a",),
                every_ns=H + H // 2,
                fill=0.0,
                descending=True,
                slimit=2,
            ),
        ),
        ("show retention policies on x", ShowRetentionPolicies("x")),
        ("create database x", CreateDatabase("x")),
        (
            'create database x with duration 2d replication 3 shard duration 1h name "y z"',
            CreateDatabase("x", "y z", 48 * H, 3, H),
        ),
        ("drop database x", DropDatabase("x")),
        (
            "create retention policy p on d duration inf replication 2 shard duration 1w default",
            CreateRetentionPolicy("p", "d", 0, 2, 168 * H, default=True),
        ),
        (
            "alter retention policy p on d default replication 4",
            AlterRetentionPolicy("p", "d", replication=4, default=True),
        ),
        ("drop retention policy p on d", DropRetentionPolicy("p", "d")),
        ("drop shard 7", DropShard(7)),
        ("drop measurement m", DropMeasurement("m")),
        ("delete from m", Delete((Source("m"),))),
        (
            "create continuous query q on d resample every 1h begin select count(v) into x"
            " from m group by time(1h) end",
            CreateContinuousQuery(
                "q",
                "d",
                "CREATE CONTINUOUS QUERY q ON d RESAMPLE EVERY 1h BEGIN select count(v) into x"
                " from m group by time(1h) END",
            ),
        ),
        ("drop continuous query q on d", DropContinuousQuery("q", "d")),
        (
            "create user u with password 'p''' with all privileges",
            None,
        ),
        (
            "create user u with password 'it\\'s' with all privileges",
            CreateUser("u", "it's", admin=True),
        ),
        ("set password for u = 'p'", SetPassword("u", "p")),
        ("drop user u", DropUser("u")),
        ("grant read on d to u", Grant("u", "d", 1)),
        ("grant all privileges on d to u", Grant("u", "d", 3)),
        ("revoke write on d from u", Grant("u", "d", 0)),
        ("grant all to u", SetAdmin("u", admin=True)),
        ("revoke all privileges from u", SetAdmin("u", admin=False)),
    ],
)
def test_a_statement_says_what_it_means(text: str, statement: Statement | None) -> None:
    if statement is None:
        with pytest.raises(QueryUnparsable):
            parse(text)
    else:
        assert parse(text) == (statement,)
        assert parse(f"-- so\n {text} ; ;/* and */ {text}") == (statement, statement)


def test_a_continuous_query_is_kept_as_a_statement_that_makes_it_again() -> None:
    text = 'create continuous query "q q" on d begin select mean(v) into x from m end'
    [made] = parse(text)
    assert isinstance(made, CreateContinuousQuery)
    assert parse(made.query) == (made,)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_statement_is_reported_with_its_place(text: str) -> None:
    with pytest.raises(QueryUnparsable) as refused:
        parse(text)
    assert str(refused.value) == f"error parsing query: {WRONG[text]}"


PIECES = (
    "select from where group by * time ( ) , ; . .. = != =~ /a+/ /( < > + - 'x' \"y\" v host 1 1.5"
    " 1h now() count mean first fill none limit show series tag values with key in and or true"
    " delete drop into as order desc 99999999999999999999 1000000000000w '2026-01-01' :measurement"
)
WORDS = PIECES.split()


@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join)))
def test_any_text_is_statements_or_refused(text: str) -> None:
    try:
        statements = parse(text)
    except QueryUnparsable as refused:
        reply = str(refused)
    else:
        reply = "error parsing query: none"
        assert len(statements) <= text.count(";") + 1
    assert reply.startswith("error parsing query: ")


@pytest.mark.parametrize("text", ["(" * 5000, "-" * 5000, "v or " * 5000, "(v = 1 and " * 5000])
def test_depth_has_an_end(text: str) -> None:
    with pytest.raises(QueryUnparsable):
        parse(f"select v from m where {text}")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> SingleNode:
    node = SingleNode(tmp_path_factory.mktemp("node"))
    node.create_database("db")
    node.write("db", 'm,host=a v=1,n=1i,s="x" 1000000000\nm,host=b v=2,b=true 2000000000\ny v=3 3')
    return node


SELECTED = ("*", "v", "v, host", "count(*)", "first(v), host", "max(n)", "sum(s)", "mean(v), v")
CONDITIONS = (
    *("", "v > 1", "host = 'a'", "host =~ /a|b/ and v < 5", "s = 'x' or n = 1", "time > now()"),
    *("time < 1e300", "time > 1000000w", "time = 'x'", "v", "'x'", "nix != v", "v + 's' > 1"),
    *("time < 99999999999999999999999999", "v / 0 = 1", "b = true", "host > 1", "not", "v = 1 = 2"),
)
ENDS = ("", "group by host", "group by *", "group by time(1s)", "limit 1", "group by time(90000d)")


@given(st.sampled_from(SELECTED), st.sampled_from(CONDITIONS), st.sampled_from(ENDS))
def test_every_question_has_an_answer(
    node: SingleNode, what: str, condition: str, end: str
) -> None:
    where = f"where {condition}" if condition else ""
    if "time(1s)" in end and "time <" not in condition:
        where = f"{where} and time < 10s" if where else "where time < 10s"
    try:
        reply = node.query(f"select {what} from m {where} {end}", "db")
    except QueryUnparsable:
        return
    [result] = reply["results"]
    for series in result.get("series", []):
        assert all(len(row) == len(series["columns"]) for row in series["values"])


def test_a_time_that_no_point_can_have_finds_none(node: SingleNode) -> None:
    assert node.rows("select v from m where time > 99999999999999999999999999", "db") == []
    assert node.rows("select v from m where time > -9999999999999999999999999", "db") == [
        [1_000_000_000, 1],
        [2_000_000_000, 2],
    ]


def test_times_have_the_unit_that_is_asked_for(node: SingleNode) -> None:
    for epoch, time in (
        ("ns", 1_000_000_000),
        ("u", 1_000_000),
        ("ms", 1000),
        ("s", 1),
        ("m", 0),
        ("", "1970-01-01T00:00:01Z"),
    ):
        [result] = node.query("select v from m limit 1", "db", epoch)["results"]
        assert result["series"][0]["values"] == [[time, 1]]


def test_nothing_is_read_twice_from_two_shards(tmp_path: Path) -> None:
    node = SingleNode(tmp_path)
    node.create_database("db")
    week = 7 * 24 * H
    node.write("db", "\n".join(f"m,k=a v={i} {i * week}" for i in range(5)))
    assert node.n_shards == 5
    assert node.rows("select count(v), sum(v), first(v), last(v) from m", "db") == [
        [0, 5, 10, 0, 4]
    ]
    assert node.rows(f"select v from m where time >= {week} and time < {3 * week}", "db") == [
        [week, 1],
        [2 * week, 2],
    ]
