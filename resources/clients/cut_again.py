"""Repeats a read request whose connection was cut; never a request that changes something.

A peer whose connection broke in the middle may be reachable a moment later: a proxy restarts, a
firewall drops its state, a cable is replaced. After a refusal or a silence the request is not
repeated here, since every caller would wait. Held by tests/resources/clients/test_cut_again.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from resources.errors import ConnectionCut, PeerClosedEarly

T = TypeVar("T")

PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
"""The pause before each further attempt."""


def asked_again(
    ask: Callable[[], T],
    *,
    given_up: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Send a request, and repeat it while the connection is cut before the answer is complete.

    Args:
        ask: sends a request that may be repeated safely, on a new connection each time.
        given_up: whether the answer is no longer needed.

    Raises:
        ShardkeeperError: the error of the last attempt.
    """
    for pause_s in PAUSES_S:
        try:
            return ask()
        except (ConnectionCut, PeerClosedEarly):
            if given_up():
                raise
            sleep(pause_s)
    return ask()
