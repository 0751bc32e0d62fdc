"""A limit of connections to each data node over all processes of a run.

Each slot of a node is a byte of one file without a name, which the processes inherit; holding it is
a lock on that byte. So a slot is free again when its process ends, however that ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import threading
from collections.abc import Generator
from contextlib import contextmanager

from resources.errors import Stopped

POLL_S = 0.05
MAX_EACH = 64


class NodeSlots:
    """Slots for each node; safe between threads.

    Args:
        fd: of the file; it may be inherited from another process.
        each: the slots of one node, at most `MAX_EACH`.
    """

    def __init__(self, fd: int, each: int) -> None:
        self._fd = fd
        self._each = min(each, MAX_EACH)
        self._mutex = threading.Lock()
        self._ours: set[int] = set()
        """The bytes that this process has locked: such a lock does not exclude its own threads."""

    @contextmanager
    def one(self, node: str, stop: threading.Event) -> Generator[None]:
        """Hold a slot of a node.

        Raises:
            Stopped: `stop` was set before one was free.
        """
        while (slot := self._take(node)) is None:
            if stop.wait(POLL_S):
                raise Stopped("stopped before the backup was complete")
        try:
            yield
        finally:
            with self._mutex:
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, slot)
                self._ours.discard(slot)

    def _take(self, node: str) -> int | None:
        first = int.from_bytes(hashlib.sha256(node.encode()).digest()[:6]) * MAX_EACH
        with self._mutex:
            for slot in range(first, first + self._each):
                if slot in self._ours:
                    continue
                try:
                    fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
                except OSError:  # EACCES or EAGAIN: another process has it
                    continue
                self._ours.add(slot)
                return slot
        return None
