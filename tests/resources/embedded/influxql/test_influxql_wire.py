"""The same lines written to a real influxd and to a store, and the same questions asked of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from resources.embedded.influxql.parser import parse
from resources.embedded.server_errors import QueryUnparsable
from tests.influxd import Influxd
from tests.resources.embedded.influxql.single import SingleNode
from tests.resources.embedded.influxql.wrong import WRONG

pytestmark = pytest.mark.wire

DB = "asked"
LINES = r"""cpu,host=a,region=eu v=1,n=1i 1000000000
cpu,host=b,region=eu v=2,n=5i 1000000000
cpu,host=b v=4 3000000000
cpu,host=a,region=eu v=7 3000000000
cpu,host=c n=9i 2000000000
cpu v=0.5,b=true,s="x y" 4000000000
cpu,host=a,region=eu v=7.25 604800000000000
mem,host=a free=7i 1500000000
host,host=x host="tagfield" 5
we\ ird\,x,ta\ g=v\,a\=l f\ i\,e\=ld=-3i 1600000000123456789
extreme v=1e-7,i=-9223372036854775808i,w=1.79e308,s="é \"q\" <&>" 1600000000000000001"""

SELECTED = """*
v
v, host
host
nofield
v, nofield
v, v
v as x, n
*::field
v, *::tag
time, v
count(v)
count(*)
count(v), count(n)
count(v) as c, sum(v) as c
count(nofield)
count(host)
max(v)
max(v), min(n)
first(v), host
first(v), v
first(*)
last(b)
min(b)
max(s)
sum(s)
sum(n), mean(n)
mean(*)
mean(v), host
foo(v)"""
CONDITIONS = """
host = 'a'
host != 'a'
host =~ /a|b/
region = ''
nix = ''
nix = 'x'
v > 1
v + 1 > 3
n > 1 or v < 1
v = 'x'
s = 'x y' or b = true
s =~ /x/
v
host = 'a' and (region = 'eu' and v > 2)
time > 2s
time >= '1970-01-01T00:00:03Z' and time < '1970-01-08'
time >= 1s and time < 10s
time > 5h
time > now() - 1h
time > 'x'
time = 1s or time = 3s"""

QUESTIONS = """select * from "host"
select * from /.*/
select v from /cpu|mem/
select * from "we ird,x"
select "f i,e=ld" from "we ird,x" where "ta g" = 'v,a=l'
select * from extreme
select * from cpu group by host
select * from cpu group by *
select * from cpu group by host, region limit 1
select first(v), host from cpu group by region
select last(v) from cpu group by *
select count(v), count(n) from cpu group by host
select v from cpu where host = 'a' order by time desc limit 2
select v from cpu where host = 'a' limit 2 offset 1
select count(v) from cpu, mem
select v from cpu slimit 1
select mean(v) from cpu where time >= 0 and time < 6s group by time(2s)
select mean(v) from cpu where time >= 0 and time < 8s group by time(2s) fill(none)
select count(v) from cpu where time >= 0 and time < 8s group by time(2s)
select mean(v),count(n) from cpu where time >= 0 and time < 8s group by time(2s),host fill(previous)
select max(v) from cpu where time >= 0 and time < 8s group by time(2s) fill(7)
select max(v) from cpu where time >= 1s and time < 8s group by time(2s) order by time desc
select * from nix
select * from nodb..cpu
select * from asked.nix.cpu
show series
show series from cpu
show series from /c/ where region = 'eu'
show series where region = 'eu'
show series from cpu where v = 1 limit 1 offset 1
show measurements
show measurements with measurement =~ /c|m/
show measurements where host = 'a'
show measurements limit 1 offset 1
show field keys
show field keys from mem
show field keys from nix
show tag keys
show tag keys from cpu
show tag values with key = host
show tag values with key in (host, region) limit 2
show tag values from cpu with key =~ /h/ where region = 'eu'
show retention policies
show retention policies on nodb
show measurements on nodb
show series on nodb
show tag values on nodb with key = x
show grants for nix"""

CHANGES = """select v into x from cpu where host = 'a'
select * into y from cpu group by *
select count(v) into z from cpu group by host
select * into asked.autogen.:measurement from nix
select v into asked.nix.x from cpu
delete from mem
drop series from cpu where host = 'c'
drop series from cpu where time > 1
delete from y where host = 'b'
delete from cpu where host = 'a' and time < 2s
delete from y where time > 3s and host = 'a'
drop measurement "we ird,x"
drop measurement nix"""
AFTERWARDS = ("show series", "show field keys", "show measurements", "select * from /.*/")


class Both:
    """A real server and a store with the same points."""

    def __init__(self, influxd: Influxd, directory: Path) -> None:
        influxd.create_database(DB)
        influxd.write(DB, LINES)
        self.url = f"{influxd.url}/query"
        self.node = SingleNode(directory)
        self.node.create_database(DB)
        self.node.write(DB, LINES)

    def ask(self, q: str, epoch: str = "") -> tuple[Any, Any]:
        params = {"db": DB} | ({"epoch": epoch} if epoch else {})
        response = requests.post(self.url, params=params, data={"q": q}, timeout=30)
        return ordered(response.json()), ordered(self.node.query(q, DB, epoch))


def ordered(reply: dict[str, Any]) -> dict[str, Any]:
    """Rows of equal times in one order; the server's depends on its processors."""
    for result in reply["results"]:
        for series in result.get("series", []):
            if series["columns"][0] == "time":
                times = [row[0] for row in series["values"]]
                assert times in (sorted(times), sorted(times, reverse=True))
                series["values"].sort(key=lambda row: (row[0], json.dumps(row)))
    return reply


@pytest.fixture(scope="module")
def both(influxd: Influxd, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(influxd, tmp_path_factory.mktemp("node"))


@pytest.mark.parametrize("what", SELECTED.splitlines())
def test_selections_are_answered_alike(both: Both, what: str) -> None:
    for condition in CONDITIONS.splitlines():
        where = f" where {condition}" if condition else ""
        real, ours = both.ask(f"select {what} from cpu{where}")
        assert ours == real, condition


@pytest.mark.parametrize("q", QUESTIONS.splitlines())
def test_questions_are_answered_alike(both: Both, q: str) -> None:
    for epoch in ("", "ns", "ms", "h"):
        real, ours = both.ask(q, epoch)
        assert ours == real


@pytest.mark.parametrize("q", WRONG)
def test_what_is_no_query_is_refused_alike(influxd: Influxd, q: str) -> None:
    response = requests.post(f"{influxd.url}/query", data={"q": q}, timeout=30)
    assert response.status_code == 400
    with pytest.raises(QueryUnparsable) as refused:
        parse(q)
    assert response.json() == {"error": str(refused.value)}


def test_changes_leave_the_same_behind(influxd: Influxd, tmp_path: Path) -> None:
    influxd.query(f"DROP DATABASE {DB}")
    changed = Both(influxd, tmp_path)
    for q in CHANGES.splitlines():
        real, ours = changed.ask(q)
        assert ours == real, q
        for afterwards in AFTERWARDS:
            real, ours = changed.ask(afterwards)
            assert json.dumps(ours) == json.dumps(real), (q, afterwards)
