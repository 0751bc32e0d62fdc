"""A command loads what it uses: imports take most of a short run."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from pipelines.ctl.main import OURS
from resources.embedded.server import EmbeddedServer

LOADED = """
import atexit, sys
sys.argv = ["{program}", *sys.argv[1:]]
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from pipelines.ctl.start import {function}
{function}()
"""
HEAVY = {
    "cramjam",
    "dagster",
    "numpy",
    "pandas",
    "pydantic",
    "requests",
    "urllib3",
    "yaml",
}
"""Libraries that take a tenth of a second and more, or that few commands need."""
CLIENTS = {"google.protobuf", "http.client", "isal", "resources.repository", "socket", "ssl"}
"""What takes part in a backup."""


def loaded(program: str, *words: str | Path) -> set[str]:
    code = LOADED.format(program=program, function=program.replace("-", "_"))
    done = subprocess.run(
        (sys.executable, "-c", code, *words), capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("program", ["shardkeeper", "influxd-ctl"])
def test_help_loads_no_library_and_no_command(program: str) -> None:
    found = loaded(program, "help")
    assert found & (HEAVY | (CLIENTS - {"socket"})) == set()
    assert not any(f"{command.where.partition(':')[0]}" in found for command in OURS.values())


def test_a_backup_of_a_server_that_did_not_change_loads_no_decoder(tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    with EmbeddedServer(tmp_path / "server") as server:
        server.query("CREATE DATABASE db")
        server.write("db", "cpu,host=a usage=1 1600000000000000000")
        words = ("-host", server.tcp_addr, "-http", server.http_addr, "backup", backups)
        loaded("influxd-ctl", *words)
        found = loaded("influxd-ctl", *words)
    assert found & HEAVY == set()
    assert found >= CLIENTS, "else this test sees nothing"


@pytest.mark.parametrize("name", OURS)
def test_the_list_of_commands_repeats_their_first_sentence(name: str) -> None:
    module, _, attribute = OURS[name].where.partition(":")
    command: click.Command = getattr(import_module(module), attribute)
    listed = click.Command(name, help=OURS[name].summary)
    assert listed.get_short_help_str(200) == command.get_short_help_str(200)
