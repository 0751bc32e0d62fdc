"""What is sent after deletes were applied is gathered into large writes."""

from __future__ import annotations

from resources.engine.restore.deletes import FLUSH_BYTES, Gathered


def test_small_writes_become_large_ones_in_their_order() -> None:
    sent: list[bytes] = []
    gathered = Gathered(lambda data: sent.append(bytes(data)))
    part = bytes(range(256)) * 256
    for _ in range(FLUSH_BYTES // len(part) - 1):
        gathered.write(part)
    assert sent == []
    gathered.write(part)
    gathered.write(b"end")
    assert [len(one) for one in sent] == [FLUSH_BYTES]
    gathered.flush()
    gathered.flush()
    assert b"".join(sent) == part * (FLUSH_BYTES // len(part)) + b"end"
    assert len(sent) == 2
    assert gathered.size_bytes == FLUSH_BYTES + 3


def test_a_buffer_that_its_caller_uses_again_is_sent_as_it_was() -> None:
    sent: list[bytes | bytearray | memoryview] = []
    gathered = Gathered(sent.append)
    buffer = bytearray(b"first")
    gathered.write(buffer)
    gathered.flush()
    gathered.write(b"later")
    buffer[:] = b"other"
    assert sent == [b"first"]
