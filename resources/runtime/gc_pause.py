"""Python's garbage collector, told when looking for garbage is in vain.

It looks again and again at what is alive while much is made that stays. Reading ten thousand
shards takes half as long again with it as without, and leaves nothing for it to find.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager

_mutex = threading.Lock()
_resting = 0
_wake = False


@contextmanager
def gc_paused() -> Generator[None]:
    """No garbage is collected in the block, nor in other threads meanwhile.

    For what makes many objects, keeps them, and is done within a second or so. What is no
    longer referred to is freed all the same; only cycles wait.
    """
    global _resting, _wake
    with _mutex:
        if not _resting:
            _wake = gc.isenabled()
            gc.disable()
        _resting += 1
    try:
        yield
    finally:
        with _mutex:
            _resting -= 1
            if not _resting and _wake:
                gc.enable()
