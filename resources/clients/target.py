"""Target: the interface through which a restore writes to a single server or a cluster."""

from __future__ import annotations

from typing import Literal, Protocol

from resources.clients.source import SourceFacts
from resources.model import Metastore


class Target(Protocol):
    """The server or the cluster of a restore; safe to share between threads."""

    @property
    def kind(self) -> Literal["server", "cluster"]: ...

    @property
    def address(self) -> str:
        """Its name in messages."""
        ...

    def about(self) -> SourceFacts:
        """Version and clock, as far as the target reports them."""
        ...

    def metastore(self) -> tuple[bytes, Metastore]:
        """The metastore as bytes and decoded."""
        ...

    def abort(self) -> None:
        """Break off every request in progress, from any thread."""
        ...

    def resume(self) -> None:
        """Allow requests again after `abort`."""
        ...
