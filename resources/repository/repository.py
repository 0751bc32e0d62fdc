"""A directory of backups: our formats and promises on top of a plain store.

A backup exists when its manifest does. The manifest is written last, after everything it
names and a second copy of it are stored and durable; files without one are not a backup, and
are swept away once the run that wrote them is known to be dead.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from resources.errors import (
    BackupIncomplete,
    BackupNotFound,
    BadReply,
    ManifestUnreadable,
    NameMissing,
    RepositoryError,
    shown,
)
from resources.protocol.meta import PortableData
from resources.repository.backup_set import (
    Archive,
    BackupSet,
    StoredManifest,
    current_set,
    single_set,
    with_substitutes,
)
from resources.repository.batches import COMMIT, RunBatches
from resources.repository.formats.names import BackupName, parse_file_name
from resources.repository.manifest_replica import explain_lost, lost_manifests, read_manifest
from resources.repository.storage.held_lock import (
    Held,
    OnWait,
    holding,
    no_listener,
    taking_part,
)
from resources.repository.storage.lock import POLL_S
from resources.repository.storage.opening import open_store
from resources.repository.storage.places import normal
from resources.repository.storage.store import ObjectSource, Store
from resources.repository.writer import BackupWriter
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import interruptible, undisturbed

MAX_META_BYTES = 64 << 20
MAX_AHEAD = timedelta(days=1)
"""A backup dated further in the future means that a clock is wrong."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class BackupRepository:
    """Backups in one store.

    Args:
        store: where the bytes are.
        location: what to call it in messages; a path, as the user wrote it.
        scratch_dir: a directory for temporary files; None: the system's.
        clock: the time now, aware.
    """

    def __init__(
        self,
        store: Store,
        location: str,
        *,
        scratch_dir: str | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.store = store
        self.location = location
        self.scratch_dir = scratch_dir
        self.clock = clock

    @classmethod
    def open(cls, url: str | Path, *, clock: Callable[[], datetime] = utc_now) -> Self:
        """The backups at a URL or in a directory, which must exist; see `open_store`.

        Raises:
            UsageError: `url` is of a kind that is not supported.
            RepositoryMissing: there is no such directory.
        """
        store = open_store(url)
        return cls(store, normal(url), scratch_dir=store.scratch_dir, clock=clock)

    # --- reading ---------------------------------------------------------------------------

    def manifests(self, *, until: BackupName | None = None) -> list[StoredManifest]:
        """All manifests, or those of backups not begun after `until`; newest first.

        Raises:
            ManifestUnreadable, UnsafeName: one of them is damaged or hostile, or gone, and its
                copy cannot take its place. Skipping it could restore an older state unnoticed,
                so nothing is read past it but what is older than `until`.
        """
        return self._manifests_in(self.store.names(), until)

    def _manifests_in(
        self, there: Mapping[str, int], until: BackupName | None
    ) -> list[StoredManifest]:
        for lost in lost_manifests(self.store, there):
            if until is None or lost <= until.manifest_file:
                raise explain_lost(lost)
        names = _manifests_among(there)
        if until is not None:
            names = [name for name in names if name <= until.manifest_file]
        return [self.manifest(name) for name in names]

    def current(self, *, as_of: datetime | None = None) -> BackupSet:
        """The newest archive of every shard, over all backups not begun after `as_of`.

        An archive that is missing is replaced by one with the same content, from whichever
        backup.

        Raises:
            BackupNotFound: no manifest, or none that old.
        """
        until = None if as_of is None else BackupName.of(as_of)
        sizes = self.store.names()
        manifests = self._manifests_in(sizes, until)
        if not manifests and (later := _manifests_among(sizes)):
            raise BackupNotFound(
                f"{self.location} has no backup from {until} or before",
                hint=f"its oldest is {later[-1].removesuffix('.manifest')}",
            )
        found = current_set(manifests, sizes)
        if found is not None and found.missing:
            sizes = self.store.names()  # a listing may lack what was stored while it was made
            found = current_set(manifests, sizes) or found
            found = with_substitutes(found, self._readable(), sizes)
        if found is None:
            raise self.no_backups(
                "name the directory that influxd-ctl backup or influxd backup -portable wrote into"
            )
        return found

    def no_backups(self, hint: str) -> BackupNotFound:
        """The error of a repository without a manifest.

        Args:
            hint: the next step, unless what is there instead suggests a better one.
        """
        better = self.store.next_step()
        return BackupNotFound(f"No manifest files found in: {self.location}", hint=better or hint)

    def single(self, manifest_file: str) -> BackupSet:
        """One backup alone, as written by `backup -full`.

        Raises:
            BackupNotFound: no manifest of that name.
            ManifestUnreadable, UnsafeName: as `manifest`; or it is gone, and its copy is there.
        """
        sizes = self.store.names()
        if manifest_file not in sizes:
            if manifest_file in lost_manifests(self.store):
                raise explain_lost(manifest_file)
            raise BackupNotFound(
                f"{shown(manifest_file)} does not exist in {self.location}",
                hint="-full takes the path of a .manifest file",
            )
        found = single_set(self.manifest(manifest_file), sizes)
        return with_substitutes(found, self._readable(), sizes) if found.missing else found

    def _readable(self) -> Iterator[StoredManifest]:
        """All manifests but those that are damaged; oldest first."""
        for name in reversed(_manifests_among(self.store.names())):
            with suppress(RepositoryError):
                yield self.manifest(name)

    def read_meta(self, backup: BackupSet) -> bytes:
        """The metastore of the newest backup of a set; see `read_meta_of`."""
        return self.read_meta_of(backup.newest)

    def read_meta_of(self, stored: StoredManifest) -> bytes:
        """The metastore of a backup, as the server sent it.

        Raises:
            BackupIncomplete: the meta file is gone or is not the one that was stored.
            ManifestUnreadable: it is no meta file.
        """
        name = stored.manifest.meta.file_name
        try:
            raw = self._read(name, MAX_META_BYTES)
        except NameMissing:
            raise BackupIncomplete(
                f"{name} is listed by {stored.file_name} and missing in {self.location}",
                hint="copy it back, or restore an older backup: shardkeeper restore -as-of TIME",
            ) from None
        details = stored.manifest.details
        if details is not None and hashlib.sha256(raw).hexdigest() != details.meta_sha256:
            raise BackupIncomplete(
                f"{name} is not the file that was stored: its SHA-256 differs from the manifest's",
                hint="restore an older backup: shardkeeper restore -as-of TIME",
            )
        try:
            data = PortableData.decode(raw).meta
        except BadReply as error:
            raise ManifestUnreadable(
                f"{name}: {error.what}",
                hint="restore an older backup: shardkeeper restore -as-of TIME",
            ) from None
        if len(data) != stored.manifest.meta.size_bytes:
            raise BackupIncomplete(
                f"{name} holds {len(data)} bytes of metastore, its manifest says "
                f"{stored.manifest.meta.size_bytes}",
                hint="restore an older backup: shardkeeper restore -as-of TIME",
            )
        return data

    @contextmanager
    def open_archive(self, archive: Archive) -> Generator[ObjectSource]:
        """The stored file of a shard, compressed."""
        with self.store.open(archive.entry.file_name) as source:
            yield source

    def manifest(self, name: str) -> StoredManifest:
        """Read a manifest; from its copy, if it is damaged and the copy is not.

        Raises:
            ManifestUnreadable, UnsafeName: both are damaged or hostile, or there is no copy.
            NameMissing, StoreFailed: it is not there, or cannot be read.
        """
        manifest, damage = read_manifest(self.store, name)
        return StoredManifest(name, manifest, damage)

    def _read(self, name: str, limit: int) -> bytes:
        with self.store.open(name) as source:
            if source.size_bytes > limit:
                raise ManifestUnreadable(f"{name}: {source.size_bytes} bytes, limit {limit}")
            return source.read(source.size_bytes + 1)

    # --- writing ---------------------------------------------------------------------------

    @contextmanager
    def begin(
        self, *, command: str, wait_s: float = 0.0, on_wait: OnWait = no_listener
    ) -> Generator[BackupWriter]:
        """Open a backup; it exists only if the block calls `commit`.

        Holds the repository's lock for the block, as `locked`, and takes a name later than every
        other one here, so that no file is ever written over.

        Args:
            command: what to show to others who meet the lock.
            wait_s: how long to wait for another run; 0 refuses at once.
            on_wait: called when it takes a while to know whether that run is dead.

        Raises:
            RepositoryLocked: another run is at work here.
            RepositoryError: the newest backup is dated in the future.
        """
        writer: BackupWriter | None = None
        try:
            with self.locked(command=command, wait_s=wait_s, on_wait=on_wait) as held:
                name = self._free_name(held.swept)
                held.note_backup(str(name))
                passing("backup.named")
                writer = BackupWriter(self.store, name, held)
                with undisturbed(f"taking back what was stored as {name}"), closing(writer.batches):
                    try:
                        with interruptible():
                            yield writer
                    except BaseException as error:
                        if not writer.goes_on:
                            writer.discard(error)
                        raise
                    if not writer.committed and not writer.goes_on:
                        writer.discard(None)
        except BaseException as error:
            # A signal that came while the lock was given up is raised after that.
            if writer is not None and writer.committed:
                writer.note_complete(error)
            raise

    @contextmanager
    def take_part(self, key: str, lease_s: float, command: str = "") -> Generator[RunBatches]:
        """Do batches of a run that was handed over, and keep its lock meanwhile.

        Args:
            key: of the run, as `BackupWriter.hand_over` returned it.
            lease_s: what may lie between two processes of the run.
            command: what to show to others who meet the lock; empty: the same as before.

        Raises:
            LockLost: the run is over, or another one took its place.
        """
        with taking_part(self.store, key, lease_s, command) as held:
            backup = held.lock.record.backup
            with closing(RunBatches(self.store, held.stage, backup, set())) as batches:
                yield batches

    @contextmanager
    def finish(self, key: str, lease_s: float, command: str = "") -> Generator[BackupWriter]:
        """Commit a run that was handed over; one process at a time does.

        If the block fails, the run stays as it is, and another process may try again, until
        another run takes its place. `BackupWriter.discard` ends it.

        Args:
            key: of the run, as `BackupWriter.hand_over` returned it.
            lease_s: what may lie between two processes of the run.
            command: what to show to others who meet the lock; empty: the same as before.

        Raises:
            LockLost: the run is over, or another one took its place.
        """
        with taking_part(self.store, key, lease_s, command) as held:
            name = BackupName.parse(held.lock.record.backup)
            if name is None:
                raise held.lock.lost()
            with closing(RunBatches(self.store, held.stage, str(name), set())) as batches:
                while True:
                    with batches.claim(COMMIT, ()) as claimed:
                        if claimed is not None:
                            writer = BackupWriter(self.store, name, held, claimed.part)
                            with closing(writer.batches):
                                writer.go_on()
                                yield writer
                            return
                    time.sleep(POLL_S)

    def locked(
        self, *, command: str, wait_s: float = 0.0, on_wait: OnWait = no_listener
    ) -> AbstractContextManager[Held]:
        """Hold the repository's lock for the block, after sweeping what a dead run left.

        Raises:
            RepositoryLocked: another run is at work here.
            StoreFailed: nothing can be written here.
        """
        return holding(self.store, command=command, wait_s=wait_s, on_wait=on_wait)

    def _free_name(self, swept: Iterable[str]) -> BackupName:
        """A name later than every other one here, and than those of the dead runs just swept.

        A bucket must never see one name twice, even if no object of it is left; and no step of a
        dead run may find another run's backup under the name of its own.
        """
        now = BackupName.of(self.clock())
        latest = now.started_at + MAX_AHEAD
        near = [b for b in swept if (name := BackupName.parse(b)) and name.started_at <= latest]
        names = self.store.names()
        used = (f"{backup}.meta" for backup in (*self.store.unfinished(), *near))
        newest = _newest_among([*names, *used])
        if newest is None or newest < now:
            return now
        if newest.started_at - now.started_at > MAX_AHEAD:
            raise RepositoryError(
                f"the newest backup in {self.location} is dated {newest}, in the future "
                f"(now: {now})",
                hint="set the clock right; or, if the clock was wrong then, move that backup's "
                "files to another directory",
            )
        return newest.next()


def _newest_among(names: Collection[str]) -> BackupName | None:
    """The newest backup that any file is named after, whether it was committed or not."""
    for stamp in sorted({name.partition(".")[0] for name in names}, reverse=True):
        backup = BackupName.parse(stamp)
        if backup is not None and any(
            parse_file_name(name) for name in names if name.startswith(stamp)
        ):
            return backup
    return None


def _manifests_among(names: Iterable[str]) -> list[str]:
    """Newest first."""
    return sorted((name for name in names if name.endswith(".manifest")), reverse=True)
