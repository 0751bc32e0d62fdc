"""A merge that dies at a named point is finished by the same command, whatever changed since."""

from __future__ import annotations

import signal

import pytest

from resources.failpoints import FAILPOINTS, VARIABLE
from tests.faults.places import T0, Place
from tests.oracle import Witness
from tests.processes import Nursery
from tests.wire.commands import Done, shardkeeper
from tests.wire.merge.scenario import leftovers
from tests.wire.merge.stored import stored

KILLED = -signal.SIGKILL
IN_MERGES = [name for name in FAILPOINTS if name.startswith("merge.")]
UNSPEAKABLE = b"\xff,k=v v=%di %d"
"""A measurement that no statement can name: it is written as a line."""


def merged(place: Place, witness: Witness, nursery: Nursery, point: str = "") -> Done:
    """One run, which may die at a point."""
    words = ["merge", *place.source_flags, "-db", witness.database, str(witness.backups)]
    return nursery.start(*words, env={VARIABLE: point} if point else {}).wait()


@pytest.mark.parametrize("meanwhile", ["nothing", "points are deleted", "it is made anew"])
@pytest.mark.parametrize("point", IN_MERGES)
def test_a_merge_killed_anywhere_ends_with_every_point_whatever_changed_since(
    server: Place, nursery: Nursery, point: str, meanwhile: str
) -> None:
    witness, source = server.witness(), server.source
    name = witness.database
    source.write(name, UNSPEAKABLE % (2**53 + 1, T0))
    before = stored(source.bind_addr, name)
    done = shardkeeper("backup", *server.source_flags, witness.backups)
    assert done, done
    source.drop_database(name)
    source.create_database(name)
    died = merged(server, witness, nursery, point)
    assert died.code == KILLED, died
    if meanwhile == "points are deleted":
        source.query("DROP SERIES FROM m WHERE t = '1'", db=name)
    elif meanwhile == "it is made anew":
        source.drop_database(name)
        source.create_database(name)
    done = merged(server, witness, nursery)
    assert done, done
    assert stored(source.bind_addr, name) == before
    assert f"Merged {len(before)} points" in done.out
    assert leftovers(source, witness.backups) == []
    source.drop_database(name)
