"""`make dev` without a configuration: a cluster to try, backed up by itself, over the real UI."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from pipelines.services import ROOT, free_port
from resources.config.embedded import BACKUPS_DIRECTORY
from tests.live.deployment import wait_for

SET = """{ assetNodeOrError(assetKey: {path: ["dev", "backup_set"]}) { ... on AssetNode {
    assetMaterializations { runId } } } }"""


def shown(port: int) -> int:
    """How many restore points the UI shows; none while it does not answer."""
    url = f"http://127.0.0.1:{port}/graphql"
    try:
        reply = requests.post(url, json={"query": SET}, timeout=30).json()
    except requests.RequestException:
        return 0
    return len(reply["data"]["assetNodeOrError"].get("assetMaterializations", []))


def at_work_in(directory: Path) -> list[bytes]:
    """The command lines of the processes that were started there."""
    found: list[bytes] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if (process / "cwd").readlink() == directory:
                found.append((process / "cmdline").read_bytes())
    return found


@pytest.mark.xdist_group("live")
def test_a_newcomer_sees_backups_made_again_and_again_and_ctrl_c_ends_everything(
    tmp_path: Path,
) -> None:
    port = free_port()
    with (tmp_path / "said").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.dev", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        # The UI is not asked until there is something to see: it has other things to do.
        made = tmp_path / BACKUPS_DIRECTORY
        wait_for("two backups", lambda: len(list(made.glob("*.manifest"))) >= 2)
        wait_for("them in the UI", lambda: shown(port) >= 2)
        assert len(at_work_in(tmp_path)) >= 4
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=60)
    text = (tmp_path / "said").read_text()
    assert code == 0, text
    assert f"http://127.0.0.1:{port}" in text
    assert "arning" not in text
    logs = [path.read_text() for path in (tmp_path / ".dagster_home" / "services").iterdir()]
    assert len(logs) == 3
    assert not [line for log in logs for line in log.splitlines() if "Warning" in line]
    # The port itself may have become another test's by now.
    wait_for("the end of all it started", lambda: not at_work_in(tmp_path), within_s=10)
    assert {path.name for path in tmp_path.iterdir()} == {".dagster_home", ".devcluster", "said"}


def test_a_port_that_is_taken_is_reported_at_once(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.dev", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert f"port {port} is not available" in done.stderr
    assert "make dev PORT=3001" in done.stderr
