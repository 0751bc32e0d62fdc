"""When all other work is done, a run waits once for the nodes that do not answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

from resources.clients.peers import Peer
from resources.engine.events import Run, Warned
from resources.errors import counted

MAX_RETURNS = 4
"""How many times a run waits for a node that answers again and then stops answering."""


def await_nodes(nodes: Sequence[Peer], n_shards: int, patience_s: float, run: Run) -> bool:
    """Wait for `nodes`, once for all of their shards; returns whether any of them is back.

    Raises:
        Stopped: the run was stopped.
    """
    deadline = time.monotonic() + patience_s
    back = False
    for node in nodes:
        if (why := node.why_away) is not None:
            run.emit(
                Warned(
                    f"{why.what}; {counted(n_shards, 'shard waits', 'shards wait')} for it, "
                    "everything else is done"
                )
            )
        back |= node.await_return(run.stop, max(deadline - time.monotonic(), 0.0))
        run.check()
    return back
