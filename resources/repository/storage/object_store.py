"""A store in a bucket: S3 and what speaks it, Google Cloud Storage, Azure.

An object of no bytes counts as none: it is what `swap` leaves of a record that it removed, since
no request deletes an object only if it still is what it was.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from resources.errors import LockLost, NameMissing, StoreFailed, UsageError
from resources.repository.formats.names import check_file_name, parse_file_name, unsafe_because
from resources.repository.formats.revoked import REVOKED, may_be_revoked
from resources.repository.storage.bucket import (
    Bucket,
    Stored,
    client_options,
    md5_of,
    retry_options,
)
from resources.repository.storage.object_errors import explained
from resources.repository.storage.object_stage import (
    ObjectBatch,
    ObjectStage,
    records_of,
    revoke_stages,
    stage_records,
)
from resources.repository.storage.objects import creating, opening, taken
from resources.repository.storage.places import bucket_parts, normal
from resources.repository.storage.store import Batch, ObjectSource, RevokedStage, Sink, Stage, Store

if TYPE_CHECKING:
    from resources.repository.storage.bucket import AnyStore

PROBE = ".shardkeeper.probe"
REVOKED_FOR = timedelta(days=30)
"""How long the name of a manifest stays taken after its run was revoked."""
PROBES = 20
PLAIN = "http://"
S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
AZURE_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")


class ObjectStore:
    """Objects right under one prefix of a bucket. One store may serve many threads."""

    def __init__(self, bucket: Bucket, *, probed: bool = False) -> None:
        self._bucket = bucket
        self._probed = probed
        self._probing = threading.Lock()
        self._revoked: dict[str, Stored] = {}
        self._is_listed = False
        self._stages: dict[str, ObjectStage] = {}

    @classmethod
    def at(cls, url: str) -> ObjectStore:
        """The store of a URL; nothing is asked yet.

        Raises:
            UsageError: the URL is not one of a bucket, or has a secret in it.
            StoreFailed: the environment's settings are contradictory.
        """
        kind, bucket, prefix = bucket_parts(url)
        try:
            return cls(Bucket(_connected(kind, bucket, prefix), normal(url)))
        except (BaseError, ValueError) as error:
            raise explained(error, url, "connecting") from None

    def __repr__(self) -> str:
        return f"ObjectStore({self._bucket.url!r})"

    def close(self) -> None:
        """Connections end with the process."""

    # --- objects ------------------------------------------------------------------------

    @contextmanager
    def create(self, name: str) -> Generator[Sink]:
        check_file_name(name)
        self._require_conditional_puts()
        if self.has(name):  # before anything is sent for nothing
            raise taken(self._bucket, name)
        with creating(self._bucket, name) as sink:
            yield sink

    def batch(self) -> Batch:
        return ObjectBatch(self.create)

    @contextmanager
    def open(self, name: str) -> Generator[ObjectSource]:
        check_file_name(name)
        with opening(self._bucket, name) as (source, first):
            if may_be_revoked(name, source.size_bytes) and first == REVOKED:
                raise self._bucket.missing(name)
            yield source

    def names(self, prefix: str = "") -> dict[str, int]:
        return {stored.name: stored.size_bytes for stored in self._objects(prefix)}

    def _objects(self, prefix: str = "") -> list[Stored]:
        """What counts as an object; notes which manifests' names are taken."""
        found: list[Stored] = []
        revoked: dict[str, Stored] = {}
        for stored in self._bucket.listed(prefix):
            if not stored.size_bytes or unsafe_because(stored.name):
                continue
            if may_be_revoked(stored.name, stored.size_bytes) and self._is_revoked(stored):
                revoked[stored.name] = stored
            else:
                found.append(stored)
        self._revoked = self._revoked | revoked if prefix else revoked
        self._is_listed = self._is_listed or not prefix
        return found

    def _is_revoked(self, stored: Stored) -> bool:
        if self._revoked.get(stored.name) == stored:
            return True
        found = self._bucket.first_chunk(stored.name)
        return found is not None and found[1] == REVOKED

    def has(self, name: str) -> bool:
        check_file_name(name)
        stored = self._bucket.stat(name)
        if stored is None or not stored.size_bytes:
            return False
        return not (may_be_revoked(name, stored.size_bytes) and self._is_revoked(stored))

    def delete(self, name: str) -> None:
        check_file_name(name)
        self._bucket.delete([name])

    def swap(self, name: str, old: bytes, new: bytes | None) -> bool:
        check_file_name(name)
        self._require_conditional_puts()
        try:
            with opening(self._bucket, name) as (source, _):
                if source.size_bytes != len(old) or source.read(len(old)) != old:
                    return False
        except NameMissing:
            return False
        return self._bucket.put_over(name, new or b"", source.at) is not None

    # --- stages -------------------------------------------------------------------------

    def stage(self, key: str) -> Stage:
        self._require_conditional_puts()
        stage = ObjectStage.make(self._bucket, key)
        self._stages[stage.name] = stage
        return stage

    def stage_of_restore(self, key: str) -> Stage:
        raise StoreFailed(f"{self._bucket.url}: a bucket keeps no records of a restore's batches")

    def stage_left(self, key: str) -> Stage:
        raise LockLost(f"{self._bucket.url}: a bucket keeps no records of a restore's batches")

    def join(self, name: str) -> Stage:
        raise UsageError(
            f"{self._bucket.url}: several processes cannot share a run whose archives go into a "
            "bucket",
            hint="leave -workers out: one process copies with several threads",
        )

    def stage_of(self, key: str, backup: str) -> Stage:
        return self.join(key)

    def records(self, stage: Stage) -> Store:
        within = self._bucket.within(records_of(stage.name))
        return ObjectStore(within, probed=True)

    def revoke_stages(self, keep: str) -> list[RevokedStage]:
        return [*revoke_stages(self._bucket, self._stages[keep])]

    def unfinished(self) -> set[str]:
        """As in `Store`; and those whose manifests' names are taken, so that none is used twice.

        Which names those are, the last listing of all objects has shown.
        """
        if not self._is_listed:
            self._objects()
        revoked = {name.removesuffix(".manifest") for name in self._revoked}
        return revoked | {one.backup for one in stage_records(self._bucket) if one.backup}

    def has_stages(self) -> bool:
        return any(True for _ in stage_records(self._bucket))

    def sweep_pending(self) -> dict[str, int]:
        """Delete what runs stored after they were revoked; only for the holder of the lock.

        Uploads that were not completed are not listed as objects; the bucket's own rule deletes
        them (docs/object-stores.md). The name of a manifest that was taken is given up after a
        month, by the store's clock.
        """
        late: dict[str, int] = {}
        for stored in self._objects():
            found = parse_file_name(stored.name)
            if found is not None and found.backup.manifest_file in self._revoked:
                late[stored.name] = stored.size_bytes
        old = [*late]
        now = self._bucket.stat(PROBE)
        for name, stored in self._revoked.items():
            is_empty = not any(one.startswith(name.removesuffix("manifest")) for one in late)
            if now and is_empty and now.modified_at - stored.modified_at > REVOKED_FOR:
                old.append(name)
        with suppress(StoreFailed):  # these credentials may not delete
            self._bucket.delete(old)
            self._revoked = {name: at for name, at in self._revoked.items() if name not in old}
        return late

    # --- the medium ---------------------------------------------------------------------

    def check_writable(self, needed_bytes: int = 0) -> int | None:
        """Whether the store takes puts, and those with a condition; how much, it does not say."""
        self._require_conditional_puts()
        return None

    @contextmanager
    def exclusive(self) -> Generator[bool]:
        """A bucket has no lock that ends with its process."""
        yield False

    @property
    def takes_workers(self) -> bool:
        return False

    @property
    def scratch_dir(self) -> str | None:
        return None

    def unmounted(self, *, on_demand: bool = False) -> str:
        return ""

    def next_step(self) -> str:
        return ""

    def _require_conditional_puts(self) -> None:
        """Try once whether the store keeps conditions of puts; the lock rests on them.

        Raises:
            StoreFailed: it does not, or nothing can be written there.
        """
        with self._probing:
            if not self._probed:
                probe(self._bucket)
                self._probed = True


def probe(bucket: Bucket) -> None:
    """Put an object so that a store without conditional puts is found out.

    Raises:
        StoreFailed: it has none, or nothing can be written there.
    """
    for n in range(PROBES):
        time.sleep(n * ord(os.urandom(1)) / 20_000)  # others may be trying, too
        bucket.put_new(PROBE, _random())
        there = bucket.stat(PROBE)
        if there is None or bucket.put_new(PROBE, _random()) is not None:
            raise _without_conditions(bucket)
        raw = _random()
        version = bucket.put_over(PROBE, raw, there.at)
        if bucket.put_over(PROBE, _random(), there.at) is not None:
            raise _without_conditions(bucket)
        if version is not None:
            bucket.tags_are_md5 = version.has_md5(md5_of(raw))
            return
    raise _without_conditions(bucket)


def _random() -> bytes:
    return os.urandom(16).hex().encode()


def _without_conditions(bucket: Bucket) -> StoreFailed:
    return StoreFailed(
        f"{bucket.url}: this store does not keep the conditions of a put (If-None-Match, "
        "If-Match), so two runs could work there at once",
        hint="use a store or a version of it that does (docs/object-stores.md), or a directory",
    )


def _connected(kind: str, bucket: str, prefix: str) -> AnyStore:
    env, retries = os.environ, retry_options()
    within = prefix or None
    if kind == "gs":
        options = client_options(plain_http=env.get("GOOGLE_BASE_URL", "").startswith(PLAIN))
        return GCSStore(bucket, prefix=within, client_options=options, retry_config=retries)
    if kind == "az":
        plain = any(env.get(name, "").startswith(PLAIN) for name in AZURE_ENDPOINTS)
        options = client_options(plain_http=plain or "AZURE_STORAGE_USE_EMULATOR" in env)
        return AzureStore(bucket, prefix=within, client_options=options, retry_config=retries)
    plain = any(env.get(name, "").startswith(PLAIN) for name in S3_ENDPOINTS)
    options = client_options(plain_http=plain)
    return S3Store(bucket, prefix=within, client_options=options, retry_config=retries)
