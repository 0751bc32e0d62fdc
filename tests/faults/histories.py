"""Random histories of a server and its clocks: no shard that changed is called unchanged.

    python -m tests.faults.histories 300 [seed]

Points are written, written over, deleted and compacted; the server's clock and ours are set by a
second up to a year, either way; the server is restarted; its files are put back as they were, with
their times. After some of it a backup is made, and what a restore brings back is held against a
dictionary of the points. A backup after nothing but restarts and set clocks stores no shard.

The server is the embedded one; its clock is set where it tells it, and file times with it. A seed
repeats a history.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from resources.embedded.server import EmbeddedServer
from resources.model import ShardID
from tests.wire.commands import Done, shardkeeper

T0 = 1_600_000_000 * 10**9
WEEK = 7 * 86_400 * 10**9
SHARDS = 2
TIMES = 6
S, HOUR, DAY = 1, 3600, 86_400
STEPS = tuple(sign * s for s in (S, 2, 7, HOUR, DAY, 365 * DAY) for sign in (1, -1))

Held = dict[tuple[int, int], float]
"""Value by (shard, place)."""


class Front:
    """The server's HTTP with its clock set: every time that it tells is so much later."""

    def __init__(self, target: str) -> None:
        self.ahead_s = 0
        self.target = target
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b""
                if int(self.headers.get("Content-Length") or 0):
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                to = HTTPConnection(front.target)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                to.request(self.command, self.path, body, headers)
                reply = to.getresponse()
                message = front.shifted(reply.read())
                self.send_response(reply.status)
                for key, value in reply.getheaders():
                    if key.lower() not in ("content-length", "connection", "transfer-encoding"):
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(message)))
                self.end_headers()
                self.wfile.write(message)

            do_POST = do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http_addr = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def shifted(self, body: bytes) -> bytes:
        def later(found: re.Match[bytes]) -> bytes:
            events = datetime.fromisoformat(found[1].decode()[:26]).replace(tzinfo=UTC)
            now = (events + timedelta(seconds=self.ahead_s)).strftime("%Y-%m-%dT%H:%M:%S.%f")
            return b'"currentTime":"' + now.encode() + b'Z"'

        return re.sub(rb'"currentTime": ?"([^"Z]+)Z?"', later, body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class History:
    """One server's life, and the points that it holds."""

    def __init__(self, scratch: Path, stack: ExitStack, dice: random.Random) -> None:
        self.dice = dice
        self.events: list[str] = []
        self._scratch = scratch
        self._server = stack.enter_context(EmbeddedServer(scratch / "server"))
        self._target = stack.enter_context(EmbeddedServer(scratch / "target"))
        self._front = Front(self._server.http_addr)
        stack.callback(self._front.close)
        self._held: Held = {}
        self._kept: list[tuple[Path, Held]] = []
        self._seen: dict[int, int] = {}
        self._ours_s = 0
        self._changed = True
        self._backups = scratch / "backups"
        self._backups.mkdir(mode=0o700)
        self._boot = scratch / "boot_id"
        self._boot.write_text("first")
        clock = SimpleNamespace(
            time_ns=lambda: time.time_ns() + self._ours_s * 10**9,
            clock_gettime_ns=time.clock_gettime_ns,
            CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
        )
        stack.enter_context(patch("resources.engine.backup.clocks.time", clock))
        stack.enter_context(patch("resources.engine.backup.clocks._BOOT_ID", self._boot))
        self._server.query("CREATE DATABASE db")
        for shard in range(SHARDS):
            self.write(shard)

    # --- what happens ---------------------------------------------------------------------

    def write(self, shard: int | None = None) -> None:
        shard = self.dice.randrange(SHARDS) if shard is None else shard
        places = self.dice.sample(range(TIMES), self.dice.randint(1, 3))
        for place in places:
            value = float(self.dice.randint(1, 2))
            self._held[shard, place] = value
            self._server.write("db", f"m v={value} {T0 + shard * WEEK + place}")
        if self.dice.random() < 0.5:
            self._server.node.store.flush(ShardID(shard + 1))
        self._changed = True

    def delete(self) -> None:
        shard, place = self.dice.randrange(SHARDS), self.dice.randrange(TIMES)
        if self._held.pop((shard, place), None) is not None:
            at = T0 + shard * WEEK + place
            self._server.query(f"DELETE FROM m WHERE time = {at}", database="db")
            self._changed = True

    def compact(self) -> None:
        for shard in range(SHARDS):
            self._server.node.store.flush(ShardID(shard + 1))
            self._server.node.store.compact(ShardID(shard + 1))
        self._changed = True

    def set_their_clock(self) -> None:
        self._front.ahead_s = self.dice.choice((0, self._front.ahead_s + self.dice.choice(STEPS)))

    def set_our_clock(self) -> None:
        self._ours_s = self.dice.choice((0, self._ours_s + self.dice.choice(STEPS)))

    def start_our_machine_anew(self) -> None:
        self._boot.write_text(secrets.token_hex(8))

    def restart(self) -> None:
        self._server.stop()
        self._server.start()

    def keep_files(self) -> None:
        for shard in range(SHARDS):
            self._server.node.store.flush(ShardID(shard + 1))
        self.set_times()
        kept = self._scratch / f"kept-{len(self._kept)}"
        shutil.copytree(self._server.directory / "data", kept)
        self._kept.append((kept, dict(self._held)))
        self._changed = True

    def put_files_back(self) -> None:
        if not self._kept:
            return
        kept, held = self.dice.choice(self._kept)
        for shard in range(SHARDS):  # else the log would bring newer points
            self._server.node.store.flush(ShardID(shard + 1))
        self._server.stop()
        shutil.rmtree(self._server.directory / "data")
        shutil.copytree(kept, self._server.directory / "data")
        self._seen |= {path.stat().st_ino: path.stat().st_mtime_ns for path in self._files()}
        self._held = dict(held)
        self._server.start()
        self._changed = True

    # --- and what is made of it -----------------------------------------------------------

    def back_up(self) -> None:
        """Back up, look at what a restore brings, and back up again: nothing is stored then."""
        quiet, before = not self._changed, self._archives()
        self._run("backup", self._backups)
        self.set_times()
        if quiet:
            assert self._archives() == before, "a shard was stored again and had not changed"
        stored = self._archives()
        found = self._restored()
        assert found == self._held, f"{found} in the backup, {self._held} on the server"
        self._run("backup", self._backups)
        assert self._archives() == stored, "a shard was stored twice in a row"
        self._changed = False

    def set_times(self) -> None:
        """Files that are new get the time that the server's clock tells."""
        for path in self._files():
            status = path.stat()
            if self._seen.get(status.st_ino) != status.st_mtime_ns:
                shifted = status.st_mtime_ns + self._front.ahead_s * 10**9
                os.utime(path, ns=(shifted, shifted))
                self._seen[status.st_ino] = shifted

    def _files(self) -> list[Path]:
        data = self._server.directory / "data"
        return [p for p in data.rglob("*") if p.suffix in (".tsm", ".tombstone")]

    def _archives(self) -> set[str]:
        return {path.name for path in self._backups.glob("*.tar.gz")}

    def _restored(self) -> Held:
        flags = ("-host", self._target.tcp_addr, "-http", self._target.http_addr)
        done = shardkeeper("restore", *flags, "-db", "db", "-newdb", "back", self._backups)
        assert done, done
        [result] = self._target.query("SELECT v FROM m", database="back")["results"]
        self._target.query("DROP DATABASE back")
        values = result["series"][0]["values"] if "series" in result else []
        return {divmod(at - T0, WEEK): value for at, value in values}

    def _run(self, *words: object) -> Done:
        flags = ("-host", self._server.tcp_addr, "-http", self._front.http_addr)
        done = shardkeeper(*words[:1], *flags, *words[1:])
        assert done, done
        return done


EVENTS = (
    (History.write, 4),
    (History.delete, 3),
    (History.compact, 1),
    (History.set_their_clock, 3),
    (History.set_our_clock, 1),
    (History.start_our_machine_anew, 1),
    (History.restart, 1),
    (History.keep_files, 1),
    (History.put_files_back, 1),
    (History.back_up, 3),
)


def lead(seed: int, *, events: int = 12) -> None:
    """One history; raises AssertionError with what happened in it."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="history-") as scratch, ExitStack() as stack:
        history = History(Path(scratch), stack, dice)
        happened: list[str] = []
        try:
            history.back_up()
            kinds, weights = zip(*EVENTS, strict=True)
            for event in dice.choices(kinds, weights, k=events):
                happened.append(event.__name__)
                event(history)
                history.set_times()
            happened.append("back_up")
            history.back_up()
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}: {', '.join(happened)}: {failure}") from failure


def main(n: int, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(n):
        lead(dice.randrange(2**32))
        if not (number + 1) % 25:
            sys.stdout.write(f"{number + 1} of {n} histories\n")
            sys.stdout.flush()
    sys.stdout.write(f"{n} histories, seed {seed}: no stale shard was called unchanged\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbits(32))
