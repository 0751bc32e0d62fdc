"""Requests to one prefix of a bucket, with every error explained; the one place that sends them.

obstore repeats a request that failed for a reason which may pass. So a conditional put may have
been stored although its answer says otherwise: the first answer was lost, and the second attempt
found what the first one had stored. Each put carries a random mark in its metadata, by which it is
recognized (`_is_ours`).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import obstore
from msgspec import Struct
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from resources.errors import NameMissing, RepositoryError, StoreFailed, shown
from resources.repository.storage.object_errors import (
    MAX_RETRIES,
    explained,
    is_about_bucket,
    is_transient,
    was_repeated,
)
from resources.runtime.failpoints import passing

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, UpdateVersion, WritableFile
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

    AnyStore = S3Store | GCSStore | AzureStore

TIMEOUT_VARIABLE = "SHARDKEEPER_STORE_TIMEOUT_S"
"""For one request; a part of an upload has 16 MiB."""
USUAL_TIMEOUT_S = 120.0
PART_BYTES = 16 << 20
MAX_PARTS = 10_000
"""S3's limit."""
CHUNK_BYTES = 8 << 20
"""Of an object that is read."""
ATTEMPTS = 4
"""Beside obstore's own: for what it does not repeat, such as a conditional put."""
PAUSE_S = 0.1
"""Before a request is repeated for the first time; it grows."""
_MARK = "shardkeeperput"  # Azure takes only letters and digits in such names

Result = TypeVar("Result")


class Version(Struct, frozen=True):
    """Which content an object has, as the store names it."""

    e_tag: str | None
    version: str | None

    def as_mode(self) -> UpdateVersion:
        """A put that replaces only this one."""
        mode: UpdateVersion = {}
        if self.e_tag is not None:
            mode["e_tag"] = self.e_tag
        if self.version is not None:
            mode["version"] = self.version
        return mode

    def has_md5(self, digest: str) -> bool:
        return (self.e_tag or "").strip('"') == digest


class Stored(Struct, frozen=True):
    """An object, as a listing or the answer to a request describes it."""

    name: str
    size_bytes: int
    at: Version
    modified_at: datetime


class Bucket:
    """One prefix of a bucket; safe to share between threads.

    Attributes:
        url: without secrets.
        uncertain: whether a put failed and may be carried out all the same, even later.
        tags_are_md5: whether the store names contents by their MD5, as S3 does; None: not known.
    """

    def __init__(self, store: AnyStore, url: str, *, within: str = "") -> None:
        self.url = url
        self.uncertain = False
        self.tags_are_md5: bool | None = None
        self._store = store
        self._within = within

    def within(self, name: str) -> Bucket:
        """What lies below a name, as a bucket of its own."""
        return Bucket(self._store, self.url, within=f"{self._within}{name}/")

    def _path(self, name: str) -> str:
        return self._within + name

    def _stored(self, meta: ObjectMeta) -> Stored:
        name = meta["path"].removeprefix(self._within)
        return Stored(
            name, meta["size"], Version(meta["e_tag"], meta["version"]), meta["last_modified"]
        )

    # --- reading ------------------------------------------------------------------------

    def stat(self, name: str) -> Stored | None:
        """What an object is now; None: there is none."""
        return self._unless_missing(
            f"looking for {name}", lambda: self._stored(obstore.head(self._store, self._path(name)))
        )

    def first_chunk(self, name: str) -> tuple[Stored, bytes] | None:
        """An object and its beginning: all of it if it is no longer than a chunk."""

        def ask() -> tuple[Stored, bytes]:
            answer = obstore.get(self._store, self._path(name))
            stored = self._stored(answer.meta)
            if stored.size_bytes > CHUNK_BYTES:
                return stored, self.chunk(stored, 0)
            return stored, bytes(answer.bytes())

        return self._unless_missing(f"reading {name}", ask)

    def chunk(self, stored: Stored, start: int) -> bytes:
        """A chunk of an object from a place that is inside it.

        Raises:
            StoreFailed: it has been replaced since `stored` was seen, among others.
        """
        end = min(start + CHUNK_BYTES, stored.size_bytes)

        def ask() -> bytes:
            answer = obstore.get(
                self._store,
                self._path(stored.name),
                options={"range": (start, end), "if_match": stored.at.e_tag},
            )
            raw = bytes(answer.bytes())
            if len(raw) != end - start:
                raise StoreFailed(f"{self.url}: {stored.name}: {len(raw)} of {end - start} bytes")
            return raw

        found = self._unless_missing(f"reading {stored.name} from byte {start}", ask)
        if found is None:
            raise self.missing(stored.name)
        return found

    def listed(self, prefix: str = "") -> list[Stored]:
        """The objects right in here whose names begin so, in order."""
        return self._asking("listing", lambda: self._listing(prefix))

    def _listing(self, prefix: str) -> list[Stored]:
        found: list[Stored] = []
        # A listing's own prefix ends at a slash. Names come in order, so one may begin anywhere.
        offset = self._path(prefix[:-1] + chr(ord(prefix[-1]) - 1)) if prefix else None
        pages: Iterable[Sequence[ObjectMeta]] = obstore.list(  # pyright: ignore[reportUnknownMemberType]
            self._store, self._within or None, offset=offset, chunk_size=50 if prefix else 1000
        )
        for page in pages:
            for meta in page:
                stored = self._stored(meta)
                if stored.name.startswith(prefix) and "/" not in stored.name:
                    found.append(stored)
            if prefix and page and self._stored(page[-1]).name[: len(prefix)] > prefix:
                break
        found.sort(key=lambda stored: stored.name)
        return found

    # --- writing ------------------------------------------------------------------------

    def put_new(self, name: str, raw: bytes) -> Version | None:
        """Store an object whose name is free; None: it is not."""
        return self._put_noted(name, raw, "create")

    def put_over(self, name: str, raw: bytes, version: Version) -> Version | None:
        """Replace an object that still is what it was; None: it is another one, or gone."""
        return self._put_noted(name, raw, version.as_mode())

    @contextmanager
    def sending(self, name: str, mark: str) -> Generator[WritableFile]:
        """Send an object in parts; it is there once the block succeeds, and never otherwise.

        What it replaces is not asked for: only for names that no other run uses.

        Raises:
            StoreFailed: it may be there all the same, even later.
        """
        with self.explaining(f"writing {name}"):
            writer = obstore.open_writer(
                self._store,
                self._path(name),
                attributes={_MARK: mark},
                buffer_size=PART_BYTES,
                max_concurrency=2,
            )
        try:
            yield writer
        except BaseException as error:
            try:
                _abort(writer, error)
            except (BaseError, OSError):
                self.uncertain = True
            raise
        try:
            writer.close()
        except (BaseError, OSError) as error:
            if not self._is_there(name, mark):
                self.uncertain = True
                raise explained(error, self.url, f"writing {name}") from None

    def delete(self, names: list[str]) -> None:
        """Delete objects; those that are not there are deleted already."""
        if not names:
            return

        passing("bucket.before-delete")
        paths = [self._path(name) for name in names]

        def ask() -> None:
            for start in range(0, len(paths), 1000):
                obstore.delete(self._store, paths[start : start + 1000])

        self._unless_missing(f"deleting {names[0]}", ask)

    def copy(self, name: str, new: str) -> None:
        """Have the store copy an object, over what has the new name."""
        self._asking(
            f"copying {name}", lambda: obstore.copy(self._store, self._path(name), self._path(new))
        )

    # --- explaining ---------------------------------------------------------------------

    def missing(self, name: str) -> NameMissing:
        return NameMissing(
            f"{self.url}: {shown(name)} is missing", hint="was it moved or deleted by hand?"
        )

    @contextmanager
    def explaining(self, doing: str) -> Generator[None]:
        """No error of obstore gets past."""
        try:
            yield
        except RepositoryError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise explained(error, self.url, doing) from None

    def _asking(self, doing: str, ask: Callable[[], Result]) -> Result:
        """Make a request that changes nothing when it is repeated."""
        with self.explaining(doing):
            return _repeated(ask)

    def _unless_missing(self, doing: str, ask: Callable[[], Result]) -> Result | None:
        with self.explaining(doing):
            try:
                return _repeated(ask)
            except FileNotFoundError as error:
                if is_about_bucket(error):
                    raise
                return None

    def _put_noted(self, name: str, raw: bytes, mode: PutMode) -> Version | None:
        passing("bucket.before-put")
        put = self._put(name, raw, mode)
        passing("bucket.after-put")
        return put

    def _put(self, name: str, raw: bytes, mode: PutMode) -> Version | None:
        mark = os.urandom(8).hex()
        failure: BaseException = TimeoutError()
        for attempt in range(ATTEMPTS):
            try:
                put = obstore.put(
                    self._store,
                    self._path(name),
                    raw,
                    attributes={_MARK: mark},
                    mode=mode,
                    use_multipart=False,
                )
            except (AlreadyExistsError, PreconditionError):
                return self._is_there(name, mark)
            except (BaseError, OSError) as error:
                if isinstance(error, FileNotFoundError) and not is_about_bucket(error):
                    return None  # what was to be replaced is gone
                if not is_transient(error):
                    raise explained(error, self.url, f"writing {name}") from None
                failure = error
                if was_repeated(error):
                    break
                time.sleep(_pause_s(attempt))
            else:
                version = Version(put["e_tag"], put["version"])
                self._check_tag(name, raw, version)
                return version
        if (stored := self._is_there(name, mark)) is not None:
            return stored
        self.uncertain = True
        raise explained(failure, self.url, f"writing {name}") from None

    def _is_there(self, name: str, mark: str) -> Version | None:
        """The object of this name, if the put with this mark stored it."""

        def ask() -> Version | None:
            answer = obstore.get(self._store, self._path(name), options={"head": True})
            if answer.attributes.get(_MARK) != mark:
                return None
            return self._stored(answer.meta).at

        return self._unless_missing(f"looking for {name}", ask)

    def _check_tag(self, name: str, raw: bytes, version: Version) -> None:
        if self.tags_are_md5 and not version.has_md5(md5_of(raw)):
            raise StoreFailed(
                f"{self.url}: the store's checksum of {name} is not that of what was sent",
                hint="something between here and the store changes data; run it again",
            )


def _abort(writer: WritableFile, error: BaseException) -> None:
    """Have the store forget the parts that it has."""
    end = cast("Callable[..., None]", writer.__exit__)  # pyright: ignore[reportUnknownMemberType]
    end(type(error), error, error.__traceback__)


def _repeated(ask: Callable[[], Result]) -> Result:
    for attempt in range(ATTEMPTS - 1):
        try:
            return ask()
        except BaseError as error:
            if not is_transient(error) or was_repeated(error):
                raise
            time.sleep(_pause_s(attempt))
    return ask()


def client_options(*, plain_http: bool) -> ClientConfig:
    """Time-outs; and whether the user has written http:// for the endpoint."""
    return {
        "timeout": timedelta(seconds=_timeout_s()),
        "connect_timeout": timedelta(seconds=min(10.0, _timeout_s())),
        "allow_http": plain_http,
    }


def retry_options() -> RetryConfig:
    """How obstore repeats requests, with pauses that grow."""
    return {
        "max_retries": MAX_RETRIES,
        "retry_timeout": timedelta(seconds=min(_timeout_s(), USUAL_TIMEOUT_S)),
        "backoff": {
            "init_backoff": timedelta(seconds=PAUSE_S),
            "max_backoff": timedelta(seconds=100 * PAUSE_S),
            "base": 2,
        },
    }


def _timeout_s() -> float:
    try:
        return max(0.2, float(os.environ.get(TIMEOUT_VARIABLE, "") or USUAL_TIMEOUT_S))
    except ValueError:
        return USUAL_TIMEOUT_S


def md5_of(raw: bytes) -> str:
    """By which S3 and what speaks it name an object's content."""
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def _pause_s(attempt: int) -> float:
    return PAUSE_S * 3**attempt * (0.5 + os.urandom(1)[0] / 256)
