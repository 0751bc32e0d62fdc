"""check_tsm, whose ways have to agree, and files for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from resources.errors import TSMError
from resources.tsm.check import TSMFacts, check_one_by_one, check_regular, check_tsm
from resources.tsm.check_many import check_many
from resources.tsm.source import BytesSource, index_start
from tests.resources.tsm.points import stored
from tests.resources.tsm.writing import T0, block, even_times, raw_integers

SMALL = stored("small.tsm")


EVEN = block(1, even_times(T0, 10, 3), raw_integers([1, 2, 3]))
KEY = b"m#!~#v"


def checked(data: bytes, *, blocks: bool = True) -> TSMFacts:
    """What `check_tsm` says, once all ways have agreed."""
    source = BytesSource(data)
    with suppress(TSMError):
        ways = [message(way, source, blocks) for way in (check_one_by_one, check_many)]
        assert ways[0] == ways[1]
        accepted = check_regular(source, index_start(source), blocks=blocks)
        assert accepted in (None, ways[0])
    return check_tsm(source, blocks=blocks)


def message(way: Callable[..., TSMFacts], source: BytesSource, blocks: bool) -> TSMFacts | str:
    start = index_start(source)
    try:
        return way(source, start, blocks=blocks)
    except TSMError:
        # Of several faults each way may meet another one first.
        return "refused"
