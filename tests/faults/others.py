"""Others who use a cluster while restores are tried on it, and what was acknowledged to them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from resources.model import Metastore

LIFE = "living_life"
START_S = 1_600_000_000


class Users:
    """The HTTP port of a data node, as others use it: one try each, and no look at meta nodes."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._session = requests.Session()
        self._session.trust_env = False

    def query(self, text: str, database: str = "") -> list[Any]:
        """The results of statements.

        Raises:
            NotAcknowledged: no answer came, or an error.
        """
        params = {"db": database, "epoch": "ns"}
        reply = self._post("query", params, {"q": text}).json()
        results = reply.get("results", [])
        if errors := [result["error"] for result in (reply, *results) if "error" in result]:
            raise NotAcknowledged(f"{text}: {errors[0]}")
        return results

    def write(self, database: str, lines: str) -> None:
        """Write line protocol with times in seconds.

        Raises:
            NotAcknowledged: no answer came, or an error.
        """
        params = {"db": database, "precision": "s", "consistency": "all"}
        reply = self._post("write", params, lines.encode())
        if reply.status_code != 204:
            raise NotAcknowledged(reply.text[:200])

    def points(self, database: str) -> set[int]:
        results = self.query("SELECT v FROM theirs", database)
        values = results[0].get("series", [{"values": []}])[0]["values"]
        return {int(value[1]) for value in values}

    def _post(self, path: str, params: dict[str, str], data: Any) -> requests.Response:
        try:
            return self._session.post(
                f"http://{self._address}/{path}", params=params, data=data, timeout=20
            )
        except requests.RequestException as error:
            raise NotAcknowledged(str(error)) from None


class NotAcknowledged(Exception):
    """The answer did not come."""


@dataclass
class Acknowledged:
    """What others were told is so; what they were told nothing about is not in it."""

    databases: set[str] = field(default_factory=set[str])
    users: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    points: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    """By database: numbers of theirs."""

    def missing(self, users: Users, now: Metastore) -> list[str]:
        there = {db.name for db in now.databases}
        found = [f"database {name}" for name in self.databases - there]
        grants = {u.name: {grant.database for grant in u.privileges} for u in now.users}
        for name, wanted in self.users.items():
            if name not in grants:
                found.append(f"user {name}")
            else:
                found += [f"grant {name} on {db}" for db in wanted - grants[name]]
        for database, points in self.points.items():
            left = users.points(database) if database in there else set[int]()
            found += [f"point {point} of {database}" for point in points - left]
        return found


class Others:
    """They change databases, users and points, one change after the other."""

    def __init__(self, users: Users, rng: random.Random) -> None:
        self._users = users
        self._rng = rng
        self._mutex = threading.Lock()
        self._n = 0
        self.acknowledged = Acknowledged()
        self.also = ""
        """A database that a restore is making, into which they write, too."""

    @contextmanager
    def at_work(self, every_s: float) -> Iterator[None]:
        done = threading.Event()

        def work() -> None:
            while not done.wait(self._rng.uniform(0.5, 1.5) * every_s):
                self.change()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def change(self) -> None:
        """Change one thing, or not if the cluster says no."""
        with self._mutex, suppress(NotAcknowledged):
            self._change()

    def _change(self) -> None:
        self._n += 1
        name, output = f"living_{self._n}", self.acknowledged
        what = self._rng.choice(("create", "drop", "user", "grant", "write", "write"))
        if what == "drop" and len(output.databases) > 4:
            gone = self._rng.choice(sorted(output.databases - {LIFE}))
            output.databases.discard(gone)  # from now on either is right
            self._users.query(f"DROP DATABASE {gone}")
        elif what == "user":
            self._users.query(f"CREATE USER {name} WITH PASSWORD 'a-secret'")
            output.users[name] = set()
        elif what == "grant" and output.users:
            user = self._rng.choice(sorted(output.users))
            self._users.query(f"GRANT READ ON {LIFE} TO {user}")
            output.users[user].add(LIFE)
        elif what == "write":
            database = LIFE if not self.also or self._rng.random() < 0.5 else self.also
            self._users.write(database, f"theirs v={self._n}i {START_S + self._n * 3600}")
            output.points.setdefault(database, set()).add(self._n)
        else:
            self._users.query(f"CREATE DATABASE {name} WITH DURATION 9000d NAME rp")
            output.databases.add(name)
