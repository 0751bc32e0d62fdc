"""A question whose connection was cut is asked again; what changes something is not.

A peer that was reached and then lost in the middle may be there a moment later: a proxy that
restarts, a firewall that forgets, a cable. A peer that refuses, or says nothing, is not asked again
here: that would make everybody wait for it. Held by tests/resources/clients/test_cut_again.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from resources.errors import ConnectionCut, PeerClosedEarly

T = TypeVar("T")

PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Before each further try."""


def asked_again(
    ask: Callable[[], T],
    *,
    given_up: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Ask, and ask again as long as the connection is cut before the answer is there.

    Args:
        ask: a question that does no harm twice; each time on a connection of its own.
        given_up: whether nobody waits for the answer any more.

    Raises: what the last try raises.
    """
    for pause_s in PAUSES_S:
        try:
            return ask()
        except (ConnectionCut, PeerClosedEarly):
            if given_up():
                raise
            sleep(pause_s)
    return ask()
