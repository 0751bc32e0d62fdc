"""Backups that were damaged leave nothing at a target; the others are spared."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resources.repository.formats import self_checksum
from tests.influxd import Influxd
from tests.wire.bad_input.refusal import T0, WEEK, Fresh, listing, refused
from tests.wire.commands import at, backup, restore, shardkeeper
from tests.wire.points import Points, databases, points

pytestmark = pytest.mark.wire

Harm = Callable[[Path], object]


def manifest_of(directory: Path) -> Path:
    return max(directory.glob("*.manifest"))


def manifests(change: Callable[[bytes], bytes]) -> Harm:
    """Harm the newest manifest and its copy, if it has one."""

    def harm(directory: Path) -> None:
        path = manifest_of(directory)
        for each in directory.glob(f"{path.name}*"):
            each.write_bytes(change(each.read_bytes()))

    return harm


def written(document: Any) -> bytes:
    """A manifest that was changed on purpose: with its checksum again if it had one."""
    if "shardkeeper" not in document:
        return json.dumps(document, indent=2).encode()
    document["shardkeeper"][self_checksum.KEY] = self_checksum.BLANK
    return self_checksum.encode_with_checksum(document)


def rewrite(change: Callable[[Any], object]) -> Harm:
    def changed(raw: bytes) -> bytes:
        document = json.loads(raw)
        change(document)
        return written(document)

    return manifests(changed)


def cut(pattern: str, keep: float) -> Harm:
    def harm(directory: Path) -> None:
        path = max(directory.glob(pattern))
        raw = path.read_bytes()
        path.write_bytes(raw[: int(len(raw) * keep)])

    return harm


def flip(pattern: str, where: float) -> Harm:
    def harm(directory: Path) -> None:
        path = max(directory.glob(pattern))
        raw = bytearray(path.read_bytes())
        raw[int(len(raw) * where)] ^= 0x10
        path.write_bytes(raw)

    return harm


def rename_to(name: str) -> Harm:
    return rewrite(lambda document: document["files"][0].update(fileName=name))


HARM: dict[str, Harm] = {
    "manifest cut": manifests(lambda raw: raw[: len(raw) // 2]),
    "manifest empty": manifests(lambda _: b""),
    "manifest no JSON": manifests(lambda _: b"\x1f\x8b hello"),
    "manifest a list": manifests(lambda _: b"[]"),
    "manifest nested": manifests(lambda _: b"[" * 100_000),
    "manifest with NaN": manifests(lambda _: b'{"meta": NaN}'),
    "path upwards": rename_to("../../../etc/passwd.tar.gz"),
    "absolute path": rename_to("/etc/passwd.tar.gz"),
    "other suffix": rename_to("passwd"),
    "URL": rename_to("http://127.0.0.1/x.tar.gz"),
    "backslashes": rename_to("..\\x.tar.gz"),
    "no name": rename_to(""),
    "shard twice": rewrite(lambda d: d["files"].append(d["files"][0])),
    "negative size": rewrite(lambda d: d["files"][0].update(size=-1)),
    "endless size": rewrite(lambda d: d["files"][0].update(size=10**30)),
    "text for a number": rewrite(lambda d: d["files"][0].update(shardID="1")),
    "swapped archives": rewrite(
        lambda d: (
            d["files"][0].update(fileName=(names := [f["fileName"] for f in d["files"]])[1]),
            d["files"][1].update(fileName=names[0]),
        )
    ),
    "foreign place": rewrite(lambda d: d["files"][0].update(database="other")),
    "meta cut": cut("*.meta", 0.5),
    "meta empty": cut("*.meta", 0),
    "meta flipped": flip("*.meta", 0.5),
    "meta gone": lambda d: max(d.glob("*.meta")).unlink(),
    "archive cut": cut("*.tar.gz", 0.5),
    "archive without trailer": lambda d: _shorten(d, 8),
    "archive empty": cut("*.tar.gz", 0),
    "archive flipped at its head": flip("*.tar.gz", 0),
    "archive flipped in its middle": flip("*.tar.gz", 0.5),
    "archive flipped at its end": flip("*.tar.gz", 0.999),
    "archive gone": lambda d: max(d.glob("*.tar.gz")).unlink(),
    "archive a link": lambda d: _link(d),
    "archive glued": lambda d: _glue(d),
}


def _shorten(directory: Path, n: int) -> None:
    path = max(directory.glob("*.tar.gz"))
    path.write_bytes(path.read_bytes()[:-n])


def _link(directory: Path) -> None:
    path = max(directory.glob("*.tar.gz"))
    elsewhere = directory.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _glue(directory: Path) -> None:
    path = max(directory.glob("*.tar.gz"))
    path.write_bytes(path.read_bytes() + gzip.compress(b"more"))


OTHER_SIZE = ("archive cut", "archive without trailer", "archive empty", "archive glued")
"""What the next backup notices and copies again."""


@pytest.mark.fault(46, 47, 48, 49, 50, 51, 87, 90)
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "without evidence"])
@pytest.mark.parametrize("harm", HARM)
def test_what_is_damaged_leaves_nothing_at_the_target(
    source: Influxd,
    target: Influxd,
    copy: Path,
    life: tuple[str, Points],
    fresh: Fresh,
    harm: str,
    ours: bool,
) -> None:
    db, expected = life
    if not ours:
        if harm == "meta flipped":
            pytest.skip("a metastore without a digest may become another one")
        _strip_details(copy)
    HARM[harm](copy)
    harmed = listing(copy)
    before = databases(target)
    verified = shardkeeper("verify", copy)
    assert verified.code == 13, verified
    assert "problem: " in verified.out
    done = shardkeeper("restore", *at(target), "-db", db, "-newdb", fresh(), copy)
    refused(done, 13)
    assert databases(target) == before
    assert listing(copy) == harmed
    done = shardkeeper("backup", *at(source), "-db", db, copy)
    if harm == "foreign place":  # such a number is another server's, for all a backup can know
        refused(done, 14)
        assert listing(copy) == harmed
    elif "manifest" in harm or done.code:
        refused(done, 13)
        assert listing(copy) == harmed
    elif harm == "archive gone" or (ours and harm in OTHER_SIZE):
        assert done.out.count("Backing up node") >= 1
        name = fresh()
        restore(target, copy, "-db", db, "-newdb", name)
        assert points(target, name) == expected
    done = shardkeeper("backup", *at(source), "-db", db, "-full", copy)
    if not done.code:
        name = fresh()
        restore(target, copy, "-db", db, "-newdb", name)
        assert points(target, name) == expected


def _strip_details(directory: Path) -> None:
    """As other tools write manifests."""
    path = manifest_of(directory)
    document = json.loads(path.read_text())
    del document["shardkeeper"]
    for file in document["files"]:
        del file["shardkeeper"]
    path.write_text(json.dumps(document, indent=2))
    for copy in directory.glob("*.manifest.copy"):
        copy.unlink()


@pytest.mark.fault(50)
def test_a_manifest_that_is_damaged_or_gone_loses_no_backup(
    source: Influxd, target: Influxd, copy: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    """Damaged, it is read from its copy, and that is said; gone, nothing older is restored."""
    db, expected = life
    path = manifest_of(copy)
    before = path.read_bytes()
    path.write_bytes(before[:-100])
    verified = shardkeeper("verify", copy)
    assert verified.code == 13, verified
    assert path.name in verified.out
    name = fresh()
    for done in (
        restore(target, copy, "-db", db, "-newdb", name),
        backup(source, copy, "-db", db),
    ):
        assert f"warning: {path.name}" in done.err
        assert "read from its copy" in done.err
    assert points(target, name) == expected
    assert f"damaged: {path.name}" in shardkeeper("restore", "-list", copy).out
    path.unlink()
    harmed = listing(copy)
    output = (f"{path.name} is missing, and its copy", "verify -repair")
    refused(shardkeeper("restore", *at(target), "-db", db, "-newdb", fresh(), copy), 13, *output)
    refused(shardkeeper("backup", *at(source), "-db", db, copy), 13, *output)
    assert listing(copy) == harmed
    path.write_bytes(before)
    restore(target, copy, "-db", db, "-newdb", fresh())


@pytest.mark.fault(46, 75)
def test_damage_to_one_archive_spares_the_older_state_and_the_other_shards(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh
) -> None:
    db = fresh()
    source.create_database(db)
    source.write(db, [f"m v={i} {T0 + i * WEEK}" for i in range(2)])
    backup(source, backups, "-db", db)
    first, old = points(source, db), manifest_of(backups).stem
    source.write(db, f"m v=9 {T0 + 5}")
    backup(source, backups, "-db", db)
    flip("*.tar.gz", 0.5)(backups)
    done = shardkeeper("restore", *at(target), "-db", db, "-newdb", fresh(), backups)
    refused(done, 13, "-as-of")
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name, "-as-of", old)
    assert points(target, name) == first
