"""What a restore writes to: a single server or a cluster, behind one interface."""

from __future__ import annotations

from typing import Literal, Protocol

from resources.clients.source import SourceFacts
from resources.model import Metastore


class Target(Protocol):
    """A server or a cluster that can be restored into; safe to share between threads."""

    @property
    def kind(self) -> Literal["server", "cluster"]: ...

    @property
    def address(self) -> str:
        """What to call it in messages."""
        ...

    def about(self) -> SourceFacts:
        """Version and clock, as far as it tells them."""
        ...

    def metastore(self) -> tuple[bytes, Metastore]:
        """The metastore as bytes and decoded."""
        ...

    def abort(self) -> None:
        """Break off every request that is under way, from any thread."""
        ...

    def resume(self) -> None:
        """Allow requests again after `abort`."""
        ...
