"""Asked to stop, a run stops within five seconds wherever it is, and leaves nothing behind."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest
from dagster._grpc.types import ExecuteRunArgs

from tests.faults.places import Place
from tests.pipelines.harness import ROOT, at, configure, launched
from tests.processes import ForkServer, Run
from tests.proxy import Proxy, Stall, shard_backups, uploads
from tests.wire.commands import shardkeeper
from tests.wire.points import databases, points

pytestmark = pytest.mark.fault(27)

SOON_S = 5.0
INTERRUPTED = 130
SIGNALS = (signal.SIGTERM, signal.SIGINT)
TOO_EARLY = (-signal.SIGTERM, -signal.SIGINT)
"""Signals that ended a process before its first line could hear them."""
AT_LEAST, AT_MOST, MUST_MEET = 12, 150, 3
GOLDEN = 0.618034


def asked_to_stop(run: Run, how: signal.Signals) -> tuple[int, str]:
    """Its status and what it said; it took less than five seconds."""
    run.send(how)
    began = time.monotonic()
    done = run.wait(within_s=60)
    assert time.monotonic() - began < SOON_S, done
    # Python tells of an interrupt that meets it while it closes what a finished run had open.
    assert done.code == 0 or "Traceback" not in done.err, done
    return done.code, done.err


def moments(whole_s: float, met: Sequence[object]) -> Iterator[tuple[float, signal.Signals]]:
    """When to send what, all over the time of a whole run, until enough have met one at work."""
    for i in range(AT_MOST):
        if i >= AT_LEAST and len(met) >= MUST_MEET:
            return
        yield i * GOLDEN % 1 * whole_s, SIGNALS[i % 2]
    raise AssertionError(f"of {AT_MOST} signals {len(met)} met a run at work")


def seconds_of(run: Run) -> float:
    began = time.monotonic()
    done = run.wait()
    assert done, done
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_a_backup_stops_at_any_moment(
    request: pytest.FixtureRequest, fork_server: ForkServer, kind: str
) -> None:
    place: Place = request.getfixturevalue(kind)
    expectation = place.expectation()
    expectation.back_up()
    flags = (
        "backup",
        *expectation.flags,
        "-full",
        "-db",
        expectation.database,
        expectation.backups,
    )
    whole_s = seconds_of(fork_server.start(*flags))
    assert expectation.take_note()
    stopped: list[float] = []
    for moment_s, how in moments(whole_s, stopped):
        run = fork_server.start(*flags)
        time.sleep(moment_s)
        code, output = asked_to_stop(run, how)
        committed = expectation.take_note()
        assert code in (0, INTERRUPTED, *TOO_EARLY), (code, output)
        assert not (code == 0 and not committed)
        if code == INTERRUPTED and not committed:
            stopped.append(moment_s)
    # A signal between two instructions may leave a file of no backup; the next run sweeps it.
    expectation.back_up()
    assert expectation.tidy(), sorted(expectation.backups.iterdir())
    expectation.check_all()


def test_a_restore_stops_at_any_moment_and_takes_back_what_it_did(
    server: Place, fork_server: ForkServer
) -> None:
    expectation = server.expectation()
    expectation.back_up()
    name = f"copy-{expectation.database}"
    before = databases(server.target)
    flags = ("restore", *server.target_flags, "-db", expectation.database, "-newdb", name)
    whole_s = seconds_of(fork_server.start(*flags, expectation.backups))
    server.target.drop_database(name)
    stopped: list[float] = []
    for moment_s, how in moments(whole_s, stopped):
        run = fork_server.start(*flags, expectation.backups)
        time.sleep(moment_s)
        code, output = asked_to_stop(run, how)
        if code == 0 or name in databases(server.target):
            assert points(server.target, name) == expectation.now(), output
            server.target.drop_database(name)
        if code == INTERRUPTED:
            stopped.append(moment_s)
        assert databases(server.target) == before


def test_a_restore_into_a_cluster_stops_at_any_moment_and_takes_back_what_it_did(
    cluster: Place, fork_server: ForkServer
) -> None:
    running = cluster.cluster
    assert running is not None
    for node in running.meta:
        node.leases.forget()
    expectation = cluster.expectation()
    expectation.back_up()
    expected = expectation.now()
    flags = ("restore", *cluster.source_flags, "-timeout", "5s", "-db", expectation.database)
    cluster.source.drop_database(expectation.database)
    before = databases(cluster.source)
    whole_s = seconds_of(fork_server.start(*flags, expectation.backups))
    cluster.source.drop_database(expectation.database)
    stopped: list[float] = []
    for moment_s, how in moments(whole_s, stopped):
        run = fork_server.start(*flags, expectation.backups)
        time.sleep(moment_s)
        code, output = asked_to_stop(run, how)
        if expectation.database in databases(cluster.source):
            assert points(cluster.source, expectation.database) == expected, output
            cluster.source.drop_database(expectation.database)
        assert databases(cluster.source) == before, output
        if list(expectation.backups.glob(".shardkeeper.restore-*")):  # a command was on its way
            assert "run restore again" in output
        if code == INTERRUPTED:
            stopped.append(moment_s)
    again = shardkeeper(*flags, expectation.backups)
    assert again, again
    assert points(cluster.source, expectation.database) == expected
    assert not list(expectation.backups.glob(".shardkeeper.restore-*"))
    known = {found.shard_id for found in running.group.metastore.places()}
    assert {shard for node in running.data for shard in node.store.shards()} <= known


@pytest.mark.parametrize("how", SIGNALS)
def test_verify_stops(server: Place, fork_server: ForkServer, how: signal.Signals) -> None:
    expectation = server.expectation()
    for _ in range(3):
        expectation.back_up()
        server.write(expectation)
    run = fork_server.start("verify", expectation.backups)
    time.sleep(random.random() * 0.05)
    code, _ = asked_to_stop(run, how)
    assert code in (0, INTERRUPTED, *TOO_EARLY)


# --- Dagster ------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with files, as a deployment has one."""
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(directory)) as instance:
        yield instance


def worker(
    instance: dg.DagsterInstance, job: str, config: Path, run_config: Mapping[str, object]
) -> tuple[str, subprocess.Popen[str]]:
    """A run of a job in a process of its own, started as Dagster's launchers start it."""
    described = launched(job)
    run = instance.create_run_for_job(
        job_def=described.get_definition(),
        run_config=dict(run_config),
        job_code_origin=described.get_python_origin(),
    )
    arguments = ExecuteRunArgs(described.get_python_origin(), run.run_id, instance.get_ref())
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments.get_command_args()],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "SHARDKEEPER_CONFIG": str(config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return run.run_id, process


@pytest.fixture
def configured(
    server: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Write shardkeeper.yaml for runs whose source or target is behind a proxy."""

    def write(backups: Path, *, source: str = "", target: str = "") -> Path:
        path = configure(
            tmp_path,
            backups,
            at(server.source, host=source or server.source.bind_addr),
            at(server.target, host=target or server.target.bind_addr),
        )
        monkeypatch.setenv("SHARDKEEPER_CONFIG", str(path))
        return path

    return write


@pytest.mark.parametrize("how", SIGNALS)
def test_dagsters_cancel_stops_a_backup(
    server: Place, home: dg.DagsterInstance, configured: Callable[..., Path], how: signal.Signals
) -> None:
    expectation = server.expectation()
    expectation.back_up()
    server.write(expectation)
    before = {path.name for path in expectation.backups.iterdir()}
    config = {"ops": {"influxdb__backup_set": {"config": {"db": expectation.database}}}}
    with Proxy(server.source.bind_addr) as proxy:
        proxy.break_all(Stall(20), chosen=shard_backups)
        path = configured(expectation.backups, source=proxy.address)
        run_id, process = worker(home, "back_up_influxdb", path, config)
        assert proxy.stalled.wait(timeout=60), process.communicate(timeout=20)
        process.send_signal(how)
        began = time.monotonic()
        while (expectation.backups / ".shardkeeper.lock").exists():
            assert time.monotonic() - began < SOON_S
            time.sleep(0.02)
        output, _ = process.communicate(timeout=60)
    assert {path.name for path in expectation.backups.iterdir()} == before, output
    run = home.get_run_by_id(run_id)
    assert run is not None
    assert run.status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE), output
    expectation.back_up()
    expectation.check_all()


def test_dagsters_cancel_takes_back_a_restore(
    server: Place, home: dg.DagsterInstance, configured: Callable[..., Path]
) -> None:
    expectation = server.expectation()
    expectation.back_up()
    before = databases(server.target)
    name = f"copy-{expectation.database}"
    request = {"db": expectation.database, "newdb": name}
    with Proxy(server.target.bind_addr) as proxy:
        proxy.break_all(Stall(20, direction="to server"), chosen=uploads)
        path = configured(expectation.backups, target=proxy.address)
        config: dict[str, object] = {
            "ops": {"influxdb__restored_meta": {"config": {**request, "dry_run": False}}},
            "resources": {"target": {"config": {"cluster": "elsewhere"}}},
        }
        _, process = worker(home, "restore_influxdb", path, config)
        assert proxy.stalled.wait(timeout=60), process.communicate(timeout=20)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        while name in databases(server.target):
            assert time.monotonic() - began < SOON_S
            time.sleep(0.02)
        output, _ = process.communicate(timeout=60)
    assert databases(server.target) == before, output
    assert shardkeeper("restore", *server.target_flags, *_as_flags(request), expectation.backups)
    assert points(server.target, name) == expectation.now()
    server.target.drop_database(name)


def _as_flags(request: dict[str, str]) -> list[str]:
    return [text for key, value in request.items() for text in (f"-{key}", value)]
