"""`make memory`: what the largest shard costs in memory, beside one of a megabyte.

    python -m tests.faults.memory [GB]

A server that makes up its stream as it goes sends a shard of 25 GB, in TSM files of 512 MiB that
are sound to the last CRC; `influxd-ctl backup` copies it with every check. The files are one, of
values that repeat, so that the archive is small: needed are 512 MiB for that file, as much for
scratch space, and a few hundred MiB for the archive. The kernel says how much memory the process
had at its peak (`ru_maxrss`); it is started by a small one, since a process inherits the peak of
whoever starts it.
"""

from __future__ import annotations

import json
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

from resources.protocol.tar import END_MARKER
from resources.protocol.tar_header import encode_header
from resources.tsm.layout import ENTRY, FOOTER, HEADER
from tests.proxy import Proxy, shard_backups
from tests.resources.devcluster.dev_influxd import DevInfluxd
from tests.resources.tsm.writing import T0, block, even_times, raw_integers

BLOCK_POINTS = 1000
BLOCKS_PER_KEY = 1000
FILE_BYTES = 512 << 20
MOST_BYTES = 16 << 20
"""How much more memory the largest shard may take than a small one."""
SMALL_BYTES = 1 << 20
LAUNCHER = """
import os, sys
out = os.open(sys.argv[1], os.O_WRONLY)
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
os.write(out, b"%d" % (usage.ru_maxrss << 10))
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""


def write_tsm(file: IO[bytes], size_bytes: int) -> None:
    """A TSM file of about that size: series of raw integers that repeat every 64."""
    values = raw_integers([(i % 64) << 62 | i % 64 for i in range(BLOCK_POINTS)])
    index = bytearray()
    offset = file.write(HEADER)
    for number in range(size_bytes):
        entries = bytearray()
        n = 0
        while n < BLOCKS_PER_KEY and offset < size_bytes:
            first = T0 + n * BLOCK_POINTS
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
    """Of one backup: bytes of the shard, of the archive and of memory, and how long it took."""

    shard_bytes: int
    archive_bytes: int
    peak_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.shard_bytes / 1e6:.0f} MB in {self.seconds:.0f} s, archive of "
            f"{self.archive_bytes / 1e6:.1f} MB: peak of {self.peak_bytes / (1 << 20):.1f} MiB"
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


def backup_cost(directory: Path, shard_bytes: int) -> Cost:
    """Back such a shard up with `influxd-ctl`, in a process of its own."""
    backups = directory / f"backups-{shard_bytes}"
    backups.mkdir(mode=0o700)
    peak = directory / "peak"
    peak.write_bytes(b"")
    code = "from pipelines.ctl.start import influxd_ctl; influxd_ctl()"
    with shard_of(directory, shard_bytes) as (front, sent_bytes):
        words = [
            *(sys.executable, "-c", LAUNCHER, str(peak), sys.executable, "-c", code),
            *("-host", front.address, "-http", "none", "backup", str(backups)),
        ]
        began = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
    assert done.returncode == 0, done
    [manifest] = backups.glob("*.manifest")
    [entry] = json.loads(manifest.read_bytes())["files"]
    assert entry["size"] > sent_bytes, (entry, sent_bytes)  # all of it, and the tar's headers
    archive = backups / entry["fileName"]
    return Cost(sent_bytes, archive.stat().st_size, int(peak.read_bytes()), seconds)


def main() -> int:
    """Measure both; 1 if the large one takes too much more."""
    large = float(sys.argv[1]) if len(sys.argv) > 1 else 25.0
    with tempfile.TemporaryDirectory(prefix="shardkeeper-memory-") as name:
        small_cost = backup_cost(Path(name), SMALL_BYTES)
        sys.stdout.write(f"{small_cost}\n")
        sys.stdout.flush()
        large_cost = backup_cost(Path(name), int(large * 1e9))
    more = large_cost.peak_bytes - small_cost.peak_bytes
    sys.stdout.write(f"{large_cost}, {more / (1 << 20):.1f} MiB more\n")
    return int(more > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
