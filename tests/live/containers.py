"""deploy/compose.yaml in real containers: backup, restore, a restart, and a kill at each place.

    python -m tests.live.containers

It needs podman, runc and podman-compose, and says so where one is missing. BUILD has more words for
`podman build`, such as `--from IMAGE`, and POSTGRES another image of PostgreSQL, where images
cannot be downloaded. The cluster is an embedded one in a container of its own.

The files of deploy/ are used as they are, with docs/deploy.md's first steps. What is asserted is
what the UI is told, what lies in the directory of backups, and which points a restore brings back.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests

from pipelines.services import HOST, ROOT, free_port
from tests.live.container_cluster import ADMIN, PASSWORD
from tests.live.deployment import Dagster, DagsterFailed, wait_for

PROJECT = "shardkeeper-trial"
DEPLOY, HERE = ROOT / "deploy", Path(__file__).parent
PROGRAMS = ("podman", "runc", "podman-compose")
SERVICES = ("postgres", "code", "webserver", "daemon", "cluster", "drill")
WITHIN_S = 600.0
WEEK_NS, FIRST_NS = 7 * 86_400 * 10**9, 1_600_000_000 * 10**9
AUTOMATIC = ("watch_eu", "missed_eu")
"""Switched off while backups are counted: they request runs by themselves."""
CODE_PROCESS = "the code server's process with the code"
AFTER_KILL = {
    "code": "FAILURE",
    CODE_PROCESS: "FAILURE",
    "run": "FAILURE",
    "daemon": "SUCCESS",
    "webserver": "SUCCESS",
}
"""How the run ends. Without PostgreSQL it may end either way, since its records are there."""
USER = 1000
T = TypeVar("T")


def main() -> int:
    """Run the trial; returns the exit status."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        report(f"skipped: {', '.join(missing)} not installed")
        return 0
    if os.geteuid() != 0:
        report("skipped: only root may give the directory of backups to the image's user")
        return 0
    build()
    with tempfile.TemporaryDirectory(prefix="shardkeeper-trial-", dir="/var/tmp") as directory:
        containers = Containers(Path(directory))
        with Dagster(containers) as dagster:
            trial = Trial(containers, dagster)
            trial.versions_and_limits()
            trial.backup_and_restore()
            trial.restart()
            for place in ("code", CODE_PROCESS, "run", "daemon", "postgres", "webserver"):
                trial.kill(place)
            trial.unattended()
    report("all of it held")
    return 0


def report(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def podman(*words: str) -> str:
    return command("podman", *words)


def command(*words: str, environment: dict[str, str] | None = None) -> str:
    """The output of a program.

    Raises:
        AssertionError: it failed; with what it wrote.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def build() -> None:
    began = time.monotonic()
    more = os.environ.get("BUILD", "").split()
    podman("build", "-q", *more, "-f", str(DEPLOY / "Dockerfile"), "-t", "shardkeeper", str(ROOT))
    report(f"built the image in {time.monotonic() - began:.0f} s")


def patiently(what: str, ask: Callable[[], T | None]) -> T:
    """Poll, while what is asked may be away."""

    def scan() -> T | None:
        try:
            return ask()
        except (requests.RequestException, DagsterFailed, KeyError, TypeError):
            return None

    return wait_for(what, scan, WITHIN_S)


class Containers:
    """The services of deploy/compose.yaml and two clusters, with their files in one directory.

    Args:
        directory: gets a copy of deploy/, the backups and the clusters' files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.deploy = directory, directory / "deploy"
        self.backups = directory / "backups" / "eu"
        self.ports = {name: free_port() for name in ("PORT", "CLUSTER_PORT", "DRILL_PORT")}
        directory.chmod(0o755)
        shutil.copytree(DEPLOY, self.deploy)
        shutil.copy(HERE / "container_cluster.py", directory / "cluster.py")
        password, secret = secrets.token_hex(16), self.deploy / "secrets" / "influxdb_eu"
        (self.deploy / ".env").write_text(f"DAGSTER_POSTGRES_PASSWORD={password}\n")
        secret.parent.mkdir()
        secret.write_text(secrets.token_hex(16))
        secret.chmod(0o400)
        self.backups.mkdir(parents=True, mode=0o700)
        for path in (secret, self.backups.parent, self.backups, *self._clusters()):
            os.chown(path, USER, USER)
        files = [self.deploy / "compose.yaml", HERE / "containers.yaml"]
        if image := os.environ.get("POSTGRES"):
            files.append(self.deploy / "postgres.yaml")
            files[-1].write_text(json.dumps({"services": {"postgres": {"image": image}}}))
        self._files = [word for path in files for word in ("-f", str(path))]

    def _clusters(self) -> list[Path]:
        found = [self.directory / name for name in ("cluster", "drill")]
        for path in found:
            path.mkdir()
        return found

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.ports['PORT']}"

    def __enter__(self) -> Containers:
        try:
            self.up()
        except BaseException:
            self.stop()
            raise
        return self

    def up(self) -> None:
        """Start what does not run; again where podman does not find a container that it made."""
        try:
            self.compose("up", "-d")
        except AssertionError as error:
            report(str(error))
            self.compose("up", "-d")

    def compose(self, *words: str) -> None:
        environment = {
            **os.environ,
            "BACKUPS": str(self.backups.parent),
            "TRIAL": str(self.directory),
            **{name: str(port) for name, port in self.ports.items()},
        }
        if not Path("/run/systemd/system").exists():
            environment["DISABLE_HC_SYSTEMD"] = "true"  # podman's timers are systemd's
        base = ("podman-compose", "--in-pod=false", "-p", PROJECT, *self._files)
        command(*base, *words, environment=environment)

    def check(self) -> None:
        """Whatever ends is started again by its restart policy."""

    def until(self, what: str, there: Callable[[], bool]) -> None:
        patiently(what, there)

    def stop(self) -> None:
        self.compose("down", "-v", "-t", "30")

    def inspect(self, service: str, field: str) -> str:
        return podman("inspect", "-f", f"{{{{{field}}}}}", container(service))

    def started(self, service: str) -> str:
        return self.inspect(service, ".State.StartedAt")

    def kill(self, service: str) -> None:
        """Kill a container's first process, as the kernel does when memory runs out."""
        os.kill(int(self.inspect(service, ".State.Pid")), signal.SIGKILL)

    def query(self, service: str, text: str, **more: str) -> Any:
        url = f"http://{HOST}:{self.ports[f'{service.upper()}_PORT']}/query"
        sent = {"q": text, "epoch": "ns", **more}
        reply = requests.post(url, data=sent, auth=(ADMIN, PASSWORD), timeout=60)
        assert reply.ok, reply.text
        return reply.json()["results"]

    def write(self, week: int, value: float) -> None:
        """Write points into the shard of one week."""
        lines = [
            f"cpu,host=h{host} value={value} {FIRST_NS + week * WEEK_NS + host}"
            for host in range(5)
        ]
        url = f"http://{HOST}:{self.ports['CLUSTER_PORT']}/write?db=telegraf"
        reply = requests.post(url, "\n".join(lines), auth=(ADMIN, PASSWORD), timeout=60)
        assert reply.ok, reply.text

    def points(self, service: str) -> Any:
        return self.query(service, "SELECT * FROM /.*/ GROUP BY *", db="telegraf")

    def archives(self) -> set[str]:
        return {path.name for path in self.backups.rglob("*.tar.gz")}


def healthy(check: tuple[str, ...]) -> bool:
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


CODE_PROCESSES = """[int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*")
    if b"dagster\\0api\\0grpc" in (p / "cmdline").read_bytes()]"""


def kill_in_code(found: str) -> None:
    """Kill processes of the code server's container; a small image has no kill(1).

    Args:
        found: an expression in Python, for their numbers.
    """
    program = f"import os, pathlib; numbers = {found}; print([os.kill(n, 9) for n in numbers])"
    killed = podman("exec", container("code"), "python", "-c", program)
    assert killed == "[None]", killed


def container(service: str) -> str:
    return f"{PROJECT}_{service}_1"


class Trial:
    """What an operator does, and what happens to an operator."""

    def __init__(self, containers: Containers, dagster: Dagster) -> None:
        self.containers, self.dagster = containers, dagster
        self.weeks = 0

    def versions_and_limits(self) -> None:
        """Every container has the rights and limits that the compose file states."""
        first = [command(name, "--version").splitlines()[0] for name in PROGRAMS]
        report("; ".join(first))
        found = [
            podman("exec", container("code"), "python", "--version"),
            f"Dagster {self.dagster.graphql('{ version }')['version']}",
            podman("exec", container("postgres"), "postgres", "--version"),
        ]
        report("; ".join(found))
        for service in SERVICES:
            status = podman("exec", container(service), "cat", "/proc/1/status")
            found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
            assert int(found["CapEff"], 16) == 0, (service, found["CapEff"])
            assert found["NoNewPrivs"] == "1", service
            assert found["Uid"].split()[0] != "0", service
            assert self.containers.inspect(service, ".HostConfig.ReadonlyRootfs") == "true"
            assert int(self.containers.inspect(service, ".HostConfig.Memory")) > 0
        report("no container is root, has a capability or writes its root; all have a memory limit")
        for service in ("postgres", "code"):
            check = ("podman", "healthcheck", "run", container(service))
            patiently(f"{service} to be healthy", lambda check=check: healthy(check))

    def outcome(self, run_id: str) -> str:
        def ended() -> str | None:
            status = self.dagster.run(run_id)["status"]
            return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

        return patiently(f"run {run_id} to end", ended)

    def run(self, job: str, config: dict[str, Any] | None = None) -> None:
        """Launch a run, and expect success."""
        began = time.monotonic()
        run_id = patiently(f"{job} to be launched", lambda: self.dagster.launch(job, config))
        assert self.outcome(run_id) == "SUCCESS", self.dagster.why(run_id)
        report(f"  {job} succeeded in {time.monotonic() - began:.0f} s")

    def restore(self) -> None:
        """Restore into the second cluster; every point is there."""
        self.containers.query("drill", "DROP DATABASE telegraf")
        config = {"ops": {"eu__restored_meta": {"config": {"db": "telegraf", "dry_run": False}}}}
        self.run("restore_eu", config)
        there = self.containers.points("cluster")
        assert there[0]["series"], there
        assert self.containers.points("drill") == there
        report(f"  every point of {self.weeks} shards was restored")

    def backup_and_restore(self) -> None:
        report("a backup and a restore")
        for name in AUTOMATIC:
            self.dagster.turn("Sensor", name, on=False)
        created = "CREATE DATABASE telegraf WITH REPLICATION 2"
        patiently("the cluster", lambda: self.containers.query("cluster", created))
        for week in range(4):
            self.containers.write(week, 1.0)
        self.weeks = 4
        self.run("back_up_eu")
        self.restore()

    def restart(self) -> None:
        report("everything is stopped and started again")
        before = [run["runId"] for run in self.dagster.runs("back_up_eu")]
        on = self.dagster.switches()
        assert on["adopt_eu"] == on["fail_lost_runs"] == "RUNNING", on
        archives = self.containers.archives()
        self.containers.compose("down", "-t", "30")
        self.containers.up()
        self.dagster.ready()
        assert [run["runId"] for run in self.dagster.runs("back_up_eu")] == before
        assert self.dagster.switches() == on
        report("  history, sensors and schedules are as before")
        self.containers.write(1, 2.0)
        self.run("back_up_eu")
        copied = self.containers.archives() - archives
        assert len(copied) == 1, copied
        report("  the next backup copied the one shard that had changed")

    def kill(self, place: str) -> None:
        """Kill something in the middle of a backup; the next run converges."""
        report(f"killed in the middle of a backup: {place}")
        hold, held = (self.containers.directory / "cluster" / name for name in ("hold", "held"))
        self.containers.write(self.weeks, 1.0)
        self.weeks += 1
        held.unlink(missing_ok=True)
        hold.touch()
        run_id = patiently("a launch", lambda: self.dagster.launch("back_up_eu"))
        wait_for("the backup to copy", held.exists, WITHIN_S)
        began, started = time.monotonic(), self.containers.started("code")
        if place == "run":
            kill_in_code(f"[{self.dagster.process(run_id)}]")
        elif place == CODE_PROCESS:
            kill_in_code(CODE_PROCESSES)
        else:
            self.containers.kill(place)
        if place in ("code", CODE_PROCESS):
            # A run outlives the process that launched it until its container ends.
            patiently("a new start", lambda: self.containers.started("code") != started)
        hold.unlink()
        ended = self.outcome(run_id)
        why = "" if ended == "SUCCESS" else ": " + self.dagster.why(run_id).strip().split("\n")[0]
        report(f"  its run ended with {ended} after {time.monotonic() - began:.0f} s{why}")
        assert ended == AFTER_KILL.get(place, ended), ended
        patiently("Dagster", lambda: self.dagster.ready() or True)
        self.verify()
        self.run("back_up_eu")
        self.verify()
        current = self.dagster.check("eu/shard_backup", "every_shard_current")
        assert current is not None, "no check"
        assert current["success"], current
        assert current["metadata"]["shards"] == self.weeks, current

    def verify(self) -> None:
        """Every backup in the directory is complete: what has a manifest has all of its files."""
        words = ("exec", container("code"), "shardkeeper", "verify", "/backups/eu")
        report(f"  verify: {podman(*words).splitlines()[-1]}")

    def unattended(self) -> None:
        """A change is backed up without a user, and all of it is restorable."""
        report("a change is backed up by itself, and restored")
        known = {run["runId"] for run in self.dagster.runs("back_up_eu")}
        for name in AUTOMATIC:
            self.dagster.turn("Sensor", name, on=True)
        self.containers.write(0, 3.0)

        def new() -> str | None:
            return next(
                (r["runId"] for r in self.dagster.runs("back_up_eu") if r["runId"] not in known),
                None,
            )

        assert self.outcome(patiently("a run by itself", new)) == "SUCCESS"
        self.run("verify_eu")
        self.restore()


if __name__ == "__main__":
    sys.exit(main())
