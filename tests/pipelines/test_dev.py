"""`make dev` without a configuration: a cluster to try, backed up by itself, over the real UI."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from pipelines.services import ROOT, free_port
from tests.live.deployment import wait_for

SET = """{ assetNodeOrError(assetKey: {path: ["dev", "backup_set"]}) { ... on AssetNode {
    assetMaterializations { runId } staleStatus } } }"""


def asked(port: int) -> tuple[int, str]:
    """How many restore points there are, and whether the newest is up to date."""
    try:
        reply = requests.post(
            f"http://127.0.0.1:{port}/graphql", json={"query": SET}, timeout=30
        ).json()
    except requests.RequestException:
        return 0, ""
    node = reply["data"]["assetNodeOrError"]
    return len(node.get("assetMaterializations", [])), node.get("staleStatus", "")


@pytest.mark.xdist_group("live")
def test_a_newcomer_sees_backups_made_again_and_again_and_ctrl_c_ends_everything(
    tmp_path: Path,
) -> None:
    port = free_port()
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.dev", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        wait_for("the first backup", lambda: asked(port)[0] >= 1)
        wait_for("a change that is backed up", lambda: asked(port)[0] >= 2)
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
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert {path.name for path in tmp_path.iterdir()} == {".dagster_home", ".devcluster", "said"}


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path) -> None:
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
    assert f"port {port} cannot be had" in done.stderr
    assert "make dev PORT=3001" in done.stderr
