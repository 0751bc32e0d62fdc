"""In a bucket, as in a directory: a run that is killed or stands still anywhere harms no backup."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from resources.runtime.failpoints import VARIABLE
from tests.faults.buckets import BucketExpectation, some_bucket
from tests.faults.places import Place
from tests.faults.test_failpoints import KILLED
from tests.faults.test_stood_still import stood_still, take_all_notes, woken
from tests.processes import ForkServer
from tests.s3_server import S3Server
from tests.wire.commands import shardkeeper

KILLED_AT = [
    "bucket.after-put:5",  # the stage is there; no lock
    "bucket.after-put:8",  # it names the backup
    "bucket.after-put:14",  # some archives are there
    "bucket.before-commit",
    "backup.after-commit",
    "bucket.revoked",
    "bucket.before-delete",
]
STOPPED_AT = [
    "backup.locked",
    "backup.named",
    "backup.shard-stored:2",
    "backup.before-commit",
    "bucket.before-commit",
    "backup.after-commit",
]


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, S3Server | None]]:
    with some_bucket() as found:
        yield found


@pytest.fixture
def expectation(server: Place, bucket: tuple[str, S3Server | None]) -> BucketExpectation:
    found = BucketExpectation.at(server, bucket[0])
    found.back_up()
    server.write(found)
    return found


def environment() -> dict[str, str]:
    """What leads to the bucket; the process that commands are forked from does not have it."""
    return {name: value for name, value in os.environ.items() if name.startswith(("AWS", "AZURE"))}


def of_backups(expectation: BucketExpectation) -> tuple[object, ...]:
    return ("backup", *expectation.flags, "-db", expectation.database, expectation.url)


@pytest.mark.fault(26)
@pytest.mark.parametrize("failpoint_request", KILLED_AT)
def test_a_backup_killed_anywhere_leaves_what_was_and_the_next_converges(
    expectation: BucketExpectation, fork_server: ForkServer, failpoint_request: str
) -> None:
    flags = of_backups(expectation)
    if failpoint_request in ("bucket.revoked", "bucket.before-delete"):  # of a run before
        dead = {**environment(), VARIABLE: "backup.before-commit"}
        assert fork_server.start(*flags, env=dead).wait().code == KILLED
    done = fork_server.start(*flags, env={**environment(), VARIABLE: failpoint_request}).wait()
    assert done.code == KILLED, done
    committed = expectation.take_note()
    assert committed == (failpoint_request == "backup.after-commit"), failpoint_request
    name = expectation.back_up()
    expectation.check_all()
    assert expectation.tidy()
    assert len(expectation.archives_of(name)) == (0 if committed else 3)


@pytest.mark.fault(37)
@pytest.mark.parametrize("failpoint_request", STOPPED_AT)
def test_a_backup_that_lost_its_place_commits_and_deletes_nothing(
    expectation: BucketExpectation, fork_server: ForkServer, failpoint_request: str
) -> None:
    sleeper = stood_still(
        fork_server, failpoint_request, *of_backups(expectation), env=environment()
    )
    heir = shardkeeper(*of_backups(expectation))
    assert heir, heir
    code = woken(sleeper)
    n_new = len(expectation.committed - set(expectation.states))
    assert n_new == 1 + (code == 0), (heir, code)
    take_all_notes(expectation)
    expectation.back_up()
    expectation.check_all()
    assert expectation.tidy()


def test_a_manifest_is_named_by_its_url_and_several_processes_are_refused(
    expectation: BucketExpectation, server: Place
) -> None:
    manifest = f"{expectation.url}/{min(expectation.committed)}.manifest"
    restoring = ("restore", *server.target_flags, "-db", expectation.database, "-newdb", "one")
    refused = shardkeeper(*restoring, manifest)
    assert refused.code == 2
    assert "add -full" in refused.err
    done = shardkeeper(*restoring, "-full", manifest)
    assert done, done
    server.target.drop_database("one")
    refused = shardkeeper(*of_backups(expectation), "-workers", 2)
    assert refused.code == 2
    assert "leave -workers out" in refused.err
    assert expectation.tidy()
