"""Whatever is wrong: one sentence, a next step, the documented status, and nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from resources.repository import seal
from tests.influxd import Influxd
from tests.proxy import Act, Proxy, Stall
from tests.resources.clients.peer import closed_port
from tests.wire.commands import Done, at, backup, influxd_ctl, restore, shardkeeper, verify
from tests.wire.points import Points, databases, points

pytestmark = pytest.mark.wire

T0 = 1_600_000_000_000_000_000
WEEK = 604_800_000_000_000

Fresh = Callable[[], str]
Harm = Callable[[Path], object]


def refused(done: Done, code: int, *said: str) -> None:
    """It failed so, says so, and says what to do next; no traceback."""
    assert done.code == code, done
    for text in said:
        assert text.lower() in done.err.lower(), done
    assert "\n  next: " in done.err, done
    assert "Traceback" not in done.err
    assert "operation exited with error" in done.err


@pytest.fixture(scope="module")
def life(source: Influxd) -> Iterator[tuple[str, Points]]:
    """A database of two shards."""
    db = "bad input"
    source.create_database(db)
    source.write(db, [f"m,t={i % 3} v={i} {T0 + i % 2 * WEEK + i}" for i in range(100)])
    yield db, points(source, db)
    source.drop_database(db)


@pytest.fixture(scope="module")
def good(
    source: Influxd, life: tuple[str, Points], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("good")
    backup(source, directory, "-db", life[0])
    return directory


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))


def listing(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- who is on the line -------------------------------------------------------------------


def test_nobody_listens(backups: Path) -> None:
    done = shardkeeper("backup", "-host", closed_port(), backups)
    refused(done, 1, "connection refused while connecting", "nothing listens there")
    assert listing(backups) == {}


def test_a_host_that_does_not_exist(backups: Path) -> None:
    refused(shardkeeper("backup", "-host", "no.such.host.invalid:8088", backups), 1, "unknown host")


@pytest.mark.fault(9)
def test_the_http_port_where_the_tcp_port_belongs(source: Influxd, backups: Path) -> None:
    done = shardkeeper("backup", "-host", source.http_addr, backups)
    refused(done, 16, "is an HTTP port", "8088")
    assert listing(backups) == {}


def test_the_tcp_port_where_the_http_port_belongs(
    source: Influxd, backups: Path, life: tuple[str, Points]
) -> None:
    """A backup needs no HTTP; it then copies everything, and says so."""
    db, _ = life
    flags = ("-host", source.bind_addr, "-http", source.bind_addr, "-db", db)
    for _ in range(2):
        done = shardkeeper("backup", *flags, backups)
        assert done, done
        assert "every shard is copied" in done.err
        assert done.out.count("Backing up node") == 2
    verify(backups)


def test_databases_policies_shards_and_nodes_that_do_not_exist(
    source: Influxd, backups: Path, life: tuple[str, Points]
) -> None:
    db, _ = life
    for flags, said in (
        (["-db", "nope"], "database 'nope' does not exist"),
        (["-db", db, "-rp", "nope"], "has no retention policy 'nope'"),
        (["-shard", "999999"], "shard 999999 does not exist"),
        (["-from", "127.0.0.1:1"], "no such node"),
    ):
        refused(shardkeeper("backup", *at(source), *flags, backups), 1, said)
        assert listing(backups) == {}


# --- the directory ------------------------------------------------------------------------


@pytest.mark.fault(34)
def test_directories_that_are_none(source: Influxd, target: Influxd, tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.write_text("hello")
    for path in (missing, file):
        refused(shardkeeper("backup", *at(source), path), 10, str(path))
    refused(shardkeeper("restore", *at(target), missing), 10, "no such directory")
    refused(shardkeeper("verify", missing), 10, "no such directory")
    refused(shardkeeper("restore", *at(target), file), 2, "is a file")
    refused(shardkeeper("restore", *at(target), "-full", tmp_path / "x.manifest"), 10, "not exist")
    assert influxd_ctl("backup", *at(source), missing).code == 1
    assert not missing.exists()
    assert file.read_text() == "hello"


@pytest.mark.fault(21, 72)
def test_another_servers_directory(
    source: Influxd, target: Influxd, copy: Path, life: tuple[str, Points]
) -> None:
    before = listing(copy)
    refused(shardkeeper("backup", *at(target), copy), 14, "backups of another server")
    assert listing(copy) == before
    assert backup(source, copy, "-db", life[0])


MOUNT_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def on_read_only(directory: Path, *args: object, cwd: Path | None = None) -> Done:
    """`shardkeeper` where a directory is mounted read-only, for that process alone."""
    namespace = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*namespace, MOUNT_READ_ONLY, directory, "true"], check=False).returncode:
        pytest.skip("this needs a read-only mount: run it as root")
    return _outside(*args, prefix=[*namespace, MOUNT_READ_ONLY, str(directory)], cwd=cwd)


@pytest.mark.fault(33)
def test_a_directory_that_can_only_be_read(
    source: Influxd, target: Influxd, backups: Path, fresh: Fresh, tmp_path: Path
) -> None:
    """Also where files are checked that do not fit into memory."""
    db, name = fresh(), fresh()
    source.create_database(db)
    source.write(db, big_points(400))
    backup(source, backups, "-db", db)
    assert max(path.stat().st_size for path in backups.iterdir()) > 800_000
    before = listing(backups)
    done = on_read_only(backups, "backup", *at(source), "-db", db, backups)
    refused(done, 1, "read-only file system", "mount it writable")
    done = on_read_only(backups, "verify", backups)
    assert done, done
    here = tmp_path / "here"
    here.mkdir()
    flags = ("-db", db, "-newdb", name)
    done = on_read_only(backups, "restore", *at(target), *flags, backups, cwd=here)
    assert done, done
    assert f"the receipt goes into {str(here)!a}" in done.err
    assert list(here.glob("*.receipt.json"))
    assert points(target, name) == points(source, db)
    assert listing(backups) == before


def big_points(n: int) -> list[str]:
    """Points of 4 kB that do not shrink below half of that."""
    return [f'm s="{os.urandom(2000).hex()}" {T0 + i}' for i in range(n)]


def run_limited(*args: object, file_bytes: int) -> Done:
    """`shardkeeper` in a process that may not write larger files: EFBIG, as a full disk."""
    return _outside(*args, prefix=["prlimit", f"--fsize={file_bytes}"])


@pytest.mark.fault(30)
@pytest.mark.parametrize("file_bytes", [100, 5000, 70_000])
def test_a_full_disk(
    source: Influxd,
    target: Influxd,
    copy: Path,
    life: tuple[str, Points],
    fresh: Fresh,
    file_bytes: int,
) -> None:
    db, expected = life
    big = fresh()
    source.create_database(big)
    source.write(big, big_points(100))
    before = listing(copy)
    done = run_limited("backup", *at(source), "-db", big, copy, file_bytes=file_bytes)
    refused(done, 15, "file too large")
    assert listing(copy) == before
    name = fresh()
    if file_bytes < 4096:
        flags = (*at(target), "-db", db, "-newdb", name)
        done = run_limited("restore", *flags, copy, file_bytes=file_bytes)
        refused(done, 15, "the receipt would be kept there", "-receipts off")
    restore(target, copy, "-db", db, "-newdb", name)
    assert points(target, name) == expected
    assert backup(source, copy, "-db", big)


# --- what lies there ----------------------------------------------------------------------


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
    """A manifest that was changed on purpose: sealed again if it was sealed."""
    if "shardkeeper" not in document:
        return json.dumps(document, indent=2).encode()
    document["shardkeeper"][seal.KEY] = seal.BLANK
    return seal.encode_sealed(document)


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
def test_damage_is_found_before_the_target_is_touched(
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
        _strip_evidence(copy)
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
    if "manifest" in harm or done.code:
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


def _strip_evidence(directory: Path) -> None:
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
    said = (f"{path.name} is missing, and its copy", "verify -repair")
    refused(shardkeeper("restore", *at(target), "-db", db, "-newdb", fresh(), copy), 13, *said)
    refused(shardkeeper("backup", *at(source), "-db", db, copy), 13, *said)
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


# --- at the same time ---------------------------------------------------------------------


@pytest.mark.fault(38)
def test_two_backups_at_once_into_one_directory(
    source: Influxd, target: Influxd, backups: Path, life: tuple[str, Points], fresh: Fresh
) -> None:
    db, expected = life
    seen: list[Done] = []
    with Proxy(source.bind_addr) as proxy:
        second = Act(100, lambda: seen.append(_outside("backup", *at(source), "-db", db, backups)))
        proxy.break_next(second)
        backup(source, backups, "-db", db, tcp=proxy.address)
    [done] = seen
    refused(done, 11, "the repository is locked by", "wait for that run")
    assert len(list(backups.glob("*.manifest"))) == 1
    name = fresh()
    restore(target, backups, "-db", db, "-newdb", name)
    assert points(target, name) == expected


@pytest.mark.fault(36)
def test_two_backups_in_one_second_have_two_names(
    source: Influxd, backups: Path, life: tuple[str, Points]
) -> None:
    for _ in range(3):
        backup(source, backups, "-full", "-db", life[0])
    assert len(list(backups.glob("*.manifest"))) == 3
    assert len(list(backups.glob("*.meta"))) == 3
    assert len(list(backups.glob("*.tar.gz"))) == 6
    verify(backups)


def _outside(*args: object, prefix: Sequence[str] = (), cwd: Path | None = None) -> Done:
    """`shardkeeper` in a process of its own."""
    program = "from pipelines.ctl.main import shardkeeper; shardkeeper()"
    done = subprocess.run(
        [*prefix, sys.executable, "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.fault(7)
def test_a_server_that_never_answers(source: Influxd, backups: Path) -> None:
    with Proxy(source.bind_addr) as proxy:
        proxy.break_all(Stall(0), chosen=lambda head: True)
        done = shardkeeper("backup", *at(source, tcp=proxy.address), "-timeout", "0.3s", backups)
    refused(done, 1, "no answer while")
    assert listing(backups) == {}
