"""A compressor that errs, as some have: what it wrote is inflated again if that is asked for."""

from __future__ import annotations

import random
import zlib

import pytest

from resources.errors import ArchiveCorrupt
from resources.repository.archives import gzip_stream
from resources.repository.archives.gzip_stream import EARLY_BYTES, GzipWriter
from tests.faults.places import Place
from tests.wire.commands import shardkeeper

pytestmark = pytest.mark.fault(59)


class Erring:
    """A compressor that changes one bit of what it gives, somewhere."""

    def __init__(self, at: int) -> None:
        self._own = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._at = at

    def compress(self, data: bytes, /) -> bytes:
        return self._err(self._own.compress(data))

    def flush(self, mode: int = zlib.Z_FINISH, /) -> bytes:
        return self._err(self._own.flush(mode))

    def _err(self, given: bytes) -> bytes:
        at, self._at = self._at, self._at - len(given)
        if not 0 <= at < len(given):
            return given
        return given[:at] + bytes([given[at] ^ 1 << at % 8]) + given[at + 1 :]


@pytest.mark.parametrize("n_bytes", [3000, 3 * EARLY_BYTES])
def test_no_bit_of_a_compressor_goes_wrong_unnoticed(
    monkeypatch: pytest.MonkeyPatch, n_bytes: int
) -> None:
    rng = random.Random(n_bytes)
    content = bytes(rng.randrange(16) for _ in range(n_bytes))

    def written() -> bytes:
        found = bytearray()
        writer = GzipWriter(found.extend, proven=True)
        writer.write(content)
        writer.close()
        return bytes(found)

    size = len(written()) - 18  # head and trailer
    for at in sorted({0, 1, size - 1, *rng.sample(range(size), 50)}):
        monkeypatch.setattr(gzip_stream, "deflater", lambda level, at=at: Erring(at))
        with pytest.raises(ArchiveCorrupt, match="does not inflate to what arrived"):
            written()


def test_a_shard_that_is_compressed_badly_is_no_backup(
    server: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    expectation = server.expectation()
    expectation.back_up()
    server.write(expectation)
    before = {path.name for path in expectation.backups.iterdir()}
    flags = (*expectation.flags, "-full", "-verify", "inflated", "-db", expectation.database)
    with monkeypatch.context() as patched:
        patched.setattr(gzip_stream, "deflater", lambda level: Erring(100))
        patched.setattr("resources.engine.options.Retry.pause_s", lambda self, attempt: 0.001)
        done = shardkeeper("backup", *flags, expectation.backups)
    assert done.code == 13, done
    assert "does not inflate to what arrived" in done.err
    assert "-gzipCompressionLevel none" in done.err
    assert {path.name for path in expectation.backups.iterdir()} == before
    expectation.check_all()
    expectation.back_up()
    expectation.check_all()
