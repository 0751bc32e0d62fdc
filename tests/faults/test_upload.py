"""What a restore sends is what it has checked, whatever becomes of the file in between."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.ctl.output import TerminalOutput
from resources.engine.events import Event, MetaRestoring
from tests.expectation import Expectation
from tests.faults.cuts import places
from tests.faults.places import Place
from tests.faults.shards import shards_of, stream_of
from tests.wire.commands import restore, shardkeeper
from tests.wire.points import databases, points


@pytest.fixture(scope="module")
def expectation(server: Place) -> Iterator[Expectation]:
    """A backup of one shard of two TSM files."""
    expectation = server.expectation(filled=False)
    for _ in range(2):
        server.write(expectation, [0])
        [shard] = shards_of(server.source, expectation.database)
        stream_of(server.source, shard)  # writes the cache to a file
    expectation.back_up()
    yield expectation
    server.source.drop_database(expectation.database)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What becomes of a file once it is checked, and before it is sent, by its path."""
    changes: dict[str, bytes] = {}
    say = TerminalOutput.__call__

    def change(output: TerminalOutput, event: Event) -> None:
        if isinstance(event, MetaRestoring):
            for path, raw in changes.items():
                Path(path).write_bytes(raw)
        say(output, event)

    monkeypatch.setattr(TerminalOutput, "__call__", change)
    return changes


@contextmanager
def as_it_was(path: Path) -> Iterator[bytes]:
    raw = path.read_bytes()
    try:
        yield raw
    finally:
        path.write_bytes(raw)


def forget_details(directory: Path) -> None:
    """As another tool would have written the manifest."""
    [path] = directory.glob("*.manifest")
    document = json.loads(path.read_text())
    for part in (document, *document["files"]):
        part.pop("shardkeeper")
    path.write_text(json.dumps(document))
    path.with_name(f"{path.name}.copy").unlink(missing_ok=True)


def is_refused(server: Place, expectation: Expectation) -> str:
    """What is said; nothing is left on the target."""
    before = databases(server.target)
    done = shardkeeper(
        "restore", *server.target_flags, "-db", expectation.database, "-newdb", "never",
        expectation.backups,
    )  # fmt: skip
    assert done.code == 13, done
    assert "rolled back: dropped" in done.err, done
    assert databases(server.target) == before
    return done.err


@pytest.mark.fault(1, 2, 3, 46, 47)
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "without evidence"])
def test_an_archive_that_is_cut_or_changed_once_it_is_checked_is_not_sent_whole(
    server: Place, expectation: Expectation, meanwhile: dict[str, bytes], ours: bool
) -> None:
    """Cut and changed inside, with a gzip trailer that fits; and the stored file itself."""
    [path] = expectation.backups.glob("*.tar.gz")
    [manifest] = expectation.backups.glob("*.manifest")
    copy = manifest.with_name(f"{manifest.name}.copy")
    with as_it_was(path) as stored, as_it_was(manifest), as_it_was(copy):
        if not ours:
            forget_details(expectation.backups)
        clean = gzip.decompress(stored)
        bad: dict[str, bytes] = {}
        for where, at in places(clean).items():
            bad[f"cut {where}"] = gzip.compress(clean[:at], 1)
            flipped = clean[:at] + bytes([clean[at] ^ 1]) + clean[at + 1 :]
            bad[f"flipped {where}"] = gzip.compress(flipped, 1)
        for at in range(0, len(stored), len(stored) // 10):
            bad[f"stored file cut after {at}"] = stored[:at]
            flipped = stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]
            bad[f"stored file flipped at {at}"] = flipped
        for what, raw in bad.items():
            meanwhile[str(path)] = raw
            assert "Traceback" not in is_refused(server, expectation), what
            path.write_bytes(stored)
        meanwhile.clear()
        name = f"copy-of-{expectation.database}"
        restore(server.target, expectation.backups, "-db", expectation.database, "-newdb", name)
        assert points(server.target, name) == expectation.now()
        server.target.drop_database(name)


@pytest.mark.fault(49)
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "without evidence"])
def test_a_sound_archive_in_the_place_of_the_one_that_was_checked_is_refused(
    server: Place, expectation: Expectation, meanwhile: dict[str, bytes], ours: bool
) -> None:
    """Another state of the same shard: nothing in it is wrong, but it is not what was read."""
    [path] = expectation.backups.glob("*.tar.gz")
    [manifest] = expectation.backups.glob("*.manifest")
    copy = manifest.with_name(f"{manifest.name}.copy")
    clean = gzip.decompress(path.read_bytes())
    second = [at for where, at in places(clean).items() if "between members, before 1" in where]
    other = clean[: second[0]] + bytes(1024)
    with as_it_was(path), as_it_was(manifest), as_it_was(copy):
        if not ours:
            forget_details(expectation.backups)
        meanwhile[str(path)] = gzip.compress(other)
        output = is_refused(server, expectation)
        assert ("is not what was stored" if ours else "changed while it was") in output


@pytest.mark.fault(46)
def test_digests_are_compared_while_archives_are_sent_or_before_the_target_is_touched(
    server: Place, expectation: Expectation
) -> None:
    """A flip in the gzip header, of which only the digest knows."""
    [path] = expectation.backups.glob("*.tar.gz")
    before = databases(server.target)
    again = "restore", *server.target_flags, "-db", expectation.database, "-newdb", "never"
    with as_it_was(path) as stored:
        path.write_bytes(stored[:4] + bytes([stored[4] ^ 1]) + stored[5:])
        assert "is not what was stored" in is_refused(server, expectation)
        done = shardkeeper(*again, "-precheck", "digests", expectation.backups)
        assert (done.code, databases(server.target)) == (13, before), done
        assert "is not what was stored" in done.err
        assert "the target was not touched" in done.err
        assert "rolled back" not in done.err
