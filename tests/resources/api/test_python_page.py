"""The examples of docs/python.md run, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from resources.embedded.server import EmbeddedServer
from tests.wire.commands import shardkeeper

PAGE = Path(__file__).parents[3] / "docs/python.md"
T0 = 1_600_000_000_000_000_000


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with EmbeddedServer(tmp_path / "server") as server:
        server.query("CREATE DATABASE telegraf")
        lines = [f"cpu,host=web-{i % 2 + 1} usage={i}.5,n={i}i {T0 + i}" for i in range(4)]
        server.write("telegraf", "\n".join(lines))
        flags = ("-host", server.tcp_addr, "-http", server.http_addr)
        (tmp_path / "backups").mkdir()
        assert shardkeeper(*flags, "backup", tmp_path / "backups")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        exec(compile(example, str(PAGE), "exec"), names)
    assert len(names["frame"]) == 4
    assert names["total"] / names["rows"] == 2.0
    assert "[('web-1', 2.5), ('web-2', 3.5)]" in capsys.readouterr().out
