"""When all other work is done, a run waits once for the nodes that do not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from resources.clients.peers import Peer
from resources.engine.events import Emit, Warned
from resources.errors import Stopped

MAX_RETURNS = 4
"""How many times a run waits for a node that answers again and then stops answering."""


def await_nodes(
    nodes: Sequence[Peer], n_shards: int, patience_s: float, *, emit: Emit, stop: threading.Event
) -> bool:
    """Wait for `nodes`, once for all of their shards; returns whether any of them is back.

    Raises:
        Stopped: `stop` was set.
    """
    deadline = time.monotonic() + patience_s
    back = False
    for node in nodes:
        if (why := node.why_away) is not None:
            emit(Warned(f"{why.what}; {n_shards} shards wait for it, everything else is done"))
        back |= node.await_return(stop, max(deadline - time.monotonic(), 0.0))
        if stop.is_set():
            raise Stopped("stopped before everything was done")
    return back
