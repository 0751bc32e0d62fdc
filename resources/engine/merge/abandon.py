"""Abandon an unfinished merge."""

from __future__ import annotations

from resources.clients.cluster import Cluster
from resources.clients.server import Server
from resources.engine.events import (
    Run,
)
from resources.engine.merge.exclusive import alone
from resources.engine.merge.http_endpoints import HttpEndpoints
from resources.engine.merge.merge_journal import MergeJournalFile
from resources.engine.merge.temporary import TemporaryDatabase, left_there
from resources.errors import NothingMatches
from resources.repository.repository import BackupRepository


def abandon_merge(
    target: Server | Cluster,
    repository: BackupRepository,
    run: Run,
) -> str:
    """Drop the temporary database of an unfinished merge; merged points stay.

    Returns its name.

    Raises:
        NothingMatches: there is no unfinished merge.
        RestoreFailed: the database of that name is not provably the merge's own.
        ShardkeeperError: the database could not be dropped.
    """
    endpoints = HttpEndpoints(target, run)
    with alone(repository, run.emit) as check_alone:
        file = MergeJournalFile(repository.store, target.metastore()[1].cluster_id)
        journal = file.read()
        if journal is None:
            raise NothingMatches(
                f"{repository.location} has no unfinished merge into {target.address}"
            )
        check_alone()
        left = TemporaryDatabase(
            journal,
            target,
            repository,
            endpoints,
            run=run,
            check_alone=check_alone,
        ).clear_away()
        if left is not None:
            raise left_there(journal, left, "then run this again, which ends the merge")
        file.remove()
    return journal.temporary
