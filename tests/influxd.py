"""A real influxd to hold our code against: private, on loopback, gone when the test is.

    with Influxd(tmp_path, index_version="tsi1") as server:
        server.create_database("db")
        server.write("db", "cpu value=1 1600000000000000000")
        server.flush("db")
        server.query("SELECT * FROM cpu", db="db")

Everything lives below one directory; nothing is written or listened to outside of it.
`stop`, `kill` and `start` may be repeated: ports and files stay the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import requests
import urllib3

Setting = str | int | float | bool
Config = Mapping[str, Mapping[str, Setting]]

TESTS_FILE = "SHARDKEEPER_TESTS_FILE"
"""The variable with the file that gets the id of each test that needs an influxd, for `.ci/run`."""

XDIST_GROUP = re.compile(r"@[^@\[\]/]+$")
"""What pytest-xdist writes behind the id of a test that belongs to a group."""

READY_WITHIN_S = 30.0
POLL_S = 0.02
ADDRESS_IN_USE = "address already in use"


class InfluxdFailed(AssertionError):
    """The server did not start, did not answer, or answered with an error."""


class InfluxdMissing(AssertionError):
    """No influxd is installed. A test that ends with this is left out: see `conftest.py`."""


class Influxd:
    """One influxd process and its directory.

    Args:
        directory: where configuration, metastore, WAL, TSM files and log go; created.
        index_version: `inmem` or `tsi1`.
        cache_cold: idle time after which the cache becomes a TSM file; `flush` relies on
            it being short.
        cache_snapshot_bytes: cache size at which that happens anyway; None: the default.
        monitor: whether the server writes about itself into `_internal`.
        retention_check: how often expired shards are deleted.
        config: further settings by section, e.g. `{"http": {"auth-enabled": True}}`; they win.

    Attributes:
        http_addr: host:port of the HTTP API (8086 elsewhere).
        bind_addr: host:port of the snapshotter service (8088 elsewhere).
        credentials: user and password that `query` and `write` send, or None.
    """

    def __init__(
        self,
        directory: Path,
        *,
        index_version: str = "inmem",
        cache_cold: str = "1s",
        cache_snapshot_bytes: int | None = None,
        monitor: bool = False,
        retention_check: str = "30m",
        config: Config | None = None,
    ) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.wal_dir = directory / "wal"
        self.meta_dir = directory / "meta"
        self.log_path = directory / "influxd.log"
        self.credentials: tuple[str, str] | None = None
        self.http_addr = self.bind_addr = ""
        self._settings: dict[str, dict[str, Setting]] = {
            "": {"reporting-disabled": True},
            "meta": {"dir": str(self.meta_dir)},
            "data": {
                "dir": str(self.data_dir),
                "wal-dir": str(self.wal_dir),
                "index-version": index_version,
                "cache-snapshot-write-cold-duration": cache_cold,
                "query-log-enabled": False,
            },
            "monitor": {"store-enabled": monitor},
            "retention": {"check-interval": retention_check},
            "subscriber": {"enabled": False},
            "http": {"log-enabled": False},
        }
        if cache_snapshot_bytes is not None:
            self._settings["data"]["cache-snapshot-memory-size"] = cache_snapshot_bytes
        self.configure(config or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = False
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def configure(self, config: Config) -> None:
        """Change settings by section; a running server takes them up when it is restarted."""
        for section, settings in config.items():
            self._settings.setdefault(section, {}).update(settings)

    @staticmethod
    def installed() -> bool:
        return _find_program() is not None

    # --- the process ----------------------------------------------------------------------

    def __enter__(self) -> Influxd:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._session.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start and wait until both ports answer; the first start picks free ports."""
        assert not self.running, "influxd is running already"
        self.directory.mkdir(parents=True, exist_ok=True)
        first = not self.http_addr
        for attempt in range(5):
            if first:
                # A port that was free a moment ago may be another test's by now.
                self.http_addr, self.bind_addr = _free_addresses(2)
            try:
                self._launch()
            except InfluxdFailed as failure:
                if attempt == 4 or ADDRESS_IN_USE not in str(failure):
                    raise
            else:
                return

    def stop(self) -> None:
        """End the server the polite way; it closes its files."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    @staticmethod
    def program() -> str:
        """The influxd that comes first in PATH, so that the tests run against any version.

        Raises:
            InfluxdMissing: there is none.
        """
        program = _find_program()
        if program is None:
            raise InfluxdMissing("there is no influxd in PATH")
        return program

    def _launch(self) -> None:
        config_path = self.directory / "influxdb.conf"
        config_path.write_text(self._toml())
        log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [self.program(), "-config", str(config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.directory)},
            )
        try:
            wait_until(self._answers, within_s=READY_WITHIN_S, what="influxd to be ready")
        except InfluxdFailed as failure:
            self.kill()
            tail = self.log_path.read_bytes()[log_start:][-4000:].decode(errors="replace")
            raise InfluxdFailed(f"{failure}; its log says:\n{tail}") from None

    def _answers(self) -> bool:
        if not self.running:
            raise InfluxdFailed("influxd ended while starting")
        try:
            self._session.get(f"{self.url}/ping", timeout=5).raise_for_status()
            socket.create_connection(_split(self.bind_addr), timeout=5).close()
        except (requests.RequestException, OSError):
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(how)
        try:
            self._process.wait(timeout=READY_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _toml(self) -> str:
        ports: Config = {"": {"bind-address": self.bind_addr}}
        http: Config = {"http": {"bind-address": self.http_addr}}
        lines: list[str] = []
        for section, settings in self._settings.items():
            if section:
                lines.append(f"[{section}]")
            own = {**ports.get(section, {}), **http.get(section, {}), **settings}
            # TOML and JSON write strings, numbers and booleans in the same way.
            lines += [f"{name} = {json.dumps(value)}" for name, value in own.items()]
        return "\n".join(lines) + "\n"

    # --- what it is asked -----------------------------------------------------------------

    @property
    def url(self) -> str:
        https = self._settings["http"].get("https-enabled", False)
        return f"{'https' if https else 'http'}://{self.http_addr}"

    @property
    def version(self) -> str:
        """The server's own word, e.g. `1.6.7~rc0`."""
        response = self._session.get(f"{self.url}/ping", timeout=30)
        return response.headers["X-Influxdb-Version"].removeprefix("v")

    def query(
        self, q: str, *, db: str | None = None, rp: str | None = None, epoch: str | None = "ns"
    ) -> list[dict[str, Any]]:
        """Run statements and return their results; `epoch=None` gives RFC 3339 times.

        Raises:
            InfluxdFailed: the request, or one of the statements, failed.
        """
        params = {"db": db, "rp": rp, "epoch": epoch}
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            response = self._session.post(
                f"{self.url}/query",
                params={name: value for name, value in params.items() if value is not None},
                data={"q": q},
                auth=self.credentials,
                timeout=60,
            )
            reply = response.json()
            results = reply.get("results", [])
            errors = [result["error"] for result in (reply, *results) if "error" in result]
            if not errors:
                return results
            # While it imports what a killed restore had sent, no client can read that shard.
            if "shard is disabled" not in errors or time.monotonic() > deadline:
                raise InfluxdFailed(f"{q}: {'; '.join(errors)}")
            time.sleep(POLL_S)

    def rows(self, q: str, *, db: str | None = None, rp: str | None = None) -> list[list[Any]]:
        """The values of all series of one statement, times in ns first."""
        [result] = self.query(q, db=db, rp=rp)
        return [row for series in result.get("series", []) for row in series.get("values", [])]

    def write(
        self,
        db: str,
        lines: str | bytes | Iterable[str],
        precision: str = "ns",
        *,
        rp: str | None = None,
    ) -> None:
        """Write points in line protocol.

        Raises:
            InfluxdFailed: the server refused some or all of them.
        """
        if isinstance(lines, bytes):
            body = lines
        else:
            body = (lines if isinstance(lines, str) else "\n".join(lines)).encode()
        params = {"db": db, "precision": precision} | ({"rp": rp} if rp is not None else {})
        response = self._session.post(
            f"{self.url}/write", params=params, data=body, auth=self.credentials, timeout=60
        )
        if response.status_code != 204:
            raise InfluxdFailed(f"write into {db}: {response.status_code} {response.text}")

    def create_database(self, name: str, *, with_: str = "") -> None:
        """CREATE DATABASE; `with_` is what follows WITH, e.g. `DURATION 7d NAME "week"`."""
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        self.query(f'CREATE DATABASE "{quoted}"' + (f" WITH {with_}" if with_ else ""))

    def drop_database(self, name: str) -> None:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        self.query(f'DROP DATABASE "{quoted}"')

    # --- what it keeps --------------------------------------------------------------------

    def tsm_files(self, db: str) -> list[Path]:
        """The TSM files of a database, of all policies and shards, in order."""
        return sorted((self.data_dir / db).glob("*/*/*.tsm"))

    def tombstone_files(self, db: str) -> list[Path]:
        return sorted((self.data_dir / db).glob("*/*/*.tombstone"))

    def flush(self, db: str) -> list[Path]:
        """Wait until everything written to a database is in TSM files; return those.

        The engine empties a cache that has been idle for `cache_cold`, then deletes the
        WAL segments that it covered.
        """

        def flushed() -> bool:
            return not any(_size_bytes(path) for path in (self.wal_dir / db).glob("*/*/*.wal"))

        wait_until(flushed, within_s=READY_WITHIN_S, what=f"{db}'s cache to be written")
        # A directory that is listed while a compaction swaps its files may show none of them.
        wait_until(lambda: self.tsm_files(db), within_s=READY_WITHIN_S, what=f"files of {db}")
        return self.tsm_files(db)


def wait_until(condition: Callable[[], object], *, within_s: float, what: str) -> None:
    """Poll until `condition` holds.

    Raises:
        InfluxdFailed: it did not within `within_s` seconds.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise InfluxdFailed(f"waited {within_s:g} s for {what}")
        time.sleep(POLL_S)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _free_addresses(n: int) -> list[str]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _split(addr: str) -> tuple[str, int]:
    host, _, port = addr.rpartition(":")
    return host, int(port)


def _find_program() -> str | None:
    """The path of influxd; the test that asks is written down where `TESTS_FILE` says."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    if test and TESTS_FILE in os.environ:
        with Path(os.environ[TESTS_FILE]).open("a") as file:
            file.write(XDIST_GROUP.sub("", test) + "\n")
    return shutil.which("influxd")
