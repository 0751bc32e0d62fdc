"""Undo a restore that failed: drop what it created, and only that."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from resources.clients.server import Server
from resources.engine.events import Emit, RolledBack, Warned
from resources.engine.restore.leftovers import (
    describe_anothers,
    holds_more,
    shape,
    shards_of,
    whose_else,
)
from resources.engine.restore.plan import DatabaseRestore
from resources.engine.restore.server_databases import drop_database
from resources.engine.restore.server_journal import JournalWriter
from resources.errors import ShardkeeperError, shown
from resources.model import DatabaseInfo, ShardID
from resources.protocol.influxql import quote_identifier
from resources.runtime.failpoints import passing

SETTLED_WITHIN_S = 2.0
"""How long an import that was sent may take to show; a user who stops a run waits at most five."""
POLL_S = 0.05


def roll_back(
    server: Server,
    created: Sequence[tuple[DatabaseRestore, Mapping[ShardID, ShardID]]],
    error: BaseException,
    *,
    journal: JournalWriter,
    emit: Emit,
) -> None:
    """Drop the databases a failed restore created.

    A database is dropped only if every shard in it is one that the server gave to the restore, and
    no client has written into it: a point that a server has acknowledged is never a left-over. If
    another run took this one's place, that run may continue with what is there. A note on `error`
    names what could not be dropped, which stays in the journal; this never raises a
    ShardkeeperError of its own.
    """
    passing("restore.before-rollback")
    dropped: list[str] = []
    for database, ids in created:
        try:
            # An interrupted run knows no outcome: an import that was sent may still be under way.
            until = time.monotonic() + (0.0 if ids else SETTLED_WITHIN_S)
            there = _read_database(server, database.name, until)
            if there is None:
                if not ids and not isinstance(error, ShardkeeperError):
                    _maybe_later(database.name, error, emit)
                else:
                    journal.forget(database.name)
                continue
            if not _ours(there, database, ids):
                _leave(database.name, "it holds shards that are not ours", error, emit)
                continue
            if not journal.is_still_ours():
                _leave(database.name, "another run took the place of this one", error, emit)
                continue
            if not ids and not _is_settled(server, there, until):
                _leave(database.name, "the server is still at work on it", error, emit)
                continue
            if not ids and (
                why := whose_else(server, journal.store, journal.name, journal.journal, there)
            ):
                _name_anothers(database.name, why, error, emit)
                journal.forget(database.name)
                continue
            if ids and (why := _holds_more(server, journal, ids.values())):
                _leave(database.name, why, error, emit)
                continue
            drop_database(server, database.name, shards_of(there))
            journal.forget(database.name)
            dropped.append(database.name)
            passing("restore.after-rollback")
        except Exception as failure:  # noqa: BLE001 - whatever it is, the next one is dropped
            why = failure.what if isinstance(failure, ShardkeeperError) else repr(failure)
            _leave(database.name, why, error, emit)
    if dropped:
        _report_dropped(dropped, error, emit)


def _report_dropped(dropped: Sequence[str], error: BaseException, emit: Emit) -> None:
    with suppress(OSError):  # nothing reads the output any more, as after a hang-up
        emit(RolledBack(tuple(dropped)))
    if not isinstance(error, ShardkeeperError):  # an interrupt has no words of its own
        names = ", ".join(map(shown, dropped))
        error.add_note(f"what was restored is taken back: {names} dropped")


def take_back_strangers(
    server: Server,
    known: Collection[str],
    ours: Collection[ShardID],
    error: BaseException,
    *,
    journal: JournalWriter,
    emit: Emit,
) -> None:
    """Drop or name what appeared beside the plan: a name may have changed on its way.

    It is dropped only if its shards are those that the server gave this restore.

    Args:
        known: the databases that were there before, and those of the plan.
        ours: the shards that the server has created for this restore.
    """
    if not journal.is_still_ours():
        return
    try:
        _, now = server.metastore()
    except ShardkeeperError:
        return  # each database of the plan is named by itself, if it could not be looked at
    for there in now.databases:
        name, shards = there.name, shards_of(there)
        if name in known:
            continue
        if not shards or not shards <= set(ours):
            text = (
                f"database {shown(name)} appeared meanwhile, and was not dropped: if no client of "
                "yours has created it, its name changed on the way; look at it, then run DROP "
                f"DATABASE {quote_identifier(name)}"
            )
            with suppress(OSError):
                emit(Warned(text))
            error.add_note(text)
            continue
        try:
            if why := _holds_more(server, journal, shards):
                _leave(name, why, error, emit)
                continue
            drop_database(server, name, shards)
            with suppress(OSError):
                emit(RolledBack((name,)))
        except ShardkeeperError as failure:
            _leave(name, failure.what, error, emit)


def _read_database(server: Server, name: str, until: float) -> DatabaseInfo | None:
    """The database, when it appears."""
    while True:
        _, now = server.metastore()
        there = now.database(name)
        if there is not None or time.monotonic() >= until:
            return there
        time.sleep(POLL_S)


def _is_settled(server: Server, there: DatabaseInfo, until: float) -> bool:
    """Whether every shard has been created; it is waited for.

    A server that imports names all shards first and then creates one after the other. Those
    that it creates after a DROP DATABASE belong to nothing and stay (seen on 1.6.7).
    """
    shards = shards_of(there)
    if server.http is None:
        return True  # nothing will be dropped, and `drop_database` says why
    while not shards <= server.http.server_vars().shards.keys():
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_S)
    return True


def _maybe_later(name: str, error: BaseException, emit: Emit) -> None:
    text = (
        f"database {shown(name)} was about to be created and is not there; if it appears "
        f"after all, run DROP DATABASE {quote_identifier(name)}"
    )
    with suppress(OSError):
        emit(Warned(text))
    error.add_note(text)


def _ours(there: DatabaseInfo, database: DatabaseRestore, ids: Mapping[ShardID, ShardID]) -> bool:
    groups = [(rp.name, group) for rp in there.retention_policies for group in rp.shard_groups]
    if ids:
        return shards_of(there) <= set(ids.values())
    # The reply to the import was lost: ours if it has exactly the shard groups that we sent.
    sent = {(s.policy, *shape(s.place.group)) for s in database.shards}
    return {(policy, *shape(group)) for policy, group in groups} == sent


def _holds_more(server: Server, journal: JournalWriter, ids: Collection[ShardID]) -> str:
    """Why it may hold points that were not sent; a server that has no HTTP drops nothing."""
    if server.http is None:
        return ""
    started_ns = journal.journal.server_started_ns
    now = server.http.server_vars()
    if started_ns is None or now.started_ns != started_ns:
        made = journal.journal.databases.values()
        sent = {i: files for one in made for i, files in (one.shards or {}).items() if i in ids}
        return holds_more(server, started_ns, sent)
    return holds_more(server, started_ns, dict.fromkeys(ids, ()))


def _name_anothers(name: str, why: str, error: BaseException, emit: Emit) -> None:
    text = describe_anothers(name, why)
    with suppress(OSError):
        emit(Warned(text))
    error.add_note(text)


def _leave(name: str, why: str, error: BaseException, emit: Emit) -> None:
    text = (
        f"database {shown(name)} was created and is left there: {why}; look at it, then run "
        f"DROP DATABASE {quote_identifier(name)}"
    )
    with suppress(OSError):
        emit(Warned(text))
    error.add_note(text)
