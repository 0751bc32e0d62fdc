"""Fixtures for all rooms: a real influxd, for the tests marked `wire`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.influxd import Influxd, InfluxdMissing

REQUIRE_WIRE = "SHARDKEEPER_REQUIRE_WIRE"

# `make live` sets it: a web server, a daemon and a run of 120 partitions take minutes.
collect_ignore = [] if os.environ.get("SHARDKEEPER_LIVE") == "1" else ["live"]

# Run in a shell's background, we are deaf to SIGINT, which Dagster extends to SIGTERM.
# What tests start would inherit both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no counterexample.
settings.register_profile("shardkeeper", deadline=None)
settings.load_profile("shardkeeper")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Leave a test out whose fixture starts an influxd where none is installed."""
    try:
        return (yield)
    except InfluxdMissing:
        _without_influxd()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Leave a test out that starts an influxd itself where none is installed."""
    try:
        return (yield)
    except InfluxdMissing:
        _without_influxd()


def need_influxd() -> None:
    if not Influxd.installed():
        _without_influxd()


def _without_influxd() -> None:
    if os.environ.get(REQUIRE_WIRE) == "1":
        pytest.fail(f"influxd is not installed, and {REQUIRE_WIRE}=1 insists on it")
    pytest.skip("influxd is not installed (Debian: apt install influxdb)")


@pytest.fixture(scope="session")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """One running server for the whole session; each test uses a database of its own."""
    need_influxd()
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        yield server


@pytest.fixture
def influxd_factory(tmp_path: Path) -> Iterator[Callable[..., Influxd]]:
    """Start servers of one's own; keywords are `Influxd`'s. All are stopped afterwards."""
    need_influxd()
    with ExitStack() as stack:
        n_started = 0

        def start(**options: object) -> Influxd:
            nonlocal n_started
            n_started += 1
            server = Influxd(tmp_path / f"influxd-{n_started}", **options)  # type: ignore[arg-type]
            return stack.enter_context(server)

        yield start
