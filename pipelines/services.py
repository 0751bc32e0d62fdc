"""Start and stop Dagster's processes together: code server, web server, daemon.

    with Services(home, directory, port=3000) as services:
        print(services.url)

They are started by name, so this module does not import Dagster.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from resources.errors import ShardkeeperError

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
HOST = "127.0.0.1"
LOCATION = "shardkeeper"
READY_WITHIN_S = 180.0
END_WITHIN_S = 20.0
LAST_WORDS = 8
"""The lines shown of a process that ended by itself; its log has all of them."""
POLL_S = 0.1
PAUSES = "DAGSTER_GRPC_PROXY_HEARTBEAT_TTL_SECONDS"
CODE_WITHOUT_NEWS_S = 30 * 86_400
"""After which the process that has the code ends if its parent is silent: not when a laptop slept.

It is not started again; with Dagster's 30 s, no sensor and no run works after a pause.
"""
# Dagster marks some of its parts as beta or superseded; which ones to use was our choice.
WARNINGS = "ignore::DeprecationWarning,ignore::FutureWarning"


class ServiceEnded(ShardkeeperError):
    """One of Dagster's processes ended by itself."""


class Services:
    """Three processes that listen on 127.0.0.1 and below a temporary directory.

    Args:
        home: DAGSTER_HOME, with `dagster.yaml`; its `services` has the processes' output.
        directory: the processes' working directory; paths in `dagster.yaml` are relative to it.
        port: of the web server; 0: a free one.
        environment: variables besides those of this process.

    Raises:
        ServiceEnded: a process ended during the start.
    """

    def __init__(
        self,
        home: Path,
        directory: Path,
        *,
        port: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self._home = home
        self._directory = directory
        self._logs = home / "services"
        self._environment = environment or {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._scratch = tempfile.TemporaryDirectory(prefix="shardkeeper-")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        # In a temporary directory, because paths of sockets must be short.
        socket_path = Path(self._scratch.name) / "code.sock"
        workspace = Path(self._scratch.name) / "workspace.yaml"
        workspace.write_text(
            f"load_from:\n  - grpc_server: {{socket: {socket_path}, location_name: {LOCATION}}}\n"
        )
        module = ("-m", "pipelines.definitions", "-d", str(ROOT), "--location-name", LOCATION)
        code = ("-m", "pipelines.code_server", "--socket", str(socket_path))
        self._spawn("code", "python", *code, *module)
        self.until("the code server", socket_path.exists)
        where = ("-h", HOST, "-p", str(self.port), "-w", str(workspace))
        self._spawn("web", "dagster-webserver", *where)
        self._spawn("daemon", "dagster-daemon", "run", "-w", str(workspace))
        self.until("the web server", self._answers)

    def _spawn(self, name: str, program: str, *words: str) -> None:
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(self._home),
            "SHARDKEEPER_URL": self.url,
            PAUSES: str(CODE_WITHOUT_NEWS_S),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": WARNINGS,
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            **self._environment,
        }
        with (self._logs / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603
                [*die_with_us(), BIN / program, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process, which ends them in order
            )

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def until(self, what: str, there: Callable[[], bool]) -> None:
        """Poll until `there`, while all processes run.

        Raises:
            ServiceEnded: a process ended, or it took too long.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        while not there():
            self.check()
            if time.monotonic() > deadline:
                raise ServiceEnded(f"{what} was not ready within {READY_WITHIN_S:g} s")
            time.sleep(POLL_S)

    def check(self) -> None:
        """Require that all processes run.

        Raises:
            ServiceEnded: one ended; the message has its last lines.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                last = "\n".join(self.message(name).splitlines()[-LAST_WORDS:])
                raise ServiceEnded(
                    f"Dagster's {name} process ended with {process.returncode}; its last lines:\n"
                    f"{last[-2000:]}",
                    hint=f"start again; its whole output is in {self._logs / f'{name}.log'}",
                )

    def message(self, name: str) -> str:
        """The output of "code", "web" or "daemon"."""
        return (self._logs / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End all processes, including runs; first those that would start more."""
        for name in ("daemon", "web", "code"):
            process = self._processes.get(name)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + END_WITHIN_S
        for process in self._processes.values():
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            finally:
                _end_group(process.pid)
        self._scratch.cleanup()


def free_port() -> int:
    """A port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return sock.getsockname()[1]


def die_with_us() -> tuple[str, ...]:
    """A command prefix that ends the command if we are killed; setpriv(1) of util-linux."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "TERM") if setpriv else ()


def _end_group(leader: int) -> None:
    """Kill the processes that a process left behind, such as those of a run."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
