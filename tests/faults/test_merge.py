"""A merge that dies at a named point is finished by the same command, whatever changed since."""

from __future__ import annotations

import signal

import pytest

from resources.runtime.failpoints import FAILPOINTS, VARIABLE
from tests.expectation import Expectation
from tests.faults.places import T0, Place
from tests.processes import ForkServer
from tests.wire.commands import Done, shardkeeper
from tests.wire.merge.scenario import leftovers
from tests.wire.merge.stored import stored

KILLED = -signal.SIGKILL
IN_MERGES = [name for name in FAILPOINTS if name.startswith("merge.")]
UNSPEAKABLE = b"\xff,k=v v=%di %d"
"""A measurement that no statement can name: it is written as a line."""


def merged(
    place: Place, expectation: Expectation, fork_server: ForkServer, point: str = ""
) -> Done:
    """One run, which may die at a point."""
    words = ["merge", *place.source_flags, "-db", expectation.database, str(expectation.backups)]
    return fork_server.start(*words, env={VARIABLE: point} if point else {}).wait()


@pytest.mark.parametrize("meanwhile", ["nothing", "points are deleted", "it is made anew"])
@pytest.mark.parametrize("point", IN_MERGES)
def test_a_merge_killed_anywhere_ends_with_every_point_whatever_changed_since(
    server: Place, fork_server: ForkServer, point: str, meanwhile: str
) -> None:
    expectation, source = server.expectation(), server.source
    name = expectation.database
    source.write(name, UNSPEAKABLE % (2**53 + 1, T0))
    before = stored(source.bind_addr, name)
    done = shardkeeper("backup", *server.source_flags, expectation.backups)
    assert done, done
    source.drop_database(name)
    source.create_database(name)
    died = merged(server, expectation, fork_server, point)
    assert died.code == KILLED, died
    if meanwhile == "points are deleted":
        source.query("DROP SERIES FROM m WHERE t = '1'", db=name)
    elif meanwhile == "it is made anew":
        source.drop_database(name)
        source.create_database(name)
    done = merged(server, expectation, fork_server)
    assert done, done
    assert stored(source.bind_addr, name) == before
    assert f"Merged {len(before)} values" in done.out
    assert leftovers(source, expectation.backups) == []
    source.drop_database(name)
