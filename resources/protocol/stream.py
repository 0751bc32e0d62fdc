"""Exact reads from the bytes that have arrived; every parser of `protocol/` uses them.

A parser is a generator that yields while it needs more bytes and returns a value when it
has them. The caller feeds the reader between two `next()` calls: a client from its socket, a test
from a string that is cut anywhere.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

from resources.errors import BadReply, PeerClosedEarly

T = TypeVar("T")

Parsing: TypeAlias = Generator[None, None, T]
"""A running parser: yields for more bytes, returns a T."""

HEAD_BYTES = 256
"""How many of the first bytes a reader keeps, to recognize another protocol."""

LOG_HINT = "a snapshotter reports errors only in the server's log: see its lines of this time"


EMPTY_HINT = f"{LOG_HINT}; a port that requires TLS ends connections like this, too"


class StreamReader:
    """The bytes that have arrived, in order, for reads of exact sizes.

    Attributes:
        head: the first bytes that were fed, at most HEAD_BYTES of them.
    """

    def __init__(self, what: str = "reply") -> None:
        self._what = what
        self._buffer = bytearray()
        self._ended = False
        self.head = b""

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes that have arrived; an empty `data`, as from `recv`, is the end."""
        if not data:
            self.feed_eof()
            return
        if len(self.head) < HEAD_BYTES:
            self.head += bytes(data[: HEAD_BYTES - len(self.head)])
        self._buffer += data

    def feed_eof(self) -> None:
        self._ended = True

    def read_exactly(self, size: int, name: str) -> Parsing[bytes]:
        """Read `size` bytes; the caller must have checked `size` against a limit.

        Raises:
            PeerClosedEarly: EOF before the last of them.
        """
        while len(self._buffer) < size:
            if self._ended:
                raise self._cut(name, f"{len(self._buffer)} of {size} bytes")
            yield
        taken = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return taken

    def read_byte(self, name: str) -> Parsing[int]:
        taken = yield from self.read_exactly(1, name)
        return taken[0]

    def read_uint64(self, name: str) -> Parsing[int]:
        """Read eight bytes, big-endian, unsigned."""
        taken = yield from self.read_exactly(8, name)
        return int.from_bytes(taken, "big")

    def read_block(self, name: str, limit: int) -> Parsing[bytes]:
        """Read a uint64 length and that many bytes.

        Raises:
            BadReply: the length exceeds `limit`; no memory was allocated for it.
            PeerClosedEarly: EOF before the last byte.
        """
        size = yield from self.read_uint64(f"the length of {name}")
        if size > limit:
            raise BadReply(f"{name} claims {size} bytes, at most {limit} are accepted")
        return (yield from self.read_exactly(size, name))

    def read_line(self, name: str, limit: int) -> Parsing[bytes]:
        """Read up to the next newline; the result does not include it.

        Raises:
            BadReply: no newline within `limit` bytes.
            PeerClosedEarly: EOF before the newline.
        """
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > limit:
                raise BadReply(f"{name} is longer than {limit} bytes")
            if self._ended:
                raise self._cut(name, f"{searched} bytes and no newline")
            yield
        if end > limit:
            raise BadReply(f"{name} is longer than {limit} bytes")
        line = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 1]
        return line

    def read_json_object(self, name: str, limit: int) -> Parsing[bytes]:
        """Read up to the brace that closes the first one, and no further byte.

        A request's JSON needs no newline unless a payload follows it, so only its braces
        show its end. The bytes are not checked any further.

        Raises:
            BadReply: the text does not open with a brace, or does not close within `limit` bytes.
            PeerClosedEarly: EOF before the closing brace.
        """
        position, depth, in_text, escaped = 0, 0, False, False
        while True:
            while position < len(self._buffer):
                char = self._buffer[position]
                position += 1
                if position > limit:
                    raise BadReply(f"{name} is longer than {limit} bytes")
                if in_text:
                    in_text = escaped or char != 0x22
                    escaped = char == 0x5C and not escaped
                elif char == 0x22:
                    in_text = True
                elif char == 0x7B:
                    depth += 1
                elif char == 0x7D:
                    depth -= 1
                if depth <= 0 and char not in b" \t\r\n":
                    if char != 0x7D:
                        raise BadReply(f"{name} is not a JSON object")
                    taken = bytes(memoryview(self._buffer)[:position])
                    del self._buffer[:position]
                    return taken
            if self._ended:
                raise self._cut(name, f"{len(self._buffer)} bytes and no closing brace")
            yield

    def at_eof(self) -> Parsing[bool]:
        """Whether the stream ends here; waits until a byte or the end arrives."""
        while not self._buffer and not self._ended:
            yield
        return not self._buffer

    def expect_eof(self) -> Parsing[None]:
        """Require that no byte follows.

        Raises:
            BadReply: bytes follow.
        """
        if not (yield from self.at_eof()):
            raise BadReply(f"{self._what} goes on after its end")

    def _cut(self, name: str, got: str) -> PeerClosedEarly:
        if not self.head:
            return PeerClosedEarly(f"empty {self._what}", hint=EMPTY_HINT)
        return PeerClosedEarly(f"{self._what} ended inside {name}: {got}", hint=LOG_HINT)
