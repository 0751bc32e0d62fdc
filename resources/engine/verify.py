"""What is wrong with stored backups? Everything is read; every problem is listed."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from resources.engine.pull import Stopped
from resources.errors import RepositoryError, ShardkeeperError
from resources.protocol.meta import decode_metastore
from resources.repository.archive import Place, inspect_archive, scratch_in
from resources.repository.backup_set import Archive, StoredManifest, single_set
from resources.repository.manifest import ShardEntry
from resources.repository.repository import BackupRepository


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    file_name: str
    what: str

    def __str__(self) -> str:
        return self.what if self.file_name in self.what else f"{self.file_name}: {self.what}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read, and what was found."""

    manifests: int
    archives: int
    size_bytes: int
    problems: tuple[Problem, ...]


def verify(
    repository: BackupRepository,
    *,
    parallel: int = 2,
    only: Collection[str] | None = None,
    stop: threading.Event | None = None,
) -> VerifyReport:
    """Read every manifest, meta file and archive with every check there is.

    A manifest that cannot be read is a problem, not an empty list of them.

    Args:
        only: names of archives; the others are looked for and not read. None: all are read.

    Raises:
        RepositoryError: the store itself cannot be read.
    """
    stop = stop or threading.Event()
    problems: list[Problem] = []
    manifests: list[StoredManifest] = []
    sizes = repository.store.names()
    for name in sorted(n for n in sizes if n.endswith(".manifest")):
        try:
            manifests.append(repository.manifest(name))
        except RepositoryError as error:
            problems.append(Problem(name, str(error)))
    archives: dict[str, Archive] = {}
    for stored in manifests:
        problems += _meta_problems(repository, stored, sizes)
        for entry in stored.manifest.files:
            if entry.file_name in sizes:
                archives[entry.file_name] = Archive(entry, stored.file_name)
            else:
                problems.append(
                    Problem(entry.file_name, f"listed by {stored.file_name} and missing")
                )
    if only is not None:
        archives = {name: archive for name, archive in archives.items() if name in only}
    with ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="verify") as pool:
        try:
            futures = [
                pool.submit(_archive_problem, repository, archive.entry, stop)
                for archive in archives.values()
            ]
            found = [future.result() for future in futures]
            problems += [problem for problem in found if problem is not None]
        except BaseException:
            stop.set()
            raise
    return VerifyReport(
        manifests=len(manifests),
        archives=len(archives),
        size_bytes=sum(sizes[name] for name in archives),
        problems=tuple(problems),
    )


def archive_names(repository: BackupRepository) -> list[str]:
    """The archives that readable manifests list and that are there."""
    names, sizes = set[str](), repository.store.names()
    for name in sizes:
        if name.endswith(".manifest"):
            with suppress(RepositoryError):  # `verify` tells of it
                names |= {entry.file_name for entry in repository.manifest(name).manifest.files}
    return sorted(names & sizes.keys())


def _meta_problems(
    repository: BackupRepository, stored: StoredManifest, sizes: dict[str, int]
) -> list[Problem]:
    try:
        decode_metastore(repository.read_meta(single_set(stored, sizes)))
    except ShardkeeperError as error:
        return [Problem(stored.manifest.meta.file_name, str(error))]
    return []


def _archive_problem(
    repository: BackupRepository, entry: ShardEntry, stop: threading.Event
) -> Problem | None:
    def unless_stopped() -> None:
        if stop.is_set():
            raise Stopped("stopped before everything was read")

    place = Place(entry.database, entry.policy, entry.shard_id) if entry.database else None
    try:
        with (
            scratch_in(repository.scratch_dir) as scratch,
            repository.store.open(entry.file_name) as source,
        ):
            found = inspect_archive(
                source,
                max_bytes=entry.size_bytes,
                place=place,
                checked="full",
                scratch=scratch,
                each_chunk=unless_stopped,
            )
    except Stopped:
        raise
    except ShardkeeperError as error:
        return Problem(entry.file_name, str(error))
    if found.facts.size_bytes != entry.size_bytes:
        return Problem(
            entry.file_name,
            f"{found.facts.size_bytes} bytes inside, manifest says {entry.size_bytes}",
        )
    evidence = entry.evidence
    if evidence is not None and evidence.sha256 != found.sha256:
        return Problem(entry.file_name, "its SHA-256 differs from the manifest's")
    return None
