"""What another program wrote is data: it names no server, runs nothing, and is no promise."""

from __future__ import annotations

import ast
import json
import socket
from pathlib import Path

import pytest

from resources.config.reading import parse_configuration
from resources.errors import UsageError
from tests.faults.places import Place
from tests.resources.clients.peer import peer
from tests.wire.commands import shardkeeper
from tests.wire.points import points

ROOT = Path(__file__).parents[2]
RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
NEVER_CALLED = {"eval", "exec", "compile", "os.system", "os.popen", "os.path.expandvars",
                "yaml.load", "yaml.unsafe_load", "yaml.full_load", "numpy.load"}  # fmt: skip


@pytest.mark.fault(101)
def test_nothing_that_is_read_can_run_code() -> None:
    """No module of ours takes a loader that would; it is looked for in the code itself."""
    for space in ("assets", "pipelines", "resources"):
        for path in (ROOT / space).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names = {(node.module or "").partition(".")[0]}
                elif isinstance(node, ast.Call):
                    assert ast.unparse(node.func) not in NEVER_CALLED, (path, node.lineno)
                    assert not any(k.arg == "shell" for k in node.keywords), (path, node.lineno)
                    continue
                else:
                    continue
                assert not names & RUNS_CODE, path


@pytest.mark.fault(101)
@pytest.mark.parametrize(
    "value",
    ["!!python/object/apply:os.system ['touch {mark}']", "!!python/name:os.system",
     "!!python/module:os", "!include {mark}", "$(touch {mark})", "`touch {mark}`"],
)  # fmt: skip
def test_a_configuration_is_text(tmp_path: Path, value: str) -> None:
    mark = tmp_path / "mark"
    raw = f"clusters:\n  {{a: {{bind: {value.format(mark=mark)!r}, repository: r}}}}\n"
    for text in (raw, raw.replace('"', "").replace("'", "")):
        with pytest.raises(UsageError):
            parse_configuration(text.encode(), "f.yaml")
    assert not mark.exists()


@pytest.mark.fault(101)
def test_a_variable_in_a_configuration_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "expanded")
    raw = b"repositories: {r: {path: /b/$CANARY}}\nclusters: {a: {bind: m, repository: r}}\n"
    assert str(parse_configuration(raw, "f.yaml").repositories["r"].path) == "/b/$CANARY"


@pytest.mark.fault(102)
@pytest.mark.parametrize("command", [("restore", "-plan"), ("restore",), ("merge",)])
def test_a_server_that_a_backup_names_is_never_asked(
    server: Place, command: tuple[str, ...]
) -> None:
    heard: list[bytes] = []

    def listening(sock: socket.socket) -> None:
        heard.append(sock.recv(100))

    expectation = server.expectation()
    expectation.back_up()
    new = f"copy-{expectation.database}"
    if command == ("merge",):
        server.target.create_database(new)
    with peer(listening) as address:
        for manifest in expectation.backups.glob("*.manifest*"):
            document = json.loads(manifest.read_bytes())
            ours = document.pop(
                "shardkeeper"
            )  # another tool's manifest has neither checksum nor copy
            assert ours
            document |= {"host": address, "target": address, "url": f"http://{address}/"}
            for entry in document["files"]:
                del entry["shardkeeper"]
                entry |= {"host": address, "target": address}
            manifest.write_text(json.dumps(document))
        for copy in expectation.backups.glob("*.manifest.copy"):
            copy.unlink()
        done = shardkeeper(
            *command,
            *server.target_flags,
            "-db",
            expectation.database,
            "-newdb",
            new,
            expectation.backups,
        )
        assert done, done
        assert heard == []
    if "-plan" not in command:
        assert points(server.target, new) == expectation.now()
        server.target.drop_database(new)
