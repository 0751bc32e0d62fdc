"""A PostgreSQL server of Debian's package, private to one test.

    with Postgres() as server:
        environment = server.environment

It listens on a free port of 127.0.0.1 and asks for a password. Its files lie in a directory of its
own, as the user that Debian's package made if we are root, which the server refuses to be.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from pipelines.services import HOST, free_port

PROGRAMS = Path("/usr/lib/postgresql")
USER = "postgres"
READY_WITHIN_S = 120.0
POLL_S = 0.1


def programs() -> Path | None:
    """Where the newest installed server's programs are."""
    found = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """A server with an empty database."""

    def __init__(self) -> None:
        found = programs()
        assert found is not None
        self._bin = found
        self._directory = Path(tempfile.mkdtemp(prefix="shardkeeper-postgres-"))
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def environment(self) -> dict[str, str]:
        """What deploy/dagster.yaml asks for."""
        return {
            "DAGSTER_POSTGRES_HOST": HOST,
            "DAGSTER_POSTGRES_PORT": str(self.port),
            "DAGSTER_POSTGRES_USER": USER,
            "DAGSTER_POSTGRES_PASSWORD": self._password,
            "DAGSTER_POSTGRES_DB": "postgres",
        }

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> None:
        password = self._directory / "password"
        password.write_text(self._password)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            for path in (self._directory, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data = self._directory / "data"
        asked = ["-A", "scram-sha-256", "-U", USER, "--pwfile", str(password), "--no-sync"]
        self._run("initdb", "-D", str(data), *asked)
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *_as_nobody_in_particular(),
                    self._bin / "postgres",
                    *("-D", data, "-h", HOST, "-p", str(self.port)),
                    *("-c", "fsync=off", "-c", f"unix_socket_directories={self._directory}"),
                ],
                cwd=self._directory,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self._directory / "log").read_text())
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        command = [self._bin / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [*_as_nobody_in_particular(), self._bin / program, *words],
            cwd=self._directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def count(self, table: str, where: str) -> int:
        """How many rows of a table."""
        done = subprocess.run(
            [
                *(self._bin / "psql", "-At", "-h", HOST, "-p", str(self.port), "-U", USER),
                *("-c", f"SELECT count(*) FROM {table} WHERE {where}"),
            ],
            env={"PGPASSWORD": self._password},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)


def _as_nobody_in_particular() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups")
