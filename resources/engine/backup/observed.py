"""What a source reports of itself while a backup is planned."""

from __future__ import annotations

from msgspec import Struct

from resources.clients.source import ReplicaInventory, SourceFacts
from resources.errors import WireError
from resources.model import Metastore
from resources.repository.formats.proof import Clocks


class ObservedSource(Struct, frozen=True):
    """What a source reported a moment ago; a caller that has it saves the requests."""

    meta: bytes
    metastore: Metastore
    inventory: ReplicaInventory | None = None
    """None: its nodes were not polled."""


class SourceState(Struct, frozen=True):
    """A source whose shards are compared with their archives."""

    metastore: Metastore
    inventory: ReplicaInventory
    facts: SourceFacts
    """Read before anything else."""
    silence: WireError | None
    """Why a server does not report them; None: it does, or it is not known."""
    clocks: Clocks | None
    """The source's clock at the time of `facts`, and ours; None if it did not report one."""
