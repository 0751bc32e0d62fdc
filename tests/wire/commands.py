"""The command lines, ours and influxd's, as functions of their arguments."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from pipelines.ctl.main import influxd_ctl as run_influxd_ctl
from pipelines.ctl.main import shardkeeper as run_shardkeeper
from tests.influxd import Influxd


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def __bool__(self) -> bool:
        return self.code == 0


def shardkeeper(*args: object) -> Done:
    return _inside("shardkeeper", run_shardkeeper, args)


def influxd_ctl(*args: object) -> Done:
    return _inside("influxd-ctl", run_influxd_ctl, args)


def _inside(name: str, main: Callable[[], None], args: tuple[object, ...]) -> Done:
    """Run a command in this process: a new one would spend a second on imports."""
    written, err = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(written, encoding="utf-8", errors="surrogateescape", newline="\n")
    before = signal.getsignal(signal.SIGTERM)
    code: object = 0
    argv = [name, *map(str, args)]
    try:
        with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as done:
        code = done.code
    finally:
        signal.signal(signal.SIGTERM, before)
    out.flush()
    text = written.getvalue().decode("utf-8", "surrogateescape")
    return Done(int(code) if isinstance(code, int) else 0, text, err.getvalue())


def doctor(*flags: object) -> tuple[Done, dict[str, dict[str, str]]]:
    """`shardkeeper doctor -json`, and what it finds, by question."""
    done = shardkeeper(*flags, "doctor", "-json")
    output = json.loads(done.out)
    assert output["ok"] is (done.code == 0)
    return done, {finding["question"]: finding for finding in output["findings"]}


def at(server: Influxd, *, tcp: str = "") -> tuple[str, ...]:
    """The flags that name a server; `tcp` goes another way to it, such as through a proxy."""
    return ("-host", tcp or server.bind_addr, "-http", f"http://{server.http_addr}")


def backup(server: Influxd, directory: Path, *flags: object, tcp: str = "") -> Done:
    """`shardkeeper backup`, which has to succeed."""
    done = shardkeeper("backup", *at(server, tcp=tcp), *flags, directory)
    assert done, done
    return done


def restore(server: Influxd, path: Path, *flags: object, tcp: str = "") -> Done:
    """`shardkeeper restore`, which has to succeed."""
    done = shardkeeper("restore", *at(server, tcp=tcp), *flags, path)
    assert done, done
    return done


def verify(directory: Path) -> Done:
    done = shardkeeper("verify", directory)
    assert done, done
    return done


def influxd_backup(server: Influxd, directory: Path, *flags: str) -> None:
    """`influxd backup -portable`, as Debian has it."""
    _influxd("backup", "-portable", "-host", server.bind_addr, *flags, str(directory))


def influxd_restore(server: Influxd, directory: Path, *flags: str) -> None:
    """`influxd restore -portable`; shards may still be closed when it returns."""
    _influxd("restore", "-portable", "-host", server.bind_addr, *flags, str(directory))


def _influxd(*args: str) -> None:
    done = subprocess.run(
        [Influxd.program(), *args], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done
