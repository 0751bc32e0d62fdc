"""One backup while it is made: written through the stage of its run, committed by its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress

from resources.errors import (
    BackupIncomplete,
    LockLost,
    NameMissing,
    NameTaken,
    ShardkeeperError,
    StoreFailed,
)
from resources.protocol.meta import PortableData
from resources.repository.batches import RunBatches
from resources.repository.formats.manifest import MAX_MANIFEST_BYTES, Manifest, MetaEntry
from resources.repository.formats.names import BackupName, parse_file_name
from resources.repository.storage.held_lock import Held, copies_first
from resources.repository.storage.store import Part, Sink, Stage, Store
from resources.runtime.failpoints import passing
from resources.runtime.interrupts import undisturbed


class BackupWriter:
    """One backup while it is made: the metastore, the batches of archives, and the manifest.

    Args:
        way: to what is changed; None: the stage of the run, whose only process this is, or the one
            that plans.

    Attributes:
        left: what earlier runs left and could not be swept, in a sentence each.
        batches: what is to be copied, and who does it.
    """

    def __init__(self, store: Store, name: BackupName, held: Held, way: Part | None = None) -> None:
        self.store = store
        self.name = name
        self.committed = False
        self.left = tuple(held.left)
        self._held = held
        self._way: Stage | Part = way or held.stage
        self._batch = self._way.batch()
        self._ours: set[str] = set() if way is None else _files_of(store, name)
        self.batches = RunBatches(store, held.stage, str(name), self._ours)

    def put_meta(self, data: bytes, max_node_id: int) -> tuple[MetaEntry, str]:
        """Store the metastore; returns its entry and the SHA-256 of the file."""
        raw = PortableData(data, max_node_id).encode()
        with self._new(self.name.meta_file) as sink:
            sink.write(raw)
        passing("backup.meta-stored")
        return MetaEntry(self.name.meta_file, len(data)), hashlib.sha256(raw).hexdigest()

    def commit(self, manifest: Manifest) -> str:
        """Make the backup exist; returns the manifest's name.

        Its copy is stored first, so that no manifest of ours is ever without one. Once the
        manifest has its name, one more look tells whether all is there that it names: a run of an
        older version that took the lock over knows of no stage.

        Raises:
            RepositoryLocked: the lock was lost meanwhile; nothing is committed.
            StoreFailed: the disk did not take everything; nothing is committed.
            BackupIncomplete: a file that the manifest names is not in the store, or is not as
                long as what was written.
        """
        self._batch.finish()
        self._held.lock.check_still_mine()
        self._check_all_there(manifest)
        raw = manifest.encode()
        if len(raw) > MAX_MANIFEST_BYTES:
            raise StoreFailed(
                f"the manifest would have {len(raw)} bytes; readers take {MAX_MANIFEST_BYTES}",
                hint="back up a part first, by -db, -rp, -start or -end",
            )
        with undisturbed(f"committing {self.name}"):
            if manifest.details is not None and manifest.details.has_copy:
                with self._new(self.name.copy_file, self._way.create) as sink:
                    sink.write(raw)
            passing("backup.before-commit")
            with self._new(self.name.manifest_file, self._way.create) as sink:
                sink.write(raw)
            self._check_again(manifest)
            self.committed, self._held.goes_on = True, False
        passing("backup.after-commit")
        return self.name.manifest_file

    def hand_over(self, plan: bytes, lease_s: float) -> str:
        """Leave batches and commit to other processes; returns the key by which they find the run.

        Args:
            plan: what the process has to know that commits.
            lease_s: what may lie between two of them.

        Raises:
            RepositoryLocked: the lock was lost.
            StoreFailed: the disk did not take everything.
        """
        self._batch.finish()
        self.batches.add_plan(plan)
        return self._held.hand_over(lease_s)

    def go_on(self) -> None:
        """Take up where an earlier process of the run ended, which may have committed."""
        if self._is_committed():
            self.committed, self._held.goes_on = True, False
        else:
            self._way.delete(self.name.copy_file)

    @property
    def goes_on(self) -> bool:
        """Whether other processes go on with the run."""
        return self._held.goes_on

    def discard(self, error: BaseException | None) -> None:
        """Delete what this run stored, and nothing that another one did; the run is over.

        One file that cannot be deleted does not save the others. What is left is said in a
        note on `error`, and stays noted in the store until a later run has swept it.
        """
        self._held.goes_on = False
        self._batch.abandon()
        try:
            if not self.committed and not self._way.is_there():
                return  # who took our place sweeps it, and may have given our name to its own
            if self.committed or self._is_committed():
                self.note_complete(error)
                return
            left = self._delete_all()
        except LockLost:
            return  # who took our place sweeps it
        except StoreFailed as failure:
            left = [failure.what]
        if not left:
            if not isinstance(error, ShardkeeperError):
                _note(error, f"what was stored as {self.name} is taken back")
            return
        self._held.unfinished = True
        _note(
            error,
            f"what was stored as {self.name} is not all taken back ({left[0]}); the next run in "
            "that directory does it",
        )

    def note_complete(self, error: BaseException | None) -> None:
        """Say in a note on `error` that the backup exists."""
        text = f"the backup {self.name} is complete all the same"
        if text not in getattr(error, "__notes__", ()):
            _note(error, text)

    def _is_committed(self) -> bool:
        try:
            with self.store.open(self.name.manifest_file):
                return True
        except NameMissing:
            return False

    def _delete_all(self) -> list[str]:
        """Why some files are left."""
        left: list[str] = []
        try:
            self._held.stage.revoke_parts(keep=self._way.name)
        except LockLost:
            raise
        except StoreFailed as failure:
            left.append(failure.what)
        for name in sorted(self._ours, key=copies_first):
            try:
                self._way.delete(name)
            except LockLost:
                raise
            except StoreFailed as failure:
                left.append(failure.what)
        try:
            self._way.sync()
        except StoreFailed as failure:
            left.append(failure.what)
        return left

    def _check_all_there(self, manifest: Manifest) -> None:
        sizes = self.store.names(f"{self.name}.")  # a run's own files have its name
        if manifest.meta.file_name not in sizes:
            raise _not_as_written(manifest.meta.file_name)
        for entry in manifest.files:
            written = entry.details.stored_bytes if entry.details else sizes.get(entry.file_name)
            if sizes.get(entry.file_name) != written or written is None:
                raise _not_as_written(entry.file_name)

    def _check_again(self, manifest: Manifest) -> None:
        with suppress(StoreFailed):
            if self._held.lock.is_mine():
                return
        try:
            self._check_all_there(manifest)
        except BackupIncomplete:
            self._way.delete(self.name.manifest_file)
            raise self._held.lock.lost() from None

    @contextmanager
    def _new(
        self, name: str, create: Callable[[str], AbstractContextManager[Sink]] | None = None
    ) -> Generator[Sink]:
        """A new file, known as ours before it exists, so that no interrupt can strand it."""
        self._ours.add(name)
        try:
            with (create or self._batch.create)(name) as sink:
                yield sink
        except NameTaken:
            self._ours.discard(name)
            raise


def _files_of(store: Store, backup: BackupName) -> set[str]:
    names = store.names(f"{backup}.")
    return {name for name in names if (found := parse_file_name(name)) and found.backup == backup}


def _note(error: BaseException | None, text: str) -> None:
    if error is not None:
        error.add_note(text)


def _not_as_written(name: str) -> BackupIncomplete:
    return BackupIncomplete(
        f"{name} is not in the store as it was written; nothing was committed",
        hint="who else works in that directory? Then run the backup again",
    )
