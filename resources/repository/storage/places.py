"""Where backups are, as users write it: a path, or the URL of a directory or of a bucket.

    backups   /srv/backups   file:///srv/backups
    s3://bucket/prefix   gs://bucket/prefix   az://container/prefix

A URL of a bucket has no user, password or query: it is shown, logged and stored.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from urllib.parse import unquote

from resources.errors import UsageError, shown

BUCKETS = ("s3", "gs", "az")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PREFIX = re.compile(r"[A-Za-z0-9_=+,-][A-Za-z0-9._=+,-]*(?:/[A-Za-z0-9_=+,-][A-Za-z0-9._=+,-]*)*")


def is_bucket(place: str | PurePath) -> bool:
    """Whether this is the URL of a bucket."""
    scheme = _URL.match(str(place))
    return scheme is not None and scheme[1] in BUCKETS


def bucket_parts(url: str) -> tuple[str, str, str]:
    """The kind of store, the bucket and the prefix in a URL.

    Raises:
        UsageError: it is no such URL, or may have a secret in it, which is not repeated.
    """
    kind, _, rest = url.partition("://")
    if "@" in rest or "?" in rest or "#" in rest:
        raise UsageError(
            f"a URL of a bucket has no user, password or query: {kind}://bucket/prefix",
            hint="credentials belong into the environment: AWS_ACCESS_KEY_ID and so on",
        )
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket) or (prefix and not _PREFIX.fullmatch(prefix)):
        raise UsageError(
            f"{shown(url)} is not the URL of a bucket",
            hint=f"write it so: {kind}://bucket/prefix; of letters, digits and . _ = + , -",
        )
    return kind, bucket, prefix


def local_path(place: str | PurePath) -> Path:
    """The path of a directory or file, as it is or from a URL.

    Raises:
        UsageError: it is a URL of another kind.
    """
    scheme = _URL.match(str(place))
    if scheme is None:
        return Path(place)
    rest = str(place)[scheme.end() :]
    if scheme[1] == "file" and rest.startswith("/"):
        return Path(unquote(rest))
    named = scheme[0] + "…" if "@" in rest else str(place)
    raise UsageError(
        f"{shown(named)} is no directory: backups cannot be stored at {scheme[1]}://",
        hint="name a directory, or a bucket: s3://, gs:// or az://bucket/prefix; a directory whose "
        f"name looks so is ./{named}",
    )


def normal(place: str | PurePath) -> str:
    """One spelling, by which a place is opened and shown.

    Raises:
        UsageError: it is a URL of another kind, or may have a secret in it.
    """
    if not is_bucket(place):
        return str(local_path(place))
    kind, bucket, prefix = bucket_parts(str(place))
    return f"{kind}://{bucket}/{prefix}" if prefix else f"{kind}://{bucket}"


def beside(place: str, name: str) -> str:
    """An object of a place, as users write it."""
    return f"{normal(place)}/{name}" if is_bucket(place) else str(local_path(place) / name)


def split(place: str) -> tuple[str, str]:
    """The place that an object is in, and the object's name."""
    if not is_bucket(place):
        path = local_path(place)
        return str(path.parent), path.name
    directory, _, name = normal(place).rpartition("/")
    return directory, name


def is_container(place: str, *, ending: str = ".manifest") -> bool:
    """Whether objects are in it; of a URL of a bucket, its ending tells."""
    if is_bucket(place):
        return not place.endswith(ending)
    return local_path(place).is_dir()


def is_object(place: str, *, ending: str = ".manifest") -> bool:
    """Whether it is one object; of a URL of a bucket, its ending tells."""
    if is_bucket(place):
        return place.endswith(ending)
    return local_path(place).is_file()
