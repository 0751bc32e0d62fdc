"""settled: reads a metastore until two readings agree, so that no network fault can change it.

Backup, restore and removal are decided by the metastore. So it is read twice. While clients change
it, correct readings differ. Then it is read until one reading is confirmed by its neighbours: each
part of it is in the reading before or after it as well, and it has every part that both of those
have. Held by tests/resources/clients/test_stable_metastore.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from resources.errors import BadReply
from resources.protocol.meta_parts import MetastoreParts

MAX_READINGS = 12
"""A second and a half in all, besides the readings: no metastore should change that often."""
PAUSE_S = 0.025


def settled(
    read: Callable[[], bytes], address: str, *, sleep: Callable[[float], None] = time.sleep
) -> bytes:
    """Read a metastore until other readings confirm one; return that one.

    Args:
        read: reads the metastore once.
        address: the peer's address, for messages.

    Raises:
        BadReply: no reading agrees with its neighbours.
        WireError: an error of `read`, at once.
    """
    raw = read()
    readings: list[tuple[bytes, MetastoreParts]] = []
    for n in range(1, MAX_READINGS):
        again = read()
        if again == raw:
            return raw
        try:
            readings = readings or [(raw, MetastoreParts.of(raw))]
            readings = [*readings[-2:], (again, MetastoreParts.of(again))]
        except BadReply as error:
            raise BadReply(f"{address}: {error.what}") from None
        if readings[-2][1] == readings[-1][1]:
            return again
        if len(readings) == 3:
            (_, before), (between, middle), (_, after) = readings
            if middle.is_between(before, after):
                return between
        raw = again
        sleep(PAUSE_S * n)
    raise BadReply(
        f"{address}: {MAX_READINGS} readings of the metastore all differ",
        hint="clients change it all the time, or the network corrupts data: check both, then try "
        "again",
    )
