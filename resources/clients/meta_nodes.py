"""Chooses the meta node for a request: any of them can serve a run, except one that is down.

-bind gives one address, or several with commas; the metastore gives the others. The node that
answered last comes first. A command is repeated only if it was certainly not accepted.

A node that stands still costs one time-out. After that it is asked last, redirects to it are not
followed, and before the next request it must answer a brief one. A node that is too slow to send
the metastore costs one time-out too. After that, small requests and commands still go to it, and
the metastore comes from another node, even if the slow one leads.

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
"""How long a meta node without an answer comes last, and redirects to it are not followed."""
ELECTION_S = 15.0
"""How long a run in progress waits for a leader; meta nodes elect one within seconds."""
PAUSE_S = 0.5
MAX_META_NODES = 16


def meta_addresses(nodes: Sequence[NodeInfo]) -> list[HostPort]:
    """The HTTP addresses of meta nodes in the metastore."""
    return addresses_of(node.addr for node in nodes)


def addresses_of(texts: Iterable[str]) -> list[HostPort]:
    """The well-formed addresses among `texts`."""
    found: list[HostPort] = []
    for text in list(texts)[:MAX_META_NODES]:
        try:
            found.append(split_host_port(text, META_PORT))
        except UsageError:
            continue
    return found


def named_addresses(bind: str) -> list[HostPort]:
    """The addresses in -bind: one meta node, or several separated by commas.

    Raises:
        UsageError: one of them is not an address.
    """
    return [split_host_port(text.strip(), META_PORT) for text in bind.split(",")]


def silent(node: HostPort) -> PeerUnreachable:
    """The error for a node that does not answer the brief request."""
    return PeerUnreachable(
        f"{node}: meta node does not answer", hint="is it up, and its address (-bind) right?"
    )


class MetaNodes:
    """The meta nodes of one cluster; safe to share between threads.

    Args:
        named: the given addresses; `learn` adds others.
        is_there: whether a node answers a brief request, asked of one that was away.
    """

    def __init__(
        self, named: Sequence[HostPort], is_there: Callable[[HostPort], bool] = lambda _: True
    ) -> None:
        self.first = named[0]
        self._is_there = is_there
        self._mutex = threading.Lock()
        self._known = list(named)
        self._away_until: dict[HostPort, float] = {}
        self._slow_until: dict[HostPort, float] = {}
        self._met = False

    def learn(self, addresses: Iterable[HostPort]) -> None:
        """Add addresses that the cluster itself reports."""
        with self._mutex:
            self._known += [a for a in dict.fromkeys(addresses) if a not in self._known]
            del self._known[2 * MAX_META_NODES :]

    def is_away(self, address: HostPort) -> bool:
        """Whether a recent request to the node had no answer."""
        return self._away_until.get(address, 0.0) > time.monotonic()

    def note_away(self, address: HostPort) -> None:
        """Record that a node does not answer."""
        self._away_until[address] = time.monotonic() + AWAY_S

    def is_slow(self, address: HostPort) -> bool:
        """Whether the node was recently too slow, so that it is not used for the metastore."""
        return self._slow_until.get(address, 0.0) > time.monotonic()

    @contextmanager
    def noting(self, address: HostPort, *, may_wait: bool = False) -> Generator[None]:
        """Record that a node does not answer in the block.

        A node that reports a missing leader has answered. A node that is too slow for a
        metastore still serves small requests.

        Args:
            may_wait: whether the request lets the node wait for a newer metastore.
        """
        try:
            yield
        except (PeerUnreachable, UnknownOutcome) as error:
            if isinstance(error, PeerTooSlow):
                self._slow_until[address] = time.monotonic() + AWAY_S
            elif "(HTTP " not in error.what and not may_wait:
                self.note_away(address)
            raise

    def hop(self, leader: HostPort) -> HostPort:
        """Follow a redirect to the leader.

        Raises:
            PeerUnreachable: the leader did not answer a moment ago.
        """
        if self.is_away(leader):
            raise PeerUnreachable(
                f"{leader}: the leader of the meta nodes does not answer",
                hint="the others choose another leader, if most of them are up",
            )
        return leader

    def in_turn(self) -> list[HostPort]:
        """The addresses in the order of use."""
        with self._mutex:
            return sorted(self._known, key=lambda node: (self.is_away(node), self.is_slow(node)))

    def ask(self, question: Callable[[HostPort], T], *, once: bool = False) -> T:
        """Send a request to one node after the other until one answers.

        A run that has had an answer before waits for the election of a leader; a run's first
        request makes one round, and so does one that is to be sent `once`.

        Raises:
            PeerUnreachable: no node answers; the error of the first one.
            WireError: any other error of `question`, at once.
        """
        deadline = time.monotonic() + ELECTION_S
        while True:
            try:
                return self._ask_each(question)
            except PeerUnreachable:
                if once or not self._met or len(self._known) < 2 or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_S)

    def _ask_each(self, question: Callable[[HostPort], T]) -> T:
        first: PeerUnreachable | None = None
        order = self.in_turn()
        away = {address for address in order if self.is_away(address)}
        for address in order:
            if self.is_away(address):
                if address not in away:
                    continue  # another node has just redirected to it, without success
                if len(order) > 1 and not self._is_there(address):
                    first = first or silent(address)
                    continue
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
