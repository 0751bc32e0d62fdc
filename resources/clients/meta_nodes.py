"""Which meta node is asked: any of them can serve a run, so one that is away is passed over.

One address is given (-bind, or several with commas); the others are in the metastore. Whoever
answered last is asked first. Commands are sent again only if they were surely not taken.

One that is too slow to send the metastore costs one time-out, too: small questions and commands
still go to it, and the metastore comes from another, also if the slow one leads.

Held by tests/resources/clients/test_meta_nodes.py; on real clusters by tests/faults/peers.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TypeVar

from resources.clients.address import HostPort, split_host_port
from resources.clients.meta_http import META_PORT
from resources.errors import PeerTooSlow, PeerUnreachable, UnknownOutcome, UsageError
from resources.model import NodeInfo

T = TypeVar("T")

AWAY_S = 60.0
"""For how long a meta node that did not answer is asked last, and no redirect to it is followed."""
ELECTION_S = 15.0
"""How long a run that is under way waits for a leader; meta nodes elect one within seconds."""
PAUSE_S = 0.5
MAX_META_NODES = 16


def meta_addresses(nodes: Sequence[NodeInfo]) -> list[HostPort]:
    """The HTTP addresses of meta nodes, as the metastore has them."""
    return addresses_of(node.addr for node in nodes)


def addresses_of(texts: Iterable[str]) -> list[HostPort]:
    """Those that are addresses."""
    found: list[HostPort] = []
    for text in list(texts)[:MAX_META_NODES]:
        try:
            found.append(split_host_port(text, META_PORT))
        except UsageError:
            continue
    return found


def named_addresses(bind: str) -> list[HostPort]:
    """What -bind names: one meta node, or several with commas between.

    Raises:
        UsageError: one of them is no address.
    """
    return [split_host_port(text.strip(), META_PORT) for text in bind.split(",")]


class MetaNodes:
    """The meta nodes of one cluster; safe to share between threads.

    Args:
        named: those that were given; the others are learned.
    """

    def __init__(self, named: Sequence[HostPort]) -> None:
        self.first = named[0]
        self._mutex = threading.Lock()
        self._known = list(named)
        self._away_until: dict[HostPort, float] = {}
        self._slow_until: dict[HostPort, float] = {}
        self._met = False

    def learn(self, addresses: Iterable[HostPort]) -> None:
        """Note others, as the cluster itself tells them."""
        with self._mutex:
            self._known += [a for a in dict.fromkeys(addresses) if a not in self._known]
            del self._known[2 * MAX_META_NODES :]

    def is_away(self, address: HostPort) -> bool:
        """Whether it did not answer a moment ago."""
        return self._away_until.get(address, 0.0) > time.monotonic()

    def is_slow(self, address: HostPort) -> bool:
        """Whether it was too slow a moment ago, so that the metastore is not asked of it."""
        return self._slow_until.get(address, 0.0) > time.monotonic()

    @contextmanager
    def noting(self, address: HostPort, *, may_wait: bool = False) -> Generator[None]:
        """Remember if a node does not answer in the block.

        That it has no leader is an answer, and who is too slow for a metastore may still do for
        what is small.

        Args:
            may_wait: whether it was asked to answer only once it has news.
        """
        try:
            yield
        except (PeerUnreachable, UnknownOutcome) as error:
            if isinstance(error, PeerTooSlow):
                self._slow_until[address] = time.monotonic() + AWAY_S
            elif "(HTTP " not in error.what and not may_wait:
                self._away_until[address] = time.monotonic() + AWAY_S
            raise

    def hop(self, leader: HostPort) -> HostPort:
        """Go on to who is said to lead, unless it did not answer a moment ago.

        Raises:
            PeerUnreachable
        """
        if self.is_away(leader):
            raise PeerUnreachable(
                f"{leader}: the meta node that leads does not answer",
                hint="the others choose another leader, if most of them are up",
            )
        return leader

    def in_turn(self) -> list[HostPort]:
        """In which order to ask them."""
        with self._mutex:
            return sorted(self._known, key=lambda node: (self.is_away(node), self.is_slow(node)))

    def ask(self, question: Callable[[HostPort], T]) -> T:
        """Ask one after the other until one answers.

        A run that has had an answer before waits for a leader to be elected; the first question
        of all is asked once.

        Raises:
            PeerUnreachable: none did; of the one that was asked first.
            What else `question` raises, at once.
        """
        deadline = time.monotonic() + ELECTION_S
        while True:
            try:
                return self._ask_each(question)
            except PeerUnreachable:
                if not self._met or len(self._known) < 2 or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_S)

    def _ask_each(self, question: Callable[[HostPort], T]) -> T:
        first: PeerUnreachable | None = None
        order = self.in_turn()
        away = {address for address in order if self.is_away(address)}
        for address in order:
            if self.is_away(address) and address not in away:
                continue  # another one has just led to it, in vain
            try:
                answer = question(address)
            except PeerUnreachable as error:
                first = first or error
                continue
            self._answered(address)
            return answer
        assert first is not None  # noqa: S101 - one is known at least
        raise first

    def _answered(self, address: HostPort) -> None:
        self._away_until.pop(address, None)
        with self._mutex:
            self._met = True
            if self._known[0] != address:
                self._known.remove(address)
                self._known.insert(0, address)
