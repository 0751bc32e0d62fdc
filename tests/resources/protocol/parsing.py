"""Running a parser over bytes that arrive in steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from resources.protocol.stream import Parsing, StreamReader

T = TypeVar("T")


def parse_all(parse: Callable[[StreamReader], Parsing[T]], wire: bytes, *, step: int) -> T:
    """Feed `wire` in pieces of `step` bytes, then EOF, and return the parser's value.

    A parser that wants more after EOF would hang a client, so it fails here.
    """
    reader = StreamReader()
    parsing = parse(reader)
    pieces = [wire[at : at + step] for at in range(0, len(wire), step)]
    for piece in [*pieces, b""]:
        try:
            next(parsing)
        except StopIteration as done:
            return done.value
        reader.feed(piece)
    try:
        next(parsing)
    except StopIteration as done:
        return done.value
    raise AssertionError("the parser waits for more after the end")
