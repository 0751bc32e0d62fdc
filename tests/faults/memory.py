"""`make memory`: what the largest shard costs in memory, beside one of a megabyte.

    python -m tests.faults.memory [GB]

A server that makes up its stream as it goes sends a shard of 25 GB, in TSM files of 512 MiB that
are sound to the last CRC; `influxd-ctl backup` copies it with every check. The files are one, of
values that repeat, so that the archive is small: needed are 512 MiB for that file, as much for
scratch space, and a few hundred MiB for the archive. The kernel says how much memory the process
had at its peak (`ru_maxrss`); it is started by a small one, since a process inherits the peak of
the caller. Where influxd is installed and the disk has room, the shard is restored, too.
"""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from resources.protocol.tar import END_MARKER, encode_header
from resources.tsm.layout import ENTRY, FOOTER, HEADER
from tests.influxd import Influxd
from tests.proxy import Proxy, shard_backups
from tests.resources.embedded.dev_influxd import DevInfluxd
from tests.resources.tsm.writing import T0, block, even_times, raw_integers

BLOCK_POINTS = 1000
BLOCKS_PER_KEY = 1000
FILE_BYTES = 512 << 20
MAX_BYTES = 16 << 20
"""How much more memory the largest shard may take than a small one."""
SMALL_BYTES = 1_000_000
"""It has so few blocks that they are checked without numpy, which alone takes a dozen MiB."""
LAUNCHER = """
import os, sys
out = os.open(sys.argv[1], os.O_WRONLY)
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
os.write(out, b"%d" % (usage.ru_maxrss << 10))
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""


def write_tsm(file: IO[bytes], size_bytes: int, first_ns: int = T0) -> None:
    """A TSM file of about that size: series of raw integers, from a time on; they repeat."""
    values = raw_integers([(i % 64) << 62 | i % 64 for i in range(BLOCK_POINTS)])
    index = bytearray()
    offset = file.write(HEADER)
    for number in range(size_bytes):
        entries = bytearray()
        n = 0
        while n < BLOCKS_PER_KEY and offset < size_bytes:
            first = first_ns + n * BLOCK_POINTS
            body = block(1, even_times(first, 1, BLOCK_POINTS), values)
            entries += ENTRY.pack(first, first + BLOCK_POINTS - 1, offset, len(body) + 4)
            offset += file.write(zlib.crc32(body).to_bytes(4, "big") + body)
            n += 1
        key = f"m,host=h{number:06}#!~#v".encode()
        index += struct.pack(">H", len(key)) + key + struct.pack(">BH", 1, n) + entries
        if offset >= size_bytes:
            break
    file.write(index + FOOTER.pack(offset))


class Endless(Proxy):
    """Passes everything on to a server, but answers requests for a shard itself."""

    def __init__(self, upstream: str, file: Path, place: str, n_files: int) -> None:
        super().__init__(upstream)
        self._file, self._place, self._n_files = file, place, n_files

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            if shard_backups(client.recv(2, socket.MSG_PEEK)):
                self._send(client)
                return
        super()._serve(client)

    def _send(self, client: socket.socket) -> None:
        client.recv(65536)
        size = self._file.stat().st_size
        with client, self._file.open("rb") as file:
            for number in range(1, self._n_files + 1):
                name = f"{self._place}/{number:09}-000000001.tsm"
                client.sendall(encode_header(name, size, 1_600_000_000))
                client.sendfile(file, 0, size)
                client.sendall(bytes(-size % 512))
            client.sendall(END_MARKER)


@dataclass(frozen=True)
class Cost:
    """Of a run: what it did, bytes of the shard and of memory, and how long it took."""

    what: str
    shard_bytes: int
    peak_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.what} of {self.shard_bytes / 1e6:.0f} MB in {self.seconds:.0f} s: peak of "
            f"{self.peak_bytes / (1 << 20):.1f} MiB"
        )


@contextmanager
def shard_of(directory: Path, shard_bytes: int) -> Generator[tuple[Endless, int]]:
    """A server whose only shard has that many bytes, and how many it has exactly."""
    path = directory / f"{shard_bytes}.tsm"
    with path.open("wb") as file:
        write_tsm(file, min(shard_bytes, FILE_BYTES))
    n_files = -(-shard_bytes // FILE_BYTES)
    with DevInfluxd(directory / f"server-{shard_bytes}") as server:
        server.create_database("db")
        server.write("db", f"m v=1i {T0}")
        with Endless(server.bind_addr, path, "db/autogen/1", n_files) as front:
            yield front, n_files * path.stat().st_size
    path.unlink()


def cost(shard_bytes: int, what: str, *args: object) -> Cost:
    """Run `influxd-ctl` in a process of its own; it has to succeed."""
    code = "from pipelines.ctl.start import influxd_ctl; influxd_ctl()"
    began = time.monotonic()
    with tempfile.NamedTemporaryFile() as peak:
        words = [sys.executable, "-c", LAUNCHER, peak.name, sys.executable, "-c", code]
        done = subprocess.run(
            [*words, *map(str, args)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done
        return Cost(what, shard_bytes, int(peak.read()), time.monotonic() - began)


def backup_cost(directory: Path, shard_bytes: int) -> Cost:
    """Back such a shard up, into a directory that is named after it."""
    backups = directory / f"backups-{shard_bytes}"
    backups.mkdir(mode=0o700)
    with shard_of(directory, shard_bytes) as (front, sent_bytes):
        flags = ("-host", front.address, "-http", "none")
        found = cost(sent_bytes, "backup", *flags, "backup", backups)
    [manifest] = backups.glob("*.manifest")
    [entry] = json.loads(manifest.read_bytes())["files"]
    assert entry["size"] > sent_bytes, (entry, sent_bytes)  # all of it, and the tar's headers
    return found


def restore_cost(directory: Path, shard_bytes: int) -> Cost:
    """Restore what `backup_cost` made into a real server, with every check."""
    with Influxd(directory / f"target-{shard_bytes}") as target:
        flags = ("-host", target.bind_addr, "-http", f"http://{target.http_addr}")
        backups = directory / f"backups-{shard_bytes}"
        return cost(shard_bytes, "restore", *flags, "restore", "-db", "db", backups)


def main() -> int:
    """Measure both; 1 if the large one takes too much more."""
    large = int(float(sys.argv[1] if len(sys.argv) > 1 else 25) * 1e9)
    too_much = False
    with tempfile.TemporaryDirectory(prefix="shardkeeper-memory-") as name:
        for measure in (backup_cost, restore_cost):
            space = shutil.disk_usage(name).free > 2 * large
            if measure is restore_cost and not (Influxd.installed() and space):
                sys.stdout.write("no restore: there is no influxd, or too little room\n")
                break
            costs = [measure(Path(name), size) for size in (SMALL_BYTES, large)]
            more = costs[1].peak_bytes - costs[0].peak_bytes
            output = "; ".join(map(str, costs))
            sys.stdout.write(f"{output}; {more / (1 << 20):.1f} MiB more\n")
            sys.stdout.flush()
            too_much |= more > MAX_BYTES
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
