"""What is no statement, and the server's words for it."""

from __future__ import annotations

WRONG = {
    "select": "found EOF, expected identifier, string, number, bool at line 1, char 8",
    "select *": "found EOF, expected FROM at line 1, char 9",
    "select * from cpu limit": "found EOF, expected integer at line 1, char 25",
    "select * from cpu foo": "found foo, expected ; at line 1, char 19",
    "select sum(v from cpu": "found FROM, expected ) at line 1, char 14",
    'select v from "cpu': "found cpu, expected identifier at line 1, char 14",
    "select 'x": "found x, expected identifier, string, number, bool at line 1, char 7",
    "select v\nfrom cpu\n where": (
        "found EOF, expected identifier, string, number, bool at line 3, char 8"
    ),
    "show retention": "found EOF, expected POLICIES at line 1, char 16",
    "create database": "found EOF, expected identifier at line 1, char 17",
    "create retention policy x on p2 duration 1h": (
        "found EOF, expected REPLICATION at line 1, char 44"
    ),
    "create retention policy x on p2 duration 1h replication 0": (
        "invalid value 0: must be 1 <= n <= 2147483647 at line 1, char 57"
    ),
    "alter retention policy autogen on p2": (
        "found EOF, expected DURATION, REPLICATION, SHARD, DEFAULT at line 1, char 38"
    ),
    "drop shard x": "found x, expected integer at line 1, char 12",
    "delete": "found EOF, expected FROM, WHERE at line 1, char 8",
    "foo bar": (
        "found foo, expected SELECT, DELETE, SHOW, CREATE, DROP, EXPLAIN, GRANT, REVOKE,"
        " ALTER, SET, KILL at line 1, char 1"
    ),
    "show foo": (
        "found foo, expected CONTINUOUS, DATABASES, DIAGNOSTICS, FIELD, GRANTS, MEASUREMENT,"
        " MEASUREMENTS, QUERIES, RETENTION, SERIES, SHARD, SHARDS, STATS, SUBSCRIPTIONS, TAG,"
        " USERS at line 1, char 6"
    ),
    "grant read to y": "found TO, expected ON at line 1, char 12",
    "show databases; create": (
        "found EOF, expected CONTINUOUS, DATABASE, USER, RETENTION, SUBSCRIPTION at line 1, char 24"
    ),
}
