"""settled: a metastore that did not change on its way, since two readings of it agree.

Whoever reads a metastore decides by it: what is backed up, restored, dropped. So it is read
twice. While others change it, readings differ rightly; then it is read until a reading stands
between its neighbours: each part of it was read before or after as well, and it lacks none that
was read before and after. The test is tests/resources/clients/test_stable_metastore.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from resources.errors import BadReply
from resources.protocol.meta_parts import MetastoreParts

MAX_READINGS = 12
"""A second and a half, besides the readings: no metastore should change that often."""
PAUSE_S = 0.025


def settled(
    read: Callable[[], bytes], address: str, *, sleep: Callable[[float], None] = time.sleep
) -> bytes:
    """Read a metastore until a reading is confirmed by others; return that one.

    Args:
        read: one reading.
        address: whose it is, for messages.

    Raises:
        BadReply: no reading agrees with those beside it.
        WireError: what `read` raises, at once.
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
        hint="something changes it all the time, or the network changes what it carries: look at "
        "both, then try again",
    )
