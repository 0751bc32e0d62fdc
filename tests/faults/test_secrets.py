"""A canary in every credential, every way of failing, and no canary in anything that is left."""

from __future__ import annotations

import base64
import os
import secrets
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import pytest

from resources.embedded.cluster import EmbeddedCluster
from resources.embedded.meta.auth import MetaAuth
from resources.embedded.server import EmbeddedServer
from resources.runtime.failpoints import VARIABLE
from tests.influxd import wait_until
from tests.pipelines.harness import DagsterHarness
from tests.processes import ForkServer
from tests.resources.clients.peer import closed_port, peer, silent
from tests.wire.commands import Done, influxd_ctl, shardkeeper

pytestmark = pytest.mark.fault(82)

T0 = 1_600_000_000_000_000_000
USER = "keeper"


class Canary:
    """A secret, and how to find it again in whatever form."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.core = f"c4n4ry{secrets.token_hex(8)}"
        self.text = f"p@ss/{self.core}%41"

    def forms(self) -> list[bytes]:
        """As it is, and within base64 at any offset; escapes spare its letters."""
        raw = self.core.encode()
        shifted = [base64.b64encode(b"x" * n + raw)[4 if n else 0 : -4] for n in range(3)]
        return [raw, *shifted]

    def is_in(self, output: bytes) -> bool:
        return any(form in output for form in self.forms())


def test_a_canary_is_found_in_any_form() -> None:
    canary = Canary("here")
    for n in range(5):
        header = base64.b64encode(f"{'u' * n}:{canary.text}".encode())
        assert canary.is_in(b"Authorization: Basic " + header)
    assert canary.is_in(f"http://u:{canary.core}@h".encode())
    assert not canary.is_in(Canary("there").text.encode())


# --- credentials -----------------------------------------------------------------------------

Flags = tuple[object, ...]


@dataclass(frozen=True)
class Purse:
    """One of each credential and every way to hand it over, each with a canary of its own."""

    directory: Path

    def ways(self) -> Iterator[tuple[Canary, Flags, Mapping[str, str]]]:
        """The canary, the flags that lead to it, and the environment."""
        for auth, flag, file_flag, variable, user in (
            ("basic", "-pwd", "-pwd-file", "INFLUX_PASSWORD", ("-user", USER)),
            ("jwt", "-secret", "-secret-file", "INFLUXDB_SHARED_SECRET", ()),
        ):
            kind: Flags = ("-auth-type", auth, *user)
            canary = Canary(f"{auth} by flag")
            yield canary, (*kind, flag, canary.text), {}
            canary = Canary(f"{auth} by file")
            path = self.directory / f"{auth}.secret"
            path.write_text(canary.text + "\n")
            yield canary, (*kind, file_flag, path), {}
            canary = Canary(f"{auth} by variable")
            yield canary, kind, {variable: canary.text}
        canary = Canary("a meta node's configuration")
        path = self.directory / "meta.conf"
        path.write_text(f'[meta]\ninternal-shared-secret = "{canary.text}"\n')
        yield canary, ("-auth-type", "jwt", "-config", path), {}


def echoing(sock: socket.socket) -> None:
    """A hostile peer: says back what it heard, as an error, as a value, as a header."""
    heard = sock.recv(65536)
    lines = b" ".join(heard.split())
    body = b'{"error":"' + lines.replace(b'"', b"'").replace(b"\\", b"/") + b'"}'
    head = b"HTTP/1.1 401 Unauthorized\r\nX-Influxdb-Version: %s\r\nWWW-Authenticate: %s\r\n"
    end = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    sock.sendall(head % (lines[:900], lines[:900]) + end % len(body) + body)


@pytest.fixture(scope="module")
def bad_addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """By what is wrong with them, addresses where meta nodes are looked for."""
    with ExitStack() as stack:
        auth = MetaAuth(enabled=True, internal_shared_secret="another")
        where = tmp_path_factory.mktemp("refusing")
        refusing = stack.enter_context(EmbeddedCluster(where, 1, 1, auth=auth))
        refusing.query(f"CREATE USER {USER} WITH PASSWORD 'another' WITH ALL PRIVILEGES")
        yield {
            "unreachable": closed_port(),
            "refused": refusing.meta[0].http_addr,
            "no TLS": refusing.meta[0].http_addr,
            "hostile": stack.enter_context(peer(echoing)),
        }


def commands(directory: Path) -> dict[str, Flags]:
    return {
        "backup": ("backup", directory),
        "estimate": ("backup", "-estimate"),
        "show": ("show",),
        "show-shards": ("show-shards", "-v"),
        "restore": ("restore", "-db", "db", "-newdb", "new", directory),
        "plan": ("restore", "-plan", "-json", directory),
        "overwrite": ("restore", "-meta-only-overwrite-force", directory),
        "merge": ("merge", "-db", "db", directory),
        "repair": ("verify", "-repair", directory),
        "help": ("backup", "-h"),
        "nonsense": ("backup", "-nonsense", directory),
    }


def require(canary: Canary, left: bytes, what: object) -> None:
    assert not canary.is_in(left), (canary.where, what)


def everything_in(directory: Path) -> bytes:
    """Every file's bytes and name."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return b"\n".join(os.fsencode(path) + path.read_bytes() for path in files)


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a backup of a cluster, and with a shard that is damaged."""
    where = tmp_path_factory.mktemp("backed-up")
    directory = where / "backups"
    directory.mkdir(mode=0o700)
    with EmbeddedCluster(where / "cluster", 1, 1) as cluster:
        cluster.query("CREATE DATABASE db")
        cluster.write("db", f"m v=1 {T0}")
        assert shardkeeper("-bind", cluster.meta[0].http_addr, "backup", directory)
    [archive] = directory.glob("*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-9])
    return directory


def both(flags: Flags, command: Flags) -> list[Done]:
    return [run(*flags, *command) for run in (shardkeeper, influxd_ctl)]


@pytest.mark.parametrize("wrong", ["unreachable", "refused", "no TLS", "hostile"])
def test_no_command_reports_a_secret_however_it_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bad_addresses: Mapping[str, str],
    backed_up: Path,
    wrong: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    address = ("-bind", bad_addresses[wrong], "-timeout", "2s")
    tls = ("-bind-tls",) if wrong == "no TLS" else ()
    purse = tmp_path / "purse"
    purse.mkdir()
    failed = 0
    ways = [way for way in Purse(purse).ways() if wrong == "hostile" or "by flag" in way[0].where]
    for canary, flags, environment in ways:
        with patch.dict(os.environ, environment):
            for name, command in commands(backed_up).items():
                for done in both((*address, *tls, *flags), command):
                    require(canary, (done.out + done.err).encode(), name)
                    assert "Traceback" not in done.err, done
                    failed += not done
        require(canary, everything_in(backed_up), "the directory")
    assert failed >= 18 * len(ways)
    assert {path.name for path in tmp_path.iterdir()} == {"purse"}


URLS = ("http://{user}:{secret}@{at}", "https://{user}:{secret}@{at}", "{user}:{secret}@{at}")


@pytest.mark.parametrize("flag", ["-http", "-host", "-bind"])
def test_a_password_in_an_address_is_not_reported(
    tmp_path: Path, bad_addresses: Mapping[str, str], backed_up: Path, flag: str
) -> None:
    """Whether such an address is taken or refused."""
    canaries: list[Canary] = []
    with EmbeddedServer(tmp_path / "server") as server:
        tcp = ("-host", server.tcp_addr) if flag == "-http" else ()
        for at in (*bad_addresses.values(), server.http_addr):
            for form in URLS:
                canaries.append(canary := Canary(flag))
                url = form.format(user=USER, secret=canary.core, at=at)
                for command in (("backup", backed_up), ("show",), ("restore", "-plan", backed_up)):
                    for done in both((*tcp, flag, url, "-timeout", "2s"), command):
                        require(canary, (done.out + done.err).encode(), (form, command, done))
    left = everything_in(backed_up)
    for canary in canaries:
        require(canary, left, "the directory")


def test_neither_success_nor_a_crash_nor_argv_has_a_secret(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    canary = Canary("the right password")
    environment = {"INFLUX_USERNAME": USER, "INFLUX_PASSWORD": canary.core}
    backups = tmp_path / "backups"
    backups.mkdir(mode=0o700)
    with EmbeddedCluster(tmp_path / "cluster", 1, 2, auth=MetaAuth(enabled=True)) as cluster:
        cluster.query(f"CREATE USER {USER} WITH PASSWORD '{canary.core}' WITH ALL PRIVILEGES")
        cluster.query("CREATE DATABASE db")
        cluster.write("db", f"m v=1 {T0}")
        at = ("-bind", cluster.meta[0].http_addr, "-timeout", "5s")
        again = ("restore", *at, "-db", "db", "-newdb", "new", backups)
        output = b""
        for args, request, code in (
            (("backup", *at, backups), "backup.before-commit", -9),
            (("backup", *at, backups), "", 0),
            (again, "cluster.shards-created", -9),  # its journal stays
        ):
            run = fork_server.start(
                *args, env={**environment, **({VARIABLE: request} if request else {})}
            )
            done = run.wait()
            assert done.code == code, done
            output += (done.out + done.err).encode()
        assert list(backups.glob(".shardkeeper.restore-*"))
        require(canary, output + everything_in(backups), "a killed run")
        with patch.dict(os.environ, environment):
            for command in (again, ("merge", *at, "-db", "db", backups), (*at, "show")):
                done = shardkeeper(*command)
                assert done, done
                output += (done.out + done.err).encode()
            assert list(backups.glob("*.receipt.json"))
            for what in (
                "resources.engine.backup.run.plan_backup",
                "resources.engine.backup.plan.select",
            ):
                output += bug(what, ("backup", *at, backups)).encode()
    require(canary, output + everything_in(backups), "a run")


def bug(what: str, args: Flags) -> str:
    """The traceback of a command that meets a mistake of ours."""
    with patch(what, side_effect=ZeroDivisionError("a bug")):
        try:
            done = shardkeeper(*args)
        except ZeroDivisionError as error:
            return "".join(traceback.format_exception(error))
    assert "ZeroDivisionError" in done.err, done
    return done.err


def test_no_process_has_a_secret_in_its_argv(tmp_path: Path) -> None:
    """While a run waits for a silent server, all command lines of the machine are read."""
    ways = [way for way in Purse(tmp_path).ways() if "flag" not in way[0].where]
    heard: list[bytes] = []

    def listening(sock: socket.socket) -> None:
        heard.append(sock.recv(1))
        silent(sock)

    with ExitStack() as stack:
        for _, flags, environment in ways:
            address = stack.enter_context(peer(listening))
            code = "from pipelines.ctl.start import shardkeeper; shardkeeper()"
            words = [sys.executable, "-c", code, "-bind", address, *map(str, flags), "show"]
            run = subprocess.Popen(
                words, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(run.wait)
            stack.callback(run.kill)
        wait_until(lambda: len(heard) >= len(ways), within_s=60, what="all of them to ask")
        lines = b"\n".join(all_argv())
    assert lines.count(b"shardkeeper()") >= len(ways)
    for canary, _, _ in ways:
        require(canary, lines, "argv")


def all_argv() -> list[bytes]:
    found: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue  # it has ended
    return found


# --- Dagster ---------------------------------------------------------------------------------

NOTIFIED = "http://127.0.0.1:{port}/services/{secret}?token={secret}"


@pytest.mark.parametrize("wrong", ["unreachable", "hostile", "let in"])
def test_no_run_leaves_a_secret_in_dagsters_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_addresses: Mapping[str, str], wrong: str
) -> None:
    home = tmp_path / "home"
    password, hook = Canary("password"), Canary("webhook")
    file = tmp_path / "password"
    file.write_text(password.core)
    port = closed_port().rpartition(":")[2]
    monkeypatch.setenv("HOOK", NOTIFIED.format(port=port, secret=hook.core))
    with ExitStack() as stack:
        cluster = stack.enter_context(
            EmbeddedCluster(tmp_path / "cluster", 1, 1, auth=MetaAuth(enabled=True))
        )
        cluster.query(f"CREATE USER {USER} WITH PASSWORD '{password.core}' WITH ALL PRIVILEGES")
        cluster.query("CREATE DATABASE db")
        cluster.write("db", f"m v=1 {T0}")
        home.mkdir()
        instance = stack.enter_context(dg.DagsterInstance.local_temp(str(home)))
        here = {
            "bind": bad_addresses.get(wrong, cluster.meta[0].http_addr),
            "user": USER,
            "password": {"file": str(file)},
            "tls": wrong == "no TLS",
            "timeout": "2s",
        }
        harness = DagsterHarness(
            tmp_path, instance, here, target=here, notify=[{"url": {"env": "HOOK"}}]
        )
        harness.tell_of_failures()  # what failed earlier is history
        results = [harness.back_up(attempts=1), harness.scan()]
        results.append(
            harness.run("restore_influxdb", db="db", newdb="new", allow_same_server=True)
        )
        events = harness.tell_of_failures()
        assert ("a webhook could not be reached" in events) == (wrong != "let in")
        require(hook, events.encode(), wrong)
        assert [result.success for result in results] == [wrong == "let in"] * len(results)
        assert instance.get_runs_count() == len(results)
    left = everything_in(home) + everything_in(harness.backups)
    assert b"back_up_influxdb" in left
    require(password, left, wrong)
    require(hook, left, wrong)
