"""Create the databases of a restore on a single server, or find those that a killed run created."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from resources.clients.server import Server
from resources.engine.restore.check import ArchiveContents
from resources.engine.restore.leftovers import shape
from resources.engine.restore.plan import DatabaseRestore, RestorePlan
from resources.engine.restore.record import CreatedDatabase
from resources.engine.restore.rollback import POLL_S, SETTLED_WITHIN_S
from resources.engine.restore.server_journal import JournalWriter
from resources.engine.restore.target import create_database, ids_there, require_made
from resources.engine.restore.unfinished import Unfinished
from resources.errors import (
    ConnectionCut,
    LockLost,
    PeerClosedEarly,
    PeerRefused,
    PlanError,
    TargetNotEmpty,
    WireError,
)
from resources.model import ShardID
from resources.repository.formats.details import FileID
from resources.runtime.failpoints import passing

IMPORTS = 4
"""How often a database is sent, while the connection is cut before the answer."""


class MetastoreChange:
    """Creates the databases of a plan, each on record before it may be on the server.

    Args:
        goes_on: what a killed run has created, which is not created again.
    """

    def __init__(
        self,
        server: Server,
        plan: RestorePlan,
        version: str,
        contents: Mapping[ShardID, ArchiveContents],
        journal: JournalWriter,
        goes_on: Unfinished | None,
    ) -> None:
        self.created: list[tuple[DatabaseRestore, dict[ShardID, ShardID]]] = []
        self._server = server
        self._plan = plan
        self._version = version
        self._contents = contents
        self._journal = journal
        self._there: Mapping[str, Mapping[ShardID, ShardID]] = (
            goes_on.ids if goes_on is not None else {}
        )
        self._sent = ""
        """The database that was sent last, or is about to be."""

    def make(self) -> dict[ShardID, ShardID]:
        """Which shard became which."""
        for database in self._plan.databases:
            self._create(database)
            passing("restore.after-metadata")
        return {old: new for _, ids in self.created for old, new in ids.items()}

    def _create(self, database: DatabaseRestore) -> None:
        groups = sorted({(s.new_policy, *shape(s.place.group)) for s in database.shards})
        made = CreatedDatabase(tuple(groups), None if database.shards else {})
        ids: dict[ShardID, ShardID] = {}
        self._journal.add(database.new_name, made)
        self.created.append((database, ids))
        try:
            self._journal.check_still_ours()
            if database.new_name in self._there:
                ids |= self._there[database.new_name]
            else:
                self._import(database, ids)
        except (LockLost, PlanError, PeerRefused) as error:
            if not isinstance(error, PeerRefused) or database.shards:
                self.created.pop()  # nothing was changed; who has that name now keeps it
                self._journal.forget(database.new_name)
            raise
        except BaseException:
            if not ids and self._sent != database.new_name:  # as by a signal
                self.created.pop()
                self._journal.forget(database.new_name)
            raise
        finally:
            if ids:  # as the server said, even if what it made is not what was sent
                files = {
                    new: frozenset(f.id for f in self._contents[old].files)
                    if old in self._contents
                    else frozenset[FileID]()
                    for old, new in ids.items()
                }
                self._journal.add(database.new_name, replace(made, shards=files, ids=ids))

    def _import(self, database: DatabaseRestore, ids: dict[ShardID, ShardID]) -> None:
        """Create it; an answer that is lost is found in what is there, and else it is sent again.

        Raises: as `create_database`.
        """
        lost: WireError | None = None
        self._sent = database.new_name
        for attempt in range(1, IMPORTS + 1):
            try:
                create_database(self._server, self._plan.meta, database, self._version, ids)
                return
            except (ConnectionCut, PeerClosedEarly) as error:
                if ids or not database.shards or attempt == IMPORTS:
                    raise
                lost = error
            except (PeerRefused, TargetNotEmpty):
                if lost is None:
                    raise  # what is there was not sent by us
            found = self._made(database)
            if found is not None:
                ids |= found
                return
        assert lost is not None  # noqa: S101 - else it has returned or raised
        raise lost

    def _made(self, database: DatabaseRestore) -> Mapping[ShardID, ShardID] | None:
        """Which shards an import has made whose answer was lost; None if it has made none."""
        until = time.monotonic() + SETTLED_WITHIN_S
        while time.monotonic() < until:
            _, now = self._server.metastore()
            there = now.database(database.new_name)
            if there is not None:
                ids = ids_there(there, self._plan.meta, database)
                if ids is None or self._journal.is_anothers(there.name, ids.values()):
                    return None
                if set(ids.values()) <= self._server.shards_on_disk():
                    require_made(self._server, now, self._plan.meta, database, self._version, ids)
                    return ids
                until = time.monotonic() + SETTLED_WITHIN_S  # it is at work
            time.sleep(POLL_S)
        return None
